//! What only MySQL can do, or do in this way.

use std::fs;
use std::time::Duration;

use crate::client::Client;
use crate::engines::Prerequisites;
use crate::member::{Member, wait};

pub(crate) const TESTS: &[(&str, crate::Real)] = &[
    (
        "service::a_new_member_serves_the_application",
        a_new_member_serves_the_application,
    ),
    (
        "service::an_application_reaches_no_other_database",
        an_application_reaches_no_other_database,
    ),
    (
        "service::only_the_engines_own_user_administers",
        only_the_engines_own_user_administers,
    ),
    (
        "service::metrics_follow_the_database",
        metrics_follow_the_database,
    ),
    (
        "credentials::hostile_passwords_are_passwords",
        hostile_passwords_are_passwords,
    ),
    (
        "volume::a_lost_server_uuid_is_not_made_up",
        a_lost_server_uuid_is_not_made_up,
    ),
];

const PASSWORD: &str = "first p@ss";

/// A statement of the administrator, tried as a user of the system.
pub(crate) fn administer(member: &Member, uid: u32, statement: &str) -> Result<String, String> {
    let socket = format!("--socket={}/run/dbclaim/mysqld.sock", member.root.display());
    let execute = format!("--execute={statement}");
    let output = member.inside(
        uid,
        &[
            "/usr/bin/mysql",
            "--no-defaults",
            "--user=root",
            "--batch",
            "--skip-column-names",
            &socket,
            &execute,
        ],
    );
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

fn a_new_member_serves_the_application(needs: &Prerequisites) {
    let member = Member::started(needs);
    let client = Client::connect(&member, PASSWORD).unwrap();
    for (question, answer) in [
        ("SELECT CURRENT_USER(), DATABASE()", "shopkeeper@%|orders"),
        (
            "SELECT @@character_set_database, @@collation_database",
            "utf8mb4|utf8mb4_0900_ai_ci",
        ),
        ("SELECT @@gtid_mode, @@log_bin, @@innodb_doublewrite", "ON|1|ON"),
        ("SELECT @@session.sql_mode LIKE '%STRICT_TRANS_TABLES%'", "1"),
        (
            "CREATE TABLE item (name text); INSERT INTO item VALUES ('grün 🍵'); SELECT name FROM item",
            "grün 🍵",
        ),
        (
            "CREATE TEMPORARY TABLE t (id int); INSERT INTO t VALUES (1); SELECT id FROM t",
            "1",
        ),
    ] {
        assert_eq!(client.sql(question).as_deref(), Ok(answer), "{question}");
    }
    let identity = member.identity();
    assert_eq!(
        (identity["claim"].as_str(), identity["major"].as_str()),
        (Some("shop/orders"), Some("9.7"))
    );
    let uuid = client.sql("SELECT @@server_uuid").unwrap();
    assert_eq!(identity["initialized"]["systemIdentifier"], uuid);
    let plugin = "SELECT plugin FROM mysql.user WHERE user = 'shopkeeper'";
    assert_eq!(
        administer(&member, needs.uid, plugin).as_deref(),
        Ok("caching_sha2_password")
    );
    let denied = member.sql("wrong", "SELECT 1").unwrap_err();
    assert!(denied.contains("Access denied"), "{denied}");
    assert!(!member.log().contains(PASSWORD), "a password is in the log");
}

/// In a grant, `_` stands for any character.
fn an_application_reaches_no_other_database(needs: &Prerequisites) {
    let mut member = Member::new(needs);
    member.write_config(|config| config["database"] = "my_shop".into(), "");
    member.start();
    member.wait_ready();
    administer(
        &member,
        needs.uid,
        "CREATE DATABASE myXshop; CREATE TABLE myXshop.secret (id int)",
    )
    .unwrap();
    let client = Client::connect(&member, PASSWORD).unwrap();
    assert_eq!(
        client
            .sql("CREATE TABLE item (id int); SELECT count(*) FROM item")
            .as_deref(),
        Ok("0")
    );
    for statement in [
        "SELECT * FROM myXshop.secret",
        "SELECT * FROM dbclaim.heartbeat",
        "SELECT * FROM mysql.user",
        "SET GLOBAL max_connections = 5",
        "SET PERSIST max_connections = 5",
        "CREATE USER other IDENTIFIED BY 'x'",
        "SHUTDOWN",
        "SELECT 1 INTO OUTFILE '/tmp/x'",
    ] {
        let said = client.sql(statement).expect_err(statement);
        assert!(said.contains("denied"), "{statement}: {said}");
    }
    assert_eq!(client.sql("SHOW DATABASES LIKE '%hop'").as_deref(), Ok("my_shop"));
}

fn only_the_engines_own_user_administers(needs: &Prerequisites) {
    let member = Member::started(needs);
    assert_eq!(
        administer(&member, needs.uid, "SELECT CURRENT_USER()").as_deref(),
        Ok("root@localhost")
    );
    let said = administer(&member, 1234, "SELECT 1").unwrap_err();
    assert!(said.contains("Access denied"), "{said}");
    let accounts = "SELECT host, plugin FROM mysql.user WHERE user = 'root'";
    assert_eq!(
        administer(&member, needs.uid, accounts).as_deref(),
        Ok("localhost\tauth_socket")
    );
}

fn metrics_follow_the_database(needs: &Prerequisites) {
    let member = Member::started(needs);
    for (name, value) in [
        ("mysql_up", 1.0),
        ("dbclaim_agent_ready", 1.0),
        ("dbclaim_agent_write_test_ok", 1.0),
        ("dbclaim_agent_engine_exits_total", 0.0),
        ("mysql_row_lock_waiting", 0.0),
    ] {
        assert_eq!(member.metric(name), Some(value), "{name}");
    }
    let names = [
        "mysql_database_size_bytes",
        "mysql_redo_written_bytes_total",
        "mysql_binlog_size_bytes",
    ];
    let before = names.map(|name| member.metric(name));
    let client = Client::connect(&member, PASSWORD).unwrap();
    client.sql("CREATE TABLE bulk (text text)").unwrap();
    client.sql(needs.engine.dialect().bulk).unwrap();
    for (name, before) in names.iter().zip(before) {
        assert!(
            before.is_some() && member.metric(name) > before,
            "{name}: {before:?}"
        );
    }
    let (_, page) = member.get("/metrics").unwrap();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(page.contains(&format!("# TYPE {name} ")), "{name} has no type");
        assert!(
            name.ends_with("_total") == page.contains(&format!("# TYPE {name} counter")),
            "{name}"
        );
    }
}

fn hostile_passwords_are_passwords(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    let passwords = [
        "'; DROP USER root@localhost; -- ",
        "\\",
        "\\' OR 1=1 #",
        "\"`$(reboot)\u{1a}\n\tgrün",
        "' IDENTIFIED WITH mysql_no_login; --",
        "🍵%_",
    ];
    for (generation, password) in passwords.iter().enumerate() {
        let credentials = serde_json::json!({"v": 1, "generation": generation + 2, "password": password});
        member.write_credentials(&credentials.to_string());
        wait(Duration::from_secs(60), &format!("{password:?} works"), || {
            let worked = member.sql(password, "SELECT 1");
            worked
                .map(drop)
                .map_err(|error| format!("{error}\n{}", member.log()))
        });
    }
    let accounts = "SELECT COUNT(*) FROM mysql.user WHERE user NOT LIKE 'mysql.%'";
    assert_eq!(administer(&member, needs.uid, accounts).as_deref(), Ok("2"));
}

/// The server itself would start with a new one.
fn a_lost_server_uuid_is_not_made_up(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    member
        .sql(PASSWORD, "CREATE TABLE item AS SELECT 1 AS id")
        .unwrap();
    member.stop();
    let (there, aside) = (member.data().join("auto.cnf"), member.root.join("auto.cnf"));
    fs::rename(&there, &aside).unwrap();
    member.start();
    member.wait_readyz(503, "DataIncomplete");
    assert!(!there.exists());
    fs::rename(&aside, &there).unwrap();
    member.wait_ready();
    assert_eq!(
        member.sql(PASSWORD, "SELECT count(*) FROM item").as_deref(),
        Ok("1")
    );
}
