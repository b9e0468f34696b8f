//! The application's logins. A role has one password, so a rotation needs two logins: the owner of everything, whose
//! name is the one in the Secret, and a second one, by which the previous credentials are let in until they end.
//!
//! A rotation swaps the *names* of the two roles. Identifier, ownership, grants, settings and open sessions of a role
//! do not depend on its name, so whoever logs in with the Secret is always the owner itself.

use rustix::rand::{GetRandomFlags, getrandom};

use super::scram::Verifier;
use super::settle::quoted;
use super::sql::{Session, get};
use crate::agent::engine::{EngineError, Previous, Wanted};
use crate::api::protocol::second_login;

/// Name of a role for as long as two names are swapped, within one transaction. No username of a claim has a hyphen.
const BETWEEN: &str = "dbclaim-swap";

/// The logins after settling.
#[derive(Debug)]
pub(super) struct Logins {
    /// Generation of the credentials in force.
    pub(super) generation: u64,
    /// The owner's identifier.
    pub(super) owner: u32,
    /// The owner's name, which is that in the Secret.
    pub(super) name: String,
    /// The second login, where credentials were rotated once: its identifier and name.
    pub(super) second: Option<(u32, String)>,
    /// Whether somebody had changed the password inside the database.
    pub(super) password_set_back: bool,
}

/// A role as it was found.
#[derive(Clone, Debug)]
struct Role {
    oid: u32,
    name: String,
    password: Option<String>,
}

impl Role {
    fn accepts(&self, password: &str) -> bool {
        let verifier = self.password.as_deref().and_then(Verifier::parse);
        verifier.is_some_and(|it| it.is_of(password))
    }
}

/// Brings names and passwords to what the credentials say, in one transaction; `None` while there is no role, since
/// there are no credentials. `database_owner`: who owns the application's database.
pub(super) async fn settle(
    session: &Session,
    wanted: &Wanted<'_>,
    database_owner: Option<u32>,
) -> Result<Option<Logins>, EngineError> {
    let (owner, second) = find(session, wanted.username, database_owner).await?;
    let outdated = |generation| generation < wanted.in_force;
    let credentials = wanted
        .credentials
        .filter(|it| owner.is_none() || !outdated(it.generation));
    let Some(credentials) = credentials else {
        // Without credentials, or with an old copy of them from a cache or a backup, nothing is changed.
        return Ok(owner.map(|owner| Logins {
            generation: wanted.in_force,
            owner: owner.oid,
            name: owner.name,
            second: second.map(|it| (it.oid, it.name)),
            password_set_back: false,
        }));
    };
    let name = credentials.login(wanted.username).to_owned();
    let other = if name == wanted.username {
        second_login(wanted.username)
    } else {
        wanted.username.to_owned()
    };
    let statements = Statements {
        name: &name,
        other: &other,
        owner: owner.as_ref(),
        second: second.as_ref(),
        may_create: wanted.may_create,
    };
    let statements = statements.all(&credentials.password, wanted.previous())?;
    let known = owner
        .as_ref()
        .filter(|it| it.name == name && credentials.generation == wanted.in_force);
    let password_set_back = wanted.settled && known.is_some_and(|it| !it.accepts(&credentials.password));
    if !statements.is_empty() {
        let script = format!("BEGIN; {}; COMMIT", statements.join("; "));
        session.run("set up the application's login", &script).await?;
    }
    let (owner, second) = find(session, wanted.username, database_owner).await?;
    Ok(owner.map(|owner| Logins {
        generation: credentials.generation,
        owner: owner.oid,
        name: owner.name,
        second: second.map(|it| (it.oid, it.name)),
        password_set_back,
    }))
}

/// The owner and the second login. The second one is a member of the owner; where that was undone, the owner of the
/// database tells.
async fn find(
    session: &Session,
    username: &str,
    database_owner: Option<u32>,
) -> Result<(Option<Role>, Option<Role>), EngineError> {
    let query = "SELECT r.oid, r.rolname, r.rolpassword, \
         EXISTS (SELECT FROM pg_auth_members m JOIN pg_authid o ON o.oid = m.roleid \
           WHERE m.member = r.oid AND o.rolname IN ($1, $2)) AS is_member \
         FROM pg_authid r WHERE r.rolname IN ($1, $2) ORDER BY r.rolname = $1 DESC";
    let second = second_login(username);
    let rows = session
        .rows("look for the application's logins", query, &[&username, &second])
        .await?;
    let mut found = Vec::new();
    for row in &rows {
        let role = Role {
            oid: get(row, "oid")?,
            name: get(row, "rolname")?,
            password: get(row, "rolpassword")?,
        };
        let is_member: bool = get(row, "is_member")?;
        found.push((is_member, database_owner != Some(role.oid), role));
    }
    // The sort is stable: where nothing else tells, the owner has the name of the claim's username.
    found.sort_by_key(|(is_member, is_not_owner, _)| (*is_member, *is_not_owner));
    let mut roles = found.into_iter().map(|(.., role)| role);
    Ok((roles.next(), roles.next()))
}

/// What has to be done to the two roles.
struct Statements<'a> {
    name: &'a str,
    other: &'a str,
    owner: Option<&'a Role>,
    second: Option<&'a Role>,
    /// Whether the owner was given the right to create databases once.
    may_create: bool,
}

impl Statements<'_> {
    fn all(&self, password: &str, previous: Previous<'_>) -> Result<Vec<String>, EngineError> {
        let mut all = self.names(previous != Previous::Ended);
        let alter = |name: &str, what: &str| format!("ALTER ROLE {} {what}", quoted(name));
        if self.owner.is_none_or(|it| !it.accepts(password)) {
            all.push(alter(
                self.name,
                &format!("LOGIN PASSWORD '{}'", verifier(password)?),
            ));
        }
        if !self.may_create {
            // For the tools that drop and create their database, or make one for tests.
            all.push(alter(self.name, "CREATEDB"));
        }
        let swapped = self.owner.filter(|it| it.name != self.name);
        let second = self.second;
        match previous {
            Previous::Valid(before) if second.is_none_or(|it| !it.accepts(before)) => {
                all.push(alter(
                    self.other,
                    &format!("LOGIN PASSWORD '{}'", verifier(before)?),
                ));
            }
            // What was in force under this name stays in force.
            Previous::Kept => {
                let kept = swapped.and_then(|it| it.password.as_ref());
                all.extend(kept.map(|it| alter(self.other, &format!("LOGIN PASSWORD '{it}'"))));
            }
            Previous::Ended if second.is_some_and(|it| it.password.is_some()) => {
                all.push(alter(self.other, "PASSWORD NULL"));
            }
            Previous::Valid(_) | Previous::Ended => {}
        }
        Ok(all)
    }

    /// Creates the roles that are missing, and gives both their names.
    fn names(&self, has_previous: bool) -> Vec<String> {
        let rename = |from: &str, to: &str| format!("ALTER ROLE {} RENAME TO {}", quoted(from), quoted(to));
        let (name, other) = (self.name, self.other);
        let mut all = Vec::new();
        match (self.owner, self.second) {
            (None, _) => all.push(format!("CREATE ROLE {} LOGIN", quoted(name))),
            (Some(owner), _) if owner.name == name => {}
            (Some(owner), None) => all.push(rename(&owner.name, name)),
            (Some(owner), Some(second)) => {
                all.push(rename(&second.name, BETWEEN));
                all.push(rename(&owner.name, name));
                all.push(rename(BETWEEN, other));
            }
        }
        if self.second.is_none() && has_previous {
            all.push(format!(
                "CREATE ROLE {} LOGIN INHERIT IN ROLE {}",
                quoted(other),
                quoted(name)
            ));
        }
        let renamed = self.owner.is_some_and(|it| it.name != name);
        if self.second.is_some() && renamed || self.second.is_none() && has_previous {
            all.push(format!(
                "ALTER ROLE {} SET role TO {}",
                quoted(other),
                quoted(name)
            ));
        }
        all
    }
}

fn verifier(password: &str) -> Result<Verifier, EngineError> {
    let mut salt = [0_u8; 16];
    getrandom(&mut salt, GetRandomFlags::empty()).map_err(|error| EngineError::Statement {
        attempt: "make a salt",
        message: error.to_string(),
    })?;
    Ok(Verifier::new(password, &salt))
}
