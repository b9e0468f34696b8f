//! From a claim and what was observed of it to the validated claim: what the spec is resolved against.

use super::renewal;
use super::seen::Seen;
use crate::api::key;
use crate::api::v1::DatabaseClaim;
use crate::claim::{Claim, ClaimId};
use crate::plan;
use crate::plan::observed::Observed;
use crate::validate::{References, Violations, outline, validate};

/// A claim that cannot be honoured.
pub(super) struct Refused {
    pub(super) violations: Violations,
    /// The claim as far as it is known.
    pub(super) known: Option<Box<Claim>>,
}

pub(super) fn resolve(
    id: &ClaimId,
    claim: &DatabaseClaim,
    observed: &Observed,
    seen: &Seen,
) -> Result<Claim, Refused> {
    let references = references(claim, id, observed, seen);
    let resolved = validate(id, &claim.spec, &references);
    let refused = |violations| Refused {
        violations,
        known: outline(id, &claim.spec, &references).map(Box::new),
    };
    resolved.map(|it| plan::settled(it, observed)).map_err(refused)
}

fn references(claim: &DatabaseClaim, id: &ClaimId, observed: &Observed, seen: &Seen) -> References {
    let volume = observed.volume(id).map(|(_, volume)| volume);
    let vacant = observed.is_vacant(id, seen.initialized_before());
    // What was never bound is made again where the spec requests something else.
    let holds = volume.filter(|it| !(vacant && it.never_bound));
    let status = seen.status.as_ref();
    References {
        identity: volume.and_then(|it| it.identity.clone()),
        vacant,
        requested: holds.and_then(|it| it.requested),
        capacity: volume.and_then(|it| it.capacity),
        restart: renewal::restart(claim, status),
        rotation: renewal::rotation(claim, status),
        end_previous: renewal::asked(claim, key::END_PREVIOUS),
        without_tls: observed.current_report(id).is_some_and(|it| it.tls.is_none()),
    }
}
