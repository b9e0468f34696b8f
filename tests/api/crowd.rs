//! Many claims that are held up at once: what they cost the API server, and that each is told its own trouble.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dbclaim::api::v1::DatabaseClaim;
use dbclaim::controller;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim};
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cluster::Suite;
use crate::scene;
use crate::stage::{CLASS, set_stage};

const DEADLINE: Duration = Duration::from_secs(120);
const CLAIMS: usize = 24;
/// The claim whose volume cannot be made.
const UNLUCKY: &str = "orders-7";

/// Reasons for which claims are not ready.
async fn reasons(claims: &Api<DatabaseClaim>) -> BTreeMap<String, String> {
    let list = claims.list(&ListParams::default()).await.unwrap();
    let reason = |claim: DatabaseClaim| {
        let name = claim.name_any();
        let conditions = claim.status.unwrap_or_default().conditions;
        let ready = conditions.into_iter().find(|it| it.type_ == "Ready");
        Some((name, ready.filter(|it| it.status == "False")?.reason))
    };
    list.items.into_iter().filter_map(reason).collect()
}

async fn wait(claims: &Api<DatabaseClaim>, what: &str, done: impl Fn(&BTreeMap<String, String>) -> bool) {
    let started = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(200));
    loop {
        pace.tick().await;
        let reasons = reasons(claims).await;
        if done(&reasons) {
            return;
        }
        assert!(started.elapsed() < DEADLINE, "not {what}: {reasons:?}");
    }
}

/// Lists of one object's Events in a namespace.
fn single_looks(suite: &Suite, namespace: &str) -> usize {
    let log = std::fs::read_to_string(suite.audit_log()).unwrap();
    let events = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let one = |event: &Value| {
        let uri = event["requestURI"].as_str().unwrap_or_default();
        event["verb"] == "list"
            && uri.starts_with(&format!("/api/v1/namespaces/{namespace}/events"))
            && uri.contains("involvedObject.uid")
    };
    events.filter(one).count()
}

async fn warn_of(suite: &Suite, namespace: &str, volume: &PersistentVolumeClaim) {
    let now = jiff::Timestamp::now();
    let event = json!({"metadata": {"name": "strike"}, "type": "Warning", "reason": "ProvisioningFailed",
        "message": "the driver is on strike", "firstTimestamp": now, "lastTimestamp": now,
        "involvedObject": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace,
            "name": volume.name_any(), "uid": volume.uid().unwrap()}});
    let events: Api<Event> = Api::namespaced(suite.client.clone(), namespace);
    events
        .create(&PostParams::default(), &serde_json::from_value(event).unwrap())
        .await
        .unwrap();
}

/// Nobody binds their Pods, and nobody makes their volumes.
pub async fn claims_that_are_held_up_together_are_looked_at_together(suite: &Suite) {
    set_stage(suite).await;
    let namespace = suite.namespace("crowd").await;
    let claims: Api<DatabaseClaim> = Api::namespaced(suite.client.clone(), &namespace);
    let post = PostParams::default();
    for number in 0..CLAIMS {
        let claim = json!({"apiVersion": "platform.acme.com/v1", "kind": "DatabaseClaim",
            "metadata": {"name": format!("orders-{number}")},
            "spec": {"engine": "postgres", "size": "small", "team": "checkout", "storageClassName": CLASS}});
        claims
            .create(&post, &serde_json::from_value(claim).unwrap())
            .await
            .unwrap();
    }
    let config = scene::config(&namespace);
    let context = Arc::new(controller::Context::new(&suite.client, &config));
    let stop = CancellationToken::new();
    let story = async {
        let steps = |reasons: &BTreeMap<String, String>| {
            reasons.len() == CLAIMS && reasons.values().all(|it| it != "Provisioning")
        };
        wait(&claims, "each claim told that it waits", steps).await;
        let looks = single_looks(suite, &namespace);
        assert!(
            (1..=8).contains(&looks),
            "{looks} lists of single objects' Events for {CLAIMS} claims without any warning"
        );
        let volumes: Api<PersistentVolumeClaim> = Api::namespaced(suite.client.clone(), &namespace);
        let volume = volumes.get(&format!("{UNLUCKY}-db-1")).await.unwrap();
        warn_of(suite, &namespace, &volume).await;
        let told = |reasons: &BTreeMap<String, String>| {
            let told = reasons.iter().filter(|(_, it)| *it == "ProvisioningFailed");
            told.map(|(name, _)| name.as_str()).eq([UNLUCKY])
        };
        wait(&claims, "one claim told what its volume waits for", told).await;
    };
    tokio::select! {
        () = controller::run(suite.client.clone(), config, context, stop.clone()) => panic!("the operator ended"),
        () = story => {}
    }
    stop.cancel();
}
