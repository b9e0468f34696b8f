//! The configuration files of a node's programs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::Node;

/// Where the plugins that connect pods may be installed; the first folder that exists is used.
pub(crate) const CNI_PLUGINS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];

pub(super) fn containerd_file(folder: &Path) -> PathBuf {
    folder.join("containerd.toml")
}

pub(super) fn kubelet_file(folder: &Path) -> PathBuf {
    folder.join("kubelet.json")
}

pub(super) fn proxy_file(folder: &Path) -> PathBuf {
    folder.join("kube-proxy.json")
}

/// Writes all of them.
pub(super) fn write(node: &Node) -> io::Result<()> {
    let folder = node.folder();
    fs::create_dir_all(folder.join("cni"))?;
    fs::write(folder.join("cni/10-pods.conflist"), pod_network(node).to_string())?;
    fs::write(
        folder.join("resolv.conf"),
        format!("nameserver {}\n", node.addresses.host()),
    )?;
    fs::write(containerd_file(folder), containerd(node)?)?;
    fs::write(kubelet_file(folder), format!("{:#}", kubelet(node)))?;
    fs::write(proxy_file(folder), format!("{:#}", proxy(node)))
}

/// The name is unique on this machine, because the CNI library keeps results of all networks in one folder.
fn pod_network(node: &Node) -> serde_json::Value {
    let pods = node.addresses.node_pod_range(node.number);
    json!({
        "cniVersion": "1.0.0",
        "name": node.addresses.namespace(node.number),
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "dataDir": node.folder().join("ipam"),
                    "ranges": [[{"subnet": pods}]], "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// `restrict_oom_score_adj` lets it run without `CAP_SYS_RESOURCE`; the state of runc and the pods' namespaces
/// are kept below the folder, so that nothing of them survives it.
fn containerd(node: &Node) -> io::Result<String> {
    let folder = node.folder().display();
    let plugins = CNI_PLUGINS
        .iter()
        .find(|folder| Path::new(folder).is_dir())
        .unwrap_or(&CNI_PLUGINS[0]);
    let snapshotter = if is_overlay(node.folder())? {
        "native"
    } else {
        "overlayfs"
    };
    Ok(format!(
        r#"version = 3
root = "{folder}/containerd"
state = "{folder}/state"
[grpc]
  address = "{folder}/containerd.sock"
[ttrpc]
  address = "{folder}/containerd.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.nri.v1.nri"]
  disable = true
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "{snapshotter}"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "devcluster.local/pause:1"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
[plugins."io.containerd.cri.v1.runtime".cni]
  use_internal_loopback = true
  bin_dirs = ["{plugins}"]
  conf_dir = "{folder}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
    SystemdCgroup = false
    Root = "{folder}/runc"
"#
    ))
}

fn kubelet(node: &Node) -> serde_json::Value {
    let (folder, authority) = (node.folder(), &node.site.authority);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": authority.certificate("ca")},
        },
        "authorization": {"mode": "Webhook"},
        "address": node.address(),
        "readOnlyPort": 0,
        "tlsCertFile": authority.certificate(&node.name),
        "tlsPrivateKeyFile": authority.key(&node.name),
        "clusterDNS": [node.addresses.dns_service()],
        "clusterDomain": "cluster.local",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", node.addresses.namespace(node.number)),
        "cgroupsPerQOS": true,
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        "containerRuntimeEndpoint": format!("unix://{}", node.containerd_socket().display()),
        "podLogsDir": folder.join("pod-logs"),
        "volumePluginDir": folder.join("volume-plugins"),
        "resolvConf": folder.join("resolv.conf"),
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "serializeImagePulls": false,
        // Somebody waits for a container that is restarted; the usual ten seconds to five minutes spare a busy node.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
        // All nodes share the machine's disk and memory, which the machine's owner looks after.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi"},
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "eventRecordQPS": 100,
        "eventBurst": 200,
    })
}

/// The range of pods makes it translate what comes from elsewhere, such as the host, so that answers come back
/// the same way.
fn proxy(node: &Node) -> serde_json::Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "nftables": {"minSyncPeriod": "100ms"},
        "bindAddress": node.address(),
        "healthzBindAddress": format!("{}:10256", node.address()),
        "metricsBindAddress": format!("{}:10249", node.address()),
        "clusterCIDR": node.addresses.pod_range(),
        "hostnameOverride": node.name,
        "clientConnection": {
            "kubeconfig": node.site.folder.join("kube-proxy.kubeconfig"), "qps": 100, "burst": 200,
        },
        "conntrack": {"maxPerCore": 0, "min": 0},
    })
}

/// Overlays cannot be stacked on an overlay, which is what the disk of a container usually is.
#[cfg(target_os = "linux")]
fn is_overlay(folder: &Path) -> io::Result<bool> {
    const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;
    let kind = rustix::fs::statfs(folder)?.f_type;
    Ok(u64::try_from(kind).is_ok_and(|kind| kind == OVERLAYFS_SUPER_MAGIC))
}

/// There are no nodes elsewhere.
#[cfg(not(target_os = "linux"))]
fn is_overlay(_folder: &Path) -> io::Result<bool> {
    Ok(false)
}
