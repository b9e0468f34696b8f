//! From what is written in a claim to what it means: defaults, and every way in which it can be wrong.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking; the linter does not see that fixtures are part of tests"
)]

use std::collections::BTreeSet;

use dbclaim::api::protocol::{FORMAT, Identity, Initialized};
use dbclaim::api::v1::{DatabaseClaim, DatabaseClaimSpec, DeletionPolicy};
use dbclaim::claim::quantity::Bytes;
use dbclaim::claim::{Claim, ClaimId};
use dbclaim::validate::{References, Violation, Violations, identify, validate};
use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::{Value, json};

fn id() -> ClaimId {
    ClaimId {
        namespace: "shop".into(),
        name: "orders".into(),
        uid: "claim-1".into(),
    }
}

/// A volume that has more than was requested, as classes that round up give.
fn rounded_up(requested: u64, capacity: u64) -> References {
    References {
        capacity: Some(Bytes(capacity * Bytes::GIB)),
        ..having(requested)
    }
}

/// The smallest spec, with some of it said otherwise.
fn spec(changes: Value) -> DatabaseClaimSpec {
    let mut spec = json!({"engine": "postgres", "size": "small", "team": "checkout"});
    let (Value::Object(all), Value::Object(changes)) = (&mut spec, changes) else {
        panic!("a spec is an object");
    };
    all.extend(changes);
    serde_json::from_value(spec).unwrap()
}

/// The record on a volume of PostgreSQL 18 of this claim, with other names than the defaults.
fn record() -> Identity {
    Identity {
        v: FORMAT,
        claim: "shop/orders".into(),
        volume_id: "former-1".into(),
        member: 1,
        engine: "postgres".into(),
        major: "18".into(),
        database: "app".into(),
        username: "app".into(),
        initialized: Some(Initialized {
            at: "2026-03-01T08:00:00Z".into(),
            system_identifier: "7300000000000000001".into(),
        }),
    }
}

fn on(identity: Identity) -> References {
    References {
        identity: Some(identity),
        ..References::default()
    }
}

fn having(gib: u64) -> References {
    References {
        requested: Some(Bytes(gib * Bytes::GIB)),
        ..References::default()
    }
}

fn resolve(changes: Value, references: &References) -> Claim {
    validate(&id(), &spec(changes), references).unwrap()
}

fn refuse(changes: Value, references: &References) -> Violations {
    validate(&id(), &spec(changes), references).unwrap_err()
}

#[test]
fn the_smallest_claim_gets_every_default() {
    let claim = resolve(json!({}), &References::default());
    assert_eq!(
        (claim.version.to_string(), claim.image.reference.as_str()),
        ("17".into(), "docker.io/library/postgres:17")
    );
    assert_eq!(claim.storage, Bytes(5 * Bytes::GIB));
    assert_eq!((claim.database.as_str(), claim.username.as_str()), ("app", "app"));
    assert_eq!(
        (claim.deletion_policy, claim.paused),
        (DeletionPolicy::Retain, false)
    );
    assert_eq!(claim.storage_class, None);
    assert_eq!(claim.identity.volume_id, "claim-1-1");
    assert_eq!(claim.identity.initialized, None);
}

#[test]
fn a_version_is_what_is_asked_for_else_what_the_volume_holds_else_the_default() {
    let version = |changes: Value, references: &References| resolve(changes, references).version.to_string();
    assert_eq!(version(json!({}), &References::default()), "17");
    assert_eq!(version(json!({}), &on(record())), "18");
    assert_eq!(version(json!({"version": "18.1"}), &on(record())), "18.1");
    assert_eq!(version(json!({"version": "18"}), &References::default()), "18");
    let claim = resolve(json!({"version": "18.1"}), &References::default());
    assert_eq!(claim.image.reference, "docker.io/library/postgres:18.1");
    assert_eq!(
        claim.identity.major, "18",
        "the record names the major version only"
    );
}

#[test]
fn a_request_is_raised_only_for_more_than_there_is() {
    let request = |asked: &str, there: &References| {
        let claim = resolve(json!({"storage": asked}), there);
        (claim.storage_request.to_string(), claim.storage.to_string())
    };
    for (asked, there, expected) in [
        ("7Gi", References::default(), ("7Gi", "7Gi")),
        ("7Gi", having(5), ("7Gi", "7Gi")),
        ("3Gi", having(5), ("5Gi", "5Gi")),
        ("7Gi", rounded_up(5, 10), ("5Gi", "10Gi")),
        ("10Gi", rounded_up(5, 10), ("5Gi", "10Gi")),
        ("11Gi", rounded_up(5, 10), ("11Gi", "11Gi")),
        ("8Gi", rounded_up(8, 5), ("8Gi", "8Gi")),
    ] {
        let expected = (expected.0.to_owned(), expected.1.to_owned());
        assert_eq!(request(asked, &there), expected, "{asked} of {there:?}");
    }
}

#[test]
fn a_series_of_mysql_has_two_numbers() {
    let mysql = |version: Value| {
        resolve(
            json!({"engine": "mysql", "version": version}),
            &References::default(),
        )
    };
    for (asked, image, series) in [
        (json!(null), "mysql:9.7", "9.7"),
        (json!("9.7"), "mysql:9.7", "9.7"),
        (json!("9.7.4"), "mysql:9.7.4", "9.7"),
        (json!("8.4"), "mysql:8.4", "8.4"),
        (json!("8.4.10"), "mysql:8.4.10", "8.4"),
    ] {
        let claim = mysql(asked);
        assert_eq!(claim.image.reference, format!("docker.io/library/{image}"));
        assert_eq!(claim.identity.major, series);
    }
    let mut record = record();
    (record.engine, record.major) = ("mysql".into(), "8.4".into());
    let claim = resolve(json!({"engine": "mysql"}), &on(record));
    assert_eq!(claim.version.to_string(), "8.4", "what the volume holds");
}

#[test]
fn what_the_volume_is_stays_what_it_is() {
    assert_eq!(resolve(json!({}), &on(record())).identity, record());
}

#[test]
fn a_volume_that_holds_nothing_is_what_is_asked_for() {
    let empty = Identity {
        initialized: None,
        ..record()
    };
    let vacant = References {
        vacant: true,
        ..on(empty.clone())
    };
    let claim = resolve(json!({"username": "clerk", "database": "shop"}), &vacant);
    let expected = Identity {
        major: "17".into(),
        username: "clerk".into(),
        database: "shop".into(),
        ..empty.clone()
    };
    assert_eq!(claim.identity, expected, "a former claim's");
    assert_eq!(
        refuse(json!({"username": "clerk"}), &on(empty.clone())).0.len(),
        1,
        "somebody may be at it"
    );
    let own = Identity {
        volume_id: "claim-1-1".into(),
        ..empty.clone()
    };
    let own = References {
        vacant: true,
        ..on(own)
    };
    assert_eq!(
        resolve(json!({}), &own).version.major,
        "18",
        "a newer default is no change of this claim's"
    );
    let other = Identity {
        claim: "shop/bills".into(),
        ..empty
    };
    let other = References {
        vacant: true,
        ..on(other)
    };
    assert_eq!(refuse(json!({}), &other).0.len(), 1, "another claim's");
}

/// What says the same in other words.
#[test]
fn to_say_a_default_or_to_take_it_away_changes_nothing() {
    let words = [
        json!({"version": "17"}),
        json!({"storage": "5Gi"}),
        json!({"storage": "5120Mi"}),
        json!({"storage": "5368709120"}),
        json!({"database": "app"}),
        json!({"username": "app"}),
        json!({"deletionPolicy": "Retain"}),
        json!({"parameters": {}}),
        json!({"extensions": []}),
        json!({"tls": {}}),
        json!({"tls": {"required": true}}),
        json!({"hibernated": false}),
        json!({"paused": false}),
    ];
    let plain = resolve(json!({}), &References::default());
    for words in words {
        assert_eq!(resolve(words.clone(), &References::default()), plain, "{words}");
    }
    let [twice, turned] = [json!(["hstore", "citext", "hstore"]), json!(["citext", "hstore"])];
    let extensions = |it: Value| resolve(json!({"extensions": it}), &References::default());
    assert_eq!(extensions(twice), extensions(turned));
}

#[test]
fn two_passes_give_a_new_volume_the_same_identity() {
    let volume = || resolve(json!({}), &References::default()).identity;
    assert_eq!(volume(), volume());
}

#[test]
fn storage_is_the_larger_of_what_is_asked_for_and_what_there_is() {
    let storage = |changes: Value, references: &References| resolve(changes, references).storage.to_string();
    for (what, asked, there, expected) in [
        (
            "the size's, where nothing is said",
            json!({}),
            References::default(),
            "5Gi",
        ),
        (
            "a larger size's",
            json!({"size": "large"}),
            References::default(),
            "100Gi",
        ),
        (
            "what is said",
            json!({"storage": "7Gi"}),
            References::default(),
            "7Gi",
        ),
        (
            "also where it is less than the size's",
            json!({"storage": "2Gi"}),
            References::default(),
            "2Gi",
        ),
        (
            "what there is, where that is more",
            json!({"storage": "7Gi"}),
            having(9),
            "9Gi",
        ),
        (
            "what is said, where that is more",
            json!({"storage": "12Gi"}),
            having(9),
            "12Gi",
        ),
        (
            "what there is, where nothing is said",
            json!({}),
            having(9),
            "9Gi",
        ),
        ("the size's, where there is less", json!({}), having(3), "5Gi"),
    ] {
        assert_eq!(storage(asked, &there), expected, "{what}");
    }
}

/// One of each kind. What a claim cannot get around is named by field, with what is there and what to do.
fn violations() -> Vec<(Value, References)> {
    let other = |change: fn(&mut Identity)| {
        let mut identity = record();
        change(&mut identity);
        on(identity)
    };
    vec![
        (json!({"version": "seventeen"}), References::default()),
        (json!({"version": "16"}), References::default()),
        (json!({"version": "17.5.1"}), References::default()),
        (json!({"engine": "mysql", "version": "9"}), References::default()),
        (
            json!({"engine": "mysql", "version": "9.6.1"}),
            References::default(),
        ),
        (json!({"engine": "mysql"}), on(record())),
        (json!({"storage": "lots"}), References::default()),
        (
            json!({"parameters": {"fsync": "off", "work_mem": "lots", "nonsense": "1"}}),
            References::default(),
        ),
        (
            json!({"extensions": ["pg_trgm", "dblink"]}),
            References::default(),
        ),
        (json!({"version": "17"}), on(record())),
        (json!({"version": "18"}), other(|it| it.engine = "mysql".into())),
        (
            json!({}),
            other(|it| (it.engine, it.major) = ("mysql".into(), "8.4".into())),
        ),
        (json!({}), other(|it| it.claim = "shop/invoices".into())),
        (json!({}), other(|it| it.major = "12".into())),
        (json!({"database": "ledger"}), on(record())),
        (json!({"username": "clerk"}), on(record())),
        (
            json!({"version": "17", "database": "ledger", "username": "clerk", "storage": "-1Gi"}),
            on(record()),
        ),
    ]
}

#[test]
fn every_violation_says_where_what_and_what_to_do() {
    let lines: Vec<String> = violations()
        .into_iter()
        .map(|(changes, references)| format!("{changes}\n  {}", refuse(changes.clone(), &references)))
        .collect();
    assert_snapshot!("violations", lines.join("\n"));
}

#[test]
fn no_kind_of_violation_is_left_out() {
    let kind = |violation: &Violation| match violation {
        // Without `_`: a new kind needs a row in the table.
        Violation::Incomplete(_) => "incomplete",
        Violation::VersionFormat { .. } => "version format",
        Violation::VersionUnknown { .. } => "version unknown",
        Violation::Storage(_) => "storage",
        Violation::Parameter { .. } => "parameter",
        Violation::Extension { .. } => "extension",
        Violation::OtherData { .. } => "other data",
        Violation::DataUnsupported { .. } => "data unsupported",
        Violation::OtherName { .. } => "other name",
    };
    let seen: BTreeSet<_> = violations()
        .into_iter()
        .flat_map(|(changes, references)| refuse(changes, &references).0)
        .map(|it| kind(&it))
        .collect();
    let expected = [
        "data unsupported",
        "extension",
        "other data",
        "other name",
        "parameter",
        "storage",
        "version format",
        "version unknown",
    ];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn an_object_that_no_api_server_has_seen_is_named() {
    let claim = |missing: &str| {
        let mut claim = DatabaseClaim::new("orders", spec(json!({})));
        claim.metadata.namespace = Some("shop".into());
        claim.metadata.uid = Some("claim-1".into());
        match missing {
            "name" => claim.metadata.name = None,
            "namespace" => claim.metadata.namespace = None,
            "uid" => claim.metadata.uid = None,
            _ => {}
        }
        identify(&claim)
    };
    assert_eq!(claim(""), Ok(id()));
    for missing in ["name", "namespace", "uid"] {
        assert_eq!(
            claim(missing).unwrap_err().to_string(),
            format!("metadata.{missing} is missing; the object did not come from an API server")
        );
    }
}

#[test]
fn identity_does_not_depend_on_the_spec_so_that_deletion_always_works() {
    let mut claim = DatabaseClaim::new("orders", spec(json!({"version": "nonsense", "storage": "?"})));
    claim.metadata.namespace = Some("shop".into());
    claim.metadata.uid = Some("claim-1".into());
    assert_eq!(identify(&claim), Ok(id()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_a_spec_says_panics(version in ".{0,10}", storage in ".{0,12}", name in ".{0,8}") {
        let spec = spec(json!({"version": version, "storage": storage, "database": name, "username": name}));
        for references in [References::default(), having(9), on(record())] {
            let _ = validate(&id(), &spec, &references);
        }
    }

    #[test]
    fn storage_is_never_below_either(asked in 1..200_u64, has in 1..200_u64) {
        let claim = resolve(json!({"storage": format!("{asked}Gi")}), &having(has));
        prop_assert_eq!(claim.storage, Bytes(asked.max(has) * Bytes::GIB));
    }
}
