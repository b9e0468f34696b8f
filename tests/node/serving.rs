//! A claim that serves, and what it costs.

use dbclaim::api::v1::DatabaseClaim;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::binding::Binding;
use crate::engines::Engine;
use crate::world::{Scene, eventually};
use crate::{audit, processes};

/// The main job, with every key of the Secret.
pub async fn a_client_needs_nothing_but_the_secret(scene: Scene) {
    scene
        .apply("orders", json!({"database": "shop", "username": "clerk"}))
        .await;
    scene.ready("orders").await;
    scene.write("orders", "first").await;
    assert_eq!(scene.rows("orders").await, ["first"]);
    let (binding, _) = scene.binding("orders").await;
    let host = format!("orders-db.{}.svc.cluster.local", scene.namespace);
    let facts = scene.engine.facts();
    let (type_, port) = (facts.binding_type, facts.port.to_string());
    for (key, value) in [
        ("type", type_),
        ("provider", "dbclaim"),
        ("host", &host),
        ("port", &port),
        ("database", "shop"),
        ("username", "clerk"),
    ] {
        assert_eq!(binding.get(key).unwrap(), value, "{key}");
    }
    let password = binding.get("password").unwrap();
    let jdbc = format!(
        "jdbc:{type_}://{host}:{port}/shop?user=clerk&password={password}&{}",
        facts.jdbc_option
    );
    assert_eq!(binding.get("jdbc-uri").unwrap(), jdbc);
    let claim = scene.claim("orders").await;
    let status = claim.status.unwrap();
    assert_eq!(status.binding.unwrap().name, "orders-db-app");
    assert_eq!(status.endpoints.unwrap().read_write, format!("{host}:{port}"));
    let client = scene.connect("orders").await;
    for (query, value) in facts.decided {
        assert_eq!(client.column(query).await.unwrap(), [*value], "{query}");
    }
    own_client(&scene, &binding).await;
}

/// The engine's own client, run where there is one, with nothing but the Secret.
async fn own_client(scene: &Scene, binding: &Binding) {
    let get = |key| binding.get(key).unwrap().to_owned();
    let query = "SELECT entry FROM kept";
    let client = match scene.engine {
        Engine::Postgres => vec!["psql".into(), "-At".into(), get("uri"), "-c".into(), query.into()],
        Engine::Mysql => vec![
            "mysql".into(),
            format!("--host={}", get("host")),
            format!("--port={}", get("port")),
            format!("--user={}", get("username")),
            format!("--password={}", get("password")),
            "--batch".into(),
            "--skip-column-names".into(),
            format!("--execute={query}"),
            get("database"),
        ],
    };
    let cluster = &scene.world.stage.cluster;
    let mut kubectl = tokio::process::Command::new(cluster.program("kubectl"));
    kubectl
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig())
        .args(["-n", &scene.namespace, "exec", "orders-db-1-0", "--"])
        .args(client);
    let output = kubectl.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        said.trim(),
        "first",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What every database Pod carries beside its database.
pub async fn fencer_and_agent_stay_under_6_mb(scene: Scene) {
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    let pod = scene.api::<Pod>().get("orders-db-1-0").await.unwrap();
    let ours: Vec<_> = processes::of_pod(&pod.uid().unwrap())
        .into_iter()
        .filter(|process| process.command.contains("dbclaim-agent") || process.command.contains("supervise"))
        .collect();
    assert_eq!(ours.len(), 2, "fencer and agent: {ours:?}");
    let bytes: u64 = ours.iter().map(processes::Process::rss_anon).sum();
    println!("fencer and agent: {bytes} bytes of RssAnon");
    assert!(
        bytes > 0 && bytes < 6_000_000,
        "{bytes} bytes of RssAnon: {ours:?}"
    );
}

/// Requests from create to Ready, and none after.
pub async fn a_ready_claim_costs_no_writes(scene: Scene) {
    let from = audit::end(&scene.world);
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    let requests = audit::requests(&scene.world, audit::OPERATOR, &scene.namespace, from);
    let statuses = requests
        .iter()
        .filter(|it| it.resource == "databaseclaims/status")
        .count();
    println!(
        "{} requests from create to Ready, {statuses} of them status writes",
        requests.len()
    );
    let quiet = audit::end(&scene.world);
    // Something that makes the watches speak without changing anything of ours.
    let pods = scene.api::<Pod>();
    let touch = Patch::Merge(json!({"metadata": {"annotations": {"example.com/touched": "yes"}}}));
    pods.patch("orders-db-1-0", &PatchParams::default(), &touch)
        .await
        .unwrap();
    // A second claim that comes up after it shows that the operator has seen the first one's event.
    scene.apply("bills", json!({})).await;
    scene.ready("bills").await;
    let after = audit::requests(&scene.world, audit::OPERATOR, &scene.namespace, quiet);
    let writes: Vec<_> = after
        .iter()
        .filter(|it| it.is_write() && it.name.starts_with("orders"))
        .collect();
    assert!(writes.is_empty(), "{writes:?}");
}

/// What has not changed is not written, also not by a new process that remembers nothing.
pub async fn a_restarted_operator_writes_nothing(scene: Scene) {
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    let from = audit::end(&scene.world);
    scene.kill_operator().await;
    // A claim that comes up shows that the new process has taken up all claims.
    scene.apply("bills", json!({})).await;
    scene.ready("bills").await;
    let requests = audit::requests(&scene.world, audit::OPERATOR, &scene.namespace, from);
    let writes: Vec<_> = requests
        .iter()
        .filter(|it| it.is_write() && it.name.starts_with("orders"))
        .collect();
    assert!(writes.is_empty(), "{writes:?}");
}

/// A label is no reason to restart a database.
pub async fn a_new_team_is_labelled_without_a_restart(scene: Scene) {
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    let before = scene.api::<Pod>().get("orders-db-1-0").await.unwrap();
    scene.apply("orders", json!({"team": "billing"})).await;
    let pods = scene.api::<Pod>();
    let pod = eventually("the Pod's team label", || async {
        let pod = pods
            .get("orders-db-1-0")
            .await
            .map_err(|error| error.to_string())?;
        let team = pod.labels().get("platform.acme.com/team").cloned();
        if team.as_deref() == Some("billing") {
            Ok(pod)
        } else {
            Err(format!("{team:?}"))
        }
    })
    .await;
    assert_eq!(pod.uid(), before.uid(), "the Pod was restarted");
    let volumes = scene.api::<PersistentVolumeClaim>();
    eventually("the volume's team label", || async {
        let volume = volumes
            .get("orders-db-1")
            .await
            .map_err(|error| error.to_string())?;
        let team = volume.labels().get("platform.acme.com/team").cloned();
        if team.as_deref() == Some("billing") {
            Ok(())
        } else {
            Err(format!("{team:?}"))
        }
    })
    .await;
    scene.ready("orders").await;
}

/// The volume grows, and nothing else happens.
pub async fn storage_grows_while_serving(scene: Scene) {
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    let before = scene.api::<Pod>().get("orders-db-1-0").await.unwrap();
    scene.apply("orders", json!({"storage": "2Gi"})).await;
    let claims = scene.api::<DatabaseClaim>();
    eventually("status.members[0].storage 2Gi", || async {
        let claim = claims.get("orders").await.map_err(|error| error.to_string())?;
        let status = claim.status.unwrap_or_default();
        let storage = status.members.first().and_then(|it| it.storage.clone());
        if storage.as_deref() == Some("2Gi") {
            Ok(())
        } else {
            Err(format!("{storage:?} {:?}", status.conditions))
        }
    })
    .await;
    scene.condition("orders", "StorageReady", "True", "Ready").await;
    let pod = scene.api::<Pod>().get("orders-db-1-0").await.unwrap();
    assert_eq!(pod.uid(), before.uid(), "the Pod was restarted");
}
