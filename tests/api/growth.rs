//! A volume that is to grow and does not.

use std::time::{Duration, Instant};

use dbclaim::api::v1::{DatabaseClaim, Phase};
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim};
use kube::api::ListParams;
use serde_json::json;

use crate::cluster::Suite;
use crate::scene::{Scene, until};
use crate::stage::{FIXED_CLASS, FULL_CLASS, NO_ROOM, ROOM};

const VOLUME: &str = "orders-db-1";

/// The words of a condition, if it says so.
fn words(claim: &DatabaseClaim, type_: &str, status: &str, reason: &str) -> Option<String> {
    let conditions = &claim.status.as_ref()?.conditions;
    let found = conditions
        .iter()
        .find(|it| it.type_ == type_ && it.status == status && it.reason == reason);
    found.map(|it| it.message.clone())
}

/// The driver's words, once; and it heals without a touch when there is room.
pub async fn a_growth_that_is_stuck_is_named_in_the_drivers_words_and_heals(suite: &Suite) {
    let scene = Scene::open(suite).await;
    scene
        .create(json!({"storageClassName": FULL_CLASS, "storage": "5Gi"}))
        .await;
    scene.ready().await.unwrap();
    let pod = scene.objects().await.0["Pod orders-db-1-0"]["metadata"]["uid"].clone();
    scene.change(json!({"spec": {"storage": "7Gi"}})).await;
    let stuck = |claim: &DatabaseClaim| {
        let said = words(claim, "StorageReady", "False", "ExpansionStuck");
        said.is_some_and(|it| it.contains(NO_ROOM) && it.contains("kubectl describe pvc"))
    };
    scene.says("ExpansionStuck", stuck).await.unwrap();
    scene.ready().await.unwrap();
    until("one Event on the claim", async || {
        let events = scene.api::<Event>().list(&ListParams::default()).await;
        let events = events.map_err(|error| error.to_string())?.items;
        let told = events
            .iter()
            .filter(|it| it.reason.as_deref() == Some("ExpansionStuck"));
        let told = told.count();
        if told == 1 { Ok(()) } else { Err(format!("{told}")) }
    })
    .await
    .unwrap();
    scene.rest().await.unwrap();
    scene.plan.arm(None);
    for turn in ["1", "2"] {
        let touched = json!({"metadata": {"annotations": {"example.com/turn": turn}}});
        scene.merge::<PersistentVolumeClaim>(VOLUME, touched).await;
        scene.quiet().await.unwrap();
    }
    assert_eq!(scene.plan.points(), vec![], "nothing has changed");
    let room = json!({"metadata": {"annotations": {ROOM: "yes"}}});
    scene.merge::<PersistentVolumeClaim>(VOLUME, room).await;
    let healed = |claim: &DatabaseClaim| {
        words(claim, "StorageReady", "True", "Ready").is_some()
            && words(claim, "Stalled", "False", "Idle").is_some()
    };
    scene.says("a volume that has grown", healed).await.unwrap();
    let (raw, _) = scene.objects().await;
    assert_eq!(
        raw["PersistentVolumeClaim orders-db-1"]["status"]["capacity"]["storage"],
        "7Gi"
    );
    assert_eq!(
        raw["Pod orders-db-1-0"]["metadata"]["uid"], pod,
        "nobody had to touch the Pod"
    );
}

/// Another size asks for another volume besides, which its class refuses: the restart goes on, and the volume is asked
/// for again at the pace of what is refused, not whenever something happens.
pub async fn a_growth_that_is_refused_is_not_asked_for_at_every_pass(suite: &Suite) {
    let scene = Scene::open(suite).await;
    scene.create(json!({"storageClassName": FIXED_CLASS})).await;
    scene.ready().await.unwrap();
    scene.rest().await.unwrap();
    scene.plan.arm(None);
    let begun = Instant::now();
    scene.change(json!({"spec": {"size": "medium"}})).await;
    let refused = |claim: &DatabaseClaim| {
        let ready = words(claim, "Ready", "True", "Ready").is_some();
        ready && words(claim, "StorageReady", "False", "ExpansionRefused").is_some()
    };
    let larger = |claim: &DatabaseClaim| {
        refused(claim)
            && claim
                .status
                .as_ref()
                .is_some_and(|it| it.phase == Some(Phase::Ready))
    };
    scene
        .says("a restart in spite of the refusal", larger)
        .await
        .unwrap();
    println!("restarted after {:?}", begun.elapsed());
    for turn in ["1", "2", "3"] {
        let touched = json!({"metadata": {"annotations": {"example.com/turn": turn}}});
        scene.merge::<PersistentVolumeClaim>(VOLUME, touched).await;
        scene.quiet().await.unwrap();
    }
    let asked = || {
        let writes = scene.plan.writes.lock().unwrap();
        writes
            .iter()
            .filter(|it| it.path.contains("persistentvolumeclaims"))
            .count()
    };
    let (asked, lasted) = (asked(), begun.elapsed());
    println!("asked {asked} times in {lasted:?}: {:#?}", scene.plan.points());
    assert!(asked <= tries(lasted), "asked {asked} times in {lasted:?}");
    assert!(larger(&scene.api::<DatabaseClaim>().get("orders").await.unwrap()));
    // What has changed is asked for at once, and what was set back is forgotten.
    scene.change(json!({"spec": {"size": "small"}})).await;
    let healed = |claim: &DatabaseClaim| {
        let all = [
            ("Ready", "True", "Ready"),
            ("StorageReady", "True", "Ready"),
            ("Stalled", "False", "Idle"),
        ];
        all.iter()
            .all(|(type_, status, reason)| words(claim, type_, status, reason).is_some())
    };
    scene.says("the volume as it was", healed).await.unwrap();
}

/// How often something is tried at most with pauses that double from 5 s to 60 s.
fn tries(lasted: Duration) -> usize {
    let pauses = std::iter::successors(Some(5), |it| Some((it * 2).min(60)));
    let ends = pauses.scan(0, |sum, pause| {
        *sum += pause;
        Some(*sum)
    });
    1 + ends.take_while(|end| *end <= lasted.as_secs()).count()
}
