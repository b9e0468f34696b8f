//! Everybody else: controllers, the agent, people.

use dbclaim::api::key;
use dbclaim::api::protocol::{
    Applied, FORMAT, Initialized, MemberPhase, Report, TlsReport, Trouble, WriteTest,
};
use dbclaim::api::v1::EngineName;
use dbclaim::claim::quantity::Bytes;
use dbclaim::plan::observed::{Child, Detail, Ownership, Pod, SecretState, Workload};
use dbclaim::render::{Kind, Slot};
use serde_json::{Value, json};

use super::server::uid_of;
use super::{Cluster, EDITED, Stored, blank};

impl Cluster {
    /// The garbage collector, the StatefulSet controller, the scheduler, the provisioner and the EndpointSlice
    /// controller, as far as they can.
    pub fn controllers(&mut self) {
        self.collect();
        let Some(set) = self.slot(Slot::StatefulSet).cloned() else {
            return;
        };
        let Some(volume) = self.volume().filter(|it| !it.child.deleting) else {
            return;
        };
        let Detail::Volume(volume) = &mut volume.child.detail else {
            return;
        };
        volume.bound = true;
        volume.never_bound = false;
        volume.capacity = volume.capacity.max(volume.requested);
        volume.storage_class = volume.storage_class.take().or(Some("standard".into()));
        let name = Slot::StatefulSet.name(&self.id);
        let Detail::StatefulSet(live) = &mut self.stored(Kind::StatefulSet, &name).child.detail else {
            panic!("a StatefulSet")
        };
        live.taken_up = true;
        live.revision.clone_from(&set.child.applied);
        let workload = &live.clone();
        if workload.stopped {
            self.objects
                .retain(|it| !matches!(it.child.kind, Kind::Pod | Kind::EndpointSlice));
        } else if self.pod().is_none() {
            self.start_pod(workload);
            let container = &set.body["spec"]["template"]["spec"]["containers"][0];
            let memory = container["resources"]["limits"]["memory"].as_str();
            let memory = memory.and_then(|it| Bytes::parse(it).ok());
            if let Detail::Pod(pod) = &mut self.pod().unwrap().child.detail {
                pod.requested_memory = memory;
            }
            let team = &set.body["spec"]["template"]["metadata"]["labels"][key::TEAM];
            self.pod().unwrap().child.team = team.as_str().map(str::to_owned);
        }
    }

    /// The kubelet gives the Pod's container the memory that it asks for.
    pub fn kubelet(&mut self) {
        if let Some(Detail::Pod(pod)) = self.pod().map(|it| &mut it.child.detail) {
            pod.memory = pod.requested_memory;
        }
    }

    /// What is on its way out goes, with what hangs on it; a volume only when no Pod uses it.
    fn collect(&mut self) {
        for state in [&mut self.admin, &mut self.app] {
            if matches!(state, SecretState::Present { deleting: true, .. }) {
                *state = SecretState::Absent;
            }
        }
        let secrets = [&self.admin, &self.app].map(uid_of);
        let runs = self.slot(Slot::StatefulSet).is_some_and(|it| !it.child.deleting);
        self.objects.retain(|it| match (&it.child.detail, it.child.kind) {
            (Detail::Marker { secret_uid }, _) => {
                secrets.contains(&Some(secret_uid.clone())) && !it.child.deleting
            }
            (_, Kind::Pod | Kind::EndpointSlice) => runs && !it.child.deleting,
            (_, Kind::PersistentVolumeClaim) => true,
            _ => !it.child.deleting,
        });
        let in_use = self.pod().is_some();
        let gone = |it: &Stored| it.child.kind == Kind::PersistentVolumeClaim && it.child.deleting && !in_use;
        self.objects.retain(|it| !gone(it));
        let live: Vec<_> = self.objects.iter().map(|it| it.child.uid.clone()).collect();
        self.data.retain(|volume, _| live.contains(volume));
    }

    /// A Pod that does not run yet, and an EndpointSlice that does not list it as ready.
    pub fn start_pod(&mut self, from: &Workload) {
        self.serial += 1;
        let pod = Pod {
            restart_hash: from.restart_hash.clone(),
            asked: from.asked.clone(),
            revision: from.revision.clone(),
            node: Some("node-1".into()),
            ..Pod::default()
        };
        let others = |kind, name: String, detail| Stored {
            child: Child {
                kind,
                uid: format!("{kind:?}-{}", self.serial),
                name,
                detail,
                ..blank(Ownership::Ours)
            },
            body: Value::Null,
            fingerprint: 0,
        };
        let slice = Detail::Endpoints {
            service: self.id.base(),
            ready: false,
        };
        let new = [
            others(Kind::Pod, self.id.pod(1), Detail::Pod(Box::new(pod))),
            others(Kind::EndpointSlice, format!("{}-x7k2p", self.id.base()), slice),
        ];
        self.objects.extend(new);
    }

    /// The agent in the Pod, as far as it can: it guards the volume, initialises it where it may, takes over
    /// the password, runs and reports.
    pub fn agent(&mut self) {
        self.kubelet();
        let Some(pod) = self.pod().map(|it| it.child.uid.clone()) else {
            return;
        };
        let (Some(config), Some(volume)) =
            (self.member_config(), self.volume().map(|it| it.child.uid.clone()))
        else {
            return;
        };
        let expected = config.volumes[&1].system_identifier.clone();
        let given = match &self.admin {
            SecretState::Present { credentials, .. } => credentials.clone(),
            _ => None,
        };
        let generation = given.as_ref().map(|it| it.generation);
        let before = self.report().map_or(0, |it| it.applied.credentials);
        let found = self.data.get(&volume).cloned();
        if found.is_none() && (expected.is_some() || generation.is_none()) {
            let trouble = expected.map(|_| ("DataMissing", "the volume is empty"));
            let phase = trouble.map_or(MemberPhase::Starting, |_| MemberPhase::Blocked);
            self.say(silent(&pod, phase, trouble));
            return;
        }
        let system = found.unwrap_or_else(|| format!("system-of-{volume}"));
        self.data.insert(volume, system.clone());
        self.say(Report {
            version: Some(match self.spec.engine {
                EngineName::Postgres => "17.5".into(),
                EngineName::Mysql => "9.7.5".into(),
            }),
            initialized: Some(Initialized {
                at: "2026-03-01T08:00:00Z".into(),
                system_identifier: system,
            }),
            applied: Applied {
                config: config.generation,
                credentials: generation.unwrap_or(before),
                previous_until: given.and_then(|it| it.previous_until()),
            },
            write_test: Some(WriteTest {
                ok: true,
                message: None,
            }),
            access: None,
            password_set_back: None,
            tls: Some(TlsReport {
                certificate: "c0ffee".into(),
                verified: true,
                ..TlsReport::default()
            }),
            ..silent(&pod, MemberPhase::Running, None)
        });
        self.serve(true);
    }

    /// Writes the agent's report, where there is a place for it.
    pub fn say(&mut self, report: Report) {
        let place = Slot::Report.name(&self.id);
        let mut objects = self.objects.iter_mut();
        if let Some(stored) = objects.find(|it| it.child.kind == Kind::ConfigMap && it.child.name == place) {
            stored.child.detail = Detail::Report(Some(Box::new(report)));
        }
    }

    /// Whether the Pod is ready and listed.
    pub fn serve(&mut self, serves: bool) {
        for stored in &mut self.objects {
            match &mut stored.child.detail {
                Detail::Pod(pod) => pod.ready = serves,
                Detail::Endpoints { ready, .. } => *ready = serves,
                _ => {}
            }
        }
    }

    /// Somebody edits an object by hand.
    pub fn edit(&mut self, slot: Slot, edit: impl FnOnce(&mut Value)) {
        let name = slot.name(&self.id);
        let stored = self.stored(slot.kind(), &name);
        edit(&mut stored.body);
        stored.fingerprint = EDITED;
    }

    /// Somebody else has an object of our name.
    pub fn foreign(&mut self, slot: Slot) {
        self.remove(slot);
        self.objects.push(Stored {
            child: Child {
                kind: slot.kind(),
                name: slot.name(&self.id),
                uid: "theirs".into(),
                ..blank(Ownership::Foreign)
            },
            body: Value::Null,
            fingerprint: 0,
        });
    }

    /// An object is gone, with what stood on it.
    pub fn remove(&mut self, slot: Slot) {
        if let Some(state) = self.secret(slot) {
            *state = SecretState::Absent;
            return;
        }
        if let (Slot::Volume, Some(volume)) = (slot, self.volume().map(|it| it.child.uid.clone())) {
            self.data.remove(&volume);
        }
        let name = slot.name(&self.id);
        self.objects
            .retain(|it| it.child.kind != slot.kind() || it.child.name != name);
    }

    /// The claim is deleted under Retain, and created again before the garbage collector has come by.
    pub fn recreate(&mut self) {
        let former = std::mem::replace(&mut self.id.uid, "claim-2".into());
        for stored in &mut self.objects {
            let owners = &stored.body["metadata"]["ownerReferences"];
            if owners[0]["uid"] == json!(former) {
                stored.child.ownership = Ownership::FormerClaim { uid: former.clone() };
            }
        }
        self.said_initialized = false;
        self.has_finalizer = false;
        self.taken_over = false;
        self.deleting = false;
    }

    /// The garbage collector removes what belongs to a former claim.
    pub fn collect_former(&mut self) {
        let former =
            |it: &Stored| matches!(it.child.ownership, Ownership::FormerClaim { .. }) || it.body.is_null();
        self.objects.retain(|it| !former(it));
    }
}

/// A report that says nothing but what the agent is doing.
pub fn silent(pod: &str, phase: MemberPhase, trouble: Option<(&str, &str)>) -> Report {
    Report {
        v: FORMAT,
        agent: "0.1.0".into(),
        pod_uid: pod.to_owned(),
        phase,
        trouble: trouble.map(|(reason, message)| Trouble {
            reason: reason.into(),
            message: message.into(),
        }),
        version: None,
        initialized: None,
        applied: Applied::default(),
        pending_restart: vec![],
        write_test: None,
        access: None,
        password_set_back: None,
        disk_percent: None,
        tls: Some(TlsReport::default()),
    }
}
