//! What a cluster with nodes needs besides Kubernetes itself: the image that holds a pod's namespaces open, and
//! volumes.

use kube::Client;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::{cluster::Error, control_plane::Site, image, node, storage::Provisioner};

/// Imports what every node must have before its kubelet starts.
pub(crate) async fn import_images(node: &node::Node) -> Result<(), Error> {
    let archive = spawn_blocking(|| image::pause_archive(&mut |_| {})).await??;
    node.load_image(&archive).await?;
    Ok(())
}

/// Starts what runs beside the cluster until `shutdown`.
pub(crate) fn spawn(site: &Site, client: &Client, shutdown: &CancellationToken) {
    // It ends with the token; nothing waits for it, because the cluster goes anyway.
    drop(Provisioner::spawn(
        client.clone(),
        site.folder.join("volumes"),
        shutdown.clone(),
    ));
}
