//! The two Secrets of a claim and the markers that tell when one of them is deleted. Pure; password
//! and keys are arguments.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::object::{Object, Slot};
use super::{Secrets, metadata};
use crate::api::protocol::{Credentials, path};
use crate::certificate::Keys;
use crate::claim::Claim;
use crate::engine::{Connection, Engine};

pub(super) fn secrets(claim: &Claim, credentials: &Credentials, keys: &Keys) -> Secrets {
    Secrets {
        admin: admin(claim, credentials, keys),
        app: app(claim, credentials, &keys.ca),
        generation: credentials.generation,
        previous_is_open: credentials.previous_is_open(),
    }
}

/// What the agent reads, and the authority's key, which it does not get to see.
fn admin(claim: &Claim, credentials: &Credentials, keys: &Keys) -> Object {
    // Serialising plain data cannot fail.
    let file = serde_json::to_string(credentials).unwrap_or_default();
    let keys = [
        (path::CA_FILE, &keys.ca),
        (path::CA_KEY_FILE, &keys.ca_key),
        (path::CERTIFICATE_FILE, &keys.certificate),
        (path::KEY_FILE, &keys.key),
    ];
    let there = keys.into_iter().filter(|(_, text)| !text.is_empty());
    let entries = there.map(|(name, text)| (name, text.clone()));
    secret(
        claim,
        Slot::AdminSecret,
        "Opaque".to_owned(),
        entries.chain([(path::CREDENTIALS_FILE, file)]),
    )
}

/// What applications read: the Service Binding specification's well-known keys
/// (<https://servicebinding.io/spec/core/1.1.0/#well-known-secret-entries>) and a URL for JDBC.
fn app(claim: &Claim, credentials: &Credentials, ca: &str) -> Object {
    let engine = Engine::from(claim.engine);
    let host = claim.id.host();
    let to = Connection {
        host: &host,
        database: &claim.database,
        username: credentials.login(&claim.username),
        password: &credentials.password,
        plaintext: claim.plaintext,
    };
    let entries = [
        ("type", engine.binding_type().to_owned()),
        ("provider", "dbclaim".to_owned()),
        ("host", host.clone()),
        ("port", engine.port().to_string()),
        ("database", claim.database.clone()),
        ("username", to.username.to_owned()),
        ("password", to.password.to_owned()),
        ("uri", engine.uri(&to)),
        ("jdbc-uri", engine.jdbc_uri(&to)),
        (path::CA_FILE, ca.to_owned()),
    ];
    let kind = format!("servicebinding.io/{}", engine.binding_type());
    // Spring Cloud Bindings and others that take the parts know from it alone that TLS is wanted.
    let mode = engine.sslmode(&to).map(|it| ("sslmode", it.to_owned()));
    secret(claim, Slot::AppSecret, kind, entries.into_iter().chain(mode))
}

fn secret<'a>(
    claim: &Claim,
    slot: Slot,
    type_: String,
    entries: impl IntoIterator<Item = (&'a str, String)>,
) -> Object {
    let data: BTreeMap<String, ByteString> = entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
        .collect();
    let secret = Secret {
        metadata: metadata::kept(claim, slot),
        type_: Some(type_),
        data: Some(data),
        ..Secret::default()
    };
    Object::new(slot, &claim.id, &secret)
}

/// A ConfigMap owned by a Secret. When the Secret is deleted, the garbage collector deletes the marker, and
/// its watch tells us: so Secrets need no watch.
pub fn marker(claim: &Claim, slot: Slot, secret_uid: &str) -> Object {
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Secret".to_owned(),
        name: slot.name(&claim.id),
        uid: secret_uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    let map = ConfigMap {
        metadata: ObjectMeta {
            owner_references: Some(vec![owner]),
            ..metadata::kept(claim, slot)
        },
        ..ConfigMap::default()
    };
    Object::new(slot, &claim.id, &map)
}
