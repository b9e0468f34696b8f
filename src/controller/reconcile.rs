//! The straight line: observe → validate → render → plan → apply → status.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::runtime::controller::Action;
use tracing::{Instrument as _, info_span};

use super::error::{Class, Error};
use super::{Context, news};
use crate::api::FINALIZER;
use crate::api::protocol::{Credentials, FORMAT, Initialized};
use crate::api::v1::{DatabaseClaim, DatabaseClaimStatus, Phase};
use crate::apply::{self, Target, Written};
use crate::claim::{Claim, ClaimId};
use crate::controller::memory::RESYNC;
use crate::observe::{self, Ask, reduce};
use crate::plan::observed::Observed;
use crate::plan::{self, Input, Plan, Step};
use crate::render::{Kind, Slot};
use crate::status::{self, Moment};
use crate::validate::{References, Violations, identify, validate};

/// One pass over one claim.
///
/// # Errors
/// When the API server could not be read or written; everything else is a value.
pub async fn reconcile(claim: Arc<DatabaseClaim>, context: Arc<Context>) -> Result<Action, Error> {
    let id = identify(&claim)?;
    let seen = Seen::new(&claim, &context, &id);
    let observed = observe(&id, &seen, &context)
        .instrument(info_span!("observe"))
        .await?;
    let resolved = validate(&id, &claim.spec, &references(&id, &observed));
    let plan = info_span!("plan").in_scope(|| match (&resolved, seen.deleting) {
        (_, true) => plan::teardown(&id, claim.spec.deletion_policy, seen.has_finalizer(), &observed),
        (Ok(resolved), false) => serve(resolved, &observed, &seen, &context),
        (Err(_), false) => Plan::default(),
    });
    let outcome = apply(&id, &seen, &plan, &context)
        .instrument(info_span!("apply", steps = plan.steps.len()))
        .await;
    let moment = Moment {
        generation: seen.generation,
        before: seen.status.as_ref(),
        now: context.now(),
    };
    let status = describe(&resolved, &seen, &observed, &plan, moment);
    if Some(&status) != seen.status.as_ref() && !observed.claim_gone && !going(&seen, &plan) {
        let news = news::between(seen.status.as_ref(), &status);
        write_status(&id, status, &context)
            .instrument(info_span!("status"))
            .await?;
        news.iter().for_each(news::News::tell);
    }
    outcome?;
    context
        .memory
        .note(&id.uid, (&id.namespace, &id.name), |it| it.failures = 0);
    Ok(next(&id, &plan, &seen, moment))
}

/// Whether the claim is gone after this pass, so that there is nothing left to write to.
fn going(seen: &Seen, plan: &Plan) -> bool {
    seen.deleting && (!seen.has_finalizer() || plan.steps.contains(&Step::Finalizer { present: false }))
}

/// The claim as this pass saw it.
struct Seen {
    resource_version: String,
    generation: i64,
    finalizers: Vec<String>,
    deleting: bool,
    status: Option<DatabaseClaimStatus>,
    suspects: Vec<Slot>,
    secrets_due: bool,
}

impl Seen {
    fn new(claim: &DatabaseClaim, context: &Context, id: &ClaimId) -> Self {
        let meta = &claim.metadata;
        let resource_version = meta.resource_version.clone().unwrap_or_default();
        let remembered = context.memory.recall(&id.uid);
        Self {
            status: context
                .memory
                .newest_status(&id.uid, &resource_version, claim.status.as_ref()),
            resource_version,
            generation: meta.generation.unwrap_or_default(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            suspects: remembered.suspects,
            secrets_due: remembered
                .secrets_read
                .is_some_and(|read| read.elapsed() >= RESYNC),
        }
    }

    fn has_finalizer(&self) -> bool {
        self.finalizers.iter().any(|it| it == FINALIZER)
    }

    fn initialized_before(&self) -> bool {
        self.status
            .as_ref()
            .is_some_and(|status| status.initialized_at.is_some())
    }
}

async fn observe(id: &ClaimId, seen: &Seen, context: &Context) -> Result<Observed, Error> {
    let pending = seen.suspects.iter().any(|slot| slot.kind() == Kind::Secret);
    let read_secrets = seen.secrets_due || pending || (seen.deleting && seen.has_finalizer());
    let observed = context
        .observer
        .observe(Ask {
            id,
            suspects: &seen.suspects,
            read_secrets,
        })
        .await?;
    context.memory.note(&id.uid, (&id.namespace, &id.name), |it| {
        if read_secrets || it.secrets_read.is_none() {
            it.secrets_read = Some(Instant::now());
        }
    });
    Ok(observed)
}

fn references(id: &ClaimId, observed: &Observed) -> References {
    let volume = observed.volume(id).map(|(_, volume)| volume);
    References {
        identity: volume.and_then(|it| it.identity.clone()),
        storage: volume.and_then(|it| it.requested.max(it.capacity)),
    }
}

fn serve(claim: &Claim, observed: &Observed, seen: &Seen, context: &Context) -> Plan {
    let initialized = initialized(claim, observed);
    // Later passwords must have higher generations, also after everything but the volume was lost.
    let generation = u64::try_from(context.now().as_second()).unwrap_or_default();
    let fresh = context.password().map(|password| Credentials {
        v: FORMAT,
        generation,
        password,
    });
    let credentials = plan::credentials(observed, fresh, initialized.is_some());
    let desired = crate::render::render(
        claim,
        &context.settings,
        credentials.as_ref(),
        initialized.as_ref(),
    );
    plan::plan(Input {
        claim,
        desired: &desired,
        observed,
        initialized_before: seen.initialized_before(),
        has_finalizer: seen.has_finalizer(),
    })
}

/// What is known of the volume: its record, else what the agent that runs on it says.
fn initialized(claim: &Claim, observed: &Observed) -> Option<Initialized> {
    let reported = || observed.current_report(&claim.id)?.initialized.clone();
    claim.identity.initialized.clone().or_else(reported)
}

async fn apply(id: &ClaimId, seen: &Seen, plan: &Plan, context: &Context) -> Result<(), Error> {
    context.observer.trust(plan.trusted.iter().copied());
    let target = Target {
        id,
        resource_version: &seen.resource_version,
        finalizers: &seen.finalizers,
    };
    let mut failure: Option<Error> = None;
    let mut suspects = Vec::new();
    for written in context.writer.carry_out(target, &plan.steps).await {
        match written {
            Ok(written) => {
                news::written(&written);
                take_in(id, written, context);
            }
            Err(error) => {
                tracing::debug!(%error, "a write failed");
                let apply::Error::Write { slot, .. } = &error;
                suspects.extend(*slot);
                let error = Error::from(error);
                // The worst decides how long to wait: what is refused is not retried at the pace of a conflict.
                if failure
                    .as_ref()
                    .is_none_or(|it| rank(it.class()) < rank(error.class()))
                {
                    failure = Some(error);
                }
            }
        }
    }
    let keep = plan.requeue.is_some() && suspects.is_empty();
    context.memory.note(&id.uid, (&id.namespace, &id.name), |it| {
        if !keep {
            it.suspects = suspects;
        }
    });
    failure.map_or(Ok(()), Err)
}

fn rank(class: Class) -> u8 {
    match class {
        Class::Conflict => 0,
        Class::Transient => 1,
        Class::Terminal => 2,
    }
}

/// The next pass sees what this one wrote, whether or not the watch has shown it.
fn take_in(id: &ClaimId, written: Written, context: &Context) {
    match written {
        Written::Object {
            kind: Kind::Secret, ..
        }
        | Written::Claim => {}
        Written::Object { kind, slot, meta } => {
            if let Some(seen) = reduce::metadata(kind, &meta, observe::detail(kind, &meta)) {
                context.observer.trust(slot.map(|slot| (slot, seen.fingerprint)));
                context.observer.cache.written(seen);
            }
        }
        Written::Deleted { kind, name, uid } => {
            let key = (id.namespace.clone(), id.name.clone());
            context.observer.cache.deleted_by_us(&key, kind, &name, &uid);
        }
    }
}

fn describe(
    resolved: &Result<Claim, Violations>,
    seen: &Seen,
    observed: &Observed,
    plan: &Plan,
    moment: Moment<'_>,
) -> DatabaseClaimStatus {
    match resolved {
        _ if seen.deleting => status::terminating(moment),
        Ok(claim) => status::serving(claim, observed, plan, moment),
        Err(violations) => status::refused(violations, moment),
    }
}

async fn write_status(id: &ClaimId, status: DatabaseClaimStatus, context: &Context) -> Result<(), Error> {
    let version = context.writer.status(id, &status).await?;
    context.memory.note(&id.uid, (&id.namespace, &id.name), |it| {
        it.status = Some((version, status));
    });
    Ok(())
}

fn next(id: &ClaimId, plan: &Plan, seen: &Seen, moment: Moment<'_>) -> Action {
    if plan.again {
        // What is missing was written in this pass; the next one can build on it.
        return Action::requeue(Duration::ZERO);
    }
    let settled = seen.status.as_ref().and_then(|it| it.phase) == Some(Phase::Ready);
    let patience = status::patience(moment);
    let idle = if settled || patience.is_zero() {
        resync(id)
    } else {
        patience
    };
    Action::requeue(plan.requeue.unwrap_or(idle))
}

/// Spread over time by UID, so that a thousand claims do not read their Secrets in the same second.
fn resync(id: &ClaimId) -> Duration {
    let spread: u64 = id.uid.bytes().map(u64::from).sum();
    RESYNC + Duration::from_secs(spread % 300)
}
