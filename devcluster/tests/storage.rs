//! Claims are bound, grown, refused and removed through a real API server and volume controller.
//!
//! The first test plays the scheduler: it names the node on the claim, so no node has to run. The second one
//! has a real node, on which an unprivileged Pod uses the volume.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use devcluster::prerequisites::{self, Task};
use devcluster::storage::{CLASS, FIXED_CLASS, Provisioner, VOLATILE_CLASS};
use devcluster::{Cluster, Options, Profile, Progress};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, LogParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const NODE: &str = "storage-test-node";
const NAMESPACE: &str = "storage-test";
const DEADLINE: Duration = Duration::from_secs(30);

/// The names of one run: the cluster, and where its volumes are.
struct Run {
    client: Client,
    volumes: PathBuf,
}

impl Run {
    fn claims(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.client.clone())
    }

    async fn create(&self, name: &str, fields: Value) -> Result<()> {
        let mut claim = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "annotations": {"volume.kubernetes.io/selected-node": NODE}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        });
        let spec = claim
            .get_mut("spec")
            .and_then(Value::as_object_mut)
            .context("no spec")?;
        spec.extend(fields.as_object().context("fields are no object")?.clone());
        self.claims()
            .create(&PostParams::default(), &serde_json::from_value(claim)?)
            .await?;
        Ok(())
    }

    async fn resize(&self, name: &str, size: &str) -> kube::Result<PersistentVolumeClaim> {
        let patch = json!({"spec": {"resources": {"requests": {"storage": size}}}});
        self.claims()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
    }

    /// Waits until a claim fits, and says what it looked like if it never does.
    async fn claim(
        &self,
        name: &str,
        what: &str,
        fits: impl Fn(&PersistentVolumeClaim) -> bool,
    ) -> Result<PersistentVolumeClaim> {
        let condition = |claim: Option<&PersistentVolumeClaim>| claim.is_some_and(&fits);
        match tokio::time::timeout(DEADLINE, await_condition(self.claims(), name, condition)).await {
            Ok(found) => found?.context("the claim is gone"),
            Err(_) => anyhow::bail!(
                "{name} was not {what} within {DEADLINE:?}: {:#?}",
                self.claims().get(name).await?
            ),
        }
    }

    async fn bound(&self, name: &str) -> Result<(PathBuf, String)> {
        let phase = |claim: &PersistentVolumeClaim| claim.status.as_ref()?.phase.clone();
        let claim = self
            .claim(name, "bound", |claim| phase(claim).as_deref() == Some("Bound"))
            .await?;
        let volume = claim
            .spec
            .and_then(|spec| spec.volume_name)
            .context("no volume name")?;
        Ok((self.volumes.join(NODE).join(&volume), volume))
    }
}

fn capacity(claim: &PersistentVolumeClaim) -> Option<&str> {
    Some(
        claim
            .status
            .as_ref()?
            .capacity
            .as_ref()?
            .get("storage")?
            .0
            .as_str(),
    )
}

async fn prepare(client: &Client) -> Result<()> {
    let post = PostParams::default();
    let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
    Api::<Namespace>::all(client.clone())
        .create(&post, &namespace)
        .await?;
    let labels = json!({"kubernetes.io/hostname": format!("{NODE}.example")});
    let node = serde_json::from_value(json!({"metadata": {"name": NODE, "labels": labels}}))?;
    Api::<Node>::all(client.clone()).create(&post, &node).await?;
    let classes: Api<StorageClass> = Api::all(client.clone());
    for class in [CLASS, FIXED_CLASS] {
        let exists = |class: Option<&StorageClass>| class.is_some();
        tokio::time::timeout(DEADLINE, await_condition(classes.clone(), class, exists)).await??;
    }
    Ok(())
}

async fn a_claim_of_the_default_class_gets_a_folder_on_its_node(run: &Run) -> Result<()> {
    run.create("data", json!({})).await?;
    let (folder, volume) = run.bound("data").await?;
    ensure!(folder.is_dir(), "{} is not there", folder.display());
    let volume = run.volumes().get(&volume).await?.spec.context("no spec")?;
    ensure!(
        volume.host_path.is_none(),
        "a hostPath volume would ignore fsGroup"
    );
    ensure!(volume.local.context("not a local volume")?.path == folder.to_string_lossy());
    let affinity = serde_json::to_string(&volume.node_affinity)?;
    ensure!(
        affinity.contains("storage-test-node.example"),
        "bound to {affinity}"
    );
    Ok(())
}

async fn growing_a_claim_grows_the_volume_and_keeps_its_contents(run: &Run) -> Result<()> {
    let (folder, volume) = run.bound("data").await?;
    std::fs::write(folder.join("rows"), "kept")?;
    run.resize("data", "3Gi").await?;
    let settled = |claim: &PersistentVolumeClaim| {
        let status = claim.status.clone().unwrap_or_default();
        capacity(claim) == Some("3Gi")
            && status.conditions.unwrap_or_default().is_empty()
            && status.allocated_resource_statuses.unwrap_or_default().is_empty()
    };
    run.claim("data", "3Gi without conditions", settled).await?;
    let capacity = run
        .volumes()
        .get(&volume)
        .await?
        .spec
        .and_then(|spec| spec.capacity);
    ensure!(
        capacity
            .as_ref()
            .is_some_and(|capacity| capacity["storage"].0 == "3Gi"),
        "{capacity:?}"
    );
    ensure!(std::fs::read_to_string(folder.join("rows"))? == "kept");
    Ok(())
}

async fn the_fixed_class_refuses_growth(run: &Run) -> Result<()> {
    run.create("fixed", json!({"storageClassName": FIXED_CLASS}))
        .await?;
    run.bound("fixed").await?;
    let refused = run.resize("fixed", "2Gi").await;
    ensure!(
        matches!(&refused, Err(kube::Error::Api(status)) if status.is_forbidden()),
        "{refused:?}"
    );
    Ok(())
}

async fn a_claim_that_no_folder_can_serve_gets_an_event(run: &Run) -> Result<()> {
    run.create("shared", json!({"accessModes": ["ReadWriteMany"]}))
        .await?;
    let events: Api<Event> = Api::namespaced(run.client.clone(), NAMESPACE);
    let ours = watcher::Config::default().fields("involvedObject.name=shared,reason=ProvisioningFailed");
    let mut notes = pin!(
        watcher(events, ours)
            .applied_objects()
            .map_ok(|event| event.message.unwrap_or_default())
    );
    let note = tokio::time::timeout(DEADLINE, notes.try_next())
        .await
        .context("no event")??
        .context("no event")?;
    ensure!(note.contains("ReadWriteMany"), "the event says {note:?}");
    Ok(())
}

async fn a_deleted_claim_takes_volume_and_folder_with_it(run: &Run) -> Result<()> {
    let (folder, volume) = run.bound("data").await?;
    let (other, _) = run.bound("fixed").await?;
    let uid = run.volumes().get(&volume).await?.metadata.uid.context("no uid")?;
    run.claims().delete("data", &DeleteParams::default()).await?;
    let gone = await_condition(run.volumes(), &volume, conditions::is_deleted(&uid));
    tokio::time::timeout(DEADLINE, gone)
        .await
        .with_context(|| format!("{volume} is still there"))??;
    ensure!(!folder.exists(), "{} is still there", folder.display());
    ensure!(
        other.exists(),
        "{} belongs to another claim and is gone",
        other.display()
    );
    Ok(())
}

async fn everything(run: &Run) -> Result<()> {
    prepare(&run.client).await?;
    a_claim_of_the_default_class_gets_a_folder_on_its_node(run).await?;
    growing_a_claim_grows_the_volume_and_keeps_its_contents(run).await?;
    the_fixed_class_refuses_growth(run).await?;
    a_claim_that_no_folder_can_serve_gets_an_event(run).await?;
    a_deleted_claim_takes_volume_and_folder_with_it(run).await
}

#[tokio::test]
async fn volumes_follow_their_claims() -> Result<()> {
    let cluster = Cluster::start(Options::default()).await?;
    let volumes = cluster.dir().join("volumes");
    let shutdown = CancellationToken::new();
    let provisioner = Provisioner::spawn(cluster.client()?, volumes.clone(), shutdown.clone());
    let outcome = everything(&Run {
        client: cluster.client()?,
        volumes,
    })
    .await;
    shutdown.cancel();
    let stopped = tokio::time::timeout(DEADLINE, provisioner).await;
    cluster.stop().await?;
    outcome?;
    stopped.context("the provisioner does not stop")??;
    Ok(())
}

/// A program as an unprivileged user who owns nothing, in a namespace that enforces `restricted`.
const WRITER: &str = r#"{
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "writer"},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 999, "runAsGroup": 999, "seccompProfile": {"type": "RuntimeDefault"},
            "fsGroup": 999, "fsGroupChangePolicy": "OnRootMismatch"
        },
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "volatile", "persistentVolumeClaim": {"claimName": "volatile"}}
        ],
        "containers": [{
            "name": "writer", "image": "docker.io/library/postgres:17",
            "command": ["sh", "-c", "touch /volatile/file && mkdir -m 0700 /volume/pgdata && initdb /volume/pgdata && exec sleep 600"],
            "readinessProbe": {"exec": {"command": ["test", "-s", "/volume/pgdata/PG_VERSION"]}, "periodSeconds": 1},
            "volumeMounts": [{"name": "data", "mountPath": "/volume"}, {"name": "volatile", "mountPath": "/volatile"}],
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}
        }]
    }
}"#;

/// Claims of the Pod, and their classes.
const CLAIMS: [(&str, &str); 2] = [("data", CLASS), ("volatile", VOLATILE_CLASS)];

/// What the scheduler, the kubelet and the provisioner make of a volume together.
async fn a_pod_writes_to_a_volume_that_grows_under_it(cluster: &Cluster) -> Result<()> {
    let run = Run {
        client: cluster.client()?,
        volumes: cluster.dir().join("volumes"),
    };
    let reference = "docker.io/library/postgres:17";
    let archive =
        tokio::task::spawn_blocking(|| devcluster::image::engine_archive(reference, &mut |_| ())).await??;
    cluster.load_image(&archive).await?;
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE, "labels": labels}}))?;
    Api::<Namespace>::all(run.client.clone())
        .create(&PostParams::default(), &namespace)
        .await?;
    for (name, class) in CLAIMS {
        let claim = json!({
            "metadata": {"name": name},
            "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}},
        });
        run.claims()
            .create(&PostParams::default(), &serde_json::from_value(claim)?)
            .await?;
    }
    let pods: Api<Pod> = Api::namespaced(run.client.clone(), NAMESPACE);
    pods.create(&PostParams::default(), &serde_json::from_str(WRITER)?)
        .await?;
    let ready = |pod: Option<&Pod>| {
        let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
        conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    if tokio::time::timeout(DEADLINE, await_condition(pods.clone(), "writer", ready))
        .await
        .is_err()
    {
        let log = pods.logs("writer", &LogParams::default()).await;
        anyhow::bail!(
            "the Pod does not write: {:#?}\n{log:?}",
            pods.get("writer").await?.status
        );
    }
    run.resize("data", "2Gi").await?;
    run.claim("data", "2Gi", |claim| capacity(claim) == Some("2Gi"))
        .await?;
    pods.delete("writer", &DeleteParams::default()).await?;
    a_deleted_claim_takes_everything_with_it(&run).await
}

async fn a_deleted_claim_takes_everything_with_it(run: &Run) -> Result<()> {
    for (name, _) in CLAIMS {
        let claim = run.claims().get(name).await?;
        let volume = claim
            .spec
            .and_then(|spec| spec.volume_name)
            .context("no volume name")?;
        let uid = run.volumes().get(&volume).await?.metadata.uid.context("no uid")?;
        run.claims().delete(name, &DeleteParams::default()).await?;
        let gone = await_condition(run.volumes(), &volume, conditions::is_deleted(&uid));
        tokio::time::timeout(DEADLINE, gone)
            .await
            .with_context(|| format!("{volume} is still there"))??;
    }
    for node in std::fs::read_dir(&run.volumes)? {
        let left = std::fs::read_dir(node?.path())?.count();
        ensure!(left == 0, "{left} folders are left");
    }
    Ok(())
}

#[tokio::test]
async fn an_unprivileged_pod_writes_through_fs_group() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        ensure!(
            std::env::var_os("CI").is_none(),
            "in CI this test must run, and nodes need root"
        );
        eprintln!("skipped: nodes need root");
        return Ok(());
    }
    prerequisites::ensure(&[Task::Nodes, Task::EngineImages], Progress::Stderr).await?;
    let profile = Profile::Node { nodes: 1 };
    let cluster = Cluster::start(Options {
        profile,
        ..Options::default()
    })
    .await?;
    let outcome = a_pod_writes_to_a_volume_that_grows_under_it(&cluster).await;
    cluster.stop().await?;
    outcome
}
