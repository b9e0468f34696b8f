//! Changes of a claim's spec while it serves: each is carried out with no more than one clean restart.

use dbclaim::api::key;
use dbclaim::api::v1::{DatabaseClaim, Phase};
use dbclaim::render::DATABASE;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use kube::api::{LogParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::admission::Policy;
use crate::audit;
use crate::engines::{Engine, Facts, Parameter};
use crate::schedule::Need;
use crate::world::{Scene, eventually};

const POD: &str = "orders-db-1-0";

/// A claim that serves and holds a row; returns the UID of its Pod.
async fn serving(scene: &Scene) -> String {
    scene.serving().await;
    uid(scene).await
}

async fn uid(scene: &Scene) -> String {
    scene.api::<Pod>().get(POD).await.unwrap().uid().unwrap()
}

async fn patch(scene: &Scene, change: Value) {
    let claims = scene.api::<DatabaseClaim>();
    let change = Patch::Merge(change);
    claims
        .patch("orders", &PatchParams::default(), &change)
        .await
        .unwrap();
}

/// Waits until another Pod than `before` serves, and everything asked for is done.
async fn served_by_another(scene: &Scene, before: &str) {
    scene.new_pod(POD, before).await;
    scene.ready("orders").await;
    eventually("phase Ready", || async {
        let status = scene.claim("orders").await.status.unwrap();
        (status.phase == Some(Phase::Ready))
            .then_some(())
            .ok_or(format!("{status:?}"))
    })
    .await;
    assert_eq!(scene.rows("orders").await, ["kept"]);
}

/// Deletes of Pods by the operator since a place in the audit log.
fn restarts(scene: &Scene, from: u64) -> usize {
    audit::requests(&scene.world, audit::OPERATOR, &scene.namespace, from)
        .iter()
        .filter(|it| it.resource == "pods" && it.verb == "delete")
        .count()
}

/// One request, one restart, and not one more.
pub async fn a_restart_that_is_asked_for_happens_once(scene: Scene) {
    let before = serving(&scene).await;
    let from = audit::end(&scene.world);
    patch(
        &scene,
        json!({"metadata": {"annotations": {key::RESTART: "please"}}}),
    )
    .await;
    served_by_another(&scene, &before).await;
    let after = uid(&scene).await;
    // Another change that is carried out shows that the operator has looked again.
    patch(&scene, json!({"spec": {"team": "billing"}})).await;
    labelled(&scene, "billing").await;
    assert_eq!(uid(&scene).await, after);
    assert_eq!(restarts(&scene, from), 1);
}

/// Waits until the Pod is labelled with this team.
async fn labelled(scene: &Scene, team: &str) {
    eventually("the label of the new team", || async {
        let pod = scene.api::<Pod>().get(POD).await.map_err(|it| it.to_string())?;
        match pod.labels().get(key::TEAM) {
            Some(label) if label == team => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// More memory reaches the Pod and the engine's settings: while the engine runs where that is possible, and with one
/// clean restart where not. Less memory is one clean restart.
pub async fn another_size_is_in_force_without_a_restart_where_that_is_possible(scene: Scene) {
    scene.uses(Need::SpareNode);
    let Facts {
        memory,
        grows_live,
        not_live,
        ..
    } = scene.engine.facts();
    let before = serving(&scene).await;
    let small = number(&scene, memory).await;
    let session = scene.connect("orders").await;
    let from = audit::end(&scene.world);
    patch(&scene, json!({"spec": {"size": "medium"}})).await;
    if *grows_live {
        in_force(&scene, "2Gi").await;
        assert_eq!(uid(&scene).await, before, "the Pod was replaced");
        let container = container(&scene).await;
        assert_eq!(container.restart_count, 0);
        session.run("SELECT 1").await.expect("an open session goes on");
    } else {
        served_by_another(&scene, &before).await;
        in_force(&scene, "2Gi").await;
    }
    assert_eq!(restarts(&scene, from), usize::from(!grows_live));
    eventually("more memory for the engine", || async {
        let large = number(&scene, memory).await;
        (large > small)
            .then_some(())
            .ok_or(format!("{large} after {small}"))
    })
    .await;
    // All else of the size is in force by now.
    eventually("what waits for a restart", || async {
        let status = scene.claim("orders").await.status.unwrap();
        let pending = &status.members[0].pending_restart;
        (pending == not_live).then_some(()).ok_or(format!("{pending:?}"))
    })
    .await;
    assert_eq!(scene.rows("orders").await, ["kept"]);
    // What it starts with from now on is the same.
    let grown = uid(&scene).await;
    patch(
        &scene,
        json!({"metadata": {"annotations": {key::RESTART: "now"}}}),
    )
    .await;
    served_by_another(&scene, &grown).await;
    in_force(&scene, "2Gi").await;
    let status = scene.claim("orders").await.status.unwrap();
    assert_eq!(status.members[0].pending_restart, Vec::<String>::new());
    let (from, before) = (audit::end(&scene.world), uid(&scene).await);
    patch(&scene, json!({"spec": {"size": "small"}})).await;
    served_by_another(&scene, &before).await;
    in_force(&scene, "512Mi").await;
    assert_eq!(restarts(&scene, from), 1);
    assert_eq!(number(&scene, memory).await, small);
}

/// Where the cluster does not resize Pods, a larger size is one clean restart, as for an engine that needs one.
pub async fn a_pod_that_is_not_resized_is_replaced(scene: Scene) {
    scene.uses(Need::SpareNode);
    let before = serving(&scene).await;
    let refuses = json!({
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
            "operations": ["UPDATE"], "resources": ["pods/resize"]}]},
        "validations": [{"expression": "false", "message": "nothing is resized here"}],
    });
    let bound = json!({"validationActions": ["Deny"]});
    let policy = Policy::make(&scene, "ValidatingAdmissionPolicy", refuses, bound).await;
    eventually("a policy in force", || async {
        let resources = container(&scene).await.resources.unwrap();
        let probe = json!({"spec": {"containers": [{"name": DATABASE, "resources": resources}]}});
        let dry = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let pods = scene.api::<Pod>();
        match pods
            .patch_subresource("resize", POD, &dry, &Patch::Strategic(probe))
            .await
        {
            Ok(_) => Err("a Pod would be resized".to_owned()),
            Err(error) => error
                .to_string()
                .contains("nothing is resized")
                .then_some(())
                .ok_or(error.to_string()),
        }
    })
    .await;
    let from = audit::end(&scene.world);
    patch(&scene, json!({"spec": {"size": "medium"}})).await;
    served_by_another(&scene, &before).await;
    in_force(&scene, "2Gi").await;
    assert_eq!(restarts(&scene, from), 1);
    policy.remove().await;
}

/// The database container, as the kubelet has it.
async fn container(scene: &Scene) -> ContainerStatus {
    let status = scene.api::<Pod>().get(POD).await.unwrap().status.unwrap();
    status.container_statuses.unwrap().remove(0)
}

/// Waits until container and claim have this memory, and nothing is under way.
pub async fn in_force(scene: &Scene, memory: &str) {
    eventually(&format!("{memory} in force"), || async {
        let limits = container(scene).await.resources.and_then(|it| it.limits);
        let has = limits.and_then(|mut it| it.remove("memory"));
        let status = scene.claim("orders").await.status.unwrap();
        let said = status.resolved.as_ref().map(|it| it.resources.memory.clone());
        let (has, said) = (has.map(|it| it.0).unwrap_or_default(), said.unwrap_or_default());
        let rests = status.phase == Some(Phase::Ready);
        (has == memory && said == memory && rests)
            .then_some(())
            .ok_or(format!("{has}, {said}, {:?}", status.phase))
    })
    .await;
}

/// What a query says, as a number.
async fn number(scene: &Scene, query: &str) -> u64 {
    let client = scene.connect("orders").await;
    client.column(query).await.unwrap()[0].parse().unwrap()
}

/// A newer version of the same series serves the same rows after one clean restart. An older one is refused then: it
/// may not read what the newer one has written.
pub async fn an_upgrade_within_the_series_restarts_once_and_has_no_way_back(scene: Scene) {
    let Facts { upgraded, older, .. } = scene.engine.facts();
    let newest = scene.newest();
    assert_ne!(newest, *older, "there is nothing to upgrade to");
    scene.apply("orders", json!({"version": upgraded})).await;
    scene.ready("orders").await;
    scene.write("orders", "kept").await;
    let ran = version(&scene).await;
    assert!(
        upgraded == older && ran == *older || ran == newest,
        "{ran} serves a claim that asks for {upgraded}"
    );
    let before = uid(&scene).await;
    let from = audit::end(&scene.world);
    patch(&scene, json!({"spec": {"version": newest}})).await;
    served_by_another(&scene, &before).await;
    assert_eq!(version(&scene).await, newest);
    assert_eq!(restarts(&scene, from), 1);
    let log = scene.api::<Pod>().logs(POD, &LogParams::default()).await.unwrap();
    assert!(
        (scene.engine.facts().clean)(&log),
        "the database was not stopped cleanly:\n{log}"
    );
    let after = uid(&scene).await;
    let back = Patch::Merge(json!({"spec": {"version": older}}));
    let claims = scene.api::<DatabaseClaim>();
    let refused = claims.patch("orders", &PatchParams::default(), &back).await;
    let said = refused.expect_err("an older version was accepted").to_string();
    assert!(
        said.contains("cannot be lowered below the version that has run"),
        "{said}"
    );
    assert_eq!(uid(&scene).await, after);
    assert_eq!(scene.rows("orders").await, ["kept"]);
}

/// The version that served last.
async fn version(scene: &Scene) -> String {
    let status = scene.claim("orders").await.status.unwrap();
    status.members[0].version.clone().unwrap_or_default()
}

/// Whether the spec says the series or leaves it out, it is the same wish.
pub async fn a_series_that_is_written_or_not_restarts_nothing(scene: Scene) {
    let before = serving(&scene).await;
    let from = audit::end(&scene.world);
    for (version, team) in [
        (json!(scene.engine.facts().version), "with-it"),
        (json!(null), "without-it"),
    ] {
        patch(&scene, json!({"spec": {"version": version, "team": team}})).await;
        labelled(&scene, team).await;
        scene.ready("orders").await;
    }
    assert_eq!(uid(&scene).await, before);
    assert_eq!(restarts(&scene, from), 0);
}

/// A version whose image does not exist is named, and set back without a trace.
pub async fn a_version_without_an_image_is_named_and_taken_back(scene: Scene) {
    let before = serving(&scene).await;
    patch(
        &scene,
        json!({"spec": {"version": scene.engine.facts().missing_version}}),
    )
    .await;
    let said = scene
        .condition("orders", "Ready", "False", "ImagePullFailed")
        .await;
    assert!(said.contains(scene.engine.facts().missing_version), "{said}");
    assert!(said.contains("set spec.version back"), "{said}");
    patch(&scene, json!({"spec": {"version": null}})).await;
    served_by_another(&scene, &before).await;
}

/// Hibernation stops the Pod and keeps everything else; waking brings the same data back.
pub async fn a_hibernated_claim_has_no_pod_and_wakes_with_its_data(scene: Scene) {
    let before = serving(&scene).await;
    let (binding, _) = scene.binding("orders").await;
    let password = binding.get("password").unwrap().to_owned();
    patch(&scene, json!({"spec": {"hibernated": true}})).await;
    scene.condition("orders", "Ready", "False", "Hibernated").await;
    scene.gone::<Pod>(POD).await;
    let status = scene.claim("orders").await.status.unwrap();
    assert_eq!(status.phase, Some(Phase::Hibernated));
    let quiet = audit::end(&scene.world);
    patch(&scene, json!({"spec": {"hibernated": false}})).await;
    served_by_another(&scene, &before).await;
    let (binding, _) = scene.binding("orders").await;
    assert_eq!(binding.get("password").unwrap(), password);
    assert_eq!(restarts(&scene, quiet), 0, "nothing was deleted to wake it");
}

async fn setting(scene: &Scene, parameter: &Parameter) -> String {
    let client = scene.connect("orders").await;
    client.column(parameter.query).await.unwrap().remove(0)
}

/// What can change while the engine runs is in force at once; the rest waits, is listed, and comes with a restart.
pub async fn parameters_are_in_force_at_once_or_wait_for_a_restart(scene: Scene) {
    let Facts {
        live,
        waiting,
        kept_back,
        ..
    } = scene.engine.facts();
    let before = serving(&scene).await;
    let parameters = json!({live.name: live.value, waiting.name: waiting.value});
    patch(&scene, json!({"spec": {"parameters": parameters}})).await;
    let said = scene
        .condition("orders", "UpdatePending", "True", "RestartNeeded")
        .await;
    assert!(said.contains(waiting.name), "{said}");
    assert_eq!(setting(&scene, live).await, live.says);
    assert_ne!(setting(&scene, waiting).await, waiting.says);
    assert_eq!(uid(&scene).await, before, "nobody asked for a restart");
    let status = scene.claim("orders").await.status.unwrap();
    assert_eq!(status.members[0].pending_restart, [waiting.name]);
    patch(
        &scene,
        json!({"metadata": {"annotations": {key::RESTART: "now"}}}),
    )
    .await;
    served_by_another(&scene, &before).await;
    assert_eq!(setting(&scene, waiting).await, waiting.says);
    scene
        .condition("orders", "UpdatePending", "False", "UpToDate")
        .await;
    // What is wrong is refused by name, and what runs goes on.
    let (name, value) = kept_back;
    patch(&scene, json!({"spec": {"parameters": {*name: value}}})).await;
    let said = scene.condition("orders", "Accepted", "False", "Invalid").await;
    assert!(
        said.contains(&format!("spec.parameters.{name} cannot be set")),
        "{said}"
    );
    assert_eq!(scene.rows("orders").await, ["kept"]);
    patch(&scene, json!({"spec": {"parameters": null}})).await;
    scene.ready("orders").await;
}

/// Extensions are there for the application, made where it cannot have put anything; one that needs its library
/// loaded waits for a restart. An engine that has none says so.
pub async fn extensions_are_created_and_those_to_be_preloaded_wait(scene: Scene) {
    let before = serving(&scene).await;
    patch(&scene, json!({"spec": {"extensions": ["pg_trgm", "uuid-ossp"]}})).await;
    if let Engine::Mysql = scene.engine {
        let said = scene.condition("orders", "Accepted", "False", "Invalid").await;
        assert!(said.contains("none for this engine"), "{said}");
        return;
    }
    let similar = "SELECT similarity('claim', 'claims')::text";
    eventually("pg_trgm on the search path", || async {
        let client = scene.connect("orders").await;
        client
            .column(similar)
            .await
            .map(drop)
            .map_err(|error| format!("{error:#}"))
    })
    .await;
    let preloaded = json!({"spec": {"extensions": ["pg_trgm", "pg_stat_statements"]}});
    patch(&scene, preloaded).await;
    let said = scene
        .condition("orders", "UpdatePending", "True", "RestartNeeded")
        .await;
    assert!(said.contains("shared_preload_libraries"), "{said}");
    assert_eq!(uid(&scene).await, before);
    patch(
        &scene,
        json!({"metadata": {"annotations": {key::RESTART: "now"}}}),
    )
    .await;
    served_by_another(&scene, &before).await;
    let client = scene.connect("orders").await;
    client
        .column("SELECT count(*)::text FROM pg_stat_statements")
        .await
        .unwrap();
    let kept = "SELECT extname::text FROM pg_extension WHERE extname = 'uuid-ossp'";
    let kept = client.column(kept).await.unwrap();
    assert_eq!(kept, ["uuid-ossp"], "what is taken off the list stays");
}
