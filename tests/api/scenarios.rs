//! What is done to a claim while its writes are broken: one entry per scenario, and the table is made from them.

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::rbac::v1::Role;
use kube::api::PropagationPolicy::{Background, Foreground, Orphan};
use serde_json::{Value, json};
use std::sync::Arc;

use dbclaim::api::key;
use dbclaim::api::v1::{DatabaseClaim, Phase};

use crate::normal::Objects;
use crate::scene::{Scene, connections, extension, restart, rotation, storage, team, version};
use crate::stage::CLASS;

/// What is done to the claim.
pub type Act = fn(Arc<Scene>) -> LocalBoxFuture<'static, ()>;

/// How a scenario ends.
#[derive(Clone, Copy)]
pub enum End {
    /// Ready, with every object of a claim, and this holds for them.
    Serves(fn(&Objects) -> bool),
    /// Ready, with other credentials, and an end of those before.
    Rotated,
    /// Ready, with the same objects as before.
    Heals,
    /// The claim is gone, and of its objects the volume, the Secrets and their markers are there.
    Retains,
    /// Nothing is left.
    Gone,
}

/// What becomes of the Pod.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// It is the same one afterwards.
    None,
    /// The operator has replaced it, once.
    Once,
    /// It was stopped and another one was started, without the operator having deleted any.
    Stopped,
    /// It goes with its claim, or comes with it.
    WithTheClaim,
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
    pub restart: Restart,
    /// Whether the same claim can go through it again.
    pub again: bool,
    /// What takes the claim back to where it was before, so that it can.
    pub back: Option<fn() -> Value>,
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

fn exact_version() -> Value {
    json!({"version": version(0)})
}

fn small() -> Value {
    // With its own storage: another size asks for another volume besides.
    json!({"size": "small", "storage": "5Gi"})
}

/// It takes over a larger size while it runs.
fn small_mysql() -> Value {
    json!({"engine": "mysql", "size": "small", "storage": "5Gi"})
}

fn back_to_small() -> Value {
    json!({"size": "small"})
}

/// What the claim says of its one member.
fn member(objects: &Objects) -> &Value {
    &objects["DatabaseClaim orders"]["status"]["members"][0]
}

/// Whether the agent has taken over the configuration that is wanted now.
fn configured(objects: &Objects) -> bool {
    let report =
        &objects["ConfigMap orders-db-1-report"]["metadata"]["annotations"]["platform.acme.com/report"];
    report["applied"]["config"] == "GENERATION"
}

/// The files that the engine reads.
fn settings(objects: &Objects) -> &str {
    let file = &objects["ConfigMap orders-db-config"]["data"]["postgresql.conf"];
    file.as_str().unwrap_or_default()
}

/// Whether the Pod was made from the newest template.
fn newest(objects: &Objects) -> bool {
    let pod = &objects["Pod orders-db-1-0"];
    pod["metadata"]["labels"]["controller-revision-hash"] == "REVISION"
        && pod["metadata"]["annotations"]["platform.acme.com/asked"] == "ASKED"
        && pod["metadata"]["annotations"]["platform.acme.com/restart-hash"] == "TEMPLATE"
        && configured(objects)
        && member(objects).get("pendingRestart").is_none()
}

fn has_memory(objects: &Objects, memory: &str) -> bool {
    let container = &objects["Pod orders-db-1-0"]["containers"][0];
    newest(objects) && container[2]["limits"]["memory"] == memory
}

/// Whether Pod, template and configuration are those of the larger size, without a restart.
fn has_grown(objects: &Objects) -> bool {
    let pod = &objects["Pod orders-db-1-0"];
    let set = &objects["StatefulSet orders-db-1"]["spec"]["template"]["spec"]["containers"][0];
    let file = objects["ConfigMap orders-db-config"]["data"]["my.cnf"].as_str();
    pod["metadata"]["annotations"]["platform.acme.com/asked"] == "ASKED"
        && pod["metadata"]["annotations"]["platform.acme.com/restart-hash"] == "TEMPLATE"
        && pod["containers"][0][2]["limits"]["memory"] == "2Gi"
        && set["resources"]["limits"]["memory"] == "2Gi"
        && file.is_some_and(|it| it.contains("innodb_buffer_pool_size = 1184M"))
        && configured(objects)
        && member(objects)["pendingRestart"] == json!(["performance_schema"])
}

fn has_storage(objects: &Objects) -> bool {
    let volume = &objects["PersistentVolumeClaim orders-db-1"];
    volume["spec"]["resources"]["requests"]["storage"] == "STORAGE"
        && volume["status"]["capacity"]["storage"] == "STORAGE"
}

/// All of them.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "creating",
        spec: None,
        act: |scene| async move { scene.create(delete_policy()).await }.boxed_local(),
        end: End::Serves(|_| true),
        loses: &[],
        restart: Restart::WithTheClaim,
        again: false,
        back: None,
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
        restart: Restart::None,
        again: true,
        back: None,
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
        end: End::Serves(has_storage),
        loses: &[],
        restart: Restart::None,
        again: true,
        back: None,
    },
    Scenario {
        name: "changing_the_size",
        spec: Some(small),
        act: |scene| async move { scene.change(json!({"spec": {"size": "medium"}})).await }.boxed_local(),
        end: End::Serves(|objects| has_memory(objects, "2Gi")),
        loses: &[],
        restart: Restart::Once,
        again: true,
        back: Some(back_to_small),
    },
    Scenario {
        name: "growing_while_it_runs",
        spec: Some(small_mysql),
        act: |scene| async move { scene.change(json!({"spec": {"size": "medium"}})).await }.boxed_local(),
        end: End::Serves(has_grown),
        loses: &[],
        restart: Restart::None,
        again: true,
        back: Some(back_to_small),
    },
    Scenario {
        name: "changing_size_and_storage_together",
        spec: Some(on_a_class_that_grows),
        act: |scene| {
            async move {
                let storage = storage(scene.next_turn());
                scene
                    .change(json!({"spec": {"size": "medium", "storage": storage}}))
                    .await;
            }
            .boxed_local()
        },
        end: End::Serves(|objects| has_memory(objects, "2Gi") && has_storage(objects)),
        loses: &[],
        restart: Restart::Once,
        again: true,
        back: Some(back_to_small),
    },
    Scenario {
        name: "raising_the_version",
        spec: Some(exact_version),
        act: |scene| {
            async move {
                let version = version(scene.next_turn());
                scene.change(json!({"spec": {"version": version}})).await;
            }
            .boxed_local()
        },
        end: End::Serves(|objects| newest(objects) && member(objects)["version"] == "VERSION"),
        loses: &[],
        restart: Restart::Once,
        again: true,
        back: None,
    },
    Scenario {
        name: "changing_a_parameter_that_is_in_force_at_once",
        spec: Some(plain),
        act: |scene| {
            async move {
                let duration = connections(scene.next_turn());
                let parameters = json!({"log_min_duration_statement": duration});
                scene.change(json!({"spec": {"parameters": parameters}})).await;
            }
            .boxed_local()
        },
        end: End::Serves(|objects| {
            settings(objects).contains("log_min_duration_statement = 'CONNECTIONS'") && configured(objects)
        }),
        loses: &[],
        restart: Restart::None,
        again: true,
        back: None,
    },
    Scenario {
        name: "changing_a_parameter_that_waits_for_a_restart",
        spec: Some(plain),
        act: |scene| {
            async move {
                let turn = scene.next_turn();
                let parameters = json!({"max_connections": connections(turn)});
                scene.change(json!({"spec": {"parameters": parameters}})).await;
                let waits = |claim: &DatabaseClaim| {
                    let members = claim.status.iter().flat_map(|it| &it.members);
                    members.flat_map(|it| &it.pending_restart).eq(["max_connections"])
                };
                scene.says("pendingRestart", waits).await.unwrap();
                let please = json!({key::RESTART: restart(turn)});
                scene.change(json!({"metadata": {"annotations": please}})).await;
            }
            .boxed_local()
        },
        end: End::Serves(|objects| {
            settings(objects).contains("max_connections = 'CONNECTIONS'") && newest(objects)
        }),
        loses: &[],
        restart: Restart::Once,
        again: true,
        back: None,
    },
    Scenario {
        name: "adding_an_extension",
        spec: Some(plain),
        act: |scene| {
            async move {
                let extensions = [extension(scene.next_turn())];
                scene.change(json!({"spec": {"extensions": extensions}})).await;
            }
            .boxed_local()
        },
        end: End::Serves(|objects| {
            let file = &objects["ConfigMap orders-db-config"]["data"]["member.json"];
            file.as_str().is_some_and(|it| it.contains("EXTENSION")) && configured(objects)
        }),
        loses: &[],
        restart: Restart::None,
        again: true,
        back: None,
    },
    Scenario {
        name: "hibernating_and_waking",
        spec: Some(plain),
        act: |scene| {
            async move {
                scene.change(json!({"spec": {"hibernated": true}})).await;
                let sleeps = |claim: &DatabaseClaim| {
                    let phase = claim.status.as_ref().and_then(|it| it.phase);
                    phase == Some(Phase::Hibernated)
                };
                scene.says("Hibernated", sleeps).await.unwrap();
                scene.change(json!({"spec": {"hibernated": false}})).await;
            }
            .boxed_local()
        },
        end: End::Heals,
        loses: &[],
        restart: Restart::Stopped,
        again: true,
        back: None,
    },
    Scenario {
        name: "rotating_the_credentials",
        spec: Some(plain),
        act: |scene| {
            async move {
                let please = json!({key::ROTATE: rotation(scene.next_turn())});
                scene.change(json!({"metadata": {"annotations": please}})).await;
            }
            .boxed_local()
        },
        end: End::Rotated,
        loses: &[],
        restart: Restart::None,
        again: false,
        back: None,
    },
    Scenario {
        name: "changing_the_policy_to_delete",
        spec: Some(plain),
        act: |scene| async move { scene.change(json!({"spec": delete_policy()})).await }.boxed_local(),
        end: End::Serves(|objects| objects["DatabaseClaim orders"]["metadata"]["finalizers"].is_array()),
        loses: &[],
        restart: Restart::None,
        again: false,
        back: None,
    },
    Scenario {
        name: "a_deleted_service_comes_back",
        spec: Some(plain),
        act: |scene| async move { scene.delete::<Service>("orders-db", Background).await }.boxed_local(),
        end: End::Heals,
        loses: &[],
        restart: Restart::None,
        again: true,
        back: None,
    },
    Scenario {
        name: "a_deleted_binding_secret_comes_back",
        spec: Some(plain),
        act: |scene| async move { scene.delete::<Secret>("orders-db-app", Background).await }.boxed_local(),
        end: End::Heals,
        loses: &["Secret orders-db-app"],
        restart: Restart::None,
        again: true,
        back: None,
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
        restart: Restart::None,
        again: true,
        back: None,
    },
    Scenario {
        name: "a_deleted_role_comes_back",
        spec: Some(plain),
        act: |scene| async move { scene.delete::<Role>("orders-db", Background).await }.boxed_local(),
        end: End::Heals,
        loses: &[],
        restart: Restart::None,
        again: true,
        back: None,
    },
    Scenario {
        name: "a_workload_deleted_without_its_pod_comes_back",
        spec: Some(plain),
        act: |scene| async move { scene.delete::<StatefulSet>("orders-db-1", Orphan).await }.boxed_local(),
        end: End::Heals,
        loses: &[],
        restart: Restart::None,
        again: true,
        back: None,
    },
    Scenario {
        name: "deleting_under_retain",
        // Foreground deletion keeps the claim until its dependents are gone, so that there are passes over it.
        spec: Some(plain),
        act: |scene| async move { scene.delete::<DatabaseClaim>("orders", Foreground).await }.boxed_local(),
        end: End::Retains,
        loses: &[],
        restart: Restart::WithTheClaim,
        again: false,
        back: None,
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
        restart: Restart::WithTheClaim,
        again: false,
        back: None,
    },
    Scenario {
        name: "deleting_under_delete",
        spec: Some(delete_policy),
        act: |scene| async move { scene.delete::<DatabaseClaim>("orders", Background).await }.boxed_local(),
        end: End::Gone,
        loses: &[],
        restart: Restart::WithTheClaim,
        again: false,
        back: None,
    },
];
