//! The straight line: observe → validate → render → plan → apply → status.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tracing::{Instrument as _, debug_span};

use super::error::{Class, Error};
use super::resolve::{Refused, resolve};
use super::seen::Seen;
use super::{Context, news, renewal};
use crate::api::protocol::Initialized;
use crate::api::v1::{DatabaseClaim, DatabaseClaimStatus, DeletionPolicy};
use crate::apply::{self, Target, Written};
use crate::claim::{Claim, ClaimId};
use crate::controller::memory::{DOUBT, RESYNC};
use crate::observe::{self, Ask, Known, MadeSecrets};
use crate::plan::observed::{Detail, Observed};
use crate::plan::{self, Input, Plan, Step};
use crate::render::{Kind, Slot};
use crate::status::{self, Moment, News, Refusal, Tone};
use crate::validate::identify;

/// Waves that one pass may send. What is missing then waits for its turn in the queue.
const WAVES: u8 = 4;

/// One pass over one claim: waves of writes, each planned anew, until nothing follows at once. A new claim does not
/// wait behind all others for its second wave.
///
/// # Errors
/// When the API server could not be read or written; everything else is a value.
pub(super) async fn reconcile(mut claim: DatabaseClaim, context: Arc<Context>) -> Result<Again, Error> {
    for _ in 1..WAVES {
        let next = wave(&mut claim, &context).await?;
        if next != AT_ONCE {
            return Ok(next);
        }
    }
    wave(&mut claim, &context).await
}

/// When a claim is looked at again, whatever happens; `None` when only something that happens is a reason to.
pub(super) type Again = Option<Duration>;

/// What is missing was written; the next wave can build on it.
const AT_ONCE: Again = Some(Duration::ZERO);

async fn wave(claim: &mut DatabaseClaim, context: &Context) -> Result<Again, Error> {
    let id = identify(claim)?;
    let remembered = context.memory.recall(&id.uid);
    let claim = newest(claim, context);
    let mut seen = Seen::new(claim, remembered, context, &id);
    if seen.namespace_goes && !seen.deleting {
        // Its turn will come; until then every object that goes would be made again in vain.
        return Ok(None);
    }
    let mut observed = match observe(&id, &claim.spec.team, &seen, context)
        .instrument(debug_span!("observe"))
        .await
    {
        Ok(observed) => observed,
        Err(error) => return Err(unobserved(&id, &mut seen, error, context).await),
    };
    let resolved = resolve(&id, claim, &observed, &seen);
    let mut plan = debug_span!("plan").in_scope(|| match (&resolved, seen.deleting) {
        (_, true) => teardown(&id, claim.spec.deletion_policy, &seen, &observed),
        (Ok(resolved), false) => serve(resolved, &observed, &seen, context),
        (Err(_), false) => plan::unserved(claim.spec.deletion_policy, seen.has_finalizer(), &observed),
    });
    let held = context.memory.note(&id.uid, |it| it.refused.hold_back(&mut plan));
    if let Ok(resolved) = &resolved
        && plan.outlives_the_claim()
    {
        let status = describe(Ok(resolved), &seen, &observed, &plan, seen.moment(&[], context));
        observed.claim_gone = !still_there(&id, &mut seen, status, context)
            .instrument(debug_span!("confirm"))
            .await?;
        if observed.claim_gone {
            plan = serve(resolved, &observed, &seen, context);
        }
    }
    let writes = debug_span!("apply", steps = plan.steps.len());
    let news = std::mem::take(&mut seen.news);
    let applying = apply(&id, &seen, &plan, context).instrument(writes);
    let ((mut refusals, outcome), ()) = tokio::join!(applying, tell(&id, &news, context));
    let some_were_taken = refusals.len() < plan.steps.len();
    refusals.extend(held.refusals);
    if let (Ok(claim), Ok(_)) = (&resolved, &outcome) {
        observed.promise(&plan.steps, claim);
    }
    plan.again |= matches!(outcome, Ok(true));
    let moment = seen.moment(&refusals, context);
    let status = describe(resolved.as_ref(), &seen, &observed, &plan, moment);
    let postponed = seen.postponed(&status, context);
    let renewal = renewal::left(&id, &observed, seen.rotation_open, moment.now);
    let due = postponed.into_iter().chain(renewal).chain(held.due).min();
    let next = next(&id, &plan, due, &status, moment);
    if !observed.claim_gone && !going(&seen, &plan) && postponed.is_none() {
        write_status(&id, &mut seen, status, context)
            .instrument(debug_span!("status"))
            .await?;
        tell(&id, &seen.news, context).await;
    }
    goes_on(outcome, plan.again && some_were_taken)?;
    context.memory.note(&id.uid, |it| it.failures = 0);
    Ok(next)
}

/// The watch may have shown a newer one than the queue has handed out.
fn newest<'a>(claim: &'a mut DatabaseClaim, context: &Context) -> &'a DatabaseClaim {
    if let Some(newer) = context.claims.other_than(claim) {
        *claim = newer;
    }
    claim
}

/// Whether the claim is still there, which is asked before anything is made that would outlive it. The status has
/// to be written anyway in an ordinary start; its answer tells, and where it says nothing new a read does.
async fn still_there(
    id: &ClaimId,
    seen: &mut Seen,
    status: DatabaseClaimStatus,
    context: &Context,
) -> Result<bool, Error> {
    if Some(&status) == seen.status.as_ref() {
        return Ok(context.observer.still_there(id).await?);
    }
    let Some(claim) = write_status(id, seen, status.clone(), context).await? else {
        return Ok(false);
    };
    seen.status = Some(status);
    seen.resource_version = claim.resource_version.unwrap_or_default();
    seen.finalizers = claim.finalizers.unwrap_or_default();
    Ok(claim.deletion_timestamp.is_none())
}

/// A pass that could not even look. What the API server refuses is said; the rest passes by itself.
async fn unobserved(id: &ClaimId, seen: &mut Seen, error: Error, context: &Context) -> Error {
    if let Some(refusal) = error.refusal().filter(|_| !seen.deleting) {
        let status = status::unobserved(&refusal, seen.moment(&[], context));
        if let Err(error) = write_status(id, seen, status, context).await {
            tracing::warn!(%error, "the status does not say why the pass failed");
        }
        tell(id, &seen.news, context).await;
    }
    error
}

/// What was refused is held back from now on, and what follows from the rest does not wait for it.
fn goes_on(outcome: Result<bool, Error>, something_follows: bool) -> Result<(), Error> {
    match outcome {
        Err(error) if something_follows && error.refusal().is_some() => {
            news::failed(&error);
            Ok(())
        }
        outcome => outcome.map(|_| ()),
    }
}

/// Whether the claim is gone after this pass, so that there is nothing left to write to.
fn going(seen: &Seen, plan: &Plan) -> bool {
    seen.deleting && (!seen.has_finalizer() || plan.steps.contains(&Step::Finalizer { present: false }))
}

async fn observe(id: &ClaimId, team: &str, seen: &Seen, context: &Context) -> Result<Observed, Error> {
    let mut suspects = seen.suspects.clone();
    // A volume that has lost its labels is in no watch; before its data is called missing, it is asked for by name.
    suspects.extend(seen.initialized_before().then_some(Slot::Volume));
    let secrets = secrets(seen, context);
    let observed = context
        .observer
        .observe(Ask {
            id,
            team,
            suspects: &suspects,
            secrets,
            in_trouble: seen.in_trouble(context),
            now: context.now(),
        })
        .await?;
    context.memory.note(&id.uid, |it| {
        if matches!(secrets, Known::Nothing | Known::Doubtful) || it.secrets_read.is_none() {
            it.secrets_read = Some(Instant::now());
        }
    });
    Ok(observed)
}

/// What is known of the Secrets without a look.
fn secrets<'a>(seen: &'a Seen, context: &Context) -> Known<'a> {
    let pending = seen.suspects.iter().any(|slot| slot.kind() == Kind::Secret);
    let open = seen.secrets_open() || (seen.deleting && seen.has_finalizer());
    if seen.secrets_age.is_some_and(|age| age >= RESYNC) || pending || open {
        return Known::Nothing;
    }
    match (&seen.status, &seen.made) {
        // A claim without a status may have found Secrets of a former one, in whatever state.
        (None, _) => Known::Untouched,
        (_, Some(made)) => Known::Made(made),
        // A long initialisation is no reason to read them at each of its steps.
        (Some(status), None)
            if seen.secrets_age.is_none_or(|age| age >= DOUBT)
                && status::credentials_in_doubt(status, context.now()) =>
        {
            Known::Doubtful
        }
        _ => Known::Marked,
    }
}

fn serve(claim: &Claim, observed: &Observed, seen: &Seen, context: &Context) -> Plan {
    let initialized = initialized(claim, observed);
    let (credentials, rotated) =
        renewal::credentials(claim, observed, initialized.is_some(), context).unzip();
    let (keys, renewed) = renewal::keys(claim, observed, initialized.is_some(), context).unzip();
    let desired = crate::render::render(
        claim,
        &context.settings,
        credentials.as_ref().zip(keys.as_ref()),
        initialized.as_ref(),
    );
    let mut plan = plan::plan(Input {
        claim,
        desired: &desired,
        observed,
        initialized_before: seen.initialized_before(),
        taken_over: seen.has_taken_over(),
        has_finalizer: seen.has_finalizer(),
        not_in_place: seen.not_in_place.as_deref(),
    });
    // The agent is told by the next pass, which sees what this one writes.
    let writes = |slot| {
        let is_it = |step: &Step| matches!(step, Step::Apply { object, .. } if object.slot == slot);
        plan.steps.iter().any(is_it)
    };
    let renewed = renewed == Some(true) || rotated == Some(true);
    let open = credentials.is_some_and(|it| it.previous_is_open());
    plan.again |= (renewed && writes(Slot::AdminSecret)) || (open && writes(Slot::AppSecret));
    plan
}

fn teardown(id: &ClaimId, policy: DeletionPolicy, seen: &Seen, observed: &Observed) -> Plan {
    plan::teardown(id, policy, seen.has_finalizer(), seen.has_taken_over(), observed)
}

/// What is known of the volume: its record, else what the agent that runs on it says.
fn initialized(claim: &Claim, observed: &Observed) -> Option<Initialized> {
    let reported = || observed.current_report(&claim.id)?.initialized.clone();
    claim.identity.initialized.clone().or_else(reported)
}

/// What came of the writes of a plan that did not succeed.
#[derive(Default)]
struct Failures {
    refusals: Vec<(Option<Slot>, Refusal)>,
    suspects: Vec<Slot>,
    /// The worst decides how long to wait: what is refused is not retried at the pace of a conflict.
    worst: Option<Error>,
    /// Why the Pod was not resized. There is another way, which the next wave goes.
    not_resized: Option<String>,
    namespace_goes: bool,
}

impl Failures {
    fn take(&mut self, error: apply::Error) {
        tracing::debug!(%error, "a write failed");
        let apply::Error::Write { slot, verb, .. } = &error;
        let (slot, resizes) = (*slot, *verb == apply::RESIZE);
        let error = Error::from(error);
        self.namespace_goes |= error.namespace_goes();
        match error.refusal() {
            Some(refusal) if resizes && !refusal.is_of_room() => {
                self.not_resized = Some(refusal.words);
                return;
            }
            Some(refusal) => self.refusals.push((slot, refusal)),
            // It may be there although no watch has shown it; what was refused is not.
            None => self.suspects.extend(slot),
        }
        let worst = self.worst.as_ref().map(|it| rank(it.class()));
        if worst.is_none_or(|it| it < rank(error.class())) {
            self.worst = Some(error);
        }
    }
}

/// Carries the plan out. Returns what was refused, and whether another wave has to go another way.
async fn apply(
    id: &ClaimId,
    seen: &Seen,
    plan: &Plan,
    context: &Context,
) -> (Vec<Refusal>, Result<bool, Error>) {
    context.observer.trust(plan.trusted.iter().copied());
    let target = Target {
        id,
        resource_version: &seen.resource_version,
        finalizers: &seen.finalizers,
    };
    let (mut failures, mut released) = (Failures::default(), false);
    for written in context.writer.carry_out(target, &plan.steps).await {
        match written {
            Ok(written) => {
                news::written(&written);
                released |= seen.deleting && matches!(written, Written::Claim(_));
                take_in(id, written, context);
            }
            Err(error) => failures.take(error),
        }
    }
    let another_way = failures.not_resized.is_some();
    let keep = plan.requeue.is_some() && failures.suspects.is_empty();
    context.memory.note(&id.uid, |it| {
        it.released |= released;
        it.namespace_goes |= failures.namespace_goes;
        for (slot, refusal) in &failures.refusals {
            it.refused.remember(&plan.steps, *slot, refusal);
        }
        if let Some(words) = failures.not_resized {
            it.not_in_place = Some((seen.generation, words));
        }
        if !keep {
            it.suspects = failures.suspects;
        }
    });
    let refusals = failures.refusals.into_iter().map(|(_, it)| it).collect();
    (refusals, failures.worst.map_or(Ok(another_way), Err))
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
        } => {}
        Written::Claim(meta) => {
            if let Some(meta) = meta {
                answered(id, &meta.object, context);
            }
        }
        Written::Secrets { admin, app } => {
            let made = admin.object.uid.zip(app.object.uid);
            context.memory.note(&id.uid, |it| {
                it.made = made.map(|(admin, app)| MadeSecrets { admin, app });
            });
        }
        Written::Resized { meta, memory } => {
            if let Some(mut seen) = observe::seen(Kind::Pod, *meta) {
                if let Detail::Pod(pod) = &mut seen.detail {
                    pod.requested_memory = Some(memory);
                }
                context.observer.cache.written(seen);
            }
        }
        Written::Object { kind, slot, meta } => {
            if let Some(seen) = observe::seen(kind, *meta) {
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

/// The next wave and the next pass write to the claim as it is now, whether or not the watch has shown it.
fn answered(id: &ClaimId, claim: &ObjectMeta, context: &Context) {
    let version = claim.resource_version.clone().unwrap_or_default();
    let finalizers = claim.finalizers.clone().unwrap_or_default();
    context.memory.note(&id.uid, |it| {
        it.answered = Some((version, finalizers));
    });
}

fn describe(
    resolved: Result<&Claim, &Refused>,
    seen: &Seen,
    observed: &Observed,
    plan: &Plan,
    moment: Moment<'_>,
) -> DatabaseClaimStatus {
    match resolved {
        _ if seen.deleting => status::terminating(moment),
        Ok(claim) => status::serving(claim, observed, plan, moment),
        Err(refused) => status::refused(&refused.violations, refused.known.as_deref(), observed, moment),
    }
}

/// Writes the status if it has changed, and notes what is worth telling people. Returns the claim's metadata as
/// they are then, if it was written.
async fn write_status(
    id: &ClaimId,
    seen: &mut Seen,
    status: DatabaseClaimStatus,
    context: &Context,
) -> Result<Option<ObjectMeta>, Error> {
    if Some(&status) == seen.status.as_ref() {
        return Ok(None);
    }
    let claim = context.writer.status(id, &status).await?.object;
    let version = claim.resource_version.clone().unwrap_or_default();
    answered(id, &claim, context);
    news::between(seen.status.as_ref(), &status)
        .iter()
        .for_each(news::News::tell);
    seen.news = context.memory.note(&id.uid, |it| {
        let news = status::news(id, seen.status.as_ref(), &status, it.in_trouble);
        it.status = Some((version, Some(Arc::new(status))));
        it.status_written = Some(Instant::now());
        for news in &news {
            match news.tone {
                Tone::Trouble => it.in_trouble = true,
                Tone::Over => it.in_trouble = false,
                Tone::Warning | Tone::Milestone => {}
            }
        }
        news
    });
    Ok(Some(claim))
}

/// Publishes Events, one after the other.
async fn tell(id: &ClaimId, news: &[News], context: &Context) {
    for news in news {
        context.events.publish(id, news, context.now()).await;
    }
}

fn next(
    id: &ClaimId,
    plan: &Plan,
    due: Option<Duration>,
    status: &DatabaseClaimStatus,
    moment: Moment<'_>,
) -> Again {
    if plan.again {
        return AT_ONCE;
    }
    let idle = if status::is_settled(status) {
        resync(id)
    } else {
        status::look_again(moment, status)
    };
    let idle = plan.requeue.unwrap_or(idle);
    Some(due.map_or(idle, |it| it.min(idle)))
}

/// Spread over time by UID, so that a thousand claims do not read their Secrets in the same second.
fn resync(id: &ClaimId) -> Duration {
    let spread: u64 = id.uid.bytes().map(u64::from).sum();
    RESYNC + Duration::from_secs(spread % 300)
}
