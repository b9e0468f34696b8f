//! A claim that is stored can be written to, whatever its spec and its status say: labels, finalizers, the status, and
//! the claim as it is. A spec that is changed is refused only with a sentence.

use dbclaim::api::v1::DatabaseClaim;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Api, discovery::ApiResource};
use serde_json::{Value, json};

use crate::cluster::Suite;
use crate::scene::until;

/// How many pairs; of all that there are, each run takes others.
const PAIRS: usize = 24;
/// Nothing.
const NONE: Value = Value::Null;
/// What the rules that look at the status say.
const SENTENCES: [&str; 5] = [
    "spec.storage cannot be lowered below what the volume has",
    "spec.storageClassName cannot be changed once there is a volume",
    "spec.version must be of the series that the data is of",
    "spec.version cannot be lowered below the version that has run",
    "the series of the version (17, 9.7) cannot be changed yet",
];

fn storages() -> Vec<Value> {
    vec![NONE, json!("1Gi"), json!("2Gi"), json!("1500M"), json!("3Gi")]
}

fn versions() -> Vec<Value> {
    vec![NONE, json!("17"), json!("17.5"), json!("17.99"), json!("18")]
}

fn classes() -> Vec<Value> {
    vec![NONE, json!("fast"), json!("slow")]
}

/// What a status can say: written by this operator, by another one, about a volume of a former claim, or about one that
/// its driver has rounded up.
fn members() -> Vec<Value> {
    let member = |version: Value, storage: Value| json!([{"name": "orders-db-1", "role": "primary", "ready": true, "version": version, "storage": storage}]);
    vec![
        NONE,
        json!([]),
        member(NONE, NONE),
        member(json!("17.5"), json!("2Gi")),
        member(json!("17.10"), json!("2147483649")),
        member(json!("17.5 (Debian 17.5-1.pgdg13+1)"), json!("1Gi")),
        member(json!("18.1"), json!("2Gi")),
        member(json!("devel"), json!("2Gi")),
    ]
}

/// Picks by a number, which it uses up.
struct Picks(u64);

impl Picks {
    fn of(&mut self, all: Vec<Value>) -> Value {
        // A number as large as this has picks enough.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let place = usize::try_from(self.0 >> 40).unwrap() % all.len();
        all.into_iter().nth(place).unwrap()
    }
}

fn pair(picks: &mut Picks) -> (Value, Value) {
    let spec = json!({"engine": "postgres", "size": "small", "team": "checkout", "storage": picks.of(storages()),
        "version": picks.of(versions()), "storageClassName": picks.of(classes())});
    let storage = picks.of(vec![
        json!("1Gi"),
        json!("2Gi"),
        json!("2147483649"),
        json!("lots"),
        json!(""),
    ]);
    let version = picks.of(vec![
        json!("17"),
        json!("17.5"),
        json!("18"),
        json!("8.4"),
        json!("latest"),
    ]);
    let resolved = json!({"image": "i", "version": version, "storage": storage, "class": "built-in",
        "storageClassName": picks.of(classes()), "resources": {"cpuRequest": "1", "cpuLimit": "1", "memory": "1Gi"}});
    let status = json!({"observedGeneration": 1, "members": picks.of(members()),
        "resolved": picks.of(vec![NONE, resolved.clone(), resolved]),
        "initializedAt": picks.of(vec![NONE, json!("2026-01-01T00:00:00Z")])});
    (without_nulls(spec), without_nulls(status))
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, it)| !it.is_null());
            Value::Object(kept.map(|(key, it)| (key, without_nulls(it))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

fn api(suite: &Suite, group: &str, namespace: &str) -> Api<DynamicObject> {
    let mut resource = ApiResource::erase::<DatabaseClaim>(&());
    group.clone_into(&mut resource.group);
    resource.api_version = format!("{group}/v1");
    Api::namespaced_with(suite.client.clone(), namespace, &resource)
}

async fn create(api: &Api<DynamicObject>, group: &str, name: &str, spec: &Value) -> Result<(), String> {
    let claim = json!({"apiVersion": format!("{group}/v1"), "kind": "DatabaseClaim", "metadata": {"name": name},
        "spec": spec});
    let claim = serde_json::from_value(claim).unwrap();
    let created = api.create(&PostParams::default(), &claim).await;
    created.map(drop).map_err(|error| error.to_string())
}

/// Every write that leaves the spec as it is.
async fn every_write_is_taken(api: &Api<DynamicObject>, name: &str, status: &Value) -> Result<(), String> {
    let merge = async |change: Value| {
        let patched = api
            .patch(name, &PatchParams::default(), &Patch::Merge(&change))
            .await;
        patched.map(drop).map_err(|error| format!("{change}: {error}"))
    };
    merge(json!({"metadata": {"labels": {"example.com/turn": "1"}}})).await?;
    merge(json!({"metadata": {"finalizers": ["platform.acme.com/delete-data"]}})).await?;
    let mut applied = api.get(name).await.map_err(|error| error.to_string())?;
    let (version, kind) = applied.types.clone().map(|it| (it.api_version, it.kind)).unwrap();
    let mut said = status.clone();
    said["phase"] = json!("Ready");
    let body = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "status": said});
    let force = PatchParams::apply("dbclaim-status").force();
    let written = api.patch_status(name, &force, &Patch::Apply(&body)).await;
    written.map_err(|error| format!("the status: {error}"))?;
    // The claim as it is, as `kubectl replace` sends it.
    applied = api.get(name).await.map_err(|error| error.to_string())?;
    let replaced = api.replace(name, &PostParams::default(), &applied).await;
    replaced.map_err(|error| format!("the claim as it is: {error}"))?;
    merge(json!({"metadata": {"finalizers": null}})).await
}

async fn a_pair(
    api: &Api<DynamicObject>,
    name: &str,
    (spec, status): (&Value, &Value),
) -> Result<(), String> {
    create(api, "platform.acme.com", name, spec).await?;
    let first = Patch::Merge(json!({"status": status}));
    let written = api.patch_status(name, &PatchParams::default(), &first).await;
    written.map_err(|error| format!("the first status: {error}"))?;
    every_write_is_taken(api, name, status).await?;
    let changes = [
        ("storage", storages()),
        ("version", versions()),
        ("storageClassName", classes()),
    ];
    for (field, values) in changes {
        for value in values {
            let change = Patch::Merge(json!({"spec": {field: value}}));
            let Err(error) = api.patch(name, &PatchParams::default(), &change).await else {
                every_write_is_taken(api, name, status)
                    .await
                    .map_err(|it| format!("with {field} {value}: {it}"))?;
                continue;
            };
            let said = error.to_string();
            if !SENTENCES.iter().any(|it| said.contains(it)) {
                return Err(format!("{field} to {value}: {said}"));
            }
        }
    }
    Ok(())
}

pub async fn a_claim_that_is_stored_can_be_written_to_whatever_it_says(suite: &Suite) {
    let api = api(suite, "platform.acme.com", &suite.namespace("pairs").await);
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut picks = Picks(seed);
    let mut failures = Vec::new();
    for number in 0..PAIRS {
        let (spec, status) = pair(&mut picks);
        let name = format!("orders{number}");
        if let Err(said) = a_pair(&api, &name, (&spec, &status)).await {
            failures.push(format!("{spec} with {status}: {said}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What a former definition took and this one would not.
fn strangers() -> [Value; 6] {
    let claim = |more: Value| {
        let mut spec = json!({"engine": "postgres", "size": "small", "team": "checkout", "database": "app",
            "username": "app", "deletionPolicy": "Retain", "tls": {"required": true}, "hibernated": false,
            "paused": false});
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        spec
    };
    [
        claim(json!({"version": "16"})),
        claim(json!({"engine": "mysql", "version": "8.0.36"})),
        claim(json!({"storage": "100Mi"})),
        claim(json!({"storage": "lots"})),
        claim(json!({"database": "postgres", "username": "pg_app"})),
        claim(json!({"team": "Check Out", "size": "huge", "parameters": {"work_mem": ""}})),
    ]
}

/// A definition without any rule: what a former one may have been.
fn lenient(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            for rule in [
                "x-kubernetes-validations",
                "pattern",
                "enum",
                "minLength",
                "maxLength",
            ] {
                // Not a field of that name.
                if !map.get(rule).is_some_and(Value::is_object) {
                    map.remove(rule);
                }
            }
            map.values_mut().for_each(lenient);
        }
        Value::Array(items) => items.iter_mut().for_each(lenient),
        _ => {}
    }
}

/// Under a group of its own, because the definition is everybody's.
pub async fn a_claim_that_a_former_definition_took_can_be_written_to(suite: &Suite) {
    const GROUP: &str = "former.acme.com";
    let name = format!("databaseclaims.{GROUP}");
    let mut definition = dbclaim::api::crd::database_claims().unwrap();
    definition["metadata"]["name"] = json!(name);
    definition["spec"]["group"] = json!(GROUP);
    let mut former = definition.clone();
    lenient(&mut former["spec"]["versions"]);
    let definitions = suite.definitions();
    let install = async |definition: &Value| {
        let apply = PatchParams::apply("test").force();
        let applied = definitions.patch(&name, &apply, &Patch::Apply(definition)).await;
        applied
            .map(|_: CustomResourceDefinition| ())
            .map_err(|error| error.to_string())
    };
    install(&former).await.unwrap();
    let api = api(suite, GROUP, &suite.namespace("former").await);
    for (number, spec) in strangers().iter().enumerate() {
        let name = format!("orders{number}");
        until("the former definition", async || {
            create(&api, GROUP, &name, spec).await
        })
        .await
        .unwrap();
    }
    install(&definition).await.unwrap();
    until("the new definition", async || {
        let name = "refused";
        if create(&api, GROUP, name, &strangers()[0]).await.is_err() {
            return Ok(());
        }
        let deleted = api.delete(name, &DeleteParams::default()).await;
        Err(format!("the claim was taken and deleted: {}", deleted.is_ok()))
    })
    .await
    .unwrap();
    let status = json!({"observedGeneration": 1, "phase": "Ready"});
    for number in 0..strangers().len() {
        let written = every_write_is_taken(&api, &format!("orders{number}"), &status).await;
        assert_eq!(written, Ok(()), "{}", strangers()[number]);
    }
    definitions.delete(&name, &DeleteParams::default()).await.unwrap();
}
