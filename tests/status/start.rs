//! From nothing to Ready: few writes, and no silence when it takes long.

use dbclaim::api::protocol::MemberPhase;
use dbclaim::api::v1::{DatabaseClaimStatus, Phase};

use crate::cluster::Cluster;
use crate::states::{pod, say, started};
use crate::{at, condition, status_of};

/// The distinct statuses that a story leads to, a tenth of a second per scene.
pub fn written(story: Vec<Cluster>) -> Vec<DatabaseClaimStatus> {
    let mut written = Vec::new();
    go_on(&mut written, 0, story);
    written
}

/// The same after others, from a second on.
fn go_on(written: &mut Vec<DatabaseClaimStatus>, from: i64, story: Vec<Cluster>) {
    for (scene, cluster) in story.into_iter().enumerate() {
        let now = at(from) + jiff::SignedDuration::from_millis(100 * i64::try_from(scene).unwrap());
        let status = status_of(&cluster, written.last(), now);
        if written.last() != Some(&status) {
            written.push(status);
        }
    }
}

/// An ordinary start: every pass that something new may trigger.
pub fn start(mut cluster: Cluster) -> Vec<Cluster> {
    let mut scenes = vec![cluster.clone()];
    let mut scene = |cluster: &mut Cluster, change: &dyn Fn(&mut Cluster)| {
        change(cluster);
        scenes.push(cluster.clone());
        let pass = cluster.pass();
        cluster.carry_out(&pass.plan);
        scenes.push(cluster.clone());
    };
    for _ in 0..3 {
        scene(&mut cluster, &|_| {});
    }
    scene(&mut cluster, &|it| {
        it.controllers();
        pod(it).unschedulable = Some("0/1 nodes are available: 1 unbound PersistentVolumeClaim.".into());
    });
    scene(&mut cluster, &|it| pod(it).unschedulable = None);
    scene(&mut cluster, &|it| {
        say(it, MemberPhase::Starting, None, |_| {});
    });
    scene(&mut cluster, &|it| {
        say(it, MemberPhase::Initializing, None, |_| {});
    });
    scene(&mut cluster, &|it| {
        it.agent();
        it.serve(false);
        say(it, MemberPhase::Running, None, |report| report.write_test = None);
    });
    scene(&mut cluster, &|it| {
        it.agent();
        it.serve(false);
    });
    scene(&mut cluster, &|it| it.serve(true));
    scene(&mut cluster, &|_| {});
    scenes
}

#[test]
fn an_ordinary_start_is_told_in_two_statuses() {
    let written = written(start(Cluster::new()));
    let phases: Vec<_> = written.iter().map(|it| it.phase.unwrap()).collect();
    assert_eq!(phases, [Phase::Provisioning, Phase::Ready]);
    assert_eq!(
        condition(&written[0], "Ready").message,
        "the database is starting"
    );
}

#[test]
fn an_undelete_is_told_in_two_statuses_and_knows_of_its_data_from_the_first() {
    let mut cluster = Cluster::ready();
    cluster.recreate();
    cluster.collect_former();
    let written = written(start(cluster));
    let phases: Vec<_> = written.iter().map(|it| it.phase.unwrap()).collect();
    assert_eq!(phases, [Phase::Provisioning, Phase::Ready]);
    assert_eq!(written[0].initialized_at, written[1].initialized_at);
    assert!(written[0].initialized_at.is_some());
}

#[test]
fn a_start_that_takes_long_says_on_what_it_waits() {
    let cluster = started();
    let first = status_of(&cluster, None, at(0));
    let soon = status_of(&cluster, Some(&first), at(9));
    assert_eq!(soon, first);
    let late = status_of(&cluster, Some(&first), at(10));
    assert_eq!(condition(&late, "Ready").reason, "AgentSilent");
}

#[test]
fn putting_to_sleep_and_waking_a_day_later_are_told_in_two_statuses_each() {
    let mut cluster = Cluster::ready();
    let mut told = written(vec![cluster.clone()]);
    cluster.spec.hibernated = true;
    let mut story = vec![cluster.clone()];
    cluster.carry_out(&cluster.pass().plan);
    story.push(cluster.clone());
    cluster.controllers();
    story.push(cluster.clone());
    go_on(&mut told, 1, story);
    cluster.spec.hibernated = false;
    go_on(&mut told, 24 * 3600, start(cluster));
    let says: Vec<_> = told
        .iter()
        .map(|it| format!("{:?} {}", it.phase.unwrap(), condition(it, "Ready").reason))
        .collect();
    let expected = [
        "Ready Ready",
        "Updating Stopping",
        "Hibernated Hibernated",
        "Updating Provisioning",
        "Ready Ready",
    ];
    assert_eq!(says, expected);
}
