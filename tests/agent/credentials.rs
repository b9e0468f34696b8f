//! Passwords: changed when asked for, and never because a file is missing, broken or old.

use crate::client::Client;
use crate::engines::{Engine, Prerequisites};
use crate::member::{Member, wait};
use jiff::Timestamp;
use serde_json::json;
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
        "credentials::rotated_ones_overlap_through_a_crash_until_their_end",
        rotated_ones_overlap_through_a_crash_until_their_end,
    ),
    (
        "credentials::those_of_the_secret_stay_valid_while_newer_ones_come_and_go",
        those_of_the_secret_stay_valid,
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

/// Credentials of this generation, beside which those before are valid: without an end, or until then.
fn rotated(member: &mut Member, generation: u64, login: &'static str, until: Option<Timestamp>) {
    let previous = until.map_or(json!({}), |until| json!({"until": until}));
    let login_of = (login != "shopkeeper").then_some(login);
    let file = json!({"v": 1, "generation": generation, "password": format!("of {generation}"),
        "login": login_of, "previous": previous});
    member.write_credentials(&file.to_string());
    member.login = login;
}

/// Whether the credentials before are let in, and no newer ones hurt by it.
fn let_in(member: &mut Member, login: &'static str, password: &str) -> Result<(), String> {
    let now = std::mem::replace(&mut member.login, login);
    let outcome = member.sql(password, "SELECT 1").map(drop);
    member.login = now;
    outcome
}

fn rotated_ones_overlap_through_a_crash_until_their_end(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    let second = needs.engine.dialect().second_login;
    rotated(&mut member, 2, second, None);
    wait_password(&member, "of 2");
    let_in(&mut member, "shopkeeper", PASSWORD).unwrap();
    // Killed and started again with the same file: what was done once is not done twice.
    member.kill_everything();
    member.start();
    member.wait_ready();
    wait_password(&member, "of 2");
    let_in(&mut member, "shopkeeper", PASSWORD).unwrap();
    member
        .sql("of 2", "CREATE TABLE made (id int); INSERT INTO made VALUES (1)")
        .unwrap();
    rotated(&mut member, 2, second, Some(now()));
    wait(Duration::from_secs(60), "the first ones end", || {
        match let_in(&mut member, "shopkeeper", PASSWORD) {
            Err(_) => Ok(()),
            Ok(()) => Err(member.log()),
        }
    });
    rotated(&mut member, 3, "shopkeeper", None);
    wait_password(&member, "of 3");
    member.sql("of 3", "DROP TABLE made").expect("one owner");
    let_in(&mut member, second, "of 2").unwrap();
    // The end comes without another word.
    rotated(&mut member, 3, "shopkeeper", Some(now() + Duration::from_secs(3)));
    wait(Duration::from_secs(60), "the second ones end", || {
        match let_in(&mut member, second, "of 2") {
            Err(_) => Ok(()),
            Ok(()) => Err(member.log()),
        }
    });
    wait_password(&member, "of 3");
}

/// The admin Secret is deleted again and again while the agent's reports do not arrive: applications keep what the
/// binding Secret says, until it says something newer, and what ended is refused.
fn those_of_the_secret_stay_valid(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    let second = needs.engine.dialect().second_login;
    let given = |member: &mut Member, generation: u64, login: &'static str, previous: &str, until| {
        let previous = json!({"password": previous, "until": until, "atOnce": true});
        let file = json!({"v": 1, "generation": generation, "password": format!("of {generation}"),
            "login": (login != "shopkeeper").then_some(login), "previous": previous});
        member.write_credentials(&file.to_string());
        member.login = login;
        wait_password(member, &format!("of {generation}"));
    };
    for generation in 2..4 {
        given(&mut member, generation, second, PASSWORD, None::<Timestamp>);
        let_in(&mut member, "shopkeeper", PASSWORD).unwrap();
    }
    let_in(&mut member, second, "of 2").expect_err("nobody was given it");
    // The application changes what is still promised to it.
    let change = match needs.engine {
        Engine::Postgres => "ALTER ROLE shopkeeper PASSWORD NULL",
        Engine::Mysql => "ALTER USER shopkeeper DISCARD OLD PASSWORD",
    };
    member.administer("postgres", change).unwrap();
    wait(Duration::from_secs(60), "what is promised is valid again", || {
        let_in(&mut member, "shopkeeper", PASSWORD).map_err(|error| format!("{error}\n{}", member.log()))
    });
    // The binding Secret has the third, and what was before ends.
    given(&mut member, 3, second, PASSWORD, Some(Timestamp::UNIX_EPOCH));
    wait(Duration::from_secs(60), "the first ones end", || {
        match let_in(&mut member, "shopkeeper", PASSWORD) {
            Err(_) => Ok(()),
            Ok(()) => Err(member.log()),
        }
    });
    given(&mut member, 4, "shopkeeper", "of 3", None::<Timestamp>);
    let_in(&mut member, second, "of 3").unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a test needs the time")]
fn now() -> Timestamp {
    Timestamp::now()
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
    // MySQL's own accounts, which nobody can use, are made with this.
    let log = everything_logged(&member).replace("$A$005$THISISACOMBINATIONOFINVALIDSALT", "");
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
