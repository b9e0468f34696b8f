//! The life of the member: wait for the files, guard the volume, initialise or adopt, run, start again.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::time::sleep;

use super::failures::Failures;
use super::{Context, certify, operate};
use crate::agent::engine::{Engine, Start};
use crate::agent::files::Mounted;
use crate::agent::guard::{Decision, decide};
use crate::agent::memory;
use crate::agent::process::{Process, kill_all};
use crate::agent::volume::Error as VolumeError;
use crate::api::condition::reason;
use crate::api::protocol::{FORMAT, Identity, Initialized, MemberConfig, MemberPhase, Trouble};

/// How often files are looked at while there is nothing else to do.
const PERIOD: Duration = Duration::from_millis(500);
/// How often a blocked volume is looked at, where no file changes.
const AGAIN: Duration = Duration::from_secs(10);
/// How long killed left-overs may take to be gone.
const KILLED: Duration = Duration::from_secs(10);

/// Why the engine does not run (any more).
enum Setback {
    /// A human must decide something.
    Blocked(Trouble),
    /// It will pass by itself.
    Waiting(Trouble),
    /// The engine, or its initialisation, ended although nobody asked for it.
    Ended {
        reason: &'static str,
        how: String,
        lived: Duration,
    },
}

impl From<VolumeError> for Setback {
    fn from(error: VolumeError) -> Self {
        let reason = match error {
            VolumeError::InUse { .. } => "VolumeInUse",
            VolumeError::Read { .. } | VolumeError::Write { .. } => "VolumeFailed",
        };
        Self::Waiting(Trouble {
            reason: reason.into(),
            message: error.to_string(),
        })
    }
}

/// Lives until dropped. The engine outlives it.
pub(super) async fn live(context: &Context) -> Infallible {
    let mut files = Mounted::new(&context.settings.root());
    let mut failures = Failures::default();
    loop {
        let config = member(context, &mut files).await;
        match attempt(context, &mut files, &config).await {
            Setback::Blocked(trouble) => {
                context.board.trouble(MemberPhase::Blocked, trouble);
                changed(&mut files, AGAIN).await;
            }
            Setback::Waiting(trouble) => {
                context.board.trouble(MemberPhase::Starting, trouble);
                changed(&mut files, Duration::from_secs(1)).await;
            }
            Setback::Ended { reason, how, lived } => {
                let pause = failures.record(Instant::now(), lived);
                tracing::error!(
                    how,
                    pause = pause.as_secs_f32(),
                    "engine ended, starting it again"
                );
                let trouble = || Trouble {
                    reason: reason.into(),
                    message: format!("{how}; its last lines:\n{}", context.log.last_lines()),
                };
                if failures.failed(Instant::now()) {
                    context.board.failed(trouble());
                } else if reason == reason::OUT_OF_MEMORY {
                    context.board.trouble(MemberPhase::Starting, trouble());
                } else {
                    context.board.progress(MemberPhase::Starting);
                }
                sleep(pause).await;
            }
        }
    }
}

/// The configuration, as soon as there is a good one.
async fn member(context: &Context, files: &mut Mounted) -> MemberConfig {
    let mut told = None;
    loop {
        files.member.refresh();
        if let Some(config) = files.member.get() {
            return config.clone();
        }
        let problem = files.member.problem().map(str::to_owned);
        if problem != told {
            let message = problem.clone().unwrap_or_default();
            context.board.trouble(
                MemberPhase::Starting,
                Trouble {
                    reason: "ConfigInvalid".into(),
                    message,
                },
            );
            told = problem;
        }
        sleep(PERIOD).await;
    }
}

/// Waits for another configuration, or until `patience` is over.
async fn changed(files: &mut Mounted, patience: Duration) {
    let _ = tokio::time::timeout(patience, async {
        while !files.member.refresh() {
            sleep(PERIOD).await;
        }
    })
    .await;
}

async fn attempt(context: &Context, files: &mut Mounted, config: &MemberConfig) -> Setback {
    let engine = match Engine::select(config, &context.settings.root(), &context.settings.search_path) {
        Ok(engine) => engine,
        Err(trouble) => return Setback::Blocked(trouble),
    };
    if let Some(process) = engine.running() {
        tracing::info!(
            pid = process.pid().as_raw_nonzero().get(),
            "engine runs already, adopted"
        );
        let initialized = context
            .volume
            .identity()
            .and_then(|identity| identity.initialized);
        context.board.update(|report| report.initialized = initialized);
        return run(context, files, engine, process, operate::Origin::Adopted).await;
    }
    match start(context, files, config, &engine).await {
        Ok(process) => run(context, files, engine, process, operate::Origin::Started).await,
        Err(setback) => setback,
    }
}

/// From a volume that nobody uses to an engine process.
async fn start(
    context: &Context,
    files: &mut Mounted,
    config: &MemberConfig,
    engine: &Engine,
) -> Result<Process, Setback> {
    // Whatever runs in this container now is left over: backends without their postmaster, an initialisation
    // without its supervisor. They might still write.
    let left = kill_all(context.others(), KILLED).await;
    if left > 0 {
        let message =
            format!("{left} processes of an earlier engine cannot be killed; does the storage hang?");
        return Err(Setback::Waiting(Trouble {
            reason: "EngineStuck".into(),
            message,
        }));
    }
    let lock = context.volume.lock()?;
    let found = context.volume.survey(engine)?;
    let initialized = match decide(config, context.settings.member, &found) {
        Decision::Blocked(trouble) => return Err(Setback::Blocked(trouble)),
        Decision::Serve(initialized) => initialized,
        Decision::Initialize => initialize(context, config, engine, &lock).await?,
        Decision::ResumeInitialize => {
            let name = format!("interrupted-{}-{}", config.engine, now().as_nanosecond());
            let target = context.volume.put_aside(engine.data(), &name)?;
            tracing::warn!(target = %target.display(), "an initialisation was interrupted, its remains are put aside");
            initialize(context, config, engine, &lock).await?
        }
    };
    context
        .board
        .update(|report| report.initialized = Some(initialized));
    context.board.progress(MemberPhase::Recovering);
    files.certificate.refresh();
    if let Some(given) = files.certificate.get() {
        certify::prepare(engine, given, &config.host);
    }
    engine
        .start(context.with(&lock)?)
        .map_err(|trouble| ended("EngineFailed", trouble))
}

/// `identity.json` goes before the first file of the engine, so that an interruption is known as our own.
async fn initialize(
    context: &Context,
    config: &MemberConfig,
    engine: &Engine,
    lock: &std::os::fd::OwnedFd,
) -> Result<Initialized, Setback> {
    let member = context.settings.member;
    let Some(volume) = config.volumes.get(&member) else {
        let message = format!("the configuration lists no volume for member {member}");
        return Err(Setback::Blocked(Trouble {
            reason: "ConfigInvalid".into(),
            message,
        }));
    };
    context.board.progress(MemberPhase::Initializing);
    let mut identity = Identity {
        v: FORMAT,
        claim: config.claim.clone(),
        volume_id: volume.volume_id.clone(),
        member,
        engine: config.engine.clone(),
        major: config.major.clone(),
        database: config.database.clone(),
        username: config.username.clone(),
        initialized: None,
    };
    context.volume.write_identity(&identity)?;
    let begun = Instant::now();
    let made = engine.initialize(context.with(lock)?).await;
    let system_identifier = made.map_err(|trouble| ended("InitializeFailed", trouble))?;
    let initialized = Initialized {
        at: format!("{:.0}", now()),
        system_identifier,
    };
    identity.initialized = Some(initialized.clone());
    context.volume.write_identity(&identity)?;
    let (system, seconds) = (&initialized.system_identifier, begun.elapsed().as_secs_f32());
    tracing::info!(system, seconds, "initialised");
    Ok(initialized)
}

/// Runs the engine until it ends.
async fn run(
    context: &Context,
    files: &mut Mounted,
    engine: Engine,
    process: Process,
    origin: operate::Origin,
) -> Setback {
    let started = Instant::now();
    let kills = memory::kills();
    context.set_running(Some((engine.clone(), process.clone())));
    let how = tokio::select! {
        how = process.exited() => how,
        never = operate::operate(context, files, &engine, &process, origin) => match never {},
    };
    context.set_running(None);
    context.probe.forget().await;
    context
        .counters
        .engine_exits
        .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let how = how.unwrap_or_else(|error| format!("cannot be watched: {error}"));
    Setback::Ended {
        reason: if memory::kills() > kills {
            reason::OUT_OF_MEMORY
        } else {
            "EngineFailed"
        },
        how: format!("the engine {how}"),
        lived: started.elapsed(),
    }
}

fn ended(reason: &'static str, trouble: Trouble) -> Setback {
    Setback::Ended {
        reason,
        how: trouble.message,
        lived: Duration::ZERO,
    }
}

impl Context {
    /// What a process of the engine is started with.
    fn with(&self, lock: &std::os::fd::OwnedFd) -> Result<Start, Setback> {
        let failed = |what: &str, error: std::io::Error| {
            let message = format!("cannot {what}: {error}");
            Setback::Waiting(Trouble {
                reason: "EngineFailed".into(),
                message,
            })
        };
        let lock = lock
            .try_clone()
            .map_err(|error| failed("hand over the volume's lock", error))?;
        self.log.forget_lines();
        let log = self
            .log
            .writer()
            .map_err(|error| failed("open the engine's log", error))?;
        Ok(Start { lock, log })
    }
}

#[expect(clippy::disallowed_methods, reason = "the one clock of the agent")]
pub(super) fn now() -> Timestamp {
    Timestamp::now()
}
