//! A larger size while the database runs, where the API server does not let the Pod be resized.

use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::cluster::Suite;
use crate::scene::{Scene, until};

const POD: &str = "orders-db-1-0";
const MEDIUM: &str = "2Gi";

/// A small MySQL that is at rest.
async fn serving(suite: &Suite) -> (Arc<Scene>, Option<String>) {
    let scene = Scene::open(suite).await;
    scene
        .create(json!({"engine": "mysql", "size": "small", "storage": "5Gi"}))
        .await;
    scene.ready().await.unwrap();
    scene.rest().await.unwrap();
    let uid = scene.api::<Pod>().get(POD).await.unwrap().uid();
    (scene, uid)
}

/// The memory that the Pod asks for, and its UID.
async fn pod(scene: &Scene) -> Result<(String, Option<String>), String> {
    let pod = scene.api::<Pod>().get(POD).await.map_err(|it| it.to_string())?;
    let value = serde_json::to_value(&pod).unwrap();
    let memory = &value["spec"]["containers"][0]["resources"]["limits"]["memory"];
    Ok((memory.as_str().unwrap_or_default().to_owned(), pod.uid()))
}

/// What the operator has said under this condition, in any of its status writes.
fn said(scene: &Scene, condition: &str) -> Vec<(String, String)> {
    let writes = scene.plan.writes.lock().unwrap();
    let conditions = writes
        .iter()
        .filter_map(|it| it.body["status"]["conditions"].as_array());
    let conditions = conditions.flatten().filter(|it| it["type"] == condition);
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    conditions
        .map(|it| (text(&it["reason"]), text(&it["message"])))
        .collect()
}

/// Waits until nothing of another size than this is left.
async fn arrives(scene: &Scene, memory: &str) {
    until("the size", async || {
        let (has, _) = pod(scene).await?;
        if has == memory { Ok(()) } else { Err(has) }
    })
    .await
    .unwrap();
    scene.ready().await.unwrap();
    scene.rest().await.unwrap();
}

/// Somebody's policy lets no Pod be resized: the Pod is replaced, once, and the claim says why.
pub async fn a_refused_resize_is_one_restart_and_told_why(suite: &Suite) {
    let (scene, before) = serving(suite).await;
    let name = &scene.namespace;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(suite.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(suite.client.clone());
    let policy = json!({"metadata": {"name": name}, "spec": {
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
            "operations": ["UPDATE"], "resources": ["pods/resize"]}]},
        "validations": [{"expression": "false", "message": "no Pod is resized here"}]}});
    let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}}});
    let post = PostParams::default();
    let made = policies
        .create(&post, &serde_json::from_value(policy).unwrap())
        .await;
    made.unwrap();
    let made = bindings
        .create(&post, &serde_json::from_value(binding).unwrap())
        .await;
    made.unwrap();
    until("a policy in force", async || {
        let probe =
            json!({"spec": {"containers": [{"name": "database", "resources": {"limits": {"cpu": "2"}}}]}});
        let dry = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let pods = scene.api::<Pod>();
        let tried = pods
            .patch_subresource("resize", POD, &dry, &Patch::Strategic(probe))
            .await;
        match tried {
            Err(kube::Error::Api(status)) if status.message.contains("no Pod is resized") => Ok(()),
            other => Err(format!("{:?}", other.map(|it| it.uid()))),
        }
    })
    .await
    .unwrap();
    scene.plan.arm(None);
    scene.change(json!({"spec": {"size": "medium"}})).await;
    arrives(&scene, MEDIUM).await;
    assert_ne!(pod(&scene).await.unwrap().1, before, "the Pod was not replaced");
    let told = said(&scene, "Reconciling");
    let why = |(reason, message): &(String, String)| {
        reason == "Restarting" && message.contains("no Pod is resized here")
    };
    assert!(told.iter().any(why), "{told:#?}");
    for deleted in [
        bindings.delete(name, &DeleteParams::default()).await.map(drop),
        policies.delete(name, &DeleteParams::default()).await.map(drop),
    ] {
        deleted.unwrap();
    }
}

/// A quota without room would refuse a new Pod as well: the database serves on, the claim names the quota, and goes
/// on when there is room.
pub async fn a_full_quota_stops_nothing_but_the_larger_size(suite: &Suite) {
    let (scene, before) = serving(suite).await;
    let quotas: Api<ResourceQuota> = scene.api();
    let quota = json!({"metadata": {"name": "tight"}, "spec": {"hard": {"limits.memory": "1Gi"}}});
    let made = quotas
        .create(&PostParams::default(), &serde_json::from_value(quota).unwrap())
        .await;
    made.unwrap();
    until("a quota that is counted", async || {
        let used = quotas.get("tight").await.map_err(|it| it.to_string())?;
        let used = used.status.and_then(|it| it.used).unwrap_or_default();
        let counted = used.get("limits.memory").is_some_and(|it| it.0 != "0");
        if counted { Ok(()) } else { Err(format!("{used:?}")) }
    })
    .await
    .unwrap();
    scene.plan.arm(None);
    scene.change(json!({"spec": {"size": "medium"}})).await;
    scene
        .says("the quota", |claim| {
            let conditions = claim.status.iter().flat_map(|it| &it.conditions);
            let says = |type_: &str, reason: &str| {
                let mut all = conditions.clone();
                all.any(|it| it.type_ == type_ && it.status == "True" && it.reason == reason)
            };
            says("Stalled", "QuotaExceeded") && says("Ready", "Ready")
        })
        .await
        .unwrap();
    let (memory, now) = pod(&scene).await.unwrap();
    assert_eq!((memory.as_str(), now), ("512Mi", before.clone()));
    let room = Patch::Merge(json!({"spec": {"hard": {"limits.memory": "4Gi"}}}));
    quotas
        .patch("tight", &PatchParams::default(), &room)
        .await
        .unwrap();
    arrives(&scene, MEDIUM).await;
    assert_eq!(pod(&scene).await.unwrap().1, before, "the Pod was replaced");
}
