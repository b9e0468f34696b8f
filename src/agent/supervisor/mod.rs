//! The supervisor: one database from an empty volume to a clean stop, and what is said about it.
//!
//! Single-threaded. The engine survives it: everything it needs to go on is on the volume, in the mounted
//! files or in `/proc`. Knows engines only through [`super::engine::Engine`].

mod board;
mod certify;
mod failures;
mod http;
mod life;
pub(super) mod metrics;
mod operate;
mod probe;
pub(super) mod report;
mod reporter;
mod stop;
mod tail;

use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::SigSet;
use rustix::process::{Pid, getpid, getppid};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::command::Settings;
use super::engine::Engine;
use super::process::Process;
use super::volume::Volume;
use board::Board;
use probe::Probe;
use tail::EngineLog;

/// How often the supervisor shows the fencer that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What every part of the supervisor may use.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) settings: Settings,
    volume: Volume,
    board: Board,
    log: EngineLog,
    probe: Probe,
    counters: Counters,
    /// Cancelled when the supervisor is told to stop.
    stop: CancellationToken,
    /// The engine and its process, for whoever is not the loop that runs it.
    running: Mutex<Option<(Engine, Process)>>,
    /// Everything that descends from it belongs to this container.
    ancestor: Pid,
}

/// Counted since the supervisor started.
#[derive(Debug, Default)]
struct Counters {
    engine_exits: AtomicU64,
    report_failures: AtomicU64,
}

impl Context {
    fn new(settings: Settings, fenced: bool) -> Self {
        let root = settings.root();
        Self {
            volume: Volume::new(root.volume()),
            board: Board::new(&settings.pod_uid),
            log: EngineLog::new(root.run().join("engine.log")),
            probe: Probe::default(),
            counters: Counters::default(),
            stop: CancellationToken::new(),
            running: Mutex::new(None),
            ancestor: getppid().filter(|_| fenced).unwrap_or_else(getpid),
            settings,
        }
    }

    fn running(&self) -> Option<(Engine, Process)> {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_running(&self, running: Option<(Engine, Process)>) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = running;
    }

    /// Processes of this container besides the fencer and ourselves.
    fn others(&self) -> Vec<Pid> {
        let mut pids = super::process::descendants(self.ancestor);
        pids.retain(|pid| *pid != getpid());
        pids
    }
}

/// Runs until told to stop.
pub(super) fn run(settings: Settings, fenced: bool) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(supervise(settings, fenced)),
        Err(error) => {
            tracing::error!(%error, "cannot start");
            ExitCode::FAILURE
        }
    }
}

async fn supervise(settings: Settings, fenced: bool) -> ExitCode {
    // Started as /proc/self/exe, it would be listed as "exe".
    let _ = rustix::thread::set_name(c"dbclaim-agent");
    let context = std::sync::Arc::new(Context::new(settings, fenced));
    let listening =
        signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    let (mut terminate, mut interrupt) = match listening {
        Ok(both) => both,
        Err(error) => {
            tracing::error!(%error, "cannot listen for signals");
            return ExitCode::FAILURE;
        }
    };
    // The fencer has blocked them, so that none was lost until here.
    if let Err(error) = SigSet::all().thread_unblock() {
        tracing::error!(%error, "cannot unblock signals");
        return ExitCode::FAILURE;
    }
    let tasks = TaskTracker::new();
    let end = CancellationToken::new();
    if fenced {
        tasks.spawn(
            end.clone()
                .run_until_cancelled_owned(heartbeat(context.stop.clone())),
        );
    }
    tasks.spawn(
        end.clone()
            .run_until_cancelled_owned(http::serve(context.clone())),
    );
    tasks.spawn(
        end.clone()
            .run_until_cancelled_owned(reporter::run(context.clone())),
    );
    tasks.spawn(
        end.clone()
            .run_until_cancelled_owned(tail::follow(context.clone())),
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = context.stop.cancelled() => {}
        never = life::live(&context) => match never {},
    }
    context.stop.cancel();
    stop::stop(&context).await;
    end.cancel();
    tasks.close();
    tasks.wait().await;
    context.log.copy();
    tracing::info!("stopped");
    ExitCode::SUCCESS
}

/// Shows the fencer that this process still runs its tasks. When there is no fencer any more, which cannot
/// happen where it is PID 1, nobody could stop the database later: so it is stopped now.
async fn heartbeat(stop: CancellationToken) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    loop {
        ticks.tick().await;
        if rustix::io::write(rustix::stdio::stdin(), b".") == Err(rustix::io::Errno::PIPE) {
            tracing::error!("the fencer is gone, stopping");
            stop.cancel();
            return;
        }
    }
}
