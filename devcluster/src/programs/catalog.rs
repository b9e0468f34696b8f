//! Which programs there are, from which Go module each is built, and how a ready-made one is recognised.
//!
//! Versions are pinned by the `go.mod` files beside this crate; what is said here must agree with them.

/// Programs that are built from one Go module.
#[derive(Debug)]
pub(super) struct Set {
    /// Name of the folder below `modules/`, also used in messages.
    pub(super) name: &'static str,
    pub(super) go_mod: &'static str,
    pub(super) go_sum: &'static str,
    /// Version stamps, without which most of these programs claim to be a development version.
    pub(super) stamps: &'static str,
    pub(super) programs: &'static [Source],
}

/// One program.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: &'static str,
    pub(super) package: &'static str,
    /// Arguments that make it print its version.
    pub(super) version_args: &'static [&'static str],
    /// What that output contains when the version fits the rest of the cluster.
    pub(super) fits: &'static str,
}

const fn source(
    name: &'static str,
    package: &'static str,
    version_args: &'static [&'static str],
    fits: &'static str,
) -> Source {
    Source {
        name,
        package,
        version_args,
        fits,
    }
}

pub(super) const KUBERNETES: Set = Set {
    name: "kubernetes",
    go_mod: include_str!("../../modules/kubernetes/go.mod"),
    go_sum: include_str!("../../modules/kubernetes/go.sum"),
    stamps: "-X k8s.io/component-base/version.gitVersion=v1.36.3 \
             -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36 \
             -X k8s.io/client-go/pkg/version.gitVersion=v1.36.3",
    programs: &[
        source(
            "kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-apiserver",
            &["--version"],
            "Kubernetes v1.36.",
        ),
        source(
            "kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            &["--version"],
            "Kubernetes v1.36.",
        ),
        source(
            "kube-scheduler",
            "k8s.io/kubernetes/cmd/kube-scheduler",
            &["--version"],
            "Kubernetes v1.36.",
        ),
        source(
            "kubelet",
            "k8s.io/kubernetes/cmd/kubelet",
            &["--version"],
            "Kubernetes v1.36.",
        ),
        source(
            "kube-proxy",
            "k8s.io/kubernetes/cmd/kube-proxy",
            &["--version"],
            "Kubernetes v1.36.",
        ),
        source(
            "kubectl",
            "k8s.io/kubernetes/cmd/kubectl",
            &["version", "--client"],
            "Client Version: v1.36.",
        ),
    ],
};

pub(super) const RUNTIME: Set = Set {
    name: "runtime",
    go_mod: include_str!("../../modules/runtime/go.mod"),
    go_sum: include_str!("../../modules/runtime/go.sum"),
    stamps: "-X github.com/containerd/containerd/v2/version.Version=2.3.7",
    programs: &[
        source(
            "etcd",
            "go.etcd.io/etcd/server/v3",
            &["--version"],
            "etcd Version: 3.6.",
        ),
        source(
            "containerd",
            "github.com/containerd/containerd/v2/cmd/containerd",
            &["--version"],
            " 2.3.",
        ),
        source(
            "containerd-shim-runc-v2",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            &["-v"],
            " 2.3.",
        ),
        source(
            "ctr",
            "github.com/containerd/containerd/v2/cmd/ctr",
            &["--version"],
            " 2.3.",
        ),
    ],
};

pub(super) const DNS: Set = Set {
    name: "dns",
    go_mod: include_str!("../../modules/dns/go.mod"),
    go_sum: include_str!("../../modules/dns/go.sum"),
    stamps: "",
    programs: &[source(
        "coredns",
        "github.com/coredns/coredns",
        &["-version"],
        "CoreDNS-1.14.",
    )],
};

pub(super) const TOOLS: Set = Set {
    name: "tools",
    go_mod: include_str!("../../modules/tools/go.mod"),
    go_sum: include_str!("../../modules/tools/go.sum"),
    stamps: "",
    programs: &[
        source("helm", "helm.sh/helm/v3/cmd/helm", &["version", "--short"], "v3."),
        source(
            "kwok",
            "sigs.k8s.io/kwok/cmd/kwok",
            &["--version"],
            "kwok version v0.8.",
        ),
        source(
            "kubeconform",
            "github.com/yannh/kubeconform/cmd/kubeconform",
            &["-v"],
            "v0.",
        ),
        source(
            "crane",
            "github.com/google/go-containerregistry/cmd/crane",
            &["version"],
            "0.2",
        ),
    ],
};

/// What waits for objects, or judges their health, by rules of its own. A module of its own, because the two
/// versions of helm want different libraries.
pub(super) const GITOPS: Set = Set {
    name: "gitops",
    go_mod: include_str!("../../modules/gitops/go.mod"),
    go_sum: include_str!("../../modules/gitops/go.sum"),
    stamps: "",
    programs: &[
        source(
            "helm4",
            "helm.sh/helm/v4/cmd/helm",
            &["version", "--short"],
            "v4.",
        ),
        // The Lua of Argo CD.
        source(
            "glua",
            "github.com/yuin/gopher-lua/cmd/glua",
            &["-v"],
            "GopherLua 0.",
        ),
    ],
};

/// What the `api` profile runs, and `kubectl` for whoever uses the cluster.
pub(super) const FOR_API: &[(&Set, &[&str])] = &[
    (
        &KUBERNETES,
        &["kube-apiserver", "kube-controller-manager", "kubectl"],
    ),
    (&RUNTIME, &["etcd"]),
];

/// What the `fake` profile runs.
pub(super) const FOR_FAKE: &[(&Set, &[&str])] = &[
    (
        &KUBERNETES,
        &[
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubectl",
        ],
    ),
    (&RUNTIME, &["etcd"]),
    (&TOOLS, &["kwok"]),
];

/// What the `node` profile runs.
pub(super) const FOR_NODE: &[(&Set, &[&str])] = &[
    (
        &KUBERNETES,
        &[
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
            "kubectl",
        ],
    ),
    (
        &RUNTIME,
        &["etcd", "containerd", "containerd-shim-runc-v2", "ctr"],
    ),
    (&DNS, &["coredns"]),
];
