//! Metadata that all objects of a claim share. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::object::Slot;
use crate::api::{key, label};
use crate::claim::{Claim, ClaimId};
use crate::engine::Engine;

/// All labels. `team` may change, so it stands in no selector.
pub(super) fn labels(claim: &Claim) -> BTreeMap<String, String> {
    let own = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut labels = selector(&claim.id);
    labels.extend([
        own(label::NAME, Engine::from(claim.engine).name()),
        own(label::INSTANCE, &claim.id.name),
        own(label::MANAGED_BY, label::MANAGER),
        own(label::PART_OF, label::MANAGER),
        own(key::TEAM, &claim.team),
    ]);
    labels
}

/// What selects the database Pods of a claim; never changes.
pub(super) fn selector(id: &ClaimId) -> BTreeMap<String, String> {
    BTreeMap::from([
        (key::CLAIM.to_owned(), id.name.clone()),
        (label::COMPONENT.to_owned(), label::DATABASE.to_owned()),
    ])
}

/// Metadata of an object that goes with the claim.
pub(super) fn owned(claim: &Claim, slot: Slot) -> ObjectMeta {
    ObjectMeta {
        owner_references: Some(vec![owner(&claim.id)]),
        ..kept(claim, slot)
    }
}

/// Metadata of an object that the claim's deletion must not touch: no owner.
pub(super) fn kept(claim: &Claim, slot: Slot) -> ObjectMeta {
    ObjectMeta {
        name: Some(slot.name(&claim.id)),
        namespace: Some(claim.id.namespace.clone()),
        labels: Some(labels(claim)),
        ..ObjectMeta::default()
    }
}

fn owner(id: &ClaimId) -> OwnerReference {
    OwnerReference {
        api_version: crate::api::API_VERSION.to_owned(),
        kind: crate::api::KIND.to_owned(),
        name: id.name.clone(),
        uid: id.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
