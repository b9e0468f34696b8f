//! New credentials on request, while clients come and go.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use dbclaim::api::key;
use dbclaim::api::v1::DatabaseClaim;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::binding::Binding;
use crate::world::{OVERLAP, Scene, eventually};

const POD: &str = "orders-db-1-0";

/// Asks for one, and waits until it is done. Returns until when the credentials before are valid.
async fn rotate(scene: &Scene, request: &str) -> Option<Timestamp> {
    let change = json!({"metadata": {"annotations": {key::ROTATE: request}}});
    let claims = scene.api::<DatabaseClaim>();
    claims
        .patch("orders", &PatchParams::default(), &Patch::Merge(change))
        .await
        .unwrap();
    eventually("a rotation that is done", || async {
        let status = scene.claim("orders").await.status.unwrap();
        match &status.rotation {
            Some(it) if it.done.as_deref() == Some(request) => Ok(it.previous_valid_until.clone()),
            _ => Err(format!("{status:?}")),
        }
    })
    .await
    .map(|it| it.parse().unwrap())
}

/// A client that reads the Secret, connects by it again and again, and reads it again long before the overlap is
/// over. Never returns: whatever keeps it out is a failure.
async fn comes_and_goes(scene: &Scene, connected: &AtomicUsize) {
    loop {
        let (read, until) = (Instant::now(), Timestamp::now() + OVERLAP);
        let (binding, address) = scene.binding("orders").await;
        while read.elapsed() < OVERLAP / 4 {
            if connects(scene, &binding, address, until).await {
                connected.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Whether a client is let in. A refusal is a failure as long as the credentials have to be valid, and none after that:
/// a busy machine may hold up a client for longer.
async fn connects(scene: &Scene, binding: &Binding, address: IpAddr, until: Timestamp) -> bool {
    let connect = async {
        let client = scene.engine.connect(binding, address).await?;
        client.column("SELECT CONCAT(1, '')").await
    };
    match connect.await {
        Ok(_) => true,
        Err(_) if Timestamp::now() >= until => false,
        Err(error) => panic!("{} is not let in: {error:#}", binding.get("username").unwrap()),
    }
}

/// So many, one after the other.
async fn rotations(scene: &Scene, count: usize) {
    for number in 1..=count {
        let (before, address) = scene.binding("orders").await;
        let until = rotate(scene, &format!("request {number}")).await;
        let (after, _) = scene.binding("orders").await;
        assert_ne!(before.get("password").unwrap(), after.get("password").unwrap());
        connects(
            scene,
            &before,
            address,
            until.expect("an end of the credentials before"),
        )
        .await;
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

/// Some of what `a_client_that_reads_the_secret_again_is_let_in_through_ten_rotations` shows.
pub async fn a_client_that_reads_the_secret_again_is_let_in_through_three_rotations(scene: Scene) {
    let_in_through(scene, 3).await;
}

/// New credentials again and again: a client that reads the Secret again is never kept out, an open session stays,
/// what was before ends after the overlap, and nothing is restarted.
pub async fn a_client_that_reads_the_secret_again_is_let_in_through_ten_rotations(scene: Scene) {
    let_in_through(scene, 10).await;
}

async fn let_in_through(scene: Scene, count: usize) {
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    let uid = async || scene.api::<Pod>().get(POD).await.unwrap().uid();
    let pod = uid().await;
    let session = scene.connect("orders").await;
    let (first, _) = scene.binding("orders").await;
    let connected = AtomicUsize::new(0);
    tokio::select! {
        () = comes_and_goes(&scene, &connected) => unreachable!("it never ends"),
        () = rotations(&scene, count) => {}
    }
    let connected = connected.load(Ordering::Relaxed);
    println!("{connected} connections through {count} rotations");
    assert!(connected > count);
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
