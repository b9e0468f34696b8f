//! What keeps an application out, or from writing, by the catalogue: a login would take one of its connections.

use tokio_postgres::Row;

use super::logins::Logins;
use super::settle::quoted;
use super::sql::{Session, get};
use crate::agent::engine::EngineError;
use crate::api::condition::reason;
use crate::api::protocol::Trouble;

/// The owner's role (`$1`) and its database (`$2`). Of settings, the most specific one counts, as for a session
/// (<https://www.postgresql.org/docs/current/catalog-pg-db-role-setting.html>).
const QUERY: &str = "SELECT r.rolcanlogin, coalesce(r.rolvaliduntil <= now(), false) AS expired, \
    r.rolconnlimit, d.datallowconn, d.datconnlimit, r.rolsuper, \
    has_database_privilege(r.oid, d.oid, 'CONNECT') AS may_connect, \
    coalesce((SELECT split_part(setting, '=', 2)::boolean \
      FROM pg_db_role_setting s, unnest(s.setconfig) AS setting \
      WHERE s.setdatabase IN (0, d.oid) AND s.setrole IN (0, r.oid) \
        AND setting LIKE 'default\\_transaction\\_read\\_only=%' \
      ORDER BY s.setrole <> 0 DESC, s.setdatabase <> 0 DESC LIMIT 1), false) AS read_only \
    FROM pg_roles r, pg_database d WHERE r.oid = $1 AND d.oid = $2";

/// The first thing that would refuse the application, and the statement that undoes it.
pub(super) async fn refused(
    session: &Session,
    logins: &Logins,
    database: u32,
    database_name: &str,
) -> Result<Option<Trouble>, EngineError> {
    let rows = session
        .rows(
            "look at the application's rights",
            QUERY,
            &[&logins.owner, &database],
        )
        .await?;
    match rows.first() {
        Some(row) => verdict(row, &logins.name, database_name),
        None => Ok(None),
    }
}

fn verdict(row: &Row, login: &str, database: &str) -> Result<Option<Trouble>, EngineError> {
    let (role, name) = (quoted(login), quoted(database));
    let flag = |column| get::<bool>(row, column);
    let none = |column| Ok(get::<i32>(row, column)? == 0);
    let superuser = flag("rolsuper")?;
    let table = [
        (
            !flag("rolcanlogin")?,
            format!("role {role} may not log in"),
            format!("ALTER ROLE {role} LOGIN"),
        ),
        (
            flag("expired")?,
            format!("the password of role {role} has expired (VALID UNTIL)"),
            format!("ALTER ROLE {role} VALID UNTIL 'infinity'"),
        ),
        (
            !superuser && none("rolconnlimit")?,
            format!("role {role} has a connection limit of 0"),
            format!("ALTER ROLE {role} CONNECTION LIMIT -1"),
        ),
        (
            !flag("datallowconn")?,
            format!("database {name} allows no connections"),
            format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"),
        ),
        (
            !superuser && none("datconnlimit")?,
            format!("database {name} has a connection limit of 0"),
            format!("ALTER DATABASE {name} CONNECTION LIMIT -1"),
        ),
        (
            !flag("may_connect")?,
            format!("role {role} may not connect to database {name}"),
            format!("GRANT CONNECT ON DATABASE {name} TO {role}"),
        ),
    ];
    let refused = table.into_iter().find(|(is_so, ..)| *is_so);
    if let Some((_, what, undo)) = refused {
        return Ok(Some(Trouble {
            reason: reason::LOGIN_REFUSED.into(),
            message: format!("{what}, so a client with the Secret is refused. Undo it as superuser: {undo}"),
        }));
    }
    Ok(flag("read_only")?.then(|| Trouble {
        reason: reason::WRITE_TEST_FAILED.into(),
        message: format!(
            "sessions of role {role} in database {name} are read-only by default (default_transaction_read_only is on for the role or the database). Undo it: ALTER DATABASE {name} RESET default_transaction_read_only, or the same with ALTER ROLE {role}"
        ),
    }))
}
