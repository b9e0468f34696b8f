//! A container that is told to stop: cleanly where time allows, completely in any case.

use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::client::Client;
use crate::engines::Prerequisites;
use crate::member::{Member, wait};

pub(crate) const TESTS: &[(&str, crate::Real)] = &[
    (
        "stop::the_database_is_shut_down_cleanly",
        the_database_is_shut_down_cleanly,
    ),
    (
        "stop::a_server_that_hangs_is_killed_in_time",
        a_server_that_hangs_is_killed_in_time,
    ),
    (
        "stop::a_stop_during_initialisation_leaves_nothing_running",
        a_stop_during_initialisation,
    ),
    (
        "stop::a_stop_without_any_file_is_instant",
        a_stop_without_any_file_is_instant,
    ),
    (
        "stop::a_supervisor_killed_while_stopping_still_stops_cleanly",
        a_supervisor_killed_while_stopping,
    ),
    (
        "stop::a_stop_before_anything_has_started_is_not_lost",
        a_stop_before_anything_has_started,
    ),
    (
        "stop::pid_1_ends_everything_when_the_supervisor_hangs",
        pid_1_ends_everything,
    ),
    (
        "stop::a_fencer_elsewhere_ends_only_its_own_processes",
        a_fencer_elsewhere_ends_only_its_own,
    ),
    (
        "stop::a_lost_fencer_stops_the_database",
        a_lost_fencer_stops_the_database,
    ),
    (
        "stop::a_stop_while_no_supervisor_runs_is_clean_too",
        a_stop_while_no_supervisor_runs,
    ),
];

const PASSWORD: &str = "first p@ss";

fn the_database_is_shut_down_cleanly(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    let client = Client::connect(&member, PASSWORD).unwrap();
    client.sql(needs.engine.dialect().fill).unwrap();
    client.sql("BEGIN; INSERT INTO item VALUES (1001)").unwrap();
    let (code, took) = member.stop();
    assert_eq!((code, member.shut_down()), (Some(0), true), "{}", member.log());
    assert!(took < Duration::from_secs(10), "took {took:?}");
    assert_eq!(member.processes(), []);
    member.start();
    member.wait_ready();
    assert_eq!(
        member.sql(PASSWORD, "SELECT count(*) FROM item").as_deref(),
        Ok("1000")
    );
    assert!(
        !member.log().contains(needs.engine.dialect().recovery),
        "{}",
        member.log()
    );
}

fn a_server_that_hangs_is_killed_in_time(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    let client = Client::connect(&member, PASSWORD).unwrap();
    client.sql("CREATE TABLE item AS SELECT 1 AS id").unwrap();
    kill_process(member.vital(&client), Signal::STOP).unwrap();
    // Shortened just before the stop, as a deletion does; nobody is told.
    member.write_config(|config| config["stopSeconds"] = 3.into(), "");
    let (code, took) = member.stop();
    assert_eq!(code, Some(0), "{}", member.log());
    assert!(
        (Duration::from_secs(3)..Duration::from_secs(20)).contains(&took),
        "took {took:?}"
    );
    assert_eq!(member.processes(), []);
    member.start();
    member.wait_ready();
    assert_eq!(
        member.sql(PASSWORD, "SELECT count(*) FROM item").as_deref(),
        Ok("1")
    );
}

fn a_stop_during_initialisation(needs: &Prerequisites) {
    let mut member = Member::new(needs);
    member.start();
    wait(Duration::from_secs(60), "the initialisation has begun", || {
        member
            .data()
            .join(needs.engine.dialect().first_file)
            .exists()
            .then_some(())
            .ok_or_else(|| member.log())
    });
    let (code, took) = member.stop();
    assert_eq!(code, Some(0), "{}", member.log());
    assert!(took < Duration::from_secs(10), "took {took:?}");
    assert_eq!(member.processes(), []);
    member.start();
    member.wait_ready();
}

fn a_stop_without_any_file_is_instant(needs: &Prerequisites) {
    let mut member = Member::new(needs);
    std::fs::remove_file(member.root.join("etc/dbclaim/config/member.json")).unwrap();
    member.start();
    member.wait_readyz(503, "ConfigInvalid");
    let (code, took) = member.stop();
    assert_eq!(code, Some(0), "{}", member.log());
    assert!(took < Duration::from_secs(10), "took {took:?}");
    assert!(
        !member.volume().join("identity.json").exists(),
        "a volume was touched without configuration"
    );
}

fn a_supervisor_killed_while_stopping(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    let client = Client::connect(&member, PASSWORD).unwrap();
    let backend = member.vital(&client);
    // Holds the shutdown up for as long as this test needs.
    kill_process(backend, Signal::STOP).unwrap();
    let (fencer, supervisor) = (member.fencer(), member.supervisor());
    kill_process(fencer, Signal::TERM).unwrap();
    member.wait_log("stopping the engine");
    kill_process(supervisor, Signal::KILL).unwrap();
    wait(
        Duration::from_secs(20),
        "the next supervisor stops the engine",
        || {
            let log = member.log();
            if log.matches("stopping the engine").count() == 2 {
                Ok(())
            } else {
                Err(log)
            }
        },
    );
    kill_process(backend, Signal::CONT).unwrap();
    let (code, _) = member.stop();
    assert_eq!((code, member.shut_down()), (Some(0), true), "{}", member.log());
    assert_eq!(member.processes(), []);
}

fn a_stop_before_anything_has_started(needs: &Prerequisites) {
    for _ in 0..5 {
        let mut member = Member::new(needs);
        member.start();
        // At any moment of the supervisor's start.
        wait(Duration::from_secs(10), "the fencer runs", || {
            if member.log().contains("supervisor started") {
                Ok(())
            } else {
                Err(member.log())
            }
        });
        let (code, took) = member.stop();
        assert_eq!(code, Some(0), "{}", member.log());
        assert!(took < Duration::from_secs(10), "took {took:?}");
        assert_eq!(member.processes(), []);
    }
}

fn pid_1_ends_everything(needs: &Prerequisites) {
    let mut member = Member::new(needs);
    member.isolated = true;
    ends_everything(member);
}

fn a_fencer_elsewhere_ends_only_its_own(needs: &Prerequisites) {
    let bystander = Member::started(needs);
    ends_everything(Member::new(needs));
    assert_eq!(bystander.sql(PASSWORD, "SELECT 1").as_deref(), Ok("1"));
}

fn ends_everything(mut member: Member) {
    member.start();
    member.wait_ready();
    let client = Client::connect(&member, PASSWORD).unwrap();
    client.sql("CREATE TABLE item AS SELECT 1 AS id").unwrap();
    kill_process(member.supervisor(), Signal::KILL).unwrap();
    member.wait_log("adopted");
    member.wait_ready();
    assert_eq!(client.sql("SELECT count(*) FROM item").as_deref(), Ok("1"));
    member.write_config(|config| config["stopSeconds"] = 1.into(), "");
    kill_process(member.supervisor(), Signal::STOP).unwrap();
    let (code, took) = member.stop();
    assert_eq!(code, Some(0), "{}", member.log());
    assert!(
        (Duration::from_secs(11)..Duration::from_secs(25)).contains(&took),
        "took {took:?}"
    );
    assert_eq!(member.processes(), []);
    member.start();
    member.wait_ready();
    assert_eq!(
        member.sql(PASSWORD, "SELECT count(*) FROM item").as_deref(),
        Ok("1")
    );
}

fn a_stop_while_no_supervisor_runs(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    for _ in 0..3 {
        // The next supervisor is told to stop before it can have adopted the server.
        kill_process(member.supervisor(), Signal::KILL).unwrap();
        let (code, _) = member.stop();
        assert_eq!((code, member.shut_down()), (Some(0), true), "{}", member.log());
        assert_eq!(member.processes(), []);
        member.start();
        member.wait_ready();
    }
}

fn a_lost_fencer_stops_the_database(needs: &Prerequisites) {
    let member = Member::started(needs);
    kill_process(member.fencer(), Signal::KILL).unwrap();
    wait(Duration::from_secs(30), "everything has stopped", || {
        let left = member.processes();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    assert!(member.shut_down());
}
