//! Persistent volumes for the local cluster: a small external provisioner and resizer.
//!
//! Every volume is a folder on this machine, offered as a `local` volume of the node that the scheduler
//! chose. (`hostPath` would be simpler and would ignore `fsGroup`.) All nodes see the same file system, so
//! nothing has to run on them. Nothing enforces a volume's size, but in the sized class: there, each folder is a
//! file system of its own in memory, which is full when it is full. In the volatile class each folder is an overlay on
//! another one, for which nobody waits for the disk.
//!
//! `decide` says what a claim needs, `folder` touches the disk, `grow` and this file write to the cluster.

mod decide;
mod folder;
mod grow;

use std::future::{Ready, ready};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use decide::Step;

/// The default storage class: volumes can grow, and are bound to the node of their first Pod.
pub const CLASS: &str = "devcluster";

/// A storage class like the default one, but its volumes cannot grow.
pub const FIXED_CLASS: &str = "devcluster-fixed";

/// A storage class whose volumes have the size that was asked for, and not a byte more: file systems in memory,
/// lost when the cluster stops. They can grow.
pub const SIZED_CLASS: &str = "devcluster-sized";

/// A storage class like the default one, whose volumes reach the disk when the kernel writes them, and not when a
/// program waits for that: for what starts many databases and never cuts the power. Where the disk of this machine
/// cannot do so, it is the default one.
pub const VOLATILE_CLASS: &str = "devcluster-volatile";

/// An annotation of a persistent volume that must not grow, as where the storage behind it is full.
pub const FULL: &str = "devcluster.local/full";

/// What this provisioner is called in storage classes and annotations.
pub const PROVISIONER: &str = "devcluster.local/volumes";

/// How long to wait after something failed. Short, because someone is waiting in front of a terminal.
const RETRY: Duration = Duration::from_secs(1);

/// Makes, grows and removes the volumes of one cluster.
#[derive(Debug)]
pub struct Provisioner;

impl Provisioner {
    /// Creates the storage classes, then serves claims until `shutdown` is cancelled.
    ///
    /// Volumes become folders `<volumes>/<node>/<volume name>`; nothing outside `volumes`, which has to be
    /// an absolute path, is ever touched. Failures are reported as events on the claim, logged, and retried.
    #[must_use = "the task runs until `shutdown` is cancelled and should be awaited then"]
    pub fn spawn(client: Client, volumes: PathBuf, shutdown: CancellationToken) -> JoinHandle<()> {
        tokio::spawn(run(client, volumes, shutdown))
    }
}

/// Why a claim or a volume could not be served.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("could not read node {node:?}")]
    ReadNode {
        node: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("could not write storage class {class:?}")]
    WriteClass {
        class: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("could not {action} volume {volume:?}")]
    Volume {
        action: &'static str,
        volume: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("could not write the status of claim {claim:?}")]
    ClaimStatus {
        claim: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Folder(#[from] folder::Error),
}

/// What both controllers share.
struct Context {
    client: Client,
    volumes: PathBuf,
    recorder: Recorder,
}

async fn run(client: Client, volumes: PathBuf, shutdown: CancellationToken) {
    if shutdown
        .run_until_cancelled(create_classes(&client))
        .await
        .is_none()
    {
        return;
    }
    let reporter = Reporter {
        controller: PROVISIONER.into(),
        instance: None,
    };
    let recorder = Recorder::new(client.clone(), reporter);
    let context = Arc::new(Context {
        client: client.clone(),
        volumes,
        recorder,
    });
    let claims = Controller::new(
        Api::<PersistentVolumeClaim>::all(client.clone()),
        watcher::Config::default(),
    )
    .graceful_shutdown_on(shutdown.clone().cancelled_owned())
    .run(serve_claim, |_, _, _| Action::requeue(RETRY), context.clone())
    .for_each(|outcome| log("claim", outcome));
    let volumes = Controller::new(Api::<PersistentVolume>::all(client), watcher::Config::default())
        .run(serve_volume, |_, _, _| Action::requeue(RETRY), context)
        .for_each(|outcome| log("volume", outcome));
    // Not `graceful_shutdown_on`: with kube 5.0 a controller that is stopped before its first list never
    // ends. Every pass can be dropped anywhere and repeated.
    shutdown
        .run_until_cancelled(futures::future::join(claims, volumes))
        .await;
}

fn log<T>(kind: &str, outcome: Result<T, controller::Error<Error, watcher::Error>>) -> Ready<()> {
    match outcome {
        Ok(_) | Err(controller::Error::ObjectNotFound(_)) => {}
        Err(error) => warn!(
            kind,
            error = &error as &dyn std::error::Error,
            "storage is in trouble"
        ),
    }
    ready(())
}

/// Repeats until it works: the API server may still be starting.
async fn create_classes(client: &Client) {
    while let Err(error) = try_create_classes(client).await {
        debug!(
            error = &error as &dyn std::error::Error,
            "the storage classes have to wait"
        );
        tokio::time::sleep(RETRY).await;
    }
}

async fn try_create_classes(client: &Client) -> Result<(), Error> {
    let classes: Api<StorageClass> = Api::all(client.clone());
    let parameters = PatchParams::apply("devcluster").force();
    for class in [CLASS, FIXED_CLASS, SIZED_CLASS, VOLATILE_CLASS] {
        let object = storage_class(class);
        let written = classes.patch(class, &parameters, &Patch::Apply(&object)).await;
        written.map_err(|source| Error::WriteClass {
            class,
            source: Box::new(source),
        })?;
    }
    Ok(())
}

fn storage_class(name: &str) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": name,
            "annotations": {"storageclass.kubernetes.io/is-default-class": (name == CLASS).to_string()},
        },
        "provisioner": PROVISIONER,
        "allowVolumeExpansion": name != FIXED_CLASS,
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
    })
}

async fn serve_claim(claim: Arc<PersistentVolumeClaim>, context: Arc<Context>) -> Result<Action, Error> {
    let (reason, action, outcome) = match decide::step(&claim) {
        Step::Nothing => return Ok(Action::await_change()),
        Step::Provision { node } => (
            "ProvisioningFailed",
            "Provision",
            provision(&claim, &node, &context).await,
        ),
        Step::Refuse { why } => ("ProvisioningFailed", "Provision", Err(Error::Refused(why))),
        Step::Grow { volume } => (
            "VolumeResizeFailed",
            "Resize",
            grow::grow(&claim, &volume, &context).await,
        ),
    };
    let Err(error) = outcome else {
        return Ok(Action::await_change());
    };
    let event = Event {
        type_: EventType::Warning,
        reason: reason.into(),
        note: Some(chain(&error)),
        action: action.into(),
        secondary: None,
    };
    if let Err(error) = context.recorder.publish(&event, &claim.object_ref(&())).await {
        debug!(
            error = &error as &dyn std::error::Error,
            "an event was not written"
        );
    }
    Err(error)
}

async fn provision(claim: &PersistentVolumeClaim, node: &str, context: &Context) -> Result<(), Error> {
    let hostname = hostname(node, &context.client).await?;
    let name = decide::volume_name(claim);
    let path = folder::create(&context.volumes, node, &name).await?;
    if let Some(bytes) = decide::enforced(claim) {
        folder::limit(&path, bytes)?;
    }
    if decide::is_volatile(claim) {
        folder::forget_syncs(&path).await?;
    }
    let volume = decide::volume(claim, &name, &path, &hostname);
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    match volumes.create(&PostParams::default(), &volume).await {
        // The name holds the claim's UID: what is there already can only be ours, from an earlier attempt.
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(source) => Err(Error::Volume {
            action: "create",
            volume: name,
            source: Box::new(source),
        }),
        Ok(_) => {
            info!(volume = name, claim = claim.name_any(), node, "made a volume");
            Ok(())
        }
    }
}

/// The label by which a `local` volume names its node; a kubelet sets it to the node's name by default.
async fn hostname(node: &str, client: &Client) -> Result<String, Error> {
    let found = Api::<Node>::all(client.clone()).get_metadata(node).await;
    let found = found.map_err(|source| Error::ReadNode {
        node: node.into(),
        source: Box::new(source),
    })?;
    Ok(found
        .labels()
        .get(decide::HOSTNAME_LABEL)
        .cloned()
        .unwrap_or_else(|| node.into()))
}

async fn serve_volume(volume: Arc<PersistentVolume>, context: Arc<Context>) -> Result<Action, Error> {
    let Some(path) = decide::folder_to_remove(&volume) else {
        return Ok(Action::await_change());
    };
    let name = volume.name_any();
    folder::remove(&context.volumes, path, &name).await?;
    let preconditions = Preconditions {
        uid: volume.meta().uid.clone(),
        resource_version: None,
    };
    let parameters = DeleteParams {
        preconditions: Some(preconditions),
        ..DeleteParams::default()
    };
    match Api::<PersistentVolume>::all(context.client.clone())
        .delete(&name, &parameters)
        .await
    {
        Ok(_) => info!(volume = name, "removed a volume"),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
        Err(source) => {
            return Err(Error::Volume {
                action: "delete",
                volume: name,
                source: Box::new(source),
            });
        }
    }
    Ok(Action::await_change())
}

/// An error with its causes in one line, as an event shows it. kube's errors already name their sources.
fn chain(error: &Error) -> String {
    let cause = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", cause.unwrap_or_default())
}
