//! Watches, concurrency, shutdown and error policy. It names no engine.

mod claims;
pub mod error;
pub mod events;
pub mod memory;
mod news;
mod queue;
mod reconcile;
mod refused;
mod renewal;
mod resolve;
mod seen;
mod watches;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use kube::{Client, ResourceExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::Instrument;

use crate::api::v1::DatabaseClaim;
use crate::apply::{Fence, Writer};
use crate::issue::Lifetimes;
use crate::lease::Leadership;
use crate::observe::Observer;
use crate::observe::cache::ClaimKey;
use crate::render::Settings;
use crate::telemetry::metrics::{Metrics, Shown};
use claims::Claims;
use error::Error;
use events::Events;
use memory::Memory;
use reconcile::Again;
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
    /// What goes into the rendered objects.
    pub settings: Settings,
    /// Number of watches that have been complete once.
    pub synced: tokio::sync::watch::Sender<usize>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether claims are worked on. What is seen before is looked at with the first pass over each claim.
    taken_up: AtomicBool,
    /// The claims as their watch shows them.
    claims: Claims,
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
            settings: config.settings.clone(),
            synced: tokio::sync::watch::Sender::new(0),
            metrics: Arc::default(),
            taken_up: AtomicBool::new(false),
            claims: Claims::default(),
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
        queue::is_crowded(self.metrics.waiting(), self.concurrency.into())
    }

    /// The operator's metrics in the Prometheus text format.
    pub fn metrics(&self) -> String {
        self.metrics.page(Shown {
            phases: self.claims.phases().into_iter(),
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
        let claims = watches::claims(&client, config.namespace.as_deref(), context.clone());
        let named = futures::stream::select(claims, triggered).take_until(stop.clone().cancelled_owned());
        let waiting = |claims| context.metrics.set_waiting(claims);
        let passes = queue::run(named, config.concurrency.into(), waiting, |claim| {
            pass(claim, context.clone())
        });
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

/// One pass over a claim, if it is still there. Returns when it is to be looked at again.
async fn pass(claim: Arc<ClaimKey>, context: Arc<Context>) -> Again {
    let known = context.claims.get(&claim)?;
    let uid = known.uid().unwrap_or_default();
    let result = guarded(known, context.clone()).await;
    if !context.claims.has(&claim, &uid) {
        // What the pass has noted is about a claim that is gone.
        context.memory.forget(&uid);
        return None;
    }
    result.unwrap_or_else(|error| {
        let delay = context.memory.back_off(&uid, error.class());
        tracing::debug!(
            namespace = claim.0,
            claim = claim.1,
            ?delay,
            "the pass is tried again"
        );
        Some(delay)
    })
}

/// A pass under a timeout; a panic is an error of this claim alone.
///
/// A task of its own, so that the queue does not look at all passes whenever one of them can go on. Whoever drops the
/// pass ends the task.
async fn guarded(claim: DatabaseClaim, context: Arc<Context>) -> Result<Again, Error> {
    let limit = context.pass_timeout;
    let metrics = context.metrics.clone();
    // Of the highest level, so that it names the claim in a warning also where only warnings are logged.
    let span = tracing::error_span!(
        "pass",
        namespace = claim.namespace(),
        claim = claim.name_any(),
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
    task.await
        .unwrap_or_else(|error| Err(Error::Panicked(error.to_string())))
}
