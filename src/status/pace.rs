//! When a claim is looked at again, and since when something of it is not as it should be. Pure.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Moment, is_ready, trouble};
use crate::api::condition::{kind, reason};
use crate::api::v1::{DatabaseClaimStatus, Phase};

/// How long the steps of an ordinary start are shown as one.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a claim in trouble is looked at, in the beginning and later.
const LOOK_SOON: Duration = Duration::from_secs(15);
const LOOK_LATE: Duration = Duration::from_secs(60);

/// How much longer the steps of an ordinary start are not worth a write each: counted from when it went down, or
/// from when something was begun after that, such as waking it.
pub fn patience(moment: Moment<'_>) -> Duration {
    let Some(before) = moment.before.filter(|it| !is_hibernated(it)) else {
        return PATIENCE;
    };
    let since = |kind: &str, value: &str| {
        let mut conditions = before.conditions.iter();
        let condition = conditions.find(|it| it.type_ == kind && it.status == value)?;
        Some(condition.last_transition_time.0)
    };
    let down = since(kind::READY, "False").map(|it| since(kind::RECONCILING, "True").max(Some(it)));
    let since = down.flatten().unwrap_or(moment.now);
    PATIENCE.saturating_sub(moment.now.duration_since(since).unsigned_abs())
}

/// When to look again at a claim that is not ready although nothing was heard of it: often at first, then less
/// so. A look costs no request unless there is something to write.
pub fn look_again(moment: Moment<'_>, status: &DatabaseClaimStatus) -> Duration {
    let patience = patience(moment);
    if !patience.is_zero() && !is_ready(status) {
        return patience;
    }
    let lasts = failing(kind::READY, status, moment.now);
    let lasts = lasts.or_else(|| failing(kind::CREDENTIALS_READY, status, moment.now));
    let lasts = lasts.or_else(|| growing(status, moment.now));
    (lasts.unwrap_or(LOOK_LATE * 4) / 4).clamp(LOOK_SOON, LOOK_LATE)
}

/// Whether nothing is left that only looking again would tell.
pub fn is_settled(status: &DatabaseClaimStatus) -> bool {
    let credentials = |it: &Condition| it.type_ == kind::CREDENTIALS_READY && it.status == "False";
    (is_ready(status) || is_hibernated(status))
        && trouble(status).is_none()
        && !status.conditions.iter().any(credentials)
        && !grows(status)
}

fn grows(status: &DatabaseClaimStatus) -> bool {
    let reasons = [reason::VOLUME_RESIZING, reason::EXPANSION_STUCK];
    let mut conditions = status.conditions.iter();
    conditions.any(|it| it.type_ == kind::STORAGE_READY && reasons.contains(&it.reason.as_str()))
}

/// For how long the volume has not had what is asked for.
fn growing(status: &DatabaseClaimStatus, now: jiff::Timestamp) -> Option<Duration> {
    failing(kind::STORAGE_READY, status, now).filter(|_| grows(status))
}

/// For how long the volume has not grown, where that is longer than one takes that can.
pub fn growth_lasts(moment: Moment<'_>) -> Option<Duration> {
    let lasts = growing(moment.before?, moment.now);
    lasts.filter(|lasts| *lasts >= PATIENCE)
}

/// Whether the database is stopped on purpose.
pub fn is_hibernated(status: &DatabaseClaimStatus) -> bool {
    status.phase == Some(Phase::Hibernated)
}

/// Whether the database has not taken over its password for longer than a start takes.
pub fn credentials_in_doubt(status: &DatabaseClaimStatus, now: jiff::Timestamp) -> bool {
    failing(kind::CREDENTIALS_READY, status, now).is_some_and(|lasts| lasts >= PATIENCE)
}

/// Since when a condition is False.
fn failing(kind: &str, status: &DatabaseClaimStatus, now: jiff::Timestamp) -> Option<Duration> {
    let mut conditions = status.conditions.iter();
    let condition = conditions.find(|it| it.type_ == kind && it.status == "False")?;
    Some(
        now.duration_since(condition.last_transition_time.0)
            .unsigned_abs(),
    )
}
