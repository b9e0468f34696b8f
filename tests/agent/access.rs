//! Whether an application that uses the Secret can work: what keeps it out is said, what it did itself is set right or
//! said, and the engine that accepts no connections is not ready.

use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::client::Client;
use crate::engines::{Engine, Prerequisites};
use crate::member::{Member, wait};

pub(crate) const TESTS: &[(&str, crate::Real)] = &[
    (
        "access::what_keeps_an_application_out_is_said_until_it_is_undone",
        what_keeps_an_application_out_is_said,
    ),
    (
        "access::a_dropped_database_is_said_and_not_created_again",
        a_dropped_database_is_said,
    ),
    (
        "access::an_engine_that_is_frozen_is_not_ready",
        an_engine_that_is_frozen_is_not_ready,
    ),
];

pub(crate) const POSTGRES: &[(&str, crate::Real)] = &[(
    "access::common_tools_drop_and_create_the_database",
    common_tools_drop_and_create_the_database,
)];

const PASSWORD: &str = "first p@ss";
const METRIC: &str = "dbclaim_agent_application_ok";

fn wait_metric(member: &Member, admitted: bool, what: &str) {
    wait(Duration::from_secs(60), what, || match member.metric(METRIC) {
        Some(is) if (is > 0.5) == admitted => Ok(()),
        other => Err(format!("{other:?}\n{}", member.log())),
    });
}

/// Statements of an administrator, the reason and a word of the message, and the statements that undo it.
type Refusal = (&'static str, &'static str, &'static str, &'static str);

const POSTGRES_REFUSES: &[Refusal] = &[
    (
        "ALTER ROLE shopkeeper NOLOGIN",
        "LoginRefused",
        "may not log in",
        "ALTER ROLE shopkeeper LOGIN",
    ),
    (
        "ALTER ROLE shopkeeper VALID UNTIL '2001-01-01'",
        "LoginRefused",
        "has expired",
        "ALTER ROLE shopkeeper VALID UNTIL 'infinity'",
    ),
    (
        "ALTER ROLE shopkeeper CONNECTION LIMIT 0",
        "LoginRefused",
        "connection limit",
        "ALTER ROLE shopkeeper CONNECTION LIMIT -1",
    ),
    (
        "ALTER DATABASE orders ALLOW_CONNECTIONS false",
        "LoginRefused",
        "allows no connections",
        "ALTER DATABASE orders ALLOW_CONNECTIONS true",
    ),
    (
        "ALTER DATABASE orders CONNECTION LIMIT 0",
        "LoginRefused",
        "connection limit",
        "ALTER DATABASE orders CONNECTION LIMIT -1",
    ),
    (
        "REVOKE CONNECT ON DATABASE orders FROM shopkeeper",
        "LoginRefused",
        "may not connect",
        "GRANT CONNECT ON DATABASE orders TO shopkeeper",
    ),
    (
        "ALTER DATABASE orders SET default_transaction_read_only = on",
        "WriteTestFailed",
        "read-only",
        "ALTER DATABASE orders RESET default_transaction_read_only",
    ),
    (
        "ALTER ROLE shopkeeper SET default_transaction_read_only = true",
        "WriteTestFailed",
        "read-only",
        "ALTER ROLE shopkeeper RESET default_transaction_read_only",
    ),
];

const MYSQL_REFUSES: &[Refusal] = &[
    (
        "ALTER USER shopkeeper ACCOUNT LOCK",
        "LoginRefused",
        "is locked",
        "ALTER USER shopkeeper ACCOUNT UNLOCK",
    ),
    (
        "ALTER USER shopkeeper PASSWORD EXPIRE",
        "LoginRefused",
        "has expired",
        "UPDATE mysql.user SET password_expired = 'N' WHERE user = 'shopkeeper'; FLUSH PRIVILEGES",
    ),
    (
        "SET GLOBAL offline_mode = ON",
        "LoginRefused",
        "offline mode",
        "SET GLOBAL offline_mode = OFF",
    ),
    (
        "REVOKE ALL PRIVILEGES ON orders.* FROM shopkeeper",
        "LoginRefused",
        "may not write",
        "GRANT ALL PRIVILEGES ON orders.* TO shopkeeper",
    ),
    (
        "SET GLOBAL read_only = ON",
        "WriteTestFailed",
        "read-only",
        "SET GLOBAL read_only = OFF",
    ),
];

fn what_keeps_an_application_out_is_said(needs: &Prerequisites) {
    let member = Member::started(needs);
    let refusals = match needs.engine {
        Engine::Postgres => POSTGRES_REFUSES,
        Engine::Mysql => MYSQL_REFUSES,
    };
    for (act, reason, words, undo) in refusals {
        wait_metric(&member, true, &format!("all is well before {act}"));
        let said = member.log().len();
        member.administer("postgres", act).unwrap();
        wait_metric(&member, false, act);
        let log = member.log().split_off(said);
        assert!(log.contains(reason) && log.contains(words), "{act}: {log}");
        let works = member.sql(PASSWORD, "CREATE TABLE probe (id int PRIMARY KEY)");
        assert!(works.is_err(), "{act}: the application notices nothing");
        member.administer("postgres", undo).unwrap();
    }
    wait_metric(&member, true, "all is well at the end");
    member
        .sql(PASSWORD, "CREATE TABLE probe (id int PRIMARY KEY)")
        .unwrap();
    // The application changes its own password: the Secret is the truth.
    let change = match needs.engine {
        Engine::Postgres => "ALTER ROLE shopkeeper PASSWORD 'another'",
        Engine::Mysql => "ALTER USER USER() IDENTIFIED BY 'another'",
    };
    member.sql(PASSWORD, change).unwrap();
    member.wait_log("set back to the Secret's");
    assert_eq!(member.sql(PASSWORD, "SELECT 1").as_deref(), Ok("1"));
    member.sql("another", "SELECT 1").unwrap_err();
}

fn a_dropped_database_is_said(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    let query = |statements: &str, member: &Member| match needs.engine {
        Engine::Postgres => member.tool("psql", PASSWORD, &["--dbname=postgres", "-c", statements]),
        Engine::Mysql => mysql_without_database(member, statements),
    };
    wait_metric(&member, true, "all is well");
    query("DROP DATABASE orders", &member).unwrap();
    wait_metric(&member, false, "the database is missing");
    assert!(member.log().contains("DatabaseMissing"), "{}", member.log());
    // Neither a restart nor other credentials create an empty one.
    member.kill_everything();
    member.start();
    wait_metric(&member, false, "the database is still missing");
    member.write_credentials(r#"{"v":1,"generation":2,"password":"first p@ss"}"#);
    wait(Duration::from_secs(60), "generation 2", || {
        let state = std::fs::read_to_string(member.volume().join("state.json")).unwrap();
        if state.contains("\"credentials\":2") {
            Ok(())
        } else {
            Err(state)
        }
    });
    member.sql(PASSWORD, "SELECT 1").unwrap_err();
    query("CREATE DATABASE orders", &member).unwrap();
    wait_metric(&member, true, "the database is there");
    member
        .sql(PASSWORD, "CREATE TABLE item (id int PRIMARY KEY)")
        .unwrap();
}

fn mysql_without_database(member: &Member, statements: &str) -> Result<String, String> {
    let (port, password) = (
        format!("--port={}", member.port),
        format!("--password={PASSWORD}"),
    );
    let execute = format!("--execute={statements}");
    let output = member.inside(
        member.needs.uid,
        &[
            "/usr/bin/mysql",
            "--no-defaults",
            "--host=127.0.0.1",
            "--user=shopkeeper",
            "--get-server-public-key",
            &port,
            &password,
            &execute,
        ],
    );
    if output.status.success() {
        Ok(String::new())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn an_engine_that_is_frozen_is_not_ready(needs: &Prerequisites) {
    let member = Member::started(needs);
    let client = Client::connect(&member, PASSWORD).unwrap();
    let server = member.postmaster();
    kill_process(server, Signal::STOP).unwrap();
    let frozen = || match member.get("/readyz") {
        Some((503, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait(Duration::from_secs(30), "it is not ready", frozen);
    member.wait_log("EngineUnreachable");
    if needs.engine == Engine::Postgres {
        assert_eq!(
            client.sql("SELECT 1").as_deref(),
            Ok("1"),
            "an open session answers all the while"
        );
    }
    kill_process(server, Signal::CONT).unwrap();
    member.wait_ready();
}

/// What `pg_restore --clean --create`, `rails db:reset` and test suites do.
fn common_tools_drop_and_create_the_database(needs: &Prerequisites) {
    let member = Member::started(needs);
    member
        .sql(
            PASSWORD,
            "CREATE TABLE item (id int); INSERT INTO item VALUES (7)",
        )
        .unwrap();
    let dump = member.root.join("orders.dump");
    let dump = dump.to_str().unwrap();
    member
        .tool(
            "pg_dump",
            PASSWORD,
            &["--format=custom", "--file", dump, "orders"],
        )
        .unwrap();
    member.sql(PASSWORD, "INSERT INTO item VALUES (8)").unwrap();
    let restore = [
        "--clean",
        "--create",
        "--exit-on-error",
        "--dbname=postgres",
        dump,
    ];
    member.tool("pg_restore", PASSWORD, &restore).unwrap();
    assert_eq!(member.sql(PASSWORD, "SELECT id FROM item").as_deref(), Ok("7"));
    member.tool("dropdb", PASSWORD, &["orders"]).unwrap();
    member.tool("createdb", PASSWORD, &["orders"]).unwrap();
    let closed = "SELECT has_database_privilege('public', 'orders', 'connect')";
    wait(
        Duration::from_secs(60),
        "the new database is closed to others",
        || match member.sql(PASSWORD, closed).as_deref() {
            Ok("f") => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
    wait_metric(&member, true, "all is well");
    for program in ["createdb", "dropdb"] {
        member.tool(program, PASSWORD, &["test_orders"]).unwrap();
    }
    // Given once: who takes the right away is not fought.
    member
        .administer("postgres", "ALTER ROLE shopkeeper NOCREATEDB")
        .unwrap();
    member
        .sql(PASSWORD, "ALTER ROLE shopkeeper PASSWORD 'x'")
        .unwrap();
    member.wait_log("set back to the Secret's");
    member.tool("createdb", PASSWORD, &["test_orders"]).unwrap_err();
}
