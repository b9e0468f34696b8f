//! The API server: takes writes, and panics at what the real one would refuse.

use dbclaim::api::protocol::{Credentials, FORMAT};
use dbclaim::api::{key, label};
use dbclaim::certificate::Keys;
use dbclaim::claim::quantity::Bytes;
use dbclaim::plan::observed::{Child, Detail, Ownership, Pod, SecretState, Volume, Workload};
use dbclaim::plan::{Plan, Step};
use dbclaim::render::{Kind, Object, Slot};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use super::{Cluster, OURS, Stored, blank};

impl Cluster {
    /// Carries out a plan; panics at what the API server would refuse.
    pub fn carry_out(&mut self, plan: &Plan) {
        self.trusted.extend(plan.trusted.iter().copied());
        // The finalizer alone comes to refused claims as well.
        let makes = |step: &Step| !matches!(step, Step::Finalizer { .. });
        self.taken_over |= !self.deleting && plan.steps.iter().any(makes);
        for step in &plan.steps {
            match step {
                Step::Create(object) => self.create(object),
                Step::CreateSecrets(secrets) => {
                    // The API server refuses what is there, and then the second is not sent.
                    if self.app == SecretState::Absent {
                        self.create(&secrets.app);
                        if self.admin == SecretState::Absent {
                            self.create(&secrets.admin);
                        }
                    }
                }
                Step::Apply { object, uid } => self.apply(object, uid),
                Step::Label {
                    kind,
                    name,
                    uid,
                    label: (_, value),
                } => {
                    let stored = self.stored(*kind, name);
                    assert_eq!(stored.child.uid, *uid, "label of another {kind:?} {name}");
                    stored.child.team = Some(value.clone());
                }
                Step::Annotate {
                    kind,
                    name,
                    uid,
                    annotations,
                } => {
                    let stored = self.stored(*kind, name);
                    assert_eq!(stored.child.uid, *uid, "annotation of another {kind:?} {name}");
                    annotate(pod_of(stored), annotations);
                }
                Step::Resize {
                    name, uid, memory, ..
                } => {
                    let stored = self.stored(Kind::Pod, name);
                    assert_eq!(stored.child.uid, *uid, "resize of another Pod {name}");
                    pod_of(stored).requested_memory = Some(*memory);
                }
                Step::Delete {
                    kind,
                    name,
                    uid,
                    resource_version,
                    ..
                } => self.delete(*kind, name, (uid, resource_version.as_ref())),
                Step::Finalizer { present } => {
                    assert_ne!(self.has_finalizer, *present, "a finalizer that stands already");
                    self.has_finalizer = *present;
                }
            }
        }
    }

    fn create(&mut self, object: &Object) {
        self.serial += 1;
        let uid = format!("{:?}-{}", object.slot, self.serial);
        if let Some(state) = self.secret(object.slot) {
            assert_eq!(
                *state,
                SecretState::Absent,
                "POST of {object:?}: it exists already"
            );
            *state = secret(object, uid);
            return;
        }
        assert!(
            self.slot(object.slot).is_none(),
            "POST of {object:?}: it exists already"
        );
        self.trusted.insert((object.slot, OURS));
        self.objects.push(stored(object, uid));
    }

    fn apply(&mut self, object: &Object, uid: &str) {
        if let Some(state) = self.secret(object.slot) {
            let SecretState::Present { uid: live, .. } = state else {
                panic!("apply of {object:?}: there is none");
            };
            assert_eq!(live, uid, "apply of {object:?}: another object");
            *state = secret(object, uid.to_owned());
            // Another password is made later than this one.
            self.serial += 1;
            return;
        }
        self.trusted.insert((object.slot, OURS));
        let new = stored(object, uid.to_owned());
        let old = self.stored(object.slot.kind(), &object.name);
        assert_eq!(old.child.uid, uid, "apply of {object:?}: another object");
        let detail = match (&old.child.detail, &new.child.detail) {
            (Detail::Volume(old), Detail::Volume(new)) => Detail::Volume(Box::new(changed(old, new))),
            (Detail::Report(report), _) => Detail::Report(report.clone()),
            // Its controller has not made the revision of the new template yet.
            (Detail::StatefulSet(old), Detail::StatefulSet(new)) => Detail::StatefulSet(Workload {
                revision: old.revision.clone(),
                ..new.clone()
            }),
            (_, new) => new.clone(),
        };
        *old = Stored {
            child: Child {
                detail,
                deleting: old.child.deleting,
                ..new.child
            },
            ..new
        };
    }

    fn delete(&mut self, kind: Kind, name: &str, (uid, version): (&str, Option<&String>)) {
        let in_use = self.objects.iter().any(|it| it.child.kind == Kind::Pod);
        for slot in [Slot::AdminSecret, Slot::AppSecret] {
            if kind == Kind::Secret && slot.name(&self.id) == name {
                let state = self.secret(slot).unwrap();
                assert_eq!(
                    uid_of(state).as_deref(),
                    Some(uid),
                    "DELETE of another {kind:?} {name}"
                );
                *state = SecretState::Absent;
                return;
            }
        }
        let stored = self.stored(kind, name);
        assert_eq!(stored.child.uid, uid, "DELETE of another {kind:?} {name}");
        let same = version.is_none_or(|it| *it == stored.child.resource_version);
        assert!(same, "DELETE of another version of {kind:?} {name}");
        stored.child.deleting = true;
        if kind != Kind::PersistentVolumeClaim || !in_use {
            self.objects
                .retain(|it| it.child.kind != kind || it.child.name != name);
        }
    }

    pub fn secret(&mut self, slot: Slot) -> Option<&mut SecretState> {
        match slot {
            Slot::AdminSecret => Some(&mut self.admin),
            Slot::AppSecret => Some(&mut self.app),
            _ => None,
        }
    }

    pub fn stored(&mut self, kind: Kind, name: &str) -> &mut Stored {
        let found = self
            .objects
            .iter_mut()
            .find(|it| it.child.kind == kind && it.child.name == name);
        found.unwrap_or_else(|| panic!("there is no {kind:?} {name}"))
    }
}

/// An object as the API server has it after our write.
pub fn stored(object: &Object, uid: String) -> Stored {
    let metadata = &object.body["metadata"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    assert_eq!(
        metadata["labels"][label::MANAGED_BY],
        label::MANAGER,
        "{object:?}"
    );
    let detail = match object.slot {
        Slot::StatefulSet => Detail::StatefulSet(Workload {
            restart_hash: text(&metadata["annotations"][key::RESTART_HASH]),
            asked: text(&metadata["annotations"][key::ASKED]),
            taken_up: false,
            revision: Some(object.applied.clone()),
            stopped: object.body["spec"]["replicas"] == 0,
        }),
        Slot::Volume => Detail::Volume(Box::new(volume(object))),
        Slot::AdminMarker | Slot::AppMarker => Detail::Marker {
            secret_uid: text(&metadata["ownerReferences"][0]["uid"]).unwrap(),
        },
        _ => Detail::None,
    };
    Stored {
        child: Child {
            kind: object.slot.kind(),
            name: object.name.clone(),
            uid,
            applied: text(&metadata["annotations"][key::APPLIED]),
            team: text(&metadata["labels"][key::TEAM]),
            detail,
            ..blank(Ownership::Ours)
        },
        body: object.body.clone(),
        fingerprint: OURS,
    }
}

fn volume(object: &Object) -> Volume {
    let record = &object.body["metadata"]["annotations"][key::IDENTITY];
    let spec = &object.body["spec"];
    Volume {
        identity: serde_json::from_str(record.as_str().unwrap()).ok(),
        bound: false,
        requested: Bytes::parse(spec["resources"]["requests"]["storage"].as_str().unwrap()).ok(),
        capacity: None,
        storage_class: spec["storageClassName"].as_str().map(str::to_owned),
        growth: None,
        never_bound: true,
    }
}

fn pod_of(stored: &mut Stored) -> &mut Pod {
    match &mut stored.child.detail {
        Detail::Pod(pod) => pod,
        other => panic!("only Pods are annotated and resized, not {other:?}"),
    }
}

fn annotate(pod: &mut Pod, annotations: &[(&str, String)]) {
    for (key, value) in annotations {
        let place = match *key {
            key::WANTED => &mut pod.wanted,
            key::ASKED => &mut pod.asked,
            key::RESTART_HASH => &mut pod.restart_hash,
            other => panic!("no Pod is annotated with {other}"),
        };
        *place = Some(value.clone());
    }
}

/// A volume after an apply. Panics at a change that the API server refuses.
fn changed(old: &Volume, new: &Volume) -> Volume {
    assert!(
        new.requested >= old.requested,
        "a volume cannot shrink: {old:?} to {new:?}"
    );
    if let (Some(old), Some(new)) = (&old.storage_class, &new.storage_class) {
        assert_eq!(old, new, "the class of a volume cannot be changed");
    }
    Volume {
        identity: new.identity.clone(),
        // Nothing can be changed before there is a volume; that is tried again.
        requested: if old.never_bound {
            old.requested
        } else {
            new.requested
        },
        ..old.clone()
    }
}

/// A Secret as it is read after our write.
pub fn secret(object: &Object, uid: String) -> SecretState {
    let secret: Secret = serde_json::from_value(object.body.clone()).unwrap();
    let data = secret.data.unwrap();
    let credentials = match data.get("credentials.json") {
        Some(file) => serde_json::from_slice(&file.0).unwrap(),
        None => Credentials {
            v: FORMAT,
            password: String::from_utf8(data["password"].0.clone()).unwrap(),
            login: Some(String::from_utf8(data["username"].0.clone()).unwrap()),
            ..Credentials::default()
        },
    };
    let text = |key| {
        let bytes = data
            .get(key)
            .map(|it: &ByteString| it.0.clone())
            .unwrap_or_default();
        String::from_utf8(bytes).unwrap()
    };
    SecretState::Present {
        uid,
        keys: Box::new(Keys {
            ca: text("ca.crt"),
            ca_key: text("ca.key"),
            certificate: text("tls.crt"),
            key: text("tls.key"),
        }),
        ownership: Ownership::Ours,
        credentials: Some(credentials),
        deleting: false,
        applied: Some(object.applied.clone()),
    }
}

/// UID of a Secret that is there.
pub fn uid_of(state: &SecretState) -> Option<String> {
    match state {
        SecretState::Present { uid, .. } => Some(uid.clone()),
        _ => None,
    }
}
