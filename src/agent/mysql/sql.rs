//! Sessions with the local server as its administrator, over its socket; and what is asked of it.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

use super::wire::{Connection, Error, Row};
use super::{Mysql, text};
use crate::agent::engine::{Configured, EngineError};
use crate::agent::process::Process;

/// The administrator, whom the server knows by the uid of our process.
pub(super) const ADMINISTRATOR: &str = "root";
/// How long a connection may take to come.
const CONNECT: Duration = Duration::from_secs(3);
/// How long one statement may take.
const STATEMENT: Duration = Duration::from_secs(15);
/// Begins every session: literals are read as we write them, waits are bounded, and nothing of it reaches the
/// server's logs, whatever is set there.
const BEGIN: [&str; 3] = [
    "SET NAMES utf8mb4",
    "SET SESSION sql_mode = '', autocommit = 1, sql_log_off = 1, time_zone = '+00:00', lock_wait_timeout = 10, \
     innodb_lock_wait_timeout = 10, max_execution_time = 14000, long_query_time = 31536000",
    "SET SESSION TRANSACTION READ WRITE",
];

/// One session; closed when dropped.
#[derive(Debug)]
pub(in crate::agent) struct Session {
    connection: Mutex<Connection>,
}

impl Mysql {
    pub(in crate::agent) async fn session(&self) -> Result<Session, EngineError> {
        let opened = timeout(CONNECT, Connection::open(&self.socket(), ADMINISTRATOR, None)).await;
        let connection = opened
            .map_err(|_| EngineError::Timeout(CONNECT))?
            .map_err(|error| match error {
                // The socket comes only when the server is ready for connections.
                Error::Io(error) => {
                    EngineError::StartingUp(format!("the server does not listen yet: {error}"))
                }
                other => EngineError::Connect(other.to_string()),
            })?;
        let session = Session {
            connection: Mutex::new(connection),
        };
        for statement in BEGIN {
            session.rows("begin a session", statement).await?;
        }
        Ok(session)
    }

    pub(in crate::agent) async fn version(&self) -> Result<String, EngineError> {
        let [version] = self
            .session()
            .await?
            .one("ask for the version", "SELECT VERSION()")
            .await?;
        let version = version.split(['-', ' ']).next().unwrap_or_default();
        Ok(version.to_owned())
    }

    pub(in crate::agent) async fn reload(&self, _process: &Process) -> Result<Configured, EngineError> {
        let file = std::fs::read_to_string(&self.config).map_err(|error| EngineError::Statement {
            attempt: "read the configuration file",
            message: error.to_string(),
        })?;
        let configured = super::settings::apply(&self.session().await?, &file).await?;
        self.remember(configured.clone());
        Ok(configured)
    }

    /// What came of the last change. Without one, the server has read its file at its start, and would not run if it
    /// did not like it.
    pub(in crate::agent) async fn configured(&self) -> Result<Configured, EngineError> {
        self.session().await?.ping().await?;
        Ok(self
            .configured
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone())
    }

    pub(in crate::agent) async fn write_test(&self) -> Result<(), EngineError> {
        let session = self.session().await?;
        let attempt = "write and read back";
        let update = "UPDATE dbclaim.heartbeat SET beat = LAST_INSERT_ID(beat + 1), at = NOW(6) WHERE id = 1";
        session.rows(attempt, update).await?;
        let [written, read] = session
            .one(
                attempt,
                "SELECT LAST_INSERT_ID(), beat FROM dbclaim.heartbeat WHERE id = 1",
            )
            .await?;
        let (before, after) = (written.parse::<u64>(), read.parse::<u64>());
        match (before, after) {
            (Ok(written), Ok(read)) if written > 0 && read >= written => Ok(()),
            _ => Err(EngineError::Statement {
                attempt,
                message: format!("wrote {written}, read {read}"),
            }),
        }
    }

    /// Whether this is a password of `user`.
    pub(super) async fn accepts(&self, user: &str, password: &str) -> Result<bool, EngineError> {
        match timeout(CONNECT, Connection::open(&self.socket(), user, Some(password))).await {
            Err(_) => Err(EngineError::Timeout(CONNECT)),
            Ok(Ok(_)) => Ok(true),
            Ok(Err(error)) if error.is_denied() => Ok(false),
            Ok(Err(error)) if error.is_refused_later() => Ok(true),
            Ok(Err(error)) => Err(EngineError::Connect(error.to_string())),
        }
    }
}

impl Session {
    pub(in crate::agent) async fn ping(&self) -> Result<(), EngineError> {
        match timeout(CONNECT, self.query("SELECT 1")).await {
            Err(_) => Err(EngineError::Timeout(CONNECT)),
            Ok(answer) => answer.map(drop).map_err(|error| failed("answer a query", &error)),
        }
    }

    pub(super) async fn rows(&self, attempt: &'static str, statement: &str) -> Result<Vec<Row>, EngineError> {
        let answer = self.attempted(statement).await?;
        answer.map_err(|error| failed(attempt, &error))
    }

    /// The first row, which must have so many columns and no NULL among them.
    pub(super) async fn one<const N: usize>(
        &self,
        attempt: &'static str,
        statement: &str,
    ) -> Result<[String; N], EngineError> {
        let row = self.rows(attempt, statement).await?.into_iter().next();
        let cells: Option<Vec<String>> = row.and_then(|row| row.into_iter().collect());
        cells
            .and_then(|cells| cells.try_into().ok())
            .ok_or_else(|| EngineError::Statement {
                attempt,
                message: "the row is not there".into(),
            })
    }

    /// The server's own verdict is kept apart from an answer that does not come.
    pub(super) async fn attempted(&self, statement: &str) -> Result<Result<Vec<Row>, Error>, EngineError> {
        let answer = timeout(STATEMENT, self.query(statement)).await;
        answer.map_err(|_| EngineError::Timeout(STATEMENT))
    }

    async fn query(&self, statement: &str) -> Result<Vec<Row>, Error> {
        self.connection.lock().await.query(statement).await
    }
}

pub(super) fn failed(attempt: &'static str, error: &Error) -> EngineError {
    EngineError::Statement {
        attempt,
        message: error.to_string(),
    }
}

/// Account names as statements want them: from every host, for applications.
pub(super) fn account(user: &str) -> String {
    format!("{}@'%'", text::literal(user))
}
