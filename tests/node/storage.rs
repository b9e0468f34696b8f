//! Volumes that fill, grow, or cannot grow.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use dbclaim::api::v1::DatabaseClaim;
use devcluster::storage::{FIXED_CLASS, FULL, SIZED_CLASS};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::engines::Facts;
use crate::schedule::Need;
use crate::world::{Scene, eventually};

async fn patch(scene: &Scene, spec: Value) {
    let change = Patch::Merge(json!({"spec": spec}));
    scene
        .api::<DatabaseClaim>()
        .patch("orders", &PatchParams::default(), &change)
        .await
        .unwrap();
}

/// The volume behind the claim's.
async fn volume(scene: &Scene) -> PersistentVolume {
    let claim = scene
        .api::<PersistentVolumeClaim>()
        .get("orders-db-1")
        .await
        .unwrap();
    let name = claim.spec.unwrap().volume_name.unwrap();
    Api::<PersistentVolume>::all(scene.world.client.clone())
        .get(&name)
        .await
        .unwrap()
}

/// Where the volume is on this machine.
async fn folder(scene: &Scene) -> PathBuf {
    volume(scene).await.spec.unwrap().local.unwrap().path.into()
}

/// Somebody else's file on the volume, so large that only `left` bytes stay free.
fn fill(folder: &std::path::Path, left: u64) {
    let stat = rustix::fs::statvfs(folder).unwrap();
    let mut free = (stat.f_bavail * stat.f_frsize).saturating_sub(left);
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("ballast"))
        .unwrap();
    let block = vec![7_u8; 1 << 20];
    while free > 0 {
        let part = usize::try_from(free).unwrap().min(block.len());
        // The database takes its share of what is left meanwhile.
        if file.write_all(&block[..part]).is_err() {
            break;
        }
        free -= part as u64;
    }
}

/// Writes large rows until the engine refuses one; returns its words. One that waits for space is as good.
async fn rows_until_refused(scene: &Scene) -> String {
    let Facts { bulk, full, .. } = scene.engine.facts();
    let client = scene.connect("orders").await;
    for statement in bulk.iter().chain(std::iter::repeat(&bulk[1])) {
        match tokio::time::timeout(Duration::from_secs(30), client.run(statement)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return format!("{error:#} {:?}", error.root_cause()),
            Err(_) => return format!("it waits: the volume {full}"),
        }
    }
    unreachable!("it repeats for ever")
}

/// Nothing is lost by a volume that is full, and more space is all that it needs.
pub async fn a_full_volume_is_named_and_heals_when_it_grows(scene: Scene) {
    scene.uses(Need::SpareNode);
    let size = scene.engine.facts().roomy;
    let spec = json!({"storageClassName": SIZED_CLASS, "storage": "1Gi", "size": size});
    scene.apply("orders", spec).await;
    scene.ready("orders").await;
    scene.write("orders", "first").await;
    let folder = folder(&scene).await;
    fill(&folder, 100 << 20);
    let said = scene
        .condition("orders", "StorageReady", "True", "VolumeFilling")
        .await;
    assert!(said.contains("raise spec.storage"), "{said}");
    fill(&folder, 0);
    let said = scene
        .condition("orders", "StorageReady", "False", "VolumeFull")
        .await;
    assert!(said.contains("raise spec.storage"), "{said}");
    let refused = rows_until_refused(&scene).await;
    assert!(refused.contains(scene.engine.facts().full), "{refused}");
    assert_eq!(
        scene.rows("orders").await,
        ["first"],
        "what was committed is read"
    );
    let pod = scene.api::<Pod>().get("orders-db-1-0").await.unwrap();
    patch(&scene, json!({"storage": "2Gi"})).await;
    scene.ready("orders").await;
    scene.condition("orders", "StorageReady", "True", "Ready").await;
    scene.write("orders", "second").await;
    assert_eq!(scene.rows("orders").await, ["first", "second"]);
    let after = scene.api::<Pod>().get("orders-db-1-0").await.unwrap();
    assert_eq!(after.uid(), pod.uid(), "nobody had to touch the Pod");
}

/// The refusal is named; the database serves on and other changes are carried out. Set back, it is forgotten.
pub async fn a_class_that_cannot_expand_says_so_and_nothing_else_stops(scene: Scene) {
    scene
        .apply("orders", json!({"storageClassName": FIXED_CLASS}))
        .await;
    scene.ready("orders").await;
    patch(&scene, json!({"storage": "2Gi"})).await;
    let said = scene
        .condition("orders", "StorageReady", "False", "ExpansionRefused")
        .await;
    assert!(said.contains("allowVolumeExpansion"), "{said}");
    scene.condition("orders", "Ready", "True", "Ready").await;
    patch(&scene, json!({"team": "billing"})).await;
    eventually("the label of the new team", || async {
        let pod = scene.api::<Pod>().get("orders-db-1-0").await;
        let pod = pod.map_err(|error| error.to_string())?;
        let team = pod.labels().get("platform.acme.com/team").cloned();
        (team.as_deref() == Some("billing"))
            .then_some(())
            .ok_or(format!("{team:?}"))
    })
    .await;
    patch(&scene, json!({"storage": "1Gi"})).await;
    scene.condition("orders", "StorageReady", "True", "Ready").await;
    scene.condition("orders", "Stalled", "False", "Idle").await;
}

/// The driver's words are told, the database serves on, and the volume grows as soon as there is room.
pub async fn a_growth_that_fails_is_named_and_heals(scene: Scene) {
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    let pod = scene.api::<Pod>().get("orders-db-1-0").await.unwrap();
    let name = volume(&scene).await.name_any();
    let full = |value: Value| {
        let volumes = Api::<PersistentVolume>::all(scene.world.client.clone());
        let (name, full) = (name.clone(), json!({"metadata": {"annotations": {FULL: value}}}));
        async move {
            let parameters = PatchParams::default();
            volumes
                .patch(&name, &parameters, &Patch::Merge(full))
                .await
                .unwrap();
        }
    };
    full(json!("yes")).await;
    patch(&scene, json!({"storage": "2Gi"})).await;
    let said = scene
        .condition("orders", "StorageReady", "False", "ExpansionStuck")
        .await;
    assert!(said.contains("the storage behind it is full"), "{said}");
    scene.condition("orders", "Ready", "True", "Ready").await;
    scene.write("orders", "meanwhile").await;
    full(Value::Null).await;
    scene.condition("orders", "StorageReady", "True", "Ready").await;
    scene.condition("orders", "Stalled", "False", "Idle").await;
    let after = scene.api::<Pod>().get("orders-db-1-0").await.unwrap();
    assert_eq!(after.uid(), pod.uid(), "nobody had to touch the Pod");
}

/// Two changes at once: the volume grows, and the Pod has the memory, after one restart where it takes one.
pub async fn storage_and_size_change_together(scene: Scene) {
    scene.uses(Need::SpareNode);
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    scene.write("orders", "kept").await;
    let before = scene.api::<Pod>().get("orders-db-1-0").await.unwrap();
    patch(&scene, json!({"storage": "3Gi", "size": "medium"})).await;
    if !scene.engine.facts().grows_live {
        scene.new_pod("orders-db-1-0", &before.uid().unwrap()).await;
    }
    scene.ready("orders").await;
    crate::changes::in_force(&scene, "2Gi").await;
    scene.condition("orders", "StorageReady", "True", "Ready").await;
    let status = scene.claim("orders").await.status.unwrap();
    assert_eq!(status.members[0].storage.as_deref(), Some("3Gi"));
    assert_eq!(status.resolved.unwrap().resources.memory, "2Gi");
    assert_eq!(scene.rows("orders").await, ["kept"]);
}
