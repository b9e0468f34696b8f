//! The watches: they feed the cache and say which claim to look at. No Secret is ever listed or watched.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::channel::mpsc::UnboundedSender;
use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, reflector};
use kube::{Api, Client, Resource, ResourceExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Context;
use crate::api::label;
use crate::api::v1::DatabaseClaim;
use crate::observe::cache::{ClaimKey, Listed};
use crate::observe::live::{Live, LiveClaim, Watched};
use crate::render::Kind;

/// Objects in one answer of a list. Of a long list no more is in memory at once, decoded and not.
const PAGE: u32 = 50;

/// Claims to look at.
pub(super) type Trigger = UnboundedSender<ObjectRef<DatabaseClaim>>;

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
        for (namespace, name) in changed {
            // The receiver is gone only when the controller has stopped.
            let _ = self
                .watches
                .trigger
                .unbounded_send(ObjectRef::new(&name).within(&namespace));
        }
    }
}

/// The watch of the claims themselves: fills the store that passes read from, and names the claims that
/// somebody other than us has changed.
pub(super) fn claims(
    client: &Client,
    namespace: Option<&str>,
    context: Arc<Context>,
    writer: reflector::store::Writer<DatabaseClaim>,
) -> impl Stream<Item = ObjectRef<DatabaseClaim>> + Send + use<> {
    let api: Api<LiveClaim> = api(client, namespace);
    watcher(api, watcher::Config::default().page_size(PAGE))
        .default_backoff()
        .map_ok(whole)
        .reflect(writer)
        .filter_map(move |event| {
            let claim = match event {
                Ok(Event::Apply(claim) | Event::InitApply(claim)) => {
                    let (uid, version) = (
                        claim.uid().unwrap_or_default(),
                        claim.resource_version().unwrap_or_default(),
                    );
                    (!context.memory.shown(&uid, &version)).then(|| ObjectRef::from_obj(&claim))
                }
                Ok(Event::Delete(claim)) => {
                    super::news::deleted(&claim);
                    context
                        .memory
                        .forget(&claim.namespace().unwrap_or_default(), &claim.name_any());
                    None
                }
                Ok(Event::Init | Event::InitDone) => None,
                Err(error) => {
                    tracing::warn!(kind = "DatabaseClaim", %error, "the watch failed; it is tried again");
                    None
                }
            };
            std::future::ready(claim)
        })
}

fn whole(event: Event<LiveClaim>) -> Event<DatabaseClaim> {
    match event {
        Event::Apply(claim) => Event::Apply(claim.into()),
        Event::Delete(claim) => Event::Delete(claim.into()),
        Event::Init => Event::Init,
        Event::InitApply(claim) => Event::InitApply(claim.into()),
        Event::InitDone => Event::InitDone,
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
