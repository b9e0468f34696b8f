//! States in which the engine runs and an application is kept out, or its credentials are on their way.

use dbclaim::api::protocol::{MemberPhase, Trouble};

use crate::cluster::{Cluster, Reads};
use crate::states::{Row, row, say};
use crate::{at, condition, lasting};

pub fn with_the_application() -> Vec<Row> {
    let unready = || {
        let mut cluster = Cluster::ready();
        cluster.serve(false);
        cluster
    };
    vec![
        row("the engine answers no new connections", unready(), |it| {
            let trouble = Some(("EngineUnreachable", "no answer within 3 s"));
            say(it, MemberPhase::Recovering, trouble, |_| {});
        }),
        row("the application's database was dropped", Cluster::ready(), |it| {
            say(it, MemberPhase::Running, None, |report| {
                report.access = Some(Trouble {
                    reason: "DatabaseMissing".into(),
                    message:
                        "database \"app\" was dropped; to have an empty one, run: CREATE DATABASE \"app\""
                            .into(),
                });
            });
        }),
        row("the password was changed inside the database", set_back(), |_| {}),
        row(
            "a rotation waits for the end of the one before",
            waiting(),
            |_| {},
        ),
    ]
}

fn set_back() -> Cluster {
    let mut cluster = Cluster::ready();
    say(&mut cluster, MemberPhase::Running, None, |report| {
        report.password_set_back = Some("2026-03-01T08:00:00Z".into());
    });
    cluster
}

fn waiting() -> Cluster {
    let mut cluster = Cluster::ready();
    (cluster.reads, cluster.now) = (Reads::Always, at(0));
    for value in ["1", "2"] {
        cluster.rotation = Some(value.into());
        for _ in 0..3 {
            cluster.settle();
            cluster.agent();
        }
    }
    cluster
}

#[test]
fn a_rotation_that_waits_is_no_work_and_says_how_to_go_on() {
    let status = lasting(&waiting());
    let credentials = condition(&status, "CredentialsReady");
    assert_eq!(
        (&*credentials.status, &*credentials.reason),
        ("True", "RotationWaiting")
    );
    let told = "kubectl annotate dbclaim orders platform.acme.com/end-previous-credentials=";
    assert!(credentials.message.contains(told), "{}", credentials.message);
    assert_eq!(condition(&status, "Reconciling").status, "False");
    let rotation = status.rotation.as_ref().unwrap();
    assert_eq!(rotation.done.as_deref(), Some("1"));
    let until = rotation.previous_valid_until.as_ref().unwrap();
    assert!(
        !until.contains('.') && credentials.message.contains(until),
        "{until}"
    );
}

#[test]
fn a_password_that_was_set_back_is_said_and_hurts_nothing() {
    let status = lasting(&set_back());
    let credentials = condition(&status, "CredentialsReady");
    assert_eq!(credentials.status, "True");
    assert!(
        credentials.message.contains("at 2026-03-01T08:00:00Z"),
        "{}",
        credentials.message
    );
    assert_eq!(condition(&status, "Ready").status, "True");
}
