//! What a status shows beside its conditions: the member, and what the defaults came to. Pure.

use crate::api::v1::{Member, Resolved, ResolvedResources, RestartStatus};
use crate::claim::Claim;
use crate::class;
use crate::plan::observed::Observed;
use crate::render::Slot;

/// Longest value of an annotation that a status repeats; the CRD has the same bound.
const LONGEST: usize = 64;

pub(super) fn member(claim: &Claim, observed: &Observed) -> Member {
    let report = observed.current_report(&claim.id);
    let volume = observed.volume(&claim.id).map(|(_, volume)| volume);
    Member {
        name: Slot::StatefulSet.name(&claim.id),
        role: "primary".to_owned(),
        ready: observed.pod(&claim.id).is_some_and(|(_, pod)| pod.ready),
        version: observed.any_report(&claim.id).and_then(|it| it.version.clone()),
        storage: volume.and_then(|it| it.capacity).map(|it| it.to_string()),
        pending_restart: report.map(|it| it.pending_restart.clone()).unwrap_or_default(),
    }
}

pub(super) fn resolved(claim: &Claim, observed: &Observed) -> Resolved {
    let volume = observed.volume(&claim.id).map(|(_, volume)| volume);
    Resolved {
        image: claim.image.reference.clone(),
        version: claim.version.to_string(),
        resources: ResolvedResources {
            cpu_request: claim.size.cpu_request.to_string(),
            cpu_limit: claim.size.cpu_limit.to_string(),
            memory: claim.size.memory.to_string(),
        },
        // What cannot be lowered: what the volume has, or was promised.
        storage: volume
            .and_then(|it| it.requested.max(it.capacity))
            .unwrap_or(claim.storage)
            .to_string(),
        storage_class_name: volume
            .and_then(|it| it.storage_class.clone())
            .or_else(|| claim.storage_class.clone()),
        class: class::BUILT_IN.to_owned(),
    }
}

/// The newest request of a restart. One whose text is too long to be repeated is not known later.
pub(super) fn restart(claim: &Claim) -> Option<RestartStatus> {
    let asked = claim.restart.clone().filter(|it| it.len() <= LONGEST)?;
    Some(RestartStatus { asked })
}
