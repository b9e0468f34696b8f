//! Extensions in the application's database.
//!
//! Their scripts run as superuser, so they are created in a schema that belongs to us, with nothing on the search
//! path that an application could have put there.

use super::Postgres;
use super::settle::quoted;
use super::sql::{Session, get};
use crate::agent::engine::EngineError;

/// Where extensions stand.
const SCHEMA: &str = "extensions";

impl Postgres {
    pub(in crate::agent) async fn extend(
        &self,
        database: &str,
        extensions: &[String],
    ) -> Result<(), EngineError> {
        if extensions.is_empty() {
            return Ok(());
        }
        let session = self.session_in(database).await?;
        let rows = session
            .rows("list the extensions", "SELECT extname FROM pg_extension", &[])
            .await?;
        let there: Vec<String> = rows
            .iter()
            .map(|row| get(row, "extname"))
            .collect::<Result<_, _>>()?;
        let missing: Vec<&String> = extensions.iter().filter(|it| !there.contains(it)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        schema(&session, database).await?;
        for name in missing {
            let create = format!("CREATE EXTENSION IF NOT EXISTS {} SCHEMA {SCHEMA}", quoted(name));
            session.run("create an extension", &create).await?;
        }
        Ok(())
    }
}

/// Makes the schema, once; with it the search path, which the owner may change as they like afterwards.
async fn schema(session: &Session, database: &str) -> Result<(), EngineError> {
    let attempt = "make the schema of the extensions";
    let query = "SELECT rolname, rolsuper FROM pg_namespace JOIN pg_roles ON pg_roles.oid = nspowner \
         WHERE nspname = $1";
    let found = session.rows(attempt, query, &[&SCHEMA]).await?;
    let Some(row) = found.first() else {
        let make = format!(
            "BEGIN; CREATE SCHEMA {SCHEMA}; GRANT USAGE ON SCHEMA {SCHEMA} TO PUBLIC; \
             ALTER DATABASE {} SET search_path = \"$user\", public, {SCHEMA}; COMMIT",
            quoted(database)
        );
        return session.run(attempt, &make).await;
    };
    if get::<bool>(row, "rolsuper")? {
        return Ok(());
    }
    let owner: String = get(row, "rolname")?;
    Err(EngineError::Statement {
        attempt,
        message: format!(
            "schema {SCHEMA:?} belongs to {owner:?}; rename it, since what it holds could run as superuser"
        ),
    })
}
