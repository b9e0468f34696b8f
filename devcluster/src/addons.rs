//! What a cluster with nodes needs besides Kubernetes itself: the image that holds a pod's namespaces open, and
//! volumes.

use std::path::PathBuf;

use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::{control_plane::Site, node};

/// Imports what every node must have before its kubelet starts.
// INTEGRATION: the archive comes from `image::pause_archive()`.
pub(crate) async fn import_images(node: &node::Node) -> Result<(), node::Error> {
    if let Some(archive) = std::env::var_os("DEVCLUSTER_PAUSE_ARCHIVE").map(PathBuf::from) {
        node.load_image(&archive).await?;
    }
    Ok(())
}

/// Starts what runs beside the cluster until `shutdown`.
// INTEGRATION: `storage::Provisioner::spawn(client, volumes_dir, shutdown)` goes here.
pub(crate) fn spawn(site: &Site, client: &Client, shutdown: &CancellationToken) {
    let _ = (site, client, shutdown);
}
