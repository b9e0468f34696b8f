//! What is written down about a cluster, so that others find it and leftovers can be removed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{address::Addresses, tunables::Tunables};

const FILE: &str = "cluster.json";

/// Written before anything is started, and never changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    /// Decides about names and addresses of the network; only clusters with nodes have one.
    pub(crate) index: Option<u8>,
    pub(crate) nodes: u8,
    /// Nodes that kwok plays.
    #[serde(default)]
    pub(crate) fake_nodes: u16,
    /// The process that runs the cluster and holds the lock on its folder.
    pub(crate) owner: u32,
    pub(crate) started: Timestamp,
    /// The machine's settings before the first of the clusters with nodes that are there now.
    #[serde(default)]
    pub(crate) tunables: Tunables,
}

impl Record {
    pub(crate) fn addresses(&self) -> Option<Addresses> {
        self.index.map(Addresses::of)
    }

    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        fs::write(folder.join(FILE), serde_json::to_vec_pretty(self)?)
    }

    /// `None` when there is none or it is not complete.
    pub(crate) fn read(folder: &Path) -> Option<Record> {
        serde_json::from_slice(&fs::read(folder.join(FILE)).ok()?).ok()
    }
}

/// The kubeconfig of a cluster's administrator.
pub(crate) fn kubeconfig(folder: &Path) -> PathBuf {
    folder.join("kubeconfig")
}

/// The folder of one node (1, 2, …).
pub(crate) fn node_folder(folder: &Path, node: u8) -> PathBuf {
    folder.join(format!("node{node}"))
}

/// The socket of a node's containerd.
pub(crate) fn containerd_socket(folder: &Path, node: u8) -> PathBuf {
    node_folder(folder, node).join("containerd.sock")
}
