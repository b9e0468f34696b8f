//! Metadata of objects as the API server sends them, decoded no further than somebody here looks: most of an
//! object's bytes are `managedFields` and other people's annotations. Knows no kind.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{key, label, manager};

/// Label that names the Service of an EndpointSlice.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Labels and annotations that are kept.
const KEPT: [&str; 13] = [
    SERVICE_NAME,
    label::MANAGED_BY,
    key::CLAIM,
    key::TEAM,
    key::APPLIED,
    key::RESTART_HASH,
    key::ASKED,
    label::REVISION,
    key::IDENTITY,
    key::REPORT,
    key::WANTED,
    key::RESTART,
    key::ROTATE,
];

/// Metadata of an object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Raw")]
pub struct Meta {
    /// Identity, owners, finalizers, deletion, and those labels and annotations that are ours.
    pub object: ObjectMeta,
    /// Hash over the fields that our manager owns, whatever their values and their order. When somebody else
    /// changes or removes one of them, the API server takes it from our entry, and the fingerprint changes. The
    /// UIDs of owners are left out, so that it is the same for all claims and one read after a restart tells about
    /// all of them; whose an object is, is judged by itself.
    pub fingerprint: u64,
}

/// An object of which only the metadata matter.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct MetaOnly {
    /// Metadata.
    #[serde(default)]
    pub metadata: Meta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    deletion_timestamp: Option<Time>,
    labels: Option<Kept>,
    annotations: Option<Kept>,
    owner_references: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<String>>,
    managed_fields: Option<Vec<Entry>>,
}

impl From<Raw> for Meta {
    fn from(raw: Raw) -> Self {
        let mut hasher = DefaultHasher::new();
        for entry in raw.managed_fields.iter().flatten() {
            if entry.manager == hash(manager::OPERATOR) && entry.subresource.is_none() {
                (entry.operation, entry.fields_v1).hash(&mut hasher);
            }
        }
        Self {
            object: ObjectMeta {
                name: raw.name,
                namespace: raw.namespace,
                uid: raw.uid,
                resource_version: raw.resource_version,
                generation: raw.generation,
                deletion_timestamp: raw.deletion_timestamp,
                labels: raw.labels.map(|it| it.0),
                annotations: raw.annotations.map(|it| it.0),
                owner_references: raw.owner_references,
                finalizers: raw.finalizers,
                ..ObjectMeta::default()
            },
            fingerprint: hasher.finish(),
        }
    }
}

/// An entry of `managedFields`. Nothing of it is kept, so nothing is copied.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry {
    #[serde(deserialize_with = "hashed")]
    manager: u64,
    #[serde(deserialize_with = "hashed")]
    operation: u64,
    #[serde(deserialize_with = "hashed")]
    fields_v1: u64,
    subresource: Option<IgnoredAny>,
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn hashed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Hashed::Value.deserialize(deserializer)
}

/// Reads a text or a tree of fields as its hash.
#[derive(Clone, Copy)]
enum Hashed {
    Value,
    /// The name of a field, of which an item's UID says nothing.
    Field,
}

impl<'de> DeserializeSeed<'de> for Hashed {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Hashed {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a tree of fields")
    }

    fn visit_str<E>(self, text: &str) -> Result<u64, E> {
        const BY_UID: &str = r#"k:{"uid":"#;
        Ok(match self {
            Self::Field if text.starts_with(BY_UID) => hash(BY_UID),
            _ => hash(text),
        })
    }

    fn visit_unit<E>(self) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
        // A sum does not depend on the order.
        let mut sum: u64 = 1;
        while let Some(field) = map.next_key_seed(Self::Field)? {
            let below = map.next_value_seed(Self::Value)?;
            let mut hasher = DefaultHasher::new();
            (field, below).hash(&mut hasher);
            sum = sum.wrapping_add(hasher.finish());
        }
        Ok(sum)
    }

    // No API server sends these; an object must not become unreadable by them.
    fn visit_bool<E>(self, value: bool) -> Result<u64, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<u64, E> {
        Ok(value)
    }

    fn visit_i64<E>(self, value: i64) -> Result<u64, E> {
        Ok(value.unsigned_abs())
    }

    fn visit_f64<E>(self, value: f64) -> Result<u64, E> {
        Ok(value.to_bits())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<u64, A::Error> {
        let mut hasher = DefaultHasher::new();
        while let Some(item) = seq.next_element_seed(Self::Value)? {
            item.hash(&mut hasher);
        }
        Ok(hasher.finish())
    }
}

/// Those labels or annotations that are kept.
#[derive(Default)]
struct Kept(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(KeptVisitor)
    }
}

struct KeptVisitor;

impl<'de> Visitor<'de> for KeptVisitor {
    type Value = Kept;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("labels or annotations")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kept, A::Error> {
        let mut kept = Kept::default();
        while let Some(key) = map.next_key_seed(KeptKey)? {
            match key {
                Some(key) => {
                    kept.0.insert(key.to_owned(), map.next_value()?);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(kept)
    }
}

struct KeptKey;

impl<'de> DeserializeSeed<'de> for KeptKey {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeptKey {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(KEPT.into_iter().find(|kept| *kept == key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn decoded(meta: &Value) -> Meta {
        let from_text: Meta = serde_json::from_str(&meta.to_string()).unwrap();
        let from_value: Meta = serde_json::from_value(meta.clone()).unwrap();
        assert_eq!(from_text.fingerprint, from_value.fingerprint);
        from_text
    }

    fn owned(uid: &str, fields: &Value) -> Value {
        json!({"name": "orders-db", "managedFields": [
            {"manager": "kube-controller-manager", "operation": "Update", "fieldsV1": {"f:status": {uid: {}}}},
            {"manager": manager::OPERATOR, "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
             "time": "2026-01-01T00:00:00Z", "fieldsV1": {
                "f:metadata": {"f:ownerReferences": {format!("k:{{\"uid\":\"{uid}\"}}"): {}}}, "f:spec": fields}},
        ]})
    }

    #[test]
    fn fingerprints_tell_fields_apart_and_owners_managers_and_order_not() {
        let of = |uid: &str, fields| decoded(&owned(uid, &fields)).fingerprint;
        let ports = || json!({"f:ports": {".": {}, "v:5432": {}}, "f:type": {}});
        assert_eq!(of("u1", ports()), of("u2", ports()));
        assert_ne!(of("u1", ports()), of("u1", json!({"f:ports": {}, "f:type": {}})));
        assert_ne!(
            of("u1", ports()),
            of("u1", json!({"f:ports": {".": {}, "v:5432": {}}}))
        );
        let moved = json!({"f:ports": {"v:5432": {}}, "f:type": {".": {}}});
        assert_ne!(of("u1", ports()), of("u1", moved));
        let text = |fields: &str| {
            let text = owned("u", &json!("…")).to_string().replace("\"…\"", fields);
            serde_json::from_str::<Meta>(&text).unwrap().fingerprint
        };
        assert_eq!(
            text(r#"{"f:a": {}, "f:b": {}}"#),
            text(r#"{"f:b": {}, "f:a": {}}"#)
        );
    }

    #[test]
    fn a_subresource_is_no_field_of_the_object() {
        let mut meta = owned("u", &json!({}));
        let before = decoded(&meta).fingerprint;
        let mut status = meta["managedFields"][1].clone();
        status["subresource"] = json!("status");
        meta["managedFields"].as_array_mut().unwrap().push(status);
        assert_eq!(decoded(&meta).fingerprint, before);
    }

    #[test]
    fn what_nobody_looks_at_is_dropped() {
        let meta = decoded(&json!({
            "name": "orders-db", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 3,
            "labels": {label::MANAGED_BY: label::MANAGER, "tier": "gold"},
            "annotations": {key::APPLIED: "hash", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
            "ownerReferences": null, "deletionTimestamp": "2026-01-01T00:00:00Z",
        }));
        let keys = |map: Option<BTreeMap<String, String>>| map.unwrap().into_keys().collect::<Vec<_>>();
        assert_eq!(keys(meta.object.labels), [label::MANAGED_BY]);
        assert_eq!(keys(meta.object.annotations), [key::APPLIED]);
        assert!(meta.object.deletion_timestamp.is_some());
        assert_eq!(meta.object.resource_version.as_deref(), Some("7"));
    }
}
