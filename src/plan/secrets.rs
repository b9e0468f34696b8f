//! Credentials: a password is made once, goes first to the agent, and to applications only once the database
//! knows it. What is missing, empty or unreadable never changes a password. Pure.

use std::time::Duration;

use crate::api::condition::{kind, reason};
use crate::api::protocol::{Credentials, Previous};
use crate::claim::Claim;
use crate::render::{Object, Slot};

use super::observed::{Observed, SecretState};
use super::{Blocked, Input, LOOK_AGAIN, Plan, Step, rotation};

/// Pause before looking again whether the database knows a password; its report says so sooner.
const PENDING: Duration = Duration::from_secs(5);

/// The credentials that both Secrets are rendered from: those of the admin Secret; without one, the binding
/// Secret's password where the database was never initialised, else `fresh`. `None`: nothing is to be written in
/// this pass, because nothing was read or what was read makes no sense.
///
/// Fresh credentials of a database with data follow those of the binding Secret, which stay valid until the binding
/// Secret has the fresh ones.
pub fn credentials(
    claim: &Claim,
    observed: &Observed,
    fresh: Option<Credentials>,
    initialized: bool,
) -> Option<Credentials> {
    // Higher than what the database has: its report must not be taken for one of the fresh password.
    let reported = observed
        .any_report(&claim.id)
        .map_or(0, |it| it.applied.credentials);
    let fresh = fresh.map(|fresh| Credentials {
        generation: fresh.generation.max(reported.saturating_add(1)),
        ..fresh
    });
    match (&observed.admin, &observed.app) {
        (SecretState::Present { credentials, .. }, _) => credentials.clone(),
        // A database that was never initialised takes the password that applications already have.
        (
            SecretState::Absent,
            SecretState::Present {
                credentials: Some(app),
                ..
            },
        ) if !initialized => fresh.map(|fresh| Credentials {
            password: app.password.clone(),
            ..fresh
        }),
        (
            SecretState::Absent,
            SecretState::Present {
                credentials: Some(app),
                applied,
                ..
            },
        ) => fresh.map(|fresh| Credentials {
            previous: Some(Box::new(Previous {
                until: None,
                // A password that somebody else wrote into the Secret is not one that the database has to accept.
                password: applied.is_some().then(|| app.password.clone()),
                at_once: true,
            })),
            ..rotation::following(claim, app, fresh)
        }),
        (SecretState::Absent, _) | (SecretState::Untried, SecretState::Untried) => fresh,
        (SecretState::Unread | SecretState::Made { .. } | SecretState::Untried, _) => None,
    }
}

pub(super) fn steps(input: &Input<'_>, plan: &mut Plan) {
    let Input {
        claim,
        desired,
        observed,
        ..
    } = input;
    if let SecretState::Present {
        credentials: None, ..
    } = observed.admin
    {
        plan.blocked.push(unreadable(claim));
        plan.requeue = Some(LOOK_AGAIN);
        return;
    }
    let Some(secrets) = &desired.secrets else { return };
    if (&observed.admin, &observed.app) == (&SecretState::Untried, &SecretState::Untried) {
        plan.steps.push(Step::CreateSecrets(Box::new(secrets.clone())));
        return;
    }
    plan.steps.extend(settle(&observed.admin, &secrets.admin));
    let Some(step) = settle(&observed.app, &secrets.app) else {
        return;
    };
    // Applications get a password when the database knows it, or will from its first moment on.
    let report = observed.any_report(&claim.id);
    let never_initialized =
        claim.identity.initialized.is_none() && report.is_none_or(|it| it.initialized.is_none());
    let applied = report.map(|it| it.applied.credentials);
    if never_initialized || applied == Some(secrets.generation) {
        plan.steps.push(step);
        return;
    }
    plan.requeue = Some(PENDING);
    if secrets.previous_is_open {
        // What applications have is valid until they have something else.
        return;
    }
    plan.blocked.push(Blocked {
        condition: kind::CREDENTIALS_READY,
        reason: reason::CREDENTIALS_PENDING,
        message: format!(
            "the database does not know the newest password yet; Secret {} follows as soon as it does",
            claim.id.app_secret()
        ),
    });
}

fn settle(state: &SecretState, object: &Object) -> Option<Step> {
    match state {
        SecretState::Absent => Some(Step::Create(object.clone())),
        SecretState::Present {
            uid,
            deleting: false,
            applied,
            ..
        } if applied.as_deref() != Some(object.applied.as_str()) => Some(Step::Apply {
            object: object.clone(),
            uid: uid.clone(),
        }),
        SecretState::Present { .. }
        | SecretState::Unread
        | SecretState::Untried
        | SecretState::Made { .. } => None,
    }
}

fn unreadable(claim: &Claim) -> Blocked {
    let name = Slot::AdminSecret.name(&claim.id);
    Blocked {
        condition: kind::CREDENTIALS_READY,
        reason: reason::SECRET_UNREADABLE,
        message: format!(
            "Secret {name} cannot be read as what the operator wrote; the database keeps its password. Restore the Secret, or delete it to get a new password"
        ),
    }
}
