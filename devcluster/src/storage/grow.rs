//! Growing a volume, in the writes and the order of an external resizer, so that whoever watches a claim
//! sees what a cloud's storage would show.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tracing::info;

use super::{Context, Error, FULL, decide, folder};

/// The condition of a claim whose volume could not be enlarged, since Kubernetes 1.34.
const FAILED: &str = "ControllerResizeError";

/// Brings a volume, and then the status of its claim, to the size that the claim asks for.
pub(super) async fn grow(
    claim: &PersistentVolumeClaim,
    volume: &str,
    context: &Context,
) -> Result<(), Error> {
    let client = &context.client;
    let Some(size) = decide::requested(claim) else {
        return Ok(());
    };
    let claims: Api<PersistentVolumeClaim> =
        Api::namespaced(client.clone(), &claim.namespace().unwrap_or_default());
    let resizing = json!({
        "allocatedResources": {"storage": size},
        "allocatedResourceStatuses": {"storage": "ControllerResizeInProgress"},
        "conditions": [{"type": "Resizing", "status": "True"}],
    });
    patch_status(&claims, claim, resizing).await?;
    if let Err(error) = resize_volume(claim, volume, size, context).await {
        let failed = json!({"type": FAILED, "status": "True", "message": error.to_string()});
        patch_status(&claims, claim, json!({"conditions": [failed]})).await?;
        return Err(error);
    }
    let over = ["Resizing", FAILED].map(|type_| json!({"type": type_, "$patch": "delete"}));
    let resized = json!({
        "capacity": {"storage": size},
        "allocatedResourceStatuses": {"storage": null},
        "conditions": over,
    });
    patch_status(&claims, claim, resized).await?;
    info!(volume, claim = claim.name_any(), size = size.0, "grew a volume");
    Ok(())
}

/// Conditions are merged by their type, so those of others stay.
async fn patch_status(
    claims: &Api<PersistentVolumeClaim>,
    claim: &PersistentVolumeClaim,
    status: Value,
) -> Result<(), Error> {
    let name = claim.name_any();
    let patch = json!({"metadata": {"uid": claim.uid()}, "status": status});
    let written = claims
        .patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch))
        .await;
    written.map(|_| ()).map_err(|source| Error::ClaimStatus {
        claim: name,
        source: Box::new(source),
    })
}

async fn resize_volume(
    claim: &PersistentVolumeClaim,
    volume: &str,
    size: &Quantity,
    context: &Context,
) -> Result<(), Error> {
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let failed = |action| {
        move |source| Error::Volume {
            action,
            volume: volume.into(),
            source: Box::new(source),
        }
    };
    let observed = volumes.get(volume).await.map_err(failed("read"))?;
    if observed.annotations().contains_key(FULL) {
        return Err(Error::Refused(format!(
            "volume {volume} cannot grow to {}: the storage behind it is full",
            size.0
        )));
    }
    let local = observed.spec.as_ref().and_then(|spec| spec.local.as_ref());
    if let (Some(bytes), Some(local)) = (decide::enforced(claim), local) {
        let path = Path::new(&local.path);
        folder::own(&context.volumes, path, volume)?;
        folder::limit(path, bytes)?;
    }
    let capacity = observed
        .spec
        .as_ref()
        .and_then(|spec| spec.capacity.as_ref()?.get("storage"));
    if capacity.is_some_and(|has| !decide::exceeds(size, has)) {
        return Ok(());
    }
    let capacity = BTreeMap::from([("storage", size)]);
    let patch = json!({"metadata": {"uid": observed.uid()}, "spec": {"capacity": capacity}});
    volumes
        .patch(volume, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map_err(failed("resize"))?;
    Ok(())
}
