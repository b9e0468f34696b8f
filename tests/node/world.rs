//! What a scenario is given: a real cluster with the operator in it, and ways to ask and to break.

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dbclaim::api::v1::DatabaseClaim;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};

use devcluster::operator::{Setting, Stage};
use devcluster::prerequisites::{self, Task};
use devcluster::{Node, Progress};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::binding::Binding;
use crate::engines::{Client as Session, Engine};
use crate::processes::Process;
use crate::schedule::Need;

/// Namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = devcluster::operator::NAMESPACE;
/// The Lease by which its replicas elect a leader.
const LEASE: &str = "dbclaim";
/// How long anything may take before a test gives up. Generous: the machine may be busy; nothing is measured.
pub const DEADLINE: Duration = Duration::from_secs(180);
/// How long rotated credentials stay valid here.
pub const OVERLAP: Duration = Duration::from_secs(5);

/// The table of rows that scenarios write and look for, and a query for them.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS kept (entry varchar(100) PRIMARY KEY)";
const ROWS: &str = "SELECT entry FROM kept ORDER BY entry";

/// The default class: volumes on the first node, where everybody is. Nobody cuts that node's power.
pub const HOME_CLASS: &str = devcluster::storage::VOLATILE_CLASS;
/// Volumes, and so databases, on the second node, which a scenario may have for itself.
const SPARE_CLASS: &str = "spare";

/// What this machine must be able to do.
const NEEDED: [Task; 3] = [Task::Nodes, Task::EngineImages, Task::OlderEngineImages];

/// One cluster for all scenarios.
pub struct World {
    pub stage: Stage,
    pub client: Client,
    /// The newest version of each engine, exactly: the one that the default stands for.
    newest: HashMap<&'static str, String>,
}

/// A namespace of a scenario's own, with Pod Security `restricted` enforced, and an engine to try.
#[derive(Clone)]
pub struct Scene {
    pub world: Arc<World>,
    pub engine: Engine,
    pub namespace: String,
    needs: Vec<Need>,
}

/// Waits until `look` finds what it looks for; fails with what it saw last.
pub async fn eventually<T, F, Fut>(what: &str, look: F) -> T
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    within(DEADLINE, what, look).await
}

/// Waits as long as is promised until `look` finds what it looks for; fails with what it saw last.
pub async fn within<T, F, Fut>(deadline: Duration, what: &str, look: F) -> T
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let started = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(200));
    loop {
        pace.tick().await;
        match look().await {
            Ok(found) => return found,
            Err(saw) if started.elapsed() > deadline => panic!("{what}: not within {deadline:?}; saw {saw}"),
            Err(_) => {}
        }
    }
}

impl Scene {
    pub async fn new(world: Arc<World>, engine: Engine, name: &str, needs: Vec<Need>) -> Self {
        let namespaces: Api<Namespace> = Api::all(world.client.clone());
        let namespace = json!({"metadata": {
            "generateName": format!("{}-", name.get(..name.len().min(40)).unwrap_or(name).replace('_', "-")),
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        }});
        let namespace = serde_json::from_value(namespace).unwrap();
        let made = namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .expect("a namespace can be made");
        Self {
            namespace: made.name_any(),
            world,
            engine,
            needs,
        }
    }

    /// Fails where the table does not say that this scenario needs this: another scenario might need it meanwhile.
    pub fn uses(&self, need: Need) {
        assert!(
            self.needs.contains(&need),
            "the table in tests/node/main.rs has to say that this scenario needs {need:?}"
        );
    }

    /// The claim `orders` with the smallest spec, which serves and holds the row `kept`: a new one, or the one that the
    /// scenario before has left.
    pub async fn serving(&self) {
        self.apply("orders", json!({})).await;
        self.ready("orders").await;
        let client = self.connect("orders").await;
        client.run(TABLE).await.unwrap();
        if client.column(ROWS).await.unwrap().is_empty() {
            self.write("orders", "kept").await;
        }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.world.client.clone(), &self.namespace)
    }

    /// Applies a claim with the smallest spec and `changes` to it: on the second node, where the scenario has that.
    pub async fn apply(&self, name: &str, changes: Value) {
        let mut spec =
            json!({"engine": self.engine.name(), "size": "small", "team": "checkout", "storage": "1Gi"});
        if self.needs.contains(&Need::SpareNode) {
            spec["storageClassName"] = json!(SPARE_CLASS);
        }
        for (key, value) in changes.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let claim = json!({"apiVersion": "platform.acme.com/v1", "kind": "DatabaseClaim",
            "metadata": {"name": name}, "spec": spec});
        let applied = self
            .api::<DatabaseClaim>()
            .patch(name, &PatchParams::apply("test").force(), &Patch::Apply(claim))
            .await;
        applied.expect("the claim is accepted");
    }

    /// The newest version of the engine, exactly.
    pub fn newest(&self) -> &str {
        &self.world.newest[self.engine.name()]
    }

    pub async fn claim(&self, name: &str) -> DatabaseClaim {
        self.api::<DatabaseClaim>()
            .get(name)
            .await
            .expect("the claim is there")
    }

    /// Waits for Ready of the current generation.
    pub async fn ready(&self, name: &str) {
        self.condition(name, "Ready", "True", "Ready").await;
    }

    /// Waits for a condition of the current generation; returns its message.
    pub async fn condition(&self, name: &str, type_: &str, status: &str, reason: &str) -> String {
        eventually(
            &format!("{}/{name} {type_}={status} {reason}", self.namespace),
            || async {
                let claim = self
                    .api::<DatabaseClaim>()
                    .get(name)
                    .await
                    .map_err(|error| error.to_string())?;
                let conditions = claim.status.clone().unwrap_or_default().conditions;
                conditions
                    .iter()
                    .find(|it| it.type_ == type_ && it.status == status && it.reason == reason)
                    .filter(|it| it.observed_generation == claim.metadata.generation)
                    .map(|it| it.message.clone())
                    .ok_or_else(|| format!("{conditions:#?}"))
            },
        )
        .await
    }

    /// Waits until an object is gone.
    pub async fn gone<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api = self.api::<K>();
        eventually(&format!("{} {name} gone", K::kind(&())), || async {
            match api.get_metadata_opt(name).await {
                Ok(None) => Ok(()),
                Ok(Some(found)) => Err(format!("{:?}", found.metadata)),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }

    /// The claim `orders`, ready on the second node; returns its Pod.
    pub async fn ready_on(&self, node: &Node) -> Pod {
        self.apply("orders", json!({})).await;
        self.ready("orders").await;
        let pod = self.api::<Pod>().get("orders-db-1-0").await.unwrap();
        let found = pod.spec.as_ref().and_then(|it| it.node_name.as_deref());
        assert_eq!(found, Some(node.name()), "the Pod's node");
        pod
    }

    /// The second node.
    pub fn spare_node(&self) -> &Node {
        self.uses(Need::SpareNode);
        self.world.stage.cluster.nodes().get(1).expect("a second node")
    }

    /// Waits until a Pod runs that is not `before`, and returns it.
    pub async fn new_pod(&self, name: &str, before: &str) -> Pod {
        let pods = self.api::<Pod>();
        eventually(&format!("a Pod {name} other than {before}"), || async {
            let pod = pods.get(name).await.map_err(|error| error.to_string())?;
            let phase = pod
                .status
                .as_ref()
                .and_then(|it| it.phase.clone())
                .unwrap_or_default();
            let uid = pod.uid().unwrap_or_default();
            if uid != before && phase == "Running" {
                Ok(pod)
            } else {
                Err(format!("{uid} {phase}"))
            }
        })
        .await
    }

    /// SIGKILLs all replicas of the operator, so that there is nobody who remembers anything, and removes their
    /// Pods, so that no restart backoff delays the next ones. The Lease goes too: nobody is left who could hold
    /// it, and how long its term is waited for is tested elsewhere.
    pub async fn kill_operator(&self) {
        self.uses(Need::Operator);
        let world = &self.world;
        let pods: Api<Pod> = Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
        let operators = world.operators().await;
        for process in operators.iter().filter_map(World::operator_process) {
            process.kill();
        }
        let _ = world.leases().delete(LEASE, &DeleteParams::default()).await;
        for pod in operators {
            let _ = pods
                .delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
                .await;
        }
    }

    pub async fn delete_claim(&self, name: &str) {
        self.api::<DatabaseClaim>()
            .delete(name, &DeleteParams::default())
            .await
            .expect("the claim can be deleted");
        self.gone::<DatabaseClaim>(name).await;
    }

    /// The binding Secret, and the address that its host resolves to.
    pub async fn binding(&self, claim: &str) -> (Binding, IpAddr) {
        let binding = Binding::read(&self.world.client, &self.namespace, claim)
            .await
            .unwrap();
        let address = self
            .world
            .stage
            .cluster
            .resolve(binding.get("host").unwrap())
            .await
            .unwrap();
        (binding, address)
    }

    /// A client that has nothing but the binding Secret.
    pub async fn connect(&self, claim: &str) -> Session {
        let (binding, address) = self.binding(claim).await;
        eventually("a connection through the Service", || async {
            let client = self.engine.connect(&binding, address).await;
            client.map_err(|error| format!("{error:#}"))
        })
        .await
    }

    /// A row that was committed.
    pub async fn write(&self, claim: &str, row: &str) {
        let client = self.connect(claim).await;
        client.run(TABLE).await.unwrap();
        client
            .run(&format!("INSERT INTO kept VALUES ('{row}')"))
            .await
            .unwrap();
    }

    /// All rows.
    pub async fn rows(&self, claim: &str) -> Vec<String> {
        let client = self.connect(claim).await;
        client.column(ROWS).await.unwrap()
    }
}

impl World {
    /// Two nodes: one for all, with the operator on it, and one to be broken.
    pub async fn new() -> anyhow::Result<Self> {
        prerequisites::ensure(&NEEDED, Progress::Stderr).await?;
        let stage = Box::pin(Stage::set(Setting {
            workspace: std::path::Path::new(env!("CARGO_MANIFEST_DIR")),
            name: None,
            nodes: 2,
            // The scenarios load what they use.
            engines: &[],
            values: &Self::values(),
            progress: Progress::Stderr,
        }))
        .await?;
        let newest = crate::engines::load_images(&stage.cluster).await?;
        let client = stage.cluster.client()?;
        let classes: Api<StorageClass> = Api::all(client.clone());
        let parameters = PatchParams::apply("test").force();
        let no_default = class(devcluster::storage::CLASS, false, None);
        classes
            .patch(devcluster::storage::CLASS, &parameters, &Patch::Apply(no_default))
            .await?;
        for (name, node) in [HOME_CLASS, SPARE_CLASS].into_iter().zip(stage.cluster.nodes()) {
            let class = class(name, name == HOME_CLASS, Some(node.name()));
            classes.patch(name, &parameters, &Patch::Apply(class)).await?;
        }
        let others = [devcluster::storage::FIXED_CLASS, devcluster::storage::SIZED_CLASS];
        for (name, node) in others.into_iter().zip(stage.cluster.nodes()) {
            let there = json!({"allowedTopologies": topology(node.name())});
            classes
                .patch(name, &PatchParams::default(), &Patch::Merge(there))
                .await?;
        }
        Ok(Self {
            stage,
            client,
            newest,
        })
    }

    /// The chart's values with which the operator is installed.
    pub fn values() -> Value {
        json!({"nodeSelector": {"kubernetes.io/hostname": "node1"}, "credentials": {"overlap": OVERLAP.as_secs()}})
    }

    /// Removes a namespace with all that is in it; its Pods are stopped without ceremony.
    pub async fn remove(&self, namespace: &str) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let _ = namespaces.delete(namespace, &DeleteParams::default()).await;
        let _ = pods
            .delete_collection(&DeleteParams::default().grace_period(1), &ListParams::default())
            .await;
    }

    /// Pods of the operator.
    pub async fn operators(&self) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        let pods = pods
            .list(&ListParams::default())
            .await
            .expect("Pods can be listed")
            .items;
        pods.into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .collect()
    }

    /// The operator's process in a Pod.
    pub fn operator_process(pod: &Pod) -> Option<Process> {
        crate::processes::of_pod(&pod.uid().unwrap_or_default())
            .into_iter()
            .find(|it| it.command.starts_with("/dbclaim"))
    }

    /// Leases of the operator.
    pub fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE)
    }

    /// Waits until a Pod other than `before` leads.
    pub async fn leader(&self, before: Option<&Pod>) -> Pod {
        let leases = self.leases();
        eventually("a leader", || async {
            let lease = leases.get(LEASE).await.map_err(|error| error.to_string())?;
            let holder = lease.spec.and_then(|it| it.holder_identity).unwrap_or_default();
            let pods = self.operators().await;
            let leads = |pod: &Pod| holder.starts_with(&format!("{}_", pod.name_any()));
            let leader = pods.into_iter().find(leads);
            leader
                .filter(|pod| before.is_none_or(|it| it.name_any() != pod.name_any()))
                .ok_or_else(|| format!("holder {holder:?}"))
        })
        .await
    }
}

/// Volumes on this node only.
fn topology(node: &str) -> Value {
    json!([{"matchLabelExpressions": [{"key": "kubernetes.io/hostname", "values": [node]}]}])
}

/// A storage class of this cluster.
pub fn class(name: &str, is_default: bool, node: Option<&str>) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": name,
            "annotations": {"storageclass.kubernetes.io/is-default-class": is_default.to_string()},
        },
        "provisioner": devcluster::storage::PROVISIONER,
        "allowVolumeExpansion": true,
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
        "allowedTopologies": node.map(topology),
    })
}
