//! A rendered object: what it is, what it is called, its body, and a hash of that body by which a later pass
//! knows whether the cluster has this version. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::api::key;
use crate::claim::{ClaimId, FIRST_MEMBER};

/// Kinds that a claim's objects have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// apps/v1.
    StatefulSet,
    /// v1.
    PersistentVolumeClaim,
    /// v1.
    Service,
    /// v1.
    Secret,
    /// v1.
    ConfigMap,
    /// v1.
    ServiceAccount,
    /// rbac.authorization.k8s.io/v1.
    Role,
    /// rbac.authorization.k8s.io/v1.
    RoleBinding,
    /// v1; made by the StatefulSet controller.
    Pod,
    /// discovery.k8s.io/v1; made by the EndpointSlice controller.
    EndpointSlice,
}

impl Kind {
    /// Group (empty for core), and plural as in URLs. Every kind here is of version v1.
    pub fn resource(self) -> (&'static str, &'static str) {
        match self {
            Self::StatefulSet => ("apps", "statefulsets"),
            Self::PersistentVolumeClaim => ("", "persistentvolumeclaims"),
            Self::Service => ("", "services"),
            Self::Secret => ("", "secrets"),
            Self::ConfigMap => ("", "configmaps"),
            Self::ServiceAccount => ("", "serviceaccounts"),
            Self::Role => ("rbac.authorization.k8s.io", "roles"),
            Self::RoleBinding => ("rbac.authorization.k8s.io", "rolebindings"),
            Self::Pod => ("", "pods"),
            Self::EndpointSlice => ("discovery.k8s.io", "endpointslices"),
        }
    }

    /// URL path of the collection in a namespace.
    pub fn path(self, namespace: &str) -> String {
        match self.resource() {
            ("", plural) => format!("/api/v1/namespaces/{namespace}/{plural}"),
            (group, plural) => format!("/apis/{group}/v1/namespaces/{namespace}/{plural}"),
        }
    }

    /// Name of the kind, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::StatefulSet => "StatefulSet",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Service => "Service",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::ServiceAccount => "ServiceAccount",
            Self::Role => "Role",
            Self::RoleBinding => "RoleBinding",
            Self::Pod => "Pod",
            Self::EndpointSlice => "EndpointSlice",
        }
    }
}

/// The place of an object in a claim. Names follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// The member's workload.
    StatefulSet,
    /// The member's volume.
    Volume,
    /// Read-write Service.
    Service,
    /// Headless Service.
    MembersService,
    /// Engine configuration.
    Config,
    /// The member's report.
    Report,
    /// Secret of the agent.
    AdminSecret,
    /// Secret for applications.
    AppSecret,
    /// Tells by its garbage collection that the admin Secret is gone.
    AdminMarker,
    /// Tells by its garbage collection that the binding Secret is gone.
    AppMarker,
    /// The agent's identity.
    ServiceAccount,
    /// The agent's rights.
    Role,
    /// Binds the two.
    RoleBinding,
}

impl Slot {
    /// Every slot.
    pub const ALL: [Self; 13] = [
        Self::StatefulSet,
        Self::Volume,
        Self::Service,
        Self::MembersService,
        Self::Config,
        Self::Report,
        Self::AdminSecret,
        Self::AppSecret,
        Self::AdminMarker,
        Self::AppMarker,
        Self::ServiceAccount,
        Self::Role,
        Self::RoleBinding,
    ];

    /// Kind of the object.
    pub fn kind(self) -> Kind {
        match self {
            Self::StatefulSet => Kind::StatefulSet,
            Self::Volume => Kind::PersistentVolumeClaim,
            Self::Service | Self::MembersService => Kind::Service,
            Self::Config | Self::Report | Self::AdminMarker | Self::AppMarker => Kind::ConfigMap,
            Self::AdminSecret | Self::AppSecret => Kind::Secret,
            Self::ServiceAccount => Kind::ServiceAccount,
            Self::Role => Kind::Role,
            Self::RoleBinding => Kind::RoleBinding,
        }
    }

    /// Name of the object.
    pub fn name(self, id: &ClaimId) -> String {
        match self {
            Self::StatefulSet | Self::Volume => id.member(FIRST_MEMBER),
            Self::Service | Self::ServiceAccount | Self::Role | Self::RoleBinding => id.base(),
            Self::MembersService => id.members_service(),
            Self::Config => id.config(),
            Self::Report => id.report(FIRST_MEMBER),
            Self::AdminSecret | Self::AdminMarker => id.admin_secret(),
            Self::AppSecret | Self::AppMarker => id.app_secret(),
        }
    }
}

/// One rendered object.
#[derive(Clone, PartialEq)]
pub struct Object {
    /// Its place in the claim.
    pub slot: Slot,
    /// Name.
    pub name: String,
    /// The whole body, with the `applied` annotation.
    pub body: Value,
    /// Hash of the body without that annotation.
    pub applied: String,
}

impl std::fmt::Debug for Object {
    // The body of a Secret must never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Object")
            .field("slot", &self.slot)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Object {
    /// Wraps a typed object.
    pub(super) fn new(slot: Slot, id: &ClaimId, typed: &impl Serialize) -> Self {
        // Serialising a type made of strings, numbers and string-keyed maps cannot fail.
        Self::of(slot, id, serde_json::to_value(typed).unwrap_or_default())
    }

    /// Wraps a body.
    pub(super) fn of(slot: Slot, id: &ClaimId, mut body: Value) -> Self {
        let applied = hash(&body);
        if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
            let annotations = metadata
                .entry("annotations")
                .or_insert_with(|| Value::Object(serde_json::Map::default()));
            if let Some(annotations) = annotations.as_object_mut() {
                annotations.insert(key::APPLIED.to_owned(), Value::String(applied.clone()));
            }
        }
        Self {
            slot,
            name: slot.name(id),
            body,
            applied,
        }
    }
}

/// First 64 bits of SHA-256 over the JSON text, whose keys `serde_json` keeps sorted.
pub fn hash(value: &Value) -> String {
    // A tree of values always has a text, and a digest more than 8 bytes.
    let text = serde_json::to_vec(value).unwrap_or_default();
    let first = Sha256::digest(text).first_chunk().copied().unwrap_or_default();
    format!("{:016x}", u64::from_be_bytes(first))
}
