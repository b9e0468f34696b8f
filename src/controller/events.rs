//! Events on the claim: one when trouble begins or changes its kind, one when it is over. Repeats are counted on
//! the first one. Conditions are the record; a failing Event is logged and fails nothing.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder};

use crate::api::{API_VERSION, KIND, label};
use crate::claim::ClaimId;
use crate::status::News;

/// What an Event may say, in bytes; the API server's limit is 1024.
const LONGEST_NOTE: usize = 1000;
/// A pass does not wait longer than this for an Event.
const LIMIT: Duration = Duration::from_secs(5);

/// Publishes Events; shared by all passes.
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// Names this process as the reporter.
    pub fn new(client: Client) -> Self {
        Self {
            recorder: Recorder::new(client, label::MANAGER.into()),
        }
    }

    /// Publishes news about a claim.
    pub async fn publish(&self, id: &ClaimId, news: &News<'_>) {
        let event = match news {
            News::Trouble(condition) | News::Warning(condition) => {
                event(EventType::Warning, &condition.reason, &condition.message)
            }
            News::Over => event(
                EventType::Normal,
                crate::api::condition::reason::READY,
                "the trouble is over; a client can connect, write and read",
            ),
        };
        let published = tokio::time::timeout(LIMIT, self.recorder.publish(&event, &regarding(id))).await;
        match published {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, reason = event.reason, "the Event was not published"),
            Err(_) => tracing::warn!(
                reason = event.reason,
                "the Event was not published within {LIMIT:?}"
            ),
        }
    }
}

fn event(type_: EventType, reason: &str, note: &str) -> Event {
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(shortened(note)),
        action: "Reconcile".to_owned(),
        secondary: None,
    }
}

/// Without a version: repeats are told by what the Event is about, and that does not change with each version.
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
