//! Makes the second login equal to the owner, as far as PostgreSQL allows: sessions of previous credentials do and see
//! what those of the owner do. It becomes the owner when a session begins, so rights on objects need nothing here.

use std::collections::BTreeMap;

use super::Postgres;
use super::logins::Logins;
use super::settle::{literal, quoted};
use super::sql::{Session, get};
use crate::agent::engine::EngineError;

/// Settings whose value is a list of identifiers (`GUC_LIST_QUOTE` in the server's source): each element is quoted on
/// its own.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];
/// The owner's rights to see and end sessions of the second login, of which it cannot be a member. Neither reaches
/// sessions of a superuser.
const PREDEFINED: [&str; 2] = ["pg_read_all_stats", "pg_signal_backend"];

/// Settings by database: `None` is every database.
type Settings = BTreeMap<Option<String>, BTreeMap<String, String>>;

impl Postgres {
    /// Brings the second login to what the owner is, where there is one. At rest nothing is written.
    pub(super) async fn equalize(&self, session: &Session, logins: &Logins) -> Result<(), EngineError> {
        let Some((second, second_name)) = &logins.second else {
            return Ok(());
        };
        let (owner, second) = (logins.owner, *second);
        let mut all = Vec::new();
        all.extend(attributes(session, owner, second, second_name).await?);
        all.extend(memberships(session, logins, second, second_name).await?);
        all.extend(settings(session, logins, second, second_name).await?);
        if !all.is_empty() {
            let script = format!("BEGIN; {}; COMMIT", all.join("; "));
            session
                .run("make the second login like the first", &script)
                .await?;
        }
        self.reassign(session, logins, second, second_name).await
    }

    /// Gives the owner what the second login came to own, for example after `SET ROLE NONE`. It does not wait for
    /// a lock, since others would wait behind it; there is a next time.
    async fn reassign(
        &self,
        session: &Session,
        logins: &Logins,
        second: u32,
        second_name: &str,
    ) -> Result<(), EngineError> {
        let attempt = "give the owner what the second login owns";
        let query = "SELECT DISTINCT coalesce(d.datname, 'postgres') AS datname FROM pg_shdepend s \
             LEFT JOIN pg_database d ON d.oid = s.dbid WHERE s.refclassid = 'pg_authid'::regclass \
             AND s.refobjid = $1 AND s.deptype = 'o' AND s.classid <> 'pg_default_acl'::regclass";
        for row in session.rows(attempt, query, &[&second]).await? {
            let database: String = get(&row, "datname")?;
            let reassign = format!(
                "SET lock_timeout = '100ms'; REASSIGN OWNED BY {} TO {}",
                quoted(second_name),
                quoted(&logins.name)
            );
            self.session_in(&database).await?.run(attempt, &reassign).await?;
        }
        Ok(())
    }
}

async fn attributes(
    session: &Session,
    owner: u32,
    second: u32,
    second_name: &str,
) -> Result<Option<String>, EngineError> {
    let row = |of: &str| {
        format!(
            "ROW({of}.rolsuper, {of}.rolcreaterole, {of}.rolcreatedb, {of}.rolreplication, {of}.rolbypassrls, \
             {of}.rolconnlimit, coalesce({of}.rolvaliduntil, 'infinity'))"
        )
    };
    let query = format!(
        "SELECT o.rolsuper, o.rolcreaterole, o.rolcreatedb, o.rolreplication, o.rolbypassrls, o.rolconnlimit, \
         coalesce(o.rolvaliduntil, 'infinity')::text AS valid_until, {} = {} AS same \
         FROM pg_authid o, pg_authid s WHERE o.oid = $1 AND s.oid = $2",
        row("o"),
        row("s")
    );
    let rows = session
        .rows("compare the application's logins", &query, &[&owner, &second])
        .await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    if get(row, "same")? {
        return Ok(None);
    }
    let flag = |column, word: &str| {
        Ok::<_, EngineError>(if get(row, column)? {
            word.to_owned()
        } else {
            format!("NO{word}")
        })
    };
    Ok(Some(format!(
        "ALTER ROLE {} {} {} {} {} {} CONNECTION LIMIT {} VALID UNTIL {}",
        quoted(second_name),
        flag("rolsuper", "SUPERUSER")?,
        flag("rolcreaterole", "CREATEROLE")?,
        flag("rolcreatedb", "CREATEDB")?,
        flag("rolreplication", "REPLICATION")?,
        flag("rolbypassrls", "BYPASSRLS")?,
        get::<i32>(row, "rolconnlimit")?,
        literal(get(row, "valid_until")?),
    )))
}

/// The second login is a member of the owner; what is granted to it directly is granted to the owner, and the owner
/// may see and end its sessions.
async fn memberships(
    session: &Session,
    logins: &Logins,
    second: u32,
    second_name: &str,
) -> Result<Vec<String>, EngineError> {
    let query = "SELECT roleid, member, r.rolname FROM pg_auth_members JOIN pg_authid r ON r.oid = roleid \
         WHERE member IN ($1, $2)";
    let rows = session
        .rows(
            "compare the application's logins",
            query,
            &[&logins.owner, &second],
        )
        .await?;
    let (mut owners, mut seconds) = (Vec::new(), Vec::new());
    for row in &rows {
        let (role, member): (u32, u32) = (get(row, "roleid")?, get(row, "member")?);
        let list = if member == second {
            &mut seconds
        } else {
            &mut owners
        };
        list.push((role, get::<String>(row, "rolname")?));
    }
    let grant = |role: &str, to: &str| format!("GRANT {} TO {}", quoted(role), quoted(to));
    let mut all = Vec::new();
    let is_member = seconds.iter().any(|(role, _)| *role == logins.owner);
    let direct = seconds.iter().filter(|(role, _)| *role != logins.owner);
    let missing = direct
        .map(|(_, name)| name.as_str())
        .chain(PREDEFINED)
        .filter(|it| !owners.iter().any(|(_, name)| name == it));
    all.extend(missing.map(|role| grant(role, &logins.name)));
    if !is_member {
        all.push(grant(&logins.name, second_name));
    }
    Ok(all)
}

async fn settings(
    session: &Session,
    logins: &Logins,
    second: u32,
    second_name: &str,
) -> Result<Vec<String>, EngineError> {
    let query = "SELECT setrole, d.datname, setconfig FROM pg_db_role_setting \
         LEFT JOIN pg_database d ON d.oid = setdatabase WHERE setrole IN ($1, $2)";
    let rows = session
        .rows(
            "compare the application's logins",
            query,
            &[&logins.owner, &second],
        )
        .await?;
    let (mut wanted, mut has) = (Settings::new(), Settings::new());
    for row in &rows {
        let role: u32 = get(row, "setrole")?;
        let settings: Vec<String> = get(row, "setconfig")?;
        let settings = settings.iter().filter_map(|it| it.split_once('='));
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let list = if role == second { &mut has } else { &mut wanted };
        list.entry(get(row, "datname")?).or_default().extend(settings);
    }
    // It becomes the owner when a session begins, unless the owner becomes somebody else.
    wanted
        .entry(None)
        .or_default()
        .entry("role".to_owned())
        .or_insert_with(|| logins.name.clone());
    Ok(differences(&wanted, &has, second_name))
}

fn differences(wanted: &Settings, has: &Settings, role: &str) -> Vec<String> {
    let alter = |database: &Option<String>, what: String| {
        let place = database.as_ref().map(|it| format!(" IN DATABASE {}", quoted(it)));
        format!("ALTER ROLE {}{} {what}", quoted(role), place.unwrap_or_default())
    };
    let of = |settings: &Settings, database: &Option<String>, key: &str| {
        settings.get(database).and_then(|it| it.get(key)).cloned()
    };
    let mut all = Vec::new();
    for (database, settings) in wanted {
        for (key, value) in settings {
            if of(has, database, key).as_ref() != Some(value) {
                all.push(alter(
                    database,
                    format!("SET {} TO {}", name(key), assigned(key, value)),
                ));
            }
        }
    }
    for (database, settings) in has {
        for key in settings.keys() {
            if of(wanted, database, key).is_none() {
                all.push(alter(database, format!("RESET {}", name(key))));
            }
        }
    }
    all
}

/// Name of a setting; that of an extension has two parts.
fn name(key: &str) -> String {
    key.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

fn assigned(key: &str, value: &str) -> String {
    if !LISTS.iter().any(|it| it.eq_ignore_ascii_case(key)) {
        return literal(value);
    }
    let elements: Vec<String> = elements(value).iter().map(|it| literal(it)).collect();
    if elements.is_empty() {
        return "''".to_owned();
    }
    elements.join(", ")
}

/// Elements of a list of identifiers, without their quotes.
fn elements(list: &str) -> Vec<String> {
    let (mut all, mut element, mut inside) = (Vec::new(), String::new(), false);
    let mut begun = false;
    let mut characters = list.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if inside && characters.peek() == Some(&'"') => {
                characters.next();
                element.push('"');
            }
            '"' => (inside, begun) = (!inside, true),
            ',' if !inside => {
                all.push(std::mem::take(&mut element));
                begun = true;
            }
            ' ' if !inside => {}
            other => {
                element.push(other);
                begun = true;
            }
        }
    }
    if begun {
        all.push(element);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_taken_apart_and_each_element_is_a_literal() {
        for (value, expected) in [
            ("", "''"),
            ("\"$user\", public", "'$user', 'public'"),
            ("\"\"", "''"),
            ("\"a,b\", \"c\"\"d\"", "'a,b', 'c\"d'"),
            ("\"o'clock\"", "'o''clock'"),
        ] {
            assert_eq!(assigned("search_path", value), expected, "{value}");
        }
        assert_eq!(assigned("application_name", "a, b"), "'a, b'");
        assert_eq!(assigned("application_name", r"a\'b"), r" E'a\\''b'");
    }

    #[test]
    fn only_differences_are_written() {
        let of = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let wanted = Settings::from([(None, of("role", "app")), (Some("a\"b".into()), of("x.y", "1"))]);
        let has = Settings::from([
            (None, of("role", "app")),
            (Some("c".into()), of("work_mem", "1MB")),
        ]);
        assert_eq!(
            differences(&wanted, &has, "second"),
            [
                r#"ALTER ROLE "second" IN DATABASE "a""b" SET "x"."y" TO '1'"#,
                r#"ALTER ROLE "second" IN DATABASE "c" RESET "work_mem""#,
            ]
        );
        assert_eq!(differences(&wanted, &wanted, "second"), [""; 0]);
    }
}
