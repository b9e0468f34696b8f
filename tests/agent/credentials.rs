//! Passwords: changed when asked for, and never because a file is missing, broken or old.

use crate::client::Client;
use crate::engines::Prerequisites;
use crate::member::{Member, wait};
use std::time::Duration;

pub(crate) const TESTS: &[(&str, crate::Real)] = &[
    (
        "credentials::a_higher_generation_changes_the_password",
        a_higher_generation_changes_the_password,
    ),
    (
        "credentials::missing_broken_and_old_files_change_nothing",
        missing_broken_and_old_files_change_nothing,
    ),
    (
        "credentials::no_password_reaches_a_log_or_a_statement",
        no_password_reaches_a_log,
    ),
];

const PASSWORD: &str = "first p@ss";

fn wait_password(member: &Member, password: &str) {
    wait(Duration::from_secs(20), &format!("{password:?} works"), || {
        member
            .sql(password, "SELECT 1")
            .map(drop)
            .map_err(|error| format!("{error}\n{}", member.log()))
    });
}

fn a_higher_generation_changes_the_password(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    let client = Client::connect(&member, PASSWORD).unwrap();
    member.write_credentials(r#"{"v":1,"generation":2,"password":"zw\"eites' \\ $pa$$"}"#);
    wait_password(&member, "zw\"eites' \\ $pa$$");
    assert!(member.sql(PASSWORD, "SELECT 1").is_err());
    assert_eq!(
        client.sql("SELECT 1").as_deref(),
        Ok("1"),
        "an open connection stays"
    );
    let state = std::fs::read_to_string(member.volume().join("state.json")).unwrap();
    assert!(state.contains("\"credentials\":2"), "{state}");
}

fn missing_broken_and_old_files_change_nothing(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    member.write_credentials(r#"{"v":1,"generation":5,"password":"fifth"}"#);
    wait_password(&member, "fifth");
    for text in [
        "",
        "{",
        "{}",
        r#"{"v":1,"generation":6}"#,
        r#"{"v":1,"generation":6,"password":""}"#,
        r#"{"v":99,"generation":6,"password":"newer format"}"#,
        r#"{"v":1,"generation":4,"password":"older generation"}"#,
    ] {
        member.write_credentials(text);
        // A later change of another file proves that this one was looked at.
        member.write_config(|config| config["generation"] = format!("after {text}").into(), "");
        let generation = serde_json::to_string(&format!("after {text}")).unwrap();
        member.wait_log(&format!("\"generation\":{generation}"));
        wait_password(&member, "fifth");
    }
    member.remove_credentials();
    member.stop();
    member.start();
    member.wait_ready();
    wait_password(&member, "fifth");
}

fn no_password_reaches_a_log(needs: &Prerequisites) {
    let mut member = Member::new(needs);
    member.write_config(|_| {}, needs.engine.dialect().log_all);
    member.start();
    member.wait_ready();
    member.write_credentials(r#"{"v":1,"generation":2,"password":"geheim-42"}"#);
    wait_password(&member, "geheim-42");
    wait(Duration::from_secs(60), "statements are logged", || {
        let log = everything_logged(&member);
        if log.contains("SELECT 1") {
            Ok(())
        } else {
            Err(log)
        }
    });
    let log = everything_logged(&member);
    for secret in [PASSWORD, "geheim-42", "SCRAM-SHA-256$", "$A$005$"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

/// The container's log, and the files beside the data that MySQL logs statements to.
fn everything_logged(member: &Member) -> String {
    let mut log = member.log();
    for entry in std::fs::read_dir(member.data()).unwrap().flatten() {
        if entry.path().extension().is_some_and(|it| it == "log") {
            log += &String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap());
        }
    }
    log
}
