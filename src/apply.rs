//! The write side: carries out Steps and writes status. It is the only module that writes to the cluster
//! (besides the lease), and it decides nothing.
//!
//! What was not observed is created by POST; what was observed is applied with its UID in the body, so that an
//! object that was deleted or replaced meanwhile is answered with a conflict instead of being made again.

mod fence;

use std::sync::Arc;
use std::task::Poll;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::{Method, Request};
use kube::Client;
use serde_json::{Map, Value, json};
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::api::v1::DatabaseClaimStatus;
use crate::api::wire::{Meta, MetaOnly};
use crate::api::{API_VERSION, FINALIZER, KIND, manager};
use crate::claim::ClaimId;
use crate::claim::quantity::Bytes;
use crate::plan::Step;
use crate::render::{Kind, Object, Slot};

pub use fence::{Fence, Fenced};

/// The verb of [`Step::Resize`].
pub const RESIZE: &str = "resize";

/// A write failed.
#[derive(Debug, Error)]
pub enum Error {
    /// One step.
    #[error("cannot {verb} {kind} {name}: {source}")]
    Write {
        /// What was attempted.
        verb: &'static str,
        /// Kind.
        kind: &'static str,
        /// Name.
        name: String,
        /// Its place in the claim, where it has one.
        slot: Option<Slot>,
        /// The API client's error.
        source: Box<kube::Error>,
    },
}

/// What the API server answered to a step.
#[derive(Clone, Debug)]
pub enum Written {
    /// An object as it is now; metadata only.
    Object {
        /// Kind.
        kind: Kind,
        /// Its place in the claim; none for a Pod.
        slot: Option<Slot>,
        /// Metadata.
        meta: Box<Meta>,
    },
    /// A Pod whose resources were changed; metadata as they are now.
    Resized {
        /// Metadata.
        meta: Box<Meta>,
        /// The memory that it asks for now.
        memory: Bytes,
    },
    /// Both Secrets as they are now; metadata only.
    Secrets {
        /// The agent's.
        admin: Box<Meta>,
        /// The applications'.
        app: Box<Meta>,
    },
    /// A delete was accepted.
    Deleted {
        /// Kind.
        kind: Kind,
        /// Name.
        name: String,
        /// UID.
        uid: String,
    },
    /// The claim's finalizers were changed: its metadata as they are now, if it is still there.
    Claim(Option<Box<Meta>>),
}

/// The claim as the pass saw it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The claim.
    pub id: &'a ClaimId,
    /// Version that the pass saw.
    pub resource_version: &'a str,
    /// Its finalizers.
    pub finalizers: &'a [String],
}

/// Nothing was sent.
#[derive(Debug, Error)]
#[error("this process does not hold the lease any more; another replica goes on")]
struct Lost;

/// Writes for passes; shared by all of them.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    fence: Fence,
    places: Arc<Semaphore>,
}

/// Writes on their way at once, of all passes together. More of them do not make an API server faster; each would
/// be a connection with its buffers and a handshake of its own.
const AT_ONCE: usize = 32;

impl Writer {
    /// A writer that writes while `fence` says so.
    pub fn new(client: Client, fence: Fence) -> Self {
        Self {
            client,
            fence,
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Carries out one wave of steps, side by side; one that fails does not stop the others.
    pub async fn carry_out(&self, target: Target<'_>, steps: &[Step]) -> Vec<Result<Written, Error>> {
        // Only those that can go on are looked at, which `join_all` does not do for a few.
        let steps: FuturesUnordered<_> = steps.iter().map(|step| self.step(target, step)).collect();
        steps.collect().await
    }

    async fn create(&self, namespace: &str, object: &Object) -> Result<Box<Meta>, Error> {
        let kind = object.slot.kind();
        let url = format!("{}?{MANAGER}", kind.path(namespace));
        let sent = self.send(Method::POST, &url, JSON, &object.body).await;
        sent.map(Box::new)
            .map_err(failed("create", kind, &object.name, Some(object.slot)))
    }

    async fn apply(&self, namespace: &str, object: &Object, uid: &str) -> Result<Written, Error> {
        let kind = object.slot.kind();
        let url = format!("{}/{}?{MANAGER}&force=true", kind.path(namespace), object.name);
        let mut body = object.body.clone();
        insert(&mut body, "uid", json!(uid));
        let sent = self.send(Method::PATCH, &url, APPLY, &body).await;
        let meta = sent.map_err(failed("apply", kind, &object.name, Some(object.slot)))?;
        Ok(Written::Object {
            kind,
            slot: Some(object.slot),
            meta: Box::new(meta),
        })
    }

    async fn resize(
        &self,
        namespace: &str,
        (name, uid): (&str, &str),
        resources: &Value,
    ) -> Result<Box<Meta>, Error> {
        let mut change = resources.clone();
        if let Some(fields) = change.as_object_mut() {
            fields.insert("metadata".to_owned(), json!({"uid": uid}));
        }
        let url = format!("{}/{name}/resize?{MANAGER}", Kind::Pod.path(namespace));
        let sent = self.send(Method::PATCH, &url, STRATEGIC, &change).await;
        sent.map(Box::new).map_err(failed(RESIZE, Kind::Pod, name, None))
    }

    async fn step(&self, target: Target<'_>, step: &Step) -> Result<Written, Error> {
        let namespace = &target.id.namespace;
        match step {
            Step::Create(object) => Ok(Written::Object {
                kind: object.slot.kind(),
                slot: Some(object.slot),
                meta: self.create(namespace, object).await?,
            }),
            Step::CreateSecrets(secrets) => {
                let app = self.create(namespace, &secrets.app).await?;
                // Only beside a binding Secret that is ours and new.
                let admin = self.create(namespace, &secrets.admin).await?;
                Ok(Written::Secrets { admin, app })
            }
            Step::Apply { object, uid } => self.apply(namespace, object, uid).await,
            Step::Label {
                kind,
                name,
                uid,
                label: (key, value),
            } => {
                let change = json!({"metadata": {"uid": uid, "labels": {*key: value}}});
                self.merge(("label", *kind, name), namespace, &change).await
            }
            Step::Annotate {
                kind,
                name,
                uid,
                annotations,
            } => {
                let change = json!({"metadata": {"uid": uid, "annotations": entries(annotations)}});
                self.merge(("annotate", *kind, name), namespace, &change).await
            }
            Step::Resize {
                name,
                uid,
                memory,
                resources,
            } => {
                let meta = self.resize(namespace, (name, uid), resources).await?;
                Ok(Written::Resized {
                    meta,
                    memory: *memory,
                })
            }
            // `allowed_by` has done its work when the planner had to name it.
            Step::Delete {
                kind,
                name,
                uid,
                resource_version,
                allowed_by: _,
            } => {
                self.delete(namespace, *kind, name, (uid, resource_version.as_deref()))
                    .await
            }
            Step::Finalizer { present } => self.finalizer(target, *present).await,
        }
    }

    async fn merge(
        &self,
        (verb, kind, name): (&'static str, Kind, &str),
        namespace: &str,
        change: &Value,
    ) -> Result<Written, Error> {
        let url = format!("{}/{name}?{MANAGER}", kind.path(namespace));
        let sent = self.send(Method::PATCH, &url, MERGE, change).await;
        let meta = Box::new(sent.map_err(failed(verb, kind, name, None))?);
        Ok(Written::Object {
            kind,
            slot: None,
            meta,
        })
    }

    async fn delete(
        &self,
        namespace: &str,
        kind: Kind,
        name: &str,
        (uid, resource_version): (&str, Option<&str>),
    ) -> Result<Written, Error> {
        let url = format!("{}/{name}", kind.path(namespace));
        let mut body = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": {"uid": uid}, "propagationPolicy": "Background",
        });
        if let (Some(version), Some(preconditions)) = (
            resource_version,
            body.get_mut("preconditions").and_then(Value::as_object_mut),
        ) {
            preconditions.insert("resourceVersion".to_owned(), json!(version));
        }
        match self.request::<Value>(Method::DELETE, &url, JSON, &body).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(failed("delete", kind, name, None)(error)),
        }
        Ok(Written::Deleted {
            kind,
            name: name.to_owned(),
            uid: uid.to_owned(),
        })
    }

    async fn finalizer(&self, target: Target<'_>, present: bool) -> Result<Written, Error> {
        let others = target
            .finalizers
            .iter()
            .filter(|it| *it != FINALIZER)
            .map(String::as_str);
        let finalizers: Vec<&str> = others.chain(present.then_some(FINALIZER)).collect();
        let body = json!({"metadata": {
            "uid": target.id.uid, "resourceVersion": target.resource_version, "finalizers": finalizers,
        }});
        let url = format!("{}?{MANAGER}", claim_url(target.id));
        match self.send(Method::PATCH, &url, MERGE, &body).await {
            Err(kube::Error::Api(status)) if !present && status.is_not_found() => Ok(Written::Claim(None)),
            sent => sent
                .map(|meta| Written::Claim(Some(Box::new(meta))))
                .map_err(claim_failed("change the finalizers of", target.id)),
        }
    }

    /// Writes the status; returns the claim's metadata as they are now. A claim that is gone or another one is
    /// never written to, so the answer is as good as a quorum read of it.
    ///
    /// # Errors
    /// When the API server does not take it, also because the claim is gone or another one now.
    pub async fn status(&self, id: &ClaimId, status: &DatabaseClaimStatus) -> Result<Meta, Error> {
        let url = format!(
            "{}/status?fieldManager={}&force=true",
            claim_url(id),
            manager::STATUS
        );
        let body = json!({
            "apiVersion": API_VERSION, "kind": KIND,
            "metadata": {"name": id.name, "namespace": id.namespace, "uid": id.uid},
            "status": status,
        });
        let meta = self.send(Method::PATCH, &url, APPLY, &body).await;
        meta.map_err(claim_failed("write the status of", id))
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        content: &str,
        body: &Value,
    ) -> Result<Meta, kube::Error> {
        self.request::<MetaOnly>(method, url, content, body)
            .await
            .map(|object| object.metadata)
    }

    async fn request<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        url: &str,
        content: &str,
        body: &Value,
    ) -> Result<T, kube::Error> {
        let bytes = serde_json::to_vec(body).map_err(kube::Error::SerdeError)?;
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header(http::header::CONTENT_TYPE, content)
            .header(http::header::ACCEPT, METADATA_ONLY)
            .body(bytes)
            .map_err(kube::Error::HttpError)?;
        // The semaphore is never closed, so there is always a place in the end.
        let _place = self.places.acquire().await;
        let fenced = || kube::Error::Service(Box::new(Lost));
        let allowed = (self.fence)().ok_or_else(fenced)?;
        let mut sent = std::pin::pin!(tokio::time::timeout(allowed, self.client.request(request)));
        // A timeout looks at its timer last. A process that was paused while it connected must look at the fence
        // first, or it would send as soon as it wakes.
        std::future::poll_fn(|cx| match (self.fence)() {
            None => Poll::Ready(Err(fenced())),
            Some(_) => sent
                .as_mut()
                .poll(cx)
                .map(|sent| sent.unwrap_or_else(|_| Err(fenced()))),
        })
        .await
    }
}

const JSON: &str = "application/json";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const MANAGER: &str = "fieldManager=dbclaim";

fn claim_url(id: &ClaimId) -> String {
    format!(
        "/apis/{API_VERSION}/namespaces/{}/databaseclaims/{}",
        id.namespace, id.name
    )
}

fn entries(annotations: &[(&str, String)]) -> Map<String, Value> {
    let entries = annotations.iter();
    entries
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect()
}

fn insert(body: &mut Value, key: &str, value: Value) {
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert(key.to_owned(), value);
    }
}

fn failed(
    verb: &'static str,
    kind: Kind,
    name: &str,
    slot: Option<Slot>,
) -> impl FnOnce(kube::Error) -> Error {
    let name = name.to_owned();
    move |source| Error::Write {
        verb,
        kind: kind.name(),
        name,
        slot,
        source: Box::new(source),
    }
}

fn claim_failed(verb: &'static str, id: &ClaimId) -> impl FnOnce(kube::Error) -> Error {
    let name = id.name.clone();
    move |source| Error::Write {
        verb,
        kind: KIND,
        name,
        slot: None,
        source: Box::new(source),
    }
}
