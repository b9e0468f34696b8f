//! The clusters of this user, as seen from a process that does not own them.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    Profile,
    claim::{self, Owned},
    node,
    programs::{self, Programs},
    progress::Progress,
    record::{self, Record},
};

/// How long an owner may take to remove its cluster.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// A cluster that is there could not be used or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The list of clusters cannot be read, or leftovers cannot be removed.
    #[error(transparent)]
    Claim(#[from] claim::Error),
    /// No cluster has this name.
    #[error("no cluster is named {0:?}; `devcluster status` lists them")]
    Unknown(String),
    /// There is none, so none can be meant.
    #[error("no cluster is running; `devcluster up` starts one")]
    None,
    /// There are several, so it is not clear which is meant.
    #[error("several clusters are running, choose one with --name: {0}")]
    Several(String),
    /// The owner could not be asked to end.
    #[error("asking process {owner} to stop the cluster failed: {source}")]
    Ask {
        /// The owner.
        owner: u32,
        /// What the system said.
        source: rustix::io::Errno,
    },
    /// The owner does not end.
    #[error("process {owner} was asked to stop the cluster and has not done so within 60 s")]
    Late {
        /// The owner.
        owner: u32,
    },
    /// The programs could not be found.
    #[error(transparent)]
    Programs(#[from] programs::Error),
    /// The cluster runs no containers.
    #[error("the cluster {0:?} has no nodes that an image could be loaded on")]
    NoNodes(String),
    /// A node refused an image.
    #[error("importing {archive:?} on node{node} failed: {said}")]
    Import {
        /// The node.
        node: u8,
        /// The OCI archive.
        archive: PathBuf,
        /// What `ctr` said.
        said: String,
    },
}

/// A cluster that some process runs, or that was left behind.
#[derive(Debug)]
pub struct Running {
    folder: PathBuf,
    record: Record,
    owned: bool,
}

/// All clusters of this user.
pub fn list() -> Result<Vec<Running>, Error> {
    let mut clusters = Vec::new();
    for (folder, owned) in claim::all()? {
        let record = Record::read(&folder);
        clusters.extend(record.map(|record| Running {
            folder,
            record,
            owned: matches!(owned, Owned::Yes),
        }));
    }
    clusters.sort_by_key(|cluster| cluster.record.started);
    Ok(clusters)
}

/// The cluster of this name, or the only one that there is.
pub fn find(name: Option<&str>) -> Result<Running, Error> {
    let mut clusters = list()?;
    if let Some(name) = name {
        let found = clusters.into_iter().find(|cluster| cluster.record.name == name);
        return found.ok_or_else(|| Error::Unknown(name.to_owned()));
    }
    let names = clusters.iter().map(Running::name).collect::<Vec<_>>().join(", ");
    match (clusters.pop(), clusters.is_empty()) {
        (None, _) => Err(Error::None),
        (Some(only), true) => Ok(only),
        (Some(_), false) => Err(Error::Several(names)),
    }
}

impl Running {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// How it was started.
    pub fn profile(&self) -> Profile {
        match (self.record.nodes, self.record.fake_nodes) {
            (0, 0) => Profile::Api,
            (0, nodes) => Profile::Fake { nodes },
            (nodes, _) => Profile::Node { nodes },
        }
    }

    /// The process that owns it, unless that was killed.
    pub fn owner(&self) -> Option<u32> {
        self.owned.then_some(self.record.owner)
    }

    /// When it was started.
    pub fn started(&self) -> Timestamp {
        self.record.started
    }

    /// Its administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        record::kubeconfig(&self.folder)
    }

    /// Has its owner stop it, or removes what a killed owner left, and waits until all of it is gone. An owner of
    /// several clusters stops them all.
    pub async fn stop(self) -> Result<(), Error> {
        let owner = self.record.owner;
        let pid = i32::try_from(owner).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| self.owned) {
            // The lock says that the owner lives, so the id is still its own.
            kill_process(pid, Signal::TERM).map_err(|source| Error::Ask { owner, source })?;
        }
        let deadline = Instant::now() + PATIENCE;
        while !remove_if_left(&self.folder).await? {
            if Instant::now() > deadline {
                return Err(Error::Late { owner });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// The path of a program that the cluster uses, such as `kubectl`.
    ///
    /// # Errors
    /// When the programs are gone and cannot be built again.
    pub async fn program(&self, name: &str) -> Result<PathBuf, Error> {
        Ok(Programs::resolve(self.profile(), Progress::Silent)
            .await?
            .path(name))
    }

    /// Makes an image from an OCI archive known to every node.
    pub async fn load_image(&self, archive: &Path, progress: Progress) -> Result<(), Error> {
        if self.record.nodes == 0 {
            return Err(Error::NoNodes(self.record.name.clone()));
        }
        let ctr = Programs::resolve(self.profile(), progress).await?.path("ctr");
        for node in 1..=self.record.nodes {
            let socket = record::containerd_socket(&self.folder, node);
            let imported = node::import(&ctr, &socket, archive, &self.folder).await;
            imported.map_err(|said| Error::Import {
                node,
                archive: archive.to_owned(),
                said,
            })?;
        }
        Ok(())
    }
}

async fn remove_if_left(folder: &Path) -> Result<bool, Error> {
    let folder = folder.to_owned();
    let removed = tokio::task::spawn_blocking(move || claim::remove_if_left(&folder)).await;
    // A panic in there has been reported already.
    Ok(removed.unwrap_or(Ok(false))?)
}
