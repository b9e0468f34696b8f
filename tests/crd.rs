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
