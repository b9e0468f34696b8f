//! What a status says of a rotation. Pure.

use super::{Moment, Verdict, diagnosis};
use crate::api::condition::reason;
use crate::api::protocol::Credentials;
use crate::api::v1::{DatabaseClaimStatus, RotationStatus};
use crate::claim::Claim;
use crate::plan::observed::{Observed, SecretState};

/// Whether a rotation is asked for that is not known as done.
pub fn rotation_waits(asked: Option<&str>, known: Option<&RotationStatus>) -> bool {
    asked.is_some() && asked != known.and_then(|it| it.done.as_deref())
}

/// What is known of rotations: by the admin Secret where it was read, else as before. One is done when the end of
/// the credentials before it is set.
pub(super) fn known(observed: &Observed, before: Option<&DatabaseClaimStatus>) -> Option<RotationStatus> {
    let kept = || before?.rotation.clone();
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
    let done = credentials.rotation.clone()?;
    Some(RotationStatus {
        done: Some(done),
        previous_valid_until: credentials.previous_until().map(|it| it.to_string()),
    })
}

/// The condition CredentialsReady where nothing stands in the way. Credentials that are being replaced are valid.
pub(super) fn credentials(claim: &Claim, observed: &Observed, moment: Moment<'_>) -> Verdict {
    let verdict = diagnosis::credentials(claim, observed);
    let known = known(observed, moment.before);
    if !verdict.is_true || !rotation_waits(claim.rotation.as_deref(), known.as_ref()) {
        return verdict;
    }
    let secret = claim.id.app_secret();
    let until = match &observed.admin {
        SecretState::Present { credentials, .. } => {
            credentials.as_ref().and_then(Credentials::previous_until)
        }
        _ => None,
    };
    let message = match until.filter(|until| moment.now < *until) {
        Some(until) => format!(
            "a rotation was asked for; it begins when the credentials of the one before have ended, at {until}. Those in Secret {secret} are valid"
        ),
        None => format!("new credentials are being made; those in Secret {secret} are valid meanwhile"),
    };
    Verdict::good(reason::ROTATING, message)
}
