//! What the log says of a claim's life: what has changed for its owner at info, every write at debug.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::error::{Class, Error};
use crate::api::condition::{kind, reason};
use crate::api::v1::{DatabaseClaimStatus, Phase};
use crate::api::wire::Meta;
use crate::apply::Written;
use crate::observe::cache::ClaimKey;
use crate::render::Kind;

/// Something that a claim's owner would want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The spec can be honoured.
    Accepted,
    /// A client can connect.
    Ready,
    /// The claim is being deleted.
    Terminating,
    /// Something is wrong, or still is and for another reason.
    Trouble {
        /// Type of the condition.
        condition: &'static str,
        /// Its reason.
        reason: String,
        /// Its message.
        message: String,
    },
}

/// What a new status says that the one before did not.
pub(super) fn between(before: Option<&DatabaseClaimStatus>, after: &DatabaseClaimStatus) -> Vec<News> {
    let mut news = Vec::new();
    let was_phase = before.and_then(|it| it.phase);
    if after.phase == Some(Phase::Terminating) {
        let known = was_phase == after.phase;
        return if known { news } else { vec![News::Terminating] };
    }
    let mut ready_reason = None;
    for (condition, good) in [
        (kind::ACCEPTED, Some(News::Accepted)),
        (kind::READY, Some(News::Ready)),
        (kind::STORAGE_READY, None),
        (kind::CREDENTIALS_READY, None),
    ] {
        let (was, Some(is)) = (before.and_then(|it| find(it, condition)), find(after, condition)) else {
            continue;
        };
        let bad = is.status != "True";
        let known = was.is_some_and(|was| was.status == is.status && (!bad || was.reason == is.reason));
        // An ordinary start is no trouble, and what Ready says the others need not repeat.
        let quiet = is.reason == reason::PROVISIONING || ready_reason == Some(&is.reason);
        if condition == kind::READY {
            ready_reason = Some(&is.reason);
        }
        match good {
            _ if known || (bad && quiet) => {}
            _ if bad => news.push(News::Trouble {
                condition,
                reason: is.reason.clone(),
                message: is.message.clone(),
            }),
            good => news.extend(good),
        }
    }
    news
}

fn find<'a>(status: &'a DatabaseClaimStatus, condition: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|it| it.type_ == condition)
}

impl News {
    /// Writes it to the log.
    pub(super) fn tell(&self) {
        match self {
            Self::Accepted => tracing::info!("the claim is accepted"),
            Self::Ready => tracing::info!("the database is ready"),
            Self::Terminating => tracing::info!("the claim is being deleted"),
            Self::Trouble {
                condition,
                reason,
                message,
            } => {
                tracing::info!(condition, reason, detail = message, "the claim has trouble");
            }
        }
    }
}

/// A claim is gone.
pub(super) fn deleted((namespace, claim): &ClaimKey) {
    tracing::info!(namespace, claim, "the claim is deleted");
}

/// One step was carried out.
pub(super) fn written(written: &Written) {
    match written {
        Written::Object { kind, meta, .. } => object(*kind, meta),
        Written::Resized { meta, .. } => object(Kind::Pod, meta),
        Written::Secrets { admin, app } => {
            object(Kind::Secret, app);
            object(Kind::Secret, admin);
        }
        Written::Deleted { kind, name, uid } => {
            tracing::debug!(kind = kind.name(), name, uid, "deleted");
        }
        Written::Claim(_) => tracing::debug!("the claim's finalizers are written"),
    }
}

fn object(kind: Kind, meta: &Meta) {
    let meta = &meta.object;
    let name = meta.name.as_deref().unwrap_or_default();
    let resource_version = meta.resource_version.as_deref().unwrap_or_default();
    tracing::debug!(kind = kind.name(), name, resource_version, "written");
}

/// A pass failed.
pub(super) fn failed(error: &Error) {
    let class = error.class();
    match class {
        Class::Conflict => {
            tracing::debug!(class = class.name(), label = error.label(), %error, "looked at something that has changed");
        }
        Class::Transient | Class::Terminal => {
            tracing::warn!(class = class.name(), label = error.label(), %error, "the pass failed");
        }
    }
}

/// A short name for one pass, to find its lines by.
pub(super) fn reconcile_id() -> String {
    let mut bytes = [0; 4];
    // Without randomness lines of passes run together, and nothing else is lost.
    let _ = getrandom::fill(&mut bytes);
    format!("{:08x}", u32::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::told;

    fn status(ready: (&str, &str)) -> DatabaseClaimStatus {
        DatabaseClaimStatus {
            conditions: vec![
                told(kind::ACCEPTED, "True", reason::ACCEPTED),
                told(kind::READY, ready.0, ready.1),
            ],
            ..Default::default()
        }
    }

    #[test]
    fn each_change_is_told_once() {
        let starting = status(("False", reason::PROVISIONING));
        let ready = status(("True", reason::READY));
        let looping = status(("False", reason::CRASH_LOOP));
        assert_eq!(between(None, &starting), [News::Accepted]);
        assert_eq!(between(Some(&starting), &ready), [News::Ready]);
        assert_eq!(between(Some(&ready), &ready), []);
        let trouble = between(Some(&ready), &looping);
        assert!(
            matches!(
                &trouble[..],
                [News::Trouble {
                    condition: kind::READY,
                    ..
                }]
            ),
            "{trouble:?}"
        );
        assert_eq!(between(Some(&looping), &looping), []);
        let going = DatabaseClaimStatus {
            phase: Some(Phase::Terminating),
            ..looping.clone()
        };
        assert_eq!(between(Some(&looping), &going), [News::Terminating]);
    }
}
