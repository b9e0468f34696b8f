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

/// Values that stand in several objects and have to be the same in all of them: where each is found first, and what
/// it is called in the normal form.
const SHARED: [(&str, &str, &str); 5] = [
    ("DatabaseClaim orders", "/metadata/uid", "UID"),
    ("Pod orders-db-1-0", "/metadata/uid", "POD"),
    ("StatefulSet orders-db-1", "/status/updateRevision", "REVISION"),
    (
        "StatefulSet orders-db-1",
        "/metadata/annotations/platform.acme.com~1asked",
        "ASKED",
    ),
    (
        "StatefulSet orders-db-1",
        "/metadata/annotations/platform.acme.com~1restart-hash",
        "TEMPLATE",
    ),
];

/// The same in its normal form: identities, versions, times, hashes and passwords replaced by what they have in
/// common, and of the Pod, which others write, only what it was made from. `names` are values that differ from run
/// to run.
pub fn normal(raw: Objects, names: &[(String, &str)]) -> Objects {
    let shared = SHARED.iter().filter_map(|(object, place, name)| {
        let value = raw.get(*object)?.pointer(place)?.as_str()?;
        Some((value.to_owned(), *name))
    });
    let shared: Vec<_> = shared
        .chain(generation(&raw).map(|it| (it, "GENERATION")))
        .collect();
    let normal = raw.into_iter().map(|(name, object)| {
        let object = if name.starts_with("Pod ") {
            started(&object)
        } else {
            plain(object)
        };
        let mut text = object.to_string();
        for (value, name) in shared.iter().chain(names) {
            text = text.replace(value, name);
        }
        (name, serde_json::from_str(&text).unwrap())
    });
    normal.collect()
}

/// The generation of the configuration that is wanted.
fn generation(raw: &Objects) -> Option<String> {
    let member = raw.get("ConfigMap orders-db-config")?["data"]["member.json"].as_str()?;
    let member: Value = serde_json::from_str(member).ok()?;
    Some(member["generation"].as_str()?.to_owned())
}

/// What a Pod was made from.
fn started(pod: &Value) -> Value {
    let metadata = &pod["metadata"];
    let kept = ["platform.acme.com/asked", "platform.acme.com/restart-hash"];
    let annotations = kept.map(|key| (key.to_owned(), metadata["annotations"][key].clone()));
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let containers = containers.map(|it| json!([it["name"], it["image"], it["resources"]]));
    let annotations = Value::Object(annotations.into_iter().collect());
    json!({"metadata": {"labels": metadata["labels"], "annotations": annotations},
        "containers": containers.collect::<Vec<_>>()})
}

/// What an agent says, without what depends on when it was asked for.
fn said(mut report: Value) -> Value {
    report["applied"]["credentials"] = json!("…");
    if report["applied"].get("previousUntil").is_some() {
        report["applied"]["previousUntil"] = json!("…");
    }
    // Each claim has certificates of its own.
    for key in ["certificate", "ca"] {
        report["tls"][key] = json!("…");
    }
    report
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
        let json = |text: &Value| serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap();
        if let Some(text) = annotations.get_mut("platform.acme.com/identity") {
            // It holds the UID of the claim that made it; that it is there and whole is what counts.
            let keys: Vec<_> = json(text).as_object().unwrap().keys().cloned().collect();
            *text = json!(keys);
        }
        if let Some(text) = annotations.get_mut("platform.acme.com/report") {
            *text = said(json(text));
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
    if object["status"]["rotation"].get("previousValidUntil").is_some() {
        object["status"]["rotation"]["previousValidUntil"] = json!("…");
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
