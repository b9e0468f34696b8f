//! Trouble that comes from the cluster around a claim: a node that is gone, a default that is missing, somebody who
//! changes our Pods. As with all trouble: named, told once, and healed when the cause is gone.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::admission::Policy;
use crate::ledger::Writer;
use crate::trouble::{healed, named, soon};
use crate::world::{HOME_CLASS, Scene, class};

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

/// Our Pods fit `restricted`; one into which a mesh puts its container does not.
pub async fn pod_security_that_refuses_a_changed_pod_is_named_and_heals(scene: Scene) {
    let inject = r#"Object{spec: Object.spec{initContainers: [Object.spec.initContainers{
        name: "mesh-init", image: "mesh",
        securityContext: Object.spec.initContainers.securityContext{runAsUser: 0, runAsNonRoot: false}}]}}"#;
    let policy = json!({
        "failurePolicy": "Fail", "reinvocationPolicy": "Never",
        "matchConstraints": {"resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]},
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": inject}}]});
    let policy = Policy::make(&scene, "MutatingAdmissionPolicy", policy, json!({})).await;
    let probe = json!({"metadata": {"name": "probe"}, "spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "probe", "image": "probe", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}});
    policy.refuses::<Pod>(&scene, probe, "violates PodSecurity").await;
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
