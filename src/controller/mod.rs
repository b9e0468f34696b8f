//! Watches, concurrency, shutdown and error policy. It names no engine.

pub mod error;
pub mod events;
mod gather;
pub mod memory;
mod news;
pub mod reconcile;
mod refused;
mod renewal;
mod seen;
mod watches;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{applier, reflector};
use kube::{Client, ResourceExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::Instrument;

use crate::api::v1::{DatabaseClaim, Phase};
use crate::apply::{Fence, Writer};
use crate::issue::Lifetimes;
use crate::lease::Leadership;
use crate::observe::Observer;
use crate::render::Settings;
use crate::telemetry::metrics::{Metrics, Shown};
use error::Error;
use events::Events;
use memory::Memory;
use refused::Refused;
use watches::Watches;

/// How long passes that are under way may take to end after a stop.
const DRAIN: Duration = Duration::from_secs(15);

/// How the controller works.
#[derive(Clone, Debug)]
pub struct Config {
    /// What goes into the rendered objects.
    pub settings: Settings,
    /// Only claims in this namespace; all when absent.
    pub namespace: Option<String>,
    /// Claims that are worked on side by side.
    pub concurrency: u16,
    /// Longest time that one pass may take.
    pub pass_timeout: Duration,
    /// How long the certificates of databases live.
    pub lifetimes: Lifetimes,
    /// How long rotated credentials stay valid after applications were given newer ones.
    pub overlap: Duration,
}

/// What every pass shares.
pub struct Context {
    /// Read side.
    pub observer: Observer,
    /// Write side.
    pub writer: Writer,
    /// Events on claims.
    pub events: Events,
    /// What is remembered between passes.
    pub memory: Memory,
    /// What was refused lately.
    refused: Refused,
    /// What goes into the rendered objects.
    pub settings: Settings,
    /// Number of watches that have been complete once.
    pub synced: tokio::sync::watch::Sender<usize>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether claims are worked on. What is seen before is looked at with the first pass over each claim.
    taken_up: AtomicBool,
    /// The claims as their watch shows them, once it runs.
    claims: OnceLock<Store<DatabaseClaim>>,
    /// Whether this process may work on claims.
    pub leadership: Leadership,
    /// How long certificates live.
    lifetimes: Lifetimes,
    /// How long rotated credentials stay valid.
    overlap: Duration,
    pass_timeout: Duration,
    concurrency: u16,
}

impl Context {
    /// A context with nothing known yet, of a process that is alone.
    pub fn new(client: &Client, config: &Config) -> Self {
        Self::led(client, config, Leadership::always())
    }

    /// A context with nothing known yet, of a process that works and writes only while it leads.
    pub fn led(client: &Client, config: &Config, leadership: Leadership) -> Self {
        Self {
            observer: Observer::new(client.clone()),
            writer: Writer::new(client.clone(), fence(&leadership)),
            events: Events::new(client.clone()),
            memory: Memory::default(),
            refused: Refused::default(),
            settings: config.settings.clone(),
            synced: tokio::sync::watch::Sender::new(0),
            metrics: Arc::default(),
            taken_up: AtomicBool::new(false),
            claims: OnceLock::new(),
            leadership,
            lifetimes: config.lifetimes,
            overlap: config.overlap,
            pass_timeout: config.pass_timeout,
            concurrency: config.concurrency,
        }
    }

    /// The same with a registry that others, such as the client's layer, count in as well.
    #[must_use]
    pub fn with_metrics(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }

    /// The same with a client of its own for what it writes, whose connections ask whether this process leads.
    #[must_use]
    pub fn with_writes(self, client: Client) -> Self {
        Self {
            writer: Writer::new(client.clone(), fence(&self.leadership)),
            events: Events::new(client),
            ..self
        }
    }

    /// Whether every watch has been complete once.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow() == Watches::COUNT
    }

    /// Waits until every watch has been complete once.
    pub async fn complete(&self) {
        let mut synced = self.synced.subscribe();
        // It cannot fail: the sender is in `self`.
        let _ = synced.wait_for(|count| *count == Watches::COUNT).await;
    }

    /// The time of a pass.
    #[expect(clippy::disallowed_methods, reason = "the one clock of the controller")]
    pub fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    /// A new password: 32 letters and digits, about 190 bits. `None` where the kernel has no randomness to give.
    pub fn password(&self) -> Option<String> {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        const LENGTH: usize = 32;
        let mut bytes = [0_u8; LENGTH * 4];
        getrandom::fill(&mut bytes).ok()?;
        // Values beyond the last whole multiple would favour the first letters.
        let fair = bytes
            .iter()
            .map(|byte| usize::from(*byte))
            .filter(|byte| *byte < ALPHABET.len() * 4);
        let letters = fair.filter_map(|byte| ALPHABET.get(byte % ALPHABET.len()));
        let password: String = letters.take(LENGTH).map(|it| char::from(*it)).collect();
        (password.len() == LENGTH).then_some(password)
    }

    /// Whether more claims wait than can be worked on side by side.
    fn is_busy(&self) -> bool {
        self.metrics.waiting() > self.concurrency.into()
    }

    /// A claim as its watch has shown it last, which may be newer than what the queue has handed out.
    fn newest(&self, claim: Arc<DatabaseClaim>) -> Arc<DatabaseClaim> {
        let shown = self
            .claims
            .get()
            .and_then(|it| it.get(&ObjectRef::from_obj(&*claim)));
        shown.filter(|it| it.uid() == claim.uid()).unwrap_or(claim)
    }

    /// The operator's metrics in the Prometheus text format.
    pub fn metrics(&self) -> String {
        let claims = self.claims.get().map(Store::state).unwrap_or_default();
        let phase = |claim: &Arc<DatabaseClaim>| claim.status.as_ref().and_then(|it| it.phase);
        self.metrics.page(Shown {
            phases: claims.iter().map(|it| phase(it).unwrap_or(Phase::Pending)),
            watches_synced: *self.synced.borrow(),
        })
    }
}

/// Open while this process leads.
pub fn fence(leadership: &Leadership) -> Fence {
    let leadership = leadership.clone();
    Arc::new(move || leadership.left())
}

/// Runs until `stop` is cancelled, then finishes what is under way.
pub async fn run(client: Client, config: Config, context: Arc<Context>, stop: CancellationToken) {
    let tracker = TaskTracker::new();
    let (trigger, triggered) = futures::channel::mpsc::unbounded();
    let (store, writer) = reflector::store();
    // Set before only where a test runs one context twice.
    let _ = context.claims.set(store.clone());
    let metrics = context.metrics.clone();
    let watches = Watches {
        client: client.clone(),
        namespace: config.namespace.clone(),
        context: context.clone(),
        trigger,
        tracker: tracker.clone(),
        stop: stop.clone(),
    };
    watches.start();
    drop(watches);
    tracker.close();
    let mut synced = context.synced.subscribe();
    let complete = tokio::select! {
        complete = synced.wait_for(|count| *count == Watches::COUNT) => complete.is_ok(),
        () = stop.cancelled() => false,
    };
    if complete && lead(&context.leadership, &stop).await {
        context.metrics.set_leader(true);
        tracing::info!("watches are complete; claims are taken up");
        context.taken_up.store(true, Ordering::Relaxed);
        let claims = watches::claims(&client, config.namespace.as_deref(), context.clone(), writer);
        // What people ask for is looked at at once.
        let moment = || gather::moment(context.is_busy());
        let queue = futures::stream::select(claims, gather::gathered(triggered, moment))
            .inspect(|claim| metrics.queued(claim.namespace.as_deref().unwrap_or_default(), &claim.name))
            .map(Ok::<_, Infallible>)
            .take_until(stop.clone().cancelled_owned());
        let pace = controller::Config::default().concurrency(config.concurrency);
        let passes =
            applier(pass, error_policy, context.clone(), store, Box::pin(queue), pace).for_each(|result| {
                match result {
                    Ok(_) | Err(controller::Error::ReconcilerFailed(..)) => {}
                    // A claim that went away while it was queued.
                    Err(controller::Error::ObjectNotFound(claim)) => {
                        metrics.taken(claim.namespace.as_deref().unwrap_or_default(), &claim.name);
                    }
                    Err(error) => tracing::warn!(%error, "the queue failed"),
                }
                std::future::ready(())
            });
        // kube's runner never ends when it is stopped before its first list is complete.
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            () = passes => {}
            () = overdue => tracing::warn!("passes did not end within {DRAIN:?}; they are dropped"),
        }
    }
    stop.cancel();
    tracker.wait().await;
}

/// Waits for leadership; `false` when `stop` came first. The watches go on and keep the cache warm.
async fn lead(leadership: &Leadership, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = leadership.acquired() => true,
        () = stop.cancelled() => false,
    }
}

type Pass = futures::future::BoxFuture<'static, Result<Action, Error>>;

/// One pass under a timeout; a panic is an error of this claim alone.
///
/// A task of its own: kube's runner looks at all passes whenever one of them can go on, which with sixteen passes of
/// a dozen requests each is most of what the operator would do. Whoever drops the pass ends the task.
fn pass(claim: Arc<DatabaseClaim>, context: Arc<Context>) -> Pass {
    let limit = context.pass_timeout;
    let metrics = context.metrics.clone();
    let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
    metrics.taken(&namespace, &name);
    // Of the highest level, so that it names the claim in a warning also where only warnings are logged.
    let span = tracing::error_span!(
        "pass",
        namespace,
        claim = name,
        reconcile_id = news::reconcile_id()
    );
    let line = AssertUnwindSafe(reconcile::reconcile(claim, context)).catch_unwind();
    let limited = async move {
        let (started, _running) = (Instant::now(), metrics.begin());
        let result = match tokio::time::timeout(limit, line).await {
            Err(_) => Err(Error::Timeout(limit)),
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => {
                let text = panic.downcast_ref::<&str>().map(ToString::to_string);
                Err(Error::Panicked(
                    text.or_else(|| panic.downcast_ref().cloned()).unwrap_or_default(),
                ))
            }
        };
        metrics.passed(started.elapsed());
        if let Err(error) = &result {
            metrics.failed(error.class().name(), error.label());
            news::failed(error);
        }
        result
    };
    let task = AbortOnDropHandle::new(tokio::spawn(limited.instrument(span)));
    let joined = async {
        task.await
            .unwrap_or_else(|error| Err(Error::Panicked(error.to_string())))
    };
    joined.boxed()
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is kube's")]
fn error_policy(claim: Arc<DatabaseClaim>, error: &Error, context: Arc<Context>) -> Action {
    let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
    let uid = claim.uid().unwrap_or_default();
    let delay = context.memory.back_off(&uid, (&namespace, &name), error.class());
    tracing::debug!(%namespace, claim = %name, ?delay, "the pass is tried again");
    Action::requeue(delay)
}
