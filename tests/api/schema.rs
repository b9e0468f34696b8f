//! What the real API server says to right and wrong claims: its words are what a user gets to read.

mod tables;

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Api, Client, discovery::ApiResource};
use serde_json::{Value, json};

use crate::cluster::Suite;
use tables::{changes, refused_at_creation};

/// Claims in their smallest form, with fields put in and taken out.
fn claim(name: &str, changes: &Value) -> Value {
    let mut claim = json!({
        "apiVersion": "platform.acme.com/v1", "kind": "DatabaseClaim",
        "metadata": {"name": name},
        "spec": {"engine": "postgres", "size": "small", "team": "checkout"},
    });
    let spec = claim["spec"].as_object_mut().unwrap();
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Value::String(text) if text == ABSENT => spec.remove(key),
            value => spec.insert(key.clone(), value.clone()),
        };
    }
    claim
}

const ABSENT: &str = "(absent)";

fn api(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<dbclaim::api::v1::DatabaseClaim>(&());
    Api::namespaced_with(client.clone(), namespace, &resource)
}

async fn create(api: &Api<DynamicObject>, claim: &Value) -> Result<DynamicObject, String> {
    let strict = PostParams {
        dry_run: false,
        field_manager: Some("test".into()),
    };
    let object = serde_json::from_value(claim.clone()).unwrap();
    api.create(&strict, &object).await.map_err(words)
}

fn words(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => panic!("the API server gave no verdict: {other}"),
    }
}

/// Every wrong claim is refused at creation, with words that name the field and the way out.
pub async fn wrong_claims_are_refused_with_words_that_help(suite: &Suite) {
    let api = api(&suite.client, &suite.namespace("schema-create").await);
    let mut failures = Vec::new();
    for (case, changes, expected) in refused_at_creation() {
        match create(&api, &claim("orders", &changes)).await {
            Ok(_) => {
                failures.push(format!("{case}: was accepted"));
                api.delete("orders", &DeleteParams::default()).await.unwrap();
            }
            Err(said) => failures.extend(missing(case, &said, expected)),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn missing(case: &str, said: &str, expected: &[&str]) -> Option<String> {
    let missing: Vec<_> = expected.iter().filter(|word| !said.contains(**word)).collect();
    (!missing.is_empty()).then(|| format!("{case}: {missing:?} is not in: {said}"))
}

/// Names that would not fit what is made from them.
pub async fn names_that_do_not_fit_are_refused(suite: &Suite) {
    let api = api(&suite.client, &suite.namespace("schema-names").await);
    for name in ["1orders", "or.ders", &"x".repeat(47)] {
        let said = create(&api, &claim(name, &json!({})))
            .await
            .expect_err("was accepted");
        assert!(said.contains("at most 46 characters"), "{name}: {said}");
    }
    create(&api, &claim(&"x".repeat(46), &json!({})))
        .await
        .expect("46 characters fit");
}

/// With strict field validation, as kubectl uses it, a misspelt field is an error and not silence.
pub async fn unknown_fields_are_refused_under_strict_validation(suite: &Suite) {
    let namespace = suite.namespace("schema-strict").await;
    let url =
        format!("/apis/platform.acme.com/v1/namespaces/{namespace}/databaseclaims?fieldValidation=Strict");
    let body = serde_json::to_vec(&claim("orders", &json!({"replicas": 3}))).unwrap();
    let request = http::Request::post(url)
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    let said = words(
        suite
            .client
            .request::<Value>(request)
            .await
            .expect_err("was accepted"),
    );
    assert!(said.contains("unknown field \"spec.replicas\""), "{said}");
}

/// Constant defaults stand in the schema, so a GitOps tool sees what it wrote and the defaults.
pub async fn the_smallest_claim_gets_the_constant_defaults(suite: &Suite) {
    let api = api(&suite.client, &suite.namespace("schema-defaults").await);
    let made = create(&api, &claim("orders", &json!({}))).await.unwrap();
    let expected = json!({
        "engine": "postgres", "size": "small", "team": "checkout",
        "database": "app", "username": "app", "deletionPolicy": "Retain",
        "hibernated": false, "paused": false, "tls": {"required": true},
    });
    assert_eq!(made.data["spec"], expected);
}

/// `null` says the same as leaving a field out; it is no way around a rule.
pub async fn null_means_absent(suite: &Suite) {
    let api = api(&suite.client, &suite.namespace("schema-null").await);
    let null = json!({"version": null, "storage": null, "storageClassName": null, "database": null,
        "username": null, "deletionPolicy": null, "parameters": null, "extensions": null, "hibernated": null,
        "paused": null, "tls": null});
    let with_null = create(&api, &claim("orders", &null)).await.unwrap();
    let without = create(&api, &claim("bills", &json!({}))).await.unwrap();
    assert_eq!(with_null.data["spec"], without.data["spec"]);
}

/// Every field changed, set and removed: what cannot be honoured is refused and says what to do instead.
pub async fn changes_that_cannot_be_honoured_are_refused(suite: &Suite) {
    let api = api(&suite.client, &suite.namespace("schema-change").await);
    let mut failures = Vec::new();
    for (index, (case, before, patch, expected)) in changes().into_iter().enumerate() {
        let name = format!("orders{index}");
        create(&api, &claim(&name, &before))
            .await
            .unwrap_or_else(|said| panic!("{case}: {said}"));
        let patch = Patch::Merge(json!({"spec": patch}));
        match api.patch(&name, &PatchParams::default(), &patch).await {
            Ok(_) if expected.is_empty() => {}
            Ok(_) => failures.push(format!("{case}: was accepted")),
            Err(error) if expected.is_empty() => failures.push(format!("{case}: was refused: {error}")),
            Err(error) => failures.extend(missing(case, &words(error), expected)),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A claim without `storage` has what its volume has; setting less is refused too, and so is another class.
pub async fn storage_is_not_lowered_below_what_the_volume_has(suite: &Suite) {
    let api = api(&suite.client, &suite.namespace("schema-shrink").await);
    create(&api, &claim("orders", &json!({}))).await.unwrap();
    let resolved = json!({"status": {"resolved": {
        "image": "i", "version": "17", "storage": "5Gi", "storageClassName": "standard", "class": "built-in",
        "resources": {"cpuRequest": "1", "cpuLimit": "1", "memory": "1Gi"},
    }, "members": [{"name": "orders-db-1", "role": "primary", "ready": true, "storage": "5Gi"}]}});
    api.patch_status("orders", &PatchParams::default(), &Patch::Merge(resolved))
        .await
        .unwrap();
    let shrink = Patch::Merge(json!({"spec": {"storage": "4Gi"}}));
    let said = words(
        api.patch("orders", &PatchParams::default(), &shrink)
            .await
            .expect_err("was accepted"),
    );
    assert!(
        said.contains("cannot be lowered below what the volume has"),
        "{said}"
    );
    let grow = Patch::Merge(json!({"spec": {"storage": "6Gi"}}));
    api.patch("orders", &PatchParams::default(), &grow)
        .await
        .expect("growing is allowed");
    let class = |class: &str| Patch::Merge(json!({"spec": {"storageClassName": class}}));
    let said = words(
        api.patch("orders", &PatchParams::default(), &class("slow"))
            .await
            .expect_err("was accepted"),
    );
    assert!(said.contains("status.resolved.storageClassName"), "{said}");
    api.patch("orders", &PatchParams::default(), &class("standard"))
        .await
        .expect("to name the class that the volume has changes nothing");
}

/// The data decides what a version may be: not another major, and nothing older than what has run.
pub async fn a_version_is_bound_to_what_has_run(suite: &Suite) {
    let api = api(&suite.client, &suite.namespace("schema-version").await);
    create(&api, &claim("orders", &json!({}))).await.unwrap();
    let status = json!({"status": {
        "members": [{"name": "orders-db-1", "role": "primary", "ready": true, "version": "17.5"}],
        "resolved": {
            "image": "i", "version": "17", "storage": "5Gi", "class": "built-in",
            "resources": {"cpuRequest": "1", "cpuLimit": "1", "memory": "1Gi"},
        },
    }});
    api.patch_status("orders", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    for (version, expected) in [
        ("18", Some("of the series that the data is of")),
        ("17.4", Some("cannot be lowered below the version that has run")),
        ("17.5", None),
        ("17.99", None),
        ("17.5", None),
        ("17", None),
    ] {
        let patch = Patch::Merge(json!({"spec": {"version": version}}));
        let said = api.patch("orders", &PatchParams::default(), &patch).await;
        match (said, expected) {
            (Ok(_), None) => {}
            (Ok(_), Some(_)) => panic!("{version} was accepted"),
            (Err(error), None) => panic!("{version} was refused: {error}"),
            (Err(error), Some(expected)) => {
                let said = words(error);
                assert!(said.contains(expected), "{version}: {said}");
            }
        }
    }
}

/// `kubectl explain` has something to say about every field.
pub async fn every_field_is_documented(_suite: &Suite) {
    fn undocumented(path: &str, schema: &Value, found: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if field["description"].as_str().is_none_or(str::is_empty) {
                found.push(path.clone());
            }
            undocumented(&path, field, found);
            undocumented(&path, &field["items"], found);
        }
    }
    let crd = dbclaim::api::crd::database_claims().unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut found = Vec::new();
    undocumented("spec", &schema["properties"]["spec"], &mut found);
    undocumented("status", &schema["properties"]["status"], &mut found);
    assert_eq!(found, Vec::<String>::new(), "fields without a description");
}
