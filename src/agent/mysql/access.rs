//! What keeps an application out, or from writing, by the server's own tables: a login would take one of its connections.

use super::sql::{Session, account};
use super::text::{granted_database, literal};
use crate::agent::engine::{EngineError, Wanted};
use crate::api::condition::reason;
use crate::api::protocol::Trouble;

/// The first thing that would refuse the application, and the statement that undoes it.
pub(super) async fn refused(session: &Session, wanted: &Wanted<'_>) -> Result<Option<Trouble>, EngineError> {
    let user = literal(wanted.username);
    let granted = granted_database(wanted.database);
    // The grant's own spelling: an underscore that is no wildcard is escaped.
    let pattern = literal(granted.trim_matches('`'));
    let query = format!(
        "SELECT account_locked = 'Y', password_expired = 'Y', @@GLOBAL.offline_mode, \
         NOT (insert_priv = 'Y' OR EXISTS (SELECT 1 FROM mysql.db d WHERE d.user = {user} AND d.host = '%' \
           AND d.insert_priv = 'Y' AND (d.db = {pattern} OR {} LIKE d.db))), \
         @@GLOBAL.read_only OR @@GLOBAL.super_read_only \
         FROM mysql.user WHERE user = {user} AND host = '%'",
        literal(wanted.database)
    );
    let flags: [String; 5] = session.one("look at the application's rights", &query).await?;
    let [locked, expired, offline, unprivileged, read_only] = flags.map(|it| it == "1");
    let account = account(wanted.username);
    let table = [
        (
            locked,
            format!("account {account} is locked"),
            format!("ALTER USER {account} ACCOUNT UNLOCK"),
        ),
        (
            expired,
            format!("the password of account {account} has expired"),
            format!("ALTER USER {account} PASSWORD EXPIRE NEVER"),
        ),
        (
            offline,
            "the server is in offline mode".to_owned(),
            "SET GLOBAL offline_mode = OFF".to_owned(),
        ),
        (
            unprivileged,
            format!(
                "account {account} may not write to database {:?}",
                wanted.database
            ),
            format!("GRANT ALL PRIVILEGES ON {granted}.* TO {account}"),
        ),
    ];
    let refused = table.into_iter().find(|(is_so, ..)| *is_so);
    if let Some((_, what, undo)) = refused {
        return Ok(Some(Trouble {
            reason: reason::LOGIN_REFUSED.into(),
            message: format!("{what}, so a client with the Secret is refused. Undo it as root: {undo}"),
        }));
    }
    Ok(read_only.then(|| Trouble {
        reason: reason::WRITE_TEST_FAILED.into(),
        message: "the server is read-only for applications. Undo it as root: SET GLOBAL super_read_only = OFF, SET GLOBAL read_only = OFF".into(),
    }))
}
