//! Claims are bound, grown, refused and removed through a real API server and volume controller.
//!
//! The test plays the scheduler: it names the node on the claim. So no node has to run.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use devcluster::storage::{CLASS, FIXED_CLASS, Provisioner};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config};
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

/// A cluster of its own; `None` where there is none to be had.
async fn client() -> Result<Option<Client>> {
    let Some(kubeconfig) = std::env::var_os("DEVCLUSTER_TEST_KUBECONFIG") else {
        eprintln!("skipped: DEVCLUSTER_TEST_KUBECONFIG names no empty cluster");
        return Ok(None);
    };
    let kubeconfig = kube::config::Kubeconfig::read_from(Path::new(&kubeconfig))?;
    let config =
        Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await?;
    Ok(Some(Client::try_from(config)?))
}

#[tokio::test]
async fn volumes_follow_their_claims() -> Result<()> {
    let Some(client) = client().await? else {
        return Ok(());
    };
    let volumes = std::env::temp_dir().join(format!("devcluster-{}-volumes", std::process::id()));
    std::fs::create_dir(&volumes)?;
    let shutdown = CancellationToken::new();
    let provisioner = Provisioner::spawn(client.clone(), volumes.clone(), shutdown.clone());
    let outcome = everything(&Run {
        client,
        volumes: volumes.clone(),
    })
    .await;
    shutdown.cancel();
    tokio::time::timeout(DEADLINE, provisioner)
        .await
        .context("the provisioner does not stop")??;
    std::fs::remove_dir_all(volumes)?;
    outcome
}
