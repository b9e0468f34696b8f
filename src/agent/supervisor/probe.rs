//! The readiness probe: whether the engine answers a query, asked at most once per second. Every few seconds it is asked
//! by a new connection: a session that is open answers also when the engine accepts no others.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::Context;
use crate::agent::engine::{Engine, EngineError, Pinger};
use crate::api::protocol::MemberPhase;

/// How long an answer is good for.
const FRESH: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(3);
/// How old a connection may be that is asked.
const RECENT: Duration = Duration::from_secs(15);

/// A kept connection and the newest answer.
#[derive(Debug, Default)]
pub(super) struct Probe {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// A connection, and when it was made or found to be as good as a new one.
    pinger: Option<(Instant, Pinger)>,
    answer: Option<(Instant, Result<(), Failure>)>,
}

/// Why the engine does not answer.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) message: String,
    /// It did not refuse: there was no answer in time.
    pub(super) silent: bool,
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self {
            message: error.to_string(),
            silent: matches!(error, EngineError::Timeout(_)),
        }
    }
}

impl Probe {
    /// Whether the engine answers; the sentence says why not.
    pub(super) async fn ping(&self, engine: &Engine) -> Result<(), Failure> {
        let mut state = self.state.lock().await;
        if let Some((at, answer)) = &state.answer
            && at.elapsed() < FRESH
        {
            return answer.clone();
        }
        let pinged = tokio::time::timeout(PATIENCE, state.ask(engine)).await;
        let answer = pinged
            .unwrap_or(Err(EngineError::Timeout(PATIENCE)))
            .map_err(Failure::from);
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
        let recent = self
            .pinger
            .as_ref()
            .is_some_and(|(since, _)| since.elapsed() < RECENT);
        if recent && self.kept_answers().await {
            return Ok(());
        }
        // The kept connection may have been ended by an administrator, or by a restart of the server.
        let pinger = match engine.pinger().await {
            Ok(pinger) => pinger,
            // The engine answers, and has no connection to give: then the kept one tells whether it works.
            Err(error @ EngineError::Connect(_)) => {
                if !self.kept_answers().await {
                    return Err(error);
                }
                if let Some((since, _)) = &mut self.pinger {
                    *since = Instant::now();
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let answer = pinger.ping().await;
        self.pinger = Some((Instant::now(), pinger));
        answer
    }

    async fn kept_answers(&self) -> bool {
        match &self.pinger {
            Some((_, pinger)) => pinger.ping().await.is_ok(),
            None => false,
        }
    }
}

/// Whether clients may be sent here.
pub(super) async fn ready(context: &Context) -> Result<(), String> {
    let report = context.board.report();
    match (report.phase, context.running()) {
        (MemberPhase::Running | MemberPhase::Recovering, Some((engine, _))) => {
            let answer = context.probe.ping(&engine).await.map_err(|it| it.message);
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
