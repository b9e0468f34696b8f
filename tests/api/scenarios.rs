//! What is done to a claim while its writes are broken: one entry per scenario, and the table is made from them.

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::rbac::v1::Role;
use kube::api::PropagationPolicy::{Background, Foreground, Orphan};
use serde_json::{Value, json};
use std::sync::Arc;

use dbclaim::api::v1::DatabaseClaim;

use crate::normal::Objects;
use crate::scene::{Scene, storage, team};
use crate::stage::CLASS;

/// What is done to the claim.
pub type Act = fn(Arc<Scene>) -> LocalBoxFuture<'static, ()>;

/// How a scenario ends.
#[derive(Clone, Copy)]
pub enum End {
    /// Ready, with every object of a claim, and this holds for them.
    Serves(fn(&Objects) -> bool),
    /// Ready, with the same objects as before.
    Heals,
    /// The claim is gone, and of its objects the volume, the Secrets and their markers are there.
    Retains,
    /// Nothing is left.
    Gone,
}

/// One scenario.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// The test is named for it.
    pub name: &'static str,
    /// Of the claim that is Ready before the act; none where the act creates it.
    pub spec: Option<fn() -> Value>,
    pub act: Act,
    pub end: End,
    /// Data objects that the act itself takes away, and that are made anew.
    pub loses: &'static [&'static str],
    /// Whether the same claim can go through it again.
    pub again: bool,
}

fn plain() -> Value {
    json!({})
}

fn delete_policy() -> Value {
    json!({"deletionPolicy": "Delete"})
}

fn on_a_class_that_grows() -> Value {
    json!({"storageClassName": CLASS, "storage": storage(0)})
}

/// All of them.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "creating",
        spec: None,
        act: |scene| async move { scene.create(delete_policy()).await }.boxed_local(),
        end: End::Serves(|_| true),
        loses: &[],
        again: false,
    },
    Scenario {
        name: "changing_the_team",
        spec: Some(plain),
        act: |scene| {
            async move {
                let team = team(scene.next_turn());
                scene.change(json!({"spec": {"team": team}})).await;
            }
            .boxed_local()
        },
        end: End::Serves(|objects| {
            let team = |object: &Value| object["metadata"]["labels"]["platform.acme.com/team"] == "TEAM";
            let claims = |name: &str| name.starts_with("DatabaseClaim ");
            objects.iter().all(|(name, object)| claims(name) || team(object))
        }),
        loses: &[],
        again: true,
    },
    Scenario {
        name: "growing_the_storage",
        spec: Some(on_a_class_that_grows),
        act: |scene| {
            async move {
                let storage = storage(scene.next_turn());
                scene.change(json!({"spec": {"storage": storage}})).await;
            }
            .boxed_local()
        },
        end: End::Serves(|objects| {
            let volume = &objects["PersistentVolumeClaim orders-db-1"];
            volume["spec"]["resources"]["requests"]["storage"] == "STORAGE"
                && volume["status"]["capacity"]["storage"] == "STORAGE"
        }),
        loses: &[],
        again: true,
    },
    Scenario {
        name: "changing_the_policy_to_delete",
        spec: Some(plain),
        act: |scene| async move { scene.change(json!({"spec": delete_policy()})).await }.boxed_local(),
        end: End::Serves(|objects| objects["DatabaseClaim orders"]["metadata"]["finalizers"].is_array()),
        loses: &[],
        again: false,
    },
    Scenario {
        name: "a_deleted_service_comes_back",
        spec: Some(plain),
        act: |scene| async move { scene.delete::<Service>("orders-db", Background).await }.boxed_local(),
        end: End::Heals,
        loses: &[],
        again: true,
    },
    Scenario {
        name: "a_deleted_binding_secret_comes_back",
        spec: Some(plain),
        act: |scene| async move { scene.delete::<Secret>("orders-db-app", Background).await }.boxed_local(),
        end: End::Heals,
        loses: &["Secret orders-db-app"],
        again: true,
    },
    Scenario {
        name: "an_edited_config_map_is_put_right",
        spec: Some(plain),
        act: |scene| {
            async move {
                let edit = json!({"data": {"member.json": "{}"}});
                scene.merge::<ConfigMap>("orders-db-config", edit).await;
            }
            .boxed_local()
        },
        end: End::Heals,
        loses: &[],
        again: true,
    },
    Scenario {
        name: "a_deleted_role_comes_back",
        spec: Some(plain),
        act: |scene| async move { scene.delete::<Role>("orders-db", Background).await }.boxed_local(),
        end: End::Heals,
        loses: &[],
        again: true,
    },
    Scenario {
        name: "a_workload_deleted_without_its_pod_comes_back",
        spec: Some(plain),
        act: |scene| async move { scene.delete::<StatefulSet>("orders-db-1", Orphan).await }.boxed_local(),
        end: End::Heals,
        loses: &[],
        again: true,
    },
    Scenario {
        name: "deleting_under_retain",
        // Foreground deletion keeps the claim until its dependents are gone, so that there are passes over it.
        spec: Some(plain),
        act: |scene| async move { scene.delete::<DatabaseClaim>("orders", Foreground).await }.boxed_local(),
        end: End::Retains,
        loses: &[],
        again: false,
    },
    Scenario {
        name: "deleting_after_a_change_to_retain",
        spec: Some(delete_policy),
        act: |scene| {
            async move {
                // Nobody has taken up the deletion when the policy changes.
                scene.kill_operator();
                scene.delete::<DatabaseClaim>("orders", Background).await;
                let retain = json!({"spec": {"deletionPolicy": "Retain"}});
                scene.change(retain).await;
                scene.start_operator();
            }
            .boxed_local()
        },
        end: End::Retains,
        loses: &[],
        again: false,
    },
    Scenario {
        name: "deleting_under_delete",
        spec: Some(delete_policy),
        act: |scene| async move { scene.delete::<DatabaseClaim>("orders", Background).await }.boxed_local(),
        end: End::Gone,
        loses: &[],
        again: false,
    },
];
