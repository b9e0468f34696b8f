//! Status of a claim whose spec cannot be honoured. Pure.

use super::diagnosis::{self, Verdict};
use super::shown::{member, restart};
use super::{Moment, conditions, growth_lasts, has_taken_over, rotation};
use crate::api::condition::{kind, reason};
use crate::api::v1::{DatabaseClaimStatus, Phase};
use crate::claim::Claim;
use crate::plan::observed::Observed;
use crate::render::Slot;
use crate::validate::Violations;

/// Status of a claim that cannot be honoured. What runs is left alone and still shown: Ready says what is true of it.
/// `known`: the claim as far as it is known.
pub fn refused(
    violations: &Violations,
    known: Option<&Claim>,
    observed: &Observed,
    moment: Moment<'_>,
) -> DatabaseClaimStatus {
    let message = violations.to_string();
    let invalid = || Verdict::bad(reason::INVALID, message.clone());
    let before = moment.before.cloned().unwrap_or_default();
    let served = known.filter(|_| has_taken_over(&before));
    let served = served.map(|it| as_it_runs(it, observed));
    let ready = served.as_ref().map_or_else(invalid, |claim| {
        let verdict = diagnosis::ready(claim, observed, moment.now);
        // Nothing is made until the spec is corrected.
        let is_made = observed.slot(&claim.id, Slot::StatefulSet).is_some();
        if is_made { verdict } else { invalid() }
    });
    let phase = match before.initialized_at {
        _ if ready.is_true => Phase::Ready,
        _ if ready.reason == reason::HIBERNATED => Phase::Hibernated,
        Some(_) => Phase::Degraded,
        None => Phase::Pending,
    };
    let mut verdicts = vec![(kind::ACCEPTED, invalid()), (kind::READY, ready)];
    if let Some(claim) = &served {
        verdicts.push((
            kind::STORAGE_READY,
            diagnosis::storage(claim, observed, growth_lasts(moment)),
        ));
        verdicts.push((
            kind::CREDENTIALS_READY,
            rotation::credentials(claim, observed, moment),
        ));
    }
    let idle = "nothing is done until the spec is corrected";
    verdicts.push((kind::RECONCILING, Verdict::bad(reason::IDLE, idle.into())));
    verdicts.push((kind::STALLED, invalid().turned()));
    DatabaseClaimStatus {
        observed_generation: Some(moment.generation),
        phase: Some(phase),
        conditions: conditions(moment, &verdicts),
        members: served
            .as_ref()
            .map_or_else(|| before.members.clone(), |claim| vec![member(claim, observed)]),
        restart: known.map_or(before.restart, restart),
        ..before
    }
}

/// The claim as its objects are now: further changes of the spec are not carried out.
pub(super) fn as_it_runs(claim: &Claim, observed: &Observed) -> Claim {
    let stopped = observed.workload(&claim.id).map(|(_, it)| it.stopped);
    Claim {
        hibernated: stopped.unwrap_or(claim.hibernated),
        ..claim.clone()
    }
}
