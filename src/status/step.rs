//! How often the steps of a start that takes long are worth a write. Pure.

use std::time::Duration;

use super::diagnosis::Verdict;
use crate::api::condition::kind;
use crate::api::v1::DatabaseClaimStatus;

/// For so long a step that was named stands, if nothing but the next step comes after it.
const PAUSE: Duration = Duration::from_secs(5);

/// How long a status waits that names another step of the same start than the one before it, which was written
/// `ago`. `None` for everything that is to be said at once: Ready, trouble, and whatever else has changed.
pub fn postponed(
    before: &DatabaseClaimStatus,
    after: &DatabaseClaimStatus,
    ago: Duration,
) -> Option<Duration> {
    let left = PAUSE.saturating_sub(ago);
    let only_steps = is_step(before) && is_step(after) && beside_steps(before) == beside_steps(after);
    (only_steps && !left.is_zero()).then_some(left)
}

fn is_step(status: &DatabaseClaimStatus) -> bool {
    let mut conditions = status.conditions.iter();
    conditions
        .find(|it| it.type_ == kind::READY)
        .is_some_and(|it| it.status == "False" && Verdict::bad(&it.reason, String::new()).is_transitional())
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
    use crate::api::condition::reason;
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
            postponed(before, after, Duration::from_secs(2)).map(|it| it.as_secs())
        };
        let pod = status("False", reason::POD_MISSING);
        let silent = status("False", reason::AGENT_SILENT);
        assert_eq!(waits(&pod, &silent), Some(3));
        assert_eq!(
            postponed(&pod, &silent, PAUSE),
            None,
            "it has stood for long enough"
        );
        let hidden = status("False", reason::PROVISIONING);
        assert_eq!(waits(&hidden, &silent), None, "the first that is named");
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
