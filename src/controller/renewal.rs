//! Certificates of a claim: what the planner orders is issued, and when the next one is due.

use std::time::Duration;

use jiff::Timestamp;

use super::Context;
use crate::certificate::Keys;
use crate::claim::{Claim, ClaimId};
use crate::issue;
use crate::plan::observed::Observed;
use crate::plan::{self, Order};

/// Pause before looking again at a certificate that is to be renewed and waits for something.
const PAUSE: Duration = Duration::from_secs(5);

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

/// Time until a certificate is to be renewed; `None` where nothing is known of any.
pub(super) fn left(id: &ClaimId, observed: &Observed, now: Timestamp) -> Option<Duration> {
    let at = observed.renewal(id)?;
    let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    Some(left.max(PAUSE))
}
