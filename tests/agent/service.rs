//! A new member: initialised as decided for good, served, measured, and small.

use std::fs;
use std::time::Duration;

use crate::client::Client;
use crate::engines::Prerequisites;
use crate::member::{Member, wait};

pub(crate) const TESTS: &[(&str, crate::Real)] = &[
    (
        "service::readiness_waits_for_credentials",
        readiness_waits_for_credentials,
    ),
    (
        "service::the_engine_sees_nothing_of_the_pods_environment",
        the_engine_sees_no_environment,
    ),
    (
        "service::fencer_and_supervisor_stay_small",
        fencer_and_supervisor_stay_small,
    ),
    ("service::other_requests_are_refused", other_requests_are_refused),
];

/// Facts of PostgreSQL, and what needs a server that can be made to log.
pub(crate) const POSTGRES: &[(&str, crate::Real)] = &[
    (
        "service::a_new_member_serves_the_application",
        a_new_member_serves_the_application,
    ),
    (
        "service::the_database_is_closed_to_other_roles",
        the_database_is_closed_to_other_roles,
    ),
    (
        "service::metrics_follow_the_database",
        metrics_follow_the_database,
    ),
    (
        "service::the_engines_log_arrives_completely_and_takes_no_space",
        the_engines_log_arrives_completely,
    ),
    (
        "service::a_log_that_nobody_reads_stops_nothing",
        a_log_that_nobody_reads_stops_nothing,
    ),
];

const PASSWORD: &str = "first p@ss";

fn a_new_member_serves_the_application(needs: &Prerequisites) {
    let member = Member::started(needs);
    let client = Client::connect(&member, PASSWORD).unwrap();
    for (question, answer) in [
        ("SELECT current_user, current_database()", "shopkeeper|orders"),
        (
            "SELECT rolsuper OR rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user",
            "f|t",
        ),
        (
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'orders'",
            "shopkeeper",
        ),
        ("SHOW server_encoding", "UTF8"),
        ("SHOW data_checksums", "on"),
        (
            "CREATE TABLE item (name text); INSERT INTO item VALUES ('tea'); SELECT name FROM item",
            "tea",
        ),
    ] {
        assert_eq!(client.sql(question).as_deref(), Ok(answer), "{question}");
    }
    let (locale, expected) = match needs.major.parse::<u32>().unwrap() {
        ..17 => ("datctype, 'c'", "C.UTF-8|c"),
        17.. => ("datlocale, datlocprovider", "C.UTF-8|b"),
    };
    let locale = client.sql(&format!(
        "SELECT {locale} FROM pg_database WHERE datname = 'orders'"
    ));
    assert_eq!(locale.as_deref(), Ok(expected));
    let identity = member.identity();
    assert_eq!(identity["claim"], "shop/orders");
    assert_eq!(identity["volumeId"], "volume-7");
    assert!(
        member
            .sql("wrong", "SELECT 1")
            .unwrap_err()
            .contains("password authentication failed")
    );
    assert!(!member.log().contains(PASSWORD), "a password is in the log");
}

fn the_database_is_closed_to_other_roles(needs: &Prerequisites) {
    let member = Member::started(needs);
    let rights = "SELECT has_database_privilege('public', 'orders', 'connect'), \
        has_database_privilege('public', 'orders', 'temporary')";
    assert_eq!(member.sql(PASSWORD, rights).as_deref(), Ok("f|f"));
    let heartbeat = member
        .sql(PASSWORD, "SELECT * FROM dbclaim.heartbeat")
        .unwrap_err();
    assert!(
        heartbeat.contains("does not exist"),
        "the write test is out of sight: {heartbeat}"
    );
}

fn readiness_waits_for_credentials(needs: &Prerequisites) {
    let mut member = Member::new(needs);
    member.remove_credentials();
    member.start();
    member.wait_log("waiting for credentials");
    member.wait_readyz(503, "Starting");
    member.write_credentials("");
    member.wait_readyz(503, "Starting");
    member.write_credentials(r#"{"v":1,"generation":1,"password":"late"}"#);
    member.wait_ready();
    assert_eq!(member.sql("late", "SELECT 1").as_deref(), Ok("1"));
}

fn metrics_follow_the_database(needs: &Prerequisites) {
    let member = Member::started(needs);
    for (name, value) in [
        ("pg_up", 1.0),
        ("dbclaim_agent_ready", 1.0),
        ("dbclaim_agent_write_test_ok", 1.0),
        ("dbclaim_agent_phase{phase=\"Running\"}", 1.0),
        ("dbclaim_agent_phase{phase=\"Failed\"}", 0.0),
        ("dbclaim_agent_engine_exits_total", 0.0),
        ("pg_connections{state=\"idle in transaction\"}", 0.0),
    ] {
        assert_eq!(member.metric(name), Some(value), "{name}");
    }
    let (size, wal) = (
        member.metric("pg_database_size_bytes"),
        member.metric("pg_wal_written_bytes_total"),
    );
    let client = Client::connect(&member, PASSWORD).unwrap();
    client
        .sql("CREATE TABLE filler AS SELECT repeat('x', 500) FROM generate_series(1, 20000)")
        .unwrap();
    assert!(member.metric("pg_database_size_bytes") > size);
    assert!(member.metric("pg_wal_written_bytes_total") > wal);
    client.sql("BEGIN; SELECT 1").unwrap();
    assert_eq!(
        member.metric("pg_connections{state=\"idle in transaction\"}"),
        Some(1.0)
    );
    assert!(member.metric("pg_oldest_transaction_age_seconds") > Some(0.0));
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

fn the_engine_sees_no_environment(needs: &Prerequisites) {
    let member = Member::started(needs);
    let path = format!("/proc/{}/environ", member.postmaster().as_raw_nonzero());
    let environment = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    for name in ["SECRET_OF_THE_POD", "POD_UID", "MEMBER"] {
        assert!(!environment.contains(name), "{name} is in {environment:?}");
    }
}

fn fencer_and_supervisor_stay_small(needs: &Prerequisites) {
    let member = Member::started(needs);
    // After probes and scrapes, and a second write test's worth of time is not needed: buffers are made here.
    for _ in 0..50 {
        assert_eq!(member.get("/readyz").map(|(code, _)| code), Some(200));
        assert!(member.metric(needs.engine.dialect().up).is_some());
    }
    let anonymous = |pid: rustix::process::Pid| {
        let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let (fencer, supervisor) = (anonymous(member.fencer()), anonymous(member.supervisor()));
    println!("RssAnon: fencer {fencer} kB, supervisor {supervisor} kB");
    assert!(
        fencer + supervisor < 6 * 1024,
        "fencer {fencer} kB, supervisor {supervisor} kB"
    );
}

const CHATTER: &str = "DO $$ BEGIN FOR i IN 1..10000 LOOP RAISE LOG 'line % of many', i; END LOOP; END $$";

fn the_engines_log_arrives_completely(needs: &Prerequisites) {
    use std::os::unix::fs::MetadataExt;
    let member = Member::started(needs);
    member.sql(PASSWORD, CHATTER).unwrap();
    member.wait_log("line 10000 of many");
    assert_eq!(member.log().matches("LOG:  line ").count(), 10000);
    let log = fs::metadata(member.root.join("run/dbclaim/engine.log")).unwrap();
    assert!(
        log.blocks() * 512 < 1 << 20,
        "{} bytes of {}",
        log.blocks() * 512,
        log.size()
    );
}

fn a_log_that_nobody_reads_stops_nothing(needs: &Prerequisites) {
    let mut member = Member::new(needs);
    let (kept_unread, log) = rustix::pipe::pipe().unwrap();
    member.start_logging_to(log);
    member.wait_ready();
    member.sql(PASSWORD, CHATTER).unwrap();
    // The supervisor, which copies the log, still looks at its files, and it still stops in time.
    member.write_credentials(r#"{"v":1,"generation":2,"password":"second"}"#);
    wait(Duration::from_secs(20), "the password is changed", || {
        member.sql("second", "SELECT 1").map(drop)
    });
    member.wait_ready();
    let (code, took) = member.stop();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(10), "took {took:?}");
    drop(kept_unread);
}

fn other_requests_are_refused(needs: &Prerequisites) {
    let mut member = Member::new(needs);
    member.start();
    wait(
        Duration::from_secs(20),
        "the HTTP server answers",
        || match member.get("/") {
            Some((404, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
}
