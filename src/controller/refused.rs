//! Writes that the API server has refused. The same is not sent again whenever something happens to the claim, only at
//! the pace of what is refused; what is to be written instead is sent at once. Knows nothing of why.

use std::time::{Duration, Instant};

use super::error::Class;
use super::memory::delay;
use crate::plan::{Plan, Step};
use crate::render::{Kind, Slot};
use crate::status::Refusal;

/// What was refused lately of one claim's writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Refused(Vec<Held>);

/// One write, and why it is not sent.
#[derive(Clone, Debug)]
struct Held {
    write: Write,
    refusal: Refusal,
    tries: u32,
    until: Instant,
}

/// What a write would do: its place, the hash of its content, and the UID of what it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Write(Slot, String, Option<String>);

impl Write {
    /// Steps without content are cheap to try, and Secrets have another content each time.
    fn of(step: &Step) -> Option<Self> {
        let (object, uid) = match step {
            Step::Create(object) => (object, None),
            Step::Apply { object, uid } => (object, Some(uid.clone())),
            _ => return None,
        };
        (object.slot.kind() != Kind::Secret).then(|| Self(object.slot, object.applied.clone(), uid))
    }
}

/// What was taken out of a plan.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    /// Why.
    pub(super) refusals: Vec<Refusal>,
    /// When the first of it is to be sent again.
    pub(super) due: Option<Duration>,
}

impl Refused {
    /// Takes out of a plan what would be refused again.
    pub(super) fn hold_back(&mut self, plan: &mut Plan) -> HeldBack {
        if self.0.is_empty() {
            return HeldBack::default();
        }
        let now = Instant::now();
        let planned: Vec<_> = plan.steps.iter().filter_map(Write::of).collect();
        self.0.retain(|it| planned.contains(&it.write));
        let waiting: Vec<_> = self.0.iter().filter(|it| now < it.until).collect();
        if waiting.is_empty() {
            return HeldBack::default();
        }
        plan.steps
            .retain(|step| Write::of(step).is_none_or(|write| waiting.iter().all(|it| it.write != write)));
        // Whatever was to follow at once waits for what is held back.
        plan.again &= !plan.steps.is_empty();
        HeldBack {
            refusals: waiting.iter().map(|it| it.refusal.clone()).collect(),
            due: waiting.iter().map(|it| it.until - now).min(),
        }
    }

    /// Remembers what the API server did not take.
    pub(super) fn remember(&mut self, steps: &[Step], slot: Option<Slot>, refusal: &Refusal) {
        let mut writes = steps.iter().filter_map(Write::of);
        let Some(write) = writes.find(|it| Some(it.0) == slot) else {
            return;
        };
        let held = &mut self.0;
        let before = held.iter().position(|it| it.write == write);
        let tries = before.map_or(0, |place| held.swap_remove(place).tries) + 1;
        held.push(Held {
            write,
            refusal: refusal.clone(),
            tries,
            until: Instant::now() + delay(Class::Terminal, tries),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Object;

    fn apply(slot: Slot, content: &str) -> Step {
        Step::Apply {
            object: Object {
                slot,
                name: "orders-db".into(),
                body: serde_json::Value::Null,
                applied: content.into(),
            },
            uid: "u".into(),
        }
    }

    fn plan(steps: &[Step]) -> Plan {
        Plan {
            steps: steps.to_vec(),
            again: true,
            ..Plan::default()
        }
    }

    #[test]
    fn what_was_refused_is_not_sent_again_before_its_pause_is_over_unless_it_has_changed() {
        let (mut refused, refusal) = (
            Refused::default(),
            Refusal {
                verb: "apply",
                kind: "PersistentVolumeClaim",
                name: "orders-db-1".into(),
                words: "no".into(),
            },
        );
        let (larger, other) = (apply(Slot::Volume, "20Gi"), apply(Slot::Config, "c"));
        let mut first = plan(&[larger.clone(), other.clone()]);
        assert_eq!(refused.hold_back(&mut first).refusals, []);
        refused.remember(&first.steps, Some(Slot::Volume), &refusal);
        let mut second = plan(&first.steps);
        let held = refused.hold_back(&mut second);
        assert_eq!((second.steps, second.again), (vec![other], true));
        assert_eq!(held.refusals, [refusal]);
        assert!(held.due.is_some_and(|it| it <= Duration::from_secs(5)));
        let mut alone = plan(std::slice::from_ref(&larger));
        refused.hold_back(&mut alone);
        assert_eq!(alone, Plan::default(), "nothing follows at once from nothing");
        let mut changed = plan(&[apply(Slot::Volume, "10Gi")]);
        assert!(refused.hold_back(&mut changed).due.is_none());
        assert_eq!(changed.steps.len(), 1);
        let mut back = plan(&[larger]);
        assert!(refused.hold_back(&mut back).due.is_none(), "it was forgotten");
    }
}
