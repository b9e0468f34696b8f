//! `plan(…) -> Plan`: the next safe steps, and what is blocked by what. Pure. It decides everything that
//! `apply` does; waiting and blocked are values here, never errors.

mod acts;
mod certificates;
pub mod drift;
mod growth;
pub mod observed;
mod obstacles;
mod rollout;
mod rotation;
mod secrets;
mod teardown;
mod volume;
mod wake;

use std::time::Duration;

use serde_json::Value;

use crate::api::condition::{kind, reason};
use crate::api::key;
use crate::api::v1::DeletionPolicy;
use crate::claim::Claim;
use crate::claim::quantity::Bytes;
use crate::render::{Desired, Kind, Object, Secrets, Slot, marker};
use observed::{Child, Detail, Integrity, Observed, SecretState};

pub use acts::settled;
pub use certificates::{Order, certificates};
pub use rotation::{Rotation, Turn, rotated, turn};
pub use secrets::credentials;
pub use teardown::teardown;

/// Pause before looking again at what nothing will tell us about, such as a foreign object that goes away.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What is to be done in one pass.
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that do not depend on each other"
)]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// One wave: nothing in it depends on anything else in it.
    pub steps: Vec<Step>,
    /// What cannot go on, and why.
    pub blocked: Vec<Blocked>,
    /// Whether some of that keeps everything of the claim from being made or changed.
    pub held_up: bool,
    /// Whether another pass must follow at once.
    pub again: bool,
    /// When to look again, beside the watches.
    pub requeue: Option<Duration>,
    /// Fingerprints that were found to be ours.
    pub trusted: Vec<(Slot, u64)>,
    /// Whether a difference in the Pod template waits for a restart that nobody has granted.
    pub restart_pending: bool,
    /// Whether the database has not taken over the newest configuration yet.
    pub config_pending: bool,
    /// Whether a restart that was asked for is under way.
    pub restarting: bool,
    /// How far the Pod is that comes to a larger size while it runs.
    pub growing: Option<Growing>,
    /// Why the Pod is replaced although it might have been resized while it runs.
    pub not_in_place: Option<String>,
}

/// How far a Pod is that comes to a larger size while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growing {
    /// It is being resized.
    Begun,
    /// It has the size; the template is to say so, and then the configuration.
    Resized,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// POST: the object was not observed. `AlreadyExists` means: observe again, it may be foreign.
    Create(Object),
    /// POST of the binding Secret and, only once that was made, of the agent's. Nobody has looked for either: where
    /// one is there already nothing is made, so that no password of ours stands beside one that was there before.
    CreateSecrets(Box<Secrets>),
    /// Server-side apply of an observed object, with its UID.
    Apply {
        /// What it shall be.
        object: Object,
        /// UID that was observed.
        uid: String,
    },
    /// Merge patch of labels, with the UID.
    Label {
        /// Kind.
        kind: Kind,
        /// Name.
        name: String,
        /// UID that was observed.
        uid: String,
        /// Key and value.
        label: (&'static str, String),
    },
    /// Merge patch of annotations, with the UID.
    Annotate {
        /// Kind.
        kind: Kind,
        /// Name.
        name: String,
        /// UID that was observed.
        uid: String,
        /// Keys and values.
        annotations: Vec<(&'static str, String)>,
    },
    /// Patch of a Pod's CPU and memory while it runs, with the UID.
    Resize {
        /// Name.
        name: String,
        /// UID that was observed.
        uid: String,
        /// The memory that it asks for.
        memory: Bytes,
        /// The change.
        resources: Value,
    },
    /// DELETE with a UID precondition.
    Delete {
        /// Kind.
        kind: Kind,
        /// Name.
        name: String,
        /// UID that was observed.
        uid: String,
        /// Version that was observed, where the object must not have changed since.
        resource_version: Option<String>,
        /// What allows it.
        allowed_by: Allowance,
    },
    /// Puts our finalizer on the claim, or takes it off.
    Finalizer {
        /// Whether it shall be there.
        present: bool,
    },
}

impl Step {
    /// Places in which this step makes something.
    pub fn makes(&self) -> &[Slot] {
        match self {
            Self::Create(object) => std::slice::from_ref(&object.slot),
            Self::CreateSecrets(_) => &[Slot::AppSecret, Slot::AdminSecret],
            _ => &[],
        }
    }
}

impl Plan {
    /// Whether it makes what has no owner, and would stay if the claim were gone already.
    pub fn outlives_the_claim(&self) -> bool {
        let stays = [Slot::Volume, Slot::AdminSecret, Slot::AppSecret];
        let mut made = self.steps.iter().flat_map(Step::makes);
        made.any(|slot| stays.contains(slot))
    }
}

/// What allows a destructive step. There is no step without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// The claim is being deleted and `spec.deletionPolicy` is Delete.
    DeletionPolicyDelete,
    /// No volume was ever bound to the PersistentVolumeClaim in this very version, and it was made for something else
    /// than what the spec requests.
    NeverBound,
    /// A Pod, which holds no data, is replaced: the claim's owner has asked for another version or size, or for
    /// a restart.
    RestartAsked,
}

/// Something that cannot go on, as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Condition that says so, besides Ready.
    pub condition: &'static str,
    /// Reason.
    pub reason: &'static str,
    /// What is wrong, where, and what to do.
    pub message: String,
}

/// What the planner is given.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The claim.
    pub claim: &'a Claim,
    /// What shall be.
    pub desired: &'a Desired,
    /// What is.
    pub observed: &'a Observed,
    /// Whether the claim's status says that data was once created.
    pub initialized_before: bool,
    /// Whether the claim's status says that the claim has made or taken over what there is.
    pub taken_over: bool,
    /// Whether the claim has our finalizer.
    pub has_finalizer: bool,
    /// Why the API server has refused to resize the Pod while it runs, if it has.
    pub not_in_place: Option<&'a str>,
}

/// Plans for a claim that shall serve.
pub fn plan(input: Input<'_>) -> Plan {
    let mut plan = unserved(input.claim.deletion_policy, input.has_finalizer, input.observed);
    if input.claim.paused {
        plan.blocked.push(Blocked {
            condition: kind::RECONCILING,
            reason: reason::PAUSED,
            message: "spec.paused is true: nothing is changed until it is false".to_owned(),
        });
        plan.held_up = true;
        return plan;
    }
    if input.observed.claim_gone {
        // The watch will tell soon; what is made now would outlive the claim.
        return plan;
    }
    let obstacles = obstacles::of(&input);
    if !obstacles.is_empty() {
        // Nothing of a claim is made as long as a part of it cannot be.
        plan.requeue = Some(LOOK_AGAIN);
        plan.blocked.extend(obstacles);
        plan.held_up = true;
        return plan;
    }
    growth::growth(&input, &mut plan);
    objects(&input, &mut plan);
    rollout::template(&input, &mut plan);
    rollout::restart(&input, &mut plan);
    secrets::steps(&input, &mut plan);
    markers(&input, &mut plan);
    pod_labels(&input, &mut plan);
    wake::agent(&input, &mut plan);
    plan
}

/// Plans for a claim that is not served, because it is paused or its spec cannot be honoured: nothing but what its
/// deletion will need. Without the finalizer the policy could not be kept.
pub fn unserved(policy: DeletionPolicy, has_finalizer: bool, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let wanted = policy == DeletionPolicy::Delete;
    if wanted != has_finalizer && !observed.claim_gone {
        plan.steps.push(Step::Finalizer { present: wanted });
    }
    plan
}

fn objects(input: &Input<'_>, plan: &mut Plan) {
    // Without `..`: an object that is added and forgotten here does not compile.
    let Desired {
        stateful_set: _,
        restart_hash: _,
        asked: _,
        in_place: _,
        volume,
        service,
        members_service,
        config,
        config_generation: _,
        report,
        service_account,
        role,
        role_binding,
        secrets: _,
    } = input.desired;
    for object in [
        volume,
        service,
        members_service,
        config,
        report,
        service_account,
        role,
    ] {
        if plan.growing.is_some() && object.slot == Slot::Config {
            // The engine is told when it has the memory.
            continue;
        }
        if object.slot == Slot::Volume && volume::is_made_for_something_else(input) {
            volume::replace(input, plan);
            continue;
        }
        settle(input, plan, object);
    }
    // The API server refuses to bind a Role that it does not have yet.
    let there = |slot| input.observed.slot(&input.claim.id, slot).is_some();
    if there(Slot::Role) || there(Slot::RoleBinding) {
        settle(input, plan, role_binding);
    } else {
        plan.again = true;
    }
}

/// One object: created if it was not observed, applied if it is not as we last wrote it.
fn settle(input: &Input<'_>, plan: &mut Plan, object: &Object) {
    let Some(child) = input.observed.slot(&input.claim.id, object.slot) else {
        plan.steps.push(Step::Create(object.clone()));
        return;
    };
    if child.deleting {
        // It comes back once it is gone; the watch will tell.
        return;
    }
    if drifted(child, object, plan) {
        plan.steps.push(Step::Apply {
            object: object.clone(),
            uid: child.uid.clone(),
        });
    }
}

fn drifted(child: &Child, object: &Object, plan: &mut Plan) -> bool {
    if child.applied.as_deref() != Some(object.applied.as_str()) {
        return true;
    }
    match &child.integrity {
        Integrity::Known(_) => false,
        Integrity::Unknown(fingerprint, live) => {
            let differs = drift::first_difference(&object.body, live).is_some();
            if !differs {
                plan.trusted.push((object.slot, *fingerprint));
            }
            differs
        }
    }
}

/// A marker says that its Secret needs no look: as long as one is missing or of another team, every pass reads
/// both. So it can be made once its Secret's UID is known, and the admin Secret's is made once nothing waits for
/// that Secret; and it is changed only when its Secret is as it should be.
fn markers(input: &Input<'_>, plan: &mut Plan) {
    let Input { claim, observed, .. } = input;
    let open = input
        .desired
        .secrets
        .as_ref()
        .is_some_and(|it| it.previous_is_open);
    let blocked = |it: &Blocked| it.condition == kind::CREDENTIALS_READY;
    let waiting = open || plan.blocked.iter().any(blocked);
    let pairs = [
        (Slot::AdminSecret, Slot::AdminMarker, &observed.admin),
        (Slot::AppSecret, Slot::AppMarker, &observed.app),
    ];
    for (secret, slot, state) in pairs {
        let child = observed.slot(&claim.id, slot);
        let uid = match (state, child.map(|it| &it.detail)) {
            (
                SecretState::Present {
                    uid, deleting: false, ..
                }
                | SecretState::Made { uid },
                _,
            )
            | (SecretState::Unread, Some(Detail::Marker { secret_uid: uid })) => uid,
            (SecretState::Absent | SecretState::Untried, None) => {
                // Its UID is known to the next pass, if this one makes it.
                plan.again |= plan.steps.iter().any(|step| step.makes().contains(&secret));
                continue;
            }
            _ => continue,
        };
        let changes = |step: &Step| matches!(step, Step::Apply { object, .. } if object.slot == secret);
        let marker = marker(claim, slot, uid);
        let same = child.is_none_or(|it| it.applied.as_deref() == Some(marker.applied.as_str()));
        if !same && plan.steps.iter().any(changes) {
            plan.again = true;
            continue;
        }
        if slot != Slot::AdminMarker || !waiting {
            settle(input, plan, &marker);
        }
    }
}

/// Whether a step is a write to the Pod: there is one to an object in a wave.
fn writes_to_pod(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| match step {
        Step::Label { kind, .. } | Step::Annotate { kind, .. } => *kind == Kind::Pod,
        step => matches!(step, Step::Resize { .. }),
    })
}

/// What may change and is in no selector is patched on the live Pod: no restart for a label.
fn pod_labels(input: &Input<'_>, plan: &mut Plan) {
    let team = &input.claim.team;
    if !plan.restarting
        && let Some((child, _)) = input.observed.pod(&input.claim.id)
        && !child.deleting
        && child.team.as_ref() != Some(team)
    {
        if writes_to_pod(plan) {
            plan.again = true;
            return;
        }
        plan.steps.push(Step::Label {
            kind: Kind::Pod,
            name: child.name.clone(),
            uid: child.uid.clone(),
            label: (key::TEAM, team.clone()),
        });
    }
}
