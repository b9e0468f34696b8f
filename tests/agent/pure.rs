//! SCRAM verifiers, and what is worth a report.

use dbclaim::agent::{Verifier, disk_bucket, patch, same_but_numbers};
use dbclaim::api::protocol::{Applied, MemberPhase, Report, Trouble};

pub(crate) const TESTS: &[(&str, crate::Pure)] = &[
    (
        "pure::a_verifier_is_what_the_rfc_says",
        a_verifier_is_what_the_rfc_says,
    ),
    (
        "pure::a_verifier_is_of_one_password",
        a_verifier_is_of_one_password,
    ),
    (
        "pure::what_is_no_verifier_is_not_read_as_one",
        what_is_no_verifier_is_not_read_as_one,
    ),
    (
        "pure::a_verifier_shows_no_keys_in_debug_output",
        a_verifier_shows_no_keys_in_debug_output,
    ),
    (
        "pure::the_fill_level_moves_in_steps_and_does_not_flap",
        the_fill_level_moves_in_steps,
    ),
    (
        "pure::times_and_pids_in_log_lines_are_no_news",
        times_and_pids_are_no_news,
    ),
    (
        "pure::a_report_is_one_annotation_of_a_merge_patch",
        a_report_is_one_annotation,
    ),
];

/// What PostgreSQL stores for the password and salt of RFC 7677's example.
const OF_POSTGRES: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

fn a_verifier_is_what_the_rfc_says() {
    let salt = [
        0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81,
    ];
    assert_eq!(Verifier::new("pencil", &salt).to_string(), OF_POSTGRES);
}

fn a_verifier_is_of_one_password() {
    let verifier = Verifier::parse(OF_POSTGRES).expect("a verifier");
    assert!(verifier.is_of("pencil"));
    for other in ["", "Pencil", "pencil ", "pencils"] {
        assert!(!verifier.is_of(other), "{other:?}");
    }
    // SASLprep maps a no-break space to a space; libpq does the same before it logs in.
    assert!(Verifier::new("a b", b"0123456789abcdef").is_of("a\u{a0}b"));
}

fn what_is_no_verifier_is_not_read_as_one() {
    for text in [
        "",
        "md5d6a35858d61d85e4a82ab1fb044aba9d",
        "SCRAM-SHA-256$4096:AAAA$AAAA",
        "SCRAM-SHA-256$0:AAAA$AAAA:AAAA",
        "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA",
        "SCRAM-SHA-256$x:W22ZaJ0SNY7soEsUEjb6gQ==$A:B",
    ] {
        assert!(Verifier::parse(text).is_none(), "{text:?}");
    }
}

fn a_verifier_shows_no_keys_in_debug_output() {
    let text = format!("{:?}", Verifier::parse(OF_POSTGRES));
    assert!(!text.contains("WG5d8") && text.contains("4096"), "{text}");
}

fn the_fill_level_moves_in_steps() {
    for (before, used, expected) in [
        (None, 0, 0),
        (None, 4, 0),
        (None, 5, 5),
        (None, 87, 85),
        (Some(85), 90, 90),
        (Some(85), 89, 85),
        (Some(85), 85, 85),
        (Some(85), 84, 85),
        (Some(85), 83, 80),
        (Some(0), 3, 0),
        (None, 100, 100),
        (None, 300, 100),
    ] {
        assert_eq!(
            disk_bucket(before, 100, used),
            Some(expected),
            "{before:?} {used}"
        );
    }
    assert_eq!(disk_bucket(None, 0, 0), None);
}

fn times_and_pids_are_no_news() {
    let trouble = |reason: &str, message: &str| Trouble {
        reason: reason.into(),
        message: message.into(),
    };
    let before = trouble(
        "EngineFailed",
        "code 1\n2026-01-01 10:00:59 UTC [71] FATAL: no space",
    );
    let later = trouble(
        "EngineFailed",
        "code 1\n2026-01-01 10:01:31 UTC [4711] FATAL: no space",
    );
    assert!(same_but_numbers(&before, &later));
    assert!(!same_but_numbers(
        &before,
        &trouble("EngineFailed", "code 1\n2026 FATAL: no memory")
    ));
    assert!(!same_but_numbers(
        &before,
        &Trouble {
            reason: "InitializeFailed".into(),
            ..later
        }
    ));
}

fn a_report_is_one_annotation() {
    let report = Report {
        v: 1,
        agent: "0.1.0".into(),
        pod_uid: "pod-3".into(),
        phase: MemberPhase::Running,
        trouble: None,
        version: Some("17.5".into()),
        initialized: None,
        applied: Applied {
            config: "g2".into(),
            credentials: 4,
            ..Applied::default()
        },
        pending_restart: vec!["shared_buffers".into()],
        write_test: None,
        access: None,
        password_set_back: None,
        disk_percent: Some(40),
        tls: None,
    };
    let patch: serde_json::Value = serde_json::from_str(&patch(&report).expect("a patch")).expect("JSON");
    let value = patch["metadata"]["annotations"]["platform.acme.com/report"]
        .as_str()
        .expect("a string");
    assert_eq!(serde_json::from_str::<Report>(value).expect("a report"), report);
    assert_eq!(patch.as_object().map(serde_json::Map::len), Some(1));
}
