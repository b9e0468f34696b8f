//! The Events of an ordinary life, as they are at the API server.

use dbclaim::api::v1::{DatabaseClaim, Phase};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::json;

use crate::cluster::Suite;

use crate::scene::{Scene, until};
use crate::stage::CLASS;

/// Everything that is told of the claim: type, reason and how often, in the order of the first time.
async fn told(scene: &Scene) -> Vec<String> {
    let events = scene.api::<Event>().list(&ListParams::default()).await;
    let mut events = events.unwrap().items;
    events.retain(|it| it.regarding.as_ref().and_then(|it| it.kind.as_deref()) == Some("DatabaseClaim"));
    events.sort_by_key(|it| it.event_time.as_ref().map(|it| it.0));
    let line = |event: &Event| {
        let times = event.series.as_ref().map_or(1, |it| it.count);
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        format!("{} {} {times}", text(&event.type_), text(&event.reason))
    };
    events.iter().map(line).collect()
}

pub async fn an_ordinary_life_is_told_once_and_a_restarted_operator_repeats_nothing(suite: &Suite) {
    let scene = Scene::open(suite).await;
    scene
        .create(json!({"storageClassName": CLASS, "storage": "5Gi"}))
        .await;
    scene.ready().await.unwrap();
    let mut expected = vec!["Normal Created 1", "Normal Ready 1"];
    tells(&scene, &expected).await;

    let annotate =
        |key: &str| json!({"metadata": {"annotations": {(format!("platform.acme.com/{key}")): "1"}}});
    scene.change(annotate("restart")).await;
    expected.extend(["Normal Restarting 1", "Normal Ready 1"]);
    tells(&scene, &expected).await;

    scene.change(json!({"spec": {"storage": "6Gi"}})).await;
    expected.push("Normal StorageGrown 1");
    tells(&scene, &expected).await;

    scene.change(annotate("rotate-credentials")).await;
    expected.push("Normal Rotated 1");
    tells(&scene, &expected).await;

    scene.change(json!({"spec": {"hibernated": true}})).await;
    let sleeps = |claim: &DatabaseClaim| {
        let phase = claim.status.as_ref().and_then(|it| it.phase);
        phase == Some(Phase::Hibernated)
    };
    scene.says("that it is hibernated", sleeps).await.unwrap();
    expected.push("Normal Hibernated 1");
    tells(&scene, &expected).await;
    scene.change(json!({"spec": {"hibernated": false}})).await;
    scene.ready().await.unwrap();
    expected.push("Normal Ready 1");
    tells(&scene, &expected).await;

    scene.rest().await.unwrap();
    scene.start_operator();
    scene.quiet().await.unwrap();
    scene.rest().await.unwrap();
    assert_eq!(told(&scene).await, expected, "after a restart of the operator");
}

async fn tells(scene: &Scene, expected: &[&str]) {
    let all = until("the Events", async || {
        let told = told(scene).await;
        if told == expected {
            Ok(())
        } else {
            Err(format!("{told:#?} instead of {expected:#?}"))
        }
    });
    all.await.unwrap();
}
