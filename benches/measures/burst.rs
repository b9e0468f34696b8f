//! All claims at once on fake nodes, against a raw writer on a cluster of its own; memory and CPU time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Api;
use kube::api::{DynamicObject, PostParams};

use crate::Settings;
use crate::audit::{by_kind, by_verb};
use crate::contender::Contender;
use crate::fleet::{self, Spans, Watch};
use crate::ground::{Ground, NODES};
use crate::process;
use crate::raw::{self, Template};
use crate::table::{Table, megabytes};

/// Name of a claim that stands alone; no other text in its objects contains it.
const SAMPLE: &str = "samplexyz";

/// All claims at once, against the raw writer.
#[expect(clippy::too_many_lines, reason = "one measurement, told in order")]
pub async fn burst(
    settings: &Settings,
    contender: Arc<dyn Contender>,
    table: &mut Table,
) -> anyhow::Result<()> {
    let count = settings.claims;
    let (raw, writer) = yardstick(contender.clone(), count).await?;
    let ground = Ground::set(contender.clone(), NODES).await?;
    let operator = ground.operate().await?;
    let namespace = ground.namespace("many").await?;
    let before = process::cpu(operator.pid)?;
    let mark = ground.audit().mark()?;
    let ours = fleet::create_and_watch(&ground, &namespace, count).await?;
    let cpu = process::cpu(operator.pid)?.saturating_sub(before);
    compare(count, &raw, &ours, table);
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
    let passes = operator.passes(contender.as_ref()).await?;
    table.row(
        format!("operator, {count} claims at once, create → Ready: a pass takes, p50, p99"),
        format!(
            "{}, {} (of {})",
            passes.bound(50),
            passes.bound(99),
            passes.count()
        ),
        "",
        "",
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
    restart(&ground, count, table).await?;
    pods.abort();
    Ok(ground.cluster.stop().await?)
}

/// What the same objects take that writer, and its own CPU time.
async fn yardstick(contender: Arc<dyn Contender>, count: usize) -> anyhow::Result<(Spans, Duration)> {
    let ground = Ground::set(contender, NODES).await?;
    let operator = ground.operate().await?;
    let namespace = ground.namespace("samplens").await?;
    let template = sample(&ground, &namespace).await?;
    operator.stop().await?;
    let namespace = ground.namespace("many").await?;
    let before = process::cpu(std::process::id())?;
    let spans = raw::write(&ground, &namespace, count, &template).await?;
    let cpu = process::cpu(std::process::id())?.saturating_sub(before);
    ground.cluster.stop().await?;
    Ok((spans, cpu))
}

fn compare(count: usize, raw: &Spans, ours: &Spans, table: &mut Table) {
    let (raw_total, our_total) = (raw.total.as_secs_f64(), ours.total.as_secs_f64());
    table.row(
        format!("{count} claims at once: raw writer's time / ours, until all children exist"),
        format!(
            "{:.2} ({raw_total:.1} s / {our_total:.1} s)",
            raw_total / our_total
        ),
        ">= 0.85",
        "",
    );
    table.row(
        format!("{count} claims at once, apply → children exist: p50, p99"),
        percentiles(ours),
        "",
        "",
    );
    table.row("… the raw writer's", percentiles(raw), "", "");
}

/// A new process that finds everything done.
async fn restart(ground: &Ground, count: usize, table: &mut Table) -> anyhow::Result<()> {
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
    Ok(())
}

/// One claim that the operator has served.
async fn sample(ground: &Ground, namespace: &str) -> anyhow::Result<Template> {
    let claim = serde_json::from_value(ground.contender.claim(SAMPLE))?;
    let claims: Api<DynamicObject> =
        Api::namespaced_with(ground.client.clone(), namespace, &ground.contender.claims());
    let mut watch = Watch::start(ground, namespace);
    let started = std::iter::once((SAMPLE.to_owned(), Instant::now())).collect();
    claims.create(&PostParams::default(), &claim).await?;
    watch.complete(&started, ground.contender.children()).await?;
    ground.rest().await?;
    Template::take(ground, namespace, SAMPLE).await
}

fn percentiles(spans: &Spans) -> String {
    format!(
        "{} ms, {} ms",
        spans.percentile(50).as_millis(),
        spans.percentile(99).as_millis()
    )
}

fn per_claim(cpu: Duration, count: usize) -> String {
    format!("{:.2} ms", cpu.as_secs_f64() * 1000.0 / count as f64)
}
