//! The readiness probe: whether the engine answers a query, asked at most once per second.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::Context;
use crate::agent::engine::{Engine, EngineError, Pinger};
use crate::api::protocol::MemberPhase;

/// How long an answer is good for.
const FRESH: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(3);

/// A kept connection and the newest answer.
#[derive(Debug, Default)]
pub(super) struct Probe {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pinger: Option<Pinger>,
    answer: Option<(Instant, Result<(), String>)>,
}

impl Probe {
    /// Whether the engine answers; the sentence says why not.
    pub(super) async fn ping(&self, engine: &Engine) -> Result<(), String> {
        let mut state = self.state.lock().await;
        if let Some((at, answer)) = &state.answer
            && at.elapsed() < FRESH
        {
            return answer.clone();
        }
        let pinged = tokio::time::timeout(PATIENCE, state.ask(engine)).await;
        let answer = pinged
            .unwrap_or(Err(EngineError::Timeout(PATIENCE)))
            .map_err(|error| error.to_string());
        if answer.is_err() {
            state.pinger = None;
        }
        state.answer = Some((Instant::now(), answer.clone()));
        answer
    }

    /// Forgets everything: the engine is another one now.
    pub(super) async fn forget(&self) {
        *self.state.lock().await = State::default();
    }
}

impl State {
    async fn ask(&mut self, engine: &Engine) -> Result<(), EngineError> {
        if let Some(pinger) = &self.pinger
            && pinger.ping().await.is_ok()
        {
            return Ok(());
        }
        // The kept connection may have been ended by an administrator, or by a restart of the server.
        let pinger = engine.pinger().await?;
        let answer = pinger.ping().await;
        self.pinger = Some(pinger);
        answer
    }
}

/// Whether clients may be sent here.
pub(super) async fn ready(context: &Context) -> Result<(), String> {
    let report = context.board.report();
    match (report.phase, context.running()) {
        (MemberPhase::Running | MemberPhase::Recovering, Some((engine, _))) => {
            let answer = context.probe.ping(&engine).await;
            // Recovering ends when the loop has seen it, so that readiness never comes before Running.
            answer.and_then(|()| match report.phase {
                MemberPhase::Running => Ok(()),
                _ => Err("the engine answers, but is still being set up".into()),
            })
        }
        (phase, _) => Err(match report.trouble {
            // Only the first line: after it come the engine's own, and anyone in the cluster may ask.
            Some(trouble) => {
                let line = trouble.message.lines().next().unwrap_or_default();
                format!("{phase:?}: {}: {line}", trouble.reason)
            }
            None => format!("{phase:?}"),
        }),
    }
}
