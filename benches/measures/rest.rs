//! Requests of an operator while nothing happens and while nothing can happen, on fake nodes.

use std::sync::Arc;

use crate::Settings;
use crate::audit::{by_kind, by_verb, writes};
use crate::contender::Contender;
use crate::fleet;
use crate::ground::{Ground, NODES};
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
    trouble(&ground, settings, table).await?;
    let count = 2 * settings.troubled + 1;
    quiet(&ground, settings, count, table).await?;

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
async fn trouble(ground: &Ground, settings: &Settings, table: &mut Table) -> anyhow::Result<()> {
    let count = settings.troubled;
    let window = settings.window.as_secs();
    let (healthy, at_rest) = wave(ground, settings, "healthy", count).await?;
    table.row(
        format!("{count} healthy claims created: requests in {window} s, then in the next {window} s"),
        format!("{healthy}, then {at_rest}"),
        "",
        "",
    );
    ground.ready("healthy", count).await?;
    ground.cordon(true).await?;
    let (stuck, still) = wave(ground, settings, "stuck", count).await?;
    table.row(
        format!("{count} that cannot be scheduled: requests in {window} s, then in the next {window} s"),
        format!("{stuck}, then {still}"),
        "<= healthy",
        "98 a second",
    );
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
