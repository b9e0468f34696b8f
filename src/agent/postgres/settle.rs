//! The application's role and database, and the table of the write test. Every step may have been done before.

use rustix::rand::{GetRandomFlags, getrandom};

use super::Postgres;
use super::scram::Verifier;
use super::sql::{Session, get};
use crate::agent::engine::{EngineError, Settled, Wanted};
use crate::api::protocol::second_login;

/// The table that the write test writes to, in the `postgres` database, out of the application's sight.
const HEARTBEAT: &str = "CREATE SCHEMA IF NOT EXISTS dbclaim; \
    CREATE TABLE IF NOT EXISTS dbclaim.heartbeat \
    (id boolean PRIMARY KEY DEFAULT true CHECK (id), beat bigint NOT NULL, at timestamptz NOT NULL); \
    INSERT INTO dbclaim.heartbeat (beat, at) VALUES (0, now()) ON CONFLICT DO NOTHING";

impl Postgres {
    pub(in crate::agent) async fn settle(&self, wanted: &Wanted<'_>) -> Result<Settled, EngineError> {
        let session = self.session().await?;
        session
            .run("create the table of the write test", HEARTBEAT)
            .await?;
        let credentials = role(&session, wanted).await?;
        if credentials > 0 {
            database(&session, wanted).await?;
        }
        Ok(Settled { credentials })
    }
}

/// Creates the role or changes its password; returns the generation in force. A role has one password: where
/// credentials were rotated, applications log in by another one, which becomes the first with each connection.
async fn role(session: &Session, wanted: &Wanted<'_>) -> Result<u64, EngineError> {
    let found = password(session, wanted.username).await?;
    let Some(credentials) = wanted.credentials else {
        // Without credentials nothing is changed; a role that is there keeps its password.
        return Ok(if found.is_some() { wanted.in_force } else { 0 });
    };
    if found.is_some() && credentials.generation < wanted.in_force {
        // An old copy of the Secret, from a cache or a backup: never back to a password that was replaced.
        return Ok(wanted.in_force);
    }
    let (owner, second) = (quoted(wanted.username), second_login(wanted.username));
    if found.is_none() {
        let create = format!("CREATE ROLE {owner} LOGIN");
        session.run("create the application's role", &create).await?;
    }
    let login = credentials.login(wanted.username);
    let other = if login == wanted.username {
        second.as_str()
    } else {
        let create = format!(
            "CREATE ROLE {name} LOGIN INHERIT IN ROLE {owner}; ALTER ROLE {name} SET role TO {owner}",
            name = quoted(login)
        );
        if password(session, login).await?.is_none() {
            session
                .run("create the application's second login", &create)
                .await?;
        }
        wanted.username
    };
    let has = password(session, login).await?.flatten();
    let has = has.as_deref().and_then(Verifier::parse);
    if !has.is_some_and(|it| it.is_of(&credentials.password)) {
        let verifier = new_verifier(&credentials.password)?;
        let alter = format!("ALTER ROLE {} LOGIN PASSWORD '{verifier}'", quoted(login));
        session
            .run("change the password of the application's role", &alter)
            .await?;
    }
    if !wanted.previous_is_valid() && password(session, other).await?.flatten().is_some() {
        let end = format!("ALTER ROLE {} PASSWORD NULL", quoted(other));
        session.run("end the password before", &end).await?;
    }
    Ok(credentials.generation)
}

/// The verifier of a role: `None` without the role, `Some(None)` without a password.
async fn password(session: &Session, role: &str) -> Result<Option<Option<String>>, EngineError> {
    let query = "SELECT rolpassword FROM pg_authid WHERE rolname = $1";
    let found = session
        .rows("look for the application's role", query, &[&role])
        .await?;
    match found.first() {
        Some(row) => Ok(Some(get::<Option<String>>(row, "rolpassword")?)),
        None => Ok(None),
    }
}

async fn database(session: &Session, wanted: &Wanted<'_>) -> Result<(), EngineError> {
    let query = "SELECT FROM pg_database WHERE datname = $1";
    let found = session
        .rows("look for the application's database", query, &[&wanted.database])
        .await?;
    let (name, owner) = (quoted(wanted.database), quoted(wanted.username));
    if found.is_empty() {
        let create = format!("CREATE DATABASE {name} OWNER {owner} TEMPLATE template0 ENCODING 'UTF8'");
        session.run("create the application's database", &create).await?;
    } else if wanted.settled {
        // Once and not again, whatever the owner has granted since.
        return Ok(());
    }
    let close = format!("REVOKE CONNECT, TEMPORARY ON DATABASE {name} FROM PUBLIC");
    session
        .run("close the application's database to other roles", &close)
        .await
}

fn new_verifier(password: &str) -> Result<Verifier, EngineError> {
    let mut salt = [0_u8; 16];
    getrandom(&mut salt, GetRandomFlags::empty()).map_err(|error| EngineError::Statement {
        attempt: "make a salt",
        message: error.to_string(),
    })?;
    Ok(Verifier::new(password, &salt))
}

/// An identifier that cannot be anything else, whatever is in it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
