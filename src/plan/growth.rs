//! A larger size in place: the Pod is resized while it runs, and the engine takes over its new settings live. Pure.
//!
//! Only where the engine takes a larger size without a restart, and nothing but the size was asked for. The order is
//! such that the engine never counts on memory that its container has not got, wherever it is interrupted: the
//! kubelet gives the memory, the Pod is marked as one of the larger size, the template says the same, and the
//! configuration comes last. Where the cluster does not resize, the Pod is replaced as for every other change.

use super::observed::{Child, Pod, Workload};
use super::{Growing, Input, Plan, Step};
use crate::api::key;
use crate::render::{InPlace, Kind, Sized, Slot};

/// The next step of a larger size in place. While it is [`Plan::growing`], nothing else of the change is written.
pub(super) fn growth(input: &Input<'_>, plan: &mut Plan) {
    let id = &input.claim.id;
    let (Some(in_place), Some((_, live)), Some((child, pod))) = (
        &input.desired.in_place,
        input.observed.workload(id),
        input.observed.pod(id),
    ) else {
        return;
    };
    if child.deleting || input.claim.hibernated {
        return;
    }
    if live.asked.as_deref() == Some(&*input.desired.asked) {
        settled(input, in_place, plan, (child, pod));
    } else if grows(input, in_place, live, pod) {
        plan.not_in_place = hindrance(input, pod);
        if plan.not_in_place.is_none() {
            grow(input, in_place, plan, (child, pod));
        }
    }
}

/// Whether workload and Pod are as they would be with a smaller size, and nothing else differs.
fn grows(input: &Input<'_>, in_place: &InPlace, live: &Workload, pod: &Pod) -> bool {
    let is = |it: &Sized, asked: &Option<String>, hash: &Option<String>| {
        asked.as_ref() == Some(&it.asked) && hash.as_ref() == Some(&it.restart_hash)
    };
    let smaller: Vec<_> = in_place.smaller().collect();
    let template = smaller.iter().any(|it| is(it, &live.asked, &live.restart_hash));
    let mut sizes = smaller.iter().chain([&in_place.wanted]);
    let marked = sizes.any(|it| is(it, &pod.asked, &pod.restart_hash));
    let config = input.observed.slot(&input.claim.id, Slot::Config);
    // Once the engine was told, a restart is under way.
    let told = config.is_none_or(|it| it.applied.as_ref() == Some(&input.desired.config.applied));
    // One that does not serve is better started anew, and one whose memory nobody tells would be waited for in vain.
    let serves = pod.ready && pod.memory.is_some();
    template && marked && !told && !live.stopped && (serves || begun(input, pod))
}

fn begun(input: &Input<'_>, pod: &Pod) -> bool {
    pod.requested_memory == Some(input.claim.size.memory)
}

/// Why the Pod is not resized, in the words of who does not.
fn hindrance(input: &Input<'_>, pod: &Pod) -> Option<String> {
    let kubelet = pod.resize_pending.clone().filter(|_| begun(input, pod));
    kubelet.or_else(|| input.not_in_place.map(str::to_owned))
}

/// The next step, each of which may have been done before.
fn grow(input: &Input<'_>, in_place: &InPlace, plan: &mut Plan, (child, pod): (&Child, &Pod)) {
    plan.growing = Some(Growing::Begun);
    let InPlace { wanted, .. } = in_place;
    let marked = pod.asked.as_ref() == Some(&wanted.asked);
    if !begun(input, pod) {
        plan.steps.push(resize(in_place, child));
    } else if pod.memory != Some(wanted.memory) {
        // The kubelet is at it; the watch will tell.
    } else if !marked || pod.restart_hash.as_ref() != Some(&wanted.restart_hash) {
        // From here on, a smaller size takes a restart: soon the engine will use the memory.
        plan.again = true;
        plan.steps.push(Step::Annotate {
            kind: Kind::Pod,
            name: child.name.clone(),
            uid: child.uid.clone(),
            annotations: vec![
                (key::ASKED, wanted.asked.clone()),
                (key::RESTART_HASH, wanted.restart_hash.clone()),
            ],
        });
    } else {
        plan.growing = Some(Growing::Resized);
    }
}

/// The template says what is asked for, and the Pod may not be of it.
fn settled(input: &Input<'_>, in_place: &InPlace, plan: &mut Plan, (child, pod): (&Child, &Pod)) {
    if pod.asked.as_ref() != Some(&input.desired.asked) {
        // It is about to be replaced. Where it is for its size alone, this is for want of another way.
        let mut smaller = in_place.smaller();
        if smaller.any(|it| pod.asked.as_ref() == Some(&it.asked)) {
            plan.not_in_place = hindrance(input, pod);
        }
        return;
    }
    // Taken back before the engine knew of it: it was to be resized, and is brought back.
    let may_be = pod.requested_memory != Some(in_place.wanted.memory) && input.not_in_place.is_none();
    let begun = || {
        in_place
            .larger()
            .any(|it| Some(it.memory) == pod.requested_memory)
    };
    if may_be && begun() {
        plan.steps.push(resize(in_place, child));
    }
}

fn resize(in_place: &InPlace, child: &Child) -> Step {
    Step::Resize {
        name: child.name.clone(),
        uid: child.uid.clone(),
        memory: in_place.wanted.memory,
        resources: in_place.resources(),
    }
}

/// Whether a Pod was made larger while it ran: then it is not what the template would start, whatever its revision.
pub(super) fn was_grown(input: &Input<'_>, pod: &Pod) -> bool {
    let mut larger = input.desired.in_place.iter().flat_map(InPlace::larger);
    larger.any(|it| Some(&it.asked) == pod.asked.as_ref())
}
