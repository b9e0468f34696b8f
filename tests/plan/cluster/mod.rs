//! A model of what surrounds the planner: an API server that holds one claim's objects and refuses what the
//! real one refuses, the controllers and the agent that work on them, and the operator's own pass.
//!
//! A test brings it into a state, asks for a pass and reads the plan. It panics at a write that a real API
//! server would answer with an error, so that a plan which needs luck does not go unnoticed.

pub mod server;
mod text;
mod world;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

use dbclaim::api::protocol::{Credentials, FORMAT, Identity, MemberConfig, Report};
use dbclaim::api::v1::{DatabaseClaimSpec, EngineName};
use dbclaim::certificate::Keys;
use dbclaim::claim::{Claim, ClaimId};
use dbclaim::plan::observed::{Child, Detail, Integrity, Observed, Ownership, SecretState, Warning};
use dbclaim::plan::{self, Input, Plan, Rotation};
use dbclaim::render::{Desired, Kind, Settings, Slot, render};
use dbclaim::validate::{References, Violations, outline, validate};
use jiff::Timestamp;
use serde_json::{Value, json};

pub use world::silent;

/// Fingerprint of the fields that our own writes leave behind.
pub const OURS: u64 = 1;
/// Fingerprint after somebody else's edit.
pub const EDITED: u64 = 2;
/// More passes than this without peace are a loop.
pub const PATIENCE: usize = 4;
/// How long rotated credentials stay valid.
pub const OVERLAP: Duration = Duration::from_secs(3600);

/// One claim and all that there is of it.
#[derive(Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that do not depend on each other"
)]
pub struct Cluster {
    pub id: ClaimId,
    pub spec: DatabaseClaimSpec,
    pub settings: Settings,
    /// The claim's annotation that asks for a restart.
    pub restart: Option<String>,
    /// The claim's annotation that asks for new credentials.
    pub rotation: Option<String>,
    /// The claim's annotation that asks to end the previous credentials.
    pub end_previous: Option<String>,
    /// Time, for what ends by it.
    pub now: Timestamp,
    /// Whether the claim's status says that data was created.
    pub said_initialized: bool,
    pub has_finalizer: bool,
    /// Whether the claim's status says that what there is has become its own.
    pub taken_over: bool,
    /// Whether the claim has a deletionTimestamp.
    pub deleting: bool,
    /// Whether a quorum read finds the claim gone.
    pub claim_gone: bool,
    pub objects: Vec<Stored>,
    pub admin: SecretState,
    pub app: SecretState,
    pub reads: Reads,
    /// What an Event says about the object that holds the claim up.
    pub warning: Option<Warning>,
    /// What the API server says to a Pod that is to be resized while it runs.
    pub not_in_place: Option<String>,
    /// Fingerprints that the operator knows; forgotten when it restarts.
    pub trusted: HashSet<(Slot, u64)>,
    /// Whether the kernel has randomness to give for a new password.
    pub random: bool,
    /// What stands on the volumes: system identifier by UID of the PVC.
    pub data: BTreeMap<String, String>,
    serial: u64,
}

/// When the Secrets are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// As in every ordinary pass.
    WhereAMarkerIsMissing,
    /// As at a resync, and in the first pass after a failed POST.
    Always,
    /// Never; no ordinary pass does this, and it must do no harm.
    Never,
    /// Not in the first pass over a claim of which nothing is there.
    Untried,
    /// Not in the pass after the one that made them.
    Made,
}

/// An object as the API server has it.
#[derive(Clone)]
pub struct Stored {
    pub child: Child,
    pub body: Value,
    pub fingerprint: u64,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let deleting = if self.deleting { ", deleting" } else { "" };
        writeln!(f, "{:?}{deleting}, finalizer {}", self.spec, self.has_finalizer)?;
        writeln!(
            f,
            "gone {}, said initialised {}, reads {:?}, random {}, trusted {}",
            self.claim_gone,
            self.said_initialized,
            self.reads,
            self.random,
            self.trusted.len()
        )?;
        for secret in [&self.admin, &self.app] {
            match secret {
                SecretState::Present {
                    uid,
                    ownership,
                    credentials,
                    deleting,
                    applied,
                    ..
                } => writeln!(
                    f,
                    "{uid}: {ownership:?}, {credentials:?}, deleting {deleting}, applied {applied:?}"
                )?,
                other => writeln!(f, "{other:?}")?,
            }
        }
        for Stored {
            child, fingerprint, ..
        } in &self.objects
        {
            writeln!(f, "{child:?}, fingerprint {fingerprint}")?;
        }
        Ok(())
    }
}

/// One pass: what it saw and what it wants.
pub struct Pass {
    pub observed: Observed,
    pub resolved: Result<Claim, Violations>,
    pub plan: Plan,
}

impl Cluster {
    /// A claim that was created a moment ago.
    pub fn new() -> Self {
        Self::of(EngineName::Postgres)
    }

    /// The same of an engine.
    pub fn of(engine: EngineName) -> Self {
        let spec = json!({"engine": engine, "size": "small", "team": "checkout"});
        Self {
            id: ClaimId {
                namespace: "shop".into(),
                name: "orders".into(),
                uid: "claim-1".into(),
            },
            spec: serde_json::from_value(spec).unwrap(),
            settings: Settings {
                agent_image: "registry.acme.com/dbclaim:0.1.0".into(),
                pull_secrets: vec![],
            },
            restart: None,
            rotation: None,
            end_previous: None,
            now: Timestamp::UNIX_EPOCH,
            said_initialized: false,
            taken_over: false,
            has_finalizer: false,
            deleting: false,
            claim_gone: false,
            objects: vec![],
            admin: SecretState::Absent,
            app: SecretState::Absent,
            reads: Reads::WhereAMarkerIsMissing,
            warning: None,
            not_in_place: None,
            trusted: HashSet::new(),
            random: true,
            data: BTreeMap::new(),
            serial: 0,
        }
    }

    /// A claim that serves.
    pub fn ready() -> Self {
        let mut cluster = Self::new();
        cluster.live();
        cluster
    }

    /// The operator, the controllers and the agent work until nobody has anything left to do.
    pub fn live(&mut self) {
        for _ in 0..3 {
            self.settle();
            self.controllers();
            self.agent();
        }
        self.settle();
        self.said_initialized = self.record().is_some_and(|it| it.initialized.is_some());
    }

    /// The operator works until it has nothing left to do. Returns the number of passes that wrote.
    pub fn settle(&mut self) -> usize {
        let mut log = String::new();
        for writes in 0..=PATIENCE {
            let pass = self.pass();
            if pass.plan.steps.is_empty() {
                assert!(
                    !pass.plan.again,
                    "a pass without a write asks for another at once"
                );
                return writes;
            }
            writeln!(log, "{}", pass.text()).unwrap();
            self.carry_out(&pass.plan);
        }
        panic!("no peace after {PATIENCE} passes:\n{log}");
    }

    /// One pass.
    pub fn pass(&self) -> Pass {
        let observed = self.observed();
        let vacant = observed.is_vacant(&self.id, self.said_initialized);
        let holds = observed
            .volume(&self.id)
            .filter(|(_, it)| !(vacant && it.never_bound));
        let references = References {
            vacant,
            requested: holds.and_then(|(_, it)| it.requested),
            restart: self.restart.clone(),
            rotation: self.rotation.clone(),
            end_previous: self.end_previous.clone(),
            ..references(&self.id, &observed)
        };
        let resolved = validate(&self.id, &self.spec, &references);
        let resolved = resolved.map(|it| plan::settled(it, &observed));
        let plan = match (&resolved, self.deleting) {
            (_, true) => self.teardown(&observed),
            (Ok(claim), false) => plan::plan(Input {
                claim,
                desired: &self.desired(claim, &observed),
                observed: &observed,
                initialized_before: self.said_initialized,
                taken_over: self.taken_over,
                has_finalizer: self.has_finalizer,
                not_in_place: self.not_in_place.as_deref(),
            }),
            (Err(_), false) => plan::unserved(self.spec.deletion_policy, self.has_finalizer, &observed),
        };
        Pass {
            observed,
            resolved,
            plan,
        }
    }

    /// The claim as far as it can be told, however wrong it is.
    pub fn known(&self) -> Option<Claim> {
        outline(&self.id, &self.spec, &references(&self.id, &self.observed()))
    }

    fn teardown(&self, observed: &Observed) -> Plan {
        let policy = self.spec.deletion_policy;
        plan::teardown(&self.id, policy, self.has_finalizer, self.taken_over, observed)
    }

    /// What a pass sees.
    pub fn observed(&self) -> Observed {
        let marked = |slot| {
            let marker = self.slot(slot).map(|it| &it.child);
            marker.is_some_and(|it| !it.deleting && it.team.as_ref() == Some(&self.spec.team))
        };
        let read = match self.reads {
            Reads::Always => true,
            Reads::Never | Reads::Untried | Reads::Made => false,
            Reads::WhereAMarkerIsMissing => {
                self.deleting || !marked(Slot::AdminMarker) || !marked(Slot::AppMarker)
            }
        };
        let secret = |state: &SecretState| match (self.reads, server::uid_of(state)) {
            (Reads::Untried, _) => SecretState::Untried,
            (Reads::Made, Some(uid)) => SecretState::Made { uid },
            _ if read => state.clone(),
            _ => SecretState::Unread,
        };
        Observed {
            children: self.objects.iter().map(|it| self.child(it)).collect(),
            admin: secret(&self.admin),
            app: secret(&self.app),
            claim_gone: self.claim_gone,
            warning: self.warning.clone(),
        }
    }

    fn child(&self, stored: &Stored) -> Child {
        let slot = Slot::ALL
            .into_iter()
            .find(|it| it.kind() == stored.child.kind && it.name(&self.id) == stored.child.name);
        let known = slot.is_none_or(|slot| self.trusted.contains(&(slot, stored.fingerprint)));
        let integrity = if known || stored.child.ownership != Ownership::Ours {
            Integrity::Known(stored.fingerprint)
        } else {
            let mut live = stored.body.clone();
            live["metadata"]["uid"] = json!(stored.child.uid);
            Integrity::Unknown(stored.fingerprint, Box::new(live))
        };
        Child {
            integrity,
            ..stored.child.clone()
        }
    }

    /// What shall be.
    pub fn desired(&self, claim: &Claim, observed: &Observed) -> Desired {
        let reported = observed
            .current_report(&self.id)
            .and_then(|it| it.initialized.clone());
        let initialized = claim.identity.initialized.clone().or(reported);
        let fresh = Credentials {
            v: FORMAT,
            generation: 100 + self.serial,
            password: format!("password-{}", self.serial),
            rotation: claim.rotation.clone(),
            ended: claim.end_previous.as_deref().map(Into::into),
            ..Credentials::default()
        };
        let fresh = self.random.then_some(fresh);
        let has_data = initialized.is_some();
        let rotation = Rotation {
            claim,
            observed,
            initialized: has_data,
            now: self.now,
            overlap: OVERLAP,
        };
        let credentials = plan::credentials(claim, observed, fresh.clone(), has_data).map(|current| {
            let turn = plan::turn(&rotation, &current);
            plan::rotated(&rotation, turn, current, fresh)
        });
        let keys = keys(observed);
        let secrets = credentials.as_ref().zip(Some(&keys));
        render(claim, &self.settings, secrets, initialized.as_ref())
    }

    pub fn slot(&self, slot: Slot) -> Option<&Stored> {
        let name = slot.name(&self.id);
        let mut objects = self.objects.iter();
        objects.find(|it| it.child.kind == slot.kind() && it.child.name == name)
    }

    pub fn volume(&mut self) -> Option<&mut Stored> {
        let mut objects = self.objects.iter_mut();
        objects.find(|it| matches!(it.child.detail, Detail::Volume(_)))
    }

    pub fn pod(&mut self) -> Option<&mut Stored> {
        self.objects.iter_mut().find(|it| it.child.kind == Kind::Pod)
    }

    /// The record on the volume.
    pub fn record(&mut self) -> Option<&mut Identity> {
        match &mut self.volume()?.child.detail {
            Detail::Volume(volume) => volume.identity.as_mut(),
            _ => None,
        }
    }

    pub fn report(&self) -> Option<&Report> {
        match &self.slot(Slot::Report)?.child.detail {
            Detail::Report(report) => report.as_deref(),
            _ => None,
        }
    }

    /// What the agent is told.
    pub fn member_config(&self) -> Option<MemberConfig> {
        let file = &self.slot(Slot::Config)?.body["data"]["member.json"];
        serde_json::from_str(file.as_str()?).ok()
    }
}

/// What there is, or stand-ins: which are made when is looked at elsewhere, with real ones.
fn keys(observed: &Observed) -> Keys {
    match &observed.admin {
        SecretState::Present { keys, .. } if !keys.ca.is_empty() => (**keys).clone(),
        _ => Keys {
            ca: "the authority".into(),
            ca_key: "the authority's key".into(),
            certificate: "the certificate".into(),
            key: "the certificate's key".into(),
        },
    }
}

fn references(id: &ClaimId, observed: &Observed) -> References {
    let volume = observed.volume(id).map(|(_, volume)| volume);
    References {
        identity: volume.and_then(|it| it.identity.clone()),
        requested: volume.and_then(|it| it.requested),
        capacity: volume.and_then(|it| it.capacity),
        vacant: false,
        restart: None,
        rotation: None,
        end_previous: None,
        without_tls: observed.current_report(id).is_some_and(|it| it.tls.is_none()),
    }
}

/// An object about which there is nothing to say but whose it is.
pub fn blank(ownership: Ownership) -> Child {
    Child {
        kind: Kind::Pod,
        name: String::new(),
        uid: String::new(),
        resource_version: "1".into(),
        ownership,
        deleting: false,
        applied: None,
        integrity: Integrity::Known(0),
        team: None,
        detail: Detail::None,
    }
}

/// The password in a Secret.
pub fn password(state: &SecretState) -> Option<&str> {
    match state {
        SecretState::Present { credentials, .. } => credentials.as_ref().map(|it| it.password.as_str()),
        _ => None,
    }
}
