//! One real node: a claim from apply to Ready with a real database, and what operator, agent and fencer cost then.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use devcluster::operator::{self, Binaries, Installation};
use devcluster::prerequisites::{self, Task};
use devcluster::{Cluster, Options, Profile, Progress, image, programs};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::Settings;
use crate::audit::{Audit, Request, by_kind, by_verb};
use crate::contender::Contender;
use crate::fleet::Watch;
use crate::ground::{DEADLINE, is_true};
use crate::process;
use crate::table::{Table, megabytes};

const ENGINE_IMAGE: &str = "docker.io/library/postgres:17";
const IMAGE: &str = "devcluster.local/dbclaim:measured";
const CLAIM: &str = "orders";

/// One claim, from apply to Ready.
struct Life {
    children: Duration,
    ready: Duration,
    operator: Vec<Request>,
    agent: Vec<Request>,
}

/// All of it. `archive` is the operator's image.
pub async fn node(
    settings: &Settings,
    contender: Arc<dyn Contender>,
    archive: PathBuf,
    table: &mut Table,
) -> anyhow::Result<()> {
    let cluster = start(contender.as_ref(), &archive).await?;
    let client = cluster.client()?;
    let mut lives = Vec::new();
    for run in 1..=settings.runs {
        lives.push(live(&cluster, &client, contender.as_ref(), &format!("run{run}")).await?);
    }
    report(&lives, table);
    let namespace = format!("run{}", settings.runs);
    idle(settings, &cluster, &client, contender.as_ref(), &namespace, table).await?;
    Ok(cluster.stop().await?)
}

async fn start(contender: &dyn Contender, archive: &std::path::Path) -> anyhow::Result<Cluster> {
    prerequisites::ensure(&[Task::Nodes, Task::EngineImages], Progress::Stderr).await?;
    let cluster = Cluster::start(Options {
        profile: Profile::Node { nodes: 1 },
        name: None,
        progress: Progress::Stderr,
    })
    .await?;
    let engine = spawn_blocking(|| image::engine_archive(ENGINE_IMAGE, &mut |_| {})).await??;
    let helm = programs::tool("helm", Progress::Stderr).await?;
    cluster.load_image(archive).await?;
    cluster.load_image(&engine).await?;
    operator::install(Installation {
        kubeconfig: cluster.kubeconfig(),
        context: None,
        helm: &helm,
        chart: &contender.chart(),
        image: IMAGE,
        values: &Value::Null,
        deadline: Duration::from_secs(120),
    })
    .await?;
    Ok(cluster)
}

fn operator_user(contender: &dyn Contender) -> String {
    let (namespace, name) = contender.account();
    format!("system:serviceaccount:{namespace}:{name}")
}

fn agent_user(namespace: &str) -> String {
    format!("system:serviceaccount:{namespace}:{CLAIM}-db")
}

async fn live(
    cluster: &Cluster,
    client: &Client,
    contender: &dyn Contender,
    namespace: &str,
) -> anyhow::Result<Life> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let body = json!({"metadata": {"name": namespace,
        "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    namespaces
        .create(&PostParams::default(), &serde_json::from_value(body)?)
        .await?;
    let claims: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &contender.claims());
    let mut watch = Watch::on(client, contender, namespace);
    let audit = Audit(cluster.audit_log());
    let mark = audit.mark()?;
    let start = Instant::now();
    claims
        .create(
            &PostParams::default(),
            &serde_json::from_value(contender.claim(CLAIM))?,
        )
        .await?;
    let started = HashMap::from([(CLAIM.to_owned(), start)]);
    let ready = async {
        let mut seen = watcher(claims, watcher::Config::default())
            .default_backoff()
            .applied_objects()
            .boxed();
        while let Some(claim) = seen.next().await {
            if claim.is_ok_and(|claim| is_true(&claim, "Ready")) {
                return anyhow::Ok(start.elapsed());
            }
        }
        anyhow::bail!("the watch ended")
    };
    let ready = tokio::time::timeout(DEADLINE, ready);
    let (spans, ready) = tokio::try_join!(watch.complete(&started, contender.children()), async {
        ready.await.context("the claim is not Ready in time")?
    })?;
    let end = audit.mark()?;
    let mut operator = audit.requests(&operator_user(contender), mark, end)?;
    // Renewals of the Lease go on whatever happens.
    operator.retain(|it| it.resource != "leases");
    Ok(Life {
        children: spans.total,
        ready,
        operator,
        agent: audit.requests(&agent_user(namespace), mark, end)?,
    })
}

fn report(lives: &[Life], table: &mut Table) {
    let median = |of: fn(&Life) -> Duration| {
        let mut all: Vec<_> = lives.iter().map(of).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default().as_secs_f64()
    };
    let runs = lives.len();
    table.row(
        format!("apply → children exist, one node, median of {runs}"),
        format!("{:.3} s", median(|it| it.children)),
        "",
        "",
    );
    table.row(
        format!("apply → Ready, one node, median of {runs}"),
        format!("{:.1} s", median(|it| it.ready)),
        "",
        "16.9 s (median of 5)",
    );
    if let Some(last) = lives.last() {
        table.row(
            "operator, create → Ready: requests",
            by_verb(&last.operator),
            "one per child, 2 status writes",
            "154",
        );
        table.row(
            "database Pod, create → Ready: requests",
            by_verb(&last.agent),
            "",
            "64",
        );
        table.detail("operator, create → Ready", by_kind(&last.operator));
        table.detail("agent, create → Ready", by_kind(&last.agent));
    }
}

#[expect(clippy::too_many_arguments, reason = "what one measurement needs")]
async fn idle(
    settings: &Settings,
    cluster: &Cluster,
    client: &Client,
    contender: &dyn Contender,
    namespace: &str,
    table: &mut Table,
) -> anyhow::Result<()> {
    let audit = Audit(cluster.audit_log());
    let mark = audit.mark()?;
    // The window itself is what is measured.
    tokio::time::sleep(settings.quiet).await;
    let end = audit.mark()?;
    let seconds = settings.quiet.as_secs().max(1);
    let agent = audit.requests(&agent_user(namespace), mark, end)?.len() as u64;
    table.row(
        "agent at rest: API requests per hour",
        format!("{} (seen: {agent} in {seconds} s)", agent * 3600 / seconds),
        "",
        "2532 (211 in 5 min)",
    );
    let operator = audit.requests(&operator_user(contender), mark, end)?;
    table.row(
        format!(
            "operator, {} Ready claim(s), real node, quiet: requests in 5 min",
            settings.runs
        ),
        format!(
            "{} (seen: {} in {seconds} s)",
            operator.len() as u64 * 300 / seconds,
            by_verb(&operator)
        ),
        "watch renewals only",
        "169",
    );
    let all = |namespace: &str| {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        async move { anyhow::Ok(pods.list(&ListParams::default()).await?.items) }
    };
    for pod in all(contender.account().0)
        .await?
        .into_iter()
        .chain(all(namespace).await?)
    {
        for (pid, command) in process::of_pod(&pod.uid().unwrap_or_default()) {
            let memory = process::memory(pid)?;
            let short: String = command.chars().take(40).collect();
            // The rest is the database.
            if command
                .split(' ')
                .next()
                .is_some_and(|program| program.contains("dbclaim"))
            {
                table.row(
                    format!("RSS on the node: `{short}`"),
                    format!("{memory}, peak {}", megabytes(memory.peak)),
                    "",
                    "62.6 MB (anon 17.7) per Pod",
                );
            }
        }
    }
    Ok(())
}

/// The operator's image as an archive.
pub fn pack(binaries: &Binaries) -> anyhow::Result<PathBuf> {
    let folder = crate::root().join(format!("target/measure/image-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let archive = folder.join("image.tar");
    image::operator_archive(&binaries.dbclaim, &binaries.agent, &archive, IMAGE)?;
    Ok(archive)
}
