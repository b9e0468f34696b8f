//! An engine that runs: brought to what is wanted, tested, watched.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::time::{interval, sleep};

use super::life::now;
use super::probe::Failure;
use super::{Context, certify};
use crate::agent::engine::{Configured, Engine, EngineError, Settled, Wanted};
use crate::agent::files::Mounted;
use crate::agent::process::Process;
use crate::agent::volume::State;
use crate::api::condition::reason;
use crate::api::protocol::{Credentials, MemberPhase, Trouble, WriteTest};

const PERIOD: Duration = Duration::from_secs(1);
const WRITE_TEST: Duration = Duration::from_secs(60);
/// How often the certificate that clients get to see is looked at, though nothing has changed but the time.
const CERTIFICATE: Duration = Duration::from_secs(60);
/// How long what failed is left alone.
const RETRY: Duration = Duration::from_secs(5);
/// How long the engine may refuse connections, other than by starting up, before that is trouble.
const UNREACHABLE: Duration = Duration::from_secs(30);

/// How the process became ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// By birth: it has read the configuration as it is now.
    Started,
    /// Found running: nobody knows what it has read.
    Adopted,
}

/// Operates until dropped.
pub(super) async fn operate(
    context: &Context,
    files: &mut Mounted,
    engine: &Engine,
    process: &Process,
    origin: Origin,
) -> Infallible {
    let version = accepting(context, engine).await;
    context.board.update(|report| report.version = Some(version));
    let state = context.volume.state();
    context
        .board
        .update(|report| report.applied.credentials = state.credentials);
    let now = Instant::now();
    let mut work = Work {
        context,
        files,
        engine,
        process,
        state,
        waiting_told: false,
        unsettled: None,
        warned: None,
        admitted: false,
        problems: [None, None, None],
        settle: Some(now),
        configure: Some(now),
        certify: now,
        loaded: origin == Origin::Started,
        write_test: now,
    };
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        work.tick().await;
    }
}

/// Waits until connections are accepted; returns the engine's version.
async fn accepting(context: &Context, engine: &Engine) -> String {
    let (begun, mut pause) = (Instant::now(), Duration::from_millis(20));
    loop {
        match engine.version().await {
            Ok(version) => return version,
            Err(EngineError::StartingUp(_)) => context.board.progress(MemberPhase::Recovering),
            Err(error) if begun.elapsed() > UNREACHABLE => {
                context
                    .board
                    .trouble(MemberPhase::Recovering, unreachable(error.to_string()));
            }
            Err(_) => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

struct Work<'a> {
    context: &'a Context,
    files: &'a mut Mounted,
    engine: &'a Engine,
    process: &'a Process,
    state: State,
    waiting_told: bool,
    /// Why the application could not be set up, as it was said last.
    unsettled: Option<String>,
    /// What was last said about the second login.
    warned: Option<String>,
    /// Nothing kept an application out when that was last looked at.
    admitted: bool,
    /// What was last said about the files.
    problems: [Option<String>; 3],
    /// When to settle next; `None`: when there are credentials.
    settle: Option<Instant>,
    /// When to look at the configuration next; `None`: done.
    configure: Option<Instant>,
    /// The engine has read the files since they last changed.
    loaded: bool,
    /// When to look at the certificate next.
    certify: Instant,
    write_test: Instant,
}

impl Work<'_> {
    async fn tick(&mut self) {
        let now = Instant::now();
        let generation = self.files.member.get().map(|config| config.generation.clone());
        if self.files.member.refresh()
            && self.files.member.get().map(|config| &config.generation) != generation.as_ref()
        {
            (self.configure, self.loaded, self.write_test) = (Some(now), false, now);
            self.certify = now;
        }
        if self.files.credentials.refresh() {
            self.settle = Some(now);
        }
        if self.files.certificate.refresh() {
            self.certify = now;
        }
        self.tell_problems();
        if self.settle.is_some_and(|due| now >= due) {
            self.settle().await;
        }
        if now >= self.certify {
            self.certify().await;
        }
        if self.configure.is_some_and(|due| now >= due) {
            self.configure().await;
        }
        if now >= self.write_test {
            self.test_write().await;
            self.write_test = Instant::now() + WRITE_TEST;
        }
        if let Some((size, used)) = self.context.volume.usage() {
            self.context.board.disk(size, used);
        }
        self.show_phase().await;
    }

    /// Once for each: a file that cannot be used changes nothing, but somebody may wonder why.
    fn tell_problems(&mut self) {
        let problems = [
            self.files.member.problem(),
            self.files.credentials.problem(),
            self.files.certificate.problem(),
        ];
        let problems = problems.map(|problem| problem.map(str::to_owned));
        for (told, problem) in self.problems.iter_mut().zip(problems) {
            if *told != problem {
                if let Some(problem) = &problem {
                    tracing::warn!(problem, "file not usable, what is in force stays");
                }
                *told = problem;
            }
        }
    }

    async fn settle(&mut self) {
        let Some(config) = self.files.member.get() else {
            return;
        };
        let looked = now();
        let wanted = Wanted {
            database: &config.database,
            username: &config.username,
            credentials: self.files.credentials.get(),
            in_force: self.state.credentials,
            settled: self.state.settled,
            may_create: self.state.may_create,
            known_database: self.state.database,
            now: looked,
        };
        let settled = match self.engine.settle(&wanted).await {
            Ok(settled) => settled,
            Err(error) => {
                let error = Some(error.to_string());
                if self.unsettled != error {
                    tracing::error!(error, "application not set up, trying again");
                    self.unsettled = error;
                }
                self.settle = Some(Instant::now() + RETRY);
                return;
            }
        };
        (self.settle, self.unsettled) = (None, None);
        if settled.credentials == 0 {
            if !self.waiting_told {
                tracing::info!("waiting for credentials");
                self.waiting_told = true;
            }
            return;
        }
        self.settle = Some(Instant::now() + self.context.settings.check());
        self.remember(&settled);
        self.tell(&settled);
        let given = self.files.credentials.get();
        let given = given.filter(|it| it.generation == settled.credentials);
        let until = given.and_then(Credentials::previous_until);
        // Those before end then; what is already over was ended just now.
        if let Some(ends) = until.filter(|until| looked < *until).and_then(ends) {
            self.settle = self.settle.map(|it| it.min(ends));
        }
        self.context.board.update(|report| {
            report.applied.credentials = settled.credentials;
            report.applied.previous_until = until;
        });
    }

    /// Keeps on the volume what the next agent has to know.
    fn remember(&mut self, settled: &Settled) {
        // Without a look at the catalogue as the new credentials have it, the right was not given.
        let given = self
            .files
            .credentials
            .get()
            .is_some_and(|it| it.generation == settled.credentials);
        let state = State {
            credentials: settled.credentials,
            settled: true,
            may_create: self.state.may_create || given,
            database: settled.database.or(self.state.database),
            ..self.state.clone()
        };
        if state == self.state {
            return;
        }
        tracing::info!(credentials = settled.credentials, "application set up");
        if let Err(error) = self.context.volume.write_state(&state) {
            tracing::error!(%error, "state not written, trying again");
            self.settle = Some(Instant::now() + RETRY);
        }
        if self.state.database.is_some() && state.database != self.state.database {
            tracing::warn!("the application's database is another one than before");
            self.configure = Some(Instant::now());
        }
        self.state = state;
    }

    /// Says what keeps an application out, and what was found and set right.
    fn tell(&mut self, settled: &Settled) {
        let warning = settled.warning.as_ref().map(ToString::to_string);
        if let Some(warning) = warning.as_ref().filter(|it| self.warned.as_ref() != Some(*it)) {
            tracing::warn!(warning, "second login not like the first, trying again");
        }
        self.warned = warning;
        let at = settled.password_set_back.then(|| format!("{:.0}", now()));
        if at.is_some() {
            tracing::warn!(
                "the application's password was changed inside the database; set back to the Secret's"
            );
        }
        let mut access = settled.access.clone();
        if access.is_some() {
            self.settle = Some(Instant::now() + RETRY);
        }
        let dropped = |it: &Trouble| it.reason == reason::DATABASE_MISSING;
        if self.admitted && access.as_ref().is_some_and(dropped) {
            // A tool that drops its database creates it the next moment; the second look tells.
            access = None;
            self.admitted = false;
        } else {
            self.admitted = access.is_none();
        }
        let before = self.context.board.report().access;
        if before != access {
            let (reason, message) = access.as_ref().map(|it| (&*it.reason, &*it.message)).unzip();
            tracing::warn!(reason, message, "whether an application is let in");
        }
        self.context.board.update(|report| {
            report.access = access;
            report.password_set_back = at.or_else(|| report.password_set_back.take());
        });
    }

    async fn certify(&mut self) {
        let files = &self.files;
        let (given, problem) = (files.certificate.get(), files.certificate.problem());
        let host = files.member.get().map_or("", |config| &config.host);
        match certify::certify(self.engine, self.process, given, problem, host).await {
            Ok((report, told)) => {
                if told {
                    tracing::info!(certificate = report.certificate, "certificate");
                    // What was refused for want of TLS is read anew.
                    self.configure = Some(Instant::now());
                }
                let before = self.context.board.report().tls.and_then(|it| it.trouble);
                if let Some(problem) = report.trouble.as_ref().filter(|it| before.as_ref() != Some(*it)) {
                    tracing::warn!(problem, "certificate not as it should be");
                }
                let wait = if report.trouble.is_some() {
                    RETRY
                } else {
                    CERTIFICATE
                };
                self.certify = Instant::now() + wait;
                self.context.board.update(|it| it.tls = Some(report));
            }
            Err(error) => {
                tracing::error!(%error, "certificate not looked at, trying again");
                self.certify = Instant::now() + RETRY;
            }
        }
    }

    async fn configure(&mut self) {
        let Some(generation) = self.files.member.get().map(|config| config.generation.clone()) else {
            return;
        };
        let configured = if self.loaded {
            self.engine.configured().await
        } else {
            self.engine.reload(self.process).await
        };
        let Configured {
            pending_restart,
            errors,
        } = match configured {
            Ok(configured) => configured,
            Err(error) => {
                tracing::error!(%error, "configuration not checked, trying again");
                self.configure = Some(Instant::now() + RETRY);
                return;
            }
        };
        (self.configure, self.loaded) = (None, true);
        tracing::info!(generation, ?pending_restart, ?errors, "configuration read");
        let trouble = if errors.is_empty() {
            self.extend().await
        } else {
            Some(Trouble {
                reason: "ConfigInvalid".into(),
                message: format!("the engine keeps its old configuration: {}", errors.join("; ")),
            })
        };
        self.context.board.update(|report| {
            report.pending_restart = pending_restart;
            if trouble.is_none() {
                report.applied.config = generation;
            }
            report.trouble = trouble;
        });
    }

    /// Creates what is missing of the extensions; what stands in the way of it, and tries again.
    async fn extend(&mut self) -> Option<Trouble> {
        let config = self.files.member.get()?;
        if config.extensions.is_empty() {
            return None;
        }
        if !self.state.settled {
            // There is no database yet to create them in.
            self.configure = Some(Instant::now() + RETRY);
            return None;
        }
        let error = self
            .engine
            .extend(&config.database, &config.extensions)
            .await
            .err()?;
        tracing::error!(%error, "extensions not created, trying again");
        self.configure = Some(Instant::now() + RETRY);
        Some(Trouble {
            reason: "ExtensionFailed".into(),
            message: format!("the extensions are not all there: {error}"),
        })
    }

    async fn test_write(&mut self) {
        let outcome = match self.engine.write_test().await {
            Ok(()) => WriteTest {
                ok: true,
                message: None,
            },
            Err(error) => WriteTest {
                ok: false,
                message: Some(error.to_string()),
            },
        };
        let before = self.context.board.report().write_test;
        if before.as_ref() != Some(&outcome) {
            tracing::info!(ok = outcome.ok, error = outcome.message, "write test");
        }
        self.context
            .board
            .update(|report| report.write_test = Some(outcome));
    }

    /// Running as long as it answers; a crash of one backend makes the engine recover without ending.
    async fn show_phase(&mut self) {
        let answer = self.context.probe.ping(self.engine).await;
        let is_unreachable = |it: &Trouble| it.reason == reason::ENGINE_UNREACHABLE;
        if answer.is_ok()
            && self
                .context
                .board
                .report()
                .trouble
                .as_ref()
                .is_some_and(is_unreachable)
        {
            // What was wrong before may still be.
            self.context.board.update(|report| report.trouble = None);
            self.configure = Some(Instant::now());
        }
        self.context.board.update(|report| {
            report.phase = match (&answer, self.state.settled) {
                (Ok(()), true) => MemberPhase::Running,
                (Ok(()), false) => MemberPhase::Starting,
                (Err(_), _) => MemberPhase::Recovering,
            };
            if let Err(Failure {
                message,
                silent: true,
            }) = answer
            {
                report.trouble = Some(unreachable(message));
            }
        });
    }
}

fn unreachable(message: String) -> Trouble {
    Trouble {
        reason: reason::ENGINE_UNREACHABLE.into(),
        message,
    }
}

/// When the credentials before end; at once where that was while the engine looked.
fn ends(until: Timestamp) -> Option<Instant> {
    let left = Duration::try_from(until.duration_since(now())).unwrap_or_default();
    Instant::now().checked_add(left)
}
