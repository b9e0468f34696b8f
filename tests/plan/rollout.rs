//! Restarts: each that was asked for happens once, cleanly and by the newest template; no other happens.

use dbclaim::api::v1::{EngineName, SizeName};
use dbclaim::class;
use dbclaim::plan::observed::{Detail, Workload};
use dbclaim::render::{Kind, Slot};
use insta::assert_snapshot;
use serde_json::Value;

use crate::cluster::{Cluster, Pass};

/// What the claim's owner does.
type Ask = fn(&mut Cluster);

/// Passes and what the controllers do, until peace; what was planned, as text, and how many Pods were replaced.
fn story(cluster: &mut Cluster) -> (String, usize) {
    let (mut told, mut pods) = (Vec::new(), 0);
    for _ in 0..8 {
        let before = pod(cluster);
        let pass = cluster.pass();
        if pass.text() != "nothing" {
            told.push(pass.text());
        }
        cluster.carry_out(&pass.plan);
        cluster.controllers();
        cluster.agent();
        pods += usize::from(before.is_some() && pod(cluster).is_some() && before != pod(cluster));
    }
    (told.join("\n--\n"), pods)
}

fn pod(cluster: &mut Cluster) -> Option<String> {
    cluster.pod().map(|it| it.child.uid.clone())
}

fn pass(cluster: &Cluster) -> Pass {
    cluster.pass()
}

#[test]
fn each_restart_that_is_asked_for_happens_once() {
    let asks: [(&str, Ask); 4] = [
        ("size", |it| {
            it.spec.size = serde_json::from_str("\"medium\"").unwrap();
        }),
        ("version", |it| it.spec.version = Some("17.5".into())),
        ("restart", |it| it.restart = Some("2026-11-21".into())),
        ("all at once", |it| {
            it.spec.size = serde_json::from_str("\"medium\"").unwrap();
            it.spec.version = Some("17.5".into());
            it.restart = Some("now".into());
        }),
    ];
    for (what, ask) in asks {
        let mut cluster = Cluster::ready();
        ask(&mut cluster);
        let (told, pods) = story(&mut cluster);
        assert_eq!(pods, 1, "{what}:\n{told}");
        let Some((_, live)) = pass(&cluster)
            .observed
            .pod(&cluster.id)
            .map(|it| (it.0.clone(), it.1.clone()))
        else {
            panic!("{what}: no Pod")
        };
        let claim = pass(&cluster).resolved.unwrap();
        let wanted = cluster.desired(&claim, &cluster.observed());
        assert_eq!(live.asked, Some(wanted.asked), "{what}");
        assert_eq!(live.restart_hash, Some(wanted.restart_hash), "{what}");
    }
}

#[test]
fn a_restart_writes_the_template_and_then_replaces_the_pod() {
    let mut cluster = Cluster::ready();
    cluster.restart = Some("please".into());
    assert_snapshot!(story(&mut cluster).0, @r"
    apply StatefulSet
    restarting
    --
    delete, by RestartAsked: Pod/orders-db-1-0
    restarting
    ");
}

#[test]
fn what_is_started_anew_starts_with_its_new_configuration() {
    let mut cluster = Cluster::ready();
    cluster.spec.size = serde_json::from_str("\"medium\"").unwrap();
    assert_snapshot!(story(&mut cluster).0, @r"
    apply Volume Config
    restarting
    again at once
    --
    apply StatefulSet
    restarting
    --
    delete, by RestartAsked: Pod/orders-db-1-0
    restarting
    ");
    cluster.spec.hibernated = true;
    story(&mut cluster);
    let settings = [("work_mem".to_owned(), "8MB".to_owned())];
    cluster.spec.parameters.extend(settings);
    cluster.spec.hibernated = false;
    assert_snapshot!(story(&mut cluster).0, @r"
    apply Config
    again at once
    --
    apply StatefulSet
    ");
}

#[test]
fn the_pod_stays_until_its_controller_has_taken_up_the_new_template() {
    let mut cluster = Cluster::ready();
    cluster.restart = Some("please".into());
    cluster.settle();
    // The controller has not looked yet: it would start the former template once more.
    assert_snapshot!(pass(&cluster).text(), @"restarting");
    cluster.controllers();
    assert_snapshot!(pass(&cluster).text(), @r"
    delete, by RestartAsked: Pod/orders-db-1-0
    restarting
    ");
}

#[test]
fn a_newer_operator_restarts_nothing_until_somebody_asks() {
    let mut cluster = Cluster::ready();
    cluster.settings.agent_image = "registry.acme.com/dbclaim:0.2.0".into();
    assert_snapshot!(pass(&cluster).text(), @"a restart is pending");
    let (_, pods) = story(&mut cluster);
    assert_eq!(pods, 0);
    cluster.restart = Some("at night".into());
    let (_, pods) = story(&mut cluster);
    assert_eq!(pods, 1);
    assert_snapshot!(pass(&cluster).text(), @"nothing");
}

#[test]
fn what_is_taken_back_before_the_pod_was_replaced_replaces_nothing() {
    let mut cluster = Cluster::ready();
    cluster.spec.version = Some("17.5".into());
    let written = pass(&cluster);
    cluster.carry_out(&written.plan);
    cluster.spec.version = None;
    let (_, pods) = story(&mut cluster);
    assert_eq!(pods, 0);
}

#[test]
fn a_pod_that_cannot_start_is_replaced_when_its_version_is_taken_back() {
    let mut cluster = Cluster::ready();
    cluster.spec.version = Some("17.99".into());
    for _ in 0..3 {
        let planned = pass(&cluster);
        cluster.carry_out(&planned.plan);
        cluster.controllers();
    }
    cluster.spec.version = None;
    let (_, pods) = story(&mut cluster);
    assert_eq!(pods, 1);
    assert_snapshot!(pass(&cluster).text(), @"nothing");
}

#[test]
fn a_policy_that_rewrites_the_annotations_of_pods_makes_no_loop() {
    for rewritten in [None, Some("whatever".to_owned())] {
        let mut cluster = Cluster::ready();
        let Detail::Pod(pod) = &mut cluster.pod().unwrap().child.detail else {
            panic!("a Pod")
        };
        pod.asked = rewritten;
        assert_eq!(pass(&cluster).text(), "nothing");
    }
}

#[test]
fn a_hibernated_database_has_no_pod_and_wakes_with_the_same_data() {
    let mut cluster = Cluster::ready();
    let data = cluster.data.clone();
    cluster.spec.hibernated = true;
    assert_snapshot!(story(&mut cluster).0, @"apply StatefulSet");
    assert!(cluster.pod().is_none());
    // Nothing runs, so that whatever waited for a restart is written.
    cluster.settings.agent_image = "registry.acme.com/dbclaim:0.2.0".into();
    assert_snapshot!(story(&mut cluster).0, @"apply StatefulSet");
    cluster.spec.hibernated = false;
    assert_snapshot!(story(&mut cluster).0, @"apply StatefulSet");
    assert!(cluster.pod().is_some());
    assert_eq!(cluster.data, data);
}

#[test]
fn a_paused_claim_is_not_restarted() {
    let mut cluster = Cluster::ready();
    cluster.restart = Some("please".into());
    cluster.spec.paused = true;
    assert_eq!(story(&mut cluster).1, 0);
}

#[test]
fn a_hand_edit_of_the_template_is_undone_without_a_restart() {
    let mut cluster = Cluster::ready();
    let name = Slot::StatefulSet.name(&cluster.id);
    let Detail::StatefulSet(live) = &mut cluster.stored(Kind::StatefulSet, &name).child.detail else {
        panic!("a StatefulSet")
    };
    live.asked = Some("by hand".into());
    cluster.edit(Slot::StatefulSet, |it| {
        it["metadata"]["annotations"]["platform.acme.com/asked"] = "by hand".into();
    });
    let (_, pods) = story(&mut cluster);
    assert_eq!(pods, 0);
}

#[test]
fn annotations_that_are_taken_from_the_workload_ask_for_nothing() {
    let takes: [fn(&mut Workload); 2] = [|it| it.asked = None, |it| it.restart_hash = None];
    for take in takes {
        for image in [
            "registry.acme.com/dbclaim:0.1.0",
            "registry.acme.com/dbclaim:0.2.0",
        ] {
            let mut cluster = Cluster::ready();
            let name = Slot::StatefulSet.name(&cluster.id);
            let Detail::StatefulSet(live) = &mut cluster.stored(Kind::StatefulSet, &name).child.detail else {
                panic!("a StatefulSet")
            };
            take(live);
            cluster.edit(Slot::StatefulSet, |it| {
                it["metadata"]["annotations"]["platform.acme.com/asked"] = Value::Null;
            });
            cluster.settings.agent_image = image.into();
            let (told, pods) = story(&mut cluster);
            assert_eq!(pods, 0, "{told}");
            let newer = image.ends_with("0.2.0");
            assert_eq!(told.contains("apply StatefulSet"), !newer, "{told}");
            assert_eq!(pass(&cluster).plan.restart_pending, newer);
        }
    }
}

/// A small MySQL that serves, and is to be a medium one.
fn growing() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.spec.engine = EngineName::Mysql;
    cluster.live();
    cluster.spec.size = SizeName::Medium;
    cluster
}

#[test]
fn an_engine_that_can_grow_while_it_runs_is_told_when_it_has_the_memory() {
    let mut cluster = growing();
    let (told, pods) = story(&mut cluster);
    assert_eq!(pods, 0, "nothing was restarted");
    assert_snapshot!(told, @r"
    resize to 2Gi: orders-db-1-0
    apply Volume
    growing
    --
    annotate Pod platform.acme.com/asked platform.acme.com/restart-hash
    growing
    again at once
    --
    apply StatefulSet
    growing
    again at once
    --
    apply Config
    annotate Pod platform.acme.com/wanted
    ");
    assert_snapshot!(pass(&cluster).text(), @"nothing");
    // What is started from now on is of that size.
    let Detail::Pod(pod) = cluster.pod().unwrap().child.detail.clone() else {
        panic!("a Pod")
    };
    assert_eq!(pod.memory, Some(class::size(SizeName::Medium).memory));
}

#[test]
fn nothing_is_told_and_nothing_repeated_while_the_kubelet_is_at_it() {
    let mut cluster = growing();
    let resize = pass(&cluster);
    assert_eq!(resize.plan.steps.len(), 2, "the volume and the Pod");
    cluster.carry_out(&resize.plan);
    assert_snapshot!(pass(&cluster).text(), @"growing");
}

#[test]
fn where_a_pod_is_not_resized_it_is_replaced_and_told_why() {
    for by_the_kubelet in [true, false] {
        let mut cluster = growing();
        if by_the_kubelet {
            let resize = pass(&cluster);
            cluster.carry_out(&resize.plan);
            let Detail::Pod(pod) = &mut cluster.pod().unwrap().child.detail else {
                panic!("a Pod")
            };
            pod.resize_pending = Some("no room".into());
        } else {
            cluster.not_in_place = Some("no room".into());
        }
        let text = pass(&cluster).text();
        assert!(
            text.contains("not in place: no room") && text.contains("restarting"),
            "{text}"
        );
        let (told, pods) = story(&mut cluster);
        assert_eq!(pods, 1, "{told}");
        assert_eq!(pass(&cluster).text(), "nothing");
    }
}

#[test]
fn a_larger_size_with_anything_else_is_one_restart() {
    let others: [(&str, Ask); 4] = [
        ("a restart", |it| it.restart = Some("please".into())),
        ("a version", |it| it.spec.version = Some("9.7.4".into())),
        ("a newer operator", |it| {
            it.settings.agent_image = "registry.acme.com/dbclaim:0.2.0".into();
        }),
        ("a Pod that does not serve", |it| it.serve(false)),
    ];
    for (what, other) in others {
        let mut cluster = growing();
        other(&mut cluster);
        let (told, pods) = story(&mut cluster);
        assert_eq!(pods, 1, "{what}:\n{told}");
        assert_eq!(pass(&cluster).text(), "nothing", "{what}");
    }
}

#[test]
fn a_larger_size_that_is_taken_back_costs_a_restart_only_when_the_engine_may_use_it() {
    for (passes, restarts) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (5, 1)] {
        let mut cluster = growing();
        for _ in 0..passes {
            let planned = pass(&cluster);
            cluster.carry_out(&planned.plan);
            cluster.kubelet();
        }
        cluster.spec.size = SizeName::Small;
        let (told, pods) = story(&mut cluster);
        assert_eq!(pods, restarts, "after {passes} passes:\n{told}");
        assert_eq!(pass(&cluster).text(), "nothing", "after {passes} passes");
        let Detail::Pod(pod) = &cluster.pod().unwrap().child.detail else {
            panic!("a Pod")
        };
        let small = Some(class::size(SizeName::Small).memory);
        assert_eq!(
            (pod.requested_memory, pod.memory),
            (small, small),
            "after {passes} passes"
        );
    }
}

#[test]
fn a_pod_that_is_lost_while_it_grows_comes_back_and_grows() {
    for passes in 0..5 {
        let mut cluster = growing();
        for _ in 0..passes {
            let planned = pass(&cluster);
            cluster.carry_out(&planned.plan);
            cluster.kubelet();
        }
        cluster.pod().unwrap().child.deleting = true;
        cluster.controllers();
        cluster.agent();
        story(&mut cluster);
        assert_eq!(pass(&cluster).text(), "nothing", "after {passes} passes");
        let Detail::Pod(pod) = &cluster.pod().unwrap().child.detail else {
            panic!("a Pod")
        };
        assert_eq!(
            pod.memory,
            Some(class::size(SizeName::Medium).memory),
            "after {passes} passes"
        );
    }
}

#[test]
fn another_size_of_an_engine_that_cannot_and_a_smaller_one_are_one_restart() {
    for (engine, from, to) in [
        (EngineName::Postgres, SizeName::Small, SizeName::Medium),
        (EngineName::Mysql, SizeName::Medium, SizeName::Small),
    ] {
        let mut cluster = Cluster::new();
        (cluster.spec.engine, cluster.spec.size) = (engine, from);
        cluster.live();
        cluster.spec.size = to;
        let (told, pods) = story(&mut cluster);
        assert_eq!(pods, 1, "{told}");
    }
}
