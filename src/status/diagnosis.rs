//! Why a claim is not ready, in a sentence that a user can act on. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::refusal::because;
use super::{pod, refusal};
use crate::api::condition::reason;
use crate::api::key;
use crate::api::protocol::{MemberPhase, Report, Trouble};
use crate::claim::{Claim, FIRST_MEMBER};
use crate::plan::observed::{Child, Observed, Pod, SecretState, Volume, Warning};
use crate::plan::{Blocked, Plan};
use crate::render::{Kind, Slot};

/// One condition's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) is_true: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Verdict {
    pub(super) fn good(reason: &str, message: String) -> Self {
        Self {
            is_true: true,
            reason: reason.to_owned(),
            message,
        }
    }

    pub(super) fn bad(reason: &str, message: String) -> Self {
        Self {
            is_true: false,
            reason: reason.to_owned(),
            message,
        }
    }

    /// The same, for a condition that is good when it is False.
    pub(super) fn turned(self) -> Self {
        Self {
            is_true: !self.is_true,
            ..self
        }
    }

    /// Whether this is a step of a start, and no more is known.
    pub(super) fn is_step(&self) -> bool {
        self.is_transitional() && self.reason != reason::UNSCHEDULABLE
    }

    /// Whether this is one of the steps that every start goes through.
    pub(super) fn is_transitional(&self) -> bool {
        let steps = [
            reason::POD_MISSING,
            reason::AGENT_SILENT,
            reason::STARTING,
            reason::STOPPING,
            reason::ENDPOINT_NOT_READY,
            reason::UNSCHEDULABLE,
        ];
        !self.is_true && steps.contains(&self.reason.as_str())
    }
}

impl From<&Blocked> for Verdict {
    fn from(blocked: &Blocked) -> Self {
        Self::bad(blocked.reason, blocked.message.clone())
    }
}

/// For so long nobody need have heard of a driver that enlarges a volume.
const SLOW_TO_BEGIN: Duration = Duration::from_secs(60);

/// `growth_lasts`: for how long the volume has not grown, where that is so long that what is said against it counts.
pub(super) fn storage(claim: &Claim, observed: &Observed, growth_lasts: Option<Duration>) -> Verdict {
    let name = Slot::Volume.name(&claim.id);
    let pending = |message| Verdict::bad(reason::VOLUME_PENDING, message);
    let Some((_, volume)) = observed.volume(&claim.id) else {
        return pending(format!("PersistentVolumeClaim {name} is not there yet"));
    };
    if !volume.bound {
        return unbound(observed).unwrap_or_else(|| {
            pending(format!(
                "PersistentVolumeClaim {name} is not bound yet; if this lasts, see: kubectl describe pvc {name}"
            ))
        });
    }
    let report = observed.current_report(&claim.id);
    let trouble = report
        .and_then(data_trouble)
        .or_else(|| growing(claim, observed, volume, growth_lasts))
        .or_else(|| refuses_writes(claim, observed, report?));
    if let Some(verdict) = trouble {
        return verdict;
    }
    let used = report.and_then(|report| report.disk_percent);
    used.and_then(|percent| filling(&name, percent))
        .unwrap_or_else(|| Verdict::good(reason::READY, bound(claim, &name, volume)))
}

fn bound(claim: &Claim, name: &str, volume: &Volume) -> String {
    let asked = claim.storage_asked;
    match volume.requested.filter(|has| *has > asked) {
        Some(has) => format!(
            "PersistentVolumeClaim {name} is bound and stays at {has}: a volume cannot shrink to the requested {asked}"
        ),
        None => format!("PersistentVolumeClaim {name} is bound"),
    }
}

fn is_growing(claim: &Claim, volume: &Volume) -> bool {
    volume.capacity.is_some_and(|has| has < claim.storage)
}

/// The volume has less than is asked for; what its driver says counts only where that lasts, or will last.
fn growing(claim: &Claim, observed: &Observed, volume: &Volume, lasts: Option<Duration>) -> Option<Verdict> {
    let has = volume.capacity.filter(|_| is_growing(claim, volume))?;
    let (name, asked) = (Slot::Volume.name(&claim.id), claim.storage);
    let growth = volume.growth.as_deref();
    let own = growth.and_then(|it| it.failure.as_ref());
    let own = own.map(|(why, words)| (why, words.as_str()));
    let counts = |it: &&Warning| !it.is_left_to_a_driver() || lasts.is_some_and(|it| it >= SLOW_TO_BEGIN);
    let event = observed.growth_warning().filter(counts);
    let event = event.map(|it| (&it.reason, it.message.as_str()));
    let failure = own.filter(|(_, words)| !words.is_empty()).or(event).or(own);
    let counts = lasts.is_some() || growth.is_some_and(|it| it.infeasible);
    if let Some((why, words)) = failure.filter(|_| counts) {
        let class = volume.storage_class.as_deref().unwrap_or_default();
        return Some(Verdict::bad(
            reason::EXPANSION_STUCK,
            format!(
                "PersistentVolumeClaim {name} does not grow from {has} to {asked} ({why}){}. Whoever runs the driver of StorageClass {class:?} can help; it then grows by itself. See: kubectl describe pvc {name}",
                because(words)
            ),
        ));
    }
    let message = if growth.is_some_and(|it| it.on_node) {
        format!(
            "PersistentVolumeClaim {name} is enlarged to {asked} as soon as the node of its Pod has enlarged the file system; if this lasts, see: kubectl describe pod {}",
            claim.id.pod(FIRST_MEMBER)
        )
    } else {
        format!(
            "PersistentVolumeClaim {name} is being enlarged to {asked}; if this lasts, its StorageClass may not allow it: kubectl describe pvc {name}"
        )
    };
    Some(Verdict::bad(reason::VOLUME_RESIZING, message))
}

/// From here on, somebody should think of more space.
const FILLING_PERCENT: u8 = 85;

/// From here on, writes are refused for want of space, or will be.
const FULL_PERCENT: u8 = 95;

fn filling(name: &str, percent: u8) -> Option<Verdict> {
    let says =
        |what: &str| format!("PersistentVolumeClaim {name} is {percent} % full; raise spec.storage{what}");
    match percent {
        FULL_PERCENT.. => Some(Verdict::bad(
            reason::VOLUME_FULL,
            says(", or delete data. Writes are refused as soon as there is no space left; nothing is lost"),
        )),
        FILLING_PERCENT.. => Some(Verdict::good(
            reason::VOLUME_FILLING,
            says(" before writes are refused"),
        )),
        _ => None,
    }
}

/// What the agent holds against the data on the volume.
fn data_trouble(report: &Report) -> Option<Verdict> {
    let trouble = report.trouble.as_ref()?;
    let about_data = report.phase == MemberPhase::Blocked && trouble.reason.starts_with("Data");
    about_data.then(|| Verdict::bad(&trouble.reason, trouble.message.clone()))
}

fn refuses_writes(claim: &Claim, observed: &Observed, report: &Report) -> Option<Verdict> {
    let failure = report.write_test.as_ref().filter(|test| !test.ok)?;
    let pod = claim.id.pod(FIRST_MEMBER);
    let why = because(failure.message.as_deref().unwrap_or_default());
    let grows = |(_, volume): (&Child, &Volume)| is_growing(claim, volume);
    let act = match report.disk_percent {
        Some(percent) if percent >= FULL_PERCENT && observed.volume(&claim.id).is_some_and(grows) => {
            format!("The volume is {percent} % full and has not grown yet; see the condition StorageReady")
        }
        Some(percent) if percent >= FULL_PERCENT => {
            format!("The volume is {percent} % full; raise spec.storage")
        }
        _ => format!("See: kubectl logs {pod}"),
    };
    Some(Verdict::bad(
        reason::WRITE_TEST_FAILED,
        format!("the database in Pod {pod} refuses writes{why}. {act}"),
    ))
}

/// Why a volume does not come, in the words of who should make it.
fn unbound(observed: &Observed) -> Option<Verdict> {
    let Warning {
        name,
        reason: why,
        message,
        ..
    } = observed.warning(Kind::PersistentVolumeClaim)?;
    let words = refusal::end(message);
    let verdict = if message.contains("no storage class is set") {
        Verdict::bad(
            reason::STORAGE_CLASS_MISSING,
            format!(
                "PersistentVolumeClaim {name} names no StorageClass and the cluster has no default one: {words}. Mark one as default with the annotation storageclass.kubernetes.io/is-default-class=true, or set spec.storageClassName: kubectl get storageclass"
            ),
        )
    } else if message.contains("storageclass") && message.contains("not found") {
        Verdict::bad(
            reason::STORAGE_CLASS_MISSING,
            format!(
                "PersistentVolumeClaim {name} cannot be provisioned: {words}. Create this StorageClass, or set spec.storageClassName to one that exists: kubectl get storageclass"
            ),
        )
    } else {
        Verdict::bad(
            reason::PROVISIONING_FAILED,
            format!(
                "PersistentVolumeClaim {name} cannot be provisioned ({why}): {words}. As long as there is no volume, spec.storage and spec.storageClassName can be changed. See: kubectl describe pvc {name}"
            ),
        )
    };
    Some(verdict)
}

pub(super) fn credentials(claim: &Claim, observed: &Observed) -> Verdict {
    let missing = [&observed.admin, &observed.app]
        .iter()
        .any(|state| matches!(state, SecretState::Absent | SecretState::Untried));
    // What a former Pod took over stands in the data and is still in force.
    let applied = observed
        .any_report(&claim.id)
        .is_some_and(|report| report.applied.credentials > 0);
    let tls = observed.current_report(&claim.id).and_then(|it| it.tls.as_ref());
    if let Some(trouble) = tls.and_then(|it| it.trouble.as_ref()).filter(|_| !missing) {
        return Verdict::bad(reason::CERTIFICATE_INVALID, certificate(claim, trouble));
    }
    match (missing, applied) {
        (true, _) => Verdict::bad(reason::PROVISIONING, "the Secrets are not there yet".into()),
        (false, false) => Verdict::bad(
            reason::CREDENTIALS_PENDING,
            "the database has not taken over the password yet; it does so when it starts".into(),
        ),
        (false, true) => Verdict::good(
            reason::READY,
            format!(
                "Secret {} holds what a client needs{}",
                claim.id.app_secret(),
                set_back(observed.current_report(&claim.id))
            ),
        ),
    }
}

/// What is said of a password that was changed inside the database.
fn set_back(report: Option<&Report>) -> String {
    let at = report.and_then(|it| it.password_set_back.as_deref());
    at.map_or_else(String::new, |at| {
        format!(
            ". Somebody changed the password inside the database; it was set back to that of the Secret at {at}. To change it, use the annotation {}",
            key::ROTATE
        )
    })
}

/// What the agent says of a certificate, and what to do about it.
fn certificate(claim: &Claim, trouble: &str) -> String {
    let secret = claim.id.admin_secret();
    format!(
        "{trouble}. The operator makes a new one within a minute; if this lasts, remove tls.crt and tls.key from Secret {secret}, and look at the clocks of node and operator"
    )
}

/// Ready: a client that reads the Secret now can connect, write and read.
pub(super) fn ready(claim: &Claim, observed: &Observed, now: Timestamp) -> Verdict {
    let Some((child, pod)) = observed.pod(&claim.id) else {
        if claim.hibernated {
            return Verdict::bad(
                reason::HIBERNATED,
                "the database is stopped because spec.hibernated is true; its data, addresses and Secrets are kept. Set it to false to start it".to_owned(),
            );
        }
        let set = claim.id.member(FIRST_MEMBER);
        if let Some(warning) = observed.warning(Kind::StatefulSet) {
            return refusal::pod(&claim.id.pod(FIRST_MEMBER), warning);
        }
        let message = if observed.slot(&claim.id, Slot::StatefulSet).is_some() {
            format!(
                "Pod {} is not there yet; if this lasts, see: kubectl describe statefulset {set}",
                claim.id.pod(FIRST_MEMBER)
            )
        } else {
            "the database's objects are being made; if this lasts, see the operator's log".to_owned()
        };
        return Verdict::bad(reason::POD_MISSING, message);
    };
    if let Some(verdict) = pod::lost(claim, &child.name, pod, now) {
        return verdict;
    }
    if child.deleting || claim.hibernated {
        return pod::stopping(&child.name, pod);
    }
    if !pod.ready && pod.trouble.is_none() && observed.volume(&claim.id).is_some_and(|(_, it)| !it.bound) {
        // Whatever else waits, waits for the volume.
        if let Some(verdict) = unbound(observed) {
            return verdict;
        }
    }
    if let Some(verdict) = pod::trouble(claim, &child.name, pod) {
        return verdict;
    }
    let verdict = running(claim, observed, child, pod);
    match pod::killed(claim, &child.name, pod, now) {
        Some(killed) if verdict.is_step() => killed,
        _ => verdict,
    }
}

/// A Pod whose containers run, as far as they say.
fn running(claim: &Claim, observed: &Observed, child: &Child, pod: &Pod) -> Verdict {
    let Some(report) = observed.current_report(&claim.id) else {
        if let Some(Warning {
            reason: why, message, ..
        }) = observed.warning(Kind::Pod)
        {
            return Verdict::bad(
                reason::POD_START_FAILED,
                format!(
                    "Pod {0} cannot start on node {1} ({why}): {2}. See: kubectl describe pod {0}",
                    child.name,
                    pod.node.as_deref().unwrap_or("(none)"),
                    refusal::end(message),
                ),
            );
        }
        return Verdict::bad(
            reason::AGENT_SILENT,
            format!(
                "Pod {0} is starting; its agent has not reported yet. If this lasts, see: kubectl logs {0}",
                child.name
            ),
        );
    };
    member(claim, observed, report, (&child.name, pod))
}

/// What keeps an application out that uses the Secret.
fn keeps_out(report: &Report) -> Option<Verdict> {
    let Trouble { reason, message } = report.access.as_ref()?;
    Some(Verdict::bad(reason, message.clone()))
}

fn unreachable(pod: &str, trouble: &Trouble) -> Verdict {
    Verdict::bad(
        reason::ENGINE_UNREACHABLE,
        format!(
            "the database in Pod {pod} runs and does not answer new connections{}. If this lasts, see: kubectl logs {pod}",
            because(&trouble.message)
        ),
    )
}

fn member(claim: &Claim, observed: &Observed, report: &Report, (pod, live): (&str, &Pod)) -> Verdict {
    let starting = |what: &str| {
        Verdict::bad(
            reason::STARTING,
            format!("the database in Pod {pod} is {what}; if this lasts, see: kubectl logs {pod}"),
        )
    };
    match (report.phase, &report.trouble) {
        // Of the whole container that is said by its Pod; of the engine alone only the agent knows.
        (MemberPhase::Failed | MemberPhase::Starting | MemberPhase::Recovering, Some(trouble))
            if trouble.reason == reason::OUT_OF_MEMORY =>
        {
            return pod::engine_killed(claim, pod);
        }
        // The agent waits for something outside, such as a volume that is in use elsewhere.
        (MemberPhase::Blocked | MemberPhase::Failed | MemberPhase::Starting, Some(trouble)) => {
            return Verdict::bad(&trouble.reason, trouble.message.clone());
        }
        (MemberPhase::Blocked | MemberPhase::Failed, None) => {
            return Verdict::bad(
                reason::AGENT_SILENT,
                format!("the agent in Pod {pod} cannot go on and does not say why; see: kubectl logs {pod}"),
            );
        }
        (MemberPhase::Stopping, _) => return pod::stopping(pod, live),
        (MemberPhase::Starting, None) => return starting("starting"),
        (MemberPhase::Initializing, _) => return starting("being created"),
        (MemberPhase::Recovering, Some(trouble)) if trouble.reason == reason::ENGINE_UNREACHABLE => {
            return unreachable(pod, trouble);
        }
        (MemberPhase::Recovering, _) => return starting("recovering what was written before it stopped"),
        (MemberPhase::Running, _) => {}
    }
    if let Some(verdict) = refuses_writes(claim, observed, report).or_else(|| keeps_out(report)) {
        return verdict;
    }
    if let Some(tls) = report.tls.as_ref().filter(|it| !it.verified && !claim.plaintext) {
        return match &tls.trouble {
            Some(trouble) => Verdict::bad(reason::CERTIFICATE_INVALID, certificate(claim, trouble)),
            None => starting("waiting for its certificate"),
        };
    }
    let recorded = observed
        .volume(&claim.id)
        .is_some_and(|(_, volume)| volume.is_initialized());
    if report.write_test.is_none() || !recorded {
        return starting("being checked");
    }
    if !live.ready || !observed.endpoint_ready(&claim.id) {
        let service = claim.id.base();
        return Verdict::bad(
            reason::ENDPOINT_NOT_READY,
            format!(
                "the database runs; Service {service} does not list Pod {pod} as ready yet. If this lasts, see: kubectl describe pod {pod}"
            ),
        );
    }
    Verdict::good(reason::READY, "a client can connect, write and read".into())
}

/// What only a human can resolve; `None` while the operator or time can.
pub(super) fn needs_a_human(plan: &Plan, observed: &Observed, claim: &Claim) -> Option<Verdict> {
    let human = [
        reason::NAME_TAKEN,
        reason::DATA_MISSING,
        reason::DATA_MISMATCH,
        reason::SECRET_UNREADABLE,
        reason::VOLUME_TERMINATING,
    ];
    if let Some(blocked) = plan.blocked.iter().find(|it| human.contains(&it.reason)) {
        return Some(Verdict::good(blocked.reason, blocked.message.clone()));
    }
    match observed.current_report(&claim.id) {
        Some(
            Report {
                phase: MemberPhase::Blocked,
                trouble: Some(Trouble { reason, message }),
                ..
            }
            | Report {
                phase: MemberPhase::Running,
                access: Some(Trouble { reason, message }),
                ..
            },
        ) => Some(Verdict::good(reason, message.clone())),
        _ => None,
    }
}
