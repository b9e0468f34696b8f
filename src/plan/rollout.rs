//! When the Pod's template is written, and when the Pod is replaced. Pure.
//!
//! With `OnDelete`, whatever the template says is started by the next deletion of the Pod, also by a drain at
//! night. So it is written only as the first half of a restart that the claim's owner has asked for (another
//! version or size, the restart annotation), or while there is no Pod. Every other difference, such as that of a
//! newer operator, waits and shows as `UpdatePending`.

use super::growth::was_grown;
use super::observed::{Pod, Workload};
use super::{Allowance, Growing, Input, Plan, Step, settle};
use crate::render::{Kind, Slot};

/// The workload: created, healed, or changed where that is granted.
pub(super) fn template(input: &Input<'_>, plan: &mut Plan) {
    let (desired, observed) = (input.desired, input.observed);
    let id = &input.claim.id;
    // The Pod must not start on a volume that is not known to be ours.
    if observed.volume(id).is_none() {
        plan.again = true;
        return;
    }
    if let Some((_, live)) = observed.workload(id) {
        // Removing one of our annotations requests nothing: the Pod has the same one.
        let pod = observed.pod(id).map(|(_, pod)| pod);
        let before = live.asked.as_ref().or(pod.and_then(|it| it.asked.as_ref()));
        let hash = live
            .restart_hash
            .as_ref()
            .or(pod.and_then(|it| it.restart_hash.as_ref()));
        let asked = before != Some(&desired.asked);
        if plan.growing == Some(Growing::Begun) {
            return;
        }
        plan.restarting = asked && !live.stopped && !input.claim.hibernated && plan.growing.is_none();
        let granted = asked || live.stopped || input.claim.hibernated;
        if !granted && hash != Some(&desired.restart_hash) {
            plan.restart_pending = true;
            return;
        }
        if (asked || live.stopped) && writes(plan, Slot::Config) {
            // What is started starts with its configuration: that one is written first.
            plan.again = true;
            return;
        }
    }
    settle(input, plan, &desired.stateful_set);
    // Its Pod was resized: now the engine can be told.
    plan.again |= plan.growing.is_some() && writes(plan, Slot::StatefulSet);
}

fn writes(plan: &Plan, slot: Slot) -> bool {
    let of = |step: &Step| matches!(step, Step::Apply { object, .. } if object.slot == slot);
    plan.steps.iter().any(of)
}

/// The Pod, if the template that is in force was asked for after it had been started. One at a time, stopped
/// cleanly; never while the StatefulSet's controller might start the former template once more.
pub(super) fn restart(input: &Input<'_>, plan: &mut Plan) {
    let id = &input.claim.id;
    let (Some((set, live)), Some((child, pod))) = (input.observed.workload(id), input.observed.pod(id))
    else {
        return;
    };
    let unsafe_now = input.claim.hibernated || input.observed.volume(id).is_none();
    if unsafe_now || live.asked.as_deref() != Some(&*input.desired.asked) || !is_due(input, live, pod) {
        return;
    }
    plan.restarting = true;
    if writes(plan, Slot::Config) {
        plan.again = true;
        return;
    }
    if writes(plan, Slot::StatefulSet) || !live.taken_up || set.deleting || child.deleting {
        // The watch tells of the next of these steps.
        return;
    }
    plan.steps.push(Step::Delete {
        kind: Kind::Pod,
        name: child.name.clone(),
        uid: child.uid.clone(),
        resource_version: None,
        allowed_by: Allowance::RestartAsked,
    });
}

/// A Pod that was made from the template that is in force is not replaced, whatever its annotations say: a policy
/// of the cluster that rewrites them must not make us restart a database for ever. Until the template is taken up,
/// the revision is still that of the one before and says nothing; nor does that of a Pod that was resized.
fn is_due(input: &Input<'_>, live: &Workload, pod: &Pod) -> bool {
    let differs = pod.asked.is_some() && pod.asked != live.asked;
    differs
        && (was_grown(input, pod)
            || !live.taken_up
            || pod.revision.is_none()
            || pod.revision != live.revision)
}
