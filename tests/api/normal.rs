//! The objects of a claim in a form that does not depend on the run, so that two runs can be compared.

use std::collections::BTreeMap;

use dbclaim::api::v1::DatabaseClaim;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

/// Objects by kind and name.
pub type Objects = BTreeMap<String, Value>;

/// Every object of the claim `orders` as it is.
pub async fn raw(client: &Client, namespace: &str) -> Objects {
    let ours = ListParams::default().labels("platform.acme.com/claim=orders");
    let mut found = BTreeMap::new();
    macro_rules! add {
        ($($kind:ty),*) => {$(
            let api: Api<$kind> = Api::namespaced(client.clone(), namespace);
            for object in api.list(&ours).await.map(|list| list.items).unwrap_or_default() {
                let name = format!("{} {}", stringify!($kind), object.name_any());
                found.insert(name, serde_json::to_value(object).unwrap());
            }
        )*};
    }
    add!(
        StatefulSet,
        PersistentVolumeClaim,
        Service,
        ConfigMap,
        Secret,
        ServiceAccount,
        Role,
        RoleBinding,
        Pod
    );
    let claims: Api<DatabaseClaim> = Api::namespaced(client.clone(), namespace);
    if let Ok(claim) = claims.get("orders").await {
        found.insert(
            "DatabaseClaim orders".into(),
            serde_json::to_value(claim).unwrap(),
        );
    }
    found
}

/// The same in its normal form: identities, versions, times, hashes and passwords replaced by what they have in
/// common, and of the Pod, which others write, only its labels. `names` are values that differ from run to run.
pub fn normal(raw: Objects, names: &[(String, &str)]) -> Objects {
    let claim = raw
        .get("DatabaseClaim orders")
        .and_then(|claim| Some(claim["metadata"]["uid"].as_str()?.to_owned()));
    let normal = raw.into_iter().map(|(name, object)| {
        let object = if name.starts_with("Pod ") {
            json!({"metadata": {"labels": object["metadata"]["labels"]}})
        } else {
            plain(object)
        };
        let mut text = object.to_string();
        if let Some(uid) = &claim {
            text = text.replace(uid, "UID");
        }
        for (value, name) in names {
            text = text.replace(value, name);
        }
        (name, serde_json::from_str(&text).unwrap())
    });
    normal.collect()
}

fn plain(mut object: Value) -> Value {
    let generation = object["metadata"]["generation"].clone();
    current(&mut object["status"], &generation);
    let metadata = object["metadata"].as_object_mut().unwrap();
    for key in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "managedFields",
        "generation",
    ] {
        metadata.remove(key);
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove("platform.acme.com/applied");
        // The volume controller's, which it makes only when it comes before the driver.
        annotations.retain(|key, _| !key.ends_with("/storage-provisioner"));
        for key in ["platform.acme.com/identity", "platform.acme.com/report"] {
            // These hold UIDs; that they are there and whole is what counts.
            if let Some(text) = annotations.get(key).and_then(Value::as_str) {
                let whole: Value = serde_json::from_str(text).unwrap();
                let keys: Vec<_> = whole.as_object().unwrap().keys().cloned().collect();
                annotations.insert(key.into(), json!(keys));
            }
        }
    }
    let owners = metadata.get_mut("ownerReferences").and_then(Value::as_array_mut);
    for owner in owners.into_iter().flatten() {
        owner["uid"] = json!("…");
    }
    // Of a Secret.
    if object["type"].is_string() {
        for (_, value) in object["data"].as_object_mut().unwrap() {
            *value = json!("…");
        }
    }
    for key in ["clusterIP", "clusterIPs", "volumeName"] {
        if object["spec"][key] != json!("None") && object["spec"].get(key).is_some() {
            object["spec"][key] = json!("…");
        }
    }
    object.as_object_mut().unwrap().remove("secrets");
    if let Some(status) = object["status"].as_object_mut() {
        // What the controllers count.
        for key in ["currentRevision", "updateRevision", "collisionCount"] {
            status.remove(key);
        }
    }
    let conditions = object["status"]["conditions"].as_array_mut();
    for condition in conditions.into_iter().flatten() {
        condition["lastTransitionTime"] = json!("…");
        current(condition, &generation);
    }
    object
}

/// Generations count changes, which runs may do more or fewer of; that the last one is meant is what counts.
fn current(status: &mut Value, generation: &Value) {
    if let Some(observed) = status
        .get_mut("observedGeneration")
        .filter(|it| *it == generation)
    {
        *observed = json!("current");
    }
}

/// In words: the first thing in which two runs differ.
pub fn difference(expected: &Objects, found: &Objects) -> String {
    for (name, value) in expected {
        match found.get(name) {
            None => return format!("{name} is missing"),
            Some(other) if other != value => return format!("{name} is\n{other}\ninstead of\n{value}"),
            Some(_) => {}
        }
    }
    let more = found.keys().filter(|name| !expected.contains_key(*name));
    format!("there is too much: {:?}", more.collect::<Vec<_>>())
}
