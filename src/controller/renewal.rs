//! Certificates and credentials of a claim: what the planner orders is made, and when the next is due.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::Context;
use crate::api::key;
use crate::api::protocol::{Credentials, FORMAT};
use crate::api::v1::{DatabaseClaim, DatabaseClaimStatus};
use crate::certificate::Keys;
use crate::claim::{Claim, ClaimId};
use crate::issue;
use crate::plan::observed::{Observed, SecretState};
use crate::plan::{self, Order, Rotation, Turn};
use crate::render::hash;

/// Pause before looking again at a certificate that is to be renewed and waits for something.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest value of an annotation that is kept as it is.
const LONGEST: usize = 64;

/// What a claim asks for by an annotation, as it is kept: a long value by its hash.
pub(super) fn asked(claim: &DatabaseClaim, key: &str) -> Option<String> {
    let asked = claim.annotations().get(key).filter(|it| !it.is_empty())?;
    if asked.len() > LONGEST {
        return Some(hash(&asked.as_str().into()));
    }
    Some(asked.clone())
}

/// Rotation that a claim requests. One that waits is not withdrawn by removing its annotation.
pub(super) fn rotation(claim: &DatabaseClaim, status: Option<&DatabaseClaimStatus>) -> Option<String> {
    let waits = || status?.rotation.as_ref()?.asked.clone();
    asked(claim, key::ROTATE).or_else(waits)
}

/// Restart that a claim requests. Removing its annotation requests nothing: the newest one stands.
pub(super) fn restart(claim: &DatabaseClaim, status: Option<&DatabaseClaimStatus>) -> Option<String> {
    let known = || Some(status?.restart.as_ref()?.asked.clone());
    let asked = claim.annotations().get(key::RESTART).filter(|it| !it.is_empty());
    asked.cloned().or_else(known)
}

/// Keys and certificates as they shall be; `None` where the Secrets were not read or none can be made.
/// Also whether they are new.
pub(super) fn keys(
    claim: &Claim,
    observed: &Observed,
    initialized: bool,
    context: &Context,
) -> Option<(Keys, bool)> {
    let now = context.now();
    let order = plan::certificates(observed, &claim.id, initialized, now)?;
    match issue::carry_out(&order, &claim.id, context.lifetimes, now) {
        Ok(keys) => Some((keys, !matches!(order, Order::Keep(_)))),
        Err(error) => {
            tracing::error!(%error, "certificates are not renewed");
            None
        }
    }
}

/// Credentials as they shall be; `None` where the Secrets were not read or say nothing. Also whether they are new.
pub(super) fn credentials(
    claim: &Claim,
    observed: &Observed,
    initialized: bool,
    context: &Context,
) -> Option<(Credentials, bool)> {
    let now = context.now();
    // Later passwords must have higher generations, also after everything but the volume was lost.
    let generation = u64::try_from(now.as_second()).unwrap_or_default();
    let fresh = context.password().map(|password| Credentials {
        v: FORMAT,
        generation,
        password,
        login: None,
        previous: None,
        rotation: claim.rotation.clone(),
        ended: claim.end_previous.as_deref().map(Into::into),
    });
    let current = plan::credentials(claim, observed, fresh.clone(), initialized)?;
    let rotation = Rotation {
        claim,
        observed,
        initialized,
        now,
        overlap: context.overlap,
    };
    // What is paused is left as it is.
    let turn = if claim.paused {
        Turn::Keep
    } else {
        plan::turn(&rotation, &current)
    };
    if turn != Turn::Keep {
        tracing::info!(?turn, generation = current.generation, "rotating credentials");
    }
    Some((plan::rotated(&rotation, turn, current, fresh), turn != Turn::Keep))
}

/// Time until a certificate is to be renewed, or a rotation that waits can begin; `None` where nothing is known of
/// either.
pub(super) fn left(id: &ClaimId, observed: &Observed, waits: bool, now: Timestamp) -> Option<Duration> {
    let previous = match &observed.admin {
        SecretState::Present { credentials, .. } if waits => credentials.as_ref()?.previous_until(),
        _ => None,
    };
    let at = observed.renewal(id).into_iter().chain(previous).min()?;
    let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    Some(left.max(PAUSE))
}
