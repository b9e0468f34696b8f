//! The volume: what is on it, our two files there, and the lock that keeps other containers off.
//!
//! Knows the layout, not what may be done: that is [`super::guard`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statvfs};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::engine::Engine;
use super::guard::{Found, IdentityFile};
use crate::api::protocol::{FORMAT, Identity};

const IDENTITY: &str = "identity.json";
const STATE: &str = "state.json";
const QUARANTINE: &str = "quarantine";
const LOCK: &str = ".lock";

/// A volume could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A listing, read or stat failed.
    #[error("cannot read {path:?} on the volume: {source}")]
    Read { path: PathBuf, source: io::Error },
    /// A file could not be written durably.
    #[error("cannot write {path:?} on the volume: {source}")]
    Write { path: PathBuf, source: io::Error },
    /// Another container holds the lock.
    #[error("another container still uses the volume {path:?}; waiting for its end")]
    InUse { path: PathBuf },
}

/// `state.json`: what the agent remembers of its own doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    /// Format version.
    pub(super) v: u32,
    /// Generation of the credentials in force; 0 before the first.
    #[serde(default)]
    pub(super) credentials: u64,
    /// The application's role and database were set up completely once.
    #[serde(default)]
    pub(super) settled: bool,
    /// The application's role was given the right to create databases.
    #[serde(default)]
    pub(super) may_create: bool,
    /// The engine's identifier of the application's database (PostgreSQL: its OID).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) database: Option<u32>,
}

/// The mounted volume.
#[derive(Clone, Debug)]
pub(super) struct Volume(PathBuf);

impl Volume {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Takes the volume for this container. The lock belongs to every process that has the descriptor, so
    /// that the engine, which gets it as its standard input, holds it until its last process is gone.
    ///
    /// # Errors
    /// `InUse` while another container has it: the Pod before this one that is still stopping, mostly.
    pub(super) fn lock(&self) -> Result<OwnedFd, Error> {
        let path = self.0.join(LOCK);
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .read(true)
            .mode(0o600)
            .open(&path);
        let file = file.map_err(|source| Error::Write {
            path: path.clone(),
            source,
        })?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse { path: self.0.clone() }),
            // A file system without locks (some NFS servers): one Pod per volume must be enough there.
            Ok(()) | Err(rustix::io::Errno::NOLCK | rustix::io::Errno::OPNOTSUPP) => Ok(file.into()),
            Err(errno) => Err(Error::Write {
                path,
                source: errno.into(),
            }),
        }
    }

    /// What is there, for the guard.
    pub(super) fn survey(&self, engine: &Engine) -> Result<Found, Error> {
        let mut found = Found {
            identity: self.identity_file(),
            data: engine
                .inspect()
                .map_err(|source| self.unreadable(engine.data(), source))?,
            others: Vec::new(),
            strangers: Vec::new(),
            interrupted: 0,
        };
        for name in names(&self.0).map_err(|source| self.unreadable(&self.0, source))? {
            match name.as_str() {
                IDENTITY | STATE => {}
                QUARANTINE => found.interrupted = names(&self.0.join(QUARANTINE)).map_or(0, |all| all.len()),
                name if Engine::NAMES.contains(&name) => found.others.extend(self.other_data(name, engine)?),
                _ => found.strangers.push(name),
            }
        }
        Ok(found)
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        match self.identity_file() {
            IdentityFile::Present(identity) => Some(identity),
            IdentityFile::Absent | IdentityFile::Unreadable(_) => None,
        }
    }

    pub(super) fn write_identity(&self, identity: &Identity) -> Result<(), Error> {
        self.write(IDENTITY, identity)
    }

    /// The agent's memory; empty where there is none.
    pub(super) fn state(&self) -> State {
        read_json(&self.0.join(STATE)).ok().flatten().unwrap_or_default()
    }

    pub(super) fn write_state(&self, state: &State) -> Result<(), Error> {
        self.write(
            STATE,
            &State {
                v: FORMAT,
                ..state.clone()
            },
        )
    }

    /// Moves a directory into `quarantine`. Nothing is deleted.
    pub(super) fn put_aside(&self, directory: &Path, name: &str) -> Result<PathBuf, Error> {
        let quarantine = self.0.join(QUARANTINE);
        let target = quarantine.join(name);
        fs::create_dir_all(&quarantine)
            .and_then(|()| fs::rename(directory, &target))
            .and_then(|()| File::open(&quarantine)?.sync_all())
            .map_err(|source| Error::Write {
                path: target.clone(),
                source,
            })?;
        Ok(target)
    }

    /// Size and used bytes of the file system.
    pub(super) fn usage(&self) -> Option<(u64, u64)> {
        let stat = statvfs(&self.0).ok()?;
        // Blocks reserved for root are not free for the engine, but they are not in use either; like `df`.
        let usable = stat.f_blocks.saturating_sub(stat.f_bfree) + stat.f_bavail;
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        Some((usable * stat.f_frsize, used * stat.f_frsize))
    }

    fn identity_file(&self) -> IdentityFile {
        match read_json::<Identity>(&self.0.join(IDENTITY)) {
            Ok(None) => IdentityFile::Absent,
            Ok(Some(identity)) if identity.v > FORMAT => {
                IdentityFile::Unreadable(format!("format {} is newer than this agent reads", identity.v))
            }
            Ok(Some(identity)) => IdentityFile::Present(identity),
            Err(error) => IdentityFile::Unreadable(error.to_string()),
        }
    }

    /// Directories with content below `<engine>`, except the one that `engine` uses.
    fn other_data(&self, name: &str, engine: &Engine) -> Result<Vec<String>, Error> {
        let directory = self.0.join(name);
        let mut found = Vec::new();
        for major in names(&directory).map_err(|source| self.unreadable(&directory, source))? {
            let version = directory.join(&major);
            let filled = names(&version.join("data")).is_ok_and(|inside| !inside.is_empty());
            if filled && !engine.data().starts_with(&version) {
                found.push(format!("{name}/{major}"));
            }
        }
        Ok(found)
    }

    fn unreadable(&self, path: &Path, source: io::Error) -> Error {
        Error::Read {
            path: path.strip_prefix(&self.0).unwrap_or(path).to_owned(),
            source,
        }
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Error> {
        let path = self.0.join(name);
        write_durably(&self.0, name, value).map_err(|source| Error::Write { path, source })
    }
}

/// Names in a directory that mean something: not `lost+found`, not snapshot and other hidden entries. A
/// directory that is not there is an empty one.
pub(super) fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "lost+found" && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
    }
}

/// Either the old or the new content is there after a crash, never half of it.
fn write_durably<T: Serialize>(directory: &Path, name: &str, value: &T) -> io::Result<()> {
    let partial = directory.join(format!(".{name}.partial"));
    let mut file = File::create(&partial)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    fs::rename(&partial, directory.join(name))?;
    File::open(directory)?.sync_all()
}
