//! Deletion of a claim in every state that it can be in: gone within a minute, its data kept or removed as the policy
//! says. Each scenario plays both policies: `Retain` first, then the same claim again with `Delete`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use dbclaim::api::v1::DatabaseClaim;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod, Secret};
use kube::api::{DeleteParams, PropagationPolicy};
use kube::{Api, ResourceExt};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::life::{objects, volume_folder};
use crate::processes::{self, Process};
use crate::world::{Scene, eventually, within};

const POD: &str = "orders-db-1-0";
const SECRETS: [&str; 2] = ["orders-db-app", "orders-db-admin"];
/// From the request until nothing of the claim is left that has to go.
const LIMIT: Duration = Duration::from_secs(60);

/// The engine does not come up any more: its log is away.
pub async fn with_the_database_dead(scene: Scene) {
    let claim = json!({});
    served(&scene, &claim, &[]).await;
    scene.write("orders", "before").await;
    let log = volume_folder(&scene)
        .await
        .join(scene.engine.data())
        .join(scene.engine.facts().vital.0);
    let aside = log.with_extension("aside");
    let die = || async {
        std::fs::rename(&log, &aside).unwrap();
        let engine = engine(&scene).await;
        engine.first().expect("the engine runs").kill();
        scene.condition("orders", "Ready", "False", "EngineFailed").await;
    };
    die().await;
    kept(&scene, &DeleteParams::default()).await;
    std::fs::rename(&aside, &log).unwrap();
    served(&scene, &policy_delete(claim), &["before"]).await;
    die().await;
    removed(&scene, &DeleteParams::default()).await;
}

/// The engine neither answers nor ends. The claim does not wait for it; the Pod has its grace period, so that a
/// database that is only slow to stop is stopped cleanly.
pub async fn with_the_engine_frozen(scene: Scene) {
    let claim = json!({});
    served(&scene, &claim, &[]).await;
    scene.write("orders", "before").await;
    let frozen = freeze(&scene).await;
    gone_with_its_claim::<DatabaseClaim>(&scene, &DeleteParams::default(), "orders").await;
    thaw(&frozen);
    scene.gone::<Pod>(POD).await;
    served(&scene, &policy_delete(claim), &["before"]).await;
    let frozen = freeze(&scene).await;
    gone_with_its_claim::<DatabaseClaim>(&scene, &DeleteParams::default(), "orders").await;
    // Applied again while the former Pod stops, as `kubectl replace --force` does.
    scene.apply("orders", policy_delete(json!({}))).await;
    scene
        .condition("orders", "Ready", "False", "WaitingForRemoval")
        .await;
    assert_eq!(scene.claim("orders").await.status.unwrap().initialized_at, None);
    thaw(&frozen);
    scene.ready("orders").await;
    scene.write("orders", "anew").await;
    assert_eq!(scene.rows("orders").await, ["anew"], "a new database");
    removed(&scene, &DeleteParams::default()).await;
}

/// The Pod waits for an image that does not exist, so nothing in it has ever run.
pub async fn with_the_image_missing(scene: Scene) {
    let claim = json!({"version": scene.engine.facts().missing_version});
    let waits = || scene.condition("orders", "Ready", "False", "ImagePullFailed");
    scene.apply("orders", claim.clone()).await;
    waits().await;
    kept(&scene, &DeleteParams::default()).await;
    scene.apply("orders", policy_delete(claim)).await;
    waits().await;
    removed(&scene, &DeleteParams::default()).await;
}

/// `paused` holds back every change but this one.
pub async fn while_paused(scene: Scene) {
    let claim = json!({"paused": true});
    served(&scene, &json!({}), &[]).await;
    scene.write("orders", "before").await;
    let paused = || scene.condition("orders", "Reconciling", "False", "Paused");
    scene.apply("orders", claim.clone()).await;
    paused().await;
    kept(&scene, &DeleteParams::default()).await;
    served(&scene, &json!({}), &["before"]).await;
    scene.apply("orders", policy_delete(claim)).await;
    paused().await;
    removed(&scene, &DeleteParams::default()).await;
}

/// `kubectl delete --cascade=foreground`: the claim goes after what it owns.
pub async fn in_the_foreground(scene: Scene) {
    let foreground = mode(PropagationPolicy::Foreground);
    let claim = json!({});
    served(&scene, &claim, &[]).await;
    scene.write("orders", "before").await;
    kept(&scene, &foreground).await;
    let left = objects(&scene, "orders").await;
    let secrets = ["Secret", "ConfigMap"].map(|kind| ["admin", "app"].map(|it| format!("{kind} -db-{it}")));
    let mut expected: BTreeSet<_> = secrets.into_iter().flatten().collect();
    expected.insert("PersistentVolumeClaim -db-1".into());
    assert_eq!(
        left, expected,
        "volume, Secrets and their markers outlive the claim"
    );
    served(&scene, &policy_delete(claim), &["before"]).await;
    removed(&scene, &foreground).await;
}

/// `kubectl delete --cascade=orphan`: what the claim owned serves on, and is taken up by the next claim of that name.
pub async fn as_an_orphan(scene: Scene) {
    let orphan = mode(PropagationPolicy::Orphan);
    let claim = json!({});
    served(&scene, &claim, &[]).await;
    scene.write("orders", "before").await;
    let before = scene.api::<Pod>().get(POD).await.unwrap().uid();
    gone_with_its_claim::<DatabaseClaim>(&scene, &orphan, "orders").await;
    assert_eq!(scene.rows("orders").await, ["before"]);
    served(&scene, &policy_delete(claim), &["before"]).await;
    let after = scene.api::<Pod>().get(POD).await.unwrap().uid();
    assert_eq!(after, before, "the database was restarted");
    gone_with_its_claim::<DatabaseClaim>(&scene, &orphan, "orders").await;
    scene.gone::<Pod>(POD).await;
    scene.gone::<PersistentVolumeClaim>("orders-db-1").await;
    for secret in SECRETS {
        scene.gone::<Secret>(secret).await;
    }
}

/// The operator is killed when it has just been told.
pub async fn with_the_operator_killed_half_way(scene: Scene) {
    let claim = policy_delete(json!({}));
    served(&scene, &claim, &[]).await;
    let claims = scene.api::<DatabaseClaim>();
    claims.delete("orders", &DeleteParams::default()).await.unwrap();
    scene.kill_operator().await;
    scene.gone::<DatabaseClaim>("orders").await;
    nothing_left(&scene).await;
}

/// No finalizer of ours holds up a namespace, whatever the policies of the claims in it.
pub async fn of_the_whole_namespace(scene: Scene) {
    scene.apply("orders", json!({})).await;
    scene.apply("bills", policy_delete(json!({}))).await;
    scene.ready("orders").await;
    scene.ready("bills").await;
    let namespaces: Api<Namespace> = Api::all(scene.world.client.clone());
    let name = &scene.namespace;
    namespaces.delete(name, &DeleteParams::default()).await.unwrap();
    within(LIMIT, "the namespace gone", || async {
        match namespaces.get_opt(name).await {
            Ok(None) => Ok(()),
            Ok(Some(found)) => Err(format!("{:?}", found.status)),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}

/// Ready with these rows.
async fn served(scene: &Scene, claim: &Value, rows: &[&str]) {
    scene.apply("orders", claim.clone()).await;
    scene.ready("orders").await;
    if !rows.is_empty() {
        assert_eq!(scene.rows("orders").await, rows);
    }
}

fn policy_delete(mut claim: Value) -> Value {
    claim["deletionPolicy"] = "Delete".into();
    claim
}

fn mode(policy: PropagationPolicy) -> DeleteParams {
    DeleteParams {
        propagation_policy: Some(policy),
        ..DeleteParams::default()
    }
}

/// Deletes the claim and waits until claim and Pod are gone; volume and Secrets are as they were.
async fn kept(scene: &Scene, how: &DeleteParams) {
    let volumes = scene.api::<PersistentVolumeClaim>();
    let before = volumes.get("orders-db-1").await.unwrap().uid();
    gone_with_its_claim::<Pod>(scene, how, POD).await;
    let after = volumes.get("orders-db-1").await.expect("the volume stays");
    assert_eq!((after.uid(), after.metadata.deletion_timestamp), (before, None));
    for name in SECRETS {
        let secret = scene.api::<Secret>().get(name).await.expect("the Secret stays");
        assert_eq!(secret.metadata.deletion_timestamp, None, "{name}");
    }
}

/// Deletes the claim and waits until nothing is left of it.
async fn removed(scene: &Scene, how: &DeleteParams) {
    gone_with_its_claim::<Pod>(scene, how, POD).await;
    nothing_left(scene).await;
}

async fn nothing_left(scene: &Scene) {
    eventually("nothing of the claim", || async {
        let left = objects(scene, "orders").await;
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    })
    .await;
}

/// Deletes the claim, and waits until it and another object are gone.
async fn gone_with_its_claim<K>(scene: &Scene, how: &DeleteParams, name: &str)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let (claims, others) = (scene.api::<DatabaseClaim>(), scene.api::<K>());
    let started = Instant::now();
    claims.delete("orders", how).await.unwrap();
    within(LIMIT, &format!("the claim and {name} gone"), || async {
        let claim = claims.get_metadata_opt("orders").await;
        let other = others.get_metadata_opt(name).await;
        match (claim, other) {
            (Ok(None), Ok(None)) => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await;
    println!("the claim and {name} are gone after {:?}", started.elapsed());
}

/// The engine's processes, its first one first.
async fn engine(scene: &Scene) -> Vec<Process> {
    let pod = scene.api::<Pod>().get(POD).await.unwrap().uid().unwrap();
    let ours = |it: &Process| it.command.contains("dbclaim-agent") || it.command.contains("supervise");
    processes::of_pod(&pod)
        .into_iter()
        .filter(|it| !ours(it))
        .collect()
}

async fn freeze(scene: &Scene) -> Vec<Process> {
    let engine = engine(scene).await;
    assert!(!engine.is_empty(), "the engine runs");
    for process in &engine {
        process.signal(Signal::STOP);
    }
    engine
}

fn thaw(engine: &[Process]) {
    for process in engine {
        process.signal(Signal::CONT);
    }
}
