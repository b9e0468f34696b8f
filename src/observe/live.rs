//! The claims' objects as their watches decode them: metadata that matter, and of the rest what is reduced. Most of
//! a live object is never looked at and never copied.

use std::borrow::Cow;
use std::fmt::Debug;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus, Pod, PodStatus,
    Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::reduce::{self, Seen};
use crate::api::v1::{DatabaseClaim, DatabaseClaimSpec, DatabaseClaimStatus};
use crate::api::wire::Meta;
use crate::plan::observed::Detail;
use crate::render::Kind;

/// A kind that is watched, and what of it is decoded.
pub trait Watched: Clone + Debug + Send + Sync + 'static {
    /// Kind.
    const KIND: Kind;
    /// Whether the API server is asked for metadata only.
    const METADATA_ONLY: bool = true;
    /// What is decoded of `spec`.
    type Spec: DeserializeOwned + Clone + Debug + Send + Sync;
    /// What is decoded of `status`.
    type Status: DeserializeOwned + Clone + Debug + Send + Sync;
    /// What is decoded of `endpoints`.
    type Endpoints: DeserializeOwned + Clone + Debug + Send + Sync;

    /// What is particular to the kind.
    fn detail(live: Live<Self>) -> Detail {
        super::detail(Self::KIND, live.metadata.object)
    }
}

/// A live object.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "")]
pub struct Live<K: Watched> {
    #[serde(default)]
    metadata: Meta,
    #[serde(default = "none")]
    spec: Option<K::Spec>,
    #[serde(default = "none")]
    status: Option<K::Status>,
    #[serde(default = "none")]
    endpoints: Option<K::Endpoints>,
}

fn none<T>() -> Option<T> {
    None
}

impl<K: Watched> Live<K> {
    /// What is kept of it; `None` for an object without name or UID, which no API server sends.
    pub fn reduce(self) -> Option<Seen> {
        let seen = reduce::metadata(K::KIND, &self.metadata, Detail::None)?;
        Some(Seen {
            detail: K::detail(self),
            ..seen
        })
    }
}

impl<K: Watched> Resource for Live<K> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::KIND.name().into()
    }

    fn group((): &()) -> Cow<'_, str> {
        K::KIND.resource().0.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::KIND.resource().1.into()
    }

    fn metadata_api() -> bool {
        K::METADATA_ONLY
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata.object
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata.object
    }
}

macro_rules! metadata_only {
    ($($kind:ident),*) => {$(
        impl Watched for $kind {
            const KIND: Kind = Kind::$kind;
            type Spec = IgnoredAny;
            type Status = IgnoredAny;
            type Endpoints = IgnoredAny;
        }
    )*};
}

metadata_only!(ConfigMap, Service, ServiceAccount, Role, RoleBinding);

/// What is looked at in a StatefulSet's spec.
#[derive(Clone, Debug, Deserialize)]
pub struct WorkloadSpec {
    /// How many Pods it shall have.
    #[serde(default)]
    pub replicas: Option<i32>,
}

/// What is looked at in a StatefulSet's status.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// Generation that its controller has looked at.
    #[serde(default)]
    pub observed_generation: Option<i64>,
    /// Revision from which it starts Pods.
    #[serde(default)]
    pub update_revision: Option<String>,
}

impl Watched for StatefulSet {
    const KIND: Kind = Kind::StatefulSet;
    const METADATA_ONLY: bool = false;
    type Spec = WorkloadSpec;
    type Status = WorkloadStatus;
    type Endpoints = IgnoredAny;

    fn detail(live: Live<Self>) -> Detail {
        reduce::stateful_set(&live.metadata.object, live.spec.as_ref(), live.status.as_ref())
    }
}

impl Watched for PersistentVolumeClaim {
    const KIND: Kind = Kind::PersistentVolumeClaim;
    const METADATA_ONLY: bool = false;
    type Spec = PersistentVolumeClaimSpec;
    type Status = PersistentVolumeClaimStatus;
    type Endpoints = IgnoredAny;

    fn detail(live: Live<Self>) -> Detail {
        reduce::volume(&Self {
            metadata: live.metadata.object,
            spec: live.spec,
            status: live.status,
        })
    }
}

/// What is looked at in a Pod's spec.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// Node that it was given.
    #[serde(default)]
    pub node_name: Option<String>,
    /// What is waited for beside its containers.
    #[serde(default)]
    pub readiness_gates: Option<Vec<IgnoredAny>>,
    /// Its containers.
    #[serde(default)]
    pub containers: Vec<Container>,
}

/// What is looked at in a container.
#[derive(Clone, Debug, Deserialize)]
pub struct Container {
    /// Name.
    pub name: String,
    /// CPU and memory.
    #[serde(default)]
    pub resources: Option<Resources>,
}

/// What is looked at in CPU and memory.
#[derive(Clone, Debug, Deserialize)]
pub struct Resources {
    /// The most that it may use.
    #[serde(default)]
    pub limits: Option<Limits>,
}

/// What is looked at in limits.
#[derive(Clone, Debug, Deserialize)]
pub struct Limits {
    /// Quantity.
    #[serde(default)]
    pub memory: Option<String>,
}

impl Watched for Pod {
    const KIND: Kind = Kind::Pod;
    const METADATA_ONLY: bool = false;
    type Spec = PodSpec;
    type Status = PodStatus;
    type Endpoints = IgnoredAny;

    fn detail(live: Live<Self>) -> Detail {
        reduce::pod(&live.metadata.object, live.spec.as_ref(), live.status.as_ref())
    }
}

impl Watched for EndpointSlice {
    const KIND: Kind = Kind::EndpointSlice;
    const METADATA_ONLY: bool = false;
    type Spec = IgnoredAny;
    type Status = IgnoredAny;
    type Endpoints = Vec<Endpoint>;

    fn detail(live: Live<Self>) -> Detail {
        reduce::endpoints(
            &live.metadata.object,
            live.endpoints.as_deref().unwrap_or_default(),
        )
    }
}

/// A claim as its watch decodes it: without `managedFields` and what others have written on it, of which a status
/// has more than of everything else.
#[derive(Clone, Debug, Deserialize)]
pub struct LiveClaim {
    #[serde(default)]
    metadata: Meta,
    spec: DatabaseClaimSpec,
    #[serde(default)]
    status: Option<DatabaseClaimStatus>,
}

impl From<LiveClaim> for DatabaseClaim {
    fn from(live: LiveClaim) -> Self {
        let mut status = live.status;
        if let Some(status) = &mut status {
            // Kept for as long as the claim is there.
            status.conditions.shrink_to_fit();
            status.members.shrink_to_fit();
        }
        Self {
            metadata: live.metadata.object,
            spec: live.spec,
            status,
        }
    }
}

impl Resource for LiveClaim {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        DatabaseClaim::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        DatabaseClaim::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        DatabaseClaim::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        DatabaseClaim::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata.object
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata.object
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{key, label};
    use serde_json::json;

    fn reduced<K: Watched>(object: serde_json::Value) -> Detail {
        let live: Live<K> = serde_json::from_value(object).unwrap();
        live.reduce().unwrap().detail
    }

    /// What decoding leaves out, no plan can see.
    #[test]
    fn all_that_restarts_are_planned_by_is_decoded() {
        let annotations = json!({key::RESTART_HASH: "template", key::ASKED: "asked", key::WANTED: "wanted"});
        let set = json!({"metadata": {"name": "orders-db-1", "namespace": "shop", "uid": "u1", "generation": 3,
            "annotations": annotations}, "spec": {"replicas": 0},
            "status": {"observedGeneration": 3, "updateRevision": "orders-db-1-7"}});
        let Detail::StatefulSet(workload) = reduced::<StatefulSet>(set) else {
            panic!("a workload")
        };
        assert_eq!(workload.restart_hash.as_deref(), Some("template"));
        assert_eq!(workload.asked.as_deref(), Some("asked"));
        assert_eq!(workload.revision.as_deref(), Some("orders-db-1-7"));
        assert!(workload.taken_up && workload.stopped);
        let pod = json!({"metadata": {"name": "orders-db-1-0", "namespace": "shop", "uid": "u2",
            "annotations": annotations, "labels": {label::REVISION: "orders-db-1-7"}}});
        let Detail::Pod(pod) = reduced::<Pod>(pod) else {
            panic!("a Pod")
        };
        assert_eq!(pod.asked.as_deref(), Some("asked"));
        assert_eq!(pod.revision.as_deref(), Some("orders-db-1-7"));
        assert_eq!(pod.wanted.as_deref(), Some("wanted"));
    }

    /// What decoding leaves out, no pass can see.
    #[test]
    fn all_that_passes_look_at_in_a_claim_is_decoded() {
        let claim = json!({
            "apiVersion": "platform.acme.com/v1", "kind": "DatabaseClaim",
            "metadata": {"name": "orders", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 3,
                "finalizers": ["a/b"], "deletionTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {key::RESTART: "now", key::ROTATE: "now", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
                "managedFields": [{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}}]},
            "spec": {"engine": "postgres", "size": "small", "team": "checkout", "storage": "1Gi"},
            "status": {"observedGeneration": 2, "phase": "Ready"},
        });
        let whole: DatabaseClaim = serde_json::from_value(claim.clone()).unwrap();
        let live: DatabaseClaim = serde_json::from_value::<LiveClaim>(claim).unwrap().into();
        assert_eq!((live.spec, live.status), (whole.spec, whole.status));
        let annotations = std::collections::BTreeMap::from(
            [key::RESTART, key::ROTATE].map(|it| (it.to_owned(), "now".to_owned())),
        );
        let expected = ObjectMeta {
            annotations: Some(annotations),
            managed_fields: None,
            ..whole.metadata
        };
        assert_eq!(live.metadata, expected);
    }
}
