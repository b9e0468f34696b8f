//! Events on the claim. A message that is repeated within some minutes is counted on its first Event; every other one
//! is an Event of its own. Conditions are the record; a failing Event is logged and fails nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::api::{API_VERSION, KIND, label};
use crate::claim::ClaimId;
use crate::status::{News, Tone};

/// What an Event may say, in bytes; the API server's limit is 1024.
const LONGEST_NOTE: usize = 1000;
/// A pass does not wait longer than this for an Event.
const LIMIT: Duration = Duration::from_secs(5);
/// For how long a repeat is counted on the Event before it.
const SERIES: Duration = Duration::from_secs(6 * 60);

/// Publishes Events; shared by all passes.
pub struct Events {
    client: Client,
    /// The name of this process' machine or Pod.
    instance: String,
    /// What may still be repeated.
    recent: Mutex<HashMap<Key, Series>>,
}

/// What a repeat has in common with the Event before it: the claim's UID, the reason and the whole message.
type Key = (String, String, String);

/// An Event that was published.
#[derive(Clone)]
struct Series {
    name: String,
    count: i32,
    last: Timestamp,
}

impl Events {
    /// Names this process as the reporter.
    pub fn new(client: Client) -> Self {
        let name = rustix::system::uname();
        Self {
            client,
            instance: name.nodename().to_string_lossy().into_owned(),
            recent: Mutex::default(),
        }
    }

    /// Publishes news about a claim.
    pub async fn publish(&self, id: &ClaimId, news: &News, now: Timestamp) {
        let reason = &news.reason;
        match tokio::time::timeout(LIMIT, self.send(id, news, now)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, reason, "the Event was not published"),
            Err(_) => tracing::warn!(reason, "the Event was not published within {LIMIT:?}"),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "an Event changes no object of the claim"
    )]
    async fn send(&self, id: &ClaimId, news: &News, now: Timestamp) -> Result<(), kube::Error> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &id.namespace);
        let key = (id.uid.clone(), news.reason.clone(), news.message.clone());
        // A milestone is passed once. What it says of the next one, such as the time, differs.
        let before = (news.tone != Tone::Milestone)
            .then(|| self.recall(&key, now))
            .flatten();
        if let Some(before) = before {
            let count = before.count.saturating_add(1);
            let series = json!({"series": {"count": count, "lastObservedTime": MicroTime(now)}});
            let patched = api
                .patch(&before.name, &PatchParams::default(), &Patch::Merge(series))
                .await;
            match patched {
                // The API server has forgotten it: this is the first one again.
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    self.remember(key, before.name, count, now);
                    return Ok(());
                }
            }
        }
        let event = self.event(id, news, now);
        let name = event.metadata.name.clone().unwrap_or_default();
        api.create(&PostParams::default(), &event).await?;
        if news.tone != Tone::Milestone {
            self.remember(key, name, 1, now);
        }
        Ok(())
    }

    fn recall(&self, key: &Key, now: Timestamp) -> Option<Series> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|_, it| now.duration_since(it.last).unsigned_abs() < SERIES);
        recent.get(key).cloned()
    }

    fn remember(&self, key: Key, name: String, count: i32, last: Timestamp) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.insert(key, Series { name, count, last });
    }

    fn event(&self, id: &ClaimId, news: &News, now: Timestamp) -> Event {
        let type_ = match news.tone {
            Tone::Trouble | Tone::Warning => "Warning",
            Tone::Over | Tone::Milestone => "Normal",
        };
        Event {
            metadata: kube::core::ObjectMeta {
                namespace: Some(id.namespace.clone()),
                name: Some(format!("{}.{:x}", id.name, now.as_nanosecond())),
                ..Default::default()
            },
            type_: Some(type_.to_owned()),
            reason: Some(news.reason.clone()),
            note: Some(shortened(&news.message)),
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(label::MANAGER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            regarding: Some(regarding(id)),
            ..Default::default()
        }
    }
}

fn regarding(id: &ClaimId) -> ObjectReference {
    ObjectReference {
        api_version: Some(API_VERSION.to_owned()),
        kind: Some(KIND.to_owned()),
        name: Some(id.name.clone()),
        namespace: Some(id.namespace.clone()),
        uid: Some(id.uid.clone()),
        ..ObjectReference::default()
    }
}

fn shortened(note: &str) -> String {
    if note.len() <= LONGEST_NOTE {
        return note.to_owned();
    }
    let cut = (0..=LONGEST_NOTE).rev().find_map(|end| note.get(..end));
    format!("{} …", cut.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_between_characters_and_fits() {
        let cut = shortened(&"ü".repeat(2000));
        assert!(cut.len() < 1024 && cut.ends_with('…'));
        assert_eq!(shortened("short"), "short");
    }
}
