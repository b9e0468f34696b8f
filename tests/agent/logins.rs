//! The two logins of PostgreSQL: whoever uses the Secret is the owner itself, and the second one is its equal. The
//! catalogue says so after a walk over what a superuser and the application may do, and rotations.

use std::time::Duration;

use jiff::Timestamp;
use rustix::process::{Signal, kill_process};
use serde_json::json;

use crate::client::Client;
use crate::engines::Prerequisites;
use crate::member::{Member, wait};

pub(crate) const POSTGRES: &[(&str, crate::Real)] = &[
    (
        "logins::both_are_equal_by_the_catalogue_after_a_walk_of_rotations",
        both_are_equal_after_a_walk,
    ),
    (
        "logins::what_only_the_owner_may_do_works_with_the_secret_at_any_time",
        what_only_the_owner_may_do,
    ),
    (
        "logins::those_of_an_older_agent_are_taken_over",
        those_of_an_older_agent_are_taken_over,
    ),
];

const OWNER: &str = "shopkeeper";
const SECOND: &str = "dbclaim_shopkeeper";

fn password(generation: u64) -> String {
    format!("of {generation}")
}

/// The credentials of this generation are in the Secret, and those before are valid.
fn rotate(member: &mut Member, generation: u64) {
    member.login = if generation.is_multiple_of(2) {
        SECOND
    } else {
        OWNER
    };
    let login = (member.login != OWNER).then_some(member.login);
    let file = json!({"v": 1, "generation": generation, "password": password(generation), "login": login,
        "previous": {"password": password(generation - 1)}});
    member.write_credentials(&file.to_string());
    wait(Duration::from_secs(60), "the new credentials", || {
        let answer = member.sql(&password(generation), "SELECT 1");
        answer
            .map(drop)
            .map_err(|error| format!("{error}\n{}", member.log()))
    });
}

fn started(needs: &Prerequisites) -> Member {
    let mut member = Member::new(needs);
    member.write_credentials(&json!({"v": 1, "generation": 1, "password": password(1)}).to_string());
    member.start();
    member.wait_ready();
    member
}

/// By whom a statement is run.
#[derive(Clone, Copy, Debug)]
enum By {
    Superuser,
    Secret,
    Previous,
}

/// What may happen to roles, by the name in the Secret (`{name}`) or the other one (`{other}`).
const ACTS: &[(By, &str)] = &[
    (By::Superuser, "ALTER ROLE {name} REPLICATION"),
    (By::Superuser, "ALTER ROLE {name} BYPASSRLS NOREPLICATION"),
    (By::Superuser, "ALTER ROLE {name} CONNECTION LIMIT 50"),
    (By::Superuser, "ALTER ROLE {name} VALID UNTIL '2099-01-01'"),
    (
        By::Superuser,
        "ALTER ROLE {name} SET search_path = \"$user\", public, \"a b\"",
    ),
    (
        By::Superuser,
        "ALTER ROLE {name} IN DATABASE orders SET work_mem = '5MB'",
    ),
    (By::Superuser, "ALTER ROLE {name} IN DATABASE orders RESET ALL"),
    (By::Superuser, "GRANT auditor TO {name}"),
    (By::Superuser, "GRANT pg_monitor TO {other}"),
    (By::Superuser, "REVOKE pg_signal_backend FROM {name}"),
    (
        By::Superuser,
        "ALTER DEFAULT PRIVILEGES FOR ROLE {name} GRANT SELECT ON TABLES TO auditor",
    ),
    (
        By::Secret,
        "ALTER ROLE CURRENT_USER SET statement_timeout = '50s'",
    ),
    (
        By::Secret,
        "ALTER ROLE CURRENT_USER SET application_name = 'it''s \\ mine'",
    ),
    (By::Secret, "CREATE TABLE made_{count} (id int)"),
    (By::Secret, "CREATE SCHEMA made_{count} AUTHORIZATION {name}"),
    (By::Previous, "CREATE TABLE made_{count} (id int)"),
    (
        By::Previous,
        "SET ROLE NONE; CREATE SCHEMA made_{count}; CREATE TABLE made_{count}.t (id int)",
    ),
    (By::Previous, "SET ROLE NONE; ALTER ROLE SESSION_USER RESET ALL"),
    (
        By::Previous,
        "SET ROLE NONE; ALTER ROLE SESSION_USER SET work_mem = '9MB'",
    ),
];

/// What the catalogue says of a login that must not differ from the other: one row each.
const LOGINS_DIFFER: &str = "\
    SELECT 'attributes' FROM pg_roles o, pg_roles s WHERE o.rolname = '{name}' AND s.rolname = '{other}' AND \
      ROW(o.rolsuper, o.rolinherit, o.rolcreaterole, o.rolcreatedb, o.rolcanlogin, o.rolreplication, \
        o.rolbypassrls, o.rolconnlimit, coalesce(o.rolvaliduntil, 'infinity')) <> \
      ROW(s.rolsuper, s.rolinherit, s.rolcreaterole, s.rolcreatedb, s.rolcanlogin, s.rolreplication, \
        s.rolbypassrls, s.rolconnlimit, coalesce(s.rolvaliduntil, 'infinity')) \
    UNION ALL SELECT 'setting ' || coalesce(o.setting, s.setting) \
      FROM (SELECT setdatabase, unnest(setconfig) AS setting FROM pg_db_role_setting \
          WHERE setrole = '{name}'::regrole UNION SELECT 0::oid, 'role={name}') o \
      FULL JOIN (SELECT setdatabase, unnest(setconfig) AS setting FROM pg_db_role_setting \
          WHERE setrole = '{other}'::regrole) s USING (setdatabase, setting) \
      WHERE o.setting IS NULL OR s.setting IS NULL \
    UNION ALL SELECT 'member of ' || roleid::regrole FROM pg_auth_members \
      WHERE member = '{other}'::regrole AND roleid <> '{name}'::regrole \
        AND NOT pg_has_role('{name}', roleid, 'MEMBER') \
    UNION ALL SELECT 'no member of the owner' WHERE NOT pg_has_role('{other}', '{name}', 'USAGE') \
    UNION ALL SELECT 'lacks ' || it FROM unnest('{pg_read_all_stats,pg_signal_backend}'::text[]) it \
      WHERE NOT pg_has_role('{name}', it, 'USAGE') \
    UNION ALL SELECT 'owns ' || classid::regclass || ' ' || objid FROM pg_shdepend \
      WHERE refclassid = 'pg_authid'::regclass AND refobjid = '{other}'::regrole AND deptype = 'o' \
        AND classid <> 'pg_default_acl'::regclass \
    UNION ALL SELECT 'database of ' || datdba::regrole FROM pg_database \
      WHERE datname = 'orders' AND datdba <> '{name}'::regrole";

/// What the owner has, whatever its name is.
const OWNER_HAS: &str = "\
    SELECT r.oid, rolreplication, rolbypassrls, rolconnlimit, rolvaliduntil, \
      (SELECT array_agg((setdatabase, setconfig) ORDER BY setdatabase) FROM pg_db_role_setting WHERE setrole = r.oid), \
      (SELECT array_agg(roleid::regrole::text ORDER BY roleid) FROM pg_auth_members \
        WHERE member = r.oid AND roleid <> 'pg_signal_backend'::regrole), \
      (SELECT count(*) FROM pg_default_acl WHERE defaclrole = r.oid), \
      (SELECT count(*) FROM pg_class WHERE relowner = r.oid AND relname LIKE 'made%') \
    FROM pg_roles r WHERE rolname = '{name}'";

fn named(member: &Member, text: &str) -> String {
    let other = if member.login == OWNER { SECOND } else { OWNER };
    text.replace("{name}", member.login).replace("{other}", other)
}

fn wait_equal(member: &Member, after: &dyn std::fmt::Debug) {
    wait(
        Duration::from_secs(60),
        &format!("no difference after {after:?}"),
        || match member
            .administer("orders", &named(member, LOGINS_DIFFER))?
            .as_str()
        {
            "" => Ok(()),
            differences => Err(format!("{differences}\n{}", member.log())),
        },
    );
}

fn both_are_equal_after_a_walk(needs: &Prerequisites) {
    let mut member = started(needs);
    member
        .administer(
            "orders",
            "CREATE ROLE auditor; CREATE SCHEMA \"a b\"; GRANT ALL ON SCHEMA \"a b\" TO PUBLIC",
        )
        .unwrap();
    rotate(&mut member, 2);
    let (mut dice, mut way) = (0x9e37_79b9_u64, Vec::new());
    for generation in 2..6 {
        if generation > 2 {
            let before = member.administer("orders", &named(&member, OWNER_HAS)).unwrap();
            rotate(&mut member, generation);
            let after = member.administer("orders", &named(&member, OWNER_HAS)).unwrap();
            assert_eq!(
                before, after,
                "the owner of generation {generation}, after {way:?}"
            );
        }
        for count in 0..8 {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            let (by, act) = ACTS[usize::try_from(dice % ACTS.len() as u64).unwrap()];
            let act = named(&member, act).replace("{count}", &format!("{generation}_{count}"));
            match by {
                By::Superuser => member.administer("orders", &act).map(drop),
                By::Secret => member.sql(&password(generation), &act).map(drop),
                By::Previous => {
                    let now = member.login;
                    member.login = if now == OWNER { SECOND } else { OWNER };
                    let outcome = member.sql(&password(generation - 1), &act).map(drop);
                    member.login = now;
                    outcome
                }
            }
            .unwrap_or_else(|error| panic!("{by:?}: {act}: {error}, after {way:?}"));
            way.push((by, act));
        }
        wait_equal(&member, &way);
    }
}

fn what_only_the_owner_may_do(needs: &Prerequisites) {
    let mut member = started(needs);
    member.sql(&password(1), "CREATE TABLE item (id int)").unwrap();
    let before = Client::connect(&member, &password(1)).unwrap();
    rotate(&mut member, 2);
    wait_equal(&member, &"a rotation");
    let client = Client::connect(&member, &password(2)).unwrap();
    let who = "SELECT session_user = current_user, current_user, \
        (SELECT tableowner FROM pg_tables WHERE tablename = 'item')";
    assert_eq!(client.sql(who).unwrap(), format!("t|{SECOND}|{SECOND}"));
    for act in [
        "ALTER TABLE item OWNER TO {name}",
        "CREATE SCHEMA made AUTHORIZATION {name}",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {name} GRANT SELECT ON TABLES TO {name}",
        "ALTER ROLE {name} SET work_mem = '5MB'",
        "REASSIGN OWNED BY {name} TO {name}",
    ] {
        let act = named(&member, act);
        client.sql(&act).unwrap_or_else(|error| panic!("{act}: {error}"));
    }
    // Sessions of the previous credentials, from before the rotation and after it.
    member.login = OWNER;
    let second = Client::connect(&member, &password(1)).unwrap();
    assert_eq!(
        second.sql("SELECT session_user, current_user").unwrap(),
        format!("{OWNER}|{SECOND}")
    );
    for (one, other) in [
        (&client, &second),
        (&second, &client),
        (&client, &before),
        (&before, &second),
    ] {
        let pid = other.sql("SELECT pg_backend_pid()").unwrap();
        let seen = one
            .sql(&format!("SELECT query FROM pg_stat_activity WHERE pid = {pid}"))
            .unwrap();
        assert_eq!(seen, "SELECT pg_backend_pid()");
        assert_eq!(
            one.sql(&format!("SELECT pg_cancel_backend({pid})")).as_deref(),
            Ok("t")
        );
    }
    // What PostgreSQL cannot do is documented in docs/using-a-claim.md.
    assert_eq!(
        second.sql("SELECT session_user = current_user").as_deref(),
        Ok("f")
    );
    second
        .sql(&format!("CREATE SCHEMA refused AUTHORIZATION {OWNER}"))
        .unwrap_err();
    let pid = second.sql("SELECT pg_backend_pid()").unwrap();
    assert_eq!(
        client
            .sql(&format!("SELECT pg_terminate_backend({pid})"))
            .as_deref(),
        Ok("t")
    );
}

/// Before names were swapped, the second login stayed second, and the first one had no password.
fn those_of_an_older_agent_are_taken_over(needs: &Prerequisites) {
    let mut member = started(needs);
    member.sql(&password(1), "CREATE TABLE item (id int)").unwrap();
    let open = Client::connect(&member, &password(1)).unwrap();
    let agent = member.supervisor();
    kill_process(agent, Signal::STOP).unwrap();
    member
        .administer(
            "postgres",
            &format!(
                "CREATE ROLE {SECOND} LOGIN INHERIT IN ROLE {OWNER} PASSWORD '{}'; ALTER ROLE {SECOND} SET role TO {OWNER}; \
                 ALTER ROLE {OWNER} PASSWORD NULL",
                password(2)
            ),
        )
        .unwrap();
    member.login = SECOND;
    let over = Timestamp::UNIX_EPOCH;
    let file = json!({"v": 1, "generation": 2, "password": password(2), "login": SECOND, "previous": {"until": over}});
    member.write_credentials(&file.to_string());
    kill_process(agent, Signal::CONT).unwrap();
    let who = "SELECT session_user, (SELECT tableowner FROM pg_tables WHERE tablename = 'item')";
    wait(
        Duration::from_secs(60),
        "the login of the Secret owns the table",
        || match member.sql(&password(2), who) {
            Ok(seen) if seen == format!("{SECOND}|{SECOND}") => Ok(()),
            other => Err(format!("{other:?}\n{}", member.log())),
        },
    );
    assert_eq!(
        open.sql("SELECT count(*) FROM item").as_deref(),
        Ok("0"),
        "an open session stays"
    );
    member.login = OWNER;
    member.sql(&password(1), "SELECT 1").unwrap_err();
}
