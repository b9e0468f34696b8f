//! Names: long ones fit into Kubernetes, and those of two claims never meet.

use std::collections::BTreeSet;

use dbclaim::claim::ClaimId;
use dbclaim::render::{Kind, Slot};
use proptest::prelude::*;
use serde_json::Value;

use super::{id, longest};

#[test]
fn the_longest_names_fit_into_kubernetes() {
    let fixture = longest();
    for (slot, object) in fixture.objects() {
        fits(&object.name, 63, &format!("name of {slot:?}"));
        for (path, labels) in labels(&object.body) {
            for (key, value) in labels {
                fits(
                    value.as_str().unwrap(),
                    63,
                    &format!("label {key} at {path} of {slot:?}"),
                );
            }
        }
    }
    for member in [1, 10, 99] {
        let set = fixture.id.member(member);
        // The StatefulSet controller labels Pods with `<set>-<hash>`; the hash has up to 10 characters.
        fits(
            &format!("{set}-{}", "x".repeat(10)),
            63,
            "controller-revision-hash",
        );
        // It becomes the host's name.
        fits(&fixture.id.pod(member), 63, "name of a Pod");
    }
    assert!(fixture.id.host().len() <= 253, "{}", fixture.id.host());
    for part in fixture.id.host().split('.') {
        fits(part, 63, "part of the host's name");
    }
}

/// DNS label (RFC 1035) of at most `longest` characters: what the strictest of our kinds, the Service, allows.
fn fits(name: &str, longest: usize, what: &str) {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let good = name.len() <= longest
        && name.bytes().all(inner)
        && name.starts_with(|it: char| it.is_ascii_lowercase())
        && !name.ends_with('-');
    assert!(good, "{what}: {name:?} ({} characters)", name.len());
}

/// Labels and selectors of an object, wherever they stand.
fn labels(body: &Value) -> Vec<(String, &serde_json::Map<String, Value>)> {
    let Value::Object(map) = body else { return vec![] };
    let mut found = Vec::new();
    for (key, value) in map {
        if let (true, Value::Object(labels)) = (["labels", "matchLabels"].contains(&key.as_str()), value) {
            found.push((key.clone(), labels));
        }
        found.extend(
            labels(value)
                .into_iter()
                .map(|(path, it)| (format!("{key}.{path}"), it)),
        );
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_claims_never_want_the_same_name(
        a in "[a-z]([-a-z0-9]{0,8}[a-z0-9])?", b in "[a-z]([-a-z0-9]{0,3}[a-z0-9])?", suffix in 0..6_usize,
    ) {
        let extended = ["", "-db", "-db-1", "-db-app", "-db-members", "-db-1-report"][suffix];
        let (one, other) = (id("shop", &a), id("shop", &format!("{b}{extended}")));
        prop_assume!(one.name != other.name);
        let names = |id: &ClaimId| -> BTreeSet<(Kind, String)> {
            let slots = Slot::ALL.iter().map(|slot| (slot.kind(), slot.name(id)));
            slots.chain([(Kind::Pod, id.pod(1))]).collect()
        };
        let shared: Vec<_> = names(&one).intersection(&names(&other)).cloned().collect();
        prop_assert!(shared.is_empty(), "{} and {} both want {shared:?}", one.name, other.name);
    }
}
