//! The milestones of an ordinary life: what of two statuses says that something that was asked for has happened.
//! Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::news::{News, Tone, is_ready};
use super::{has_taken_over, is_hibernated};
use crate::api::condition::{event, kind, reason};
use crate::api::v1::{DatabaseClaimStatus, Member, Phase};
use crate::claim::ClaimId;
use crate::render::Slot;

/// Every milestone between two statuses of a claim, in the order in which people expect them.
pub(super) fn milestones(
    id: &ClaimId,
    before: Option<&DatabaseClaimStatus>,
    now: &DatabaseClaimStatus,
) -> Vec<News> {
    if now.phase == Some(Phase::Terminating) {
        return Vec::new();
    }
    let begun = begun(id, before, now);
    let Some(before) = before else {
        return begun.into_iter().chain(ready(id, None, now)).collect();
    };
    let all = [
        begun,
        restarting(before, now),
        resized(before, now),
        grown(before, now),
        upgraded(before, now),
        rotated(id, before, now),
        hibernated(before, now),
        ready(id, Some(before), now),
    ];
    all.into_iter().flatten().collect()
}

fn milestone(reason: &str, message: String) -> News {
    News {
        tone: Tone::Milestone,
        reason: reason.to_owned(),
        message,
    }
}

/// Nothing stands in the claim's way: its volume and Secrets are made, or taken up again.
fn begun(id: &ClaimId, before: Option<&DatabaseClaimStatus>, now: &DatabaseClaimStatus) -> Option<News> {
    if before.is_some_and(has_taken_over) || !has_taken_over(now) {
        return None;
    }
    let volume = Slot::Volume.name(id);
    Some(match &now.initialized_at {
        Some(at) => milestone(
            event::UNDELETED,
            format!(
                "the volume {volume} of a former claim of this name is taken up again, with the data that was created at {at}"
            ),
        ),
        None => milestone(
            event::CREATED,
            format!(
                "the volume {volume}, the Secrets {} and {} and the database are being made",
                id.app_secret(),
                id.admin_secret()
            ),
        ),
    })
}

/// A restart that was asked for begins: applications lose their connections, and should be able to see why.
fn restarting(before: &DatabaseClaimStatus, now: &DatabaseClaimStatus) -> Option<News> {
    let begins = condition(now, kind::RECONCILING).filter(|it| it.reason == reason::RESTARTING)?;
    if under_way(before, reason::RESTARTING) {
        return None;
    }
    let mut changes = Vec::new();
    if let (Some(before), Some(now)) = (&before.resolved, &now.resolved) {
        if before.image != now.image {
            changes.push(format!("image {} instead of {}", now.image, before.image));
        }
        if before.resources != now.resources {
            changes.push(format!(
                "memory {} instead of {}",
                now.resources.memory, before.resources.memory
            ));
        }
    }
    let details = if changes.is_empty() {
        String::new()
    } else {
        format!(" ({})", changes.join(", "))
    };
    Some(milestone(
        reason::RESTARTING,
        format!("{}{details}", begins.message),
    ))
}

fn resized(before: &DatabaseClaimStatus, now: &DatabaseClaimStatus) -> Option<News> {
    let is_over = under_way(before, reason::RESIZING)
        && !under_way(now, reason::RESIZING)
        && !under_way(now, reason::RESTARTING)
        && is_ready(now);
    let resources = &now.resolved.as_ref().filter(|_| is_over)?.resources;
    Some(milestone(
        event::RESIZED,
        format!(
            "the database has CPU {} to {} and memory {}, without a restart",
            resources.cpu_request, resources.cpu_limit, resources.memory
        ),
    ))
}

fn grown(before: &DatabaseClaimStatus, now: &DatabaseClaimStatus) -> Option<News> {
    let (was, is) = change(before, now, |it| it.storage.as_deref())?;
    Some(milestone(
        event::STORAGE_GROWN,
        format!("the volume has {is}, and had {was}"),
    ))
}

fn upgraded(before: &DatabaseClaimStatus, now: &DatabaseClaimStatus) -> Option<News> {
    let (was, is) = change(before, now, |it| it.version.as_deref())?;
    Some(milestone(
        event::UPGRADED,
        format!("the database runs version {is}, and ran {was}"),
    ))
}

/// What a member was and is, where both are known and differ.
fn change<'a>(
    before: &'a DatabaseClaimStatus,
    now: &'a DatabaseClaimStatus,
    of: impl Fn(&'a Member) -> Option<&'a str>,
) -> Option<(&'a str, &'a str)> {
    let was = before.members.first().and_then(&of)?;
    let is = now.members.first().and_then(&of)?;
    (was != is).then_some((was, is))
}

fn rotated(id: &ClaimId, before: &DatabaseClaimStatus, now: &DatabaseClaimStatus) -> Option<News> {
    let rotation = now.rotation.as_ref()?;
    let was = before.rotation.as_ref().and_then(|it| it.done.as_deref());
    rotation.done.as_deref().filter(|done| Some(*done) != was)?;
    let until = rotation.previous_valid_until.as_ref();
    let until = until.map(|it| format!("; those before are valid until {it}"));
    Some(milestone(
        event::ROTATED,
        format!(
            "the Secret {} has new credentials{}",
            id.app_secret(),
            until.unwrap_or_default()
        ),
    ))
}

fn hibernated(before: &DatabaseClaimStatus, now: &DatabaseClaimStatus) -> Option<News> {
    if is_hibernated(before) || !is_hibernated(now) {
        return None;
    }
    let words = condition(now, kind::READY).map(|it| it.message.clone());
    Some(milestone(reason::HIBERNATED, words.unwrap_or_default()))
}

fn ready(id: &ClaimId, before: Option<&DatabaseClaimStatus>, now: &DatabaseClaimStatus) -> Option<News> {
    if before.is_some_and(is_ready) || !is_ready(now) {
        return None;
    }
    let first = before.is_none_or(|it| matches!(it.phase, None | Some(Phase::Pending | Phase::Provisioning)));
    let message = if first {
        format!(
            "a client that reads the Secret {} can connect, write and read",
            id.app_secret()
        )
    } else {
        let seconds = before.and_then(|it| away(it, now));
        let after = seconds.map(|it| format!(", after {it} s")).unwrap_or_default();
        format!("a client can connect, write and read again{after}")
    };
    Some(milestone(reason::READY, message))
}

/// For how many seconds the database was not ready: since it went down, or since it was woken.
fn away(before: &DatabaseClaimStatus, now: &DatabaseClaimStatus) -> Option<i64> {
    let since = |status, kind, value| {
        let found: &Condition = condition(status, kind).filter(|it| it.status == value)?;
        Some(found.last_transition_time.0)
    };
    let down = since(before, kind::READY, "False")?;
    let begun = since(before, kind::RECONCILING, "True").max(Some(down))?;
    let up = since(now, kind::READY, "True")?;
    Some(up.duration_since(begun).as_secs())
}

fn condition<'a>(status: &'a DatabaseClaimStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|it| it.type_ == kind)
}

fn under_way(status: &DatabaseClaimStatus, what: &str) -> bool {
    condition(status, kind::RECONCILING).is_some_and(|it| it.status == "True" && it.reason == what)
}
