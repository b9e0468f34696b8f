//! A volume that does not grow: when that is said, when somebody looks again, and that it heals.

use dbclaim::plan::observed::Growth;
use dbclaim::render::Kind;
use dbclaim::status::{self, Moment};

use crate::states::{growing, volume};
use crate::{GENERATION, at, condition, status_of};

const FAILED: (Kind, &str, &str) = (
    Kind::PersistentVolumeClaim,
    "VolumeResizeFailed",
    "rpc error: the pool is full",
);

#[test]
fn what_is_said_against_a_growth_counts_when_it_lasts_and_is_forgotten_when_the_volume_has_grown() {
    let mut cluster = growing(Growth::default(), Some(FAILED));
    let first = status_of(&cluster, None, at(0));
    assert_eq!(condition(&first, "StorageReady").reason, "VolumeResizing");
    assert!(!status::is_settled(&first), "nobody tells of Events");
    let soon = status_of(&cluster, Some(&first), at(5));
    assert_eq!(soon, first);
    let stuck = status_of(&cluster, Some(&soon), at(15));
    let told = condition(&stuck, "StorageReady");
    assert_eq!(told.reason, "ExpansionStuck");
    assert!(told.message.contains("the pool is full"), "{}", told.message);
    assert_eq!(told.last_transition_time.0, at(0), "since when");
    assert_eq!(condition(&stuck, "Stalled").reason, "ExpansionStuck");
    assert_eq!(condition(&stuck, "Ready").status, "True");
    assert!(!status::is_settled(&stuck));
    assert_eq!(
        status_of(&cluster, Some(&stuck), at(900)),
        stuck,
        "nothing is written again"
    );
    // Its Events are still there.
    cluster.controllers();
    let grown = status_of(&cluster, Some(&stuck), at(901));
    for (kind, reason) in [
        ("StorageReady", "Ready"),
        ("Stalled", "Idle"),
        ("Reconciling", "Idle"),
    ] {
        assert_eq!(condition(&grown, kind).reason, reason);
    }
    assert!(status::is_settled(&grown));
}

#[test]
fn what_can_never_be_is_said_at_once() {
    let infeasible = Growth {
        infeasible: true,
        failure: Some(("ControllerResizeError".into(), "at most 10Gi".into())),
        ..Growth::default()
    };
    let mut cluster = growing(infeasible, None);
    let first = status_of(&cluster, None, at(0));
    assert_eq!(condition(&first, "StorageReady").reason, "ExpansionStuck");
    volume(&mut cluster).growth = None;
    let tried = status_of(&cluster, Some(&first), at(20));
    assert_eq!(
        condition(&tried, "StorageReady").reason,
        "VolumeResizing",
        "tried again"
    );
}

#[test]
fn a_volume_that_does_not_grow_is_looked_at_every_15_to_60_seconds() {
    let cluster = growing(Growth::default(), None);
    let first = status_of(&cluster, None, at(0));
    let after = |second| {
        let moment = Moment {
            generation: GENERATION,
            before: Some(&first),
            now: at(second),
            refusals: &[],
        };
        (
            status::look_again(moment, &first).as_secs(),
            status::growth_lasts(moment).is_some(),
        )
    };
    assert_eq!(
        [1, 9, 10, 120, 900].map(after),
        [(15, false), (15, false), (15, true), (30, true), (60, true)]
    );
}

#[test]
fn a_driver_that_nobody_has_heard_of_has_a_minute_to_begin() {
    let left = (
        FAILED.0,
        "ExternalExpanding",
        "waiting for an external controller",
    );
    let cluster = growing(Growth::default(), Some(left));
    let first = status_of(&cluster, None, at(0));
    let reason = |second| {
        let status = status_of(&cluster, Some(&first), at(second));
        condition(&status, "StorageReady").reason.clone()
    };
    assert_eq!(
        [15, 59, 60].map(reason),
        ["VolumeResizing", "VolumeResizing", "ExpansionStuck"]
    );
}
