//! The Events of an ordinary life: what is told of each change, once, and that a claim at rest tells nothing.

use dbclaim::api::v1::{DatabaseClaimStatus, RotationStatus};
use dbclaim::claim::ClaimId;
use dbclaim::claim::quantity::Bytes;
use dbclaim::status::{News, Tone, news};

use crate::cluster::Cluster;
use crate::start::{start, written};
use crate::states::volume;
use crate::{at, status_of};

fn id() -> ClaimId {
    Cluster::new().id
}

/// What a story tells: every Event between its statuses, as an operator that remembers nothing derives them.
fn told(statuses: &[DatabaseClaimStatus]) -> Vec<String> {
    let before = std::iter::once(None).chain(statuses.iter().map(Some));
    let pairs = before.zip(statuses);
    let told = pairs.flat_map(|(before, now)| news(&id(), before, now, false));
    told.map(
        |News {
             tone,
             reason,
             message,
         }| {
            assert_eq!(tone, Tone::Milestone, "{reason}: {message}");
            format!("{reason}: {message}")
        },
    )
    .collect()
}

/// The statuses of a claim that serves and is then changed, by scenes of which each is what a pass sees.
fn changed(change: impl FnOnce(&mut Cluster) -> Vec<Cluster>) -> Vec<String> {
    let mut cluster = Cluster::ready();
    let first = status_of(&cluster, None, at(-3600));
    // Long ago, so that nothing of its start is left.
    let mut statuses = vec![status_of(&cluster, Some(&first), at(-3500))];
    for (scene, seen) in (0..).zip(change(&mut cluster)) {
        let status = status_of(&seen, statuses.last(), at(scene));
        if statuses.last() != Some(&status) {
            statuses.push(status);
        }
    }
    let last = statuses.last().unwrap();
    assert_eq!(news(&id(), Some(last), last, false), [], "at rest");
    let of_its_start = told(&statuses[..1]).len();
    told(&statuses).into_iter().skip(of_its_start).collect()
}

/// Lets the model go on until nothing changes, one scene per pass.
fn settle(cluster: &mut Cluster) -> Vec<Cluster> {
    let mut scenes = vec![cluster.clone()];
    for _ in 0..12 {
        let pass = cluster.pass();
        cluster.carry_out(&pass.plan);
        scenes.push(cluster.clone());
        cluster.live();
        scenes.push(cluster.clone());
    }
    scenes
}

#[test]
fn a_new_claim_tells_that_it_is_made_and_that_it_is_ready() {
    assert_eq!(
        told(&written(start(Cluster::new()))),
        [
            "Created: the volume orders-db-1, the Secrets orders-db-app and orders-db-admin and the database are being made",
            "Ready: a client that reads the Secret orders-db-app can connect, write and read",
        ]
    );
}

#[test]
fn an_undelete_tells_what_is_taken_up_again() {
    let mut cluster = Cluster::ready();
    cluster.recreate();
    cluster.collect_former();
    let told = told(&written(start(cluster)));
    let [undeleted, ready] = &told[..] else {
        panic!("{told:#?}")
    };
    assert!(
        undeleted.starts_with("Undeleted: the volume orders-db-1 of a former claim"),
        "{undeleted}"
    );
    assert!(ready.starts_with("Ready: "), "{ready}");
}

#[test]
fn a_restart_that_is_asked_for_says_why() {
    let told = changed(|cluster| {
        cluster.restart = Some("1".into());
        let asked = cluster.clone();
        cluster.serve(false);
        let down = cluster.clone();
        cluster.live();
        vec![asked, down, cluster.clone()]
    });
    let [restarting, ready] = &told[..] else {
        panic!("{told:#?}")
    };
    assert!(
        restarting.starts_with("Restarting: the Pod is being replaced for"),
        "{restarting}"
    );
    assert!(
        ready.starts_with("Ready: a client can connect, write and read again, after 1 s"),
        "{ready}"
    );
}

#[test]
fn storage_that_has_grown_says_from_what_to_what() {
    let told = changed(|cluster| {
        cluster.spec.storage = Some("9Gi".into());
        let mut scenes = settle(cluster);
        volume(cluster).capacity = Bytes::parse("9Gi").ok();
        scenes.push(cluster.clone());
        scenes
    });
    assert_eq!(told, ["StorageGrown: the volume has 9Gi, and had 5Gi"]);
}

#[test]
fn hibernation_and_waking_are_told() {
    let told = changed(|cluster| {
        cluster.spec.hibernated = true;
        let mut scenes = settle(cluster);
        cluster.spec.hibernated = false;
        scenes.extend(settle(cluster));
        scenes
    });
    let reasons: Vec<_> = told.iter().filter_map(|it| it.split(':').next()).collect();
    assert_eq!(reasons, ["Hibernated", "Ready"], "{told:#?}");
}

/// Two statuses that differ in this, and the reasons and words of what is told.
type Row = (
    &'static str,
    fn(&mut DatabaseClaimStatus, &mut DatabaseClaimStatus),
    &'static [&'static str],
);

const ROWS: &[Row] = &[
    ("nothing", |_, _| {}, &[]),
    (
        "a minor upgrade",
        |before, now| {
            before.members[0].version = Some("17.5".into());
            now.members[0].version = Some("17.6".into());
        },
        &["Upgraded: the database runs version 17.6, and ran 17.5"],
    ),
    (
        "a version that is known for the first time",
        |before, now| {
            before.members[0].version = None;
            now.members[0].version = Some("17.6".into());
        },
        &[],
    ),
    (
        "a version that is not known for a moment",
        |before, now| {
            before.members[0].version = Some("17.6".into());
            now.members.clear();
        },
        &[],
    ),
    (
        "a rotation",
        |_, now| {
            now.rotation = Some(RotationStatus {
                done: Some("2".into()),
                previous_valid_until: Some("2026-02-03T00:00:00Z".into()),
                ..RotationStatus::default()
            });
        },
        &[
            "Rotated: the Secret orders-db-app has new credentials; those before are valid until 2026-02-03T00:00:00Z",
        ],
    ),
    (
        "the end of the credentials before",
        |before, now| {
            let done = Some("2".to_owned());
            before.rotation = Some(RotationStatus {
                done: done.clone(),
                previous_valid_until: Some("2026-02-03T00:00:00Z".into()),
                ..RotationStatus::default()
            });
            now.rotation = Some(RotationStatus {
                done,
                ..RotationStatus::default()
            });
        },
        &[],
    ),
    (
        "a larger size in place",
        |before, now| {
            reconcile(before, "Resizing");
            now.resolved.as_mut().unwrap().resources.memory = "2Gi".into();
        },
        &["Resized: the database has CPU 250m to 1 and memory 2Gi, without a restart"],
    ),
    (
        "a resize that becomes a restart",
        |before, now| {
            reconcile(before, "Resizing");
            reconcile(now, "Restarting");
        },
        &["Restarting: because of a test"],
    ),
    (
        "a restart for another size",
        |_, now| {
            reconcile(now, "Restarting");
            now.resolved.as_mut().unwrap().resources.memory = "2Gi".into();
        },
        &["Restarting: because of a test (memory 2Gi instead of 512Mi)"],
    ),
    (
        "a restart for another version",
        |before, now| {
            reconcile(now, "Restarting");
            before.resolved.as_mut().unwrap().image = "postgres:17.5".into();
            now.resolved.as_mut().unwrap().image = "postgres:17.6".into();
        },
        &["Restarting: because of a test (image postgres:17.6 instead of postgres:17.5)"],
    ),
    (
        "a restart that goes on",
        |before, now| {
            reconcile(before, "Restarting");
            reconcile(now, "Restarting");
            now.observed_generation = Some(9);
        },
        &[],
    ),
    (
        "a deletion",
        |_, now| {
            now.phase = Some(dbclaim::api::v1::Phase::Terminating);
            reconcile(now, "Restarting");
        },
        &[],
    ),
];

fn reconcile(status: &mut DatabaseClaimStatus, reason: &str) {
    for condition in &mut status.conditions {
        if condition.type_ == "Reconciling" {
            condition.status = "True".into();
            condition.reason = reason.into();
            condition.message = "because of a test".into();
        }
    }
}

#[test]
fn each_milestone_is_told_where_it_is_passed_and_nowhere_else() {
    let ready = status_of(&Cluster::ready(), None, at(0));
    for (name, change, expected) in ROWS {
        let (mut before, mut now) = (ready.clone(), ready.clone());
        change(&mut before, &mut now);
        let told = news(&id(), Some(&before), &now, false);
        let told: Vec<_> = told
            .iter()
            .map(|it| format!("{}: {}", it.reason, it.message))
            .collect();
        assert_eq!(told, *expected, "{name}");
        assert_eq!(news(&id(), Some(&now), &now, false), [], "{name}, at rest");
    }
}
