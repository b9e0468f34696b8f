//! What controllers and the kubelet say about the one object that holds a claim up: one list of that object's
//! Events, not a watch, and not again before a pause is over.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;

use crate::claim::ClaimId;
use crate::plan::observed::{Child, Detail, Observed, Pod, Volume, Warning};
use crate::render::{Kind, Slot};

/// Pause after a warning was found.
const PAUSE: Duration = Duration::from_secs(60);
/// Pause after none was found: it may still come.
const SHORT_PAUSE: Duration = Duration::from_secs(15);
/// When what was read is forgotten.
const STALE: Duration = Duration::from_secs(600);
/// Newer than a warning, these say that it is over.
const CURES: [&str; 7] = [
    "SuccessfulCreate",
    "ProvisioningSucceeded",
    "SuccessfulAttachVolume",
    "Started",
    "VolumeResizeSuccessful",
    "FileSystemResizeRequired",
    "FileSystemResizeSuccessful",
];
/// Said by a driver's resizer, each time that it tries.
const TAKEN_UP: &str = "Resizing";
/// Known from the Pod's own status, in better words; or not about its start.
const KNOWN: [&str; 4] = ["FailedScheduling", "BackOff", "Failed", "Unhealthy"];

/// What was read lately, by the UID of the claim.
#[derive(Debug, Default)]
pub(super) struct Looks {
    looks: Mutex<HashMap<String, Look>>,
}

#[derive(Clone, Debug)]
struct Look {
    subject: String,
    at: Instant,
    warning: Option<Warning>,
}

/// Whether to ask the API server.
#[derive(Debug, PartialEq)]
pub(super) enum Known {
    /// Asked lately; this was found.
    Recently(Option<Warning>),
    /// Ask.
    No,
}

impl Looks {
    /// What is known of the Events of `subject`.
    pub(super) fn known(&self, claim: &str, subject: &str) -> Known {
        let looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = looks.get(claim).filter(|look| {
            let pause = if look.warning.is_some() {
                PAUSE
            } else {
                SHORT_PAUSE
            };
            look.subject == subject && look.at.elapsed() < pause
        });
        recent.map_or(Known::No, |look| Known::Recently(look.warning.clone()))
    }

    /// Remembers what was found.
    pub(super) fn remember(&self, claim: &str, subject: &str, warning: Option<Warning>) {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.retain(|_, look| look.at.elapsed() < STALE);
        let look = Look {
            subject: subject.to_owned(),
            at: Instant::now(),
            warning,
        };
        looks.insert(claim.to_owned(), look);
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// A database that serves.
    Start,
    /// More space.
    Growth,
}

/// The object whose Events may say why the claim is not ready, or why its volume does not grow; none where its own
/// status says it.
pub(super) fn subject<'a>(id: &ClaimId, observed: &'a Observed) -> Option<(&'a Child, Waits)> {
    let start = start(id, observed).map(|child| (child, Waits::Start));
    start.or_else(|| growth(id, observed).map(|child| (child, Waits::Growth)))
}

/// Who grows a volume tells of it beside the volume, the kubelet beside the Pod that uses it.
fn growth<'a>(id: &ClaimId, observed: &'a Observed) -> Option<&'a Child> {
    let (child, volume) = observed.volume(id)?;
    let growth = volume.growth.as_deref();
    let told = growth.and_then(|it| it.failure.as_ref());
    if !volume.is_growing() || told.is_some_and(|(_, words)| !words.is_empty()) {
        return None;
    }
    let pod = observed.pod(id).map(|(pod, _)| pod);
    pod.filter(|_| growth.is_some_and(|it| it.on_node))
        .or(Some(child))
}

fn start<'a>(id: &ClaimId, observed: &'a Observed) -> Option<&'a Child> {
    let unbound = || {
        let (child, volume) = observed.volume(id)?;
        (!volume.bound).then_some(child)
    };
    let Some((child, pod)) = observed.pod(id) else {
        return observed.slot(id, Slot::StatefulSet).or_else(unbound);
    };
    let Pod {
        ready,
        unschedulable,
        trouble,
        node,
        ..
    } = pod;
    if child.deleting || *ready || trouble.is_some() {
        return None;
    }
    match unschedulable {
        Some(words) if ["olume", "torage"].iter().any(|it| words.contains(it)) => unbound(),
        Some(_) => None,
        // The scheduler has chosen a node and waits for the volume.
        None if node.is_none() => unbound(),
        None if observed.current_report(id).is_some() => None,
        None => Some(child),
    }
}

/// The newest warning about an object, unless it is over.
pub(super) fn newest(child: &Child, waits: Waits, events: &[Event]) -> Option<Warning> {
    let mut events: Vec<_> = events.iter().map(|event| (seen(event), event)).collect();
    events.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let mut taken_up = matches!(&child.detail, Detail::Volume(volume) if has_a_driver(volume));
    let mut left = None;
    for (_, event) in events {
        let reason = event.reason.as_deref().unwrap_or_default();
        if CURES.contains(&reason) {
            return None;
        }
        taken_up |= reason == TAKEN_UP;
        // That nothing can bind a volume is said as a Normal event.
        let warns = event.type_.as_deref() == Some("Warning") || reason == "FailedBinding";
        let warning = Warning {
            kind: child.kind,
            name: child.name.clone(),
            reason: reason.to_owned(),
            message: event.message.clone().unwrap_or_default().trim().to_owned(),
        };
        let known = child.kind == Kind::Pod && KNOWN.contains(&reason);
        if !warns || known || (waits == Waits::Growth && !warning.is_about_growth()) {
            continue;
        }
        if !warning.is_left_to_a_driver() {
            return Some(warning);
        }
        left.get_or_insert(warning);
    }
    left.filter(|_| !taken_up)
}

fn has_a_driver(volume: &Volume) -> bool {
    volume.growth.as_ref().is_some_and(|it| it.taken_up || it.on_node)
}

fn seen(event: &Event) -> Option<Timestamp> {
    let series = event
        .series
        .as_ref()
        .and_then(|it| it.last_observed_time.as_ref());
    let last = event.last_timestamp.as_ref().map(|it| it.0);
    let first = event.event_time.as_ref().map(|it| it.0);
    let made = event.metadata.creation_timestamp.as_ref().map(|it| it.0);
    series.map(|it| it.0).or(last).or(first).or(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::quantity::Bytes;
    use crate::plan::observed::{Growth, Integrity, Ownership};
    use serde_json::json;

    fn child(kind: Kind) -> Child {
        Child {
            kind,
            name: "orders-db-1".into(),
            uid: "u".into(),
            resource_version: "1".into(),
            ownership: Ownership::Ours,
            deleting: false,
            applied: None,
            integrity: Integrity::Known(0),
            team: None,
            detail: Detail::None,
        }
    }

    fn event(type_: &str, reason: &str, at: &str) -> Event {
        serde_json::from_value(
            json!({"metadata": {"name": reason}, "involvedObject": {}, "type": type_,
            "reason": reason, "message": format!("{reason} it says"), "lastTimestamp": at}),
        )
        .unwrap()
    }

    #[test]
    fn the_newest_warning_counts_until_something_says_that_it_is_over() {
        let set = child(Kind::StatefulSet);
        let failed = event("Warning", "FailedCreate", "2026-01-01T00:00:10Z");
        let found = newest(
            &set,
            Waits::Start,
            &[
                event("Normal", "SuccessfulCreate", "2026-01-01T00:00:01Z"),
                failed.clone(),
            ],
        );
        assert_eq!(found.unwrap().reason, "FailedCreate");
        let over = event("Normal", "SuccessfulCreate", "2026-01-01T00:00:11Z");
        assert_eq!(newest(&set, Waits::Start, &[failed, over]), None);
    }

    #[test]
    fn a_volume_that_nothing_can_bind_is_a_warning_although_its_event_is_normal() {
        let volume = child(Kind::PersistentVolumeClaim);
        let waiting = event("Normal", "WaitForFirstConsumer", "2026-01-01T00:00:01Z");
        assert_eq!(
            newest(&volume, Waits::Start, std::slice::from_ref(&waiting)),
            None
        );
        let failed = event("Normal", "FailedBinding", "2026-01-01T00:00:00Z");
        assert_eq!(
            newest(&volume, Waits::Start, &[waiting, failed]).unwrap().reason,
            "FailedBinding"
        );
    }

    #[test]
    fn of_a_volume_that_does_not_grow_only_what_is_said_of_its_growth_counts() {
        let volume = |growth: Option<Growth>| {
            let growth = growth.map(Box::new);
            let volume = Volume {
                identity: None,
                bound: true,
                requested: Bytes::parse("2Gi").ok(),
                capacity: Bytes::parse("1Gi").ok(),
                storage_class: None,
                growth,
            };
            Child {
                detail: Detail::Volume(Box::new(volume)),
                ..child(Kind::PersistentVolumeClaim)
            }
        };
        let reason = |growth, events: &[Event]| {
            let found = newest(&volume(growth), Waits::Growth, events);
            found.map(|it| it.reason)
        };
        let taken_up = || {
            Some(Growth {
                taken_up: true,
                ..Growth::default()
            })
        };
        let left = event("Warning", "ExternalExpanding", "2026-01-01T00:00:01Z");
        let begun = event("Normal", "Resizing", "2026-01-01T00:00:05Z");
        let failed = event("Warning", "VolumeResizeFailed", "2026-01-01T00:00:03Z");
        let other = event("Warning", "ProvisioningFailed", "2026-01-01T00:00:09Z");
        let over = event("Normal", "VolumeResizeSuccessful", "2026-01-01T00:00:07Z");
        assert_eq!(reason(None, std::slice::from_ref(&other)), None);
        assert_eq!(
            reason(None, std::slice::from_ref(&left)).unwrap(),
            "ExternalExpanding"
        );
        assert_eq!(
            reason(taken_up(), std::slice::from_ref(&left)),
            None,
            "a driver is at it"
        );
        let tried = [left.clone(), begun.clone()];
        assert_eq!(reason(None, &tried), None, "a driver has begun");
        let all = [left, begun, failed, other, over];
        assert_eq!(
            reason(taken_up(), &all[..4]).unwrap(),
            "VolumeResizeFailed",
            "that it is tried again does not end it"
        );
        assert_eq!(reason(taken_up(), &all), None);
    }

    #[test]
    fn events_are_not_read_again_before_the_pause_is_over_unless_another_object_is_in_the_way() {
        let looks = Looks::default();
        assert_eq!(looks.known("claim", "set"), Known::No);
        looks.remember("claim", "set", None);
        assert_eq!(looks.known("claim", "set"), Known::Recently(None));
        assert_eq!(looks.known("claim", "volume"), Known::No);
        assert_eq!(looks.known("other", "set"), Known::No);
    }
}
