//! The application's account and database, and the table of the write test. Every step may have been done before.

use super::Mysql;
use super::sql::{Session, account};
use super::text::{granted_database, identifier, literal};
use crate::agent::engine::{EngineError, Previous, Settled, Wanted};
use crate::api::condition::reason;
use crate::api::protocol::Trouble;

/// The table that the write test writes to, in a schema out of the application's sight.
const HEARTBEAT: [&str; 3] = [
    "CREATE DATABASE IF NOT EXISTS dbclaim",
    "CREATE TABLE IF NOT EXISTS dbclaim.heartbeat (id TINYINT UNSIGNED NOT NULL PRIMARY KEY CHECK (id = 1), \
     beat BIGINT UNSIGNED NOT NULL, at TIMESTAMP(6) NOT NULL)",
    "INSERT IGNORE INTO dbclaim.heartbeat VALUES (1, 0, NOW(6))",
];

impl Mysql {
    /// Brings account and database to what is wanted, and says what keeps an application out.
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
        let mut settled = Settled::default();
        settled.credentials = self
            .user(&session, wanted, &mut settled.password_set_back)
            .await?;
        if settled.credentials > 0 && !database(&session, wanted).await? {
            settled.access = Some(missing(wanted.database));
        } else if settled.credentials > 0 && wanted.settled {
            settled.access = super::access::refused(&session, wanted).await?;
        }
        Ok(settled)
    }

    /// Creates the account or changes its password; returns the generation in force.
    async fn user(
        &self,
        session: &Session,
        wanted: &Wanted<'_>,
        set_back: &mut bool,
    ) -> Result<u64, EngineError> {
        let found = stored(session, wanted.username).await?;
        let Some(credentials) = wanted.credentials else {
            // Without credentials nothing is changed; a user that is there keeps its password.
            return Ok(if found.is_some() { wanted.in_force } else { 0 });
        };
        let Some(found) = found else {
            let create = format!(
                "CREATE USER {}",
                identified(wanted.username, &credentials.password)
            );
            session.rows("create the application's user", &create).await?;
            return Ok(credentials.generation);
        };
        if credentials.generation < wanted.in_force {
            // An old copy of the Secret, from a cache or a backup: never back to a password that was replaced.
            return Ok(wanted.in_force);
        }
        let previous = wanted.previous();
        let proof = |stored: Stored| Proof {
            stored,
            password: credentials.password.clone(),
            previous: match previous {
                Previous::Valid(it) => Some(it.to_owned()),
                Previous::Kept | Previous::Ended => None,
            },
            ended: previous == Previous::Ended,
        };
        // A login takes one of the application's connections, so what was proven is remembered.
        if self.is_proven(&proof(found.clone())) {
            return Ok(credentials.generation);
        }
        let accepted = self.accepts(wanted.username, &credentials.password).await?;
        *set_back = wanted.settled && !accepted && credentials.generation == wanted.in_force;
        let change = Change {
            accepted,
            previous,
            retained: match previous {
                Previous::Valid(it) => self.accepts(wanted.username, it).await?,
                Previous::Kept | Previous::Ended => true,
            },
            second: found.second,
        };
        for statement in change.statements(wanted.username, &credentials.password) {
            session
                .rows("change the password of the application's user", &statement)
                .await?;
        }
        let now = stored(session, wanted.username).await?;
        self.prove(now.map(proof));
        Ok(credentials.generation)
    }
}

/// What the server keeps of an account's passwords: a digest of it, and whether there is a second one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    digest: String,
    second: bool,
}

/// Passwords that were found to be in force, by what the server kept of them then.
#[derive(PartialEq, Eq)]
pub(super) struct Proof {
    stored: Stored,
    password: String,
    previous: Option<String>,
    ended: bool,
}

impl std::fmt::Debug for Proof {
    // A password must never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proof").finish_non_exhaustive()
    }
}

async fn stored(session: &Session, username: &str) -> Result<Option<Stored>, EngineError> {
    let query = format!(
        "SELECT SHA2(CONCAT(plugin, HEX(authentication_string), COALESCE(user_attributes, '')), 256), \
         COALESCE(JSON_CONTAINS_PATH(user_attributes, 'one', '$.additional_password'), 0) \
         FROM mysql.user WHERE user = {} AND host = '%'",
        literal(username)
    );
    let rows = session.rows("look for the application's user", &query).await?;
    let mut cells = rows.into_iter().next().into_iter().flatten();
    let digest = cells.next().flatten();
    let second = cells.next().flatten().is_some_and(|it| it == "1");
    Ok(digest.map(|digest| Stored { digest, second }))
}

/// How the account's passwords are to be changed.
struct Change<'a> {
    /// The wanted password is in force.
    accepted: bool,
    /// What is wanted of the previous password.
    previous: Previous<'a>,
    /// It is in force, or it is not known.
    retained: bool,
    /// The account has a second password.
    second: bool,
}

impl Change<'_> {
    /// The account has a first and a second password, and `RETAIN` makes the second one of the first. At no point
    /// between the statements is a password refused that is valid before and after.
    fn statements(&self, username: &str, password: &str) -> Vec<String> {
        let set = |password: &str, retain: bool| {
            let retain = if retain { " RETAIN CURRENT PASSWORD" } else { "" };
            format!("ALTER USER {}{retain}", identified(username, password))
        };
        match (self.accepted, self.previous, self.second) {
            (false, Previous::Ended, false) => vec![set(password, false)],
            (_, Previous::Ended, true) => {
                // What is wanted may be the second one, which is discarded.
                let discard = format!("ALTER USER {} DISCARD OLD PASSWORD", account(username));
                vec![set(password, false), discard]
            }
            // Without a second password, the one that is retained is the first.
            (false, Previous::Valid(before), second) if second || !self.retained => {
                vec![set(before, false), set(password, true)]
            }
            (true, Previous::Valid(before), _) if !self.retained => {
                // What is wanted may be the second one, which the next statement replaces.
                vec![set(password, false), set(before, true), set(password, true)]
            }
            (false, Previous::Valid(_) | Previous::Kept, _) => vec![set(password, true)],
            (true, _, _) => Vec::new(),
        }
    }
}

fn identified(username: &str, password: &str) -> String {
    format!(
        "{} IDENTIFIED WITH caching_sha2_password BY {}",
        account(username),
        literal(password)
    )
}

/// Creates the database the first time; whether it is there.
async fn database(session: &Session, wanted: &Wanted<'_>) -> Result<bool, EngineError> {
    let query = format!(
        "SELECT 1 FROM information_schema.schemata WHERE schema_name = {}",
        literal(wanted.database)
    );
    let found = session
        .rows("look for the application's database", &query)
        .await?;
    if wanted.settled {
        // What was granted or revoked since stays; what was dropped is not created again.
        return Ok(!found.is_empty());
    }
    if found.is_empty() {
        let create = format!("CREATE DATABASE {}", identifier(wanted.database));
        session.rows("create the application's database", &create).await?;
    }
    let grant = format!(
        "GRANT ALL PRIVILEGES ON {}.* TO {}",
        granted_database(wanted.database),
        account(wanted.username)
    );
    session.rows("give the application its database", &grant).await?;
    Ok(true)
}

fn missing(database: &str) -> Trouble {
    Trouble {
        reason: reason::DATABASE_MISSING.into(),
        message: format!(
            "database {database:?} was dropped; it is not created again by itself, since it would be empty. To create an empty one, connect without a database with the credentials of the Secret and run: CREATE DATABASE {}",
            identifier(database)
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// An account as the server has it: two passwords, of which the second may be missing.
    #[derive(Clone)]
    struct Account(String, Option<String>);

    impl Account {
        fn valid(&self) -> BTreeSet<&str> {
            [Some(&self.0), self.1.as_ref()]
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect()
        }

        fn alter(&mut self, statement: &str) {
            if statement.ends_with("DISCARD OLD PASSWORD") {
                self.1 = None;
                return;
            }
            let password = statement.split('\'').nth(5).unwrap().to_owned();
            let before = std::mem::replace(&mut self.0, password);
            if statement.ends_with("RETAIN CURRENT PASSWORD") {
                self.1 = Some(before);
            }
        }
    }

    /// From every state of the account to every pair of wanted passwords: what is wanted is in force at the end, and
    /// what was in force and is wanted is in force after each statement.
    #[test]
    fn no_wanted_password_is_refused_on_the_way() {
        let names = ["a", "b", "c"];
        let seconds = [None, Some("a"), Some("b"), Some("c")];
        for (first, second) in names
            .iter()
            .flat_map(|first| seconds.map(|second| (*first, second)))
        {
            let cases = ["a", "b"]
                .into_iter()
                .flat_map(|it| [(it, None), (it, Some("c")), (it, Some("a"))]);
            for (password, previous) in cases.filter(|(it, previous)| Some(*it) != *previous) {
                let mut account = Account(first.into(), second.map(str::to_owned));
                let change = Change {
                    accepted: account.valid().contains(password),
                    previous: previous.map_or(Previous::Ended, Previous::Valid),
                    retained: previous.is_none_or(|it| account.valid().contains(it)),
                    second: second.is_some(),
                };
                let wanted: BTreeSet<&str> = [Some(password), previous].into_iter().flatten().collect();
                let before = account.clone();
                let stays: BTreeSet<&str> = before.valid().intersection(&wanted).copied().collect();
                for statement in change.statements("app", password) {
                    account.alter(&statement);
                    assert!(
                        stays.is_subset(&account.valid()),
                        "{first} {second:?}: {statement}"
                    );
                }
                assert!(
                    wanted.is_subset(&account.valid()),
                    "{first} {second:?} to {wanted:?}"
                );
                assert!(
                    previous.is_some() || account.valid() == wanted,
                    "{first} {second:?} to {wanted:?}"
                );
            }
        }
    }
}
