//! The PostgreSQL driver: its binaries, data directory and process. SQL is in [`sql`] and [`settle`].
//!
//! Writes nothing into the data directory but what initdb does; configuration stays in the mounted files.

mod access;
mod control;
mod equal;
mod extend;
mod logins;
mod metrics;
pub(super) mod scram;
mod server;
mod settle;
mod sql;
mod tls;

use std::io;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::guard::DataState;
use super::process::Process;
use super::root::Root;
use super::volume;
use crate::api::protocol::{MemberConfig, Trouble};

pub(super) use sql::Session;

/// The engine's name, in the claim's spelling; also its directory on the volume.
pub(super) const NAME: &str = "postgres";
/// Metric that says whether the server could be asked.
pub(super) const UP: &str = "pg_up";
/// Marks of log lines with what applications sent.
pub(super) const SENT: &[&str] = &["STATEMENT:", "DETAIL:", "CONTEXT:", "QUERY:"];

/// One installation with one data directory.
#[derive(Debug)]
pub(super) struct Postgres {
    major: u32,
    /// Directory of the binaries.
    bin: PathBuf,
    data: PathBuf,
    run: PathBuf,
    config: PathBuf,
}

impl Postgres {
    pub(super) fn select(config: &MemberConfig, root: &Root, search_path: &str) -> Result<Self, Trouble> {
        let invalid = |message: String| Trouble {
            reason: "ConfigInvalid".into(),
            message,
        };
        let major: u32 = config
            .major
            .parse()
            .map_err(|_| invalid(format!("major version {:?} is not a number", config.major)))?;
        if config.username == NAME || config.username.starts_with("pg_") || config.username.is_empty() {
            return Err(invalid(format!(
                "user name {:?} belongs to the engine; choose another",
                config.username
            )));
        }
        let bin = server::binaries(major, search_path)?;
        let data = root.volume().join(NAME).join(&config.major).join("data");
        Ok(Self {
            major,
            bin,
            data,
            run: root.run(),
            config: root.config(),
        })
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn inspect(&self) -> io::Result<DataState> {
        if volume::names(&self.data)?.is_empty() {
            return Ok(DataState::Empty);
        }
        let control = self.data.join("global/pg_control");
        match std::fs::read_to_string(self.data.join("PG_VERSION")) {
            // initdb writes PG_VERSION first and pg_control only when it bootstraps.
            Ok(_) if !control.try_exists()? => Ok(DataState::Partial),
            Ok(version) => Ok(DataState::Complete {
                major: version.trim().to_owned(),
                system_identifier: control::system_identifier(&control),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(DataState::Partial),
            Err(error) => Err(error),
        }
    }
}

/// Closes all connections and writes a shutdown checkpoint.
pub(super) fn fast_stop(process: &Process) -> io::Result<()> {
    process.signal(Signal::INT)
}
