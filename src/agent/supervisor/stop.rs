//! The stop: clean where time allows, and complete in any case. Committed data survives both.

use std::time::Duration;

use super::Context;
use crate::agent::engine::Engine;
use crate::agent::files::Mounted;
use crate::agent::process::{Process, kill_all};
use crate::api::protocol::MemberPhase;

/// `stopSeconds` when the configuration cannot be read.
const STOP: Duration = Duration::from_secs(280);
/// How long killed processes may take to be gone.
const KILLED: Duration = Duration::from_secs(5);

/// Stops the engine; when it returns, no process of it is left.
pub(super) async fn stop(context: &Context) {
    context.board.phase(MemberPhase::Stopping);
    if let Some((engine, process)) = context.running().or_else(|| left_running(context)) {
        let patience = patience(context);
        // Our own idle connection would only make the engine log that it ended it.
        context.probe.forget().await;
        tracing::info!(seconds = patience.as_secs(), "stopping the engine");
        match engine.stop(&process) {
            Ok(()) => match tokio::time::timeout(patience, process.exited()).await {
                Ok(Ok(how)) => tracing::info!(how, "engine stopped"),
                Ok(Err(error)) => tracing::error!(%error, "cannot wait for the engine"),
                Err(_) => tracing::error!("engine not stopped in time, killing it; committed data survives"),
            },
            Err(error) => tracing::error!(%error, "cannot signal the engine"),
        }
    }
    // Until none is found: what is being forked just now is not in the first list.
    while let others @ [_, ..] = &context.others()[..] {
        let left = kill_all(others.to_vec(), KILLED).await;
        if left > 0 {
            tracing::error!(left, "killed processes are still there");
            return;
        }
    }
}

/// An engine that this supervisor has not come to adopt.
fn left_running(context: &Context) -> Option<(Engine, Process)> {
    let mut files = Mounted::new(&context.settings.root());
    files.member.refresh();
    let engine = Engine::select(
        files.member.get()?,
        &context.settings.root(),
        &context.settings.search_path,
    );
    let engine = engine.ok()?;
    let process = engine.running()?;
    Some((engine, process))
}

/// Read when it matters: a deletion shortens it just before.
fn patience(context: &Context) -> Duration {
    let mut files = Mounted::new(&context.settings.root());
    files.member.refresh();
    files
        .member
        .get()
        .map_or(STOP, |config| Duration::from_secs(config.stop_seconds.into()))
}
