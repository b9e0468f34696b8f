//! Two replicas of the operator, of which one works: what happens to the claims when that one ends.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use rustix::process::Signal;
use serde_json::json;

use crate::audit::{self, Request};
use crate::schedule::Need;
use crate::world::{OPERATOR_NAMESPACE, Scene, World, eventually};

/// From a SIGKILL of the leader until another one leads.
const SUCCESSION: Duration = Duration::from_secs(20);
/// From a SIGTERM. The aim is 1 s on an idle machine; the term of a Lease that is not released is 15 s.
const HANDOVER: Duration = Duration::from_secs(5);

/// The node goes on, the process does not: nobody says that the leader is gone.
pub async fn a_killed_leader_is_succeeded_and_the_claim_becomes_ready(scene: Scene) {
    let world = scene.world.clone();
    scene.uses(Need::Operator);
    let first = led(&world).await;
    let process = World::operator_process(&first).expect("the leader's process");
    let lease = world.leases().get("dbclaim").await.unwrap();
    let before = lease.spec.unwrap().holder_identity;
    process.kill();
    let started = Instant::now();
    scene.apply("orders", json!({})).await;
    // The container that is restarted in the same Pod is a candidate like any other, but another holder.
    eventually("another leader", || async {
        let lease = world.leases().get("dbclaim").await;
        let spec = lease.map_err(|error| error.to_string())?.spec.unwrap_or_default();
        if spec.holder_identity == before {
            Err(format!("{spec:?}"))
        } else {
            Ok(())
        }
    })
    .await;
    let took = started.elapsed();
    println!("another leader after {took:?}");
    assert!(took < SUCCESSION, "{took:?}");
    scene.ready("orders").await;
}

/// As in a rollout or a drain.
pub async fn a_terminated_leader_hands_over_and_ends_well(scene: Scene) {
    let world = scene.world.clone();
    scene.uses(Need::Operator);
    let first = led(&world).await;
    let from = audit::end(&world);
    let process = World::operator_process(&first).expect("the leader's process");
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    process.signal(Signal::TERM);
    let started = Instant::now();
    let second = world.leader(Some(&first)).await;
    let took = started.elapsed();
    println!("handed over in {took:?}");
    assert!(took < HANDOVER, "{took:?}");
    let name = first.name_any();
    let container = container(&first).container_id;
    let code = eventually("the first leader's end", || async {
        let pod = pods.get(&name).await.map_err(|error| error.to_string())?;
        let now = self::container(&pod);
        // Waiting for its restart, or restarted.
        let states = [now.state.clone(), now.last_state.clone()];
        let ended = states.into_iter().flatten().filter_map(|it| it.terminated);
        let ended = ended.into_iter().find(|it| it.container_id == container);
        ended.map(|it| it.exit_code).ok_or_else(|| format!("{now:?}"))
    })
    .await;
    assert_eq!(code, 0, "exit code of the first leader");
    assert_ne!(second.name_any(), name);
    // The last that the first one wrote is the release.
    let requests = audit::all(&world, audit::OPERATOR, from);
    let last = requests.iter().rfind(|it| it.pod == name && it.is_write());
    assert_eq!(last.map(|it| it.resource.as_str()), Some("leases"), "{last:?}");
    // The standby was told by its watch, which it is allowed to have; it did not ask again and again.
    let watches = requests
        .iter()
        .filter(|it| it.resource == "leases" && it.verb == "watch");
    let codes: Vec<_> = watches.map(|it| it.code).collect();
    assert!(
        !codes.is_empty() && codes.iter().all(|it| *it == 200),
        "{codes:?}"
    );
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
}

/// SIGSTOP in the middle of its work, past its lease, and SIGCONT when another one has done that work.
pub async fn a_paused_leader_writes_nothing_when_it_wakes(scene: Scene) {
    let world = scene.world.clone();
    scene.uses(Need::Operator);
    let first = led(&world).await;
    let (name, process) = (first.name_any(), World::operator_process(&first).unwrap());
    let from = audit::end(&world);
    for claim in 0..3 {
        scene.apply(&format!("orders-{claim}"), json!({})).await;
    }
    let at_work = || by(&world, &name, from).into_iter().any(|it| it.is_write());
    eventually("the leader at work", || async {
        at_work().then_some(()).ok_or("no write".into())
    })
    .await;
    process.signal(Signal::STOP);
    world.leader(Some(&first)).await;
    // Something that it will hear of as soon as it wakes, before it finds out that it leads no more.
    let pods: Api<Pod> = scene.api();
    for claim in 0..3 {
        let (name, changed) = (format!("orders-{claim}"), json!({"team": "billing"}));
        scene.apply(&name, changed).await;
        let _ = pods
            .delete(&format!("{name}-db-1-0"), &DeleteParams::default())
            .await;
    }
    let asleep = audit::end(&world);
    assert!(
        process.is_alive(),
        "the process was killed in its sleep, which shows nothing"
    );
    process.signal(Signal::CONT);
    eventually("the end of the process that woke", || async {
        (!process.is_alive()).then_some(()).ok_or("it runs".into())
    })
    .await;
    scene.ready("orders-0").await;
    // A renewal that was under way when it was stopped names the version of the lease, and is refused.
    let refused = |it: &Request| it.resource == "leases" && it.code == 409;
    let written: Vec<Request> = by(&world, &name, asleep)
        .into_iter()
        .filter(|it| it.is_write() && !refused(it))
        .collect();
    assert!(written.is_empty(), "{written:#?}");
}

/// Waits until there is a leader and one that stands by.
async fn led(world: &World) -> Pod {
    let leader = world.leader(None).await;
    eventually("a leader and a standby that are ready", || async {
        let ready = |pod: &&Pod| {
            let status = pod.status.clone().unwrap_or_default();
            let conditions = status.conditions.unwrap_or_default();
            conditions
                .iter()
                .any(|it| it.type_ == "Ready" && it.status == "True")
        };
        let pods = world.operators().await;
        let ready = pods.iter().filter(ready).count();
        if ready == 2 {
            Ok(())
        } else {
            Err(format!("{ready} ready"))
        }
    })
    .await;
    leader
}

fn container(pod: &Pod) -> ContainerStatus {
    let status = pod.status.clone().unwrap_or_default();
    let mut containers = status.container_statuses.unwrap_or_default().into_iter();
    containers.next().unwrap_or_default()
}

/// What a Pod asked for since a byte of the log.
fn by(world: &World, pod: &str, from: u64) -> Vec<Request> {
    let mut requests = audit::all(world, audit::OPERATOR, from);
    requests.retain(|it| it.pod == pod);
    requests
}
