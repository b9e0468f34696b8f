//! What holds for the objects of every claim, whatever it asks for.

use std::collections::{BTreeMap, BTreeSet};

use dbclaim::api::protocol::{Credentials, Previous};
use dbclaim::api::{key, label};
use dbclaim::render::{Object, Slot, render};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use super::{Fixture, credentials, full, keys, longest, mysql, pull_secrets, smallest, undelete};

#[test]
fn a_new_team_changes_labels_and_nothing_else() {
    let team = |fixture: &Fixture| -> BTreeMap<Slot, String> {
        let text = |(slot, object): (Slot, Object)| {
            let body = object
                .body
                .to_string()
                .replace(&object.applied, "")
                .replace("platform", "checkout");
            (slot, body)
        };
        fixture.objects().into_iter().map(text).collect()
    };
    let moved = smallest().with(json!({"team": "platform"}));
    assert_eq!(team(&moved), team(&smallest()));
    assert_ne!(
        moved.objects()[&Slot::Service],
        smallest().objects()[&Slot::Service]
    );
}

#[test]
fn every_place_has_an_object_of_its_kind_and_name() {
    let fixture = smallest();
    let objects = fixture.objects();
    assert_eq!(
        objects.keys().copied().collect::<BTreeSet<_>>(),
        BTreeSet::from(Slot::ALL)
    );
    for (slot, object) in objects {
        assert_eq!(object.body["kind"], slot.kind().name(), "{slot:?}");
        assert_eq!(
            object.body["metadata"]["name"],
            slot.name(&fixture.id),
            "{slot:?}"
        );
        assert_eq!(object.body["metadata"]["namespace"], "shop", "{slot:?}");
        assert_eq!(
            object.body["metadata"]["annotations"][key::APPLIED],
            object.applied,
            "{slot:?}"
        );
    }
}

#[test]
fn what_survives_the_claim_has_no_owner_and_the_rest_has_one() {
    for (slot, object) in undelete().objects() {
        let owners = &object.body["metadata"]["ownerReferences"];
        match slot {
            Slot::Volume | Slot::AdminSecret | Slot::AppSecret => {
                assert!(owners.is_null(), "{slot:?}: {owners}");
            }
            Slot::AdminMarker => assert_eq!(owners[0]["uid"], "5ec00000-0000-4000-8000-00000000000a"),
            Slot::AppMarker => assert_eq!(owners[0]["uid"], "5ec00000-0000-4000-8000-00000000000b"),
            _ => assert_eq!(
                *owners,
                json!([{
                    "apiVersion": "platform.acme.com/v1", "kind": "DatabaseClaim", "name": "orders",
                    "uid": "11d00000-0000-4000-8000-000000000001", "controller": true, "blockOwnerDeletion": true,
                }]),
                "{slot:?}"
            ),
        }
    }
}

#[test]
fn every_object_and_the_pod_are_labelled() {
    let expected = json!({
        label::NAME: "postgres", label::INSTANCE: "orders", label::COMPONENT: "database",
        label::MANAGED_BY: "dbclaim", label::PART_OF: "dbclaim", key::CLAIM: "orders", key::TEAM: "checkout",
    });
    let objects = smallest().objects();
    for (slot, object) in &objects {
        assert_eq!(object.body["metadata"]["labels"], expected, "{slot:?}");
    }
    let template = &objects[&Slot::StatefulSet].body["spec"]["template"];
    assert_eq!(template["metadata"]["labels"], expected);
}

#[test]
fn selectors_hold_only_what_never_changes() {
    let objects = full().objects();
    let expected = json!({key::CLAIM: "invoices", label::COMPONENT: "database"});
    assert_eq!(
        objects[&Slot::StatefulSet].body["spec"]["selector"],
        json!({"matchLabels": expected})
    );
    for slot in [Slot::Service, Slot::MembersService] {
        assert_eq!(objects[&slot].body["spec"]["selector"], expected, "{slot:?}");
    }
}

#[test]
fn applications_find_what_the_service_binding_specification_promises() {
    let app = full().objects()[&Slot::AppSecret].body.clone();
    let secret: Secret = serde_json::from_value(app).unwrap();
    assert_eq!(secret.type_.as_deref(), Some("servicebinding.io/postgresql"));
    let data = secret.data.unwrap();
    let found: BTreeMap<&str, &str> = data
        .iter()
        .map(|(key, value)| (key.as_str(), std::str::from_utf8(&value.0).unwrap()))
        .collect();
    let host = "invoices-db.finance.svc.cluster.local";
    let uri = format!("postgresql://clerk:fixed-password@{host}:5432/ledger?sslmode=require");
    let jdbc =
        format!("jdbc:postgresql://{host}:5432/ledger?user=clerk&password=fixed-password&sslmode=require");
    assert_eq!(
        found,
        BTreeMap::from([
            ("type", "postgresql"),
            ("provider", "dbclaim"),
            ("host", host),
            ("port", "5432"),
            ("database", "ledger"),
            ("username", "clerk"),
            ("password", "fixed-password"),
            ("uri", &uri),
            ("jdbc-uri", &jdbc),
            ("sslmode", "require"),
            ("ca.crt", "the authority"),
        ])
    );
}

#[test]
fn after_a_rotation_no_value_for_applications_has_the_former_password() {
    let former = credentials();
    let rotated = Credentials {
        generation: former.generation + 1,
        password: "next-word".into(),
        previous: Some(Box::new(Previous {
            password: Some(former.password.clone()),
            ..Previous::default()
        })),
        ..Credentials::default()
    };
    for fixture in [smallest(), full(), mysql()] {
        let claim = fixture.claim();
        let desired = render(&claim, &fixture.settings, Some((&rotated, &keys())), None);
        let app = desired.secrets.unwrap().app.body;
        let secret: Secret = serde_json::from_value(app).unwrap();
        for (key, value) in secret.data.unwrap() {
            let value = String::from_utf8(value.0).unwrap();
            assert!(!value.contains(&former.password), "{key} has the former password");
        }
    }
}

#[test]
fn where_tls_is_not_required_sslmode_says_so_and_mysql_has_none() {
    let mode = |fixture: Fixture| {
        let app = fixture.objects()[&Slot::AppSecret].body.clone();
        let secret: Secret = serde_json::from_value(app).unwrap();
        let mode = secret.data.unwrap().remove("sslmode");
        mode.map(|it| String::from_utf8(it.0).unwrap())
    };
    assert_eq!(mode(smallest()).as_deref(), Some("require"));
    let lenient = smallest().with(json!({"tls": {"required": false}}));
    assert_eq!(mode(lenient).as_deref(), Some("prefer"));
    assert_eq!(mode(mysql()), None);
}

#[test]
fn a_password_stands_in_secrets_only_and_never_in_a_log() {
    for (slot, object) in smallest().objects() {
        let body = object.body.to_string();
        assert!(!body.contains("fixed-password"), "{slot:?} shows the password");
        assert!(!body.contains("'s key"), "{slot:?} shows a key");
        assert!(object.body.get("stringData").is_none(), "{slot:?}");
    }
    let shown = format!("{:?} {:?} {:?}", smallest().desired(), credentials(), keys());
    assert!(
        !shown.contains("password: \"") && !shown.contains("fixed"),
        "{shown}"
    );
}

#[test]
fn the_same_claim_gives_the_same_bytes() {
    for fixture in [smallest(), full(), undelete(), pull_secrets(), longest()] {
        let bytes = |fixture: &Fixture| -> Vec<(Slot, String, Vec<u8>)> {
            let objects = fixture.objects().into_values();
            objects
                .map(|it| (it.slot, it.applied.clone(), serde_json::to_vec(&it.body).unwrap()))
                .collect()
        };
        assert_eq!(bytes(&fixture), bytes(&fixture.clone()));
    }
}

#[test]
fn what_is_known_of_a_volume_is_never_forgotten() {
    let fixture = undelete();
    let claim = fixture.claim();
    let forgetful = render(&claim, &fixture.settings, None, None);
    assert_eq!(forgetful.volume, fixture.desired().volume, "the record");
    assert_eq!(
        forgetful.config,
        fixture.desired().config,
        "what the agent expects"
    );
}

#[test]
fn learning_what_the_volume_is_changes_no_engine() {
    assert_eq!(
        undelete().desired().config_generation,
        smallest().desired().config_generation
    );
    assert_ne!(
        full().desired().config_generation,
        smallest().desired().config_generation
    );
}

#[test]
fn only_what_needs_a_restart_changes_the_restart_hash() {
    let hash = |fixture: &Fixture| fixture.desired().restart_hash;
    let before = hash(&smallest());
    for (what, changed) in [
        ("a size", smallest().with(json!({"size": "medium"}))),
        (
            "an image of the engine",
            smallest().with(json!({"version": "17.5"})),
        ),
        ("pull secrets", pull_secrets()),
    ] {
        assert_ne!(hash(&changed), before, "{what} needs a restart");
    }
    let mut upgraded = smallest();
    upgraded.settings.agent_image = "registry.acme.com/dbclaim:0.2.0".into();
    assert_ne!(hash(&upgraded), before, "an image of the agent needs a restart");
    for (what, changed) in [
        ("a team", smallest().with(json!({"team": "platform"}))),
        ("storage", smallest().with(json!({"storage": "50Gi"}))),
        (
            "a deletion policy",
            smallest().with(json!({"deletionPolicy": "Delete"})),
        ),
        (
            "TLS that is not required",
            smallest().with(json!({"tls": {"required": false}})),
        ),
        ("a pause", smallest().with(json!({"paused": true}))),
        ("what the volume is", undelete()),
    ] {
        assert_eq!(hash(&changed), before, "{what} needs no restart");
    }
}
