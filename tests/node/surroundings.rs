//! Trouble that comes from the cluster around a claim: a node that is gone, a default that is missing, somebody who
//! changes our Pods. As with all trouble: named, told once, and healed when the cause is gone.

use dbclaim::api::v1::DatabaseClaim;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::admission::Policy;
use crate::ledger::Writer;
use crate::processes;
use crate::trouble::{healed, named, soon};
use crate::world::{HOME_CLASS, Scene, class, eventually};

/// The node's cable is pulled: nothing is forced, and with the node everything comes back.
pub async fn a_lost_node_is_named_and_heals_when_it_returns(scene: Scene) {
    let node = scene.spare_node();
    let before = scene.ready_on(node).await;
    let pods = scene.api::<Pod>();
    let writer = Writer::begin(&scene, "orders").await;
    node.disconnect().unwrap();
    let parts = [
        format!("node {} does not answer", node.name()),
        "PersistentVolumeClaim orders-db-1".to_owned(),
        "Bring the node back".to_owned(),
        "out-of-service=nodeshutdown".to_owned(),
    ];
    let parts: Vec<_> = parts.iter().map(String::as_str).collect();
    named(&scene, "NodeLost", &parts).await;
    let meanwhile = pods.get("orders-db-1-0").await.unwrap();
    assert_eq!(
        (meanwhile.uid(), meanwhile.metadata.deletion_timestamp),
        (before.uid(), None),
        "the Pod was forced"
    );
    node.reconnect().unwrap();
    healed(&scene).await;
    writer.goes_on().await;
    writer.check(&scene).await;
}

/// Nobody marks a class as default, so that a claim that names none gets no volume.
pub async fn a_missing_default_storage_class_is_named_and_heals(scene: Scene) {
    let classes: Api<StorageClass> = Api::all(scene.world.client.clone());
    let make_default = |is_default| {
        let (classes, node) = (classes.clone(), scene.world.stage.cluster.nodes()[0].name());
        let class = class(HOME_CLASS, is_default, Some(node));
        let parameters = PatchParams::apply("test").force();
        async move {
            let patched = classes.patch(HOME_CLASS, &parameters, &Patch::Apply(class)).await;
            patched.unwrap();
        }
    };
    make_default(false).await;
    scene.apply("orders", json!({})).await;
    let parts = [
        "PersistentVolumeClaim orders-db-1 names no StorageClass",
        "the cluster has no default one",
        "is-default-class=true",
    ];
    named(&scene, "StorageClassMissing", &parts).await;
    soon(&scene, "StorageClassMissing").await;
    scene
        .condition("orders", "StorageReady", "False", "StorageClassMissing")
        .await;
    make_default(true).await;
    healed(&scene).await;
}

/// Somebody has put a container into our Pod that does not end when it is told to. The database has stopped long before.
pub async fn a_container_that_ignores_sigterm_is_named_as_what_is_waited_for(scene: Scene) {
    let policy = Policy::make(
        &scene,
        "MutatingAdmissionPolicy",
        changes_pods(&stubborn_container()),
        json!({}),
    )
    .await;
    policy.adds::<Pod>(&scene, restricted_pod(), "mesh-proxy").await;
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    let pod = scene.api::<Pod>().get("orders-db-1-0").await.unwrap();
    let names: Vec<_> = pod
        .spec
        .iter()
        .flat_map(|it| &it.containers)
        .map(|it| &it.name)
        .collect();
    assert_eq!(
        names,
        ["database", "mesh-proxy"],
        "the policy was not in force yet"
    );
    let restart = json!({"metadata": {"annotations": {"platform.acme.com/restart": "1"}}});
    let claims = scene.api::<DatabaseClaim>();
    let changed = claims
        .patch("orders", &PatchParams::default(), &Patch::Merge(restart))
        .await;
    changed.unwrap();
    let stopping = eventually("a Pod that stops", || async {
        let claim = scene.claim("orders").await;
        let conditions = claim.status.unwrap_or_default().conditions;
        let ready = conditions.into_iter().find(|it| it.type_ == "Ready");
        match ready.filter(|it| it.reason == "Stopping" && it.message.contains("mesh-proxy")) {
            Some(it) => Ok(it.message),
            None => Err(format!(
                "{:?}",
                scene.api::<Pod>().get("orders-db-1-0").await.map(|it| it.status)
            )),
        }
    })
    .await;
    println!("{stopping}");
    let until = scene
        .api::<Pod>()
        .get("orders-db-1-0")
        .await
        .unwrap()
        .metadata
        .deletion_timestamp;
    assert!(stopping.contains(&until.unwrap().0.to_string()), "{stopping}");
    let others = processes::of_pod(&pod.uid().unwrap());
    let others = others.iter().filter(|it| it.command.contains("trap ''"));
    others.for_each(processes::Process::kill);
    policy.remove().await;
    scene.ready("orders").await;
}

/// Puts a container into a Pod that ignores SIGTERM.
fn stubborn_container() -> Value {
    // An apply configuration cannot set lists such as a command.
    let inject = r#"[JSONPatch{op: "add", path: "/spec/containers/-", value: Object.spec.containers{
        name: "mesh-proxy", image: object.spec.containers[0].image,
        command: ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"],
        securityContext: Object.spec.containers.securityContext{allowPrivilegeEscalation: false,
            capabilities: Object.spec.containers.securityContext.capabilities{drop: ["ALL"]}}}}]"#;
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": inject}})
}

fn changes_pods(mutation: &Value) -> Value {
    json!({
        "failurePolicy": "Fail", "reinvocationPolicy": "Never",
        "matchConstraints": {"resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]},
        "mutations": [mutation]})
}

/// A Pod that fits Pod Security `restricted`.
fn restricted_pod() -> Value {
    json!({"metadata": {"name": "probe"}, "spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "probe", "image": "probe", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}})
}

/// Our Pods fit `restricted`; one into which a mesh puts its container does not.
pub async fn pod_security_that_refuses_a_changed_pod_is_named_and_heals(scene: Scene) {
    let inject = r#"Object{spec: Object.spec{initContainers: [Object.spec.initContainers{
        name: "mesh-init", image: "mesh",
        securityContext: Object.spec.initContainers.securityContext{runAsUser: 0, runAsNonRoot: false}}]}}"#;
    let inject = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": inject}});
    let policy = Policy::make(
        &scene,
        "MutatingAdmissionPolicy",
        changes_pods(&inject),
        json!({}),
    )
    .await;
    policy
        .refuses::<Pod>(&scene, restricted_pod(), "violates PodSecurity")
        .await;
    scene.apply("orders", json!({})).await;
    let parts = [
        "StatefulSet orders-db-1 cannot make Pod orders-db-1-0",
        "violates PodSecurity \"restricted",
        "mesh-init",
        "look for what changes our Pods",
    ];
    named(&scene, "PodSecurityRefused", &parts).await;
    soon(&scene, "PodSecurityRefused").await;
    policy.remove().await;
    healed(&scene).await;
}
