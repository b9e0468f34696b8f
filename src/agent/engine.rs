//! What the supervisor needs of an engine; one driver module behind each variant.
//!
//! The supervisor calls only this; a driver knows nothing of Pods, reports or probes.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::files::Certificate;
use super::guard::DataState;
use super::mysql::{self, Mysql};
use super::postgres::{self, Postgres};
use super::process::Process;
use super::root::Root;
use crate::api::protocol::{Credentials, MemberConfig, Trouble};

/// The engine of this member.
#[derive(Clone, Debug)]
pub(super) enum Engine {
    /// PostgreSQL.
    Postgres(Arc<Postgres>),
    /// MySQL.
    Mysql(Arc<Mysql>),
}

/// The same call on whichever driver it is.
macro_rules! each {
    ($engine:expr, $driver:ident => $call:expr) => {
        match $engine {
            Engine::Postgres($driver) => $call,
            Engine::Mysql($driver) => $call,
        }
    };
}

/// What an engine process is started with.
#[derive(Debug)]
pub(super) struct Start {
    /// The volume's lock, to be held as long as any process of the engine lives: its standard input.
    pub(super) lock: OwnedFd,
    /// Where it logs.
    pub(super) log: File,
}

/// The application's role and database as they should be.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) database: &'a str,
    pub(super) username: &'a str,
    /// Absent: whatever is in force stays.
    pub(super) credentials: Option<&'a Credentials>,
    /// Generation in force as far as is known.
    pub(super) in_force: u64,
    /// All of it was done once.
    pub(super) settled: bool,
    /// The role was given the right to create databases once.
    pub(super) may_create: bool,
    /// Identifier of the application's database as it was last, where the engine has one.
    pub(super) known_database: Option<u32>,
    /// Now.
    pub(super) now: Timestamp,
}

impl Wanted<'_> {
    /// What is wanted of the previous credentials.
    pub(super) fn previous(&self) -> Previous<'_> {
        match self.credentials {
            Some(it) if it.previous_is_valid(self.now) => {
                it.previous_password().map_or(Previous::Kept, Previous::Valid)
            }
            _ => Previous::Ended,
        }
    }
}

/// What is wanted of the previous credentials.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Previous<'a> {
    /// They are refused.
    Ended,
    /// What the database has stays; their password is not known.
    Kept,
    /// This password is let in.
    Valid(&'a str),
}

/// What is so after settling.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Generation of the credentials in force; 0: no role yet, since there are no credentials.
    pub(super) credentials: u64,
    /// Identifier of the application's database, where the engine has one.
    pub(super) database: Option<u32>,
    /// Whether somebody had changed the password inside the database, and it was set back.
    pub(super) password_set_back: bool,
    /// What keeps an application out that uses the Secret.
    pub(super) access: Option<Trouble>,
    /// What could not be done and does not keep an application out.
    pub(super) warning: Option<EngineError>,
}

/// The running configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Configured {
    /// Settings that wait for a restart, sorted.
    pub(super) pending_restart: Vec<String>,
    /// What the engine cannot accept in its files.
    pub(super) errors: Vec<String>,
}

/// The engine did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    /// It runs, and does not accept connections yet.
    #[error("{0}")]
    StartingUp(String),
    /// No connection could be made.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// It refused or failed.
    #[error("cannot {attempt}: {message}")]
    Statement { attempt: &'static str, message: String },
    /// It did not answer.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

impl Engine {
    /// Directories on the volume that belong to engines.
    pub(super) const NAMES: [&'static str; 2] = [postgres::NAME, mysql::NAME];

    /// Marks of log lines with what applications sent; these stay in the container's log.
    pub(super) const SENT: [&'static [&'static str]; 2] = [postgres::SENT, mysql::SENT];

    /// The engine that the configuration asks for, as this image has it.
    ///
    /// # Errors
    /// What to change when this image or this agent cannot run it.
    pub(super) fn select(config: &MemberConfig, root: &Root, search_path: &str) -> Result<Self, Trouble> {
        match config.engine.as_str() {
            postgres::NAME => {
                Postgres::select(config, root, search_path).map(|it| Self::Postgres(Arc::new(it)))
            }
            mysql::NAME => Mysql::select(config, root, search_path).map(|it| Self::Mysql(Arc::new(it))),
            other => Err(Trouble {
                reason: "EngineUnsupported".into(),
                message: format!("this agent cannot run {other:?}; it knows {:?}", Self::NAMES),
            }),
        }
    }

    /// The data directory.
    pub(super) fn data(&self) -> &Path {
        each!(self, driver => driver.data())
    }

    /// What is in the data directory.
    pub(super) fn inspect(&self) -> io::Result<DataState> {
        each!(self, driver => driver.inspect())
    }

    /// Creates the data directory; returns the engine's identifier of the data.
    pub(super) async fn initialize(&self, start: Start) -> Result<String, Trouble> {
        each!(self, driver => driver.initialize(start).await)
    }

    /// The engine that runs already on our data directory, left by an earlier supervisor.
    pub(super) fn running(&self) -> Option<Process> {
        each!(self, driver => driver.running())
    }

    /// Starts it. Whoever calls holds the volume's lock and has seen that nothing runs.
    pub(super) fn start(&self, start: Start) -> Result<Process, Trouble> {
        each!(self, driver => driver.start(start))
    }

    /// Asks for a fast and clean stop: connections are closed, everything is written.
    pub(super) fn stop(&self, process: &Process) -> io::Result<()> {
        match self {
            Self::Postgres(_) => postgres::fast_stop(process),
            Self::Mysql(_) => mysql::fast_stop(process),
        }
    }

    /// Full version, once it accepts connections.
    pub(super) async fn version(&self) -> Result<String, EngineError> {
        each!(self, driver => driver.version().await)
    }

    /// Brings the application's role and database into being, and back to what they should be; says what keeps an
    /// application out. Idempotent after a crash at any point. Where all is as it should be, it only reads.
    pub(super) async fn settle(&self, wanted: &Wanted<'_>) -> Result<Settled, EngineError> {
        each!(self, driver => driver.settle(wanted).await)
    }

    /// Makes the engine read its configuration again and says what came of it.
    pub(super) async fn reload(&self, process: &Process) -> Result<Configured, EngineError> {
        each!(self, driver => driver.reload(process).await)
    }

    /// Puts a certificate where the engine reads it at its next start, or when it takes it over.
    pub(super) fn store(&self, certificate: &Certificate) -> io::Result<()> {
        each!(self, driver => driver.store(certificate))
    }

    /// Makes the engine show the certificate that was stored last. Sessions stay.
    pub(super) async fn take_over(&self, process: &Process) -> Result<(), EngineError> {
        match self {
            Self::Postgres(postgres) => postgres.reload(process).await.map(drop),
            Self::Mysql(mysql) => mysql.take_over().await,
        }
    }

    /// The certificate that a client over the network gets to see, in DER; `None` while the engine offers no TLS.
    pub(super) async fn shown(&self) -> Result<Option<Vec<u8>>, EngineError> {
        each!(self, driver => driver.shown().await)
    }

    /// What the engine makes of its configuration as it is now.
    pub(super) async fn configured(&self) -> Result<Configured, EngineError> {
        each!(self, driver => driver.configured().await)
    }

    /// Creates extensions in the application's database that are not there yet.
    pub(super) async fn extend(&self, database: &str, extensions: &[String]) -> Result<(), EngineError> {
        match self {
            Self::Postgres(postgres) => postgres.extend(database, extensions).await,
            // It has none that a claim may list.
            Self::Mysql(_) => Ok(()),
        }
    }

    /// Commits a write and reads it back.
    pub(super) async fn write_test(&self) -> Result<(), EngineError> {
        each!(self, driver => driver.write_test().await)
    }

    /// The engine's metrics, as Prometheus text.
    pub(super) async fn metrics(&self, database: &str) -> Result<String, EngineError> {
        each!(self, driver => driver.metrics(database).await)
    }

    /// Metric that says whether the engine of this name could be asked.
    pub(super) fn up(name: &str) -> Option<&'static str> {
        match name {
            postgres::NAME => Some(postgres::UP),
            mysql::NAME => Some(mysql::UP),
            _ => None,
        }
    }

    /// A connection for repeated pings.
    pub(super) async fn pinger(&self) -> Result<Pinger, EngineError> {
        Ok(match self {
            Self::Postgres(postgres) => Pinger::Postgres(postgres.session().await?),
            Self::Mysql(mysql) => Pinger::Mysql(mysql.session().await?),
        })
    }
}

/// A connection that is kept, so that a ping costs the engine next to nothing.
#[derive(Debug)]
pub(super) enum Pinger {
    /// PostgreSQL.
    Postgres(postgres::Session),
    /// MySQL.
    Mysql(mysql::Session),
}

impl Pinger {
    pub(super) async fn ping(&self) -> Result<(), EngineError> {
        match self {
            Self::Postgres(session) => session.ping().await,
            Self::Mysql(session) => session.ping().await,
        }
    }
}
