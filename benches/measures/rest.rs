//! Requests of an operator while nothing happens and while nothing can happen, on fake nodes.

use std::sync::Arc;
use std::time::Duration;

use crate::Settings;
use crate::audit::{by_kind, by_verb, writes};
use crate::contender::Contender;
use crate::fleet;
use crate::ground::{Ground, NODES, Operator};
use crate::process;
use crate::table::Table;

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
    trouble(&ground, &operator, settings, table).await?;
    let count = 2 * settings.troubled + 1;
    quiet(&ground, settings, count, table).await?;

    let passes = operator.passes(contender.as_ref()).await?;
    table.row(
        format!("operator, {count} claims, some in trouble: a pass takes, p50, p99"),
        format!(
            "{}, {} (of {})",
            passes.bound(50),
            passes.bound(99),
            passes.count()
        ),
        "",
        "",
    );
    operator.stop().await?;
    let mark = ground.audit().mark()?;
    let operator = ground.operate().await?;
    ground.rest().await?;
    let requests = ground.since(mark)?;
    table.row(
        format!("operator restarted with {count} claims: writes"),
        writes(&requests).to_string(),
        "0",
        "",
    );
    table.row("… and all its requests", by_verb(&requests), "", "");
    operator.stop().await?;
    pods.abort();
    Ok(ground.cluster.stop().await?)
}

/// Claims whose Pods no node takes, and as many whose Pods run.
async fn trouble(
    ground: &Ground,
    operator: &Operator,
    settings: &Settings,
    table: &mut Table,
) -> anyhow::Result<()> {
    let count = settings.troubled;
    let window = settings.window.as_secs();
    let healthy = wave(ground, operator, settings, "healthy", count).await?;
    table.row(
        format!(
            "{count} healthy claims created: requests and CPU in {window} s, then in the next {window} s"
        ),
        healthy.to_string(),
        "",
        "",
    );
    ground.ready("healthy", count).await?;
    ground.rest().await?;
    ground.cordon(true).await?;
    let stuck = wave(ground, operator, settings, "stuck", count).await?;
    table.row(
        format!("{count} that cannot be scheduled: the same"),
        stuck.to_string(),
        "<= healthy",
        "98 requests a second, a full CPU limit",
    );
    table.row(
        "… cannot be scheduled / healthy, both windows: requests, CPU",
        stuck.beside(&healthy),
        "<= 1",
        "",
    );
    table.detail("claims that cannot be scheduled, second window", stuck.later);
    ground.cordon(false).await?;
    ground.ready("stuck", count).await?;
    ground.rest().await
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

/// What claims cost in the window that begins with their creation, and in the one after it.
struct Wave {
    requests: [usize; 2],
    cpu: [Duration; 2],
    later: Vec<(String, usize)>,
}

impl std::fmt::Display for Wave {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [first, then] = self.requests;
        let [first_cpu, then_cpu] = self.cpu.map(|it| it.as_secs_f64());
        write!(f, "{first}, {first_cpu:.2} s, then {then}, {then_cpu:.2} s")
    }
}

impl Wave {
    fn beside(&self, other: &Self) -> String {
        let requests = |it: &Self| it.requests.iter().sum::<usize>() as f64;
        let cpu = |it: &Self| it.cpu.iter().sum::<Duration>().as_secs_f64();
        format!(
            "{:.2}, {:.2}",
            requests(self) / requests(other),
            cpu(self) / cpu(other)
        )
    }
}

async fn wave(
    ground: &Ground,
    operator: &Operator,
    settings: &Settings,
    name: &str,
    count: usize,
) -> anyhow::Result<Wave> {
    let namespace = ground.namespace(name).await?;
    let (mark, start) = (ground.audit().mark()?, process::cpu(operator.pid)?);
    let clock = tokio::time::sleep(settings.window);
    fleet::create(ground, &namespace, count).await?;
    clock.await;
    let (first, between) = (ground.since(mark)?.len(), process::cpu(operator.pid)?);
    let later = ground.window(settings.window).await?;
    let end = process::cpu(operator.pid)?;
    Ok(Wave {
        requests: [first, later.len()],
        cpu: [between.saturating_sub(start), end.saturating_sub(between)],
        later: by_kind(&later),
    })
}
