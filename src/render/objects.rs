//! The objects beside the Pod and the Secrets. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, PersistentVolumeClaimSpec, PodTemplateSpec, Service, ServiceAccount,
    ServicePort, ServiceSpec, VolumeResourceRequirements,
};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::object::{Object, Slot, hash};
use super::{STOP, Settings, metadata, pod};
use crate::api::key;
use crate::api::protocol::{
    AGENT_PORT, FORMAT, Identity, Initialized, MemberConfig, VolumeExpectation, path,
};
use crate::claim::{Claim, FIRST_MEMBER};
use crate::engine::Engine;

/// What the claim's owner asks for that takes a restart, as a hash: only this is ever granted one. A size that
/// came to mean something else with a newer operator is not asked for.
pub fn asked(claim: &Claim) -> String {
    if let Some(asked) = &claim.asked {
        return asked.clone();
    }
    hash(&json!([
        claim.version.to_string(),
        claim.size.name,
        claim.restart
    ]))
}

/// The Pod's spec.
pub(super) fn pod_spec(claim: &Claim, settings: &Settings) -> Value {
    // Serialising plain data cannot fail.
    serde_json::to_value(pod::spec(claim, settings)).unwrap_or_default()
}

/// The hash of what needs a restart to change in it.
pub(super) fn restart_hash(spec: &Value) -> String {
    hash(spec)
}

/// The workload, and the hash of what needs a restart to change in it: the Pod's spec, not its labels.
pub(super) fn stateful_set(claim: &Claim, settings: &Settings, asked: &str) -> (Object, String) {
    let spec = pod_spec(claim, settings);
    let restart_hash = restart_hash(&spec);
    let annotations = Some(BTreeMap::from([
        (key::RESTART_HASH.to_owned(), restart_hash.clone()),
        (key::ASKED.to_owned(), asked.to_owned()),
    ]));
    let set = StatefulSet {
        metadata: ObjectMeta {
            annotations: annotations.clone(),
            ..metadata::owned(claim, Slot::StatefulSet)
        },
        spec: Some(StatefulSetSpec {
            replicas: Some(i32::from(!claim.hibernated)),
            service_name: Some(claim.id.members_service()),
            selector: LabelSelector {
                match_labels: Some(metadata::selector(&claim.id)),
                match_expressions: None,
            },
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                rolling_update: None,
            }),
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Retain".to_owned()),
                when_scaled: Some("Retain".to_owned()),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(metadata::labels(claim)),
                    annotations,
                    ..ObjectMeta::default()
                }),
                spec: None,
            },
            ..StatefulSetSpec::default()
        }),
        status: None,
    };
    let mut body = serde_json::to_value(&set).unwrap_or_default();
    if let Some(Value::Object(template)) = body.pointer_mut("/spec/template") {
        // The largest part of all that is rendered: once is enough.
        template.insert("spec".to_owned(), spec);
    }
    (Object::of(Slot::StatefulSet, &claim.id, body), restart_hash)
}

/// The volume. It carries the record of what it is; that record survives the claim.
pub(super) fn volume(claim: &Claim, initialized: Option<&Initialized>) -> Object {
    let record = Identity {
        initialized: initialized.cloned(),
        ..claim.identity.clone()
    };
    // Serialising plain data cannot fail.
    let record = serde_json::to_string(&record).unwrap_or_default();
    let requests = BTreeMap::from([("storage".to_owned(), Quantity(claim.storage_request.to_string()))]);
    let volume = PersistentVolumeClaim {
        metadata: ObjectMeta {
            annotations: Some(BTreeMap::from([(key::IDENTITY.to_owned(), record)])),
            ..metadata::kept(claim, Slot::Volume)
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: claim.storage_class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(requests),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    };
    Object::new(Slot::Volume, &claim.id, &volume)
}

pub(super) fn service(claim: &Claim) -> Object {
    let ports = vec![port("db", Engine::from(claim.engine).port())];
    let spec = ServiceSpec {
        type_: Some("ClusterIP".to_owned()),
        ..service_spec(claim, ports)
    };
    let metadata = metadata::owned(claim, Slot::Service);
    Object::new(
        Slot::Service,
        &claim.id,
        &Service {
            metadata,
            spec: Some(spec),
            status: None,
        },
    )
}

pub(super) fn members_service(claim: &Claim) -> Object {
    let ports = vec![
        port("db", Engine::from(claim.engine).port()),
        port("agent", AGENT_PORT),
    ];
    let spec = ServiceSpec {
        cluster_ip: Some("None".to_owned()),
        publish_not_ready_addresses: Some(true),
        ..service_spec(claim, ports)
    };
    let metadata = metadata::owned(claim, Slot::MembersService);
    Object::new(
        Slot::MembersService,
        &claim.id,
        &Service {
            metadata,
            spec: Some(spec),
            status: None,
        },
    )
}

fn service_spec(claim: &Claim, ports: Vec<ServicePort>) -> ServiceSpec {
    ServiceSpec {
        selector: Some(metadata::selector(&claim.id)),
        ports: Some(ports),
        ..ServiceSpec::default()
    }
}

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: number.into(),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}

/// The configuration, and the generation that the agent reports back once it is in force. The generation
/// covers what the engine reads, not what is known of the volume: learning that changes no engine.
pub(super) fn config(claim: &Claim, initialized: Option<&Initialized>) -> (Object, String) {
    let engine = Engine::from(claim.engine);
    let files = engine.config_files(
        claim.size.engine_memory(),
        &claim.parameters,
        &claim.extensions,
        claim.plaintext,
    );
    let generation = hash(&json!([files, claim.database, claim.username, claim.extensions]));
    let member = MemberConfig {
        v: FORMAT,
        generation: generation.clone(),
        engine: engine.name().to_owned(),
        major: claim.version.major.clone(),
        claim: claim.id.path(),
        database: claim.database.clone(),
        username: claim.username.clone(),
        extensions: claim.extensions.clone(),
        reports: BTreeMap::from([(FIRST_MEMBER, claim.id.report(FIRST_MEMBER))]),
        volumes: BTreeMap::from([(
            FIRST_MEMBER,
            VolumeExpectation {
                volume_id: claim.identity.volume_id.clone(),
                system_identifier: initialized.map(|it| it.system_identifier.clone()),
            },
        )]),
        host: claim.id.host(),
        stop_seconds: STOP,
    };
    let mut data: BTreeMap<String, String> = files
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text))
        .collect();
    // Serialising plain data cannot fail.
    data.insert(
        path::MEMBER_FILE.to_owned(),
        serde_json::to_string_pretty(&member).unwrap_or_default(),
    );
    let map = ConfigMap {
        metadata: metadata::owned(claim, Slot::Config),
        data: Some(data),
        ..ConfigMap::default()
    };
    (Object::new(Slot::Config, &claim.id, &map), generation)
}

pub(super) fn report(claim: &Claim) -> Object {
    let map = ConfigMap {
        metadata: metadata::owned(claim, Slot::Report),
        ..ConfigMap::default()
    };
    Object::new(Slot::Report, &claim.id, &map)
}

pub(super) fn service_account(claim: &Claim) -> Object {
    let account = ServiceAccount {
        metadata: metadata::owned(claim, Slot::ServiceAccount),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    Object::new(Slot::ServiceAccount, &claim.id, &account)
}

/// The agent may write its report, and nothing else.
pub(super) fn role(claim: &Claim) -> Object {
    let role = Role {
        metadata: metadata::owned(claim, Slot::Role),
        rules: Some(vec![PolicyRule {
            api_groups: Some(vec![String::new()]),
            resources: Some(vec!["configmaps".to_owned()]),
            resource_names: Some(vec![claim.id.report(FIRST_MEMBER)]),
            verbs: vec!["patch".to_owned()],
            ..PolicyRule::default()
        }]),
    };
    Object::new(Slot::Role, &claim.id, &role)
}

pub(super) fn role_binding(claim: &Claim) -> Object {
    let binding = RoleBinding {
        metadata: metadata::owned(claim, Slot::RoleBinding),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: claim.id.base(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: claim.id.base(),
            namespace: Some(claim.id.namespace.clone()),
            ..Subject::default()
        }]),
    };
    Object::new(Slot::RoleBinding, &claim.id, &binding)
}
