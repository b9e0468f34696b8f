//! The application's account and database, and the table of the write test. Every step may have been done before.

use super::Mysql;
use super::sql::{Session, account};
use super::text::{granted_database, identifier, literal};
use crate::agent::engine::{EngineError, Settled, Wanted};

/// The table that the write test writes to, in a schema out of the application's sight.
const HEARTBEAT: [&str; 3] = [
    "CREATE DATABASE IF NOT EXISTS dbclaim",
    "CREATE TABLE IF NOT EXISTS dbclaim.heartbeat (id TINYINT UNSIGNED NOT NULL PRIMARY KEY CHECK (id = 1), \
     beat BIGINT UNSIGNED NOT NULL, at TIMESTAMP(6) NOT NULL)",
    "INSERT IGNORE INTO dbclaim.heartbeat VALUES (1, 0, NOW(6))",
];

impl Mysql {
    pub(in crate::agent) async fn settle(&self, wanted: &Wanted<'_>) -> Result<Settled, EngineError> {
        let session = self.session().await?;
        let looked = session
            .rows(
                "look for the table of the write test",
                "SELECT 1 FROM information_schema.tables WHERE table_schema = 'dbclaim' AND table_name = 'heartbeat'",
            )
            .await?;
        if looked.is_empty() || !wanted.settled {
            for statement in HEARTBEAT {
                session
                    .rows("create the table of the write test", statement)
                    .await?;
            }
        }
        let credentials = self.user(&session, wanted).await?;
        if credentials > 0 {
            database(&session, wanted).await?;
        }
        Ok(Settled { credentials })
    }

    /// Creates the account or changes its password; returns the generation in force.
    async fn user(&self, session: &Session, wanted: &Wanted<'_>) -> Result<u64, EngineError> {
        let user = literal(wanted.username);
        let query = format!("SELECT 1 FROM mysql.user WHERE user = {user} AND host = '%'");
        let found = session.rows("look for the application's user", &query).await?;
        let there = !found.is_empty();
        let Some(credentials) = wanted.credentials else {
            // Without credentials nothing is changed; a user that is there keeps its password.
            return Ok(if there { wanted.in_force } else { 0 });
        };
        let account = account(wanted.username);
        let identified = format!(
            "{account} IDENTIFIED WITH caching_sha2_password BY {}",
            literal(&credentials.password)
        );
        if !there {
            let create = format!("CREATE USER {identified}");
            session.rows("create the application's user", &create).await?;
            return Ok(credentials.generation);
        }
        if credentials.generation < wanted.in_force {
            // An old copy of the Secret, from a cache or a backup: never back to a password that was replaced.
            return Ok(wanted.in_force);
        }
        let keep = wanted.previous_is_valid();
        // Once and not again: a second time would take the new one for the one before.
        if !self.accepts(wanted.username, &credentials.password).await? {
            let retain = if keep { " RETAIN CURRENT PASSWORD" } else { "" };
            let alter = format!("ALTER USER {identified}{retain}");
            session
                .rows("change the password of the application's user", &alter)
                .await?;
        }
        if !keep {
            end_previous(session, wanted.username).await?;
        }
        Ok(credentials.generation)
    }
}

/// Ends the account's second password, if it has one.
async fn end_previous(session: &Session, username: &str) -> Result<(), EngineError> {
    let query = format!(
        "SELECT 1 FROM mysql.user WHERE user = {} AND host = '%' \
         AND JSON_CONTAINS_PATH(user_attributes, 'one', '$.additional_password')",
        literal(username)
    );
    let attempt = "end the password before";
    if session.rows(attempt, &query).await?.is_empty() {
        return Ok(());
    }
    let end = format!("ALTER USER {} DISCARD OLD PASSWORD", account(username));
    session.rows(attempt, &end).await.map(drop)
}

async fn database(session: &Session, wanted: &Wanted<'_>) -> Result<(), EngineError> {
    let query = format!(
        "SELECT 1 FROM information_schema.schemata WHERE schema_name = {}",
        literal(wanted.database)
    );
    let found = session
        .rows("look for the application's database", &query)
        .await?;
    if found.is_empty() {
        let create = format!("CREATE DATABASE {}", identifier(wanted.database));
        session.rows("create the application's database", &create).await?;
    } else if wanted.settled {
        // Once and not again, whatever was granted or revoked since.
        return Ok(());
    }
    let grant = format!(
        "GRANT ALL PRIVILEGES ON {}.* TO {}",
        granted_database(wanted.database),
        account(wanted.username)
    );
    session
        .rows("give the application its database", &grant)
        .await
        .map(drop)
}
