//! Configuration: taken over while it runs; what is wrong is said and breaks nothing.

use std::time::Duration;

use crate::client::Client;
use crate::engines::Prerequisites;
use crate::member::{Member, wait};

pub(crate) const TESTS: &[(&str, crate::Real)] = &[
    (
        "config::a_change_is_taken_over_without_a_restart",
        a_change_is_taken_over_without_a_restart,
    ),
    (
        "config::what_is_taken_off_goes_back_to_the_default",
        what_is_taken_off_goes_back_to_the_default,
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

fn wait_live(member: &Member, (_, value): (&str, &str)) {
    let query = member.needs.engine.dialect().live_query;
    wait(
        Duration::from_secs(60),
        "the setting is in force",
        || match member.sql(PASSWORD, query) {
            Ok(shown) if shown == value => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
}

fn a_change_is_taken_over_without_a_restart(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    let client = Client::connect(&member, PASSWORD).unwrap();
    let postmaster = member.postmaster();
    let dialect = needs.engine.dialect();
    let (name, line, query, value) = dialect.waiting;
    generation(&mut member, "g2", &format!("{}\n{line}", dialect.live[0].0));
    wait_live(&member, dialect.live[0]);
    assert_eq!(client.sql("SELECT 1").as_deref(), Ok("1"), "the session goes on");
    assert_eq!(pending(&member), Some(1.0));
    assert!(member.log().contains(name));
    assert_eq!(member.postmaster(), postmaster);
    member.stop();
    member.start();
    member.wait_ready();
    assert_eq!(pending(&member), Some(0.0));
    assert_eq!(member.sql(PASSWORD, query).as_deref(), Ok(value));
}

/// Whether it was set while the server ran or before it started.
fn what_is_taken_off_goes_back_to_the_default(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    let dialect = needs.engine.dialect();
    let (name, waiting, query, value) = dialect.waiting;
    let ask = |member: &Member, query: &str| member.sql(PASSWORD, query).unwrap();
    let (usual, of_waiting) = (ask(&member, dialect.live_query), ask(&member, query));
    let back = ("", usual.as_str());
    generation(&mut member, "g2", &format!("{}\n{waiting}", dialect.live[0].0));
    wait_live(&member, dialect.live[0]);
    generation(&mut member, "g3", "");
    wait_live(&member, back);
    assert_eq!(pending(&member), Some(0.0), "{name} never was in force");
    generation(&mut member, "g4", &format!("{}\n{waiting}", dialect.live[1].0));
    member.stop();
    member.start();
    member.wait_ready();
    wait_live(&member, dialect.live[1]);
    assert_eq!(
        (ask(&member, query).as_str(), pending(&member)),
        (value, Some(0.0))
    );
    generation(&mut member, "g5", "");
    wait_live(&member, back);
    assert_eq!(
        (ask(&member, query).as_str(), pending(&member)),
        (value, Some(1.0))
    );
    member.stop();
    member.start();
    member.wait_ready();
    assert_eq!((ask(&member, query), pending(&member)), (of_waiting, Some(0.0)));
}

fn pending(member: &Member) -> Option<f64> {
    member.metric("dbclaim_agent_pending_restart_settings")
}

fn a_wrong_change_is_said_and_breaks_nothing(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    let postmaster = member.postmaster();
    let [first, second] = needs.engine.dialect().live;
    generation(&mut member, "g2", &format!("{}\nno_such_setting = 1", first.0));
    member.wait_log("the engine keeps its old configuration");
    assert!(member.log().contains("no_such_setting"), "{}", member.log());
    member.wait_ready();
    assert_eq!(member.postmaster(), postmaster);
    generation(&mut member, "g3", second.0);
    wait_live(&member, second);
}

fn a_server_that_does_not_start_is_failed(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    member.stop();
    let (line, words) = needs.engine.dialect().fatal;
    member.write_config(|_| {}, line);
    member.start();
    member.wait_readyz(503, "Failed: EngineFailed: ");
    let state = r#""phase":"Failed","reason":"EngineFailed""#;
    let said: Vec<String> = member
        .log()
        .lines()
        .filter(|line| line.contains(state))
        .map(str::to_owned)
        .collect();
    assert!(said[0].contains(words), "{said:?}");
    // The engine's lines are for those who may read the report.
    let setting = line.split(' ').next().unwrap();
    assert!(!member.get("/readyz").unwrap().1.contains(setting));
    let exits = || member.metric("dbclaim_agent_engine_exits_total");
    wait(Duration::from_secs(60), "more tries", || match exits() {
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
    let live = needs.engine.dialect().live[0];
    kill_process(supervisor, Signal::STOP).unwrap();
    member.write_config(|config| config["generation"] = "g2".into(), live.0);
    kill_process(supervisor, Signal::KILL).unwrap();
    member.wait_log("\"message\":\"configuration read\",\"generation\":\"g2\"");
    wait_live(&member, live);
}

fn an_unknown_engine_is_blocked(needs: &Prerequisites) {
    let mut member = Member::new(needs);
    member.write_config(|config| config["engine"] = "oracle".into(), "");
    member.start();
    member.wait_readyz(503, "Blocked: EngineUnsupported");
    assert!(!member.volume().join("identity.json").exists());
}
