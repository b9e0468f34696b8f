//! The application's database, and the table of the write test. Every step may have been done before.

use super::Postgres;
use super::sql::{Session, get};
use crate::agent::engine::{EngineError, Settled, Wanted};
use crate::api::condition::reason;
use crate::api::protocol::Trouble;

/// The table that the write test writes to, in the `postgres` database, out of the application's sight.
const HEARTBEAT: &str = "CREATE SCHEMA IF NOT EXISTS dbclaim; \
    CREATE TABLE IF NOT EXISTS dbclaim.heartbeat \
    (id boolean PRIMARY KEY DEFAULT true CHECK (id), beat bigint NOT NULL, at timestamptz NOT NULL); \
    INSERT INTO dbclaim.heartbeat (beat, at) VALUES (0, now()) ON CONFLICT DO NOTHING";

/// The application's database as it was found.
#[derive(Debug)]
struct Database {
    oid: u32,
    owner: u32,
}

impl Postgres {
    /// Brings logins and database to what is wanted, and says what keeps an application out.
    pub(in crate::agent) async fn settle(&self, wanted: &Wanted<'_>) -> Result<Settled, EngineError> {
        let session = self.session().await?;
        heartbeat(&session).await?;
        let found = find(&session, wanted.database).await?;
        let owner = found.as_ref().map(|it| it.owner);
        let Some(logins) = super::logins::settle(&session, wanted, owner).await? else {
            return Ok(Settled::default());
        };
        let mut settled = Settled {
            credentials: logins.generation,
            password_set_back: logins.password_set_back,
            ..Settled::default()
        };
        // Sessions of the second login work without it, so it holds nothing else up.
        settled.warning = self.equalize(&session, &logins).await.err();
        let Some(database) = found else {
            if wanted.settled {
                settled.access = Some(missing(wanted.database));
                return Ok(settled);
            }
            create(&session, wanted.database, &logins.name).await?;
            settled.database = find(&session, wanted.database).await?.map(|it| it.oid);
            return Ok(settled);
        };
        settled.database = Some(database.oid);
        let known = wanted.known_database.is_none_or(|it| it == database.oid);
        if !wanted.settled || !known {
            take(&session, wanted.database, &database, logins.owner, &logins.name).await?;
            return Ok(settled);
        }
        settled.access = super::access::refused(&session, &logins, database.oid, wanted.database).await?;
        Ok(settled)
    }
}

async fn heartbeat(session: &Session) -> Result<(), EngineError> {
    let attempt = "create the table of the write test";
    let query = "SELECT to_regclass('dbclaim.heartbeat') IS NOT NULL AS there";
    if get(&session.one(attempt, query, &[]).await?, "there")? {
        return Ok(());
    }
    session.run(attempt, HEARTBEAT).await
}

async fn find(session: &Session, database: &str) -> Result<Option<Database>, EngineError> {
    let query = "SELECT oid, datdba FROM pg_database WHERE datname = $1";
    let found = session
        .rows("look for the application's database", query, &[&database])
        .await?;
    let Some(row) = found.first() else {
        return Ok(None);
    };
    Ok(Some(Database {
        oid: get(row, "oid")?,
        owner: get(row, "datdba")?,
    }))
}

async fn create(session: &Session, database: &str, owner: &str) -> Result<(), EngineError> {
    let (name, owner) = (quoted(database), quoted(owner));
    let create = format!("CREATE DATABASE {name} OWNER {owner} TEMPLATE template0 ENCODING 'UTF8'");
    session.run("create the application's database", &create).await?;
    close(session, &name).await
}

/// A database that was not there before: it is made the application's, once. What its owner grants later stays.
async fn take(
    session: &Session,
    database: &str,
    found: &Database,
    owner: u32,
    login: &str,
) -> Result<(), EngineError> {
    let name = quoted(database);
    if found.owner != owner {
        let alter = format!("ALTER DATABASE {name} OWNER TO {}", quoted(login));
        session.run("give the application its database", &alter).await?;
    }
    close(session, &name).await
}

async fn close(session: &Session, quoted_name: &str) -> Result<(), EngineError> {
    let close = format!("REVOKE CONNECT, TEMPORARY ON DATABASE {quoted_name} FROM PUBLIC");
    session
        .run("close the application's database to other roles", &close)
        .await
}

fn missing(database: &str) -> Trouble {
    Trouble {
        reason: reason::DATABASE_MISSING.into(),
        message: format!(
            "database {database:?} was dropped or renamed; it is not created again by itself, since it would be empty. To create an empty one, connect to the database \"postgres\" with the credentials of the Secret and run: CREATE DATABASE {}",
            quoted(database)
        ),
    }
}

/// An identifier that cannot be anything else, whatever is in it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A literal that cannot be anything else, whatever is in it and whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    let quotes = text.replace('\'', "''");
    if text.contains('\\') {
        return format!(" E'{}'", quotes.replace('\\', "\\\\"));
    }
    format!("'{quotes}'")
}
