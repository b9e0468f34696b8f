//! What a claim becomes: golden manifests of every object, and the promises that hold for all of them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking; the linter does not see that fixtures are part of tests"
)]

mod golden;
mod limits;
mod promises;
mod restricted;

use std::collections::BTreeMap;

use dbclaim::api::protocol::{Credentials, FORMAT, Identity, Initialized};
use dbclaim::api::v1::DatabaseClaimSpec;
use dbclaim::certificate::Keys;
use dbclaim::claim::quantity::Bytes;
use dbclaim::claim::{Claim, ClaimId};
use dbclaim::render::{Desired, Object, Secrets, Settings, Slot, marker, render};
use dbclaim::validate::{References, validate};
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Value, json};

/// What a claim is rendered from.
#[derive(Clone)]
struct Fixture {
    id: ClaimId,
    spec: Value,
    references: References,
    settings: Settings,
}

/// The smallest claim that there can be.
fn smallest() -> Fixture {
    Fixture {
        id: id("shop", "orders"),
        spec: json!({"engine": "postgres", "size": "small", "team": "checkout"}),
        references: References::default(),
        settings: Settings {
            agent_image: "registry.acme.com/dbclaim:0.1.0".into(),
            pull_secrets: vec![],
        },
    }
}

/// A claim that says everything that can be said.
fn full() -> Fixture {
    Fixture {
        id: id("finance", "invoices"),
        spec: json!({
            "engine": "postgres", "size": "large", "team": "billing", "version": "18.1", "storage": "250Gi",
            "storageClassName": "fast", "database": "ledger", "username": "clerk", "deletionPolicy": "Delete",
            "paused": true,
        }),
        ..smallest()
    }
}

/// The smallest claim, made again over a volume that a former claim has left.
fn undelete() -> Fixture {
    let record = Identity {
        v: FORMAT,
        claim: "shop/orders".into(),
        volume_id: "0b9dd0c3-0000-4000-8000-00000000feed-1".into(),
        member: 1,
        engine: "postgres".into(),
        major: "17".into(),
        database: "app".into(),
        username: "app".into(),
        initialized: Some(initialized()),
    };
    Fixture {
        references: References {
            identity: Some(record),
            requested: Some(Bytes(8 * Bytes::GIB)),
            ..References::default()
        },
        ..smallest()
    }
}

/// The smallest claim for MySQL.
fn mysql() -> Fixture {
    Fixture {
        spec: json!({"engine": "mysql", "size": "small", "team": "checkout"}),
        ..smallest()
    }
}

/// The smallest claim, in a cluster whose images need a Secret to be pulled.
fn pull_secrets() -> Fixture {
    let settings = Settings {
        pull_secrets: vec!["acme-registry".into(), "docker-hub".into()],
        ..smallest().settings
    };
    Fixture {
        settings,
        ..smallest()
    }
}

/// The longest names that the API lets through.
fn longest() -> Fixture {
    Fixture {
        id: id(&"n".repeat(63), &"o".repeat(46)),
        spec: json!({
            "engine": "postgres", "size": "small", "team": "t".repeat(63), "database": "d".repeat(32),
            "username": "u".repeat(32),
        }),
        ..smallest()
    }
}

fn id(namespace: &str, name: &str) -> ClaimId {
    ClaimId {
        namespace: namespace.into(),
        name: name.into(),
        uid: "11d00000-0000-4000-8000-000000000001".into(),
    }
}

fn initialized() -> Initialized {
    Initialized {
        at: "2026-03-01T08:00:00Z".into(),
        system_identifier: "7300000000000000001".into(),
    }
}

fn credentials() -> Credentials {
    Credentials {
        v: FORMAT,
        generation: 1_770_000_000,
        password: "fixed-password".into(),
        ..Credentials::default()
    }
}

/// Stand-ins: what they say is looked at elsewhere.
fn keys() -> Keys {
    Keys {
        ca: "the authority".into(),
        ca_key: "the authority's key".into(),
        certificate: "the certificate".into(),
        key: "the certificate's key".into(),
    }
}

impl Fixture {
    fn claim(&self) -> Claim {
        let spec: DatabaseClaimSpec = serde_json::from_value(self.spec.clone()).unwrap();
        validate(&self.id, &spec, &self.references).unwrap()
    }

    fn desired(&self) -> Desired {
        let claim = self.claim();
        render(
            &claim,
            &self.settings,
            Some((&credentials(), &keys())),
            claim.identity.initialized.as_ref(),
        )
    }

    /// The claim, with some of its spec said otherwise.
    fn with(mut self, changes: Value) -> Self {
        let (Value::Object(spec), Value::Object(changes)) = (&mut self.spec, changes) else {
            panic!("a spec is an object");
        };
        spec.extend(changes);
        self
    }

    /// Every object, by its place.
    fn objects(&self) -> BTreeMap<Slot, Object> {
        // Without `..`: a new object that is not looked at here does not compile.
        let Desired {
            stateful_set,
            restart_hash: _,
            asked: _,
            in_place: _,
            volume,
            service,
            members_service,
            config,
            config_generation: _,
            report,
            service_account,
            role,
            role_binding,
            secrets,
        } = self.desired();
        let Secrets { admin, app, .. } = secrets.unwrap();
        let claim = self.claim();
        [
            stateful_set,
            volume,
            service,
            members_service,
            config,
            report,
            service_account,
            role,
            role_binding,
            admin,
            app,
            marker(&claim, Slot::AdminMarker, "5ec00000-0000-4000-8000-00000000000a"),
            marker(&claim, Slot::AppMarker, "5ec00000-0000-4000-8000-00000000000b"),
        ]
        .into_iter()
        .map(|object| (object.slot, object))
        .collect()
    }

    fn pod(&self) -> PodSpec {
        let set = self.desired().stateful_set.body;
        serde_json::from_value(set["spec"]["template"]["spec"].clone()).unwrap()
    }
}
