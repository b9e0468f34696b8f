//! Many claims on fake nodes: requests at rest, claims that cannot be scheduled, memory, and a burst against the
//! raw writer.

use std::sync::Arc;
use std::time::Duration;

use crate::Settings;
use crate::audit::{by_kind, by_verb, writes};
use crate::contender::Contender;
use crate::fleet;
use crate::ground::Ground;
use crate::process;
use crate::raw::{self, Template};
use crate::table::{Table, megabytes};

/// Nodes of the cluster; each takes any number of Pods.
const NODES: u16 = 3;
/// Name of a claim that stands alone; no other text in its objects contains it.
const SAMPLE: &str = "samplexyz";

/// What a while costs when nothing changes, and what trouble costs.
pub async fn rest(
    settings: &Settings,
    contender: Arc<dyn Contender>,
    table: &mut Table,
) -> anyhow::Result<()> {
    let ground = Ground::set(contender.clone(), NODES).await?;
    let pods = tokio::spawn(contender.play_pods(ground.client.clone()));
    let operator = ground.operate().await?;
    ground.rest().await?;
    table.row(
        "operator, idle, no claims: RSS",
        process::memory(operator.pid)?.to_string(),
        "<= 6.5 MB (limit 10)",
        "58.8 MB (anon 16.1)",
    );

    let namespace = ground.namespace("one").await?;
    let mark = ground.audit().mark()?;
    fleet::create_and_watch(&ground, &namespace, 1).await?;
    ground.ready(&namespace, 1).await?;
    ground.rest().await?;
    let requests = ground.since(mark)?;
    table.row(
        "operator, create → Ready (fake node): requests",
        by_verb(&requests),
        "",
        "",
    );
    table.detail("operator, create → Ready (fake node)", by_kind(&requests));
    quiet(&ground, settings, 1, table).await?;

    let (healthy, at_rest) = wave(&ground, settings, "healthy", settings.claims_in_trouble()).await?;
    ground.ready("healthy", settings.claims_in_trouble()).await?;
    ground.cordon(true).await?;
    let (stuck, stuck_later) = wave(&ground, settings, "stuck", settings.claims_in_trouble()).await?;
    ground.cordon(false).await?;
    let count = settings.claims_in_trouble();
    let window = settings.window.as_secs();
    table.row(
        format!("{count} healthy claims created: requests in {window} s, then in the next {window} s"),
        format!("{healthy}, then {at_rest}"),
        "",
        "",
    );
    table.row(
        format!("{count} that cannot be scheduled: requests in {window} s, then in the next {window} s"),
        format!("{stuck}, then {stuck_later}"),
        "<= healthy",
        "98 a second",
    );
    ground.ready("stuck", count).await?;
    ground.rest().await?;
    quiet(&ground, settings, 2 * count + 1, table).await?;

    operator.stop().await?;
    let mark = ground.audit().mark()?;
    let operator = ground.operate().await?;
    ground.rest().await?;
    let requests = ground.since(mark)?;
    table.row(
        format!("operator restarted with {} claims: writes", 2 * count + 1),
        writes(&requests).to_string(),
        "0",
        "",
    );
    table.row("… and reads", by_verb(&requests), "", "");
    table.detail("operator restarted", by_kind(&requests));
    operator.stop().await?;
    pods.abort();
    Ok(ground.cluster.stop().await?)
}

/// Requests while nothing happens.
async fn quiet(ground: &Ground, settings: &Settings, claims: usize, table: &mut Table) -> anyhow::Result<()> {
    let requests = ground.window(settings.quiet).await?;
    let seconds = settings.quiet.as_secs();
    let scaled = requests.len() as u64 * 300 / seconds.max(1);
    let what = format!("operator, {claims} Ready claim(s), quiet: requests in 5 min");
    table.row(
        what,
        format!("{scaled} (seen: {} in {seconds} s)", by_verb(&requests)),
        "watch renewals only",
        if claims == 1 { "169" } else { "" },
    );
    Ok(())
}

/// Requests in the window that begins with the creation of claims, and in the one after it.
async fn wave(
    ground: &Ground,
    settings: &Settings,
    name: &str,
    count: usize,
) -> anyhow::Result<(usize, usize)> {
    let namespace = ground.namespace(name).await?;
    let mark = ground.audit().mark()?;
    let clock = tokio::time::sleep(settings.window);
    fleet::create(ground, &namespace, count).await?;
    clock.await;
    let first = ground.since(mark)?.len();
    Ok((first, ground.window(settings.window).await?.len()))
}

/// All claims at once, against the raw writer.
pub async fn burst(
    settings: &Settings,
    contender: Arc<dyn Contender>,
    table: &mut Table,
) -> anyhow::Result<()> {
    let count = settings.claims;
    let (raw, writer) = {
        let ground = Ground::set(contender.clone(), NODES).await?;
        let operator = ground.operate().await?;
        let namespace = ground.namespace("samplens").await?;
        let template = sample(&ground, &namespace).await?;
        operator.stop().await?;
        let namespace = ground.namespace("many").await?;
        let before = process::cpu(std::process::id())?;
        let spans = raw::write(&ground, &namespace, count, &template).await?;
        let cpu = process::cpu(std::process::id())?.saturating_sub(before);
        ground.cluster.stop().await?;
        (spans, cpu)
    };
    let ground = Ground::set(contender.clone(), NODES).await?;
    let operator = ground.operate().await?;
    let namespace = ground.namespace("many").await?;
    let before = process::cpu(operator.pid)?;
    let mark = ground.audit().mark()?;
    let ours = fleet::create_and_watch(&ground, &namespace, count).await?;
    let cpu = process::cpu(operator.pid)?.saturating_sub(before);
    let ratio = raw.total.as_secs_f64() / ours.total.as_secs_f64();
    table.row(
        format!("{count} claims at once: raw writer's time / ours, until all children exist"),
        format!(
            "{ratio:.2} ({:.1} s / {:.1} s)",
            raw.total.as_secs_f64(),
            ours.total.as_secs_f64()
        ),
        ">= 0.85",
        "",
    );
    table.row(
        format!("{count} claims at once, apply → children exist: p50, p99"),
        percentiles(&ours),
        "",
        "",
    );
    table.row("… the raw writer's", percentiles(&raw), "", "");
    table.row(
        "… the raw writer's own CPU per claim",
        per_claim(writer, count),
        "",
        "",
    );
    table.row(
        "operator, CPU per claim until its children exist",
        per_claim(cpu, count),
        "<= 0.3 ms",
        "",
    );
    let pods = tokio::spawn(contender.play_pods(ground.client.clone()));
    ground.ready(&namespace, count).await?;
    ground.rest().await?;
    let cpu = process::cpu(operator.pid)?.saturating_sub(before);
    table.row(
        "operator, CPU per claim until Ready",
        per_claim(cpu, count),
        "",
        "",
    );
    let requests = ground.since(mark)?;
    table.row(
        format!("operator, {count} claims at once, create → Ready: requests per claim"),
        format!("{:.1}", requests.len() as f64 / count as f64),
        "",
        "",
    );
    table.detail(
        format!("operator, {count} claims at once, create → Ready"),
        by_kind(&requests),
    );
    let memory = process::memory(operator.pid)?;
    table.row(
        format!("operator, {count} Ready claims: RSS"),
        memory.to_string(),
        "<= 8 MB (limit 20)",
        "66.6 MB (1 database)",
    );
    table.row(
        format!("operator, {count} claims at once: peak RSS"),
        megabytes(memory.peak),
        "",
        "",
    );
    operator.stop().await?;
    let mark = ground.audit().mark()?;
    let operator = ground.operate().await?;
    ground.rest().await?;
    let requests = ground.since(mark)?;
    table.row(
        format!("operator restarted with {count} Ready claims: requests"),
        by_verb(&requests),
        "0 writes",
        "",
    );
    table.detail(
        format!("operator restarted with {count} Ready claims"),
        by_kind(&requests),
    );
    let memory = process::memory(operator.pid)?;
    table.row(
        format!("operator restarted with {count} Ready claims: RSS"),
        format!("{memory}, peak {}", megabytes(memory.peak)),
        "<= 8 MB (limit 20)",
        "",
    );
    operator.stop().await?;
    pods.abort();
    Ok(ground.cluster.stop().await?)
}

async fn sample(ground: &Ground, namespace: &str) -> anyhow::Result<Template> {
    let claim = serde_json::from_value(ground.contender.claim(SAMPLE))?;
    let claims: kube::Api<kube::api::DynamicObject> =
        kube::Api::namespaced_with(ground.client.clone(), namespace, &ground.contender.claims());
    let mut watch = fleet::Watch::start(ground, namespace);
    let started = std::iter::once((SAMPLE.to_owned(), std::time::Instant::now())).collect();
    claims.create(&kube::api::PostParams::default(), &claim).await?;
    watch.complete(&started, ground.contender.children()).await?;
    ground.rest().await?;
    Template::take(ground, namespace, SAMPLE).await
}

fn percentiles(spans: &fleet::Spans) -> String {
    format!(
        "{} ms, {} ms",
        spans.percentile(50).as_millis(),
        spans.percentile(99).as_millis()
    )
}

fn per_claim(cpu: Duration, count: usize) -> String {
    format!("{:.2} ms", cpu.as_secs_f64() * 1000.0 / count as f64)
}
