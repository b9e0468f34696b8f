//! What is asked for by an annotation is asked for once, however the annotation comes and goes.

use dbclaim::api::v1::{EngineName, SizeName};

use crate::cluster::Cluster;

/// Passes and what the controllers do, until peace; how many Pods were replaced.
fn restarts(cluster: &mut Cluster) -> usize {
    let mut pods = 0;
    for _ in 0..8 {
        let before = cluster.pod().map(|it| it.child.uid.clone());
        let plan = cluster.pass().plan;
        cluster.carry_out(&plan);
        cluster.controllers();
        cluster.agent();
        let now = cluster.pod().map(|it| it.child.uid.clone());
        pods += usize::from(before.is_some() && now.is_some() && before != now);
    }
    pods
}

/// A claim that was restarted by annotation, of which nobody knows any more: its status was lost, or a former operator
/// has not kept it there.
fn forgotten(engine: EngineName) -> Cluster {
    let mut cluster = Cluster::of(engine);
    cluster.live();
    cluster.restart = Some("1".into());
    assert_eq!(restarts(&mut cluster), 1);
    cluster.restart = None;
    cluster
}

#[test]
fn a_request_that_is_gone_and_forgotten_restarts_nothing() {
    for engine in [EngineName::Postgres, EngineName::Mysql] {
        let mut cluster = forgotten(engine);
        assert_eq!(cluster.pass().text(), "nothing");
        // A newer operator in the same moment.
        cluster.settings.agent_image = "registry.acme.com/dbclaim:0.2.0".into();
        assert_eq!(restarts(&mut cluster), 0);
        assert_eq!(cluster.pass().text(), "a restart is pending");
        // The same value again, and then another.
        cluster.restart = Some("1".into());
        assert_eq!(restarts(&mut cluster), 0);
        cluster.restart = Some("2".into());
        assert_eq!(restarts(&mut cluster), 1);
        assert_eq!(cluster.pass().text(), "nothing");
    }
}

#[test]
fn what_else_is_asked_for_after_a_forgotten_request_is_carried_out_once() {
    let mut cluster = forgotten(EngineName::Postgres);
    cluster.spec.size = SizeName::Medium;
    assert_eq!(restarts(&mut cluster), 1, "another size");
    let mut cluster = forgotten(EngineName::Postgres);
    cluster.spec.version = Some("17.6".into());
    assert_eq!(
        restarts(&mut cluster),
        1,
        "another version than the one that runs"
    );
    assert_eq!(cluster.pass().text(), "nothing");
}

#[test]
fn a_version_that_is_pinned_where_nothing_else_was_ever_asked_for_is_carried_out() {
    let mut cluster = Cluster::ready();
    // The very version that runs.
    cluster.spec.version = Some("17.5".into());
    assert_eq!(restarts(&mut cluster), 1);
}
