//! What is interrupted while a client inserts rows without end: every row that was acknowledged is there afterwards.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{DeleteParams, LogParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::ledger::Writer;
use crate::processes;
use crate::world::{Scene, eventually};

const POD: &str = "orders-db-1-0";

/// A power cut: kubelet, containerd and all containers of the node are gone at once. Then it boots again.
pub async fn a_node_that_lost_power_serves_every_acknowledged_row_again(scene: Scene) {
    let node = scene.spare_node();
    let before = scene.ready_on(node).await;
    let writer = Writer::begin(&scene, "orders").await;
    node.crash().await.unwrap();
    assert!(
        processes::of_pod(&before.uid().unwrap()).is_empty(),
        "nothing of the Pod runs"
    );
    node.restart().await.unwrap();
    restarted(&scene, &before).await;
    scene.ready("orders").await;
    writer.goes_on().await;
    writer.check(&scene).await;
}

/// The kubelet is killed and another one started: the database and its sessions do not notice.
pub async fn a_restarted_kubelet_disturbs_no_session(scene: Scene) {
    let node = scene.spare_node();
    let before = scene.ready_on(node).await;
    let writer = Writer::begin(&scene, "orders").await;
    node.restart_kubelet().await.unwrap();
    let restarted = Timestamp::now();
    let leases: Api<Lease> = Api::namespaced(scene.world.client.clone(), "kube-node-lease");
    eventually("a sign of life of the new kubelet", || async {
        let lease = leases.get(node.name()).await.map_err(|error| error.to_string())?;
        let renewed = lease.spec.and_then(|it| it.renew_time).map(|it| it.0);
        renewed
            .filter(|it| *it > restarted)
            .map(drop)
            .ok_or(format!("renewed {renewed:?}, restarted {restarted}"))
    })
    .await;
    let pods = scene.api::<Pod>();
    eventually("a kubelet that knows the Pod", || async {
        let log = pods
            .logs(
                POD,
                &LogParams {
                    container: Some("database".into()),
                    ..Default::default()
                },
            )
            .await;
        log.map(drop).map_err(|error| error.to_string())
    })
    .await;
    scene.ready("orders").await;
    writer.goes_on().await;
    assert_eq!(writer.connections(), 1, "the session was cut");
    undisturbed(&scene, &before).await;
    writer.check(&scene).await;
}

/// Nobody stops the database: the Pod's object is gone at once, its processes soon, and the next Pod comes meanwhile.
pub async fn a_pod_deleted_without_grace_keeps_every_acknowledged_row(scene: Scene) {
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    let writer = Writer::begin(&scene, "orders").await;
    let pods = scene.api::<Pod>();
    for _ in 0..2 {
        let before = pods.get(POD).await.unwrap().uid().unwrap();
        pods.delete(POD, &DeleteParams::default().grace_period(0))
            .await
            .unwrap();
        scene.new_pod(POD, &before).await;
        writer.goes_on().await;
    }
    scene.ready("orders").await;
    writer.check(&scene).await;
}

/// The agent is killed again and again, each time as soon as there is another one.
pub async fn a_killed_agent_costs_no_row_and_no_session(scene: Scene) {
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    let before = scene.api::<Pod>().get(POD).await.unwrap();
    let uid = before.uid().unwrap();
    let writer = Writer::begin(&scene, "orders").await;
    let mut killed = Vec::new();
    for _ in 0..3 {
        let agent = eventually("an agent", || async {
            let mut agents = processes::of_pod(&uid).into_iter();
            let agent = agents.find(|it| it.command.contains("supervise") && !killed.contains(&it.pid));
            agent.ok_or("none".to_owned())
        })
        .await;
        agent.kill();
        killed.push(agent.pid);
        writer.goes_on().await;
    }
    scene.ready("orders").await;
    assert_eq!(writer.connections(), 1, "the session was cut");
    undisturbed(&scene, &before).await;
    writer.check(&scene).await;
}

/// The kernel kills the engine for want of memory.
pub async fn an_engine_killed_for_want_of_memory_keeps_every_acknowledged_row(scene: Scene) {
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    let writer = Writer::begin(&scene, "orders").await;
    let session = scene.connect("orders").await;
    let mut killed = false;
    for statement in scene.engine.facts().hungry {
        killed |= session.run(statement).await.is_err();
    }
    assert!(killed, "it was served");
    scene.ready("orders").await;
    writer.goes_on().await;
    assert!(
        writer.connections() > 1,
        "the session went on, so nothing was killed"
    );
    writer.check(&scene).await;
}

/// The database's container.
fn database(pod: &Pod) -> ContainerStatus {
    let statuses = pod.status.clone().unwrap_or_default().container_statuses;
    let mut statuses = statuses.unwrap_or_default().into_iter();
    statuses.find(|it| it.name == "database").unwrap_or_default()
}

/// That the same container of the same Pod runs.
async fn undisturbed(scene: &Scene, before: &Pod) {
    let after = scene.api::<Pod>().get(POD).await.unwrap();
    assert_eq!(
        (after.uid(), database(&after).container_id),
        (before.uid(), database(before).container_id)
    );
}

/// Waits until the same Pod has another container.
async fn restarted(scene: &Scene, before: &Pod) {
    let pods = scene.api::<Pod>();
    let container = database(before).container_id;
    eventually("a restarted container", || async {
        let pod = pods.get(POD).await.map_err(|error| error.to_string())?;
        assert_eq!(pod.uid(), before.uid(), "the Pod was replaced");
        let now = database(&pod);
        if now.ready && now.container_id != container {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    })
    .await;
}
