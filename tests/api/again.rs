//! A claim is deleted and the same is applied at once, at every moment of the removal: what `Delete` removes goes and a
//! new database begins; what `Retain` keeps is served again.

use std::collections::BTreeMap;
use std::sync::Arc;

use dbclaim::api::v1::DatabaseClaim;
use futures::future::join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use kube::Api;
use kube::api::PropagationPolicy::{self, Background, Orphan};
use serde_json::{Value, json};

use crate::cluster::Suite;
use crate::scene::{Scene, identities, until};
use crate::stage::CLASS;

/// What the removal hangs on when the claim is applied again.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Held {
    Nothing,
    Pod,
    Volume,
    Secret,
    StatefulSet,
    Service,
    Report,
}

const HELD: &str = "example.com/held";

async fn hold(scene: &Scene, held: Held, on: bool) {
    let finalizers = if on { json!([HELD]) } else { Value::Null };
    let change = json!({"metadata": {"finalizers": finalizers}});
    match held {
        Held::Nothing => {}
        Held::Pod => scene.merge::<Pod>("orders-db-1-0", change).await,
        Held::Volume if on => {
            // Beside the one that Kubernetes puts there.
            let both = json!({"metadata": {"finalizers": [HELD, "kubernetes.io/pvc-protection"]}});
            scene.merge::<PersistentVolumeClaim>("orders-db-1", both).await;
        }
        Held::Volume => scene.merge::<PersistentVolumeClaim>("orders-db-1", change).await,
        Held::Secret => scene.merge::<Secret>("orders-db-admin", change).await,
        Held::StatefulSet => scene.merge::<StatefulSet>("orders-db-1", change).await,
        Held::Service => scene.merge::<Service>("orders-db", change).await,
        Held::Report => scene.merge::<ConfigMap>("orders-db-1-report", change).await,
    }
}

async fn claim_ends(scene: &Scene) {
    let claims: Api<DatabaseClaim> = scene.api();
    let gone = until("the end of the claim", async || {
        let claim = claims
            .get_opt("orders")
            .await
            .map_err(|error| error.to_string())?;
        claim.map_or(Ok(()), |it| Err(format!("{:#?}", it.metadata)))
    });
    gone.await.unwrap();
}

struct Case {
    engine: &'static str,
    policy: &'static str,
    mode: PropagationPolicy,
    held: Held,
    /// What the claim says differently when it is applied again.
    changes: Value,
}

/// A claim that was served, deleted, and applied again while something of it was still there; with the data before.
async fn applied_again(suite: &Suite, case: &Case) -> (Arc<Scene>, BTreeMap<String, String>) {
    let scene = Scene::open(suite).await;
    let mut spec = json!({"engine": case.engine, "deletionPolicy": case.policy, "storage": "7Gi",
        "storageClassName": CLASS});
    scene.create(spec.clone()).await;
    scene.ready().await.unwrap();
    scene.quiet().await.unwrap();
    let data = identities(&scene.objects().await.0);
    hold(&scene, case.held, true).await;
    scene.delete::<DatabaseClaim>("orders", case.mode.clone()).await;
    claim_ends(&scene).await;
    for (key, value) in case.changes.as_object().unwrap() {
        match value {
            Value::Null => spec.as_object_mut().unwrap().remove(key),
            value => spec.as_object_mut().unwrap().insert(key.clone(), value.clone()),
        };
    }
    scene.create(spec).await;
    (scene, data)
}

async fn waits_for_removal(scene: &Scene) {
    let waits = |claim: &DatabaseClaim| {
        let status = claim.status.clone().unwrap_or_default();
        let mut conditions = status.conditions.iter();
        conditions.any(|it| it.type_ == "Ready" && it.reason == "WaitingForRemoval")
            && status.initialized_at.is_none()
            && status
                .conditions
                .iter()
                .all(|it| it.type_ != "Stalled" || it.status == "False")
    };
    scene.says("WaitingForRemoval", waits).await.unwrap();
}

async fn begins_anew(suite: &Suite, case: Case) {
    println!("{} {:?} {:?}", case.engine, case.mode, case.held);
    let (scene, data) = applied_again(suite, &case).await;
    if matches!(
        case.held,
        Held::Pod | Held::Volume | Held::StatefulSet | Held::Service
    ) {
        waits_for_removal(&scene).await;
        scene.quiet().await.unwrap();
        waits_for_removal(&scene).await;
    }
    hold(&scene, case.held, false).await;
    scene
        .ready()
        .await
        .unwrap_or_else(|saw| panic!("{:?}: {saw}", case.held));
    scene.quiet().await.unwrap();
    let now = identities(&scene.objects().await.0);
    assert_eq!(now.len(), 3, "{now:?}");
    for (name, uid) in &data {
        assert_ne!(now.get(name), Some(uid), "{:?}: {name} was kept", case.held);
    }
    scene.passwords(2).await.unwrap();
}

pub async fn under_delete_a_claim_that_is_applied_again_at_once_begins_anew(suite: &Suite) {
    let case = |engine, mode, held| Case {
        engine,
        policy: "Delete",
        mode,
        held,
        changes: json!({}),
    };
    let cases = [
        case("postgres", Background, Held::Nothing),
        case("postgres", Background, Held::Pod),
        case("postgres", Background, Held::Volume),
        case("postgres", Background, Held::Secret),
        case("postgres", Background, Held::StatefulSet),
        case("postgres", Background, Held::Service),
        case("postgres", Background, Held::Report),
        case("postgres", Orphan, Held::Pod),
        case("mysql", Background, Held::Pod),
    ];
    join_all(cases.map(|case| begins_anew(suite, case))).await;
}

async fn goes_on(suite: &Suite, case: Case) {
    println!(
        "{} {:?} {:?}, then {}",
        case.engine, case.mode, case.held, case.changes
    );
    let (scene, data) = applied_again(suite, &case).await;
    hold(&scene, case.held, false).await;
    scene
        .ready()
        .await
        .unwrap_or_else(|saw| panic!("{:?}: {saw}", case.held));
    scene.rest().await.unwrap();
    assert_eq!(identities(&scene.objects().await.0), data);
    scene.passwords(1).await.unwrap();
    let says = |claim: &DatabaseClaim| {
        let status = claim.status.clone().unwrap_or_default();
        let storage = status.resolved.map(|it| it.storage);
        let mut conditions = status.conditions.iter();
        storage.as_deref() == Some("7Gi")
            && conditions.all(|it| it.type_ != "Stalled" || it.status == "False")
    };
    scene.says("the volume as it is", says).await.unwrap();
    // Whatever it asks for, it can be written to.
    scene
        .change(json!({"metadata": {"labels": {"example.com/turn": "1"}}}))
        .await;
}

pub async fn under_retain_a_claim_that_is_applied_again_at_once_goes_on(suite: &Suite) {
    let case = |engine, mode, held, changes| Case {
        engine,
        policy: "Retain",
        mode,
        held,
        changes,
    };
    let cases = [
        case("postgres", Background, Held::Nothing, json!({"storage": "5Gi"})),
        case(
            "postgres",
            Background,
            Held::Pod,
            json!({"storage": null, "storageClassName": null}),
        ),
        case(
            "postgres",
            Background,
            Held::StatefulSet,
            json!({"storageClassName": null}),
        ),
        case(
            "postgres",
            Background,
            Held::Service,
            json!({"deletionPolicy": "Delete"}),
        ),
        case("postgres", Orphan, Held::Nothing, json!({"storage": "1Gi"})),
        case("mysql", Background, Held::Pod, json!({"storage": "5Gi"})),
    ];
    join_all(cases.map(|case| goes_on(suite, case))).await;
}

/// Who has asked for a class that there is not corrects it in place, or deletes the claim and applies it again.
pub async fn a_class_that_does_not_exist_is_corrected_in_place_or_by_applying_again(suite: &Suite) {
    for in_place in [true, false] {
        let scene = Scene::open(suite).await;
        scene
            .create(json!({"storageClassName": "no-such-class", "storage": "900Gi"}))
            .await;
        let says = |claim: &DatabaseClaim| {
            let status = claim.status.clone().unwrap_or_default();
            let missing = |it: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
                it.type_ == "StorageReady" && it.reason == "StorageClassMissing"
            };
            let condition = status.conditions.iter().find(missing);
            condition.is_some_and(|it| {
                it.message
                    .contains("set spec.storageClassName to one that exists")
            })
        };
        scene.says("StorageClassMissing", says).await.unwrap();
        let right = json!({"storageClassName": CLASS, "storage": "7Gi"});
        if in_place {
            scene.change(json!({"spec": right})).await;
        } else {
            scene.delete::<DatabaseClaim>("orders", Background).await;
            claim_ends(&scene).await;
            scene.create(right).await;
        }
        scene.ready().await.unwrap();
        let (raw, _) = scene.objects().await;
        let spec = &raw["PersistentVolumeClaim orders-db-1"]["spec"];
        assert_eq!(spec["storageClassName"], CLASS);
        assert_eq!(spec["resources"]["requests"]["storage"], "7Gi");
    }
}
