//! Credentials: a password is made once, goes first to the agent, and to applications only once the database
//! knows it. What is missing, empty or unreadable never changes a password. Pure.

use crate::api::condition::{kind, reason};
use crate::api::protocol::Credentials;
use crate::claim::Claim;
use crate::render::{Object, Slot};

use super::observed::{Observed, SecretState};
use super::{Blocked, Input, Plan, Step};

/// The credentials that both Secrets are rendered from: those of the admin Secret; without one, the binding
/// Secret's password where the database was never initialised, else `fresh`. `None`: nothing is to be written in
/// this pass, because nothing was read or what was read makes no sense.
pub fn credentials(
    observed: &Observed,
    fresh: Option<Credentials>,
    initialized: bool,
) -> Option<Credentials> {
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
        (SecretState::Absent, _) => fresh,
        (SecretState::Unread, _) => None,
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
        return;
    }
    let Some(secrets) = &desired.secrets else { return };
    settle(&observed.admin, &secrets.admin, plan);
    // Applications get a password when the database knows it, or will from its first moment on.
    let never_initialized = claim.identity.initialized.is_none()
        && observed
            .any_report(&claim.id)
            .is_none_or(|r| r.initialized.is_none());
    let applied = observed
        .any_report(&claim.id)
        .map_or(0, |report| report.applied.credentials);
    let wanted = match &observed.admin {
        SecretState::Present {
            credentials: Some(credentials),
            ..
        } => Some(credentials.generation),
        _ => None,
    };
    if never_initialized || wanted == Some(applied) {
        settle(&observed.app, &secrets.app, plan);
    } else if !matches!(observed.app, SecretState::Unread) {
        plan.blocked.push(Blocked {
            condition: kind::CREDENTIALS_READY,
            reason: reason::CREDENTIALS_PENDING,
            message: format!(
                "the database does not know the newest password yet; Secret {} follows as soon as it does",
                claim.id.app_secret()
            ),
        });
        plan.requeue = Some(std::time::Duration::from_secs(5));
    }
}

fn settle(state: &SecretState, object: &Object, plan: &mut Plan) {
    match state {
        SecretState::Absent => plan.steps.push(Step::Create(object.clone())),
        SecretState::Present {
            uid,
            deleting: false,
            applied,
            ..
        } if applied.as_deref() != Some(object.applied.as_str()) => {
            plan.steps.push(Step::Apply {
                object: object.clone(),
                uid: uid.clone(),
            });
        }
        SecretState::Present { .. } | SecretState::Unread => {}
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
