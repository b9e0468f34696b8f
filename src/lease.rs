//! Leader election by a `coordination.k8s.io/v1` Lease: one process works, the others stand by. It knows nothing
//! of claims.
//!
//! - Every write carries the `resourceVersion` of what was seen, or is a POST where nothing was seen: of two
//!   candidates one gets a conflict.
//! - Clocks of different machines are never compared. A candidate takes the Lease only after it has seen the same
//!   version for the holder's whole term by its own clock; the times in the Lease are for people.
//! - The holder counts from the *start* of its last good renewal, and stops [`Terms::margin`] earlier than any
//!   candidate can begin.
//! - The clock goes on while the machine sleeps, and while the process is stopped.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Leadership is over, or never began.
#[derive(Debug, Error)]
pub enum Error {
    /// No renewal was answered in time, or the process was stopped for too long.
    #[error("the lease {0} ran out before it was renewed; another replica may lead now")]
    Expired(String),
    /// Somebody else holds it.
    #[error("the lease {0} is held by {1} now")]
    Taken(String, String),
    /// Without randomness, a restarted process would be taken for the one before it.
    #[error("the kernel gives no randomness for the holder's identity: {0}")]
    Randomness(getrandom::Error),
}

/// The times of an election.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long candidates wait for a holder that is silent; whole seconds.
    pub duration: Duration,
    /// How much earlier the holder stops by itself: what it has sent is over when another one begins.
    pub margin: Duration,
    /// From one renewal to the next.
    pub renew: Duration,
    /// Longest time that one request may take; shorter than `renew`.
    pub attempt: Duration,
    /// Pause after a request that failed.
    pub retry: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            margin: Duration::from_secs(2),
            renew: Duration::from_secs(5),
            attempt: Duration::from_secs(4),
            retry: Duration::from_secs(1),
        }
    }
}

/// Whether this process leads. Cheap to ask; all clones say the same.
#[derive(Clone, Debug)]
pub struct Leadership {
    /// Until when, by [`now`].
    until: Arc<watch::Sender<Duration>>,
}

impl Leadership {
    /// For a process that is alone.
    pub fn always() -> Self {
        Self {
            until: Arc::new(watch::Sender::new(Duration::MAX)),
        }
    }

    fn never() -> Self {
        Self {
            until: Arc::new(watch::Sender::new(Duration::ZERO)),
        }
    }

    /// Whether the lease is held at this moment. Asked before each write; no request, one read of the clock.
    pub fn still_held(&self) -> bool {
        self.left().is_some()
    }

    /// How long the lease is held from now without another renewal; `None` when it is not.
    pub fn left(&self) -> Option<Duration> {
        let until = *self.until.borrow();
        until.checked_sub(now()).filter(|left| !left.is_zero())
    }

    /// Waits until the lease is held.
    pub async fn acquired(&self) {
        // It cannot fail: the sender is `self`.
        let _ = self.until.subscribe().wait_for(|until| !until.is_zero()).await;
    }

    fn hold(&self, begun: Duration, terms: Terms) {
        self.until
            .send_replace(begun + terms.duration.saturating_sub(terms.margin));
    }

    fn end(&self) {
        self.until.send_replace(Duration::ZERO);
    }
}

/// Time since the machine was started, also while it slept. Of no meaning to other machines.
fn now() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(clock);
    // Neither part is ever negative.
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// The Lease as it was seen last, and since when it has been like that.
#[derive(Debug, Default)]
struct Sight {
    lease: Option<Lease>,
    /// It was deleted after it was seen. Its holder may not know yet, so its term still counts.
    gone: bool,
    since: Duration,
}

impl Sight {
    fn look(&mut self, found: Option<Lease>) {
        self.gone = found.is_none();
        if let Some(found) = found {
            let version = self.lease.as_ref().and_then(ResourceExt::resource_version);
            if version != found.resource_version() {
                self.since = now();
            }
            self.lease = Some(found);
        }
    }

    /// How long the holder may still be at work; zero when the Lease may be taken.
    fn taken_for(&self, me: &str, terms: Terms) -> Duration {
        let Some(spec) = self.lease.as_ref().and_then(|it| it.spec.as_ref()) else {
            return Duration::ZERO;
        };
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || holder == me {
            return Duration::ZERO;
        }
        let promised = spec.lease_duration_seconds.and_then(|it| u64::try_from(it).ok());
        let term = promised.map_or(terms.duration, Duration::from_secs);
        (self.since + term).saturating_sub(now())
    }
}

/// A candidate for one Lease, and its holder once it has won.
#[derive(Debug)]
pub struct Elector {
    leases: Api<Lease>,
    name: String,
    holder: String,
    terms: Terms,
    leadership: Leadership,
}

impl Elector {
    /// A candidate. `host` is the Pod's name; the identity is made unique, so that a restarted container is
    /// another holder than the one before it.
    ///
    /// # Errors
    /// When the kernel has no randomness to give.
    pub fn new(client: Client, namespace: &str, name: &str, host: &str, terms: Terms) -> Result<Self, Error> {
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random).map_err(Error::Randomness)?;
        Ok(Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            holder: format!("{host}_{:016x}", u64::from_ne_bytes(random)),
            terms,
            leadership: Leadership::never(),
        })
    }

    /// Says whether this candidate has won.
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// The identity in the Lease.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Campaigns, holds the Lease, and gives it back when `done` is cancelled.
    ///
    /// # Errors
    /// When leadership is lost. [`Leadership`] is over by then, and the process should end at once: only a new
    /// process knows nothing of what this one was about to do.
    pub async fn run(self, done: CancellationToken) -> Result<(), Error> {
        let Some(mut version) = self.campaign(&done).await else {
            return Ok(());
        };
        tracing::info!(lease = self.name, holder = self.holder, "this replica leads");
        let outcome = self.hold(&mut version, &done).await;
        self.leadership.end();
        outcome?;
        match self.release(&mut version).await {
            Ok(()) => tracing::info!(lease = self.name, "the lease is released"),
            // It runs out by itself.
            Err(error) => tracing::warn!(lease = self.name, %error, "the lease could not be released"),
        }
        Ok(())
    }

    /// Until the Lease is ours; its version then. `None` when `done` came first, which never interrupts a write.
    async fn campaign(&self, done: &CancellationToken) -> Option<String> {
        let mut sight = Sight::default();
        while !done.is_cancelled() {
            let pause = async {
                match self.attempt(&mut sight).await {
                    Ok(Some(version)) => return Some(version),
                    Ok(None) => {
                        let _ = done.run_until_cancelled(self.stand_by(&mut sight)).await;
                    }
                    Err(error) => {
                        tracing::warn!(lease = self.name, %error, "the lease could not be had; it is tried again");
                        let _ = done.run_until_cancelled(sleep(self.terms.retry)).await;
                    }
                }
                None
            };
            if let Some(version) = pause.await {
                return Some(version);
            }
        }
        None
    }

    /// Looks, and takes the Lease when nobody holds it.
    async fn attempt(&self, sight: &mut Sight) -> Result<Option<String>, kube::Error> {
        sight.look(self.limited(self.leases.get_opt(&self.name)).await?);
        if !sight.taken_for(&self.holder, self.terms).is_zero() {
            return Ok(None);
        }
        let begun = now();
        let seen = sight.lease.as_ref().filter(|_| !sight.gone);
        let before = seen
            .and_then(|it| it.spec.as_ref()?.lease_transitions)
            .unwrap_or_default();
        let time = clock();
        let spec = LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: Some(seconds(self.terms.duration)),
            acquire_time: Some(time.clone()),
            renew_time: Some(time),
            lease_transitions: Some(before.saturating_add(1)),
            ..LeaseSpec::default()
        };
        let taken = match seen.and_then(ResourceExt::resource_version) {
            Some(version) => self.write(&version, &spec).await,
            None => self.create(spec).await,
        };
        let taken = match taken {
            // Somebody was faster. Looking again says who.
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(None),
            taken => taken?,
        };
        self.leadership.hold(begun, self.terms);
        Ok(Some(taken))
    }

    /// Waits until it is worth looking again: the Lease is free, or its holder has been silent for its term.
    ///
    /// The watch only saves time. Were it to miss something, the next write would get a conflict.
    async fn stand_by(&self, sight: &mut Sight) {
        let version = sight.lease.as_ref().and_then(ResourceExt::resource_version);
        let only = WatchParams::default().fields(&format!("metadata.name={}", self.name));
        let version = version.unwrap_or_default();
        let Ok(events) = self.limited(self.leases.watch(&only, &version)).await else {
            return sleep(self.terms.retry).await;
        };
        let mut events = std::pin::pin!(events);
        loop {
            let wait = sight.taken_for(&self.holder, self.terms);
            if wait.is_zero() {
                return;
            }
            tokio::select! {
                () = sleep(wait) => {}
                event = events.next() => match event {
                    Some(Ok(WatchEvent::Added(lease) | WatchEvent::Modified(lease))) => sight.look(Some(lease)),
                    Some(Ok(WatchEvent::Deleted(_))) => sight.look(None),
                    Some(Ok(WatchEvent::Bookmark(_))) => {}
                    // It ended, or the version is too old to begin from.
                    Some(Ok(WatchEvent::Error(_)) | Err(_)) | None => return sleep(self.terms.retry).await,
                },
            }
        }
    }

    /// Renews until `done`.
    async fn hold(&self, version: &mut String, done: &CancellationToken) -> Result<(), Error> {
        let mut pause = self.terms.renew;
        loop {
            let expired = || Error::Expired(self.name.clone());
            let left = self.leadership.left().ok_or_else(expired)?;
            tokio::select! {
                () = sleep(pause.min(left)) => {}
                () = done.cancelled() => return self.leadership.left().map(|_| ()).ok_or_else(expired),
            }
            // A process that was stopped finds out here, and sends nothing.
            let left = self.leadership.left().ok_or_else(expired)?;
            let begun = now();
            let renewed = tokio::time::timeout(left, self.renew(version)).await;
            pause = self.terms.retry;
            match renewed {
                Ok(Ok(None)) => {
                    self.leadership.hold(begun, self.terms);
                    pause = self.terms.renew;
                }
                Ok(Ok(Some(other))) => return Err(Error::Taken(self.name.clone(), other)),
                Ok(Err(error)) => tracing::warn!(lease = self.name, %error, "the lease was not renewed"),
                Err(_) => tracing::warn!(lease = self.name, "the lease was not renewed in time"),
            }
        }
    }

    /// One renewal; the holder's name where that is somebody else.
    async fn renew(&self, version: &mut String) -> Result<Option<String>, kube::Error> {
        let spec = LeaseSpec {
            renew_time: Some(clock()),
            ..LeaseSpec::default()
        };
        self.change(version, &spec).await
    }

    /// Gives the Lease back, so that a candidate need not wait.
    async fn release(&self, version: &mut String) -> Result<(), kube::Error> {
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            renew_time: Some(clock()),
            ..LeaseSpec::default()
        };
        // Held by somebody else it needs no release.
        self.change(version, &spec).await.map(|_| ())
    }

    /// Writes while the Lease is ours. A conflict may be the echo of our own write whose answer was lost: then
    /// the Lease still names us.
    async fn change(&self, version: &mut String, spec: &LeaseSpec) -> Result<Option<String>, kube::Error> {
        match self.write(version, spec).await {
            Err(kube::Error::Api(status)) if status.code == 409 || status.is_not_found() => {}
            written => {
                *version = written?;
                return Ok(None);
            }
        }
        let found = self.limited(self.leases.get_opt(&self.name)).await?;
        let holder = found
            .as_ref()
            .and_then(|it| it.spec.as_ref()?.holder_identity.clone());
        match found.and_then(|it| it.resource_version()) {
            Some(found) if holder.as_ref() == Some(&self.holder) => {
                *version = self.write(&found, spec).await?;
                Ok(None)
            }
            _ => Ok(Some(
                holder
                    .filter(|it| !it.is_empty())
                    .unwrap_or_else(|| "nobody".into()),
            )),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the lease is the one write besides apply"
    )]
    async fn write(&self, version: &str, spec: &LeaseSpec) -> Result<String, kube::Error> {
        let body = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "spec": spec}));
        let parameters = PatchParams::default();
        let sent = self.leases.patch(&self.name, &parameters, &body);
        let lease = self.limited(sent).await?;
        Ok(lease.resource_version().unwrap_or_default())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the lease is the one write besides apply"
    )]
    async fn create(&self, spec: LeaseSpec) -> Result<String, kube::Error> {
        let mut lease = Lease {
            spec: Some(spec),
            ..Lease::default()
        };
        lease.metadata.name = Some(self.name.clone());
        let parameters = PostParams::default();
        let lease = self.limited(self.leases.create(&parameters, &lease)).await?;
        Ok(lease.resource_version().unwrap_or_default())
    }

    async fn limited<T>(
        &self,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, kube::Error> {
        match tokio::time::timeout(self.terms.attempt, request).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(kube::Error::Service(elapsed.into())),
        }
    }
}

/// For people who read the Lease.
#[expect(clippy::disallowed_methods, reason = "nothing is decided by this time")]
fn clock() -> MicroTime {
    MicroTime(jiff::Timestamp::now())
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs().max(1)).unwrap_or(i32::MAX)
}
