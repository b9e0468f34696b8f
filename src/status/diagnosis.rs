//! Why a claim is not ready, in a sentence that a user can act on. Pure.

use crate::api::condition::reason;
use crate::api::protocol::{MemberPhase, Report, Trouble};
use crate::claim::{Claim, FIRST_MEMBER};
use crate::plan::observed::{ContainerTrouble, Observed, Pod, SecretState};
use crate::plan::{Blocked, Plan};
use crate::render::Slot;

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

/// What others say, to go on in a sentence of ours.
fn because(message: &str) -> String {
    match message.trim().trim_end_matches('.') {
        "" => String::new(),
        message => format!(": {message}"),
    }
}

/// The kubelet says the same error in other words while it waits for its next try to pull.
fn pull_error(message: &str) -> &str {
    message
        .split_once("ErrImagePull: ")
        .map_or(message, |(_, error)| error)
}

pub(super) fn storage(claim: &Claim, observed: &Observed) -> Verdict {
    let name = Slot::Volume.name(&claim.id);
    let pending = |message| Verdict::bad(reason::VOLUME_PENDING, message);
    let Some((_, volume)) = observed.volume(&claim.id) else {
        return pending(format!("PersistentVolumeClaim {name} is not there yet"));
    };
    if !volume.bound {
        return pending(format!(
            "PersistentVolumeClaim {name} is not bound yet; if this lasts, see: kubectl describe pvc {name}"
        ));
    }
    let report = observed.current_report(&claim.id);
    if let Some(verdict) =
        report.and_then(|report| data_trouble(report).or_else(|| refuses_writes(claim, report)))
    {
        return verdict;
    }
    if volume.capacity.is_some_and(|has| has < claim.storage) {
        return Verdict::bad(
            reason::VOLUME_RESIZING,
            format!(
                "PersistentVolumeClaim {name} is being enlarged to {}; if this lasts, its StorageClass may not allow it: kubectl describe pvc {name}",
                claim.storage
            ),
        );
    }
    Verdict::good(reason::READY, format!("PersistentVolumeClaim {name} is bound"))
}

/// What the agent holds against the data on the volume.
fn data_trouble(report: &Report) -> Option<Verdict> {
    let trouble = report.trouble.as_ref()?;
    let about_data = report.phase == MemberPhase::Blocked && trouble.reason.starts_with("Data");
    about_data.then(|| Verdict::bad(&trouble.reason, trouble.message.clone()))
}

/// From here on, writes are refused for want of space.
const FULL_PERCENT: u8 = 95;

fn refuses_writes(claim: &Claim, report: &Report) -> Option<Verdict> {
    let failure = report.write_test.as_ref().filter(|test| !test.ok)?;
    let pod = claim.id.pod(FIRST_MEMBER);
    let why = because(failure.message.as_deref().unwrap_or_default());
    let act = match report.disk_percent {
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

pub(super) fn credentials(claim: &Claim, observed: &Observed) -> Verdict {
    let missing = [&observed.admin, &observed.app]
        .iter()
        .any(|state| matches!(state, SecretState::Absent));
    // What a former Pod took over stands in the data and is still in force.
    let applied = observed
        .any_report(&claim.id)
        .is_some_and(|report| report.applied.credentials > 0);
    match (missing, applied) {
        (true, _) => Verdict::bad(reason::PROVISIONING, "the Secrets are not there yet".into()),
        (false, false) => Verdict::bad(
            reason::CREDENTIALS_PENDING,
            "the database has not taken over the password yet; it does so when it starts".into(),
        ),
        (false, true) => Verdict::good(
            reason::READY,
            format!("Secret {} holds what a client needs", claim.id.app_secret()),
        ),
    }
}

/// Ready: a client that reads the Secret now can connect, write and read.
pub(super) fn ready(claim: &Claim, observed: &Observed) -> Verdict {
    let Some((child, pod)) = observed.pod(&claim.id) else {
        let set = claim.id.member(FIRST_MEMBER);
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
    if child.deleting {
        return stopping(&child.name);
    }
    if let Some(verdict) = pod_trouble(claim, pod) {
        return verdict;
    }
    let Some(report) = observed.current_report(&claim.id) else {
        return Verdict::bad(
            reason::AGENT_SILENT,
            format!(
                "Pod {0} is starting; its agent has not reported yet. If this lasts, see: kubectl logs {0}",
                child.name
            ),
        );
    };
    member(claim, observed, report, &child.name, pod.ready)
}

fn stopping(pod: &str) -> Verdict {
    Verdict::bad(
        reason::STOPPING,
        format!("Pod {pod} is stopping; if this lasts, its node may be lost: kubectl describe pod {pod}"),
    )
}

fn member(claim: &Claim, observed: &Observed, report: &Report, pod: &str, pod_ready: bool) -> Verdict {
    match (report.phase, &report.trouble) {
        (MemberPhase::Blocked | MemberPhase::Failed, Some(trouble)) => {
            return Verdict::bad(&trouble.reason, trouble.message.clone());
        }
        (MemberPhase::Blocked | MemberPhase::Failed, None) => {
            return Verdict::bad(
                reason::AGENT_SILENT,
                format!("the agent in Pod {pod} cannot go on and does not say why; see: kubectl logs {pod}"),
            );
        }
        (MemberPhase::Running, _) => {}
        (MemberPhase::Stopping, _) => return stopping(pod),
        (phase @ (MemberPhase::Starting | MemberPhase::Initializing | MemberPhase::Recovering), trouble) => {
            let what = match phase {
                MemberPhase::Initializing => "is being created",
                MemberPhase::Recovering => "is recovering what was written before it stopped",
                _ => "is starting",
            };
            let why = because(trouble.as_ref().map_or("", |it| &it.message));
            return Verdict::bad(
                reason::STARTING,
                format!("the database in Pod {pod} {what}{why}. If this lasts, see: kubectl logs {pod}"),
            );
        }
    }
    if let Some(verdict) = refuses_writes(claim, report) {
        return verdict;
    }
    let recorded = observed
        .volume(&claim.id)
        .is_some_and(|(_, volume)| volume.is_initialized());
    if report.write_test.is_none() || !recorded {
        return Verdict::bad(
            reason::STARTING,
            format!("the database in Pod {pod} is being checked; if this lasts, see: kubectl logs {pod}"),
        );
    }
    if !pod_ready || !observed.endpoint_ready(&claim.id) {
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

fn unschedulable(claim: &Claim, message: &str) -> Verdict {
    let name = claim.id.pod(FIRST_MEMBER);
    let why = because(message);
    let act = if message.to_lowercase().contains("persistentvolumeclaim") || message.contains("volume") {
        format!("See: kubectl describe pvc {}", Slot::Volume.name(&claim.id))
    } else {
        format!("Add a node with room, or free some: kubectl describe pod {name}")
    };
    Verdict::bad(
        reason::UNSCHEDULABLE,
        format!("Pod {name} cannot be scheduled{why}. {act}"),
    )
}

fn pod_trouble(claim: &Claim, pod: &Pod) -> Option<Verdict> {
    if let Some(message) = &pod.unschedulable {
        return Some(unschedulable(claim, message));
    }
    let name = claim.id.pod(FIRST_MEMBER);
    let ContainerTrouble {
        container,
        image,
        reason: why,
        message,
    } = pod.trouble.as_ref()?;
    let place = format!("container {container} of Pod {name}");
    let verdict = match why.as_str() {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => Verdict::bad(
            reason::IMAGE_PULL_FAILED,
            format!(
                "image {image} for {place} cannot be pulled{}. Check that it exists and that the node may pull it: kubectl describe pod {name}",
                because(pull_error(message))
            ),
        ),
        "OOMKilled" => Verdict::bad(
            reason::OUT_OF_MEMORY,
            format!(
                "{place} was killed because it used more memory than its limit; create a claim of a larger size and copy the data"
            ),
        ),
        // The kubelet's message says how long it waits, which changes at every try and helps nobody.
        "CrashLoopBackOff" => Verdict::bad(
            reason::CRASH_LOOP,
            format!("{place} ends again and again. See: kubectl logs {name} -c {container} --previous"),
        ),
        "Error" | "RunContainerError" | "StartError" => Verdict::bad(
            reason::CRASH_LOOP,
            format!(
                "{place} ended ({why}){}. See: kubectl logs {name} -c {container} --previous",
                because(message)
            ),
        ),
        _ => Verdict::bad(
            reason::CONTAINER_CONFIG,
            format!(
                "{place} cannot start ({why}){}. See: kubectl describe pod {name}",
                because(message)
            ),
        ),
    };
    Some(verdict)
}

/// What only a human can resolve; `None` while the operator or time can.
pub(super) fn needs_a_human(
    plan: &Plan,
    observed: &Observed,
    claim: &Claim,
    credentials: &Verdict,
) -> Option<Verdict> {
    let human = [
        reason::NAME_TAKEN,
        reason::DATA_MISSING,
        reason::DATA_MISMATCH,
        reason::VOLUME_TERMINATING,
    ];
    if let Some(blocked) = plan.blocked.iter().find(|it| human.contains(&it.reason)) {
        return Some(Verdict::good(blocked.reason, blocked.message.clone()));
    }
    if credentials.reason == reason::SECRET_UNREADABLE {
        return Some(Verdict::good(&credentials.reason, credentials.message.clone()));
    }
    match observed.current_report(&claim.id) {
        Some(Report {
            phase: MemberPhase::Blocked,
            trouble: Some(Trouble { reason, message }),
            ..
        }) => Some(Verdict::good(reason, message.clone())),
        _ => None,
    }
}
