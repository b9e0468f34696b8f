//! The MySQL driver: its program, data directory and process. Statements are in [`sql`] and [`settle`].
//!
//! Writes nothing into the data directory but what the server does; configuration stays in the mounted file.

mod access;
mod metrics;
mod server;
mod settings;
mod settle;
mod sql;
mod text;
mod tls;
mod wire;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::process::Signal;

use super::engine::Configured;
use super::guard::DataState;
use super::process::Process;
use super::root::Root;
use super::volume;
use crate::api::protocol::{MemberConfig, Trouble};

pub(super) use sql::Session;

/// The engine's name, in the claim's spelling; also its directory on the volume.
pub(super) const NAME: &str = "mysql";
/// Metric that says whether the server could be asked.
pub(super) const UP: &str = "mysql_up";
/// Marks of log lines with what applications sent: the server prints the statement that it crashed in.
pub(super) const SENT: &[&str] = &["Query ("];

/// One installation with one data directory.
#[derive(Debug)]
pub(super) struct Mysql {
    /// Release series, such as `9.7`.
    series: String,
    /// The server's program.
    program: PathBuf,
    data: PathBuf,
    run: PathBuf,
    /// The mounted `my.cnf`.
    config: PathBuf,
    /// What came of the last change of the configuration while this server runs.
    configured: Mutex<Configured>,
    /// Passwords that were found to be in force.
    proven: Mutex<Option<settle::Proof>>,
}

impl Mysql {
    pub(super) fn select(config: &MemberConfig, root: &Root, search_path: &str) -> Result<Self, Trouble> {
        let invalid = |message: String| Trouble {
            reason: "ConfigInvalid".into(),
            message,
        };
        let numbers = config.major.split('.').filter(|part| part.parse::<u32>().is_ok());
        if numbers.count() != 2 {
            return Err(invalid(format!(
                "{:?} is no release series of MySQL, such as 9.7",
                config.major
            )));
        }
        if ["", "root"].contains(&config.username.as_str()) || config.username.starts_with("mysql.") {
            return Err(invalid(format!(
                "user name {:?} belongs to the engine; choose another",
                config.username
            )));
        }
        Ok(Self {
            series: config.major.clone(),
            program: server::program(&config.major, search_path)?,
            data: root.volume().join(NAME).join(&config.major).join("data"),
            run: root.run(),
            config: root.config().join("my.cnf"),
            configured: Mutex::default(),
            proven: Mutex::default(),
        })
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// The identifier is the server's UUID. The server would make a new one where `auto.cnf` is missing, so the
    /// guard must not let it: without it the data directory has no identifier.
    pub(super) fn inspect(&self) -> io::Result<DataState> {
        if volume::names(&self.data)?.is_empty() {
            return Ok(DataState::Empty);
        }
        for file in ["ibdata1", "mysql.ibd"] {
            if !self.data.join(file).try_exists()? {
                return Ok(DataState::Partial);
            }
        }
        Ok(DataState::Complete {
            major: self.written_by().unwrap_or_else(|| self.series.clone()),
            system_identifier: self.server_uuid(),
        })
    }

    /// Remembers what came of a change, as long as this server runs.
    fn remember(&self, configured: Configured) {
        *self.configured.lock().unwrap_or_else(PoisonError::into_inner) = configured;
    }

    fn is_proven(&self, proof: &settle::Proof) -> bool {
        self.proven
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            == Some(proof)
    }

    fn prove(&self, proof: Option<settle::Proof>) {
        *self.proven.lock().unwrap_or_else(PoisonError::into_inner) = proof;
    }

    fn server_uuid(&self) -> Option<String> {
        text::server_uuid(&fs::read_to_string(self.data.join("auto.cnf")).ok()?)
    }

    /// The series of the newest server that has written to the data directory.
    fn written_by(&self) -> Option<String> {
        text::newest_series(&fs::read_to_string(self.data.join("mysql_upgrade_history")).ok()?)
    }
}

/// Closes all connections, and writes what the next start would else have to recover.
pub(super) fn fast_stop(process: &Process) -> io::Result<()> {
    process.signal(Signal::TERM)
}
