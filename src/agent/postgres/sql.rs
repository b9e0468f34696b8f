//! Connections to the local server as its superuser, over its socket; and what is asked of it.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row};

use super::Postgres;
use crate::agent::engine::{Configured, EngineError};
use crate::agent::process::Process;

/// How long a connection may take to come.
const CONNECT: Duration = Duration::from_secs(3);
/// How long one statement may take; the server is told a little less.
const STATEMENT: Duration = Duration::from_secs(15);
/// Session settings: bounded, and never in the server's log, whatever the operator sets there. A disk that
/// hangs is answered by our own timeout, for the server cannot interrupt that.
const OPTIONS: &str = "-c statement_timeout=14s -c lock_timeout=10s -c idle_session_timeout=0 \
    -c log_statement=none -c log_min_duration_statement=-1 -c log_min_error_statement=panic \
    -c pg_stat_statements.track=none -c default_transaction_read_only=off -c synchronous_commit=on -c search_path=pg_catalog";

/// One connection; closed when dropped.
#[derive(Debug)]
pub(in crate::agent) struct Session {
    client: Client,
    connection: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Postgres {
    /// Connects to the `postgres` database.
    pub(in crate::agent) async fn session(&self) -> Result<Session, EngineError> {
        self.session_in("postgres").await
    }

    /// Connects to a database.
    pub(super) async fn session_in(&self, database: &str) -> Result<Session, EngineError> {
        Session::open(self.address()?, database).await
    }

    pub(in crate::agent) async fn version(&self) -> Result<String, EngineError> {
        let row = self
            .session()
            .await?
            .one("ask for the version", "SHOW server_version", &[])
            .await?;
        let text: String = get(&row, "server_version")?;
        Ok(text.split(' ').next().unwrap_or_default().to_owned())
    }

    pub(in crate::agent) async fn reload(&self, process: &Process) -> Result<Configured, EngineError> {
        let session = self.session().await?;
        let before = session.load_time().await?;
        process
            .signal(Signal::HUP)
            .map_err(|error| EngineError::Statement {
                attempt: "reload",
                message: error.to_string(),
            })?;
        // The time of the last load stays what it was when a file is refused; so it is not insisted on.
        let _ = timeout(Duration::from_secs(2), async {
            while session.load_time().await.is_ok_and(|now| now == before) {
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        session.configured().await
    }

    pub(in crate::agent) async fn configured(&self) -> Result<Configured, EngineError> {
        self.session().await?.configured().await
    }

    pub(in crate::agent) async fn write_test(&self) -> Result<(), EngineError> {
        let session = self.session().await?;
        let attempt = "write and read back";
        let written = session
            .one(
                attempt,
                "UPDATE dbclaim.heartbeat SET beat = beat + 1, at = now() RETURNING beat",
                &[],
            )
            .await?;
        let read = session
            .one(attempt, "SELECT beat FROM dbclaim.heartbeat", &[])
            .await?;
        let (written, read): (i64, i64) = (get(&written, "beat")?, get(&read, "beat")?);
        if read < written {
            return Err(EngineError::Statement {
                attempt,
                message: format!("wrote {written}, read {read}"),
            });
        }
        Ok(())
    }

    pub(super) fn address(&self) -> Result<(u16, PathBuf), EngineError> {
        let listening = self.pid_file().and_then(|file| file.listening);
        listening.ok_or_else(|| EngineError::StartingUp("the server does not listen yet".into()))
    }
}

impl Session {
    async fn open((port, socket): (u16, PathBuf), database: &str) -> Result<Self, EngineError> {
        let mut config = Config::new();
        config
            .host_path(socket)
            .port(port)
            .user("postgres")
            .dbname(database)
            .application_name("dbclaim-agent")
            .options(OPTIONS);
        let (client, connection) = match timeout(CONNECT, config.connect(NoTls)).await {
            Err(_) => return Err(EngineError::Timeout(CONNECT)),
            Ok(Err(error)) if error.code() == Some(&SqlState::CANNOT_CONNECT_NOW) => {
                return Err(EngineError::StartingUp(said(&error)));
            }
            Ok(Err(error)) => return Err(EngineError::Connect(said(&error))),
            Ok(Ok(both)) => both,
        };
        // Its errors reach whoever waits for an answer.
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { client, connection })
    }

    pub(in crate::agent) async fn ping(&self) -> Result<(), EngineError> {
        let answer = timeout(CONNECT, self.client.simple_query("SELECT 1")).await;
        let answer = answer.map_err(|_| EngineError::Timeout(CONNECT))?;
        answer.map(drop).map_err(|error| failed("answer a query", &error))
    }

    /// Runs statements that return nothing.
    pub(super) async fn run(&self, attempt: &'static str, statements: &str) -> Result<(), EngineError> {
        let answer = timeout(STATEMENT, self.client.batch_execute(statements)).await;
        let answer = answer.map_err(|_| EngineError::Timeout(STATEMENT))?;
        answer.map_err(|error| failed(attempt, &error))
    }

    pub(super) async fn rows(
        &self,
        attempt: &'static str,
        query: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, EngineError> {
        let answer = timeout(STATEMENT, self.client.query(query, parameters)).await;
        let answer = answer.map_err(|_| EngineError::Timeout(STATEMENT))?;
        answer.map_err(|error| failed(attempt, &error))
    }

    pub(super) async fn one(
        &self,
        attempt: &'static str,
        query: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, EngineError> {
        let first = self.rows(attempt, query, parameters).await?.into_iter().next();
        first.ok_or_else(|| EngineError::Statement {
            attempt,
            message: "the row is not there".into(),
        })
    }

    async fn load_time(&self) -> Result<String, EngineError> {
        get(
            &self
                .one("reload", "SELECT pg_conf_load_time()::text AS at", &[])
                .await?,
            "at",
        )
    }

    async fn configured(&self) -> Result<Configured, EngineError> {
        // The server leaves its mark on a setting that came into the file and went before a restart.
        let pending = "SELECT name FROM pg_settings s WHERE pending_restart AND (source = 'configuration file' \
             OR EXISTS (SELECT FROM pg_file_settings f WHERE lower(f.name) = s.name)) ORDER BY name";
        // A setting that waits for a restart is listed as not applied; that is no error of the file.
        let errors = "SELECT format('%s: %s', coalesce(f.name, 'line ' || f.sourceline), f.error) AS problem \
             FROM pg_file_settings f WHERE f.error IS NOT NULL AND NOT EXISTS \
             (SELECT FROM pg_settings s WHERE s.name = lower(f.name) AND s.pending_restart) \
             UNION ALL SELECT format('pg_hba.conf line %s: %s', line_number, error) FROM pg_hba_file_rules \
             WHERE error IS NOT NULL";
        let mut configured = Configured::default();
        for row in self.rows("read the settings", pending, &[]).await? {
            configured.pending_restart.push(get(&row, "name")?);
        }
        for row in self.rows("check the configuration files", errors, &[]).await? {
            configured.errors.push(get(&row, "problem")?);
        }
        Ok(configured)
    }
}

/// A column, or an error instead of a panic.
pub(super) fn get<'r, T: tokio_postgres::types::FromSql<'r>>(
    row: &'r Row,
    column: &str,
) -> Result<T, EngineError> {
    row.try_get(column)
        .map_err(|error| failed("read an answer", &error))
}

fn failed(attempt: &'static str, error: &tokio_postgres::Error) -> EngineError {
    EngineError::Statement {
        attempt,
        message: said(error),
    }
}

/// The server's own words; never the statement.
fn said(error: &tokio_postgres::Error) -> String {
    if let Some(database) = error.as_db_error() {
        return database.message().to_owned();
    }
    let cause = std::error::Error::source(error);
    cause.map_or_else(|| error.to_string(), ToString::to_string)
}
