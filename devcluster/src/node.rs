//! One node: a network namespace with containerd, kubelet and kube-proxy in it.

mod config;

pub(crate) use config::CNI_PLUGINS;

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1 as core;
use kube::{Api, Client, api::PostParams};
use serde_json::json;

use crate::{
    address::Addresses,
    cgroup,
    component::{self, Components},
    control_plane::{self, Site, flag},
    mounts,
    network::{self, Cable},
    pki::{self, Names, Subject},
    process::marked,
    record,
};

const CONTAINERD_LIMIT: Duration = Duration::from_secs(20);
const READY_LIMIT: Duration = Duration::from_secs(90);
/// Moves itself into a cgroup, then becomes what it is told: nothing runs outside of the group even briefly.
const ENTER_CGROUP: &str = r#"echo $$ > "$1/cgroup.procs" && shift && exec "$@""#;
/// The same for what an init system would start again. A kubelet needs that: it makes its socket for devices in a
/// folder that cannot be chosen, and ends when the kubelet of another node does so at the same moment.
const ENTER_CGROUP_AND_STAY: &str =
    r#"echo $$ > "$1/cgroup.procs" && shift && for attempt in 1 2 3; do "$@"; done; exit 1"#;

/// A node could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its cgroup could not be made.
    #[error("making the cgroup {name:?} failed: {source}")]
    Cgroup {
        /// Name of the cgroup.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// Killing what runs on it failed.
    #[error("killing the processes in the cgroup {name:?} failed: {source}")]
    Kill {
        /// Name of the cgroup.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A configuration file could not be written.
    #[error("writing the configuration of {name} below {folder:?} failed: {source}")]
    Write {
        /// The node.
        name: String,
        /// Its folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] pki::Error),
    /// A kubeconfig could not be written.
    #[error(transparent)]
    Kubeconfig(#[from] control_plane::Error),
    /// A program did not come up.
    #[error(transparent)]
    Component(#[from] component::Error),
    /// The Node object could not be made.
    #[error("creating the Node {name:?} failed: {source}")]
    Register {
        /// The node.
        name: String,
        /// What the API server said.
        source: Box<kube::Error>,
    },
    /// An archive could not be imported.
    #[error("importing {archive:?} on {name} failed: {said}")]
    Import {
        /// The node.
        name: String,
        /// The OCI archive.
        archive: PathBuf,
        /// What `ctr` said.
        said: String,
    },
    /// The cable could not be pulled or plugged in.
    #[error(transparent)]
    Network(#[from] network::Error),
}

/// A node of a running cluster.
#[derive(Debug, Clone)]
pub struct Node {
    number: u8,
    name: String,
    addresses: Addresses,
    folder: PathBuf,
    site: Arc<Site>,
}

impl Node {
    pub(crate) fn new(number: u8, addresses: Addresses, site: Arc<Site>) -> Node {
        let folder = record::node_folder(&site.folder, number);
        Node {
            number,
            name: format!("node{number}"),
            addresses,
            folder,
            site,
        }
    }

    /// Name of the Node object.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address, reachable from the host.
    pub fn address(&self) -> Ipv4Addr {
        self.addresses.node(self.number)
    }

    /// The socket of its container runtime, for `ctr -a`.
    pub fn containerd_socket(&self) -> PathBuf {
        record::containerd_socket(&self.site.folder, self.number)
    }

    /// The folder of all its files; below it is what a disk would be.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Cuts the node off from the API server, the other nodes and the host. Its pods go on running.
    pub fn disconnect(&self) -> Result<(), Error> {
        Ok(network::set_cable(self.addresses, self.number, Cable::Pulled)?)
    }

    /// Ends what [`Node::disconnect`] began.
    pub fn reconnect(&self) -> Result<(), Error> {
        Ok(network::set_cable(self.addresses, self.number, Cable::Plugged)?)
    }

    /// What a power failure is: everything that runs on the node is gone at once, and nothing was told.
    pub async fn crash(&self) -> Result<(), Error> {
        let dying = self.site.components.give_up(&self.name);
        let name = self.addresses.namespace(self.number);
        while cgroup::kill(&name).map_err(|source| Error::Kill {
            name: name.clone(),
            source,
        })? > 0
        {
            tokio::task::yield_now().await;
        }
        dying.reap().await;
        Ok(())
    }

    /// Boots the node again after [`Node::crash`]: what a real one keeps in memory is lost, its disk is not.
    pub async fn restart(&self) -> Result<(), Error> {
        for lost in ["state", "runc", "kubelet"] {
            mounts::unmount_below(&self.folder.join(lost)).map_err(|source| self.write_failed(source))?;
        }
        for lost in ["state", "runc"] {
            match fs::remove_dir_all(self.folder.join(lost)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.write_failed(error)),
                _ => {}
            }
        }
        self.start_containerd()?;
        self.containerd_ready().await?;
        self.start_kubelet()
    }

    /// SIGKILLs the kubelet and starts another one, as an update of it does. What runs on the node runs on.
    pub async fn restart_kubelet(&self) -> Result<(), Error> {
        self.components().kill(&self.component("kubelet")).await;
        self.spawn_kubelet(&self.site.kubeconfig(&self.name)?)
    }

    /// Imports an OCI archive into its container runtime.
    pub async fn load_image(&self, archive: &Path) -> Result<(), Error> {
        let (ctr, socket) = (self.site.programs.path("ctr"), self.containerd_socket());
        let imported = import(&ctr, &socket, archive, &self.site.folder).await;
        imported.map_err(|said| Error::Import {
            name: self.name.clone(),
            archive: archive.to_owned(),
            said,
        })
    }

    /// Starts containerd, without waiting for it.
    pub(crate) fn start_containerd(&self) -> Result<(), Error> {
        config::write(self).map_err(|source| self.write_failed(source))?;
        let mut command = self.command("containerd", ENTER_CGROUP)?;
        command.arg("--config").arg(config::containerd_file(&self.folder));
        Ok(self.spawn("containerd", command)?)
    }

    /// Waits until containerd answers.
    pub(crate) async fn containerd_ready(&self) -> Result<(), Error> {
        let probe = || async {
            let mut command =
                tokio::process::Command::from(marked(self.site.programs.path("ctr"), &self.site.folder));
            command
                .arg("-a")
                .arg(self.containerd_socket())
                .arg("version")
                .kill_on_drop(true);
            let output = command.output().await.map_err(|error| error.to_string())?;
            if output.status.success() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&output.stderr).into_owned())
            }
        };
        Ok(self
            .site
            .components
            .until(&format!("containerd of {}", self.name), CONTAINERD_LIMIT, probe)
            .await?)
    }

    /// Makes the Node object. The kubelet would too, but then the range of its pods would be dealt out later and
    /// the CNI configuration could not say it.
    pub(crate) async fn register(&self, client: &Client) -> Result<(), Error> {
        let pods = self.addresses.node_pod_range(self.number);
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": self.name, "labels": {"kubernetes.io/hostname": self.name}},
            "spec": {"podCIDR": pods, "podCIDRs": [pods]},
        });
        let failed = |source: kube::Error| Error::Register {
            name: self.name.clone(),
            source: source.into(),
        };
        let node: core::Node =
            serde_json::from_value(node).map_err(|error| failed(kube::Error::SerdeError(error)))?;
        Api::all(client.clone())
            .create(&PostParams::default(), &node)
            .await
            .map(drop)
            .map_err(failed)
    }

    /// Starts kubelet and kube-proxy, once the API server is ready.
    pub(crate) fn start_kubelet(&self) -> Result<(), Error> {
        let user = format!("system:node:{}", self.name);
        let subject = Subject {
            common_name: &user,
            organization: Some("system:nodes"),
        };
        let names = Names {
            dns: &[&self.name],
            ips: &[IpAddr::V4(self.address())],
        };
        self.site.authority.issue(&self.name, subject, names)?;
        self.spawn_kubelet(&self.site.kubeconfig(&self.name)?)?;
        let mut command = self.command("kube-proxy", ENTER_CGROUP)?;
        command.arg(flag("config", &config::proxy_file(&self.folder)));
        Ok(self.spawn("kube-proxy", command)?)
    }

    fn spawn_kubelet(&self, kubeconfig: &Path) -> Result<(), Error> {
        let mut command = self.command("kubelet", ENTER_CGROUP_AND_STAY)?;
        command
            .arg(flag("config", &config::kubelet_file(&self.folder)))
            .arg(flag("kubeconfig", kubeconfig));
        command
            .arg(format!("--hostname-override={}", self.name))
            .arg(format!("--node-ip={}", self.address()));
        command.arg(flag("root-dir", &self.folder.join("kubelet")));
        command.arg(flag("cert-dir", &self.folder.join("kubelet-pki")));
        Ok(self.spawn("kubelet", command)?)
    }

    /// Waits until the node says that it can run pods.
    pub(crate) async fn ready(&self, client: &Client) -> Result<(), Error> {
        let nodes: Api<core::Node> = Api::all(client.clone());
        let probe = || async {
            let node = nodes.get(&self.name).await.map_err(|error| error.to_string())?;
            let conditions = node
                .status
                .and_then(|status| status.conditions)
                .unwrap_or_default();
            match conditions
                .into_iter()
                .find(|condition| condition.type_ == "Ready")
            {
                Some(ready) if ready.status == "True" => Ok(()),
                Some(ready) => Err(ready.message.unwrap_or_default()),
                None => Err("its kubelet has not reported".to_owned()),
            }
        };
        Ok(self
            .site
            .components
            .until(&format!("{} to be Ready", self.name), READY_LIMIT, probe)
            .await?)
    }

    /// A command for a program inside of the node's cgroup and network namespace. Not `ip netns exec`, which
    /// mounts `/sys` anew and so hides the cgroups.
    fn command(&self, program: &str, enter: &str) -> Result<Command, Error> {
        let name = self.addresses.namespace(self.number);
        let group = cgroup::create(&name).map_err(|source| Error::Cgroup { name, source })?;
        let mut command = marked("/bin/sh", &self.site.folder);
        command.args(["-c", enter, "sh"]).arg(group).arg("nsenter");
        command
            .arg(flag("net", &network::namespace_file(self.addresses, self.number)))
            .arg("--");
        command
            .arg(self.site.programs.path(program))
            .env("PATH", self.site.programs.search_path());
        Ok(command)
    }

    fn spawn(&self, program: &str, command: Command) -> Result<(), component::Error> {
        self.components().spawn(&self.component(program), command)
    }

    fn component(&self, program: &str) -> String {
        format!("{}-{program}", self.name)
    }

    fn components(&self) -> &Components {
        &self.site.components
    }

    fn write_failed(&self, source: io::Error) -> Error {
        Error::Write {
            name: self.name.clone(),
            folder: self.folder.clone(),
            source,
        }
    }
}

/// Makes the certificate and kubeconfig that the proxies of all nodes share.
pub(crate) fn prepare_proxy(site: &Site) -> Result<(), Error> {
    let subject = Subject {
        common_name: "system:kube-proxy",
        organization: None,
    };
    site.authority.issue("kube-proxy", subject, Names::default())?;
    site.kubeconfig("kube-proxy")?;
    Ok(())
}

/// Imports an OCI archive through a containerd socket; the error is what `ctr` printed.
pub(crate) async fn import(ctr: &Path, socket: &Path, archive: &Path, folder: &Path) -> Result<(), String> {
    let mut command = tokio::process::Command::from(marked(ctr, folder));
    command
        .arg("-a")
        .arg(socket)
        .args(["-n", "k8s.io", "images", "import", "--local"])
        .arg(archive);
    let output = command
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
