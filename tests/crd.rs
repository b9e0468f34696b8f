//! What is generated and committed is what the types say.

use std::path::Path;

/// Both copies: the one for people and GitOps, and the chart's.
const COPIES: [&str; 2] = [
    "crds/databaseclaims.platform.acme.com.yaml",
    "charts/dbclaim/files/crds/databaseclaims.platform.acme.com.yaml",
];

#[test]
fn the_committed_crd_is_fresh() {
    let generated = dbclaim::api::crd::yaml().unwrap();
    for copy in COPIES {
        let committed = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(copy)).unwrap();
        assert!(committed == generated, "{copy} is stale; run `just crds`");
    }
}

#[test]
fn no_field_is_nullable() {
    assert!(
        !dbclaim::api::crd::yaml().unwrap().contains("nullable"),
        "null would slip past transition rules"
    );
}

/// Else Helm and Flux would take a claim that was just created for one that is ready.
#[test]
fn a_claim_that_nobody_has_seen_counts_as_in_progress() {
    let crd = dbclaim::api::crd::database_claims().unwrap();
    let status = "/spec/versions/0/schema/openAPIV3Schema/properties/status/default/observedGeneration";
    let generation = crd.pointer(status).and_then(serde_json::Value::as_i64);
    assert_eq!(generation, Some(-1), "no object has this generation");
}

/// What `kubectl get` shows as the version is what runs, not what was asked for.
#[test]
fn the_column_version_is_what_runs() {
    let crd = dbclaim::api::crd::database_claims().unwrap();
    let columns = crd.pointer("/spec/versions/0/additionalPrinterColumns");
    let columns = columns.and_then(serde_json::Value::as_array).unwrap();
    let version = columns.iter().find(|it| it["name"] == "Version").unwrap();
    assert_eq!(version["jsonPath"], ".status.members[0].version");
}

/// `kubectl get databases` is another operator's: CloudNativePG and MariaDB have a resource of that name.
#[test]
fn no_name_of_ours_is_a_common_word() {
    let crd = dbclaim::api::crd::database_claims().unwrap();
    let names = crd.pointer("/spec/names").unwrap();
    for key in ["shortNames", "categories"] {
        let ours = names.get(key).and_then(serde_json::Value::as_array);
        for name in ours.into_iter().flatten() {
            let name = name.as_str().unwrap();
            assert!(name.starts_with("dbclaim"), "{key}: {name}");
        }
    }
}
