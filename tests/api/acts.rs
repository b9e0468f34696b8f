//! What is asked for by an annotation is done once: taking the annotation away asks for nothing, and takes nothing back.

use std::sync::Arc;

use dbclaim::api::key;
use dbclaim::api::v1::{DatabaseClaim, DatabaseClaimStatus};
use serde_json::json;

use crate::cluster::Suite;
use crate::scene::{Scene, until};

async fn pod(scene: &Scene) -> serde_json::Value {
    scene.objects().await.0["Pod orders-db-1-0"]["metadata"]["uid"].clone()
}

async fn annotate(scene: &Scene, key: &str, value: Option<&str>) {
    scene
        .change(json!({"metadata": {"annotations": {key: value}}}))
        .await;
}

async fn says(scene: &Scene, what: &str, so: impl Fn(&DatabaseClaimStatus) -> bool) {
    let so = |claim: &DatabaseClaim| claim.status.as_ref().is_some_and(&so);
    scene.says(what, so).await.unwrap();
}

fn asked(status: &DatabaseClaimStatus) -> Option<&str> {
    status.restart.as_ref().map(|it| it.asked.as_str())
}

async fn restarted(scene: &Arc<Scene>, before: &serde_json::Value) -> serde_json::Value {
    until("another Pod", async || {
        let now = pod(scene).await;
        let other = !now.is_null() && now != *before;
        if other { Ok(()) } else { Err(now.to_string()) }
    })
    .await
    .unwrap();
    scene.ready().await.unwrap();
    pod(scene).await
}

pub async fn a_restart_is_done_once_however_its_annotation_comes_and_goes(suite: &Suite) {
    let scene = Scene::open(suite).await;
    scene.create(json!({})).await;
    scene.ready().await.unwrap();
    let first = pod(&scene).await;
    annotate(&scene, key::RESTART, Some("1")).await;
    let second = restarted(&scene, &first).await;
    says(&scene, "what was asked for", |it| asked(it) == Some("1")).await;
    // Away, back with the same value, and away before a new process of the operator.
    for value in [None, Some("1"), None] {
        annotate(&scene, key::RESTART, value).await;
        scene.rest().await.unwrap();
        assert_eq!(pod(&scene).await, second, "{value:?} asks for nothing");
        scene.start_operator();
    }
    scene.rest().await.unwrap();
    assert_eq!(pod(&scene).await, second);
    // One that waits, and whose annotation goes meanwhile.
    scene.change(json!({"spec": {"paused": true}})).await;
    annotate(&scene, key::RESTART, Some("2")).await;
    says(&scene, "what waits", |it| asked(it) == Some("2")).await;
    annotate(&scene, key::RESTART, None).await;
    scene.rest().await.unwrap();
    assert_eq!(pod(&scene).await, second, "it is paused");
    scene.change(json!({"spec": {"paused": false}})).await;
    let third = restarted(&scene, &second).await;
    scene.rest().await.unwrap();
    assert_eq!(pod(&scene).await, third, "once");
}

pub async fn a_rotation_that_waits_is_not_withdrawn_by_taking_its_annotation_away(suite: &Suite) {
    let scene = Scene::open(suite).await;
    scene.create(json!({})).await;
    scene.ready().await.unwrap();
    scene.change(json!({"spec": {"paused": true}})).await;
    annotate(&scene, key::ROTATE, Some("1")).await;
    let rotation = |what: &'static str, so: fn(&dbclaim::api::v1::RotationStatus) -> bool| {
        says(&scene, what, move |it| it.rotation.as_ref().is_some_and(so))
    };
    rotation("what waits", |it| it.asked.as_deref() == Some("1")).await;
    annotate(&scene, key::ROTATE, None).await;
    scene.quiet().await.unwrap();
    scene.change(json!({"spec": {"paused": false}})).await;
    rotation("what is done", |it| {
        it.asked.is_none() && it.done.as_deref() == Some("1")
    })
    .await;
    scene.ready().await.unwrap();
    scene.passwords(2).await.unwrap();
    for value in [Some("1"), None] {
        annotate(&scene, key::ROTATE, value).await;
        scene.rest().await.unwrap();
        scene.passwords(2).await.unwrap();
    }
}
