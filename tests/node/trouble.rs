//! Trouble is named: real causes, what the claim says of each (condition and Event), and that it heals when the
//! cause is gone, without a touch.

use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota, Secret, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::admission::Policy;
use crate::audit;
use crate::life::volume_folder;
use crate::world::{HOME_CLASS, Scene, eventually};

/// How soon after its cause trouble has its Event.
const SOON: i64 = 30;

/// Waits for the one Event of a reason on a claim whose note has these words.
async fn event(scene: &Scene, claim: &str, reason: &str, words: &str) -> Event {
    eventually(&format!("an Event {reason} on {claim}"), || async {
        // A former claim of this name has Events too.
        let uid = scene.claim(claim).await.uid();
        let all = scene.api::<Event>().list(&ListParams::default()).await;
        let all = all.map_err(|error| error.to_string())?.items;
        let ours = all
            .into_iter()
            .filter(|event| event.regarding.clone().unwrap_or_default().uid == uid);
        let (mut wanted, others): (Vec<_>, Vec<_>) = ours.partition(|event| {
            let note = event.note.as_deref().unwrap_or_default();
            event.reason.as_deref() == Some(reason) && note.contains(words)
        });
        match (wanted.pop(), wanted.is_empty()) {
            (Some(event), true) => Ok(event),
            (Some(event), false) => panic!("more than one Event {reason}: {event:?} and {wanted:?}"),
            (None, _) => Err(format!(
                "{:?}",
                others.iter().map(|it| it.reason.clone()).collect::<Vec<_>>()
            )),
        }
    })
    .await
}

/// Waits for the trouble, as Ready=False and as exactly one Event with the same words; returns the words.
pub async fn named(scene: &Scene, reason: &str, parts: &[&str]) -> String {
    let message = scene.condition("orders", "Ready", "False", reason).await;
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    let event = event(scene, "orders", reason, "").await;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    let note = event.note.unwrap_or_default();
    for part in parts {
        assert!(note.contains(part), "{part:?} is not in the Event: {note}");
    }
    message
}

/// That the Event came soon after the claim was made.
pub async fn soon(scene: &Scene, reason: &str) {
    let event = event(scene, "orders", reason, "").await;
    let made = scene.claim("orders").await.creation_timestamp().unwrap();
    let after = event.event_time.unwrap().0.duration_since(made.0).as_secs();
    assert!(after <= SOON, "{reason} was told after {after} s");
}

/// Ready again, and said so by one Event.
pub async fn healed(scene: &Scene) {
    scene.ready("orders").await;
    let over = event(scene, "orders", "Ready", "the trouble is over").await;
    assert_eq!(over.type_.as_deref(), Some("Normal"));
    scene.write("orders", "healed").await;
}

pub async fn an_image_that_does_not_exist_is_named(scene: Scene) {
    let facts = scene.engine.facts();
    scene
        .apply("orders", json!({"version": facts.missing_version}))
        .await;
    let image = format!("{}:{}", facts.name, facts.missing_version);
    let parts = [
        image.as_str(),
        "container database of Pod orders-db-1-0",
        "cannot be pulled",
    ];
    named(&scene, "ImagePullFailed", &parts).await;
}

/// The Pod says it itself: no Event is read, so that a hundred such claims cost no more than healthy ones.
pub async fn a_pod_that_fits_nowhere_is_named_without_reading_events(scene: Scene) {
    scene.apply("orders", json!({"size": "large"})).await;
    named(
        &scene,
        "Unschedulable",
        &["Pod orders-db-1-0", "Insufficient", "Add a node"],
    )
    .await;
    soon(&scene, "Unschedulable").await;
    let requests = audit::requests(&scene.world, audit::OPERATOR, &scene.namespace, 0);
    let lists: Vec<_> = requests
        .iter()
        .filter(|it| it.resource == "events" && it.verb == "list")
        .collect();
    assert!(lists.is_empty(), "{lists:?}");
    let statuses = requests
        .iter()
        .filter(|it| it.resource == "databaseclaims/status")
        .count();
    assert!(statuses <= 3, "{statuses} status writes");
}

pub async fn a_missing_storage_class_is_named_and_heals(scene: Scene) {
    let name = format!("fast-{}", scene.namespace);
    scene.apply("orders", json!({"storageClassName": name})).await;
    let parts = [
        "PersistentVolumeClaim orders-db-1",
        name.as_str(),
        "kubectl get storageclass",
    ];
    named(&scene, "StorageClassMissing", &parts).await;
    soon(&scene, "StorageClassMissing").await;
    scene
        .condition("orders", "StorageReady", "False", "StorageClassMissing")
        .await;
    let classes: Api<StorageClass> = Api::all(scene.world.client.clone());
    let class = StorageClass {
        metadata: serde_json::from_value(json!({"name": name})).unwrap(),
        ..classes.get(HOME_CLASS).await.unwrap()
    };
    classes.create(&PostParams::default(), &class).await.unwrap();
    healed(&scene).await;
    classes.delete(&name, &DeleteParams::default()).await.unwrap();
}

/// Makes a ResourceQuota and waits until it is in force.
async fn quota(scene: &Scene, hard: serde_json::Value) {
    let quotas = scene.api::<ResourceQuota>();
    let quota =
        serde_json::from_value(json!({"metadata": {"name": "tight"}, "spec": {"hard": hard}})).unwrap();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    eventually("the quota in force", || async {
        let quota = quotas.get("tight").await.map_err(|error| error.to_string())?;
        let hard = quota.status.and_then(|it| it.hard).unwrap_or_default();
        if hard.is_empty() {
            Err("no status".into())
        } else {
            Ok(())
        }
    })
    .await;
}

pub async fn a_full_quota_for_volumes_is_named_and_heals(scene: Scene) {
    quota(&scene, json!({"persistentvolumeclaims": "0"})).await;
    scene.apply("orders", json!({})).await;
    let parts = [
        "create PersistentVolumeClaim orders-db-1",
        "exceeded quota: tight",
        "Raise the ResourceQuota",
    ];
    named(&scene, "QuotaExceeded", &parts).await;
    soon(&scene, "QuotaExceeded").await;
    scene
        .condition("orders", "Stalled", "True", "QuotaExceeded")
        .await;
    scene
        .api::<ResourceQuota>()
        .delete("tight", &DeleteParams::default())
        .await
        .unwrap();
    healed(&scene).await;
    scene.condition("orders", "Stalled", "False", "Idle").await;
}

pub async fn a_full_quota_for_pods_is_named_and_heals(scene: Scene) {
    quota(&scene, json!({"pods": "0"})).await;
    scene.apply("orders", json!({})).await;
    let parts = [
        "StatefulSet orders-db-1 cannot make Pod orders-db-1-0",
        "exceeded quota: tight",
    ];
    named(&scene, "QuotaExceeded", &parts).await;
    soon(&scene, "QuotaExceeded").await;
    scene
        .api::<ResourceQuota>()
        .delete("tight", &DeleteParams::default())
        .await
        .unwrap();
    healed(&scene).await;
}

pub async fn a_limit_range_below_the_size_is_named_and_heals(scene: Scene) {
    let ranges = scene.api::<LimitRange>();
    let range = json!({"metadata": {"name": "tight"}, "spec": {"limits": [
        {"type": "Container", "max": {"memory": "64Mi"}}]}});
    ranges
        .create(&PostParams::default(), &serde_json::from_value(range).unwrap())
        .await
        .unwrap();
    scene.apply("orders", json!({})).await;
    let parts = [
        "Pod orders-db-1-0",
        "maximum memory usage per Container is 64Mi",
        "change the LimitRange",
    ];
    named(&scene, "LimitExceeded", &parts).await;
    soon(&scene, "LimitExceeded").await;
    ranges.delete("tight", &DeleteParams::default()).await.unwrap();
    healed(&scene).await;
}

/// In this namespace alone; withdrawn rights are answered in the same way.
pub async fn a_policy_that_refuses_our_write_is_named_and_heals(scene: Scene) {
    let name = scene.namespace.clone();
    let policy = json!({
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["services"]}]},
        "validations": [{"expression": "false", "message": "no Services here", "reason": "Forbidden"}]});
    let bound = json!({"validationActions": ["Deny"]});
    let policy = Policy::make(&scene, "ValidatingAdmissionPolicy", policy, bound).await;
    let probe = json!({"metadata": {"name": "probe"}, "spec": {"ports": [{"port": 1}]}});
    policy.refuses::<Service>(&scene, probe, "no Services here").await;
    scene.apply("orders", json!({})).await;
    let stalled = scene.condition("orders", "Stalled", "True", "ApiRefused").await;
    for part in ["create Service orders-db", "no Services here", name.as_str()] {
        assert!(stalled.contains(part), "{part:?} is not in: {stalled}");
    }
    event(&scene, "orders", "ApiRefused", "").await;
    soon(&scene, "ApiRefused").await;
    policy.remove().await;
    healed(&scene).await;
}

pub async fn an_out_of_memory_kill_is_named_with_its_limit_and_heals(scene: Scene) {
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    scene.write("orders", "before").await;
    let session = scene.connect("orders").await;
    let (last, before) = scene.engine.facts().hungry.split_last().unwrap();
    for statement in before {
        session.run(statement).await.unwrap();
    }
    session.run(last).await.expect_err("killed before it ends");
    // The condition may be over before it is looked at; the Event stays.
    let told = event(&scene, "orders", "OutOfMemory", "").await;
    let note = told.note.unwrap_or_default();
    for part in [
        "container database of Pod orders-db-1-0",
        "limit of 512Mi (size small)",
        "change spec.size",
    ] {
        assert!(note.contains(part), "{part:?} is not in the Event: {note}");
    }
    healed(&scene).await;
    assert_eq!(scene.rows("orders").await, ["before", "healed"]);
}

pub async fn a_crash_loop_is_named_with_the_last_lines_and_heals(scene: Scene) {
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    scene.write("orders", "before").await;
    let data = volume_folder(&scene).await.join(scene.engine.data());
    scene.delete_claim("orders").await;
    scene
        .gone::<k8s_openapi::api::core::v1::Pod>("orders-db-1-0")
        .await;
    let (vital, words) = scene.engine.facts().vital;
    let (there, aside) = (data.join(vital), data.join("aside"));
    std::fs::rename(&there, &aside).unwrap();
    scene.apply("orders", json!({})).await;
    named(&scene, "EngineFailed", words).await;
    std::fs::rename(&aside, &there).unwrap();
    healed(&scene).await;
    assert_eq!(scene.rows("orders").await, ["before", "healed"]);
}

pub async fn a_spoiled_secret_is_named_and_heals(scene: Scene) {
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    scene.write("orders", "before").await;
    scene.delete_claim("orders").await;
    scene
        .gone::<k8s_openapi::api::core::v1::Pod>("orders-db-1-0")
        .await;
    let secrets = scene.api::<Secret>();
    let good = secrets.get("orders-db-admin").await.unwrap().data.unwrap();
    let patch = |data: serde_json::Value| Patch::Merge(json!({"data": data}));
    let spoiled = patch(json!({"credentials.json": "bm8="}));
    secrets
        .patch("orders-db-admin", &PatchParams::default(), &spoiled)
        .await
        .unwrap();
    scene.apply("orders", json!({})).await;
    let message = scene
        .condition("orders", "Stalled", "True", "SecretUnreadable")
        .await;
    assert!(message.contains("orders-db-admin"), "{message}");
    scene
        .condition("orders", "CredentialsReady", "False", "SecretUnreadable")
        .await;
    event(&scene, "orders", "SecretUnreadable", "").await;
    soon(&scene, "SecretUnreadable").await;
    let good = patch(serde_json::to_value(&good).unwrap());
    secrets
        .patch("orders-db-admin", &PatchParams::default(), &good)
        .await
        .unwrap();
    scene.condition("orders", "Stalled", "False", "Idle").await;
    scene
        .condition("orders", "CredentialsReady", "True", "Ready")
        .await;
    healed(&scene).await;
    assert_eq!(scene.rows("orders").await, ["before", "healed"]);
}
