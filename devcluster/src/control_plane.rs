//! etcd, API server, controller manager and scheduler, all on the host.
//!
//! Knows nothing of nodes: where the API server listens and which ranges there are comes from outside.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{
    address::Addresses,
    component::{self, Components},
    kubeconfig,
    pki::{self, Authority, Names, Subject},
    process::marked,
    programs::Programs,
    record,
};

/// How long the API server may take on a slow machine.
const API_LIMIT: Duration = Duration::from_secs(60);
/// The controller manager makes the account that every pod needs.
const ACCOUNT_LIMIT: Duration = Duration::from_secs(30);
const USUAL_PORT: u16 = 6443;

/// Counts requests and nothing more: one line per request, without bodies. What the API server does by itself
/// and the nodes' heartbeats would only be noise.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- {level: None, users: ['system:apiserver']}
- {level: None, nonResourceURLs: ['/readyz*', '/livez*', '/healthz*', '/version']}
- {level: None, namespaces: [kube-node-lease]}
- {level: Metadata}
";

/// The control plane could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No port is free.
    #[error("finding a free port on {address} failed: {source}")]
    Port {
        /// Where it was looked for.
        address: Ipv4Addr,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Certificates(#[from] pki::Error),
    /// A file could not be written.
    #[error("writing {path:?} failed: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program did not come up.
    #[error(transparent)]
    Component(#[from] component::Error),
    /// No client can be made from the kubeconfig.
    #[error("making a client for the new cluster failed: {0}")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where the API server is and which ranges it deals out.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    address: Ipv4Addr,
    port: u16,
    services: String,
    api_service: Ipv4Addr,
    /// Only clusters with nodes have pods.
    pods: Option<String>,
}

impl Plan {
    /// Loopback only.
    pub(crate) fn local() -> Result<Plan, Error> {
        Ok(Plan {
            address: Ipv4Addr::LOCALHOST,
            port: free_port(Ipv4Addr::LOCALHOST, 0)?,
            services: "10.96.0.0/16".to_owned(),
            api_service: Ipv4Addr::new(10, 96, 0, 1),
            pods: None,
        })
    }

    /// On the bridge only, where nodes and pods reach it and nobody outside of this machine does.
    pub(crate) fn bridged(addresses: Addresses) -> Result<Plan, Error> {
        Ok(Plan {
            address: addresses.host(),
            port: free_port(addresses.host(), USUAL_PORT)?,
            services: addresses.service_range(),
            api_service: addresses.api_service(),
            pods: Some(addresses.pod_range()),
        })
    }

    pub(crate) fn server(&self) -> String {
        format!("https://{}:{}", self.address, self.port)
    }
}

/// What all parts of a cluster are made from.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) folder: PathBuf,
    pub(crate) programs: Programs,
    pub(crate) authority: Authority,
    pub(crate) components: Components,
    pub(crate) plan: Plan,
}

impl Site {
    /// Writes a kubeconfig for the certificate `user` beside the other files of the cluster.
    pub(crate) fn kubeconfig(&self, user: &str) -> Result<PathBuf, Error> {
        let path = self.folder.join(format!("{user}.kubeconfig"));
        kubeconfig::write(&path, &self.plan.server(), user, &self.authority)
            .map_err(|source| Error::Write { path, source })
    }

    pub(crate) fn marked(&self, program: &str) -> std::process::Command {
        marked(self.programs.path(program), &self.folder)
    }
}

/// A port on this address that nobody listens on: the preferred one if possible.
pub(crate) fn free_port(address: Ipv4Addr, preferred: u16) -> Result<u16, Error> {
    let bound = TcpListener::bind((address, preferred)).or_else(|_| TcpListener::bind((address, 0)));
    let port = bound
        .and_then(|listener| listener.local_addr())
        .map(|bound| bound.port());
    port.map_err(|source| Error::Port { address, source })
}

/// Starts etcd and the API server, without waiting for them.
pub(crate) fn start_api(site: &Site) -> Result<(), Error> {
    issue_certificates(&site.authority, &site.plan)?;
    let admin = record::kubeconfig(&site.folder);
    kubeconfig::write(&admin, &site.plan.server(), "admin", &site.authority)
        .map_err(|source| Error::Write { path: admin, source })?;
    let etcd = format!("unix://{}", site.folder.join("etcd.sock").display());
    let peer = format!("unix://{}", site.folder.join("etcd-peer.sock").display());
    let mut command = site.marked("etcd");
    command
        .arg("--data-dir")
        .arg(site.folder.join("etcd"))
        .args(["--unsafe-no-fsync", "--log-level=warn"]);
    // Sockets keep others out and need no free port. It insists on advertising ports, which nobody ever uses.
    command.args([
        "--listen-client-urls",
        &etcd,
        "--advertise-client-urls",
        "http://localhost:2379",
    ]);
    command.args(["--listen-peer-urls", &peer]);
    site.components.spawn("etcd", command)?;
    let mut command = site.marked("kube-apiserver");
    command
        .arg(format!("--etcd-servers={etcd}"))
        .args(api_server_arguments(site)?);
    Ok(site.components.spawn("kube-apiserver", command)?)
}

/// Waits until the API server is ready, and returns a client for its administrator.
pub(crate) async fn ready(site: &Site, config: Config) -> Result<Client, Error> {
    let client = client(config)?;
    let probe = || async {
        let request = http::Request::get("/readyz")
            .body(Vec::new())
            .map_err(|error| error.to_string())?;
        client
            .request_text(request)
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    };
    site.components
        .until("the API server to be ready", API_LIMIT, probe)
        .await?;
    Ok(client)
}

/// Starts the controller manager, once the API server is ready.
pub(crate) fn start_controllers(site: &Site) -> Result<(), Error> {
    let kubeconfig = site.kubeconfig("kube-controller-manager")?;
    let Site { authority, plan, .. } = site;
    let mut command = site.marked("kube-controller-manager");
    command
        .arg(flag("kubeconfig", &kubeconfig))
        .args(["--leader-elect=false", "--secure-port=0"]);
    command.args([
        "--use-service-account-credentials=true",
        "--kube-api-qps=300",
        "--kube-api-burst=500",
    ]);
    command.arg(flag("service-account-private-key-file", &authority.key("sa")));
    command.arg(flag("root-ca-file", &authority.certificate("ca")));
    command.arg(flag("cluster-signing-cert-file", &authority.certificate("ca")));
    command.arg(flag("cluster-signing-key-file", &authority.key("ca")));
    command.arg(format!("--service-cluster-ip-range={}", plan.services));
    // devcluster makes the nodes and gives each its range itself, so that the range is known beforehand.
    command.arg("--allocate-node-cidrs=false");
    command.args(plan.pods.as_ref().map(|pods| format!("--cluster-cidr={pods}")));
    Ok(site.components.spawn("kube-controller-manager", command)?)
}

/// Starts the scheduler, once the API server is ready.
pub(crate) fn start_scheduler(site: &Site) -> Result<(), Error> {
    let mut command = site.marked("kube-scheduler");
    command.arg(flag("kubeconfig", &site.kubeconfig("kube-scheduler")?));
    command.args([
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=300",
        "--kube-api-burst=500",
    ]);
    Ok(site.components.spawn("kube-scheduler", command)?)
}

/// Waits until pods can be made in the namespace `default`.
pub(crate) async fn accounts_ready(site: &Site, client: &Client) -> Result<(), Error> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    let probe = || async {
        let account = accounts
            .get_opt("default")
            .await
            .map_err(|error| error.to_string())?;
        account.map(drop).ok_or_else(|| "there is none".to_owned())
    };
    Ok(site
        .components
        .until("the ServiceAccount default/default", ACCOUNT_LIMIT, probe)
        .await?)
}

/// How the cluster's administrator connects.
pub(crate) async fn config(site: &Site) -> Result<Config, Error> {
    let read = Kubeconfig::read_from(record::kubeconfig(&site.folder))
        .map_err(|error| Error::Client(error.into()))?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
    config.map_err(|error| Error::Client(error.into()))
}

/// A client that belongs to the tokio runtime it is made in.
pub(crate) fn client(config: Config) -> Result<Client, Error> {
    Client::try_from(config).map_err(|error| Error::Client(error.into()))
}

fn issue_certificates(authority: &Authority, plan: &Plan) -> Result<(), Error> {
    let services = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
    ];
    let dns = [&services[..], &["kubernetes.default.svc.cluster.local"]].concat();
    let ips = [Ipv4Addr::LOCALHOST, plan.address, plan.api_service].map(IpAddr::from);
    let server = Subject {
        common_name: "kube-apiserver",
        organization: None,
    };
    authority.issue("kube-apiserver", server, Names { dns: &dns, ips: &ips })?;
    for (name, common_name, organization) in [
        ("admin", "admin", Some("system:masters")),
        (
            "kubelet-client",
            "kube-apiserver-kubelet-client",
            Some("system:masters"),
        ),
        ("kube-controller-manager", "system:kube-controller-manager", None),
        ("kube-scheduler", "system:kube-scheduler", None),
        ("front-proxy", "front-proxy-client", None),
    ] {
        authority.issue(
            name,
            Subject {
                common_name,
                organization,
            },
            Names::default(),
        )?;
    }
    Ok(())
}

fn api_server_arguments(site: &Site) -> Result<Vec<String>, Error> {
    let policy = site.folder.join("audit-policy.yaml");
    fs::write(&policy, AUDIT_POLICY).map_err(|source| Error::Write {
        path: policy.clone(),
        source,
    })?;
    let Site { authority, plan, .. } = site;
    let mut arguments = vec![
        format!("--bind-address={}", plan.address),
        format!("--advertise-address={}", plan.address),
        format!("--secure-port={}", plan.port),
        format!("--service-cluster-ip-range={}", plan.services),
        flag("tls-cert-file", &authority.certificate("kube-apiserver")),
        flag("tls-private-key-file", &authority.key("kube-apiserver")),
        flag("client-ca-file", &authority.certificate("ca")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        flag("service-account-key-file", &authority.account_public_key()),
        flag("service-account-signing-key-file", &authority.key("sa")),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        flag(
            "kubelet-client-certificate",
            &authority.certificate("kubelet-client"),
        ),
        flag("kubelet-client-key", &authority.key("kubelet-client")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        flag("requestheader-client-ca-file", &authority.certificate("ca")),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        flag("proxy-client-cert-file", &authority.certificate("front-proxy")),
        flag("proxy-client-key-file", &authority.key("front-proxy")),
        "--enable-aggregator-routing=true".to_owned(),
        flag("audit-policy-file", &policy),
        flag("audit-log-path", &audit_log(&site.folder)),
        // Whoever counts requests reads one file: it is never rotated.
        "--audit-log-maxsize=100000".to_owned(),
        flag("cert-dir", &site.folder),
    ];
    if plan.pods.is_none() {
        // Nobody reaches the Service `kubernetes` without nodes, and loopback is refused as an endpoint.
        arguments.push("--endpoint-reconciler-type=none".to_owned());
    }
    Ok(arguments)
}

/// One JSON event per line for every request that the API server has answered.
pub(crate) fn audit_log(folder: &Path) -> PathBuf {
    folder.join("audit.log")
}

/// `--name=path`.
pub(crate) fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}
