//! What a claim or a volume needs, from the object alone. Pure: no client, no disk.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::core::v1::{
    LocalVolumeSource, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference,
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::{PROVISIONER, SIZED_CLASS, VOLATILE_CLASS};

/// The node label in a `local` volume's affinity.
pub(super) const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";

/// Set by the scheduler: the node on which the claim's first Pod will run.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// Set by the volume controller: who has to make the volume.
const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";

/// Tells the volume controller that somebody else deletes the volume.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// What is to be done for a claim.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    Provision { node: String },
    Refuse { why: String },
    Grow { volume: String },
}

pub(super) fn step(claim: &PersistentVolumeClaim) -> Step {
    let annotation = |name| claim.annotations().get(name).map(String::as_str);
    if claim.metadata.deletion_timestamp.is_some() || annotation(STORAGE_PROVISIONER) != Some(PROVISIONER) {
        return Step::Nothing;
    }
    let volume = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.as_deref())
        .unwrap_or_default();
    match (volume, annotation(SELECTED_NODE)) {
        ("", None) => Step::Nothing,
        ("", Some(node)) => match refusal(claim) {
            Some(why) => Step::Refuse { why },
            None => Step::Provision { node: node.into() },
        },
        (volume, _) if wants_more(claim) => Step::Grow {
            volume: volume.into(),
        },
        _ => Step::Nothing,
    }
}

/// What a folder on one node cannot be.
fn refusal(claim: &PersistentVolumeClaim) -> Option<String> {
    let spec = claim.spec.as_ref()?;
    if spec.volume_mode.as_deref() == Some("Block") {
        return Some("volumes of this cluster are folders: volumeMode Block is not supported".into());
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Some("volumes of this cluster start empty: dataSource is not supported".into());
    }
    let modes = spec.access_modes.iter().flatten();
    let shared = modes
        .clone()
        .find(|mode| !matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod"))?;
    Some(format!(
        "volumes of this cluster belong to one node: access mode {shared} is not supported"
    ))
}

/// Whether a bound claim asks for more than it has.
fn wants_more(claim: &PersistentVolumeClaim) -> bool {
    let has = claim
        .status
        .as_ref()
        .and_then(|status| status.capacity.as_ref()?.get("storage"));
    matches!((requested(claim), has), (Some(asked), Some(has)) if exceeds(asked, has))
}

/// The storage that a claim asks for.
pub(super) fn requested(claim: &PersistentVolumeClaim) -> Option<&Quantity> {
    claim
        .spec
        .as_ref()?
        .resources
        .as_ref()?
        .requests
        .as_ref()?
        .get("storage")
}

/// Whether programs do not have to wait until what they write to a claim's volume is on the disk.
pub(super) fn is_volatile(claim: &PersistentVolumeClaim) -> bool {
    let spec = claim.spec.as_ref();
    spec.and_then(|it| it.storage_class_name.as_deref()) == Some(VOLATILE_CLASS)
}

/// Bytes beyond which a claim's volume is full, where that is enforced.
pub(super) fn enforced(claim: &PersistentVolumeClaim) -> Option<u64> {
    let class = claim.spec.as_ref()?.storage_class_name.as_deref()?;
    let asked = bytes(&requested(claim)?.0).filter(|_| class == SIZED_CLASS)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "no quantity is negative here, and none too large"
    )]
    Some(asked as u64)
}

/// Whether one amount of storage is larger than another. What cannot be read is never larger.
pub(super) fn exceeds(asked: &Quantity, has: &Quantity) -> bool {
    matches!((bytes(&asked.0), bytes(&has.0)), (Some(asked), Some(has)) if asked > has)
}

/// Bytes of a quantity. Exact up to 8 PiB, which this machine does not have.
fn bytes(quantity: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 13] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let unit = UNITS
        .iter()
        .find_map(|(suffix, factor)| Some((quantity.strip_suffix(suffix)?, factor)));
    let (number, factor) = unit.unwrap_or((quantity, &1.0));
    number.parse::<f64>().ok().map(|number| number * factor)
}

/// As every external provisioner names its volumes.
pub(super) fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.uid().unwrap_or_default())
}

/// The volume for a claim: bound to it beforehand, so that nobody else can take it.
pub(super) fn volume(
    claim: &PersistentVolumeClaim,
    name: &str,
    path: &Path,
    hostname: &str,
) -> PersistentVolume {
    let spec = claim.spec.clone().unwrap_or_default();
    let size = requested(claim).cloned().unwrap_or_default();
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name.into()),
            annotations: Some(BTreeMap::from([(PROVISIONED_BY.into(), PROVISIONER.into())])),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes,
            capacity: Some(BTreeMap::from([("storage".into(), size)])),
            claim_ref: Some(ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("PersistentVolumeClaim".into()),
                namespace: claim.namespace(),
                name: Some(claim.name_any()),
                uid: claim.uid(),
                ..ObjectReference::default()
            }),
            local: Some(LocalVolumeSource {
                path: path.to_string_lossy().into_owned(),
                fs_type: None,
            }),
            node_affinity: Some(on_node(hostname)),
            persistent_volume_reclaim_policy: Some("Delete".into()),
            storage_class_name: spec.storage_class_name,
            volume_mode: Some("Filesystem".into()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

fn on_node(hostname: &str) -> VolumeNodeAffinity {
    let requirement = NodeSelectorRequirement {
        key: HOSTNAME_LABEL.into(),
        operator: "In".into(),
        values: Some(vec![hostname.into()]),
    };
    let term = NodeSelectorTerm {
        match_expressions: Some(vec![requirement]),
        match_fields: None,
    };
    VolumeNodeAffinity {
        required: Some(NodeSelector {
            node_selector_terms: vec![term],
        }),
    }
}

/// The folder of a volume that nobody claims any more and whose policy is to go, if we made it.
pub(super) fn folder_to_remove(volume: &PersistentVolume) -> Option<&Path> {
    let spec = volume.spec.as_ref()?;
    let ours = volume.annotations().get(PROVISIONED_BY).map(String::as_str) == Some(PROVISIONER);
    let released = volume.status.as_ref()?.phase.as_deref() == Some("Released");
    let delete = spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete");
    let path = Path::new(&spec.local.as_ref()?.path);
    (ours && released && delete && volume.metadata.deletion_timestamp.is_none()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim(change: impl FnOnce(&mut serde_json::Value)) -> PersistentVolumeClaim {
        let mut claim = json!({
            "metadata": {"name": "data", "namespace": "shop", "uid": "u-1", "annotations": {
                STORAGE_PROVISIONER: PROVISIONER, SELECTED_NODE: "node2",
            }},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "devcluster",
                "resources": {"requests": {"storage": "2Gi"}},
            },
        });
        change(&mut claim);
        serde_json::from_value(claim).unwrap()
    }

    fn bound(asked: &str, has: &str) -> PersistentVolumeClaim {
        claim(|claim| {
            claim["spec"]["volumeName"] = json!("pvc-u-1");
            claim["spec"]["resources"]["requests"]["storage"] = json!(asked);
            claim["status"] = json!({"phase": "Bound", "capacity": {"storage": has}});
        })
    }

    #[test]
    fn a_claim_is_provisioned_on_the_node_that_the_scheduler_chose() {
        assert_eq!(step(&claim(|_| ())), Step::Provision { node: "node2".into() });
    }

    #[test]
    fn a_claim_without_a_node_or_of_another_provisioner_or_being_deleted_is_left_alone() {
        let annotations = |annotations| claim(|claim| claim["metadata"]["annotations"] = annotations);
        assert_eq!(
            step(&annotations(json!({STORAGE_PROVISIONER: PROVISIONER}))),
            Step::Nothing
        );
        assert_eq!(step(&annotations(json!({SELECTED_NODE: "node2"}))), Step::Nothing);
        let deleted = claim(|claim| claim["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
        assert_eq!(step(&deleted), Step::Nothing);
    }

    #[test]
    fn what_a_folder_cannot_be_is_refused_in_words() {
        let refused = |field: &str, value| {
            let Step::Refuse { why } = step(&claim(|claim| claim["spec"][field] = value)) else {
                panic!("{field} was not refused")
            };
            why
        };
        assert!(refused("volumeMode", json!("Block")).contains("Block"));
        assert!(refused("accessModes", json!(["ReadWriteOnce", "ReadWriteMany"])).contains("ReadWriteMany"));
        let snapshot = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"});
        assert!(refused("dataSource", snapshot).contains("dataSource"));
    }

    #[test]
    fn only_a_larger_request_grows_a_volume() {
        assert_eq!(
            step(&bound("3Gi", "2Gi")),
            Step::Grow {
                volume: "pvc-u-1".into()
            }
        );
        assert_eq!(
            step(&bound("2049Mi", "2Gi")),
            Step::Grow {
                volume: "pvc-u-1".into()
            }
        );
        for (asked, has) in [
            ("2Gi", "2Gi"),
            ("1Gi", "2Gi"),
            ("2048Mi", "2Gi"),
            ("2G", "2Gi"),
            ("x", "2Gi"),
        ] {
            assert_eq!(step(&bound(asked, has)), Step::Nothing, "{asked} of {has}");
        }
    }

    #[test]
    fn quantities_of_every_form_are_compared_by_their_bytes() {
        for (quantity, expected) in [
            ("1.5Gi", 1_610_612_736.0),
            ("1e3", 1000.0),
            ("500M", 5e8),
            ("12", 12.0),
            ("1500m", 1.5),
            ("3k", 3000.0),
        ] {
            let read = bytes(quantity).unwrap();
            assert!((read - expected).abs() < f64::EPSILON, "{quantity} is {read}");
        }
    }

    #[test]
    fn a_volume_is_reserved_for_its_claim_and_its_node() {
        let claim = claim(|_| ());
        let volume = volume(
            &claim,
            &volume_name(&claim),
            Path::new("/volumes/node2/pvc-u-1"),
            "node2.example",
        );
        let spec = volume.spec.unwrap();
        let reserved = spec.claim_ref.unwrap();
        assert_eq!(
            (reserved.name.unwrap(), reserved.uid.unwrap()),
            ("data".into(), "u-1".into())
        );
        assert_eq!(spec.capacity.unwrap()["storage"].0, "2Gi");
        assert_eq!(spec.local.unwrap().path, "/volumes/node2/pvc-u-1");
        let term = &spec.node_affinity.unwrap().required.unwrap().node_selector_terms[0];
        assert_eq!(
            term.match_expressions.as_ref().unwrap()[0].values,
            Some(vec!["node2.example".into()])
        );
    }

    fn released(change: impl FnOnce(&mut PersistentVolume)) -> PersistentVolume {
        let claim = claim(|_| ());
        let mut volume = volume(&claim, "pvc-u-1", Path::new("/volumes/node2/pvc-u-1"), "node2");
        volume.status.get_or_insert_default().phase = Some("Released".into());
        change(&mut volume);
        volume
    }

    #[test]
    fn only_our_own_released_volumes_with_policy_delete_go() {
        assert!(folder_to_remove(&released(|_| ())).is_some());
        let kept = [
            released(|volume| volume.status.as_mut().unwrap().phase = Some("Bound".into())),
            released(|volume| volume.metadata.annotations = None),
            released(|volume| {
                volume.spec.as_mut().unwrap().persistent_volume_reclaim_policy = Some("Retain".into());
            }),
            released(|volume| volume.spec.as_mut().unwrap().local = None),
        ];
        for volume in kept {
            assert_eq!(folder_to_remove(&volume), None, "{volume:?}");
        }
    }
}
