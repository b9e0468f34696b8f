//! The fencer, PID 1: keeps the supervisor running, reaps orphans, and ends everything when told to stop.
//!
//! Synchronous, and without TLS, Kubernetes or SQL: what must never fail stays small. It never exits to
//! recover. The engine is not its child but that of a supervisor; orphaned, it becomes ours and runs on.
//! With one member no deadline is ever armed: a dead or silent supervisor is replaced, the engine is kept.

mod pace;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal as Awaited};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper, wait,
};

use super::command::Settings;
use super::process::descendants;
use crate::api::protocol::path;
use pace::{Backoff, Heart};

/// What the supervisor gets on top of `stopSeconds` to kill what is left itself.
const MARGIN: Duration = Duration::from_secs(10);
/// `stopSeconds` when the configuration cannot be read: the Pod's usual grace period, less the margin.
const STOP_SECONDS: u64 = 280;

/// Runs until told to stop.
pub(super) fn run(settings: &Settings) -> ExitCode {
    match Fencer::new(settings.clone()) {
        Ok(mut fencer) => fencer.run(),
        Err(error) => {
            tracing::error!(%error, "cannot set up signals");
            ExitCode::FAILURE
        }
    }
}

struct Fencer {
    settings: Settings,
    signals: SignalFd,
    supervisor: Option<Supervisor>,
    backoff: Backoff,
    /// When told to stop: until when everything must be gone.
    deadline: Option<Instant>,
}

/// The running supervisor and the reading end of its heartbeat.
struct Supervisor {
    pid: Pid,
    beats: OwnedFd,
    heart: Heart,
}

impl Fencer {
    fn new(settings: Settings) -> io::Result<Self> {
        let mut awaited = SigSet::empty();
        for signal in [Awaited::SIGTERM, Awaited::SIGINT, Awaited::SIGCHLD] {
            awaited.add(signal);
        }
        // Blocked for the supervisor too, until it listens: so none is lost, and none ends it by default.
        awaited.thread_block()?;
        let signals = SignalFd::with_flags(&awaited, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        if getpid() != Pid::INIT {
            set_child_subreaper(Some(getpid()))?;
        }
        Ok(Self {
            settings,
            signals,
            supervisor: None,
            backoff: Backoff::default(),
            deadline: None,
        })
    }

    fn run(&mut self) -> ExitCode {
        loop {
            let now = Instant::now();
            if self.supervisor.is_none() && self.backoff.due(now) {
                self.start(now);
            }
            self.wait();
            let now = Instant::now();
            let stopped = self.reap(now);
            self.signalled(now);
            self.check_heart(now);
            if stopped {
                return end_everything();
            }
            if self.deadline.is_some_and(|deadline| now >= deadline) {
                tracing::error!("not stopped in time, killing everything");
                return end_everything();
            }
        }
    }

    fn start(&mut self, now: Instant) {
        self.backoff.started(now);
        match spawn(&self.settings) {
            Ok((pid, beats)) => {
                tracing::info!(pid = pid.as_raw_nonzero().get(), "supervisor started");
                if self.deadline.is_some() {
                    let _ = kill_process(pid, Signal::TERM);
                }
                self.supervisor = Some(Supervisor {
                    pid,
                    beats,
                    heart: Heart::new(now),
                });
            }
            Err(error) => tracing::error!(%error, "cannot start the supervisor"),
        }
    }

    /// Waits for a signal or a tick. Heartbeats are read once per tick; to wake up for each would be waste.
    fn wait(&self) {
        let tick = if self.supervisor.is_some() {
            Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            }
        } else {
            Timespec {
                tv_sec: 0,
                tv_nsec: 100_000_000,
            }
        };
        let _ = poll(
            &mut [PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN)],
            Some(&tick),
        );
    }

    /// Collects every child that has ended; true when the supervisor has stopped as it was told.
    fn reap(&mut self, now: Instant) -> bool {
        let mut stopped = false;
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if self
                .supervisor
                .as_ref()
                .is_none_or(|supervisor| supervisor.pid != pid)
            {
                continue;
            }
            self.supervisor = None;
            self.backoff.ended(now);
            if self.deadline.is_some() && status.exit_status() == Some(0) {
                stopped = true;
            } else {
                let (code, signal) = (status.exit_status(), status.terminating_signal());
                tracing::warn!(code, signal, "supervisor ended; the database is left alone");
            }
        }
        stopped
    }

    fn signalled(&mut self, now: Instant) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let child = u32::try_from(Awaited::SIGCHLD as i32).ok();
            if Some(signal.ssi_signo) == child || self.deadline.is_some() {
                continue;
            }
            let patience = self.stop_time() + MARGIN;
            tracing::info!(seconds = patience.as_secs(), "stopping");
            self.deadline = Some(now + patience);
            if let Some(supervisor) = &self.supervisor {
                let _ = kill_process(supervisor.pid, Signal::TERM);
            }
        }
    }

    fn check_heart(&mut self, now: Instant) {
        let Some(supervisor) = &mut self.supervisor else {
            return;
        };
        let mut beats = [0; 64];
        while let Ok(1..) = rustix::io::read(&supervisor.beats, &mut beats) {
            supervisor.heart.beat(now);
        }
        if supervisor.heart.stalled(now) {
            tracing::error!("supervisor is silent, replacing it; the database is left alone");
            let _ = kill_process(supervisor.pid, Signal::KILL);
            supervisor.heart.beat(now);
        }
    }

    /// How long the supervisor may take; read when it matters, for it changes with a deletion.
    fn stop_time(&self) -> Duration {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Stop {
            stop_seconds: u32,
        }
        let text = fs::read(self.settings.root().config().join(path::MEMBER_FILE)).unwrap_or_default();
        let seconds =
            serde_json::from_slice::<Stop>(&text).map_or(STOP_SECONDS, |stop| stop.stop_seconds.into());
        Duration::from_secs(seconds)
    }
}

/// Starts a supervisor. Its standard input is the writing end of the heartbeat: the one kind of descriptor
/// that can be handed over without unsafe code.
fn spawn(settings: &Settings) -> io::Result<(Pid, OwnedFd)> {
    let (beats, pulse) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("dbclaim-agent")
        .args(["supervise", "--fenced"])
        .args(settings.forwarded());
    let child = command.stdin(Stdio::from(pulse)).spawn()?;
    Ok((Pid::from_child(&child), beats))
}

/// Kills whatever is left and waits until no child is.
fn end_everything() -> ExitCode {
    loop {
        if getpid() == Pid::INIT {
            // kill(-1): everything in the container but ourselves.
            let _ = kill_process_group(Pid::INIT, Signal::KILL);
        } else {
            for pid in descendants(getpid()) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        if wait(WaitOptions::empty()).is_err() {
            tracing::info!("stopped");
            return ExitCode::SUCCESS;
        }
    }
}
