//! What controllers and the kubelet say about the one object that holds a claim up: one list of that object's
//! Events, not a watch, and not again before a pause is over. Where many claims of a namespace are held up at once,
//! one look at the whole namespace says which of them are worth their own.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Observer;
use crate::claim::ClaimId;
use crate::plan::observed::{Child, Detail, Observed, Pod, Volume, Warning};
use crate::render::{Kind, Slot};

/// Pause after a warning was found.
const PAUSE: Duration = Duration::from_secs(60);
/// Pause after none was found: it may still come.
const SHORT_PAUSE: Duration = Duration::from_secs(15);
/// So many looks within [`FRESH`] are a crowd. API servers keep Events out of their watch caches and go through all of
/// a namespace for each list, so that a thousand claims that start at once would cost more than their creation.
const CROWD: usize = 4;
/// For so long one look at a namespace serves all its claims.
const FRESH: Duration = Duration::from_secs(5);
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

/// Field selectors of what [`newest`] takes for a warning.
const WARNINGS: [&str; 2] = ["type%3DWarning", "reason%3DFailedBinding"];
/// Events in one answer. One object has a handful.
const PAGE: u32 = 100;

/// What was read lately.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// By the UID of the claim.
    looks: Mutex<HashMap<String, Look>>,
    /// By namespace. Held while a namespace is looked at, so that one look serves all who wait for it.
    warned: tokio::sync::Mutex<HashMap<String, Warned>>,
}

/// The objects of a namespace about which there is a warning, over or not.
#[derive(Debug)]
struct Warned {
    at: Instant,
    uids: HashSet<String>,
}

/// A part of a list.
#[derive(Debug, Deserialize)]
struct Page<T> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

/// An Event, as far as it says what it is about.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    involved_object: ObjectReference,
}

#[derive(Clone, Debug)]
struct Look {
    subject: String,
    at: Instant,
    warning: Option<Warning>,
}

/// Whether to ask the API server.
#[derive(Debug, PartialEq)]
enum Known {
    /// Asked lately; this was found.
    Recently(Option<Warning>),
    /// Ask.
    No,
}

impl Looks {
    /// What is known of the Events of `subject`.
    fn known(&self, claim: &str, subject: &str) -> Known {
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

    /// Whether so many were looked at just now that the next ones are better looked at together.
    fn is_crowded(&self) -> bool {
        let looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = looks.values().filter(|look| look.at.elapsed() < FRESH);
        recent.take(CROWD).count() == CROWD
    }

    /// Remembers what was found.
    fn remember(&self, claim: &str, subject: &str, warning: Option<Warning>) {
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

impl Observer {
    /// Newest warning about the object that holds the claim up. A claim goes on without it, so that failing to
    /// read it is not an error.
    pub(super) async fn warning(&self, id: &ClaimId, observed: &Observed) -> Option<Warning> {
        let (child, waits) = subject(id, observed)?;
        if let Known::Recently(warning) = self.looks.known(&id.uid, &child.uid) {
            return warning;
        }
        let warning = self.newest_warning(&id.namespace, child, waits).await;
        let warning = warning.unwrap_or_else(|error| {
            tracing::warn!(%error, object = child.name, "cannot read Events");
            None
        });
        self.looks.remember(&id.uid, &child.uid, warning.clone());
        warning
    }

    async fn newest_warning(
        &self,
        namespace: &str,
        child: &Child,
        waits: Waits,
    ) -> Result<Option<Warning>, kube::Error> {
        if self.looks.is_crowded() && !self.is_warned(namespace, &child.uid).await? {
            return Ok(None);
        }
        let about = format!("involvedObject.uid%3D{}", child.uid);
        let found = self.events(namespace, &about, None).await?;
        Ok(newest(child, waits, &found.items))
    }

    /// Whether there is any warning about an object, by one look for all of its namespace.
    async fn is_warned(&self, namespace: &str, uid: &str) -> Result<bool, kube::Error> {
        let mut warned = self.looks.warned.lock().await;
        warned.retain(|_, it| it.at.elapsed() < FRESH);
        if let Some(known) = warned.get(namespace) {
            return Ok(known.uids.contains(uid));
        }
        let mut uids = HashSet::new();
        for selector in WARNINGS {
            let mut next = None;
            loop {
                let page: Page<About> = self.events(namespace, selector, next.as_deref()).await?;
                uids.extend(page.items.into_iter().filter_map(|it| it.involved_object.uid));
                next = page.metadata.continue_.filter(|it| !it.is_empty());
                if next.is_none() {
                    break;
                }
            }
        }
        let is_warned = uids.contains(uid);
        let at = Instant::now();
        warned.insert(namespace.to_owned(), Warned { at, uids });
        Ok(is_warned)
    }

    async fn events<T: DeserializeOwned>(
        &self,
        namespace: &str,
        selector: &str,
        next: Option<&str>,
    ) -> Result<Page<T>, kube::Error> {
        let next = next.map(|it| format!("&continue={it}")).unwrap_or_default();
        let url =
            format!("/api/v1/namespaces/{namespace}/events?fieldSelector={selector}&limit={PAGE}{next}");
        let page = self.get(&url, "application/json").await?;
        // A namespace that is gone has none.
        Ok(page.unwrap_or(Page {
            metadata: ListMeta::default(),
            items: Vec::new(),
        }))
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// A database that serves.
    Start,
    /// More space.
    Growth,
}

/// The object whose Events may say why the claim is not ready, or why its volume does not grow; none where its own
/// status says it.
fn subject<'a>(id: &ClaimId, observed: &'a Observed) -> Option<(&'a Child, Waits)> {
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
fn newest(child: &Child, waits: Waits, events: &[Event]) -> Option<Warning> {
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
    fn a_few_looks_are_no_crowd() {
        let looks = Looks::default();
        for claim in ["a", "b", "c"] {
            looks.remember(claim, "set", None);
        }
        looks.remember("a", "volume", None);
        assert!(!looks.is_crowded(), "three claims");
        looks.remember("d", "set", None);
        assert!(looks.is_crowded());
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
                never_bound: false,
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
