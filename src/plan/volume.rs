//! A PersistentVolumeClaim that no volume was ever bound to is replaced where the spec requests another class or size.
//! Pure.

use super::{Allowance, Input, Plan, Step};
use crate::plan::observed::{Child, Volume};
use crate::render::{Kind, Slot};

/// Whether there is a PersistentVolumeClaim of ours that certainly holds nothing, and that nothing but a new one can
/// make into what the spec requests. Of one without a volume, Kubernetes lets nothing be changed but a class that is absent.
pub(super) fn is_made_for_something_else(input: &Input<'_>) -> bool {
    let Some((child, volume)) = input.observed.volume(&input.claim.id) else {
        return false;
    };
    let vacant = input
        .observed
        .is_vacant(&input.claim.id, input.initialized_before);
    vacant && volume.never_bound && !child.deleting && differs(input, child, volume)
}

fn differs(input: &Input<'_>, child: &Child, volume: &Volume) -> bool {
    let claim = input.claim;
    let class = match (&volume.storage_class, &claim.storage_class) {
        (None, _) => false,
        (Some(has), Some(asked)) => has != asked,
        // The class may be the cluster's default, or one that was requested before.
        (Some(_), None) => child.applied.as_deref() != Some(&*input.desired.volume.applied),
    };
    class || volume.requested != Some(claim.storage_request)
}

/// Deletes it; the pass that sees that it is gone makes the other one.
pub(super) fn replace(input: &Input<'_>, plan: &mut Plan) {
    let Some((child, _)) = input.observed.volume(&input.claim.id) else {
        return;
    };
    plan.steps.push(Step::Delete {
        kind: Kind::PersistentVolumeClaim,
        name: Slot::Volume.name(&input.claim.id),
        uid: child.uid.clone(),
        // To bind it, Kubernetes writes to it: what was bound since then is not deleted.
        resource_version: Some(child.resource_version.clone()),
        allowed_by: Allowance::NeverBound,
    });
}
