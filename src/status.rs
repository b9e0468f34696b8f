//! Conditions and phase from what a pass saw and planned. Pure; the clock is an argument. The same input
//! gives the same status, so that nothing is written when nothing has changed.

mod diagnosis;
mod milestone;
mod news;
mod pace;
mod pod;
mod refusal;
mod refused;
mod rotation;
mod shown;
mod step;
#[cfg(test)]
pub(crate) mod tests;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::condition::{kind, reason};
use crate::api::key;
use crate::api::protocol::{MemberPhase, Trouble};
use crate::api::v1::{Binding, DatabaseClaimStatus, Endpoints, Member, Phase};
use crate::claim::Claim;
use crate::engine::Engine;
use crate::plan::observed::Observed;
use crate::plan::{Blocked, Plan};
use diagnosis::Verdict;
use refused::as_it_runs;
use shown::{member, resolved, restart};

pub use news::{News, Tone, is_ready, news, trouble};
pub use pace::{credentials_in_doubt, growth_lasts, is_hibernated, is_settled, look_again, patience};
pub use refusal::Refusal;
pub use refused::refused;
pub use rotation::{end_waits, rotation_waits};
pub use step::postponed;

const ACCEPTED: &str = "the spec is valid and its names are free";

/// What a status is made from, besides the claim.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// `metadata.generation` of the claim that the pass looked at.
    pub generation: i64,
    /// Status before the pass.
    pub before: Option<&'a DatabaseClaimStatus>,
    /// Time of the pass.
    pub now: jiff::Timestamp,
    /// What the API server refused in the pass.
    pub refusals: &'a [Refusal],
}

/// Status of a claim that is being deleted.
pub fn terminating(moment: Moment<'_>) -> DatabaseClaimStatus {
    let message = || "the claim is being deleted".to_owned();
    let mut verdicts = vec![
        (kind::READY, Verdict::bad(reason::TERMINATING, message())),
        (kind::RECONCILING, Verdict::good(reason::TERMINATING, message())),
    ];
    if let Some(refusal) = moment.refusals.first() {
        verdicts.push((kind::STALLED, refusal.verdict().turned()));
    }
    DatabaseClaimStatus {
        observed_generation: Some(moment.generation),
        phase: Some(Phase::Terminating),
        conditions: conditions(moment, &verdicts),
        ..moment.before.cloned().unwrap_or_default()
    }
}

/// Status of a claim of which the operator may not read a part. What was known of it stays: a database that
/// serves goes on serving.
pub fn unobserved(refusal: &Refusal, moment: Moment<'_>) -> DatabaseClaimStatus {
    let verdict = refusal.verdict();
    let before = moment.before.cloned().unwrap_or_default();
    let mut verdicts = vec![
        (
            kind::RECONCILING,
            Verdict::bad(&verdict.reason, verdict.message.clone()),
        ),
        (kind::STALLED, verdict.clone().turned()),
    ];
    if !is_ready(&before) {
        verdicts.push((kind::READY, verdict));
    }
    let kept = before.conditions.iter();
    let kept = kept.filter(|old| verdicts.iter().all(|(kind, _)| *kind != old.type_));
    let mut kept: Vec<_> = kept.cloned().collect();
    kept.extend(conditions(moment, &verdicts));
    DatabaseClaimStatus {
        observed_generation: Some(moment.generation),
        phase: before.phase.or(Some(Phase::Pending)),
        conditions: kept,
        ..before
    }
}

/// Status of a claim that serves or is on its way to.
pub fn serving(claim: &Claim, observed: &Observed, plan: &Plan, moment: Moment<'_>) -> DatabaseClaimStatus {
    let verdicts = Verdicts::of(claim, observed, plan, moment);
    let starts = plan.blocked.is_empty() && verdicts.is_ordinary_step() && !claim.hibernated;
    if starts && !patience(moment).is_zero() {
        return starting(claim, observed, verdicts, plan, moment);
    }
    let Verdicts {
        accepted,
        ready,
        storage,
        credentials,
        update_pending,
        stalled,
    } = verdicts;
    let on_purpose = plan.restarting || plan.growing.is_some() || (claim.hibernated && !plan.held_up);
    let phase = phase(&ready, stalled.is_some(), on_purpose, moment);
    let reconciling = reconciling(&ready, [&storage, &credentials], stalled.as_ref(), plan);
    let verdicts = [
        (kind::ACCEPTED, accepted),
        (kind::READY, ready),
        (kind::STORAGE_READY, storage),
        (kind::CREDENTIALS_READY, credentials),
        (kind::UPDATE_PENDING, update_pending),
        (kind::RECONCILING, reconciling),
        (kind::STALLED, stalled.unwrap_or_else(nobody_needed)),
    ];
    DatabaseClaimStatus {
        phase: Some(phase),
        conditions: conditions(moment, &verdicts),
        members: vec![member(claim, observed)],
        initialized_at: initialized_at(claim, observed, plan, moment),
        ..outline(claim, observed, plan, moment)
    }
}

/// What a pass says about each condition that is not a conclusion from others.
struct Verdicts {
    accepted: Verdict,
    ready: Verdict,
    storage: Verdict,
    credentials: Verdict,
    update_pending: Verdict,
    /// What only a human can resolve.
    stalled: Option<Verdict>,
}

impl Verdicts {
    fn of(claim: &Claim, observed: &Observed, plan: &Plan, moment: Moment<'_>) -> Self {
        let says = |condition| blocked(plan, condition).map(Verdict::from);
        let ready = ready(claim, observed, plan, moment);
        let stalled = diagnosis::needs_a_human(plan, observed, claim)
            .or_else(|| refusal::needs_a_human(&ready.reason).then(|| ready.clone().turned()))
            .or_else(|| Some(moment.refusals.first()?.verdict().turned()));
        let storage = says(kind::STORAGE_READY)
            .or_else(|| refusal::volume(moment.refusals))
            .unwrap_or_else(|| diagnosis::storage(claim, observed, growth_lasts(moment)));
        let stuck = storage.reason == reason::EXPANSION_STUCK;
        let stalled = stalled.or_else(|| stuck.then(|| storage.clone().turned()));
        Self {
            accepted: says(kind::ACCEPTED)
                .unwrap_or_else(|| Verdict::good(reason::ACCEPTED, ACCEPTED.to_owned())),
            storage,
            credentials: says(kind::CREDENTIALS_READY)
                .unwrap_or_else(|| rotation::credentials(claim, observed, moment)),
            update_pending: update_pending(claim, observed, plan),
            ready,
            stalled,
        }
    }

    /// Whether the pass found nothing but one of the steps that every start goes through.
    fn is_ordinary_step(&self) -> bool {
        self.stalled.is_none() && self.ready.is_transitional()
    }
}

fn blocked<'a>(plan: &'a Plan, condition: &str) -> Option<&'a Blocked> {
    plan.blocked.iter().find(|blocked| blocked.condition == condition)
}

/// Whether the claim was Ready once.
fn was_ready(moment: Moment<'_>) -> bool {
    moment.before.is_some_and(|before| match before.phase {
        None | Some(Phase::Pending | Phase::Provisioning) => false,
        Some(Phase::Failed) => before.initialized_at.is_some(),
        Some(Phase::Ready | Phase::Updating | Phase::Degraded | Phase::Hibernated | Phase::Terminating) => {
            true
        }
    })
}

/// When the data was created, by the volume's record. The record of a volume that the claim has not taken over is a
/// former claim's: it may be on its way out, and then this claim begins with a new one.
fn initialized_at(claim: &Claim, observed: &Observed, plan: &Plan, moment: Moment<'_>) -> Option<String> {
    let recorded = || {
        let (_, volume) = observed.volume(&claim.id)?;
        Some(volume.identity.as_ref()?.initialized.as_ref()?.at.clone())
    };
    let recorded = is_its_own(plan, moment).then(recorded).flatten();
    recorded.or_else(|| moment.before?.initialized_at.clone())
}

/// Whether what there is of the claim's names is the claim's own: nothing blocks it, or nothing did before.
fn is_its_own(plan: &Plan, moment: Moment<'_>) -> bool {
    !plan.held_up || moment.before.is_some_and(has_taken_over)
}

fn nobody_needed() -> Verdict {
    Verdict::bad(reason::IDLE, "nothing waits for a human".into())
}

/// Ready, by the most telling of what stands in its way: what the planner does not go past, then what the Pod
/// says, and where that is only that it has not come to it yet, what keeps it from coming. What keeps the operator
/// from changing a claim does not keep its database from serving.
fn ready(claim: &Claim, observed: &Observed, plan: &Plan, moment: Moment<'_>) -> Verdict {
    let says = |condition| blocked(plan, condition).map(Verdict::from);
    let as_it_runs = plan.held_up.then(|| as_it_runs(claim, observed));
    let claim = as_it_runs.as_ref().unwrap_or(claim);
    let verdict = diagnosis::ready(claim, observed, moment.now);
    let serves = verdict.is_true && is_its_own(plan, moment) && !observed.app.is_foreign();
    if !serves && let Some(verdict) = says(kind::ACCEPTED).or_else(|| says(kind::STORAGE_READY)) {
        return verdict;
    }
    if !verdict.is_step() {
        return verdict;
    }
    says(kind::CREDENTIALS_READY)
        .or_else(|| moment.refusals.first().map(Refusal::verdict))
        .or_else(|| says(kind::RECONCILING).filter(|_| observed.workload(&claim.id).is_none()))
        .unwrap_or(verdict)
}

/// Whether the claim has once got past everything that can stand in its way, and so has made, or taken over, what it
/// stands for. Before that, volume and Secrets of its name are what a former claim has left.
pub fn has_taken_over(status: &DatabaseClaimStatus) -> bool {
    status.binding.is_some()
}

/// What a status says from the first pass on. Secret and address are named once they are the claim's.
fn outline(claim: &Claim, observed: &Observed, plan: &Plan, moment: Moment<'_>) -> DatabaseClaimStatus {
    let is_its_own = is_its_own(plan, moment);
    DatabaseClaimStatus {
        observed_generation: Some(moment.generation),
        binding: is_its_own.then(|| Binding {
            name: claim.id.app_secret(),
        }),
        endpoints: is_its_own.then(|| Endpoints {
            read_write: format!("{}:{}", claim.id.host(), Engine::from(claim.engine).port()),
        }),
        resolved: Some(resolved(claim, observed)),
        rotation: rotation::known(claim, observed, moment.before),
        restart: restart(claim),
        ..DatabaseClaimStatus::default()
    }
}

/// An ordinary start within its first seconds: one status for all of it, so that going from nothing to Ready
/// takes two writes. Where it is a start among many, volume and password are what they were before.
fn starting(
    claim: &Claim,
    observed: &Observed,
    verdicts: Verdicts,
    plan: &Plan,
    moment: Moment<'_>,
) -> DatabaseClaimStatus {
    let message = || "the database is starting".to_owned();
    let hidden = || Verdict::bad(reason::PROVISIONING, message());
    let (phase, storage, credentials) = if was_ready(moment) {
        (
            down(plan.restarting, moment),
            verdicts.storage,
            verdicts.credentials,
        )
    } else {
        (Phase::Provisioning, hidden(), hidden())
    };
    let verdicts = [
        (kind::ACCEPTED, verdicts.accepted),
        (kind::READY, hidden()),
        (kind::STORAGE_READY, storage),
        (kind::CREDENTIALS_READY, credentials),
        (kind::UPDATE_PENDING, verdicts.update_pending),
        (kind::RECONCILING, Verdict::good(reason::IN_PROGRESS, message())),
        (kind::STALLED, nobody_needed()),
    ];
    // An undelete knows of its data from the first; a new database's is told of when it is Ready.
    let initialized_at = match moment.before {
        Some(before) if has_taken_over(before) => before.initialized_at.clone(),
        _ => initialized_at(claim, observed, plan, moment),
    };
    let before = moment.before.cloned().unwrap_or_default();
    let at_rest = |member| Member {
        ready: false,
        ..member
    };
    DatabaseClaimStatus {
        phase: Some(phase),
        conditions: conditions(moment, &verdicts),
        initialized_at,
        members: before.members.into_iter().map(at_rest).collect(),
        resolved: before
            .resolved
            .filter(|_| before.observed_generation == Some(moment.generation))
            .or_else(|| Some(resolved(claim, observed))),
        ..outline(claim, observed, plan, moment)
    }
}

fn phase(ready: &Verdict, stalled: bool, changing: bool, moment: Moment<'_>) -> Phase {
    match (ready.is_true, stalled, was_ready(moment)) {
        (false, true, _) => Phase::Failed,
        (false, false, _) if ready.reason == reason::HIBERNATED => Phase::Hibernated,
        (true, ..) if changing => Phase::Updating,
        (true, ..) => Phase::Ready,
        (false, false, true) => down(changing, moment),
        (false, false, false) => Phase::Provisioning,
    }
}

/// A database that served and does not: on purpose, from the moment a change begins until it serves again, or
/// not. A change that runs into trouble is not on purpose any more.
fn down(restarting: bool, moment: Moment<'_>) -> Phase {
    let changing = [Phase::Updating, Phase::Hibernated];
    let before = moment.before;
    let goes_on = before
        .and_then(|it| it.phase)
        .is_some_and(|it| changing.contains(&it));
    let trouble = before.and_then(trouble).is_some();
    if restarting || goes_on && !trouble {
        Phase::Updating
    } else {
        Phase::Degraded
    }
}

fn reconciling(ready: &Verdict, parts: [&Verdict; 2], stalled: Option<&Verdict>, plan: &Plan) -> Verdict {
    if let Some(paused) = blocked(plan, kind::RECONCILING) {
        return Verdict::bad(paused.reason, paused.message.clone());
    }
    if plan.restarting && stalled.is_none() {
        let message = "the Pod is being replaced for the version, size or restart that was asked for";
        let why = plan.not_in_place.as_ref();
        let why = why.map(|it| format!("; it could not be resized while it runs: {it}"));
        return Verdict::good(
            reason::RESTARTING,
            format!("{message}{}", why.unwrap_or_default()),
        );
    }
    if plan.growing.is_some() && stalled.is_none() {
        let message = "the Pod is being given the CPU and memory of the larger size while it runs";
        return Verdict::good(reason::RESIZING, message.to_owned());
    }
    if plan.config_pending && ready.is_true && stalled.is_none() {
        let message = "the database is being given its new configuration";
        return Verdict::good(reason::IN_PROGRESS, message.to_owned());
    }
    // Who waits for a change waits for the volume and for the Secret as well.
    let changing = [reason::VOLUME_RESIZING, reason::ROTATING];
    let part = parts
        .into_iter()
        .find(|it| changing.contains(&it.reason.as_str()));
    if let Some(part) = part.filter(|_| stalled.is_none()) {
        return Verdict::good(reason::IN_PROGRESS, part.message.clone());
    }
    if ready.is_true || stalled.is_some() || ready.reason == reason::HIBERNATED {
        return Verdict::bad(reason::IDLE, "nothing is under way".into());
    }
    Verdict::good(reason::IN_PROGRESS, ready.message.clone())
}

fn update_pending(claim: &Claim, observed: &Observed, plan: &Plan) -> Verdict {
    let refused = observed.current_report(&claim.id).and_then(|report| {
        let trouble = report.trouble.as_ref()?;
        (report.phase == MemberPhase::Running).then_some(trouble)
    });
    if let Some(Trouble { reason, message }) = refused {
        return Verdict::good(reason, message.clone());
    }
    let settings = observed
        .current_report(&claim.id)
        .map(|it| it.pending_restart.join(", "))
        .unwrap_or_default();
    let ask = format!(
        "kubectl annotate dbclaim {} {}=\"$(date +%s)\" --overwrite",
        claim.id.name,
        key::RESTART
    );
    match (plan.restart_pending, settings.as_str()) {
        (false, "") => Verdict::bad(reason::UP_TO_DATE, "nothing waits for a restart".into()),
        (true, _) => Verdict::good(
            reason::RESTART_NEEDED,
            format!(
                "the Pod was started from an earlier template; the difference is applied with the next restart that you ask for: {ask}"
            ),
        ),
        (false, settings) => Verdict::good(
            reason::RESTART_NEEDED,
            format!("{settings} wait for a restart; ask for one: {ask}"),
        ),
    }
}

/// Merges verdicts into the conditions there were: `lastTransitionTime` moves only when the status does.
/// Conditions that a pass has no verdict on are dropped.
fn conditions(moment: Moment<'_>, verdicts: &[(&str, Verdict)]) -> Vec<Condition> {
    let before = moment
        .before
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let condition = |(type_, verdict): &(&str, Verdict)| {
        let status = if verdict.is_true { "True" } else { "False" };
        let same = before
            .iter()
            .find(|old| old.type_ == *type_ && old.status == status);
        Condition {
            type_: (*type_).to_owned(),
            status: status.to_owned(),
            reason: verdict.reason.clone(),
            message: verdict.message.clone(),
            observed_generation: Some(moment.generation),
            last_transition_time: same.map_or(Time(moment.now), |old| old.last_transition_time.clone()),
        }
    };
    verdicts.iter().map(condition).collect()
}
