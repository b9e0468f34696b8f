//! An admission policy that holds in the namespace of one test.

use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::world::{Scene, eventually};

/// A kind of object that a policy is tried on.
pub trait Probe:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + Serialize
    + DeserializeOwned
{
}

impl<K> Probe for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned
{
}

/// A policy and what binds it to the namespace, both named for it.
pub struct Policy {
    policies: Api<DynamicObject>,
    bindings: Api<DynamicObject>,
    name: String,
}

impl Policy {
    /// Makes one of a kind (`ValidatingAdmissionPolicy`, `MutatingAdmissionPolicy`). `bound` is what its binding says
    /// besides the namespace.
    pub async fn make(scene: &Scene, kind: &str, spec: Value, bound: Value) -> Self {
        let api = |kind: &str| {
            let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
            Api::all_with(scene.world.client.clone(), &ApiResource::from_gvk(&kind))
        };
        let made = Self {
            policies: api(kind),
            bindings: api(&format!("{kind}Binding")),
            name: scene.namespace.clone(),
        };
        let mut binding = bound;
        binding["policyName"] = json!(made.name);
        binding["matchResources"] =
            json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": made.name}}});
        for (api, spec) in [(&made.policies, spec), (&made.bindings, binding)] {
            let object = json!({"metadata": {"name": made.name}, "spec": spec});
            let object = serde_json::from_value(object).unwrap();
            api.create(&PostParams::default(), &object).await.unwrap();
        }
        made
    }

    /// Waits until this object is refused, in words that contain these.
    pub async fn refuses<K: Probe>(&self, scene: &Scene, probe: Value, words: &str) {
        in_force::<K>(scene, probe, |answer| match answer {
            Ok(_) => Err("the probe would be made".to_owned()),
            Err(error) if error.to_string().contains(words) => Ok(()),
            Err(error) => Err(error.to_string()),
        })
        .await;
    }

    /// Waits until this object would be made with these words in it.
    pub async fn adds<K: Probe>(&self, scene: &Scene, probe: Value, words: &str) {
        in_force::<K>(scene, probe, |answer| {
            let made = serde_json::to_string(&answer.map_err(|error| error.to_string())?);
            let made = made.map_err(|error| error.to_string())?;
            if made.contains(words) { Ok(()) } else { Err(made) }
        })
        .await;
    }

    pub async fn remove(self) {
        for api in [&self.bindings, &self.policies] {
            api.delete(&self.name, &DeleteParams::default()).await.unwrap();
        }
    }
}

/// The API server applies a policy some time after it was made: asks, without making anything, until the answer shows it.
async fn in_force<K: Probe>(
    scene: &Scene,
    probe: Value,
    shows: impl Fn(kube::Result<K>) -> Result<(), String>,
) {
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let probe: K = serde_json::from_value(probe).unwrap();
    eventually("a policy in force", || async {
        shows(scene.api::<K>().create(&dry, &probe).await)
    })
    .await;
}
