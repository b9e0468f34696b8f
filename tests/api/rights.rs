//! The operator under a user that lacks one right: the claim names it, and goes on when it is granted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dbclaim::api::v1::DatabaseClaim;
use dbclaim::controller;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cluster::Suite;
use crate::scene;

const DEADLINE: Duration = Duration::from_secs(120);

/// Core resources that the operator works with.
const CORE: [&str; 7] = [
    "services",
    "configmaps",
    "serviceaccounts",
    "persistentvolumeclaims",
    "secrets",
    "pods",
    "events",
];

/// Lets a user do everything with some core resources, or only watch one.
async fn grant(suite: &Suite, user: &str, name: &str, rules: serde_json::Value) {
    let cluster_roles: Api<ClusterRole> = Api::all(suite.client.clone());
    let bindings: Api<ClusterRoleBinding> = Api::all(suite.client.clone());
    let role = json!({"metadata": {"name": name}, "rules": rules});
    let binding = json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]});
    let post = PostParams::default();
    cluster_roles
        .create(&post, &serde_json::from_value(role).unwrap())
        .await
        .unwrap();
    bindings
        .create(&post, &serde_json::from_value(binding).unwrap())
        .await
        .unwrap();
}

async fn operate(suite: &Suite, user: &str, namespace: &str, stop: CancellationToken) {
    let mut kube = suite.config();
    kube.auth_info.impersonate = Some(user.to_owned());
    let client = Client::try_from(kube).unwrap();
    let config = scene::config(namespace);
    let context = Arc::new(controller::Context::new(&client, &config));
    controller::run(client, config, context, stop).await;
}

/// Waits for a condition; returns its message.
async fn condition(claims: &Api<DatabaseClaim>, type_: &str, status: &str, reason: Option<&str>) -> String {
    let started = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(200));
    loop {
        pace.tick().await;
        let claim = claims.get("orders").await.unwrap();
        let conditions = claim.status.unwrap_or_default().conditions;
        let found = conditions.iter().find(|it| {
            it.type_ == type_ && it.status == status && reason.is_none_or(|reason| it.reason == reason)
        });
        if let Some(found) = found {
            return found.message.clone();
        }
        assert!(
            started.elapsed() < DEADLINE,
            "no {type_}={status} {reason:?}: {conditions:#?}"
        );
    }
}

/// `verbs`: those of which one is refused first, depending on what is known already.
async fn withhold(suite: &Suite, resource: &str, verbs: &[&str]) {
    let namespace = suite.namespace("rights").await;
    let user = format!("operator-{namespace}");
    let rest: Vec<_> = CORE.into_iter().filter(|it| *it != resource).collect();
    let rules = json!([
        {"apiGroups": ["platform.acme.com", "apps", "rbac.authorization.k8s.io", "discovery.k8s.io", "events.k8s.io"],
         "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": rest, "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"]},
    ]);
    grant(suite, &user, &format!("{user}-part"), rules).await;
    let claims: Api<DatabaseClaim> = Api::namespaced(suite.client.clone(), &namespace);
    let claim = json!({"apiVersion": "platform.acme.com/v1", "kind": "DatabaseClaim", "metadata": {"name": "orders"},
        "spec": {"engine": "postgres", "size": "small", "team": "checkout"}});
    claims
        .create(&PostParams::default(), &serde_json::from_value(claim).unwrap())
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let story = async {
        let words = condition(&claims, "Ready", "False", Some("ApiRefused")).await;
        let right = |verb: &&str| words.contains(&format!("cannot {verb} resource \"{resource}\""));
        assert!(verbs.iter().any(right), "none of {verbs:?} is in: {words}");
        for part in [user.as_str(), "ClusterRole"] {
            assert!(words.contains(part), "{part:?} is not in: {words}");
        }
        condition(&claims, "Stalled", "True", Some("ApiRefused")).await;
        let full = json!([{"apiGroups": [""], "resources": [resource], "verbs": ["*"]}]);
        grant(suite, &user, &format!("{user}-rest"), full).await;
        condition(&claims, "Stalled", "False", None).await;
        let events: Api<Event> = Api::namespaced(suite.client.clone(), &namespace);
        let events = events.list(&ListParams::default()).await.unwrap().items;
        let told = events
            .iter()
            .filter(|it| it.reason.as_deref() == Some("ApiRefused"))
            .count();
        assert_eq!(told, 1, "one Event: {events:#?}");
    };
    tokio::select! {
        () = operate(suite, &user, &namespace, stop.clone()) => panic!("the operator ended"),
        () = story => {}
    }
    stop.cancel();
    for name in [format!("{user}-part"), format!("{user}-rest")] {
        let cluster_roles: Api<ClusterRole> = Api::all(suite.client.clone());
        let bindings: Api<ClusterRoleBinding> = Api::all(suite.client.clone());
        let _ = cluster_roles.delete(&name, &DeleteParams::default()).await;
        let _ = bindings.delete(&name, &DeleteParams::default()).await;
    }
}

pub async fn a_withdrawn_right_is_named_with_verb_and_resource_and_heals(suite: &Suite) {
    // One whose kind is watched, and one whose kind is not.
    withhold(suite, "services", &["create"]).await;
    withhold(suite, "secrets", &["create", "get"]).await;
}
