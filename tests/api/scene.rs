//! One claim in a namespace of its own, with an operator for that namespace and what plays its node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use dbclaim::api::protocol::Credentials;
use dbclaim::api::v1::DatabaseClaim;
use dbclaim::controller::{self, Config};
use dbclaim::render::Settings;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::client::ClientBuilder;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cluster::Suite;
use crate::faults::{FaultLayer, Plan};
use crate::normal::{self, Objects};
use crate::stage;

pub const DEADLINE: Duration = Duration::from_secs(120);

/// How an operator for one namespace works.
pub fn config(namespace: &str) -> Config {
    Config {
        settings: Settings {
            agent_image: "agent.invalid/dbclaim:1".into(),
            pull_secrets: vec![],
        },
        namespace: Some(namespace.to_owned()),
        concurrency: 4,
        pass_timeout: Duration::from_secs(10),
        lifetimes: dbclaim::issue::Lifetimes::default(),
        overlap: Duration::from_secs(2),
    }
}

/// Runs an operator for one namespace, as a new process would: it remembers nothing.
async fn operate(mut kube: kube::Config, namespace: &str, plan: Arc<Plan>, stop: CancellationToken) {
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
async fn operate_through_crashes(
    kube: kube::Config,
    namespace: String,
    plan: Arc<Plan>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let life = stop.child_token();
        tokio::select! {
            () = operate(kube.clone(), &namespace, plan.clone(), life.clone()) => {}
            () = plan.crashed.notified() => life.cancel(),
        }
    }
}

/// The claim `orders` of one namespace.
pub struct Scene {
    pub client: Client,
    pub namespace: String,
    /// What the operator's requests go through.
    pub plan: Arc<Plan>,
    kube: kube::Config,
    /// Changes so far; values that a change sets are made from it.
    turn: AtomicUsize,
    /// Ends the node that is played.
    _node: DropGuard,
    /// Ends the operator.
    operator: std::sync::Mutex<Option<DropGuard>>,
}

impl Scene {
    /// A namespace with nothing in it, a node, and no operator yet.
    pub async fn empty(suite: &Suite) -> Arc<Self> {
        stage::set_stage(suite).await;
        let namespace = suite.namespace("line").await;
        let stop = CancellationToken::new();
        let (client, place, ended) = (suite.client.clone(), namespace.clone(), stop.clone());
        tokio::spawn(async move {
            ended.run_until_cancelled(stage::play_node(client, &place)).await;
        });
        Arc::new(Self {
            client: suite.client.clone(),
            plan: Plan::new(None),
            kube: suite.config(),
            turn: AtomicUsize::new(0),
            namespace,
            _node: stop.drop_guard(),
            operator: std::sync::Mutex::default(),
        })
    }

    /// The same with an operator that works.
    pub async fn open(suite: &Suite) -> Arc<Self> {
        let scene = Self::empty(suite).await;
        scene.start_operator();
        scene
    }

    /// Starts a new process of the operator; one that runs is killed where it stands.
    pub fn start_operator(&self) {
        self.kill_operator();
        let stop = CancellationToken::new();
        let (plan, namespace) = (self.plan.clone(), self.namespace.clone());
        let work = operate_through_crashes(self.kube.clone(), namespace, plan, stop.clone());
        let ended = stop.clone();
        // Ends where it stands, as a killed process does.
        tokio::spawn(async move { Box::pin(ended.run_until_cancelled_owned(work)).await });
        *self.operator.lock().unwrap() = Some(stop.drop_guard());
    }

    /// As SIGKILL does.
    pub fn kill_operator(&self) {
        self.operator.lock().unwrap().take();
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates the claim with this besides what it must have.
    pub async fn create(&self, spec: Value) {
        let mut claim = json!({"apiVersion": "platform.acme.com/v1", "kind": "DatabaseClaim",
            "metadata": {"name": "orders"},
            "spec": {"engine": "postgres", "size": "small", "team": "checkout"}});
        merge(&mut claim["spec"], spec);
        let claim = serde_json::from_value(claim).unwrap();
        let created = self
            .api::<DatabaseClaim>()
            .create(&PostParams::default(), &claim)
            .await;
        created.expect("the claim can be created");
    }

    /// Changes the claim.
    pub async fn change(&self, change: Value) {
        self.merge::<DatabaseClaim>("orders", change).await;
    }

    /// Changes an object as a person does with an editor.
    pub async fn merge<K>(&self, name: &str, change: Value)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let (parameters, change) = (PatchParams::default(), Patch::Merge(change));
        let changed = self.api::<K>().patch(name, &parameters, &change).await;
        changed.expect("a test may change what it likes");
    }

    /// Deletes an object.
    pub async fn delete<K>(&self, name: &str, mode: PropagationPolicy)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let parameters = DeleteParams {
            propagation_policy: Some(mode),
            ..DeleteParams::default()
        };
        let deleted = self.api::<K>().delete(name, &parameters).await;
        deleted.expect("a test may delete what it likes");
    }

    /// A number that no change of this scene has had.
    pub fn next_turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The objects as they are, and in their normal form.
    pub async fn objects(&self) -> (Objects, Objects) {
        let raw = normal::raw(&self.client, &self.namespace).await;
        let turn = self.turn.load(Ordering::SeqCst);
        let names = [
            (self.namespace.clone(), "NAMESPACE"),
            (format!("\"{}\"", team(turn)), "\"TEAM\""),
            (format!("\"{}\"", storage(turn)), "\"STORAGE\""),
            (version(turn), "VERSION"),
            (format!("\"{}\"", connections(turn)), "\"CONNECTIONS\""),
            (format!("'{}'", connections(turn)), "'CONNECTIONS'"),
            (format!("\"{}\"", restart(turn)), "\"RESTART\""),
            (format!("\"{}\"", rotation(turn)), "\"ROTATION\""),
            (extension(turn).to_owned(), "EXTENSION"),
        ];
        (raw.clone(), normal::normal(raw, &names))
    }

    /// Waits until the claim says that it is Ready as it is now.
    pub async fn ready(&self) -> Result<(), String> {
        wait_ready(&self.api()).await
    }

    /// Waits until the claim says so of itself as it is now.
    pub async fn says(&self, what: &str, so: impl Fn(&DatabaseClaim) -> bool) -> Result<(), String> {
        until(what, async || {
            let claim = self.api::<DatabaseClaim>().get("orders").await;
            let claim = claim.map_err(|error| error.to_string())?;
            let observed = claim.status.as_ref().and_then(|it| it.observed_generation);
            if observed == claim.metadata.generation && so(&claim) {
                Ok(())
            } else {
                Err(format!("{:#?}", claim.status.unwrap_or_default()))
            }
        })
        .await
    }

    /// Waits until the operator has asked for nothing and written nothing for a moment. Costs no request.
    pub async fn quiet(&self) -> Result<(), String> {
        let before = std::cell::Cell::new((0, self.requests()));
        until("no more requests", async || {
            let (looks, seen) = before.get();
            let now = self.requests();
            let looks = if now == seen { looks + 1 } else { 0 };
            before.set((looks, now));
            if looks >= 3 {
                Ok(())
            } else {
                Err(format!("{now} requests"))
            }
        })
        .await
    }

    /// Waits until nothing is asked for, written or changed any more, and returns the objects.
    pub async fn rest(&self) -> Result<Objects, String> {
        let before = tokio::sync::Mutex::new(Objects::new());
        until("rest", async || {
            self.quiet().await?;
            let (mut before, now) = (before.lock().await, self.objects().await.1);
            let same = *before == now;
            *before = now;
            if same { Ok(()) } else { Err("changes".into()) }
        })
        .await?;
        Ok(before.into_inner())
    }

    /// Number of requests of the operator since the plan was armed.
    pub fn requests(&self) -> usize {
        self.plan.writes.lock().unwrap().len() + self.plan.reads.lock().unwrap().len()
    }

    /// Applications have the password that the database has, and there have never been more of them than so many.
    pub async fn passwords(&self, count: usize) -> Result<(), String> {
        let secrets: Api<Secret> = self.api();
        let mut raw = Objects::new();
        for name in ["orders-db-admin", "orders-db-app"] {
            let secret = secrets.get(name).await.map_err(|error| error.to_string())?;
            raw.insert(format!("Secret {name}"), serde_json::to_value(secret).unwrap());
        }
        self.passwords_in(&raw, count)
    }

    /// The same, where the objects have been read.
    pub fn passwords_in(&self, raw: &Objects, count: usize) -> Result<(), String> {
        let entry = |name: &str, key: &str| {
            let value = raw.get(name).and_then(|it| it["data"][key].as_str());
            let value = value.and_then(|it| BASE64.decode(it).ok());
            value.ok_or_else(|| format!("{name} has no {key}"))
        };
        let admin: Credentials =
            serde_json::from_slice(&entry("Secret orders-db-admin", "credentials.json")?)
                .map_err(|error| error.to_string())?;
        let app = String::from_utf8_lossy(&entry("Secret orders-db-app", "password")?).into_owned();
        if admin.password != app {
            return Err("the two Secrets have different passwords".into());
        }
        let written = self.plan.passwords.lock().unwrap();
        if written.len() <= count && written.iter().all(|it| count > 1 || *it == app) {
            Ok(())
        } else {
            Err(format!("{} passwords were written", written.len()))
        }
    }
}

/// Waits for a state; the error says what was seen last.
pub async fn until(what: &str, look: impl AsyncFn() -> Result<(), String>) -> Result<(), String> {
    let started = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(150));
    loop {
        pace.tick().await;
        let Err(saw) = look().await else { return Ok(()) };
        if started.elapsed() > DEADLINE {
            return Err(format!("{what}: not within {DEADLINE:?}; saw {saw}"));
        }
    }
}

/// Waits until the claim `orders` says that it is Ready as it is now.
pub async fn wait_ready(claims: &Api<DatabaseClaim>) -> Result<(), String> {
    until("Ready", async || {
        let claim = claims.get("orders").await.map_err(|error| error.to_string())?;
        if is_ready(&serde_json::to_value(&claim).unwrap()) {
            Ok(())
        } else {
            Err(format!("{:#?}", claim.status.unwrap_or_default().conditions))
        }
    })
    .await
}

/// Whether a claim says that it is Ready as it is now.
pub fn is_ready(claim: &Value) -> bool {
    let conditions = claim["status"]["conditions"].as_array();
    let says = |it: &Value| it["type"] == "Ready" && it["status"] == "True";
    claim["status"]["observedGeneration"] == claim["metadata"]["generation"]
        && conditions.is_some_and(|all| all.iter().any(says))
}

/// UIDs of what holds data: the volume and the Secrets.
pub fn identities(raw: &Objects) -> BTreeMap<String, String> {
    let kept = raw
        .iter()
        .filter(|(name, _)| name.starts_with("PersistentVolumeClaim ") || name.starts_with("Secret "));
    kept.map(|(name, object)| (name.clone(), object["metadata"]["uid"].to_string()))
        .collect()
}

/// The team after so many changes.
pub fn team(turn: usize) -> String {
    format!("team-{turn}")
}

/// The storage after so many changes: no size that stands anywhere else.
pub fn storage(turn: usize) -> String {
    format!("{}Gi", 41 + turn)
}

/// The version after so many changes, of the series 17.
pub fn version(turn: usize) -> String {
    format!("17.{}", 10 + turn)
}

/// The value of `max_connections` after so many changes; the engine takes it when it starts.
pub fn connections(turn: usize) -> String {
    format!("{}", 1501 + turn)
}

/// The request of a restart after so many changes.
pub fn restart(turn: usize) -> String {
    format!("restart-{turn}")
}

/// The request of a rotation after so many changes.
pub fn rotation(turn: usize) -> String {
    format!("rotation-{turn}")
}

/// The extension after so many changes, of those whose name stands nowhere else.
pub fn extension(turn: usize) -> &'static str {
    let names = [
        "pgcrypto",
        "pg_trgm",
        "pgrowlocks",
        "pgstattuple",
        "fuzzystrmatch",
        "tablefunc",
        "unaccent",
        "uuid-ossp",
        "pg_buffercache",
        "btree_gist",
        "btree_gin",
        "dict_xsyn",
        "hstore",
        "intarray",
        "citext",
        "amcheck",
    ];
    names[turn % names.len()]
}

fn merge(spec: &mut Value, more: Value) {
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
}
