//! Nodes that run nothing: kwok says of each pod that it runs. For thousands of pods on a small machine.
//!
//! Knows nothing of real nodes and their network.

use std::{fs, path::PathBuf, time::Duration};

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, api::PostParams};
use serde_json::json;

use crate::{
    component,
    control_plane::{self, Site, flag},
};

/// How the nodes and their pods come to be ready.
const STAGES: &str = include_str!("stages.yaml");
/// How long kwok may take to make the nodes ready.
const LIMIT: Duration = Duration::from_secs(60);
/// Pods of all nodes share it; nobody routes to them.
const POD_RANGE: &str = "10.244.0.0/16";

/// Fake nodes could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stages could not be written.
    #[error("writing {path:?} failed: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The API server did not take a node.
    #[error("registering the fake node {name} failed: {source}")]
    Register {
        /// The node.
        name: String,
        /// What the API server said.
        source: Box<kube::Error>,
    },
    /// No kubeconfig for kwok.
    #[error(transparent)]
    ControlPlane(#[from] control_plane::Error),
    /// kwok does not run.
    #[error(transparent)]
    Component(#[from] component::Error),
}

/// Registers the nodes and starts kwok, without waiting for it.
pub(crate) async fn start(site: &Site, client: &Client, nodes: u16) -> Result<(), Error> {
    try_join_all((1..=nodes).map(|number| register(client, name(number)))).await?;
    let stages = site.folder.join("stages.yaml");
    fs::write(&stages, STAGES).map_err(|source| Error::Write {
        path: stages.clone(),
        source,
    })?;
    let mut command = site.marked("kwok");
    command
        .arg(flag("kubeconfig", &site.kubeconfig("admin")?))
        .arg(flag("config", &stages))
        .args(["--manage-all-nodes=true", "--node-lease-duration-seconds=40"])
        .arg(format!("--cidr={POD_RANGE}"));
    Ok(site.components.spawn("kwok", command)?)
}

/// Waits until all nodes are Ready.
pub(crate) async fn ready(site: &Site, client: &Client) -> Result<(), Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let probe = || async {
        let found = nodes
            .list(&kube::api::ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        let waiting: Vec<_> = found.items.iter().filter(|node| !is_ready(node)).collect();
        if waiting.is_empty() {
            Ok(())
        } else {
            Err(format!("{} nodes are not", waiting.len()))
        }
    };
    Ok(site
        .components
        .until("the fake nodes to be Ready", LIMIT, probe)
        .await?)
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|it| it.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|it| it.type_ == "Ready" && it.status == "True")
}

fn name(number: u16) -> String {
    format!("fake{number}")
}

async fn register(client: &Client, name: String) -> Result<(), Error> {
    let failed = |source| Error::Register {
        name: name.clone(),
        source: Box::new(source),
    };
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
    });
    let node: Node = serde_json::from_value(node).map_err(|error| failed(kube::Error::SerdeError(error)))?;
    Api::all(client.clone())
        .create(&PostParams::default(), &node)
        .await
        .map(drop)
        .map_err(failed)
}
