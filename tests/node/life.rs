//! Life and death: what is killed, deleted or emptied, and what is there afterwards.

use std::collections::BTreeSet;
use std::path::PathBuf;

use dbclaim::api::v1::DatabaseClaim;
use devcluster::storage::FIXED_CLASS;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::processes;
use crate::world::{Scene, eventually};

const POD: &str = "orders-db-1-0";

/// A clean stop and a clean start.
pub async fn a_deleted_pod_comes_back_with_every_row(scene: Scene) {
    scene.serving().await;
    let pods = scene.api::<Pod>();
    let before = pods.get(POD).await.unwrap().uid().unwrap();
    pods.delete(POD, &DeleteParams::default()).await.unwrap();
    scene.new_pod(POD, &before).await;
    scene.ready("orders").await;
    assert_eq!(scene.rows("orders").await, ["kept"]);
    let of_the_database = LogParams {
        container: Some("database".into()),
        ..Default::default()
    };
    // The agent hands the engine's lines on once a second.
    eventually("a log of a start after a clean stop", || async {
        let log = pods.logs(POD, &of_the_database).await;
        let log = log.map_err(|error| error.to_string())?;
        (scene.engine.facts().clean)(&log).then_some(()).ok_or(log)
    })
    .await;
}

/// The agent is not the database: sessions go on.
pub async fn a_killed_agent_leaves_the_database_running(scene: Scene) {
    scene.serving().await;
    let session = scene.connect("orders").await;
    let pod = scene.api::<Pod>().get(POD).await.unwrap().uid().unwrap();
    let agent = |pod: &str| {
        processes::of_pod(pod)
            .into_iter()
            .find(|it| it.command.contains("supervise"))
    };
    let before = agent(&pod).expect("the agent runs");
    before.kill();
    eventually("another agent", || async {
        let now = agent(&pod);
        if now.as_ref().is_some_and(|it| it.pid != before.pid) {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    })
    .await;
    session
        .run("INSERT INTO kept VALUES ('during')")
        .await
        .expect("the session goes on");
    scene.ready("orders").await;
    assert_eq!(scene.rows("orders").await, ["during", "kept"]);
    assert_eq!(scene.api::<Pod>().get(POD).await.unwrap().uid().unwrap(), pod);
    session
        .run("DELETE FROM kept WHERE entry = 'during'")
        .await
        .unwrap();
}

/// PID 1 killed: everything in the container dies at once, as in an out-of-memory kill or a power cut.
pub async fn a_killed_container_recovers_every_row(scene: Scene) {
    scene.serving().await;
    let pod = scene.api::<Pod>().get(POD).await.unwrap().uid().unwrap();
    let fencer = processes::of_pod(&pod)
        .into_iter()
        .find(|it| it.command.ends_with("dbclaim-agent run"));
    fencer.expect("the fencer runs").kill();
    let pods = scene.api::<Pod>();
    eventually("a restarted container", || async {
        let pod = pods.get(POD).await.map_err(|error| error.to_string())?;
        let statuses = pod
            .status
            .and_then(|it| it.container_statuses)
            .unwrap_or_default();
        let restarts = statuses.first().map_or(0, |it| it.restart_count);
        if restarts > 0 {
            Ok(())
        } else {
            Err(format!("{restarts} restarts"))
        }
    })
    .await;
    scene.ready("orders").await;
    assert_eq!(scene.rows("orders").await, ["kept"]);
}

/// Whenever something new has appeared, the operator is killed.
pub async fn an_operator_killed_again_and_again_ends_in_the_same_claim(scene: Scene) {
    scene.apply("reference", json!({})).await;
    scene.ready("reference").await;
    scene.apply("orders", json!({})).await;
    let claims = scene.api::<DatabaseClaim>();
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        let names = eventually("something new, or Ready", || async {
            let names = objects(&scene, "orders").await;
            let claim = claims.get("orders").await.map_err(|error| error.to_string())?;
            let conditions = claim.status.unwrap_or_default().conditions;
            let ready = conditions
                .iter()
                .any(|it| it.type_ == "Ready" && it.status == "True");
            if ready || names != seen {
                Ok(names)
            } else {
                Err(format!("{names:?}"))
            }
        })
        .await;
        seen = names;
        scene.kill_operator().await;
    }
    scene.ready("orders").await;
    scene.write("orders", "after").await;
    assert_eq!(scene.rows("orders").await, ["after"]);
    let reference = objects(&scene, "reference").await;
    assert_eq!(
        objects(&scene, "orders").await,
        reference,
        "the same objects as without a kill"
    );
}

/// Kinds and names of a claim's objects, without the claim's own name.
pub async fn objects(scene: &Scene, claim: &str) -> BTreeSet<String> {
    let ours = ListParams::default().labels(&format!("platform.acme.com/claim={claim}"));
    let mut found = BTreeSet::new();
    macro_rules! add {
        ($($kind:ty),*) => {$(
            for object in scene.api::<$kind>().list_metadata(&ours).await.map(|list| list.items).unwrap_or_default() {
                found.insert(format!("{} {}", stringify!($kind), object.name_any().replacen(claim, "", 1)));
            }
        )*};
    }
    add!(
        StatefulSet,
        PersistentVolumeClaim,
        Service,
        ConfigMap,
        Secret,
        ServiceAccount,
        Role,
        RoleBinding,
        Pod
    );
    found
}

/// Everything that is deleted by hand comes back; the data is untouched.
pub async fn children_deleted_by_hand_come_back(scene: Scene) {
    scene.serving().await;
    macro_rules! delete {
        ($($kind:ty: $name:expr),* $(,)?) => {$(
            let api = scene.api::<$kind>();
            let before = api.get($name).await.expect($name).uid();
            api.delete($name, &DeleteParams::default()).await.expect($name);
            eventually(concat!("a new ", stringify!($kind)), || async {
                let now = api.get_metadata_opt($name).await.map_err(|error| error.to_string())?;
                match now {
                    Some(now) if now.uid() != before => Ok(()),
                    other => Err(format!("{} {:?}", $name, other.map(|it| it.metadata.deletion_timestamp))),
                }
            })
            .await;
        )*};
    }
    delete!(
        Service: "orders-db", Service: "orders-db-members", ConfigMap: "orders-db-config",
        ConfigMap: "orders-db-1-report", ConfigMap: "orders-db-app", ServiceAccount: "orders-db",
        Role: "orders-db", RoleBinding: "orders-db", StatefulSet: "orders-db-1",
    );
    eventually("a ready StatefulSet", || async {
        let set = scene
            .api::<StatefulSet>()
            .get("orders-db-1")
            .await
            .map_err(|error| error.to_string())?;
        let ready = set.status.and_then(|it| it.ready_replicas);
        if ready == Some(1) {
            Ok(())
        } else {
            Err(format!("{ready:?} ready"))
        }
    })
    .await;
    scene.ready("orders").await;
    assert_eq!(scene.rows("orders").await, ["kept"]);
}

/// Labels of the volume are set back, also those by which it is found; what others have added stays.
pub async fn labels_of_the_volume_edited_by_hand_come_back(scene: Scene) {
    scene.serving().await;
    let volumes = scene.api::<PersistentVolumeClaim>();
    let before = volumes.get("orders-db-1").await.unwrap();
    let ours = before.labels().clone();
    for label in ours.keys() {
        for value in [json!("intruder"), json!(null)] {
            let edit = json!({"metadata": {"labels": {label: value, "example.com/added": "yes"}}});
            let edited = volumes
                .patch("orders-db-1", &PatchParams::default(), &Patch::Merge(edit))
                .await
                .unwrap();
            assert_ne!(edited.labels().get(label), ours.get(label));
            eventually(&format!("{label} set back from {value}"), || async {
                let now = volumes
                    .get("orders-db-1")
                    .await
                    .map_err(|error| error.to_string())?;
                assert_eq!(now.uid(), before.uid(), "the volume was replaced");
                assert!(
                    now.labels().contains_key("example.com/added"),
                    "another's label is gone"
                );
                let back = ours
                    .iter()
                    .all(|(label, value)| now.labels().get(label) == Some(value));
                back.then_some(()).ok_or(format!("{:?}", now.labels()))
            })
            .await;
        }
    }
    scene.ready("orders").await;
    assert_eq!(scene.rows("orders").await, ["kept"]);
}

/// What the agent said is lost, and it says it again.
pub async fn a_deleted_report_is_written_again_without_a_restart(scene: Scene) {
    scene.serving().await;
    let pod = scene.api::<Pod>().get(POD).await.unwrap().uid();
    let reports = scene.api::<ConfigMap>();
    let before = reports.get("orders-db-1-report").await.unwrap();
    reports
        .delete("orders-db-1-report", &DeleteParams::default())
        .await
        .unwrap();
    eventually("a new report", || async {
        match reports.get_opt("orders-db-1-report").await {
            Ok(Some(now))
                if now.uid() != before.uid()
                    && now.annotations().contains_key("platform.acme.com/report") =>
            {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    scene.ready("orders").await;
    assert_eq!(
        scene.api::<Pod>().get(POD).await.unwrap().uid(),
        pod,
        "the Pod was restarted"
    );
}

/// Secrets are not watched; their markers are.
pub async fn a_deleted_secret_comes_back_with_the_same_password(scene: Scene) {
    scene.serving().await;
    let secrets = scene.api::<Secret>();
    let before = secrets.get("orders-db-app").await.unwrap();
    secrets
        .delete("orders-db-app", &DeleteParams::default())
        .await
        .unwrap();
    let after = eventually("a new binding Secret", || async {
        match secrets.get_opt("orders-db-app").await {
            Ok(Some(now)) if now.uid() != before.uid() => Ok(now),
            other => Err(format!("{:?}", other.map(|it| it.map(|it| it.metadata.uid)))),
        }
    })
    .await;
    assert!(after.data == before.data, "the new Secret has other content");
    assert_eq!(scene.rows("orders").await, ["kept"]);
}

/// A new password goes to the database first, and then to the applications.
pub async fn a_deleted_admin_secret_brings_a_new_password_to_both_sides(scene: Scene) {
    scene.serving().await;
    let before = scene
        .binding("orders")
        .await
        .0
        .get("password")
        .unwrap()
        .to_owned();
    scene
        .api::<Secret>()
        .delete("orders-db-admin", &DeleteParams::default())
        .await
        .unwrap();
    eventually("a new password", || async {
        let now = scene
            .binding("orders")
            .await
            .0
            .get("password")
            .unwrap()
            .to_owned();
        if now == before {
            Err("the old one".to_owned())
        } else {
            Ok(())
        }
    })
    .await;
    // Connects with what the Secret says now.
    assert_eq!(scene.rows("orders").await, ["kept"]);
}

/// `Retain`: the claim goes, the data and the password stay, and the same claim has them back.
pub async fn a_claim_made_again_has_its_data_and_password_back(scene: Scene) {
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    scene.write("orders", "before").await;
    let password = scene
        .binding("orders")
        .await
        .0
        .get("password")
        .unwrap()
        .to_owned();
    let uid = scene.claim("orders").await.uid();
    scene.delete_claim("orders").await;
    scene.gone::<Pod>(POD).await;
    scene
        .api::<PersistentVolumeClaim>()
        .get("orders-db-1")
        .await
        .expect("the volume stays");
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    assert_ne!(scene.claim("orders").await.uid(), uid);
    assert_eq!(scene.binding("orders").await.0.get("password").unwrap(), password);
    assert_eq!(scene.rows("orders").await, ["before"]);
}

/// `Delete`: nothing stays.
pub async fn deletion_policy_delete_removes_volume_and_secrets(scene: Scene) {
    scene.apply("orders", json!({"deletionPolicy": "Delete"})).await;
    scene.ready("orders").await;
    scene.delete_claim("orders").await;
    scene.gone::<Pod>(POD).await;
    scene.gone::<PersistentVolumeClaim>("orders-db-1").await;
    scene.gone::<Secret>("orders-db-app").await;
    scene.gone::<Secret>("orders-db-admin").await;
    eventually("nothing of the claim", || async {
        let left = objects(&scene, "orders").await;
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })
    .await;
}

/// A volume that looks empty where data is expected is never a new database.
pub async fn an_emptied_volume_is_blocked_and_never_initialised(scene: Scene) {
    // Its folder is on the same disk as the one beside it, so that the contents can be moved there and back.
    let claim = json!({"storageClassName": FIXED_CLASS});
    scene.apply("orders", claim.clone()).await;
    scene.ready("orders").await;
    scene.write("orders", "before").await;
    let volume = volume_folder(&scene).await;
    scene.delete_claim("orders").await;
    scene.gone::<Pod>(POD).await;
    let aside = volume.with_extension("aside");
    std::fs::create_dir(&aside).unwrap();
    for entry in std::fs::read_dir(&volume).unwrap().flatten() {
        std::fs::rename(entry.path(), aside.join(entry.file_name())).unwrap();
    }
    scene.apply("orders", claim).await;
    let message = scene.condition("orders", "Ready", "False", "DataMissing").await;
    assert!(message.len() > 40, "a sentence that helps: {message}");
    let left: Vec<_> = std::fs::read_dir(&volume)
        .unwrap()
        .flatten()
        .map(|it| it.file_name())
        .collect();
    assert!(
        !left.iter().any(|it| it == scene.engine.name()),
        "something was initialised: {left:?}"
    );
    // The data comes back, and the claim heals.
    for entry in std::fs::read_dir(&aside).unwrap().flatten() {
        std::fs::rename(entry.path(), volume.join(entry.file_name())).unwrap();
    }
    scene.ready("orders").await;
    assert_eq!(scene.rows("orders").await, ["before"]);
}

/// Where the claim's volume is on the node.
pub async fn volume_folder(scene: &Scene) -> PathBuf {
    let claim = scene
        .api::<PersistentVolumeClaim>()
        .get("orders-db-1")
        .await
        .unwrap();
    let name = claim.spec.unwrap().volume_name.unwrap();
    let volumes: Api<PersistentVolume> = Api::all(scene.world.client.clone());
    let volume = volumes.get(&name).await.unwrap();
    PathBuf::from(volume.spec.unwrap().local.expect("a local volume").path)
}

/// Somebody else's object with one of our names.
pub async fn a_foreign_volume_is_left_alone(scene: Scene) {
    let volumes = scene.api::<PersistentVolumeClaim>();
    let foreign = json!({"metadata": {"name": "orders-db-1"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let foreign = serde_json::from_value(foreign).unwrap();
    let before = volumes.create(&PostParams::default(), &foreign).await.unwrap();
    scene.apply("orders", json!({})).await;
    let message = scene.condition("orders", "Accepted", "False", "NameTaken").await;
    assert!(message.contains("PersistentVolumeClaim orders-db-1"), "{message}");
    let sets = scene
        .api::<StatefulSet>()
        .list(&ListParams::default())
        .await
        .unwrap();
    assert!(sets.items.is_empty(), "a workload was made on a foreign volume");
    let after = volumes.get("orders-db-1").await.unwrap();
    assert_eq!(after.metadata.labels, before.metadata.labels);
    assert_eq!(
        after
            .metadata
            .annotations
            .unwrap_or_default()
            .get("platform.acme.com/identity"),
        None
    );
    volumes
        .delete("orders-db-1", &DeleteParams::default())
        .await
        .unwrap();
    scene.ready("orders").await;
}

/// The volume decides what is served, not the newest default.
pub async fn a_volume_of_another_version_is_refused(scene: Scene) {
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    scene.write("orders", "before").await;
    scene.delete_claim("orders").await;
    let facts = scene.engine.facts();
    scene
        .apply("orders", json!({"version": facts.other_version}))
        .await;
    let message = scene.condition("orders", "Accepted", "False", "Invalid").await;
    for version in [facts.version, facts.other_version] {
        assert!(message.contains(version), "{message}");
    }
    scene.delete_claim("orders").await;
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    assert_eq!(scene.rows("orders").await, ["before"]);
}
