//! Arbitrary states of the cluster, most of them never seen in practice: what a proof must cover.

mod running;

use dbclaim::api::protocol::{Credentials, Identity, Initialized};
use dbclaim::api::v1::{DeletionPolicy, EngineName, SizeName};
use dbclaim::claim::Claim;
use dbclaim::claim::quantity::Bytes;
use dbclaim::plan::observed::{Detail, Ownership, SecretState};
use dbclaim::render::{Desired, Object, Secrets, Slot, marker};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use crate::cluster::server::{secret, stored};
use crate::cluster::{Cluster, EDITED, OURS, Reads};
use running::{PodSketch, ReportSketch, WorkloadSketch, pod, report, workload};

/// What can be the matter with an object.
#[derive(Clone, Debug)]
struct Condition {
    ownership: Ownership,
    deleting: bool,
    /// It has the version that would be rendered now.
    current: bool,
    /// Somebody has edited it.
    edited: bool,
}

fn ownership() -> impl Strategy<Value = Ownership> {
    let former = Ownership::FormerClaim {
        uid: "claim-0".into(),
    };
    prop_oneof![80 => Just(Ownership::Ours), 1 => Just(former), 1 => Just(Ownership::Foreign)]
}

fn condition() -> impl Strategy<Value = Condition> {
    (
        ownership(),
        prop::bool::weighted(0.1),
        any::<bool>(),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(ownership, deleting, current, edited)| Condition {
            ownership,
            deleting,
            current,
            edited,
        })
}

/// There or not.
fn perhaps<T: std::fmt::Debug>(there: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    prop::option::weighted(0.7, there)
}

#[derive(Clone, Debug)]
struct VolumeSketch {
    condition: Condition,
    /// The record on it: none, fresh, initialised, of another version, of another claim.
    record: u8,
    gib: u64,
    capacity: Option<u64>,
    class: Option<&'static str>,
}

#[derive(Clone, Debug)]
struct SecretSketch {
    condition: Condition,
    readable: bool,
    generation: u64,
}

#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that do not depend on each other"
)]
struct Around {
    policy: DeletionPolicy,
    paused: bool,
    hibernated: bool,
    deleting: bool,
    has_finalizer: bool,
    claim_gone: bool,
    said_initialized: bool,
    random: bool,
    restarted: bool,
    reads: Reads,
    class: Option<&'static str>,
    storage: Option<&'static str>,
    engine: EngineName,
    size: SizeName,
    not_in_place: bool,
}

/// A state before it is made.
#[derive(Clone, Debug)]
struct Sketch {
    around: Around,
    volume: Option<VolumeSketch>,
    /// The plain objects, in the order of [`plain`].
    plain: Vec<Option<Condition>>,
    workload: WorkloadSketch,
    secrets: [Option<SecretSketch>; 2],
    /// The markers: what is the matter, and whether they are of the Secret that there is.
    markers: [Option<(Condition, bool)>; 2],
    pod: Option<PodSketch>,
    report: Option<ReportSketch>,
}

fn around() -> impl Strategy<Value = Around> {
    let policy = select(vec![DeletionPolicy::Retain, DeletionPolicy::Delete]);
    let reads = select(vec![Reads::WhereAMarkerIsMissing, Reads::Always, Reads::Never]);
    let rarely = || prop::bool::weighted(0.05);
    let hibernated = prop::bool::weighted(0.15);
    let flags = (
        rarely(),
        prop::bool::weighted(0.2),
        any::<bool>(),
        rarely(),
        hibernated,
    );
    let more = (
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.9),
        any::<bool>(),
    );
    let asked = (
        select(vec![None, Some("fast")]),
        select(vec![None, Some("1Gi"), Some("7Gi")]),
        select(vec![EngineName::Postgres, EngineName::Mysql]),
        select(dbclaim::class::SIZES.to_vec()),
        prop::bool::weighted(0.2),
    );
    (policy, flags, more, reads, asked).prop_map(
        |(policy, flags, more, reads, (class, storage, engine, size, not_in_place))| Around {
            policy,
            paused: flags.0,
            deleting: flags.1,
            has_finalizer: flags.2,
            claim_gone: flags.3,
            hibernated: flags.4,
            said_initialized: more.0,
            random: more.1,
            restarted: more.2,
            reads,
            class,
            storage,
            engine,
            size,
            not_in_place,
        },
    )
}

fn volume() -> impl Strategy<Value = VolumeSketch> {
    let record = prop_oneof![2 => Just(0_u8), 3 => Just(1), 6 => Just(2), 1 => Just(3), 1 => Just(4)];
    let class = select(vec![None, Some("fast"), Some("slow")]);
    (condition(), record, 5..9_u64, prop::option::of(9..12_u64), class).prop_map(
        |(condition, record, gib, capacity, class)| VolumeSketch {
            condition,
            record,
            gib,
            capacity,
            class,
        },
    )
}

fn a_secret() -> impl Strategy<Value = SecretSketch> {
    (condition(), prop::bool::weighted(0.8), 1..4_u64).prop_map(|(condition, readable, generation)| {
        SecretSketch {
            condition,
            readable,
            generation,
        }
    })
}

/// Any state.
pub fn cluster() -> impl Strategy<Value = Cluster> {
    let secrets = [perhaps(a_secret()), perhaps(a_secret())];
    let markers = [
        perhaps((condition(), any::<bool>())),
        perhaps((condition(), any::<bool>())),
    ];
    let plain = prop::collection::vec(perhaps(condition()), 8);
    let rest = (perhaps(pod()), perhaps(report()), workload());
    (around(), perhaps(volume()), plain, secrets, markers, rest).prop_map(
        |(around, volume, plain, secrets, markers, (pod, report, workload))| {
            Sketch {
                around,
                volume,
                plain,
                workload,
                secrets,
                markers,
                pod,
                report,
            }
            .make()
        },
    )
}

impl Sketch {
    fn make(self) -> Cluster {
        let mut cluster = Cluster::new();
        self.around.set(&mut cluster);
        let [admin, app] = &self.secrets;
        cluster.admin = admin
            .as_ref()
            .map_or(SecretState::Absent, |it| it.state("admin-uid", it.generation));
        cluster.app = app
            .as_ref()
            .map_or(SecretState::Absent, |it| it.state("app-uid", 0));
        if let Some(sketch) = &self.volume {
            // First as it would be rendered without it, so that there is a body; then what stands on it.
            let (_, desired) = rendered(&cluster).unwrap();
            let mut new = stored(&desired.volume, "volume-uid".into());
            sketch.onto(&mut new.child.detail, &cluster);
            cluster.objects.push(new);
        }
        self.fill(&mut cluster);
        if !self.around.restarted {
            cluster.trusted.extend(Slot::ALL.map(|slot| (slot, OURS)));
        }
        cluster
    }

    /// What depends on what would be rendered in this state.
    fn fill(&self, cluster: &mut Cluster) {
        let Some((claim, desired)) = rendered(cluster) else {
            return;
        };
        if let Some(sketch) = &self.volume {
            let stored = cluster.volume().unwrap();
            stored.body = desired.volume.body.clone();
            stored.child.applied = Some(desired.volume.applied.clone());
            sketch.condition.onto(stored);
        }
        for (object, condition) in plain(&desired).into_iter().zip(&self.plain) {
            let Some(condition) = condition else { continue };
            let mut new = stored(object, format!("{:?}-uid", object.slot));
            if let Detail::StatefulSet(workload) = &mut new.child.detail {
                self.workload.onto(workload, &desired);
            }
            condition.onto(&mut new);
            cluster.objects.push(new);
        }
        self.fill_secrets(cluster, &claim, &desired);
        if let Some(sketch) = &self.pod {
            sketch.onto(cluster, &desired);
        }
        if let Some(sketch) = &self.report {
            sketch.onto(cluster);
        }
    }

    fn fill_secrets(&self, cluster: &mut Cluster, claim: &Claim, desired: &Desired) {
        let of = |slot: fn(&Secrets) -> &Object| desired.secrets.as_ref().map(slot);
        let both = [
            (Slot::AdminSecret, Slot::AdminMarker, of(|it| &it.admin)),
            (Slot::AppSecret, Slot::AppMarker, of(|it| &it.app)),
        ];
        for (index, (slot, of_marker, object)) in both.into_iter().enumerate() {
            let state = cluster.secret(slot).unwrap();
            if let (Some(sketch), Some(object)) = (&self.secrets[index], object)
                && sketch.condition.current
                && sketch.readable
            {
                let SecretState::Present { uid, .. } = state else {
                    continue;
                };
                *state = sketch.condition.of(secret(object, uid.clone()));
            }
            let Some((condition, current)) = &self.markers[index] else {
                continue;
            };
            let uid = match state {
                SecretState::Present { uid, .. } if *current => uid.clone(),
                _ => "former-uid".into(),
            };
            let mut new = stored(&marker(claim, of_marker, &uid), format!("{of_marker:?}-uid"));
            condition.onto(&mut new);
            cluster.objects.push(new);
        }
    }
}

/// What would be rendered in a state, if anything.
fn rendered(cluster: &Cluster) -> Option<(Claim, Desired)> {
    let pass = cluster.pass();
    let claim = pass.resolved.ok()?;
    let desired = cluster.desired(&claim, &pass.observed);
    Some((claim, desired))
}

fn plain(desired: &Desired) -> [&Object; 8] {
    [
        &desired.stateful_set,
        &desired.service,
        &desired.members_service,
        &desired.config,
        &desired.report,
        &desired.service_account,
        &desired.role,
        &desired.role_binding,
    ]
}

impl Around {
    fn set(&self, cluster: &mut Cluster) {
        cluster.spec.deletion_policy = self.policy;
        cluster.spec.engine = self.engine;
        cluster.spec.size = self.size;
        cluster.not_in_place = self.not_in_place.then(|| "no".to_owned());
        cluster.spec.paused = self.paused;
        cluster.spec.hibernated = self.hibernated;
        cluster.spec.storage_class_name = self.class.map(str::to_owned);
        cluster.spec.storage = self.storage.map(str::to_owned);
        cluster.deleting = self.deleting;
        cluster.has_finalizer = self.has_finalizer;
        cluster.taken_over = self.said_initialized;
        cluster.claim_gone = self.claim_gone;
        cluster.said_initialized = self.said_initialized;
        cluster.random = self.random;
        cluster.reads = self.reads;
    }
}

impl Condition {
    fn onto(&self, stored: &mut crate::cluster::Stored) {
        stored.child.ownership = self.ownership.clone();
        stored.child.deleting = self.deleting;
        if !self.current {
            stored.child.applied = None;
        }
        if self.edited {
            stored.fingerprint = EDITED;
            stored.body["metadata"]["labels"] = json!({});
        }
    }
}

impl Condition {
    fn of(&self, state: SecretState) -> SecretState {
        let SecretState::Present {
            uid,
            credentials,
            keys,
            applied,
            ..
        } = state
        else {
            return state;
        };
        SecretState::Present {
            uid,
            credentials,
            keys,
            applied,
            ownership: self.ownership.clone(),
            deleting: self.deleting,
        }
    }
}

impl VolumeSketch {
    fn onto(&self, detail: &mut Detail, cluster: &Cluster) {
        let Detail::Volume(volume) = detail else { return };
        let initialized = Initialized {
            at: "2026-03-01T08:00:00Z".into(),
            system_identifier: "73".into(),
        };
        let fresh = volume.identity.take();
        let initialized = fresh.clone().map(|it| Identity {
            initialized: Some(initialized),
            ..it
        });
        volume.identity = match self.record {
            0 => None,
            1 => fresh,
            2 => initialized,
            3 => initialized.map(|it| Identity {
                major: "18".into(),
                ..it
            }),
            _ => initialized.map(|it| Identity {
                claim: format!("{}/other", cluster.id.namespace),
                ..it
            }),
        };
        volume.requested = Some(Bytes(self.gib * Bytes::GIB));
        volume.capacity = self.capacity.map(|gib| Bytes(gib * Bytes::GIB));
        volume.bound = self.capacity.is_some();
        volume.never_bound = self.capacity.is_none();
        volume.storage_class = self.class.map(str::to_owned);
    }
}

impl SecretSketch {
    fn state(&self, uid: &str, generation: u64) -> SecretState {
        let password = format!("password-of-{uid}");
        SecretState::Present {
            uid: uid.into(),
            ownership: self.condition.ownership.clone(),
            credentials: self.readable.then_some(Credentials {
                v: 1,
                generation,
                password,
                ..Credentials::default()
            }),
            keys: Box::default(),
            deleting: self.condition.deleting,
            applied: None,
        }
    }
}
