//! What there would be with nodes: the kubelet, the agent and a storage driver, played so that a claim reaches
//! Ready and goes again. It knows nothing of what is tested on it.

use std::sync::Arc;
use std::time::Duration;

use dbclaim::api::v1::DatabaseClaim;
use dbclaim::api::{key, manager};
use dbclaim::render::DATABASE;
use futures::stream::{BoxStream, select_all};
use futures::{FutureExt as _, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Event, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cluster::Suite;
use crate::member::Agent;

/// Name of the node on which Pods seem to run.
const NODE: &str = "stage";
/// A class whose volumes can grow.
pub const CLASS: &str = "stage";
/// A class whose volumes should grow and do not before they have the annotation [`ROOM`].
pub const FULL_CLASS: &str = "stage-full";
/// A class whose volumes cannot grow.
pub const FIXED_CLASS: &str = "stage-fixed";
/// Makes room for a volume of [`FULL_CLASS`].
pub const ROOM: &str = "stage.invalid/room";
/// What the driver says against it.
pub const NO_ROOM: &str = "resize volume by resizer \"stage.invalid\" failed: the pool is full";
/// When to look again although nothing was heard: a request of ours may have failed.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// When to look again where everything was done.
const LOOK_LATER: Duration = Duration::from_secs(3);
const POD: &str = "orders-db-1-0";
/// How long a step waits for the claim's status to show the one before. Steps that come as fast as here would
/// else be told together or one by one, as it happens. Not for ever: nobody may be there to write it.
const SHOWN: Duration = Duration::from_secs(3);

/// The node that [`play_node`] binds Pods to; without it they would be collected as garbage. And [`CLASS`].
pub async fn set_stage(suite: &Suite) {
    suite.staged.get_or_init(|| set_up(suite.client.clone())).await;
}

async fn set_up(client: Client) {
    let apply = PatchParams::apply("test");
    let nodes: Api<Node> = Api::all(client.clone());
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
    let applied = nodes.patch(NODE, &apply, &Patch::Apply(&node)).await;
    applied.expect("a node can be made");
    let classes: Api<StorageClass> = Api::all(client.clone());
    for name in [CLASS, FULL_CLASS, FIXED_CLASS] {
        let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
            "provisioner": "stage.invalid/volumes", "allowVolumeExpansion": name != FIXED_CLASS});
        let applied = classes.patch(name, &apply, &Patch::Apply(&class)).await;
        applied.expect("a class can be made");
    }
    beat(&client).await.expect("a node can be ready");
    tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_secs(5));
        loop {
            pace.tick().await;
            // The next one is soon enough.
            let _ = beat(&client).await;
        }
    });
}

/// A node that is not heard of for a minute is taken for lost, and its Pods with it.
async fn beat(client: &Client) -> Result<(), kube::Error> {
    let now = jiff::Timestamp::now();
    let apply = PatchParams::apply("test").force();
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let renewed = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NODE},
        "spec": {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": MicroTime(now)}});
    leases.patch(NODE, &apply, &Patch::Apply(&renewed)).await?;
    let nodes: Api<Node> = Api::all(client.clone());
    // Room for every size: the API server refuses to resize a Pod beyond it.
    let room = json!({"cpu": "64", "memory": "256Gi", "pods": "1000"});
    let ready = json!({"status": {"capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True", "reason": "Played",
        "message": "", "lastHeartbeatTime": Time(now), "lastTransitionTime": Time(now)}]}});
    nodes
        .patch_status(NODE, &PatchParams::default(), &Patch::Merge(ready))
        .await?;
    Ok(())
}

/// Plays the claim `orders` of a namespace for ever.
pub async fn play_node(client: Client, namespace: &str) {
    let (told, claim) = watch::channel(Value::Null);
    let claims: Api<DatabaseClaim> = Api::namespaced(client.clone(), namespace);
    let events = watcher(claims, watcher::Config::default()).default_backoff();
    let follow = StreamExt::for_each(events, move |event| {
        match event {
            Ok(watcher::Event::Apply(it) | watcher::Event::InitApply(it)) => {
                told.send_replace(serde_json::to_value(it).unwrap_or_default());
            }
            Ok(watcher::Event::Delete(_)) => _ = told.send_replace(Value::Null),
            _ => {}
        }
        std::future::ready(())
    });
    tokio::join!(Box::pin(follow), Box::pin(play(&client, namespace, claim)));
}

async fn play(client: &Client, namespace: &str, mut claim: Claim) {
    let (pods, pod_changes) = follow::<Pod>(client, namespace);
    let (maps, map_changes) = follow::<ConfigMap>(client, namespace);
    let (secrets, secret_changes) = follow::<Secret>(client, namespace);
    let (volumes, volume_changes) = follow::<PersistentVolumeClaim>(client, namespace);
    let mut touched = select_all([pod_changes, map_changes, secret_changes, volume_changes]);
    let seen = Seen {
        pods,
        maps,
        secrets,
        volumes,
    };
    let mut agent = Agent::default();
    loop {
        // Not there yet, or changed meanwhile: the next round sees.
        let done = play_pod(client, namespace, &seen, &mut claim, &mut agent).await;
        // A driver takes its time: what replaces the Pod is shown first.
        shown(&mut claim, |it| !says(it, "Reconciling", "Restarting")).await;
        let _ = play_volume(client, namespace, &seen, &claim).await;
        let pause = done.map_or(LOOK_AGAIN, |()| LOOK_LATER);
        tokio::select! {
            _ = touched.next() => {}
            _ = claim.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
        // One look for all that has come.
        while touched.next().now_or_never().is_some() {}
    }
}

/// The claim as it was seen last; null without one.
type Claim = watch::Receiver<Value>;

/// The objects of a namespace as its watches have shown them. Reading them again and again was half of all requests.
struct Seen {
    pods: Store<Pod>,
    maps: Store<ConfigMap>,
    secrets: Store<Secret>,
    volumes: Store<PersistentVolumeClaim>,
}

/// The object of this name.
fn named<K>(store: &Store<K>, name: &str) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.find(|it| it.meta().name.as_deref() == Some(name))
}

/// Objects of this kind, and that one of them has changed.
fn follow<K>(client: &Client, namespace: &str) -> (Store<K>, BoxStream<'static, ()>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let (store, writer) = reflector::store();
    let events = watcher(api, watcher::Config::default())
        .default_backoff()
        .reflect(writer);
    (store, StreamExt::map(events, drop).boxed())
}

/// What the kubelet and the agent would do: the Pod runs and ends, the volume is initialised, the agent reports.
async fn play_pod(
    client: &Client,
    namespace: &str,
    seen: &Seen,
    claim: &mut Claim,
    agent: &mut Agent,
) -> Option<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pod = Arc::unwrap_or_clone(named(&seen.pods, POD)?);
    if pod.metadata.deletion_timestamp.is_some() {
        shown(claim, is_down).await;
        let gone = DeleteParams {
            preconditions: Some(Preconditions {
                uid: pod.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default().grace_period(0)
        };
        pods.delete(POD, &gone).await.ok()?;
        return Some(());
    }
    if !has_driver(client, namespace).await? {
        return Some(());
    }
    if !agent.is_of(&pod) {
        shown(claim, is_down).await;
    }
    report(client, namespace, seen, &pod, agent).await?;
    let wanted = resources(&pod);
    let has = pod.status.as_ref().and_then(|it| it.container_statuses.as_ref());
    let has = has.and_then(|it| serde_json::to_value(it.first()?.resources.as_ref()?).ok());
    if pod.spec.and_then(|it| it.node_name).is_none() {
        let target = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": POD},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE}});
        pods.create_subresource::<Value, Value>("binding", POD, &PostParams::default(), &target)
            .await
            .ok()?;
    }
    if pod.status.and_then(|it| it.pod_ip).is_none() {
        let status = json!({"status": {"phase": "Running", "podIP": "10.1.1.1", "podIPs": [{"ip": "10.1.1.1"}],
            "conditions": [{"type": "Ready", "status": "True"}]}});
        pods.patch_status(POD, &PatchParams::default(), &Patch::Merge(status))
            .await
            .ok()?;
    }
    if has != wanted {
        if has.is_some() {
            // More memory takes its time too.
            shown(claim, |it| says(it, "Reconciling", "Resizing")).await;
        }
        let status = json!({"status": {"containerStatuses": [{"name": DATABASE, "image": "", "imageID": "",
            "ready": true, "restartCount": 0, "resources": wanted}]}});
        pods.patch_status(POD, &PatchParams::default(), &Patch::Merge(status))
            .await
            .ok()?;
    }
    Some(())
}

/// CPU and memory that a Pod asks for, for its database.
fn resources(pod: &Pod) -> Option<Value> {
    let mut containers = pod.spec.iter().flat_map(|it| &it.containers);
    let database = containers.find(|it| it.name == DATABASE)?;
    serde_json::to_value(database.resources.as_ref()?).ok()
}

async fn report(client: &Client, namespace: &str, seen: &Seen, pod: &Pod, agent: &mut Agent) -> Option<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let config = named(&seen.maps, "orders-db-config")?;
    let secret = named(&seen.secrets, "orders-db-admin")?;
    let report = serde_json::to_string(&agent.report(pod, &config, &secret)?).ok()?;
    let live = named(&seen.maps, "orders-db-1-report")?;
    if live.annotations().get(key::REPORT) != Some(&report) {
        let patch = json!({"metadata": {"annotations": {key::REPORT: report}}});
        let agent = PatchParams {
            field_manager: Some(manager::AGENT.into()),
            ..PatchParams::default()
        };
        maps.patch("orders-db-1-report", &agent, &Patch::Merge(patch))
            .await
            .ok()?;
    }
    Some(())
}

/// Waits until the claim's status says something, if there is a claim, and for [`SHOWN`] at most.
async fn shown(claim: &mut Claim, what: fn(&Value) -> bool) {
    let says = claim.wait_for(|it| it.is_null() || what(it));
    // What was not shown in time is not waited for.
    let _ = tokio::time::timeout(SHOWN, says).await;
}

fn says(claim: &Value, condition: &str, reason: &str) -> bool {
    let conditions = claim["status"]["conditions"].as_array();
    conditions.is_some_and(|all| {
        all.iter()
            .any(|it| it["type"] == condition && it["reason"] == reason)
    })
}

/// Whether it says that the database does not serve. Of one that is being deleted it need not.
fn is_down(claim: &Value) -> bool {
    !says(claim, "Ready", "Ready") || claim["metadata"]["deletionTimestamp"].is_string()
}

/// Whether there is a driver for the volume that a Pod waits for.
async fn has_driver(client: &Client, namespace: &str) -> Option<bool> {
    let asks: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let class = asks.get_opt("orders-db-1").await.ok()??.spec?.storage_class_name;
    Some(class.is_none_or(|it| [CLASS, FULL_CLASS, FIXED_CLASS].contains(&it.as_str())))
}

/// What the driver of [`CLASS`] would do: there is a volume, and it has what is asked for. That of [`FULL_CLASS`] says
/// why it does not grow.
async fn play_volume(client: &Client, namespace: &str, seen: &Seen, claim: &Claim) -> Option<()> {
    let asks: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let ask = named(&seen.volumes, "orders-db-1")?;
    let spec = ask.spec.clone()?;
    let class = spec
        .storage_class_name
        .as_deref()
        .filter(|it| [CLASS, FULL_CLASS, FIXED_CLASS].contains(it))?;
    let wanted = spec.resources?.requests?.remove("storage")?;
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let Some(name) = spec.volume_name else {
        let volume = json!({"metadata": {"name": format!("{namespace}-{}", ask.uid()?)}, "spec": {
            "capacity": {"storage": wanted}, "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "persistentVolumeReclaimPolicy": "Retain",
            "csi": {"driver": "stage.invalid", "volumeHandle": namespace},
            "claimRef": {"namespace": namespace, "name": "orders-db-1", "uid": ask.uid()?}}});
        let volume = serde_json::from_value(volume).ok()?;
        return volumes
            .create(&PostParams::default(), &volume)
            .await
            .ok()
            .map(drop);
    };
    let has = ask.status.clone()?.capacity?.remove("storage")?;
    // A volume takes its time to grow: not before the operator has said that it grows. Were it ready at once, now
    // and then, some runs would have a status less to write than others.
    let said = claim.borrow()["status"]["resolved"]["storage"].clone();
    if has != wanted && class == FULL_CLASS && !ask.annotations().contains_key(ROOM) {
        let events: Api<Event> = Api::namespaced(client.clone(), namespace);
        let failed = json!({"metadata": {"name": "no-room"}, "type": "Warning", "reason": "VolumeResizeFailed",
            "message": NO_ROOM, "involvedObject": ask.object_ref(&()), "lastTimestamp": Time(jiff::Timestamp::now())});
        let failed = serde_json::from_value(failed).ok()?;
        // Said once; how often it is tried makes no difference.
        let _ = events.create(&PostParams::default(), &failed).await;
    } else if has != wanted && said == json!(wanted) {
        let (parameters, capacity) = (PatchParams::default(), json!({"capacity": {"storage": wanted}}));
        let grown = Patch::Merge(json!({"spec": capacity}));
        volumes.patch(&name, &parameters, &grown).await.ok()?;
        let grown = Patch::Merge(json!({"status": capacity}));
        asks.patch_status("orders-db-1", &parameters, &grown).await.ok()?;
    }
    Some(())
}
