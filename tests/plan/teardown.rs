//! What goes with a claim and what stays.

use std::fmt::Write as _;

use dbclaim::api::v1::DeletionPolicy;
use dbclaim::plan::observed::{Ownership, SecretState};
use dbclaim::render::Slot;
use insta::{allow_duplicates, assert_snapshot};

use crate::cluster::Cluster;

/// A claim that serves, and has just been given a deletionTimestamp.
fn deleted(policy: DeletionPolicy) -> Cluster {
    let mut cluster = Cluster::ready();
    cluster.spec.deletion_policy = policy;
    cluster.settle();
    cluster.deleting = true;
    cluster
}

#[test]
fn retain_lets_go_at_once() {
    let cluster = deleted(DeletionPolicy::Retain);
    assert!(!cluster.has_finalizer);
    assert_snapshot!(cluster.pass().text(), @"nothing");
}

#[test]
fn delete_stops_the_workload_then_removes_the_data_then_lets_go() {
    let mut cluster = deleted(DeletionPolicy::Delete);
    let mut story = String::new();
    while cluster.has_finalizer {
        let pass = cluster.pass();
        writeln!(story, "{}", pass.text()).unwrap();
        cluster.carry_out(&pass.plan);
    }
    assert_snapshot!(story, @r"
    delete, by DeletionPolicyDelete: StatefulSet/orders-db-1
    again at once
    delete, by DeletionPolicyDelete: PersistentVolumeClaim/orders-db-1 Secret/orders-db-admin Secret/orders-db-app
    again at once
    finalizer false
    ");
    assert_eq!(
        (&cluster.admin, &cluster.app),
        (&SecretState::Absent, &SecretState::Absent)
    );
    // The Pod still runs: the volume goes when it has stopped, without the claim.
    assert!(cluster.volume().unwrap().child.deleting);
    cluster.controllers();
    assert!(cluster.volume().is_none());
}

#[test]
fn delete_removes_whatever_is_there() {
    let data = [
        Slot::StatefulSet,
        Slot::Volume,
        Slot::AdminSecret,
        Slot::AppSecret,
    ];
    let mut table = String::new();
    for there in 0..1 << data.len() {
        let mut cluster = deleted(DeletionPolicy::Delete);
        let is_there = |index: usize| there & (1 << index) != 0;
        for (index, slot) in data.into_iter().enumerate() {
            if !is_there(index) {
                cluster.remove(slot);
            }
        }
        let left: Vec<_> = data
            .into_iter()
            .enumerate()
            .filter(|(index, _)| is_there(*index))
            .map(|it| it.1)
            .collect();
        writeln!(table, "# {left:?}").unwrap();
        while cluster.has_finalizer {
            let pass = cluster.pass();
            writeln!(
                table,
                "{}",
                pass.text().replace("delete, by DeletionPolicyDelete:", "delete")
            )
            .unwrap();
            cluster.carry_out(&pass.plan);
        }
        assert_eq!(
            (&cluster.admin, &cluster.app),
            (&SecretState::Absent, &SecretState::Absent)
        );
    }
    assert_snapshot!("delete_removes_whatever_is_there", table);
}

#[test]
fn the_safer_policy_wins_when_it_changes_after_the_deletion() {
    let mut cluster = deleted(DeletionPolicy::Delete);
    cluster.spec.deletion_policy = DeletionPolicy::Retain;
    assert_snapshot!(cluster.pass().text(), @"finalizer false");
    let mut cluster = deleted(DeletionPolicy::Retain);
    cluster.spec.deletion_policy = DeletionPolicy::Delete;
    assert_snapshot!(cluster.pass().text(), @"nothing");
}

#[test]
fn what_is_not_ours_or_goes_already_is_not_deleted() {
    let spoils: [fn(&mut Ownership, &mut bool); 2] = [
        |ownership, _| *ownership = Ownership::Foreign,
        |_, deleting| *deleting = true,
    ];
    for spoil in spoils {
        let mut cluster = deleted(DeletionPolicy::Delete);
        for stored in &mut cluster.objects {
            spoil(&mut stored.child.ownership, &mut stored.child.deleting);
        }
        for state in [&mut cluster.admin, &mut cluster.app] {
            let SecretState::Present {
                ownership, deleting, ..
            } = state
            else {
                panic!("there is none")
            };
            spoil(ownership, deleting);
        }
        assert_eq!(cluster.pass().text(), "finalizer false");
    }
}

#[test]
fn what_a_former_claim_has_left_is_kept_where_this_one_was_refused_it() {
    let refusals: [fn(&mut Cluster); 3] = [
        |cluster| cluster.spec.username = "bob".to_owned(),
        |cluster| cluster.spec.storage_class_name = Some("another".to_owned()),
        |cluster| cluster.spec.paused = true,
    ];
    for refuse in refusals {
        let mut cluster = Cluster::ready();
        cluster.recreate();
        cluster.collect_former();
        cluster.spec.deletion_policy = DeletionPolicy::Delete;
        refuse(&mut cluster);
        let pass = cluster.pass();
        cluster.carry_out(&pass.plan);
        assert!(cluster.has_finalizer && !cluster.taken_over, "{}", pass.text());
        cluster.deleting = true;
        assert_eq!(cluster.pass().text(), "finalizer false");
    }
}

#[test]
fn nothing_is_created_or_healed_for_a_claim_that_goes() {
    for policy in [DeletionPolicy::Retain, DeletionPolicy::Delete] {
        let mut cluster = deleted(policy);
        for slot in Slot::ALL {
            cluster.remove(slot);
        }
        cluster.has_finalizer = true;
        allow_duplicates!(assert_snapshot!(cluster.pass().text(), @"finalizer false"));
    }
}

#[test]
fn deletion_works_however_wrong_or_paused_the_claim_is() {
    let mut cluster = deleted(DeletionPolicy::Delete);
    cluster.spec.paused = true;
    cluster.spec.version = Some("nonsense".into());
    assert!(cluster.pass().resolved.is_err());
    cluster.pod().unwrap().child.deleting = true;
    assert_snapshot!(cluster.pass().text(), @r"
    delete, by DeletionPolicyDelete: StatefulSet/orders-db-1
    again at once
    ");
}
