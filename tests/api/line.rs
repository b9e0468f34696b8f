//! The operator's line against a real API server and its controllers, with a fault at every write. There are no
//! nodes here: [`play_node`] does what the kubelet and the agent would do, so that the line reaches Ready.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dbclaim::api::protocol::{
    Applied, Credentials, Initialized, MemberConfig, MemberPhase, Report, TlsReport, WriteTest,
};
use dbclaim::api::v1::DatabaseClaim;
use dbclaim::certificate::{fingerprint, first};
use dbclaim::controller::{self, Config};
use dbclaim::render::Settings;
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    ConfigMap, Node, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::client::ClientBuilder;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cluster::Suite;
use crate::faults::{Fault, FaultLayer, Plan};

const DEADLINE: Duration = Duration::from_secs(60);
/// Name of the node on which Pods seem to run.
const NODE: &str = "stage";
/// Runs side by side.
const SIDE_BY_SIDE: usize = 8;

fn config(namespace: &str) -> Config {
    Config {
        settings: Settings {
            agent_image: "agent.invalid/dbclaim:1".into(),
            pull_secrets: vec![],
        },
        namespace: Some(namespace.to_owned()),
        concurrency: 4,
        pass_timeout: Duration::from_secs(10),
        lifetimes: dbclaim::issue::Lifetimes::default(),
    }
}

/// Runs an operator for one namespace, as a new process would: it remembers nothing.
async fn operate(suite: &Suite, namespace: &str, plan: Arc<Plan>, stop: CancellationToken) {
    let mut kube = suite.config();
    kube.default_retry = false;
    let client = ClientBuilder::try_from(kube)
        .unwrap()
        .with_layer(&FaultLayer(plan))
        .build();
    let config = config(namespace);
    let context = Arc::new(controller::Context::new(&client, &config));
    controller::run(client, config, context, stop).await;
}

/// An operator that dies where the plan says so, and is started again.
async fn operate_through_crashes(suite: &Suite, namespace: &str, plan: Arc<Plan>, stop: CancellationToken) {
    loop {
        let life = stop.child_token();
        tokio::select! {
            () = operate(suite, namespace, plan.clone(), life.clone()) => return,
            () = plan.crashed.notified() => life.cancel(),
        }
    }
}

/// One claim from nothing to Ready. Returns its objects, in a form that does not depend on the run.
async fn bring_up(suite: &Suite, plan: Arc<Plan>) -> Result<BTreeMap<String, Value>, String> {
    let namespace = suite.namespace("line").await;
    let stop = CancellationToken::new();
    let claim = json!({"apiVersion": "platform.acme.com/v1", "kind": "DatabaseClaim",
        "metadata": {"name": "orders"},
        "spec": {"engine": "postgres", "size": "small", "team": "checkout", "deletionPolicy": "Delete"}});
    let claims: Api<DatabaseClaim> = Api::namespaced(suite.client.clone(), &namespace);
    let claim = serde_json::from_value(claim).unwrap();
    claims.create(&PostParams::default(), &claim).await.unwrap();
    let ready = async {
        wait_ready(&claims).await?;
        settle(suite, &namespace, &plan).await
    };
    let result = tokio::select! {
        () = operate_through_crashes(suite, &namespace, plan.clone(), stop.clone()) => Err("the operator ended".into()),
        () = play_node(suite.client.clone(), &namespace) => Err("the node ended".into()),
        result = ready => result,
    };
    stop.cancel();
    result
}

pub async fn wait_ready(claims: &Api<DatabaseClaim>) -> Result<(), String> {
    let started = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    loop {
        pace.tick().await;
        let claim = claims.get("orders").await.map_err(|error| error.to_string())?;
        let conditions = claim.status.unwrap_or_default().conditions;
        if conditions
            .iter()
            .any(|it| it.type_ == "Ready" && it.status == "True")
        {
            return Ok(());
        }
        if started.elapsed() > DEADLINE {
            return Err(format!("not Ready within {DEADLINE:?}: {conditions:#?}"));
        }
    }
}

/// Waits until the chosen write has come and the objects stay as they are, and returns them.
async fn settle(suite: &Suite, namespace: &str, plan: &Plan) -> Result<BTreeMap<String, Value>, String> {
    let started = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(300));
    let mut before = BTreeMap::new();
    loop {
        pace.tick().await;
        let now = objects(&suite.client, namespace).await;
        if now == before && plan.has_struck() {
            return one_password(&suite.client, namespace).await.map(|()| now);
        }
        if started.elapsed() > DEADLINE {
            return Err(format!(
                "no rest within {DEADLINE:?}; struck: {}",
                plan.has_struck()
            ));
        }
        before = now;
    }
}

/// Applications have the password that the database has.
async fn one_password(client: &Client, namespace: &str) -> Result<(), String> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let entry = async |name: &str, key: &str| {
        let secret = secrets.get(name).await.map_err(|error| error.to_string())?;
        let value = secret.data.and_then(|mut data| data.remove(key));
        value
            .map(|it| it.0)
            .ok_or_else(|| format!("Secret {name} has no {key}"))
    };
    let admin: Credentials = serde_json::from_slice(&entry("orders-db-admin", "credentials.json").await?)
        .map_err(|error| error.to_string())?;
    let app = entry("orders-db-app", "password").await?;
    if admin.password.as_bytes() == app {
        Ok(())
    } else {
        Err("the two Secrets have different passwords".into())
    }
}

/// The node that [`play_node`] binds Pods to; without it they would be collected as garbage.
pub async fn set_stage(suite: &Suite) {
    let nodes: Api<Node> = Api::all(suite.client.clone());
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
    let applied = nodes
        .patch(NODE, &PatchParams::apply("test"), &Patch::Apply(&node))
        .await;
    applied.expect("a node can be made");
}

/// What the kubelet and the agent would do: the Pod runs, the volume is initialised, the agent reports.
pub async fn play_node(client: Client, namespace: &str) {
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    loop {
        pace.tick().await;
        // Not there yet, or changed meanwhile: the next round sees.
        let _ = play_round(&client, namespace).await;
    }
}

async fn play_round(client: &Client, namespace: &str) -> Option<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pod = pods.get_opt("orders-db-1-0").await.ok()??;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let config = maps.get("orders-db-config").await.ok()?;
    let config: MemberConfig = serde_json::from_str(config.data?.get("member.json")?).ok()?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get("orders-db-admin").await.ok()?;
    let secret = secret.data?;
    let credentials: Credentials = serde_json::from_slice(&secret.get("credentials.json")?.0).ok()?;
    let certificate = first(std::str::from_utf8(&secret.get("tls.crt")?.0).ok()?).ok()?;
    let report = Report {
        v: 1,
        agent: "test".into(),
        pod_uid: pod.uid()?,
        phase: MemberPhase::Running,
        trouble: None,
        version: Some("17.5".into()),
        initialized: Some(Initialized {
            at: "2026-01-01T00:00:00Z".into(),
            system_identifier: "7".into(),
        }),
        applied: Applied {
            config: config.generation,
            credentials: credentials.generation,
        },
        pending_restart: vec![],
        write_test: Some(WriteTest {
            ok: true,
            message: None,
        }),
        disk_percent: Some(5),
        tls: Some(TlsReport {
            certificate: fingerprint(&certificate),
            ca: fingerprint(&secret.get("ca.crt")?.0),
            verified: true,
            ..TlsReport::default()
        }),
    };
    let report = serde_json::to_string(&report).ok()?;
    let live = maps.get("orders-db-1-report").await.ok()?;
    if live.annotations().get("platform.acme.com/report") != Some(&report) {
        let patch = json!({"metadata": {"annotations": {"platform.acme.com/report": report}}});
        let agent = PatchParams {
            field_manager: Some("dbclaim-agent".into()),
            ..PatchParams::default()
        };
        maps.patch("orders-db-1-report", &agent, &Patch::Merge(patch))
            .await
            .ok()?;
    }
    if pod.spec.and_then(|it| it.node_name).is_none() {
        let target = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "orders-db-1-0"},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE}});
        pods.create_subresource::<Value, Value>("binding", "orders-db-1-0", &PostParams::default(), &target)
            .await
            .ok()?;
    }
    if pod.status.and_then(|it| it.pod_ip).is_none() {
        let status = json!({"status": {"phase": "Running", "podIP": "10.1.1.1", "podIPs": [{"ip": "10.1.1.1"}],
            "conditions": [{"type": "Ready", "status": "True"}]}});
        pods.patch_status("orders-db-1-0", &PatchParams::default(), &Patch::Merge(status))
            .await
            .ok()?;
    }
    Some(())
}

/// Every object of the claim, without what differs from run to run.
async fn objects(client: &Client, namespace: &str) -> BTreeMap<String, Value> {
    let ours = ListParams::default().labels("platform.acme.com/claim=orders");
    let mut found = BTreeMap::new();
    macro_rules! add {
        ($($kind:ty),*) => {$(
            let api: Api<$kind> = Api::namespaced(client.clone(), namespace);
            for object in api.list(&ours).await.map(|list| list.items).unwrap_or_default() {
                let name = format!("{} {}", stringify!($kind), object.name_any());
                found.insert(name, normal(serde_json::to_value(object).unwrap(), namespace));
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
        RoleBinding
    );
    let claims: Api<DatabaseClaim> = Api::namespaced(client.clone(), namespace);
    if let Ok(claim) = claims.get("orders").await {
        found.insert(
            "DatabaseClaim orders".into(),
            normal(serde_json::to_value(claim).unwrap(), namespace),
        );
    }
    found
}

/// Replaces identities, versions, times, hashes and passwords by what they have in common.
fn normal(mut object: Value, namespace: &str) -> Value {
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
        for key in ["platform.acme.com/identity", "platform.acme.com/report"] {
            // These hold UIDs; that they are there and whole is what counts.
            if let Some(text) = annotations.get(key).and_then(Value::as_str) {
                let whole: Value = serde_json::from_str(text).unwrap();
                let keys: Vec<_> = whole.as_object().unwrap().keys().cloned().collect();
                annotations.insert(key.into(), json!(keys));
            }
        }
    }
    for owner in metadata
        .get_mut("ownerReferences")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        owner["uid"] = json!("…");
    }
    if object["data"].is_object() {
        for (_, value) in object["data"].as_object_mut().unwrap() {
            *value = json!("…");
        }
    }
    for key in ["clusterIP", "clusterIPs"] {
        if object["spec"][key] != json!("None") && object["spec"].get(key).is_some() {
            object["spec"][key] = json!("…");
        }
    }
    object.as_object_mut().unwrap().remove("secrets");
    for condition in object["status"]["conditions"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        condition["lastTransitionTime"] = json!("…");
    }
    serde_json::from_str(&object.to_string().replace(namespace, "NAMESPACE")).unwrap()
}

/// At every write of creating a claim, every fault: each run ends in the same objects.
pub async fn every_fault_at_every_write_ends_in_the_same_claim(suite: &Suite) {
    set_stage(suite).await;
    let reference = Plan::new(None);
    let expected = bring_up(suite, reference.clone())
        .await
        .expect("a run without faults");
    let writes = reference.writes.lock().unwrap().clone();
    let runs = (1..=writes.len()).flat_map(|nth| Fault::ALL.map(|fault| (nth, fault)));
    let run = |(nth, fault): (usize, Fault)| {
        let expected = &expected;
        async move {
            let plan = Plan::new(Some((nth, fault)));
            let outcome = match bring_up(suite, plan.clone()).await {
                Ok(objects) if objects == *expected => rules(&plan),
                Ok(objects) => Err(difference(expected, &objects)),
                Err(error) => Err(error),
            };
            (nth, fault, outcome)
        }
    };
    let done: Vec<_> = futures::stream::iter(runs.map(run))
        .buffer_unordered(SIDE_BY_SIDE)
        .collect()
        .await;
    let mut failures = Vec::new();
    for (index, write) in writes.iter().enumerate() {
        let bad =
            |(nth, _, outcome): &&(usize, Fault, Result<(), String>)| *nth == index + 1 && outcome.is_err();
        let broken = done.iter().filter(bad).count();
        let path = write.path.split('?').next().unwrap_or_default();
        println!(
            "{:>2}. {} {path}: {} of {} faults survived",
            index + 1,
            write.method,
            Fault::ALL.len() - broken,
            Fault::ALL.len()
        );
    }
    failures.extend(done.into_iter().filter_map(|(nth, fault, outcome)| {
        outcome
            .err()
            .map(|error| format!("{fault:?} at write {nth}: {error}"))
    }));
    assert!(
        failures.is_empty(),
        "{} runs failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// What no request may ever be.
fn rules(plan: &Plan) -> Result<(), String> {
    for read in plan.reads.lock().unwrap().iter() {
        let path = read.split('?').next().unwrap_or_default();
        if path.ends_with("/secrets") {
            return Err(format!("Secrets were listed or watched: {read}"));
        }
    }
    for write in plan.writes.lock().unwrap().iter() {
        let names_uid = match write.method.as_str() {
            "PATCH" => write.body["metadata"]["uid"].is_string(),
            "DELETE" => write.body["preconditions"]["uid"].is_string(),
            _ => true,
        };
        if !names_uid {
            return Err(format!(
                "a write does not name the UID that was observed: {} {}",
                write.method, write.path
            ));
        }
    }
    Ok(())
}

fn difference(expected: &BTreeMap<String, Value>, found: &BTreeMap<String, Value>) -> String {
    for (name, value) in expected {
        match found.get(name) {
            None => return format!("{name} is missing"),
            Some(other) if other != value => return format!("{name} is\n{other}\ninstead of\n{value}"),
            Some(_) => {}
        }
    }
    let more: Vec<_> = found
        .keys()
        .filter(|name| !expected.contains_key(*name))
        .collect();
    format!("there is too much: {more:?}")
}
