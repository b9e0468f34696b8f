//! Configuration: taken over while it runs; what is wrong is said and breaks nothing.

use std::time::Duration;

use crate::client::Client;
use crate::member::{Member, Prerequisites, wait};

pub(crate) const TESTS: &[(&str, crate::Real)] = &[
    (
        "config::a_change_is_taken_over_without_a_restart",
        a_change_is_taken_over_without_a_restart,
    ),
    (
        "config::a_wrong_change_is_said_and_breaks_nothing",
        a_wrong_change_is_said_and_breaks_nothing,
    ),
    (
        "config::a_server_that_does_not_start_is_failed_until_it_does",
        a_server_that_does_not_start_is_failed,
    ),
    (
        "config::an_adopted_server_gets_the_newest_configuration",
        an_adopted_server_gets_the_newest,
    ),
    (
        "config::an_unknown_engine_is_blocked",
        an_unknown_engine_is_blocked,
    ),
];

const PASSWORD: &str = "first p@ss";

fn generation(member: &mut Member, generation: &str, settings: &str) {
    member.write_config(|config| config["generation"] = generation.into(), settings);
    member.wait_log(&format!(
        "\"message\":\"configuration read\",\"generation\":\"{generation}\""
    ));
}

fn a_change_is_taken_over_without_a_restart(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    let client = Client::connect(&member, PASSWORD).unwrap();
    let postmaster = member.postmaster();
    generation(&mut member, "g2", "work_mem = '7MB'\nmax_connections = 77");
    wait(
        Duration::from_secs(10),
        "the setting is in force",
        || match client.sql("SHOW work_mem") {
            Ok(value) if value == "7MB" => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
    assert_eq!(member.metric("dbclaim_agent_pending_restart_settings"), Some(1.0));
    assert!(member.log().contains("max_connections"));
    assert_eq!(member.postmaster(), postmaster);
    member.stop();
    member.start();
    member.wait_ready();
    assert_eq!(member.metric("dbclaim_agent_pending_restart_settings"), Some(0.0));
    assert_eq!(member.sql(PASSWORD, "SHOW max_connections").as_deref(), Ok("77"));
}

fn a_wrong_change_is_said_and_breaks_nothing(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    let postmaster = member.postmaster();
    generation(&mut member, "g2", "work_mem = '7MB'\nno_such_setting = 1");
    member.wait_log("the engine keeps its old configuration");
    assert!(member.log().contains("no_such_setting"), "{}", member.log());
    member.wait_ready();
    assert_eq!(member.postmaster(), postmaster);
    generation(&mut member, "g3", "work_mem = '9MB'");
    wait(
        Duration::from_secs(10),
        "the repaired configuration is in force",
        || match member.sql(PASSWORD, "SHOW work_mem").as_deref() {
            Ok("9MB") => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
}

fn a_server_that_does_not_start_is_failed(needs: &Prerequisites) {
    let mut member = Member::new(needs);
    member.write_config(|_| {}, "shared_buffers = 'a lot'");
    member.start();
    member.wait_readyz(503, "Failed: EngineFailed: ");
    let state = r#""phase":"Failed","reason":"EngineFailed""#;
    let said: Vec<String> = member
        .log()
        .lines()
        .filter(|line| line.contains(state))
        .map(str::to_owned)
        .collect();
    assert!(
        said[0].contains(r#"invalid value for parameter \"shared_buffers\""#),
        "{said:?}"
    );
    // The engine's lines are for those who may read the report.
    assert!(!member.get("/readyz").unwrap().1.contains("shared_buffers"));
    let exits = || member.metric("dbclaim_agent_engine_exits_total");
    wait(Duration::from_secs(30), "more tries", || match exits() {
        Some(5.0..) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(
        member.log().matches(state).count(),
        1,
        "the same failure is said once"
    );
    member.write_config(|config| config["generation"] = "g2".into(), "");
    member.wait_ready();
    assert_eq!(member.metric("dbclaim_agent_phase{phase=\"Running\"}"), Some(1.0));
    assert_eq!(member.sql(PASSWORD, "SELECT 1").as_deref(), Ok("1"));
}

fn an_adopted_server_gets_the_newest(needs: &Prerequisites) {
    use rustix::process::{Signal, kill_process};
    let mut member = Member::started(needs);
    let supervisor = member.supervisor();
    kill_process(supervisor, Signal::STOP).unwrap();
    member.write_config(|config| config["generation"] = "g2".into(), "work_mem = '7MB'");
    kill_process(supervisor, Signal::KILL).unwrap();
    member.wait_log("\"message\":\"configuration read\",\"generation\":\"g2\"");
    assert_eq!(member.sql(PASSWORD, "SHOW work_mem").as_deref(), Ok("7MB"));
}

fn an_unknown_engine_is_blocked(needs: &Prerequisites) {
    let mut member = Member::new(needs);
    member.write_config(|config| config["engine"] = "oracle".into(), "");
    member.start();
    member.wait_readyz(503, "Blocked: EngineUnsupported");
    assert!(!member.volume().join("identity.json").exists());
}
