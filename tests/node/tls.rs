//! TLS on the way to the database: who is let in, who is believed, and how certificates change under way.

use std::time::Duration;

use dbclaim::certificate::{self, Keys, fingerprint};
use dbclaim::claim::ClaimId;
use dbclaim::issue::{self, Lifetimes};
use dbclaim::plan::Order;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::world::{Scene, eventually};

const POD: &str = "orders-db-1-0";
/// Life of a certificate that is renewed soon, in seconds, and how much of it is over. It is renewed after two thirds.
const SHORT_LIFE: (u64, i64) = (600, 395);
/// A former authority signs for a sixth of a certificate's life after there is a new one, which says that it began an
/// hour ago. With this life it is some seconds.
const LONG_LIFE: (u64, i64) = (6 * 3605, 0);

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

/// Waits until clients get to see a certificate that is none of these, and a client with the Secret's `ca.crt` accepts
/// it.
async fn other_certificate(scene: &Scene, former: &[&str]) -> String {
    let seen = eventually("another certificate", || async {
        let tls = report(scene).await?;
        match tls["certificate"].as_str() {
            Some(now) if !former.contains(&now) && tls["verified"] == true => Ok(now.to_owned()),
            _ => Err(tls.to_string()),
        }
    })
    .await;
    scene.connect("orders").await;
    seen
}

/// Puts a certificate that the claim's own authority has signed into the Secret from which the agent has it, as if the
/// operator had made it some time ago. Returns what the agent will call it.
async fn sign(scene: &Scene, (life, over): (u64, i64)) -> String {
    let secrets = scene.api::<Secret>();
    let data = secrets.get("orders-db-admin").await.unwrap().data.unwrap();
    let text = |key: &str| String::from_utf8(data[key].0.clone()).unwrap();
    let keys = Keys {
        ca: text("ca.crt"),
        ca_key: text("ca.key"),
        ..Keys::default()
    };
    let id = ClaimId {
        namespace: scene.namespace.clone(),
        name: "orders".into(),
        uid: scene.claim("orders").await.uid().unwrap(),
    };
    let lifetimes = Lifetimes {
        server: Duration::from_secs(life),
        ..Lifetimes::default()
    };
    let then = Timestamp::now() - SignedDuration::from_secs(over);
    let made = issue::carry_out(&Order::Server(keys), &id, lifetimes, then).unwrap();
    let change = json!({"stringData": {"tls.crt": made.certificate, "tls.key": made.key}});
    secrets
        .patch("orders-db-admin", &PatchParams::default(), &Patch::Merge(change))
        .await
        .unwrap();
    // The kubelet looks at the Secrets of a Pod that changes.
    let touch = json!({"metadata": {"annotations": {"example.com/signed": then.to_string()}}});
    let pods = scene.api::<Pod>();
    pods.patch(POD, &PatchParams::default(), &Patch::Merge(touch))
        .await
        .unwrap();
    fingerprint(&certificate::first(&made.certificate).unwrap())
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
    other_certificate(scene, &[certificate]).await;
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

/// Years, watched within seconds: the certificate is renewed when it is due, then its authority is replaced. A session
/// stays open all the time, new ones verify with what the Secret said before or says now, nothing is restarted.
pub async fn certificates_are_renewed_while_a_session_stays_open(scene: Scene) {
    let engine = scene.engine;
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    let before = uid(&scene).await;
    let session = scene.connect("orders").await;
    let (first_binding, address) = scene.binding("orders").await;
    let first = report(&scene).await.unwrap()["certificate"]
        .as_str()
        .unwrap()
        .to_owned();
    let short = sign(&scene, SHORT_LIFE).await;
    let renewed = other_certificate(&scene, &[&first, &short]).await;
    let long = sign(&scene, LONG_LIFE).await;
    assert_eq!(other_certificate(&scene, &[&renewed]).await, long);
    engine
        .connect(&first_binding, address)
        .await
        .expect("the authority is the same");
    another_authority(&scene, &long).await;
    scene.connect("orders").await;
    let former = engine.connect(&first_binding, address).await;
    assert!(former.is_err(), "the former authority alone");
    session
        .column("SELECT CONCAT(1, '')")
        .await
        .expect("the session stays open");
    assert_eq!(uid(&scene).await, before, "the Pod was restarted");
    scene.ready("orders").await;
}
