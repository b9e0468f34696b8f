//! What is there and not as it shall be: healed once, and otherwise left alone. What needs a restart waits.

use std::time::Duration;

use dbclaim::api::v1::DeletionPolicy;
use dbclaim::plan::Step;
use dbclaim::plan::observed::{Integrity, Ownership};
use dbclaim::render::{Kind, Slot};
use insta::{allow_duplicates, assert_snapshot};
use serde_json::json;

use crate::cluster::{Cluster, Reads};

/// What is healed one by one: all but the Secrets and what tells of them.
const PLAIN: [Slot; 9] = [
    Slot::StatefulSet,
    Slot::Volume,
    Slot::Service,
    Slot::MembersService,
    Slot::Config,
    Slot::Report,
    Slot::ServiceAccount,
    Slot::Role,
    Slot::RoleBinding,
];

#[test]
fn a_claim_that_serves_costs_no_write() {
    for reads in [Reads::WhereAMarkerIsMissing, Reads::Always, Reads::Never] {
        let mut cluster = Cluster::ready();
        cluster.reads = reads;
        assert_eq!(cluster.pass().text(), "nothing", "{reads:?}");
    }
}

#[test]
fn an_operator_that_restarts_writes_nothing_and_looks_at_each_object_once() {
    let mut cluster = Cluster::ready();
    cluster.trusted.clear();
    let pass = cluster.pass();
    assert_snapshot!(pass.text(), @"nothing");
    cluster.carry_out(&pass.plan);
    let doubted: Vec<_> = cluster
        .observed()
        .children
        .into_iter()
        .filter(|it| matches!(it.integrity, Integrity::Unknown(..)))
        .map(|it| (it.kind, it.name))
        .collect();
    assert_eq!(doubted, vec![]);
}

#[test]
fn a_hand_edit_of_what_is_ours_is_undone_once() {
    for slot in PLAIN.into_iter().chain([Slot::AdminMarker, Slot::AppMarker]) {
        let mut cluster = Cluster::ready();
        cluster.edit(slot, |it| {
            it["metadata"]["labels"]["platform.acme.com/claim"] = json!("other");
        });
        assert_eq!(cluster.pass().text(), format!("apply {slot:?}"));
        assert_eq!(cluster.settle(), 1, "{slot:?}");
    }
}

#[test]
fn what_others_add_is_left_alone() {
    for slot in PLAIN {
        let mut cluster = Cluster::ready();
        cluster.edit(slot, |it| {
            it["metadata"]["labels"]["example.com/cost-center"] = json!("7");
        });
        assert_eq!(cluster.pass().text(), "nothing", "{slot:?}");
    }
}

#[test]
fn what_is_removed_by_hand_comes_back() {
    for slot in PLAIN {
        if slot == Slot::Volume {
            continue;
        }
        let mut cluster = Cluster::ready();
        cluster.remove(slot);
        assert_eq!(cluster.pass().text(), format!("create {slot:?}"));
    }
}

#[test]
fn what_is_on_its_way_out_is_waited_for() {
    for slot in PLAIN {
        if slot == Slot::Volume {
            continue;
        }
        let mut cluster = Cluster::ready();
        cluster.edit(slot, |it| it["metadata"]["labels"] = json!({}));
        let name = slot.name(&cluster.id);
        cluster.stored(slot.kind(), &name).child.deleting = true;
        assert_eq!(cluster.pass().text(), "nothing", "{slot:?}");
    }
}

#[test]
fn a_new_team_is_labelled_everywhere_without_a_restart() {
    let mut cluster = Cluster::ready();
    cluster.spec.team = "billing".into();
    assert_snapshot!(cluster.pass().text(), @r"
    apply Volume Service MembersService Config Report ServiceAccount Role RoleBinding StatefulSet AdminSecret AppSecret
    label Pod platform.acme.com/team=billing
    again at once
    ");
    let pass = cluster.pass();
    cluster.carry_out(&pass.plan);
    // The markers of Secrets that do not have the team yet must not say that they have it.
    assert_snapshot!(cluster.pass().text(), @"apply AdminMarker AppMarker");
    cluster.settle();
    cluster.reads = Reads::Always;
    assert_snapshot!(cluster.pass().text(), @"nothing");
}

#[test]
fn a_pod_that_stops_or_is_not_ours_is_not_labelled() {
    let mut cluster = Cluster::ready();
    cluster.spec.team = "billing".into();
    let labels = |cluster: &Cluster| cluster.pass().text().contains("label");
    assert!(labels(&cluster));
    let mut stopping = cluster.clone();
    stopping.pod().unwrap().child.deleting = true;
    assert!(!labels(&stopping));
    cluster.pod().unwrap().child.ownership = Ownership::Foreign;
    assert!(!labels(&cluster));
}

#[test]
fn a_change_of_the_pod_waits_for_a_restart() {
    let mut cluster = Cluster::ready();
    cluster.settings.agent_image = "registry.acme.com/dbclaim:0.2.0".into();
    assert_snapshot!(cluster.pass().text(), @"a restart is pending");
    // Neither a new team nor a hand edit lets the new template in.
    cluster.spec.team = "billing".into();
    cluster.edit(Slot::StatefulSet, |it| it["spec"]["replicas"] = json!(0));
    cluster.settle();
    assert_snapshot!(cluster.pass().text(), @"a restart is pending");
    // The restart that somebody asked for.
    cluster.remove(Slot::StatefulSet);
    assert_snapshot!(cluster.pass().text(), @"create StatefulSet");
    cluster.live();
    assert_snapshot!(cluster.pass().text(), @"nothing");
}

#[test]
fn a_hand_edit_of_the_pod_template_is_undone_before_a_restart_can_pick_it_up() {
    let mut cluster = Cluster::ready();
    cluster.edit(Slot::StatefulSet, |it| {
        it["spec"]["template"]["spec"]["containers"][0]["image"] = json!("postgres:9.6");
    });
    assert_snapshot!(cluster.pass().text(), @"apply StatefulSet");
}

#[test]
fn a_volume_grows_and_never_shrinks() {
    let mut cluster = Cluster::ready();
    cluster.spec.storage = Some("20Gi".into());
    assert_snapshot!(cluster.pass().text(), @"apply Volume");
    cluster.settle();
    cluster.controllers();
    cluster.spec.storage = Some("6Gi".into());
    assert_snapshot!(cluster.pass().text(), @"nothing");
}

#[test]
fn a_marker_follows_its_secret() {
    let mut cluster = Cluster::ready();
    cluster.remove(Slot::AppSecret);
    // The Secret is gone, and the garbage collector has not come by: nothing tells of it.
    assert_snapshot!(cluster.pass().text(), @"nothing");
    cluster.controllers();
    assert_snapshot!(cluster.pass().text(), @r"
    create AppSecret
    again at once
    ");
    let pass = cluster.pass();
    cluster.carry_out(&pass.plan);
    assert_snapshot!(cluster.pass().text(), @"create AppMarker");
    cluster.settle();
}

#[test]
fn a_marker_of_a_secret_that_was_replaced_is_moved_to_the_new_one() {
    let mut cluster = Cluster::ready();
    cluster.remove(Slot::AppSecret);
    cluster.reads = Reads::Always;
    let pass = cluster.pass();
    assert_snapshot!(pass.text(), @"create AppSecret");
    cluster.carry_out(&pass.plan);
    assert_snapshot!(cluster.pass().text(), @"apply AppMarker");
}

#[test]
fn an_agent_that_is_behind_is_woken_once() {
    let mut cluster = Cluster::ready();
    let mut report = cluster.report().unwrap().clone();
    report.applied.config = "former".into();
    cluster.say(report);
    let pass = cluster.pass();
    assert_snapshot!(pass.text(), @"annotate Pod platform.acme.com/wanted");
    cluster.carry_out(&pass.plan);
    assert_snapshot!(cluster.pass().text(), @"nothing");
}

#[test]
fn a_report_that_was_lost_is_asked_for() {
    let mut cluster = Cluster::ready();
    cluster.remove(Slot::Report);
    let pass = cluster.pass();
    assert_snapshot!(pass.text(), @"create Report");
    cluster.carry_out(&pass.plan);
    assert_snapshot!(cluster.pass().text(), @"annotate Pod platform.acme.com/wanted");
    cluster.settle();
    cluster.agent();
    assert_snapshot!(cluster.pass().text(), @"nothing");
}

#[test]
fn a_pod_is_written_once_in_a_wave() {
    let mut cluster = Cluster::ready();
    let mut report = cluster.report().unwrap().clone();
    report.applied.config = "former".into();
    cluster.say(report);
    cluster.pod().unwrap().child.team = Some("former".into());
    let pass = cluster.pass();
    assert_snapshot!(pass.text(), @r"
    label Pod platform.acme.com/team=checkout
    again at once
    ");
    cluster.carry_out(&pass.plan);
    assert_snapshot!(cluster.pass().text(), @"annotate Pod platform.acme.com/wanted");
}

#[test]
fn paused_changes_nothing() {
    let mut cluster = Cluster::ready();
    cluster.spec.paused = true;
    cluster.spec.team = "billing".into();
    cluster.remove(Slot::Service);
    assert_snapshot!(cluster.pass().text(), @"blocked Reconciling: Paused");
}

/// Else the volume would outlive a claim of which nobody wants anything back.
#[test]
fn the_policy_counts_for_a_claim_that_is_paused_or_invalid() {
    let mut cluster = Cluster::ready();
    cluster.spec.deletion_policy = DeletionPolicy::Delete;
    cluster.spec.paused = true;
    assert_snapshot!(cluster.pass().text(), @r"
    finalizer true
    blocked Reconciling: Paused
    ");
    cluster.spec.version = Some("nonsense".into());
    let pass = cluster.pass();
    assert!(pass.resolved.is_err());
    assert_eq!(pass.plan.steps, [Step::Finalizer { present: true }]);
}

#[test]
fn only_the_policy_delete_has_a_finalizer() {
    let mut cluster = Cluster::ready();
    cluster.spec.deletion_policy = DeletionPolicy::Delete;
    assert_snapshot!(cluster.pass().text(), @"finalizer true");
    cluster.settle();
    cluster.spec.deletion_policy = DeletionPolicy::Retain;
    assert_snapshot!(cluster.pass().text(), @"finalizer false");
}

#[test]
fn the_finalizer_stands_before_there_is_anything_to_delete() {
    let mut cluster = Cluster::new();
    cluster.spec.deletion_policy = DeletionPolicy::Delete;
    let pass = cluster.pass();
    assert_eq!(
        pass.plan.steps.first(),
        Some(&Step::Finalizer { present: true }),
        "{}",
        pass.text()
    );
    cluster.foreign(Slot::Service);
    allow_duplicates!(assert_snapshot!(cluster.pass().text(), @r"
    finalizer true
    blocked Accepted: NameTaken
    again in 30s
    "));
}

#[test]
fn what_only_a_human_resolves_is_looked_at_again_in_a_while() {
    let mut cluster = Cluster::ready();
    cluster.foreign(Slot::Role);
    assert_eq!(cluster.pass().plan.requeue, Some(Duration::from_secs(30)));
    assert_eq!(Slot::Role.kind(), Kind::Role);
}
