//! New credentials on request, while clients come and go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use dbclaim::api::key;
use dbclaim::api::v1::DatabaseClaim;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::binding::Binding;
use crate::world::{OVERLAP, Scene, eventually};

const POD: &str = "orders-db-1-0";
const ROTATIONS: usize = 10;

/// Asks for one, and waits until it is done and the one after it could begin.
async fn rotate(scene: &Scene, request: &str) {
    let change = json!({"metadata": {"annotations": {key::ROTATE: request}}});
    let claims = scene.api::<DatabaseClaim>();
    claims
        .patch("orders", &PatchParams::default(), &Patch::Merge(change))
        .await
        .unwrap();
    eventually("a rotation that is done", || async {
        let status = scene.claim("orders").await.status.unwrap();
        match &status.rotation {
            Some(it) if it.done.as_deref() == Some(request) => Ok(()),
            _ => Err(format!("{status:?}")),
        }
    })
    .await;
}

/// A client that reads the Secret, connects by it again and again, and reads it again long before the overlap is
/// over. Never returns: whatever keeps it out is a failure.
async fn comes_and_goes(scene: &Scene, connected: &AtomicUsize) {
    loop {
        let read = Instant::now();
        let (binding, address) = scene.binding("orders").await;
        while read.elapsed() < OVERLAP / 4 {
            let client = scene.engine.connect(&binding, address).await;
            let username = binding.get("username").unwrap();
            let client = client.unwrap_or_else(|error| panic!("{username} is not let in: {error:#}"));
            client.column("SELECT CONCAT(1, '')").await.unwrap();
            connected.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn ten_rotations(scene: &Scene, connected: &AtomicUsize) {
    for number in 1..=ROTATIONS {
        let (before, address) = scene.binding("orders").await;
        rotate(scene, &format!("request {number}")).await;
        let (after, _) = scene.binding("orders").await;
        assert_ne!(before.get("password").unwrap(), after.get("password").unwrap());
        let promised = scene.engine.connect(&before, address).await;
        promised.expect("the credentials before are valid for the overlap");
        // Whoever made a table, the next one owns it.
        let client = scene.engine.connect(&after, address).await.unwrap();
        if number > 1 {
            client
                .run(&format!("DROP TABLE made_{}", number - 1))
                .await
                .unwrap();
        }
        client
            .run(&format!("CREATE TABLE made_{number} (id int PRIMARY KEY)"))
            .await
            .unwrap();
    }
    println!(
        "{} connections through {ROTATIONS} rotations",
        connected.load(Ordering::Relaxed)
    );
}

async fn refused(scene: &Scene, binding: &Binding) {
    let (_, address) = scene.binding("orders").await;
    eventually("credentials that have ended", || async {
        match scene.engine.connect(binding, address).await {
            Err(_) => Ok(()),
            Ok(_) => Err("let in".to_owned()),
        }
    })
    .await;
}

/// Ten times new credentials: a client that reads the Secret again is never kept out, an open session stays, what
/// was before ends after the overlap, and nothing is restarted.
pub async fn a_client_that_reads_the_secret_again_is_let_in_through_ten_rotations(scene: Scene) {
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    let uid = async || scene.api::<Pod>().get(POD).await.unwrap().uid();
    let pod = uid().await;
    let session = scene.connect("orders").await;
    let (first, _) = scene.binding("orders").await;
    let connected = AtomicUsize::new(0);
    tokio::select! {
        () = comes_and_goes(&scene, &connected) => unreachable!("it never ends"),
        () = ten_rotations(&scene, &connected) => {}
    }
    assert!(connected.load(Ordering::Relaxed) > ROTATIONS);
    session
        .column("SELECT CONCAT(1, '')")
        .await
        .expect("the session stays open");
    let (last, _) = scene.binding("orders").await;
    refused(&scene, &first).await;
    // The one before the last is the last that is still promised.
    rotate(&scene, "one more").await;
    refused(&scene, &last).await;
    scene.connect("orders").await;
    assert_eq!(uid().await, pod, "the Pod was restarted");
}
