//! Tables over whole statuses.

use super::*;
use crate::plan::observed::{Child, Detail, Integrity, Ownership, Volume, Warning, Workload};
use crate::render::Kind;

pub(super) fn claim() -> Claim {
    let claim = serde_json::json!({"apiVersion": "platform.acme.com/v1", "kind": "DatabaseClaim",
        "metadata": {"name": "orders", "namespace": "shop", "uid": "u"},
        "spec": {"engine": "postgres", "size": "small", "team": "checkout"}});
    let claim: crate::api::v1::DatabaseClaim = serde_json::from_value(claim).unwrap();
    let id = crate::validate::identify(&claim).unwrap();
    crate::validate::validate(&id, &claim.spec, &crate::validate::References::default()).unwrap()
}

/// A condition that says nothing but what it is.
pub(crate) fn told(type_: &str, status: &str, reason: &str) -> Condition {
    Condition {
        type_: type_.into(),
        status: status.into(),
        reason: reason.into(),
        message: String::new(),
        last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
        observed_generation: None,
    }
}

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(second).unwrap()
}

fn pass(
    before: Option<&DatabaseClaimStatus>,
    second: i64,
    refusals: &[Refusal],
    observed: &Observed,
) -> DatabaseClaimStatus {
    let moment = Moment {
        generation: 1,
        before,
        now: at(second),
        refusals,
    };
    serving(&claim(), observed, &Plan::default(), moment)
}

fn refused(kind: &'static str, words: &str) -> Refusal {
    Refusal {
        verb: "create",
        kind,
        name: "orders-db-1".into(),
        words: words.into(),
    }
}

fn condition<'a>(status: &'a DatabaseClaimStatus, type_: &str) -> &'a Condition {
    status.conditions.iter().find(|it| it.type_ == type_).unwrap()
}

fn child(kind: Kind, name: &str, detail: Detail) -> Child {
    Child {
        kind,
        name: name.into(),
        uid: name.into(),
        resource_version: "1".into(),
        ownership: Ownership::Ours,
        deleting: false,
        applied: None,
        integrity: Integrity::Known(0),
        team: None,
        detail,
    }
}

/// A volume and a StatefulSet that get no further, with what a controller says of one of them.
fn held_up(kind: Kind, message: &str) -> Observed {
    let volume = Volume {
        identity: None,
        bound: false,
        requested: None,
        capacity: None,
        storage_class: None,
        growth: None,
        never_bound: false,
    };
    let set = Detail::StatefulSet(Workload::default());
    Observed {
        children: vec![
            child(
                Kind::PersistentVolumeClaim,
                "orders-db-1",
                Detail::Volume(Box::new(volume)),
            ),
            child(Kind::StatefulSet, "orders-db-1", set),
        ],
        warning: Some(Warning {
            kind,
            name: "orders-db-1".into(),
            reason: "Failed".into(),
            message: message.into(),
        }),
        ..Observed::default()
    }
}

#[test]
fn a_refused_write_is_told_at_once_with_since_when_and_heals() {
    let refusals = [refused(
        "PersistentVolumeClaim",
        "exceeded quota: tight, requested: x=1",
    )];
    let first = pass(None, 100, &refusals, &Observed::default());
    for type_ in [kind::READY, kind::STORAGE_READY] {
        let told = condition(&first, type_);
        assert_eq!(
            (told.status.as_str(), told.reason.as_str()),
            ("False", reason::QUOTA_EXCEEDED)
        );
        assert!(told.message.contains("exceeded quota: tight") && told.message.contains("orders-db-1"));
    }
    assert_eq!(condition(&first, kind::STALLED).status, "True");
    let later = pass(Some(&first), 160, &refusals, &Observed::default());
    assert_eq!(later, first, "nothing is written again");
    let healed = pass(Some(&later), 170, &[], &Observed::default());
    assert_eq!(condition(&healed, kind::STALLED).status, "False");
    assert_eq!(condition(&healed, kind::READY).last_transition_time.0, at(100));
}

#[test]
fn what_a_controller_says_is_told_in_its_words() {
    let table = [
        (
            Kind::StatefulSet,
            "create Pod orders-db-1-0 in StatefulSet orders-db-1 failed error: pods is forbidden: exceeded quota: q",
            reason::QUOTA_EXCEEDED,
        ),
        (
            Kind::StatefulSet,
            "create Pod failed error: pods is forbidden: violates PodSecurity \"restricted:latest\": x",
            reason::POD_SECURITY,
        ),
        (
            Kind::StatefulSet,
            "create Pod failed error: pods is forbidden: something else",
            reason::POD_REFUSED,
        ),
        (
            Kind::PersistentVolumeClaim,
            "storageclass.storage.k8s.io \"nope\" not found",
            reason::STORAGE_CLASS_MISSING,
        ),
        (
            Kind::PersistentVolumeClaim,
            "no persistent volumes available for this claim and no storage class is set",
            reason::STORAGE_CLASS_MISSING,
        ),
        (
            Kind::PersistentVolumeClaim,
            "rpc error: no space",
            reason::PROVISIONING_FAILED,
        ),
    ];
    for (kind, words, reason) in table {
        let mut observed = held_up(kind, words);
        if kind == Kind::PersistentVolumeClaim {
            observed
                .children
                .push(child(Kind::Pod, "orders-db-1-0", Detail::Pod(Box::default())));
        }
        let first = pass(None, 100, &[], &Observed::default());
        let status = pass(Some(&first), 111, &[], &observed);
        let told = condition(&status, kind::READY);
        assert_eq!(told.reason, reason, "{words}");
        let cause = words.rsplit("failed error: ").next().unwrap();
        assert!(
            told.message.contains(cause) && told.message.contains("orders-db-1"),
            "{}",
            told.message
        );
    }
}

#[test]
fn a_claim_that_may_not_be_read_keeps_what_was_known() {
    let words = "secrets \"x\" is forbidden: User \"u\" cannot get resource \"secrets\"";
    let refusal = refused("Secret", words);
    let moment = |before| Moment {
        generation: 1,
        before,
        now: at(100),
        refusals: &[],
    };
    let new = unobserved(&refusal, moment(None));
    assert_eq!(condition(&new, kind::READY).reason, reason::API_REFUSED);
    let mut ready = new.clone();
    for it in &mut ready.conditions {
        if it.type_ == kind::READY {
            it.status = "True".into();
            it.reason = reason::READY.into();
        }
    }
    let blind = unobserved(&refusal, moment(Some(&ready)));
    assert_eq!(condition(&blind, kind::READY).status, "True");
    assert!(condition(&blind, kind::STALLED).message.contains(words));
    assert_eq!(
        trouble(&blind).map(|it| it.reason.as_str()),
        Some(reason::API_REFUSED)
    );
}

#[test]
fn a_claim_in_trouble_is_looked_at_every_15_to_60_seconds() {
    let first = pass(None, 100, &[], &Observed::default());
    let after = |second| {
        let moment = Moment {
            generation: 1,
            before: Some(&first),
            now: at(second),
            refusals: &[],
        };
        look_again(moment, &first).as_secs()
    };
    assert_eq!([103, 111, 220, 900].map(after), [7, 15, 30, 60]);
}
