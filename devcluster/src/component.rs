//! The long-running programs of a cluster: starts them, notices when one dies, and waits with an eye on all.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;

/// How often a state that is waited for is looked at.
const POLL: Duration = Duration::from_millis(50);
/// How much of a log an error message shows.
const LOG_LINES: usize = 12;

/// A program did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("starting {name} failed: {source}")]
    Spawn {
        /// Its name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended although nobody stopped it.
    #[error("{name} ended by itself ({status}); the end of its log:\n{log}")]
    Died {
        /// Its name.
        name: String,
        /// How it ended.
        status: String,
        /// The last lines that it wrote.
        log: String,
    },
    /// A state was not reached in time.
    #[error("waited {} s for {what}, but {seen}", limit.as_secs())]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// What there was instead.
        seen: String,
    },
}

/// All programs that one cluster runs.
#[derive(Debug)]
pub(crate) struct Components {
    logs: PathBuf,
    running: Mutex<Vec<Component>>,
}

#[derive(Debug)]
struct Component {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Components {
    /// None yet; their logs go below `folder`.
    pub(crate) fn new(folder: &Path) -> io::Result<Components> {
        let logs = folder.join("log");
        fs::create_dir_all(&logs)?;
        Ok(Components {
            logs,
            running: Mutex::default(),
        })
    }

    /// Starts a program in a process group of its own: Ctrl-C is for the owner, which then stops them in order.
    pub(crate) fn spawn(&self, name: &str, command: Command) -> Result<(), Error> {
        let failed = |source| Error::Spawn {
            name: name.to_owned(),
            source,
        };
        let log = self.logs.join(format!("{name}.log"));
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(failed)?;
        let mut command = tokio::process::Command::from(command);
        command
            .stdin(Stdio::null())
            .stderr(output.try_clone().map_err(failed)?)
            .stdout(output)
            .process_group(0);
        let child = command.spawn().map_err(failed)?;
        self.lock().push(Component {
            name: name.to_owned(),
            child,
            log,
        });
        Ok(())
    }

    /// Tries until `probe` has a result. Fails when a program dies meanwhile or it takes longer than `limit`; what
    /// the last try said is then part of the message.
    pub(crate) async fn until<T, F>(
        &self,
        what: &str,
        limit: Duration,
        mut probe: impl FnMut() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, String>>,
    {
        let deadline = Instant::now() + limit;
        loop {
            let seen = match tokio::time::timeout(limit, probe()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(seen)) => seen,
                Err(_) => "the last look did not come back".to_owned(),
            };
            self.check()?;
            if Instant::now() > deadline {
                return Err(Error::Late {
                    what: what.to_owned(),
                    limit,
                    seen,
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Fails when a program has ended.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for Component { name, child, log } in self.lock().iter_mut() {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(Error::Died {
                    name: name.clone(),
                    status: status.to_string(),
                    log: tail(log),
                });
            }
        }
        Ok(())
    }

    /// Collects all programs after they were killed, so that no zombies stay.
    pub(crate) async fn reap(&self) {
        self.give_up("").reap().await;
    }

    /// SIGKILLs the programs whose name starts with `prefix`, each with its process group, and waits until they are
    /// gone.
    pub(crate) async fn kill(&self, prefix: &str) {
        let dying = self.give_up(prefix);
        for component in &dying.0 {
            // `None` once it was waited for, so that no recycled id is ever hit.
            let group = component.child.id().and_then(|id| i32::try_from(id).ok());
            if let Some(group) = group.and_then(Pid::from_raw) {
                // The only error is that it has ended already.
                let _ = kill_process_group(group, Signal::KILL);
            }
        }
        dying.reap().await;
    }

    /// Takes the programs whose name starts with `prefix` out of the watch, because they are about to be killed.
    pub(crate) fn give_up(&self, prefix: &str) -> Dying {
        let mut running = self.lock();
        let (dying, stay) = std::mem::take(&mut *running)
            .into_iter()
            .partition(|component| component.name.starts_with(prefix));
        *running = stay;
        Dying(dying)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Component>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Programs that are about to be killed.
#[derive(Debug)]
pub(crate) struct Dying(Vec<Component>);

impl Dying {
    /// Waits until they are gone.
    pub(crate) async fn reap(self) {
        for mut component in self.0 {
            // The only error is that somebody else has collected it.
            let _ = component.child.wait().await;
        }
    }
}

fn tail(log: &Path) -> String {
    let content = fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let lines: Vec<_> = content.lines().collect();
    lines
        .get(lines.len().saturating_sub(LOG_LINES)..)
        .unwrap_or_default()
        .join("\n")
}
