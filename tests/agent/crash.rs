//! Whatever is killed, the same database serves on with every row.

use std::fs;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::client::Client;
use crate::engines::Prerequisites;
use crate::member::{Member, alive, wait};

pub(crate) const TESTS: &[(&str, crate::Real)] = &[
    (
        "crash::a_killed_supervisor_disturbs_no_connection",
        a_killed_supervisor_disturbs_no_connection,
    ),
    (
        "crash::a_silent_supervisor_is_replaced",
        a_silent_supervisor_is_replaced,
    ),
    (
        "crash::power_loss_keeps_every_committed_row",
        power_loss_keeps_every_committed_row,
    ),
    (
        "crash::an_initialisation_killed_at_any_moment_is_made_again",
        an_initialisation_killed_is_made_again,
    ),
    (
        "crash::a_supervisor_killed_while_initialising_starts_over",
        a_supervisor_killed_while_initialising,
    ),
    (
        "crash::a_killed_server_is_started_again_without_leftovers",
        a_killed_server_is_started_again,
    ),
    ("crash::orphans_are_reaped", orphans_are_reaped),
    ("crash::a_full_disk_loses_nothing", a_full_disk_loses_nothing),
];

/// Only PostgreSQL has a process per connection.
pub(crate) const POSTGRES: &[(&str, crate::Real)] = &[
    (
        "crash::a_killed_backend_is_recovered_by_the_server_itself",
        a_killed_backend_is_recovered,
    ),
    (
        "crash::no_backend_outlives_a_killed_server",
        no_backend_outlives_a_killed_server,
    ),
];

const PASSWORD: &str = "first p@ss";

fn a_killed_supervisor_disturbs_no_connection(needs: &Prerequisites) {
    let member = Member::started(needs);
    let client = Client::connect(&member, PASSWORD).unwrap();
    client.sql(needs.engine.dialect().fill).unwrap();
    client.sql("BEGIN; INSERT INTO item VALUES (1001)").unwrap();
    let (postmaster, supervisor) = (member.postmaster(), member.supervisor());
    kill_process(supervisor, Signal::KILL).unwrap();
    member.wait_log("adopted");
    member.wait_ready();
    assert_eq!(member.postmaster(), postmaster, "the server was restarted");
    assert_ne!(member.supervisor(), supervisor);
    client.sql("COMMIT").unwrap();
    assert_eq!(client.sql("SELECT count(*) FROM item").as_deref(), Ok("1001"));
    // The one that adopted it sees its end too, although it is not its parent.
    kill_process(postmaster, Signal::KILL).unwrap();
    member.wait_log("starting it again");
    member.wait_ready();
    assert_eq!(
        member.sql(PASSWORD, "SELECT count(*) FROM item").as_deref(),
        Ok("1001")
    );
}

fn a_silent_supervisor_is_replaced(needs: &Prerequisites) {
    let member = Member::started(needs);
    let client = Client::connect(&member, PASSWORD).unwrap();
    let (postmaster, supervisor) = (member.postmaster(), member.supervisor());
    kill_process(supervisor, Signal::STOP).unwrap();
    member.wait_log("supervisor is silent");
    member.wait_ready();
    assert!(!alive(supervisor));
    assert_eq!(member.postmaster(), postmaster);
    assert_eq!(client.sql("SELECT 1").as_deref(), Ok("1"));
}

fn power_loss_keeps_every_committed_row(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    member.sql(PASSWORD, needs.engine.dialect().fill).unwrap();
    let identity = member.identity();
    for round in 1..=3 {
        let client = Client::connect(&member, PASSWORD).unwrap();
        client
            .sql(&format!("INSERT INTO item VALUES ({})", 1000 + round))
            .unwrap();
        client.sql("BEGIN; INSERT INTO item VALUES (-1)").unwrap();
        member.kill_everything();
        member.start();
        member.wait_ready();
        let rows = member.sql(PASSWORD, "SELECT count(*), min(id), max(id) FROM item");
        assert_eq!(rows, Ok(format!("{}|1|{}", 1000 + round, 1000 + round)));
    }
    assert_eq!(member.identity(), identity);
    assert!(!member.volume().join("quarantine").exists());
}

/// Kills everything at moments spread over an initialisation and the set-up after it.
fn an_initialisation_killed_is_made_again(needs: &Prerequisites) {
    let dialect = needs.engine.dialect();
    let (first, later) = (
        format!("data/{}", dialect.first_file),
        format!("data/{}", dialect.later_file),
    );
    for (moment, file) in [
        ("identity.json", "identity.json"),
        ("the first file of the engine", first.as_str()),
        ("a later file", later.as_str()),
        ("the application's state", "state.json"),
    ] {
        let mut member = Member::new(needs);
        let path = match file.strip_prefix("data/") {
            Some(inside) => member.data().join(inside),
            None => member.volume().join(file),
        };
        member.start();
        wait(Duration::from_secs(90), moment, || {
            path.exists().then_some(()).ok_or_else(|| member.log())
        });
        member.kill_everything();
        let interrupted = member.identity()["initialized"].is_null();
        let begun = member.data().exists();
        member.start();
        member.wait_ready();
        assert_eq!(
            member.sql(PASSWORD, "SELECT 1").as_deref(),
            Ok("1"),
            "killed at {moment}"
        );
        let aside = fs::read_dir(member.volume().join("quarantine")).map_or(0, Iterator::count);
        assert_eq!(aside, usize::from(interrupted && begun), "killed at {moment}");
        assert!(!member.identity()["initialized"].is_null());
    }
}

fn a_supervisor_killed_while_initialising(needs: &Prerequisites) {
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
    kill_process(member.supervisor(), Signal::KILL).unwrap();
    member.wait_ready();
    assert_eq!(member.sql(PASSWORD, "SELECT 1").as_deref(), Ok("1"));
    assert_eq!(
        fs::read_dir(member.volume().join("quarantine")).unwrap().count(),
        1
    );
}

fn a_killed_server_is_started_again(needs: &Prerequisites) {
    let member = Member::started(needs);
    member.sql(PASSWORD, needs.engine.dialect().fill).unwrap();
    let postmaster = member.postmaster();
    kill_process(postmaster, Signal::KILL).unwrap();
    member.wait_log("starting it again");
    member.wait_ready();
    assert_ne!(member.postmaster(), postmaster);
    assert_eq!(
        member.sql(PASSWORD, "SELECT count(*) FROM item").as_deref(),
        Ok("1000")
    );
    assert_eq!(member.metric("dbclaim_agent_engine_exits_total"), Some(1.0));
}

fn no_backend_outlives_a_killed_server(needs: &Prerequisites) {
    let member = Member::started(needs);
    let client = Client::connect(&member, PASSWORD).unwrap();
    let backend = member.vital(&client);
    // Stopped, it does not notice the end of the postmaster; only being killed ends it.
    kill_process(backend, Signal::STOP).unwrap();
    kill_process(member.postmaster(), Signal::KILL).unwrap();
    member.wait_log("starting it again");
    member.wait_ready();
    assert!(!alive(backend), "a backend of the killed server is left");
}

fn a_killed_backend_is_recovered(needs: &Prerequisites) {
    let member = Member::started(needs);
    let client = Client::connect(&member, PASSWORD).unwrap();
    client.sql(needs.engine.dialect().fill).unwrap();
    let pid = client.sql("SELECT pg_backend_pid()").unwrap().parse().unwrap();
    let postmaster = member.postmaster();
    kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    wait(Duration::from_secs(30), "the server recovers", || {
        member.sql(PASSWORD, "SELECT count(*) FROM item").map(drop)
    });
    member.wait_ready();
    assert_eq!(member.postmaster(), postmaster);
    assert_eq!(member.metric("dbclaim_agent_engine_exits_total"), Some(0.0));
}

fn a_full_disk_loses_nothing(needs: &Prerequisites) {
    let dialect = needs.engine.dialect();
    let mut member = Member::new(needs);
    (member.isolated, member.small_volume) = (true, Some(dialect.small_volume));
    member.write_config(|_| {}, dialect.small_settings);
    member.start();
    member.wait_ready();
    // In the container's own mounts, which are not ours.
    let volume = format!(
        "/proc/{}/root{}",
        member.supervisor().as_raw_nonzero(),
        member.volume().display()
    );
    let filler = std::path::Path::new(&volume).join("filler");
    fs::write(&filler, vec![0; dialect.filler]).unwrap();
    member.sql(PASSWORD, "CREATE TABLE bulk (text text)").unwrap();
    let mut batches = 0;
    let refused = loop {
        match member.sql(PASSWORD, dialect.bulk) {
            Ok(_) => batches += 1,
            Err(error) => break error,
        }
        assert!(batches < 1000, "the volume is never full");
    };
    println!("full after {batches} batches: {refused}");
    assert!(batches > 5);
    fs::remove_file(&filler).unwrap();
    member.wait_ready();
    // What was not answered may have been done.
    let counts = [batches, batches + usize::from(refused == "no answer in time")];
    let counts = counts.map(|batches| (batches * 500).to_string());
    wait(
        Duration::from_secs(180),
        "every committed row is there",
        || match member.sql(PASSWORD, "SELECT count(*) FROM bulk") {
            Ok(count) if counts.contains(&count) => Ok(()),
            other => Err(format!("{other:?} instead of {counts:?} rows")),
        },
    );
    wait(Duration::from_secs(180), "writing works again", || {
        match member.metric("dbclaim_agent_write_test_ok") {
            Some(1.0) => Ok(()),
            other => Err(format!("{other:?}\n{}", member.log())),
        }
    });
}

fn orphans_are_reaped(needs: &Prerequisites) {
    let member = Member::started(needs);
    let supervisor = member.supervisor();
    kill_process(supervisor, Signal::KILL).unwrap();
    member.wait_log("adopted");
    kill_process(member.postmaster(), Signal::KILL).unwrap();
    member.wait_log("starting it again");
    member.wait_ready();
    let fencer = member.fencer().as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{fencer}/task/{fencer}/children")).unwrap();
    for child in children.split_whitespace() {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        assert!(!stat.contains(") Z "), "a zombie is left: {stat}");
    }
}
