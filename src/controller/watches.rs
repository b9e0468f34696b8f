//! The watches: they feed the cache and say which claim to look at. No Secret is ever listed or watched.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::channel::mpsc::UnboundedSender;
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::core::NamespaceResourceScope;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::queue::Named;
use super::{Context, claims};
use crate::api::label;
use crate::api::v1::DatabaseClaim;
use crate::observe::cache::{ClaimKey, Listed};
use crate::observe::live::{Live, LiveClaim, Watched};
use crate::render::Kind;

/// Objects in one answer of a list. Of a long list no more is in memory at once, decoded and not.
const PAGE: u32 = 50;

/// Claims to look at.
pub(super) type Trigger = UnboundedSender<Named>;

/// Starts the watches of the claims' objects.
#[derive(Clone)]
pub(super) struct Watches {
    pub(super) client: Client,
    pub(super) namespace: Option<String>,
    pub(super) context: Arc<Context>,
    pub(super) trigger: Trigger,
    pub(super) tracker: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Watches {
    /// All of them, one after the other: what a list needs for a moment would else be needed nine times, and an
    /// allocator keeps the most that was ever needed. Each is complete when [`Context::synced`] has counted it.
    pub(super) fn start(&self) {
        self.watch::<StatefulSet>(0);
        self.watch::<PersistentVolumeClaim>(1);
        self.watch::<Pod>(2);
        self.watch::<EndpointSlice>(3);
        self.watch::<ConfigMap>(4);
        self.watch::<Service>(5);
        self.watch::<ServiceAccount>(6);
        self.watch::<Role>(7);
        self.watch::<RoleBinding>(8);
    }

    /// Number of watches that [`Self::start`] starts.
    pub(super) const COUNT: usize = 9;

    /// Begins when as many are complete as come before it.
    fn watch<K: Watched>(&self, before: usize) {
        let api: Api<Live<K>> = api(&self.client, self.namespace.as_deref());
        let config = watcher::Config::default()
            .labels(&format!("{}={}", label::MANAGED_BY, label::MANAGER))
            .page_size(PAGE);
        let events = watcher(api, config).default_backoff();
        let mut feed = Feed {
            kind: K::KIND,
            watches: self.clone(),
            listed: Listed::default(),
            complete: false,
        };
        let (mut synced, stop) = (self.context.synced.subscribe(), self.stop.clone());
        self.tracker.spawn(async move {
            let turn = async { synced.wait_for(|count| *count >= before).await.is_ok() };
            if stop.run_until_cancelled(turn).await != Some(true) {
                return;
            }
            let mut events = std::pin::pin!(events.take_until(stop.cancelled_owned()));
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => feed.take(event),
                    Err(error) => {
                        tracing::warn!(kind = K::KIND.name(), %error, "the watch failed; it is tried again");
                    }
                }
            }
        });
    }
}

/// One watch on its way into the cache.
struct Feed {
    kind: Kind,
    watches: Watches,
    listed: Listed,
    complete: bool,
}

impl Feed {
    fn take<K: Watched>(&mut self, event: Event<Live<K>>) {
        let cache = &self.watches.context.observer.cache;
        match event {
            Event::Init => self.listed = Listed::default(),
            Event::InitApply(object) => {
                let seen = object.reduce().inspect(|seen| self.listed.name(seen));
                let changed = seen.and_then(|seen| cache.upsert(seen));
                self.look_at(changed);
            }
            Event::InitDone => {
                let changed = cache.complete(self.kind, &std::mem::take(&mut self.listed));
                self.look_at(changed);
                if !std::mem::replace(&mut self.complete, true) {
                    self.watches.context.synced.send_modify(|count| *count += 1);
                }
            }
            Event::Apply(object) => {
                let changed = object.reduce().and_then(|seen| cache.upsert(seen));
                self.look_at(changed);
            }
            Event::Delete(object) => {
                let changed = object.reduce().and_then(|seen| cache.remove(&seen));
                self.look_at(changed);
            }
        }
    }

    fn look_at(&self, changed: impl IntoIterator<Item = ClaimKey>) {
        if !self.watches.context.taken_up.load(Ordering::Relaxed) {
            return;
        }
        for claim in changed {
            // The receiver is gone only when the controller has stopped.
            let _ = self.watches.trigger.unbounded_send(Named::Changed(claim));
        }
    }
}

/// The watch of the claims themselves: keeps [`Context::claims`] and names those that somebody other than us has
/// changed.
pub(super) fn claims(
    client: &Client,
    namespace: Option<&str>,
    context: Arc<Context>,
) -> impl Stream<Item = Named> + Send + use<> {
    let api: Api<LiveClaim> = api(client, namespace);
    let mut listed = BTreeSet::new();
    watcher(api, watcher::Config::default().page_size(PAGE))
        .default_backoff()
        .filter_map(move |event| std::future::ready(take(event, &mut listed, &context)))
}

/// Takes in what the watch of the claims says; `listed` are those that a list has named so far.
fn take(
    event: Result<Event<LiveClaim>, watcher::Error>,
    listed: &mut BTreeSet<ClaimKey>,
    context: &Context,
) -> Option<Named> {
    match event {
        Ok(Event::Init) => listed.clear(),
        Ok(Event::InitApply(claim)) => {
            let claim = claim.into();
            listed.insert(claims::key(&claim));
            return shown(&claim, context);
        }
        Ok(Event::InitDone) => {
            let listed = std::mem::take(listed);
            for key in context.claims.missing_in(&listed) {
                gone(&key, context);
            }
        }
        Ok(Event::Apply(claim)) => return shown(&claim.into(), context),
        Ok(Event::Delete(claim)) => gone(&claims::key(&claim.into()), context),
        Err(error) => {
            tracing::warn!(kind = "DatabaseClaim", %error, "the watch failed; it is tried again");
        }
    }
    None
}

fn shown(claim: &DatabaseClaim, context: &Context) -> Option<Named> {
    if let Some(former) = context.claims.insert(claim) {
        context.memory.forget(&former);
    }
    let (uid, version) = (
        claim.uid().unwrap_or_default(),
        claim.resource_version().unwrap_or_default(),
    );
    (!context.memory.shown(&uid, &version)).then(|| Named::Asked(claims::key(claim)))
}

fn gone(key: &ClaimKey, context: &Context) {
    super::news::deleted(key);
    if let Some(uid) = context.claims.remove(key) {
        context.memory.forget(&uid);
    }
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}
