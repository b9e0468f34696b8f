//! How often the steps of a start that takes long are worth a write. Pure.

use std::time::Duration;

use super::diagnosis::Verdict;
use crate::api::condition::{kind, reason};
use crate::api::v1::DatabaseClaimStatus;

/// For so long a step that was named stands, if nothing but the next step comes after it.
const PAUSE: Duration = Duration::from_secs(5);
/// The same while many claims wait for their turn: their objects come before words about those of others.
const LONG_PAUSE: Duration = Duration::from_secs(25);

/// How long a status waits that names another step of the same start than the one before it, which was written
/// `ago`. `None` for everything that is to be said at once: Ready, trouble, and whatever else has changed.
/// `is_busy`: many claims wait, so that also the first step that is named waits.
pub fn postponed(
    before: &DatabaseClaimStatus,
    after: &DatabaseClaimStatus,
    ago: Duration,
    is_busy: bool,
) -> Option<Duration> {
    let pause = if is_busy { LONG_PAUSE } else { PAUSE };
    let left = pause.saturating_sub(ago);
    let follows_step = is_step(before) || (is_busy && down(before) == Some(reason::PROVISIONING));
    let only_steps = follows_step && is_step(after) && beside_steps(before) == beside_steps(after);
    (only_steps && !left.is_zero()).then_some(left)
}

/// Why it is not ready.
fn down(status: &DatabaseClaimStatus) -> Option<&str> {
    let ready = status.conditions.iter().find(|it| it.type_ == kind::READY)?;
    (ready.status == "False").then_some(&ready.reason)
}

fn is_step(status: &DatabaseClaimStatus) -> bool {
    down(status).is_some_and(|reason| Verdict::bad(reason, String::new()).is_transitional())
}

/// A status without what changes from step to step.
fn beside_steps(status: &DatabaseClaimStatus) -> DatabaseClaimStatus {
    let steps = [
        kind::READY,
        kind::STORAGE_READY,
        kind::CREDENTIALS_READY,
        kind::RECONCILING,
    ];
    let mut rest = status.clone();
    rest.members.clear();
    rest.conditions.retain(|it| !steps.contains(&it.type_.as_str()));
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::told;

    fn status(ready: &str, reason: &str) -> DatabaseClaimStatus {
        DatabaseClaimStatus {
            conditions: vec![
                told(kind::ACCEPTED, "True", reason::ACCEPTED),
                told(kind::READY, ready, reason),
            ],
            ..Default::default()
        }
    }

    #[test]
    fn a_step_after_a_step_waits_and_everything_else_is_said_at_once() {
        let waits = |before: &DatabaseClaimStatus, after: &DatabaseClaimStatus| {
            postponed(before, after, Duration::from_secs(2), false).map(|it| it.as_secs())
        };
        let pod = status("False", reason::POD_MISSING);
        let silent = status("False", reason::AGENT_SILENT);
        assert_eq!(waits(&pod, &silent), Some(3));
        assert_eq!(
            postponed(&pod, &silent, PAUSE, false),
            None,
            "it has stood for long enough"
        );
        let hidden = status("False", reason::PROVISIONING);
        assert_eq!(waits(&hidden, &silent), None, "the first that is named");
        let busy = |before, after| postponed(before, after, PAUSE, true).is_some();
        assert!(busy(&pod, &silent) && busy(&hidden, &silent));
        assert!(!busy(&hidden, &status("False", reason::CRASH_LOOP)));
        assert_eq!(waits(&pod, &status("True", reason::READY)), None);
        assert_eq!(waits(&status("True", reason::READY), &pod), None);
        assert_eq!(waits(&pod, &status("False", reason::CRASH_LOOP)), None);
        let generation = DatabaseClaimStatus {
            observed_generation: Some(2),
            ..silent.clone()
        };
        assert_eq!(
            waits(&pod, &generation),
            None,
            "whoever waits for a change must see it"
        );
        let initialized = DatabaseClaimStatus {
            initialized_at: Some("2026-01-01T00:00:00Z".into()),
            ..silent
        };
        assert_eq!(
            waits(&pod, &initialized),
            None,
            "that there is data is never held back"
        );
    }
}
