//! Many claims at once: who creates them, and when all that belongs to them is there. The clock is this process': it
//! starts before a claim is sent and stops when a watch has shown its last object, whoever wrote it.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{DynamicObject, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::contender::Contender;
use crate::ground::{DEADLINE, Ground};

/// How long it took.
#[derive(Debug)]
pub struct Spans {
    /// From the first claim to the last object of the last.
    pub total: Duration,
    /// From each claim to its last object, sorted.
    each: Vec<Duration>,
}

impl Spans {
    /// The span that this share (of 100) of the claims does not exceed.
    pub fn percentile(&self, share: usize) -> Duration {
        let last = self.each.len().saturating_sub(1);
        self.each.get(last * share / 100).copied().unwrap_or_default()
    }
}

/// Sees the objects of claims appear in one namespace.
pub struct Watch {
    seen: mpsc::UnboundedReceiver<(String, Instant)>,
    /// Ends the watches when it is dropped.
    _tasks: JoinSet<()>,
}

impl Watch {
    /// Watches all kinds.
    pub fn start(ground: &Ground, namespace: &str) -> Self {
        Self::on(&ground.client, ground.contender.as_ref(), namespace)
    }

    /// Watches all kinds of a contender.
    pub fn on(client: &Client, contender: &dyn Contender, namespace: &str) -> Self {
        let (found, seen) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for kind in contender.kinds() {
            let api: Api<PartialObjectMeta<DynamicObject>> =
                Api::namespaced_with(client.clone(), namespace, &kind);
            let (found, label) = (found.clone(), contender.claim_label());
            let ours = watcher::Config::default().labels(&contender.selector());
            tasks.spawn(async move {
                let mut known = HashSet::new();
                let mut objects = watcher(api, ours).default_backoff().applied_objects().boxed();
                while let Some(object) = objects.next().await {
                    let now = Instant::now();
                    let Ok(object) = object else { continue };
                    let claim = object.labels().get(label).cloned();
                    if let Some(claim) = claim.filter(|_| known.insert(object.uid())) {
                        // Nobody listens any more when all are there.
                        let _ = found.send((claim, now));
                    }
                }
            });
        }
        Self { seen, _tasks: tasks }
    }

    /// Waits until all claims have all their objects.
    pub async fn complete(
        &mut self,
        started: &HashMap<String, Instant>,
        children: usize,
    ) -> anyhow::Result<Spans> {
        let mut counts: HashMap<String, usize> = HashMap::new();
        let mut each = Vec::new();
        let mut last = None;
        let wait = async {
            while each.len() < started.len() {
                let Some((claim, now)) = self.seen.recv().await else {
                    return;
                };
                let count = counts.entry(claim.clone()).or_default();
                *count += 1;
                if let Some(start) = started.get(&claim).filter(|_| *count == children) {
                    each.push(now.saturating_duration_since(*start));
                    last = last.max(Some(now));
                }
            }
        };
        let waited = tokio::time::timeout(DEADLINE, wait).await;
        waited.with_context(|| {
            let some = counts.iter().find(|(_, count)| **count < children);
            format!(
                "{} of {} claims are complete after {DEADLINE:?}; one that is not: {some:?} of {children}",
                each.len(),
                started.len()
            )
        })?;
        each.sort_unstable();
        let first = started.values().min().context("no claims")?;
        let total = last.context("no claims")?.saturating_duration_since(*first);
        Ok(Spans { total, each })
    }
}

/// Names of the claims of a fleet.
pub fn names(count: usize) -> impl Iterator<Item = String> {
    (1..=count).map(|number| format!("c{number:05}"))
}

/// Creates claims as fast as the API server takes them; returns when each was sent.
pub async fn create(
    ground: &Ground,
    namespace: &str,
    count: usize,
) -> anyhow::Result<HashMap<String, Instant>> {
    let claims: Api<DynamicObject> =
        Api::namespaced_with(ground.client.clone(), namespace, &ground.contender.claims());
    let apply_one = |name: String| {
        let (claims, claim) = (claims.clone(), ground.contender.claim(&name));
        async move {
            let claim = serde_json::from_value(claim)?;
            let start = Instant::now();
            claims.create(&PostParams::default(), &claim).await?;
            anyhow::Ok((name, start))
        }
    };
    let sent =
        futures::stream::iter(names(count).map(apply_one)).buffer_unordered(ground.contender.in_flight());
    sent.try_collect().await
}

/// Creates claims, and waits until the operator has made all that belongs to them.
pub async fn create_and_watch(ground: &Ground, namespace: &str, count: usize) -> anyhow::Result<Spans> {
    let mut watch = Watch::start(ground, namespace);
    let started = create(ground, namespace, count).await?;
    watch.complete(&started, ground.contender.children()).await
}

/// The objects of one claim as the API server has them, made ready to be posted again for another.
pub async fn template(
    ground: &Ground,
    namespace: &str,
) -> anyhow::Result<Vec<(kube::core::ApiResource, Value)>> {
    let mut found = Vec::new();
    for kind in ground.contender.kinds() {
        let api: Api<DynamicObject> = Api::namespaced_with(ground.client.clone(), namespace, &kind);
        let ours = kube::api::ListParams::default().labels(&ground.contender.selector());
        for object in api.list(&ours).await?.items {
            let mut object = serde_json::to_value(object)?;
            strip(&mut object, &ground.contender.claims().kind);
            object["apiVersion"] = kind.api_version.clone().into();
            object["kind"] = kind.kind.clone().into();
            found.push((kind.clone(), object));
        }
    }
    Ok(found)
}

/// Removes what the API server and its controllers have added.
fn strip(object: &mut Value, claim_kind: &str) {
    let fields = [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "managedFields",
        "finalizers",
        "namespace",
    ];
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|key, _| !fields.contains(&key.as_str()));
        // An owner that is not the claim differs from claim to claim; the garbage collector would remove the object.
        let by_claim = |owners: &Value| owners[0]["kind"] == claim_kind;
        if metadata
            .get("ownerReferences")
            .is_some_and(|owners| !by_claim(owners))
        {
            metadata.remove("ownerReferences");
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|key, _| !key.contains("kubernetes.io/"));
        }
    }
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|key, value| {
            key != "volumeName"
                && (key != "clusterIP" && key != "clusterIPs" || value.to_string().contains("None"))
        });
    }
}
