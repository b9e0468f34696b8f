//! TLS on the way to the database: who is let in, who is believed, and how certificates change under way.

use devcluster::Progress;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::world::{Scene, World, eventually};

const POD: &str = "orders-db-1-0";
/// Seconds that certificates live while they are watched being renewed.
const LIFE: u64 = 90;

async fn require(scene: &Scene, required: bool) {
    scene
        .apply("orders", json!({"tls": {"required": required}}))
        .await;
}

async fn uid(scene: &Scene) -> String {
    scene.api::<Pod>().get(POD).await.unwrap().uid().unwrap()
}

/// What the agent says of TLS.
async fn report(scene: &Scene) -> Result<Value, String> {
    let map = scene.api::<ConfigMap>().get("orders-db-1-report").await;
    let map = map.map_err(|error| error.to_string())?;
    let text = map.annotations().get("platform.acme.com/report");
    let report: Value = serde_json::from_str(text.ok_or("no report")?).map_err(|error| error.to_string())?;
    Ok(report["tls"].clone())
}

/// Waits until clients get to see another certificate, and a client with the Secret's `ca.crt` accepts it.
async fn another_certificate(scene: &Scene, before: &str) -> String {
    let seen = eventually("another certificate", || async {
        let tls = report(scene).await?;
        match tls["certificate"].as_str() {
            Some(now) if now != before && tls["verified"] == true => Ok(now.to_owned()),
            _ => Err(tls.to_string()),
        }
    })
    .await;
    scene.connect("orders").await;
    seen
}

async fn authorities(scene: &Scene) -> usize {
    let (binding, _) = scene.binding("orders").await;
    binding
        .get("ca.crt")
        .unwrap()
        .matches("BEGIN CERTIFICATE")
        .count()
}

/// A client needs `ca.crt` to believe the server, by each of its names; without TLS nobody is let in until the
/// claim says so, and neither takes a restart.
pub async fn a_client_verifies_and_plaintext_is_refused_until_it_is_allowed(scene: Scene) {
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    let before = uid(&scene).await;
    let (engine, facts) = (scene.engine, scene.engine.facts());
    let client = scene.connect("orders").await;
    assert_eq!(client.column(facts.tls).await.unwrap(), ["TLSv1.3"]);
    let (binding, address) = scene.binding("orders").await;
    let member = format!("{POD}.orders-db-members.{}.svc.cluster.local", scene.namespace);
    let reached = scene.world.stage.cluster.resolve(&member).await.unwrap();
    engine.connect_as(&member, &binding, reached).await.unwrap();
    let stranger = engine
        .connect_as("bills-db", &binding, address)
        .await
        .err()
        .unwrap();
    let words = format!("{stranger:?}").to_lowercase().replace(' ', "");
    assert!(words.contains("notvalidforname"), "{stranger:?}");
    let plainly = || async {
        let client = engine.connect_plainly(&binding, address).await;
        client.map(drop).map_err(|error| format!("{error:?}"))
    };
    let refused = plainly().await.unwrap_err();
    assert!(refused.contains(facts.plaintext_refused), "{refused}");
    require(&scene, false).await;
    eventually("plaintext is let in", plainly).await;
    engine.connect(&binding, address).await.unwrap();
    require(&scene, true).await;
    eventually("plaintext is refused again", || async {
        match plainly().await {
            Err(refused) if refused.contains(facts.plaintext_refused) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    scene.ready("orders").await;
    assert_eq!(uid(&scene).await, before, "the Pod was restarted");
}

/// The key of the authority is lost: another authority joins, and signs when applications had time to learn of it.
async fn another_authority(scene: &Scene, certificate: &str) {
    let secrets = scene.api::<Secret>();
    let lost = Patch::Merge(json!({"data": {"ca.key": null}}));
    secrets
        .patch("orders-db-admin", &PatchParams::default(), &lost)
        .await
        .unwrap();
    let markers = scene.api::<ConfigMap>();
    markers
        .delete("orders-db-admin", &DeleteParams::default())
        .await
        .unwrap();
    eventually("both authorities in the Secret", || async {
        let count = authorities(scene).await;
        (count == 2).then_some(()).ok_or(format!("{count}"))
    })
    .await;
    let (both, address) = scene.binding("orders").await;
    another_certificate(scene, certificate).await;
    let engine = scene.engine;
    engine
        .connect(&both, address)
        .await
        .expect("who knows both believes either");
    eventually("the former authority is gone", || async {
        let count = authorities(scene).await;
        (count == 1).then_some(()).ok_or(format!("{count}"))
    })
    .await;
}

/// A short life, watched from the outside: the certificate is renewed, then its authority is replaced. A session
/// stays open all the time, new ones verify with what the Secret said before or says now, nothing is restarted.
pub async fn certificates_are_renewed_while_a_session_stays_open(scene: Scene) {
    let (world, engine) = (scene.world.clone(), scene.engine);
    let _alone = world.operator.write().await;
    let mut lives = World::values();
    lives["certificates"] = json!({"lifetime": LIFE, "authorityLifetime": 4 * LIFE});
    world
        .stage
        .install(&world.stage.image, Progress::Stderr, &lives)
        .await
        .unwrap();
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    let before = uid(&scene).await;
    let session = scene.connect("orders").await;
    let (first_binding, address) = scene.binding("orders").await;
    let first = report(&scene).await.unwrap()["certificate"]
        .as_str()
        .unwrap()
        .to_owned();
    let second = another_certificate(&scene, &first).await;
    engine
        .connect(&first_binding, address)
        .await
        .expect("the authority is the same");
    another_authority(&scene, &second).await;
    scene.connect("orders").await;
    let former = engine.connect(&first_binding, address).await;
    assert!(former.is_err(), "the former authority alone");
    session
        .column("SELECT CONCAT(1, '')")
        .await
        .expect("the session stays open");
    assert_eq!(uid(&scene).await, before, "the Pod was restarted");
    world
        .stage
        .install(&world.stage.image, Progress::Stderr, &World::values())
        .await
        .unwrap();
    scene.ready("orders").await;
}
