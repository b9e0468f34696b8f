//! Rotation: new credentials go to the agent first, applications follow, and those before end after the overlap.

use dbclaim::api::protocol::Credentials;
use dbclaim::plan::observed::SecretState;
use dbclaim::render::Slot;
use insta::assert_snapshot;
use jiff::SignedDuration;

use crate::cluster::{Cluster, OVERLAP, Reads, password};

fn in_force(cluster: &Cluster) -> Credentials {
    match &cluster.admin {
        SecretState::Present {
            credentials: Some(it),
            ..
        } => it.clone(),
        other => panic!("{other:?}"),
    }
}

/// A claim whose status does not know of the rotation that is asked for: its Secrets are read in every pass.
fn asked() -> Cluster {
    let mut cluster = Cluster::ready();
    cluster.reads = Reads::Always;
    cluster.rotation = Some("1".into());
    cluster
}

/// Until the end of those before is set, and the agent knows it.
fn rotate(cluster: &mut Cluster) {
    for _ in 0..3 {
        cluster.settle();
        cluster.agent();
    }
    cluster.settle();
}

#[test]
fn new_credentials_go_to_the_agent_then_to_applications_and_then_those_before_get_an_end() {
    let mut cluster = asked();
    let before = in_force(&cluster);
    assert_snapshot!(cluster.pass().text(), @r"
    apply AdminSecret
    again in 5s
    ");
    cluster.settle();
    let open = in_force(&cluster);
    assert!(open.generation > before.generation);
    assert_ne!(open.password, before.password);
    assert!(open.previous_is_open());
    assert_eq!(
        password(&cluster.app),
        Some(before.password.as_str()),
        "the database knows the old ones only"
    );
    assert_snapshot!(cluster.pass().text(), @"again in 5s");
    cluster.agent();
    assert_snapshot!(cluster.pass().text(), @"apply AppSecret");
    cluster.settle();
    let ended = in_force(&cluster);
    assert_eq!(password(&cluster.app), Some(open.password.as_str()));
    assert_eq!(ended.password, open.password);
    let end = cluster.now + SignedDuration::try_from(OVERLAP).unwrap();
    assert_eq!(
        ended.previous_until(),
        Some(end),
        "counted from when applications had the new ones"
    );
    cluster.agent();
    cluster.settle();
    assert_snapshot!(cluster.pass().text(), @"nothing");
}

#[test]
fn logins_alternate_where_a_role_has_one_password() {
    let mut cluster = asked();
    let mut logins = Vec::new();
    for turn in ["1", "2", "3"] {
        cluster.rotation = Some(turn.into());
        rotate(&mut cluster);
        logins.push(in_force(&cluster).login.unwrap_or_default());
        cluster.now += SignedDuration::try_from(OVERLAP).unwrap();
    }
    assert_eq!(logins, ["dbclaim_app", "", "dbclaim_app"]);
}

#[test]
fn one_that_is_asked_for_within_the_overlap_waits_for_its_end() {
    let mut cluster = asked();
    rotate(&mut cluster);
    let first = in_force(&cluster);
    cluster.rotation = Some("2".into());
    rotate(&mut cluster);
    assert_eq!(in_force(&cluster), first, "what is promised to clients stays");
    cluster.now += SignedDuration::try_from(OVERLAP).unwrap();
    rotate(&mut cluster);
    let second = in_force(&cluster);
    assert_eq!((second.rotation.as_deref(), second.login), (Some("2"), None));
    assert!(second.generation > first.generation);
}

#[test]
fn the_same_request_rotates_once_and_none_that_is_taken_back_does() {
    let mut cluster = asked();
    rotate(&mut cluster);
    let first = in_force(&cluster);
    cluster.now += SignedDuration::try_from(OVERLAP).unwrap();
    rotate(&mut cluster);
    cluster.rotation = None;
    rotate(&mut cluster);
    assert_eq!(in_force(&cluster), first);
}

#[test]
fn one_that_is_asked_for_while_applications_have_no_secret_waits_for_it() {
    let mut cluster = Cluster::ready();
    let before = in_force(&cluster);
    cluster.remove(Slot::AppSecret);
    cluster.reads = Reads::Always;
    cluster.rotation = Some("1".into());
    cluster.controllers();
    assert_snapshot!(cluster.pass().text(), @r"
    create AppSecret
    again at once
    ");
    assert_eq!(in_force(&cluster), before);
    rotate(&mut cluster);
    assert_ne!(in_force(&cluster).password, before.password);
}

#[test]
fn without_randomness_nothing_begins() {
    let mut cluster = asked();
    let before = in_force(&cluster);
    cluster.random = false;
    rotate(&mut cluster);
    assert_eq!(in_force(&cluster), before);
}

#[test]
fn the_end_of_previous_credentials_is_a_whole_second_and_never_before_the_overlap_is_over() {
    let mut cluster = asked();
    cluster.now += SignedDuration::from_nanos(1_500_000_001);
    let overlap = SignedDuration::try_from(OVERLAP).unwrap();
    let begun = cluster.now;
    rotate(&mut cluster);
    let until = in_force(&cluster).previous_until().unwrap();
    assert_eq!(until.subsec_nanosecond(), 0);
    assert!(until >= begun + overlap && until < begun + overlap + SignedDuration::from_secs(1));
}

#[test]
fn the_previous_credentials_end_when_that_is_asked_for_and_a_rotation_that_waits_begins() {
    let mut cluster = asked();
    cluster.now += SignedDuration::from_millis(1_700);
    let before = in_force(&cluster);
    rotate(&mut cluster);
    let first = in_force(&cluster);
    let kept = first.previous.as_ref().and_then(|it| it.password.clone());
    assert_eq!(kept, Some(before.password), "what the agent keeps valid");
    cluster.rotation = Some("2".into());
    cluster.end_previous = Some("leaked".into());
    cluster.settle();
    let second = in_force(&cluster);
    assert_eq!(second.ended.as_deref(), Some("leaked"));
    assert_eq!(second.rotation.as_deref(), Some("2"), "the one that waited");
    rotate(&mut cluster);
    // The same request does not end the credentials of the rotation that came after it.
    assert!(in_force(&cluster).previous_is_valid(cluster.now));
    cluster.end_previous = None;
    rotate(&mut cluster);
    assert!(
        in_force(&cluster).previous_is_valid(cluster.now),
        "taken back, it asks for nothing"
    );
}

#[test]
fn an_end_that_is_asked_for_during_a_rotation_comes_when_applications_have_the_new_credentials() {
    let mut cluster = asked();
    cluster.settle();
    cluster.end_previous = Some("leaked".into());
    cluster.settle();
    assert!(
        in_force(&cluster).previous_is_open(),
        "applications have nothing else"
    );
    rotate(&mut cluster);
    let ended = in_force(&cluster);
    assert!(!ended.previous_is_valid(cluster.now));
    assert_eq!(ended.ended.as_deref(), Some("leaked"));
}

#[test]
fn a_deleted_admin_secret_ends_all_before_when_applications_have_the_new_password() {
    let mut cluster = asked();
    rotate(&mut cluster);
    let before = in_force(&cluster);
    cluster.remove(Slot::AdminSecret);
    cluster.controllers();
    cluster.settle();
    let open = in_force(&cluster);
    assert!(open.previous_is_open());
    let kept = open.previous.and_then(|it| it.password);
    assert_eq!((kept, open.login), (Some(before.password), None));
    rotate(&mut cluster);
    let fresh = in_force(&cluster);
    assert_eq!(fresh.password, open.password);
    assert!(!fresh.previous_is_valid(cluster.now), "there is no overlap");
    assert_eq!(
        fresh.rotation.as_deref(),
        Some("1"),
        "what was asked for is done with it"
    );
    assert_eq!(password(&cluster.app), Some(fresh.password.as_str()));
}
