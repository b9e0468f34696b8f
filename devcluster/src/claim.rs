//! The right to run one cluster: its folder, the lock on it and the index that decides about its network.
//!
//! The lock is held by the owner's open file, so it goes with the owner however that ends. A folder whose lock
//! is free is a leftover.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use jiff::Timestamp;

use crate::{
    Profile,
    address::{Addresses, CLUSTERS},
    leftovers, network,
    record::Record,
    tunables::{self, Tunables},
};

/// The longest name, so that the paths of sockets stay below the 108 bytes that the kernel allows.
const LONGEST_NAME: usize = 32;

/// The place for a cluster could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name cannot be part of a path.
    #[error("the cluster name {0:?} is not 1 to 32 characters of a-z, 0-9 and -")]
    BadName(String),
    /// A cluster of this name is running.
    #[error(
        "a cluster named {name:?} is running already (process {owner}): stop it with `devcluster down --name {name}` \
         or choose another name"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Its owner's process id.
        owner: u32,
    },
    /// All indexes are in use.
    #[error(
        "no address range is free for another cluster: all of 10.89.0.0-10.89.31.0/24 and 10.160.0.0-10.191.0.0/16 \
         are routed somewhere already"
    )]
    NoRangeFree,
    /// The folder belongs to somebody else.
    #[error("{0:?} is not a folder of this user alone: remove it, it keeps the state of clusters")]
    NotOurs(PathBuf),
    /// A file or folder cannot be used.
    #[error("preparing {path:?} failed: {source}")]
    Prepare {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The routes of this machine cannot be read.
    #[error("looking for a free address range failed: {0}")]
    Routes(#[source] network::Error),
    /// Something of a cluster could not be removed.
    #[error("removing a cluster failed, the next start tries again: {0}")]
    Leftover(#[source] leftovers::Error),
}

/// A cluster's place. Dropping it removes the cluster.
#[derive(Debug)]
pub(crate) struct Claim {
    folder: PathBuf,
    record: Record,
    released: bool,
    /// Held for its lock.
    _lock: File,
}

impl Claim {
    /// Removes leftovers, then takes the place `name` (or one that nobody uses).
    pub(crate) fn take(name: Option<&str>, profile: Profile) -> Result<Claim, Error> {
        let (nodes, fake_nodes) = match profile {
            Profile::Api => (0, 0),
            Profile::Fake { nodes } => (0, nodes),
            Profile::Node { nodes } => (nodes, 0),
        };
        let base = base()?;
        let _everybody_waits = lock_base(&base)?;
        remove_leftovers(&base)?;
        let name = name.map_or_else(unique_name, str::to_owned);
        let folder = folder_of(&base, &name)?;
        let others = records(&base, &folder)?;
        let index = if nodes > 0 {
            Some(free_index(&others)?)
        } else {
            None
        };
        let prepare = |source| Error::Prepare {
            path: folder.clone(),
            source,
        };
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let owner = Record::read(&folder).map_or(0, |record| record.owner);
                return Err(Error::NameTaken { name, owner });
            }
            Err(error) => return Err(prepare(error)),
        }
        let lock = File::open(&folder).map_err(prepare)?;
        lock.lock().map_err(prepare)?;
        let record = Record {
            name,
            index,
            nodes,
            fake_nodes,
            owner: process::id(),
            started: Timestamp::now(),
            tunables: before_nodes(others),
        };
        let claim = Claim {
            folder: folder.clone(),
            record,
            released: false,
            _lock: lock,
        };
        claim.record.write(&folder).map_err(prepare)?;
        Ok(claim)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Removes the cluster and gives its place back.
    pub(crate) fn release(mut self) -> Result<(), Error> {
        self.released = true;
        self.remove()
    }

    fn remove(&self) -> Result<(), Error> {
        leftovers::clear(&self.folder, Some(&self.record)).map_err(Error::Leftover)?;
        let base = base()?;
        let _everybody_waits = lock_base(&base)?;
        remove_folder(&base, &self.folder, Some(&self.record))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        if let Err(error) = self.remove() {
            tracing::warn!(%error, "the cluster is not removed completely; the next start tries again");
        }
    }
}

/// The folders of all clusters of this user, with whether each has an owner.
pub(crate) fn all() -> Result<Vec<(PathBuf, Owned)>, Error> {
    folders(&base()?)
}

/// Whether a cluster has an owner.
#[derive(Debug)]
pub(crate) enum Owned {
    /// Somebody runs it.
    Yes,
    /// Its owner was killed. Holds the lock for as long as this lives.
    No(File),
}

/// Removes the cluster in `folder` if its owner is gone, and returns whether it is gone now.
pub(crate) fn remove_if_left(folder: &Path) -> Result<bool, Error> {
    let base = base()?;
    let _everybody_waits = lock_base(&base)?;
    match owned(folder)? {
        None => Ok(true),
        Some(Owned::Yes) => Ok(false),
        Some(Owned::No(_lock)) => {
            remove_left(&base, folder)?;
            Ok(true)
        }
    }
}

/// Where this user's clusters live: a fixed place, so that all of them are found, and a short one, because the
/// paths of sockets may not be long.
fn base() -> Result<PathBuf, Error> {
    let user = rustix::process::getuid().as_raw();
    let path = PathBuf::from(format!("/var/tmp/dbclaim-devcluster-{user}"));
    let prepare = |source| Error::Prepare {
        path: path.clone(),
        source,
    };
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(prepare(error)),
        _ => {}
    }
    // Everybody can write to /var/tmp, so the folder may be somebody's trap.
    let found = fs::symlink_metadata(&path).map_err(prepare)?;
    if found.is_dir() && found.uid() == user && found.mode().trailing_zeros() >= 6 {
        return Ok(path);
    }
    Err(Error::NotOurs(path))
}

fn lock_base(base: &Path) -> Result<File, Error> {
    let prepare = |source| Error::Prepare {
        path: base.to_owned(),
        source,
    };
    let lock = File::open(base).map_err(prepare)?;
    lock.lock().map_err(prepare)?;
    Ok(lock)
}

fn folders(base: &Path) -> Result<Vec<(PathBuf, Owned)>, Error> {
    let prepare = |source| Error::Prepare {
        path: base.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(base).map_err(prepare)? {
        let folder = entry.map_err(prepare)?.path();
        found.extend(owned(&folder)?.map(|owned| (folder, owned)));
    }
    Ok(found)
}

/// `None` when the folder is not there any more.
fn owned(folder: &Path) -> Result<Option<Owned>, Error> {
    let prepare = |source| Error::Prepare {
        path: folder.to_owned(),
        source,
    };
    let lock = match File::open(folder) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(prepare(error)),
    };
    match lock.try_lock() {
        // The owner may have removed the folder in between; then this is a lock on nothing.
        Ok(()) if !folder.exists() => Ok(None),
        Ok(()) => Ok(Some(Owned::No(lock))),
        Err(TryLockError::WouldBlock) => Ok(Some(Owned::Yes)),
        Err(TryLockError::Error(error)) => Err(prepare(error)),
    }
}

fn remove_leftovers(base: &Path) -> Result<(), Error> {
    for (folder, owned) in folders(base)? {
        if matches!(owned, Owned::No(_)) {
            remove_left(base, &folder)?;
        }
    }
    Ok(())
}

/// The machine's settings as they were before any cluster with nodes.
fn before_nodes(others: Vec<Record>) -> Tunables {
    let with_nodes = others.into_iter().find(|record| record.index.is_some());
    with_nodes.map_or_else(tunables::read, |record| record.tunables)
}

/// Removes a cluster without an owner.
fn remove_left(base: &Path, folder: &Path) -> Result<(), Error> {
    let record = Record::read(folder);
    leftovers::clear(folder, record.as_ref()).map_err(Error::Leftover)?;
    remove_folder(base, folder, record.as_ref())
}

/// The last step, with the lock on all clusters: which one is the last must not change meanwhile.
fn remove_folder(base: &Path, folder: &Path, record: Option<&Record>) -> Result<(), Error> {
    let with_nodes = |record: &&Record| record.index.is_some();
    let others = records(base, folder)?;
    let last = record
        .filter(with_nodes)
        .filter(|_| others.iter().find(with_nodes).is_none());
    leftovers::remove_folder(folder, last).map_err(Error::Leftover)
}

/// What is known of all clusters but the one in `except`.
fn records(base: &Path, except: &Path) -> Result<Vec<Record>, Error> {
    let others = folders(base)?.into_iter().filter(|(folder, _)| folder != except);
    Ok(others.filter_map(|(folder, _)| Record::read(&folder)).collect())
}

/// The first index that no cluster of ours and no route of anybody else uses.
fn free_index(others: &[Record]) -> Result<u8, Error> {
    let used: Vec<_> = others.iter().filter_map(|record| record.index).collect();
    for index in (0..CLUSTERS).filter(|index| !used.contains(index)) {
        if network::is_free(Addresses::of(index)).map_err(Error::Routes)? {
            return Ok(index);
        }
    }
    Err(Error::NoRangeFree)
}

fn folder_of(base: &Path, name: &str) -> Result<PathBuf, Error> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(fits) {
        return Err(Error::BadName(name.to_owned()));
    }
    Ok(base.join(name))
}

fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("run-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", "..", "a/b", "Upper", "blank space", &"x".repeat(33)] {
            assert!(
                matches!(folder_of(Path::new("/base"), name), Err(Error::BadName(_))),
                "{name:?}"
            );
        }
        assert_eq!(
            folder_of(Path::new("/base"), "demo-1").unwrap(),
            Path::new("/base/demo-1")
        );
    }
}
