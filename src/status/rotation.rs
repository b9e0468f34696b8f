//! What a status says of a rotation. Pure.

use super::{Moment, Verdict, diagnosis};
use crate::api::condition::reason;
use crate::api::key;
use crate::api::protocol::Credentials;
use crate::api::v1::{DatabaseClaimStatus, RotationStatus};
use crate::claim::Claim;
use crate::plan::observed::{Observed, SecretState};

/// Whether a rotation is asked for that is not known as done.
pub fn rotation_waits(asked: Option<&str>, known: Option<&RotationStatus>) -> bool {
    asked.is_some() && asked != known.and_then(|it| it.done.as_deref())
}

/// Whether the end of previous credentials is asked for that is not known as done.
pub fn end_waits(asked: Option<&str>, known: Option<&RotationStatus>) -> bool {
    asked.is_some() && asked != known.and_then(|it| it.previous_ended.as_deref())
}

/// What is known of rotations: what is requested, and what is done.
pub(super) fn known(
    claim: &Claim,
    observed: &Observed,
    before: Option<&DatabaseClaimStatus>,
) -> Option<RotationStatus> {
    let done = done(observed, before);
    let waits = rotation_waits(claim.rotation.as_deref(), done.as_ref());
    let asked = claim.rotation.clone().filter(|_| waits);
    if asked.is_none() && done.is_none() {
        return None;
    }
    Some(RotationStatus {
        asked,
        ..done.unwrap_or_default()
    })
}

/// What is done: by the admin Secret where it was read, else as before. A rotation is done when the end of the
/// credentials before it is set.
fn done(observed: &Observed, before: Option<&DatabaseClaimStatus>) -> Option<RotationStatus> {
    let kept = || {
        let known = before?.rotation.clone()?;
        let is_done = known.done.is_some() || known.previous_ended.is_some();
        is_done.then_some(RotationStatus { asked: None, ..known })
    };
    let SecretState::Present {
        credentials: Some(credentials),
        ..
    } = &observed.admin
    else {
        return kept();
    };
    if credentials.previous_is_open() {
        return kept();
    }
    let (done, previous_ended) = (
        credentials.rotation.clone(),
        credentials.ended.clone().map(String::from),
    );
    if done.is_none() && previous_ended.is_none() {
        return None;
    }
    Some(RotationStatus {
        asked: None,
        done,
        previous_valid_until: credentials.previous_until().map(|it| format!("{it:.0}")),
        previous_ended,
    })
}

/// The condition CredentialsReady where nothing stands in the way. Credentials that are being replaced are valid.
pub(super) fn credentials(claim: &Claim, observed: &Observed, moment: Moment<'_>) -> Verdict {
    let verdict = diagnosis::credentials(claim, observed);
    if !verdict.is_true {
        return verdict;
    }
    let current = match &observed.admin {
        SecretState::Present { credentials, .. } => credentials.as_ref(),
        _ => None,
    };
    let known = known(claim, observed, moment.before);
    let asked = rotation_waits(claim.rotation.as_deref(), known.as_ref());
    if !asked && !current.is_some_and(Credentials::previous_is_open) {
        return verdict;
    }
    let secret = claim.id.app_secret();
    let until = current.and_then(Credentials::previous_until);
    match until.filter(|until| moment.now < *until) {
        Some(until) => Verdict::good(
            reason::ROTATION_WAITING,
            format!(
                "a rotation was asked for; it begins when the previous credentials end, at {until:.0}. To end them now: kubectl annotate dbclaim {} {}=\"$(date +%s)\" --overwrite. The credentials in Secret {secret} are valid",
                claim.id.name,
                key::END_PREVIOUS
            ),
        ),
        None => Verdict::good(
            reason::ROTATING,
            format!(
                "the database is being given new credentials; those in Secret {secret} are valid, and are replaced when the database has the new ones"
            ),
        ),
    }
}
