//! The operator is upgraded and uninstalled while a database serves; and the tools that people use wait for a claim
//! by its conditions.

use std::path::Path;
use std::process::{Output, Stdio};

use dbclaim::api::v1::DatabaseClaim;
use devcluster::{Progress, operator, programs};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::audit;
use crate::ledger::Writer;
use crate::schedule::Need;
use crate::world::{OPERATOR_NAMESPACE, Scene, World, eventually};

const POD: &str = "orders-db-1-0";
const CRD: &str = "databaseclaims.platform.acme.com";

/// A new version of operator and agent, and the way back.
pub async fn an_upgraded_operator_restarts_no_database(scene: Scene) {
    let world = scene.world.clone();
    scene.uses(Need::Operator);
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    let before = scene.api::<Pod>().get(POD).await.unwrap();
    let writer = Writer::begin(&scene, "orders").await;
    let next = tag_anew(&world).await;
    let stage = &world.stage;
    stage
        .install(&next, Progress::Silent, &World::values())
        .await
        .unwrap();
    let message = scene
        .condition("orders", "UpdatePending", "True", "RestartNeeded")
        .await;
    assert!(
        message.contains("kubectl annotate dbclaim orders platform.acme.com/restart="),
        "{message}"
    );
    stage
        .install(&stage.image, Progress::Silent, &World::values())
        .await
        .unwrap();
    scene
        .condition("orders", "UpdatePending", "False", "UpToDate")
        .await;
    scene.ready("orders").await;
    writer.goes_on().await;
    unchanged(&scene, &before).await;
    assert_eq!(writer.connections(), 1, "the session was cut");
    writer.check(&scene).await;
}

/// Claims and their definition stay, databases serve; what has to wait waits, and is done by the next operator.
pub async fn an_uninstalled_operator_leaves_everything_and_a_new_one_takes_over(scene: Scene) {
    let world = scene.world.clone();
    scene.uses(Need::Operator);
    for (claim, policy) in [("orders", "Retain"), ("bills", "Retain"), ("notes", "Delete")] {
        scene.apply(claim, json!({"deletionPolicy": policy})).await;
        scene.ready(claim).await;
    }
    let before = scene.api::<Pod>().get(POD).await.unwrap();
    let writer = Writer::begin(&scene, "orders").await;
    uninstall(&world).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let definition = definitions.get(CRD).await.expect("the definition stays");
    assert_eq!(definition.metadata.deletion_timestamp, None);
    assert_eq!(scene.claim("orders").await.metadata.deletion_timestamp, None);
    // Without the operator: `Retain` needs nobody, `Delete` waits.
    scene.delete_claim("bills").await;
    let claims = scene.api::<DatabaseClaim>();
    claims.delete("notes", &DeleteParams::default()).await.unwrap();
    writer.goes_on().await;
    assert!(scene.claim("notes").await.metadata.deletion_timestamp.is_some());
    scene
        .api::<Pod>()
        .get("notes-db-1-0")
        .await
        .expect("its database serves");
    let from = audit::end(&world);
    let stage = &world.stage;
    stage
        .install(&stage.image, Progress::Silent, &World::values())
        .await
        .unwrap();
    scene.gone::<DatabaseClaim>("notes").await;
    scene.gone::<Pod>("notes-db-1-0").await;
    // A claim that comes up shows that all have been looked at.
    scene.apply("bills", json!({})).await;
    scene.ready("bills").await;
    let requests = audit::requests(&world, audit::OPERATOR, &scene.namespace, from);
    let needless: Vec<_> = requests
        .iter()
        .filter(|it| it.is_write() && it.name.starts_with("orders"))
        .collect();
    assert!(needless.is_empty(), "{needless:?}");
    writer.goes_on().await;
    unchanged(&scene, &before).await;
    assert_eq!(writer.connections(), 1, "the session was cut");
    writer.check(&scene).await;
}

/// `kubectl wait` returns when a client can connect, not before; and when a deleted claim is gone.
pub async fn kubectl_waits_until_a_claim_is_ready(scene: Scene) {
    scene.apply("orders", json!({})).await;
    let kubectl = scene.world.stage.cluster.program("kubectl");
    let wait = |condition: &'static str| {
        let arguments = ["wait", "dbclaim/orders", condition, "--timeout=120s"];
        let mut command = Command::new(&kubectl);
        command.args(arguments).args(["--namespace", &scene.namespace]);
        let world = &scene.world;
        async move { succeeds(&run(world, command).await) }
    };
    wait("--for=condition=Ready").await;
    scene.write("orders", "at once").await;
    let claims = scene.api::<DatabaseClaim>();
    claims.delete("orders", &DeleteParams::default()).await.unwrap();
    wait("--for=delete").await;
}

/// helm 4 watches custom resources as kstatus reads them: Ready, Reconciling, Stalled and observedGeneration.
pub async fn helm_waits_for_a_claim_in_a_chart(scene: Scene) {
    let helm = programs::tool("helm4", Progress::Silent).await.unwrap();
    let folder = std::env::temp_dir().join(format!("dbclaim-{}-chart", scene.namespace));
    let claim = json!({"apiVersion": "platform.acme.com/v1", "kind": "DatabaseClaim",
        "metadata": {"name": "orders"},
        "spec": {"engine": scene.engine.name(), "size": "small", "team": "checkout", "storage": "1Gi"}});
    let mut later = claim.clone();
    later["spec"]["storage"] = "2Gi".into();
    let mut wrong = claim.clone();
    wrong["metadata"]["name"] = "bills".into();
    let deploy = |release: &'static str, claim: Value, timeout: &'static str| {
        chart(&folder, &claim);
        let mut command = Command::new(&helm);
        command
            .args(["upgrade", "--install", release])
            .arg(&folder)
            .args(["--wait", "--timeout", timeout, "--namespace", &scene.namespace]);
        run(&scene.world, command)
    };
    succeeds(&deploy("app", claim, "120s").await);
    now_ready(&scene.claim("orders").await);
    scene.write("orders", "at once").await;
    succeeds(&deploy("app", later, "120s").await);
    let claim = scene.claim("orders").await;
    now_ready(&claim);
    let members = claim.status.unwrap().members;
    assert_eq!(
        members[0].storage.as_deref(),
        Some("2Gi"),
        "helm did not wait for the volume"
    );
    // Somebody has taken a name: a human has to act, so nobody needs to wait.
    let taken: k8s_openapi::api::core::v1::Service =
        serde_json::from_value(json!({"metadata": {"name": "bills-db"}, "spec": {"ports": [{"port": 1}]}}))
            .unwrap();
    scene
        .api()
        .create(&kube::api::PostParams::default(), &taken)
        .await
        .unwrap();
    let outcome = deploy("other", wrong, "20s").await;
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(!outcome.status.success() && said.contains("bills"), "{said}");
}

fn now_ready(claim: &DatabaseClaim) {
    let status = claim.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().find(|it| it.type_ == "Ready");
    let ready = ready.filter(|it| it.observed_generation == claim.metadata.generation);
    assert_eq!(
        ready.map(|it| it.status.as_str()),
        Some("True"),
        "{:?}",
        status.conditions
    );
}

/// A chart that contains nothing but a claim.
fn chart(folder: &Path, claim: &Value) {
    std::fs::create_dir_all(folder.join("templates")).unwrap();
    std::fs::write(
        folder.join("Chart.yaml"),
        "apiVersion: v2\nname: app\nversion: 0.1.0\n",
    )
    .unwrap();
    std::fs::write(folder.join("templates/claim.yaml"), claim.to_string()).unwrap();
}

/// Runs a program against this cluster.
pub async fn run(world: &World, mut command: Command) -> Output {
    let kubeconfig = world.stage.cluster.kubeconfig();
    command
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command.output().await.unwrap()
}

pub fn succeeds(output: &Output) {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// The operator's image under another name, as a new version has it.
async fn tag_anew(world: &World) -> String {
    let cluster = &world.stage.cluster;
    let next = format!("{}-next", world.stage.image);
    for node in cluster.nodes() {
        let mut command = Command::new(cluster.program("ctr"));
        command.arg("--address").arg(node.containerd_socket());
        command.args([
            "--namespace",
            "k8s.io",
            "images",
            "tag",
            "--force",
            &world.stage.image,
            &next,
        ]);
        succeeds(&command.output().await.unwrap());
    }
    next
}

async fn uninstall(world: &World) {
    let mut command = Command::new(&world.stage.helm);
    command.args(["uninstall", "dbclaim", "--namespace", operator::NAMESPACE]);
    succeeds(&run(world, command).await);
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    eventually("no operator", || async {
        let left = pods
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        let left: Vec<_> = left.items.iter().map(ResourceExt::name_any).collect();
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    })
    .await;
}

/// The same Pod, in which nothing was restarted.
async fn unchanged(scene: &Scene, before: &Pod) {
    let after = scene.api::<Pod>().get(POD).await.unwrap();
    let containers = |pod: &Pod| {
        let statuses = pod
            .status
            .clone()
            .unwrap_or_default()
            .container_statuses
            .unwrap_or_default();
        statuses.into_iter().map(|it| it.container_id).collect::<Vec<_>>()
    };
    assert_eq!(
        (after.uid(), containers(&after)),
        (before.uid(), containers(before))
    );
}
