//! Removes a cluster completely, whoever ran it and however far it got: processes, sockets, mounts, network,
//! cgroups, files. Used for stopping and for what a killed owner left behind.
//!
//! Synchronous, so that it also serves in `Drop`.

use std::{
    fs, io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{address::Addresses, cgroup, mounts, network, process, record, record::Record, tunables};

/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);
/// Where the kubelet puts a link to each container's log, wherever its own folder is.
const CONTAINER_LOG_LINKS: &str = "/var/log/containers";
/// Where the CNI library remembers what it set up, wherever containerd's own folder is.
const CNI_RESULTS: &str = "/var/lib/cni/results";
/// Where every kubelet listens for device plugins, wherever its own folder is.
const DEVICE_PLUGIN_SOCKET: &str = "/var/lib/kubelet/device-plugins/kubelet.sock";

/// Something of a cluster is still there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Processes could not be killed.
    #[error("killing the processes of {folder:?} failed: {source}")]
    Kill {
        /// The cluster.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Killed processes do not go away.
    #[error(
        "{count} processes of {folder:?} are still there 20 s after SIGKILL; they probably wait for a device"
    )]
    StillRunning {
        /// The cluster.
        folder: PathBuf,
        /// How many.
        count: usize,
    },
    /// A mount, group or file could not be removed.
    #[error("removing {what} of {folder:?} failed: {source}")]
    Remove {
        /// The kind of thing.
        what: &'static str,
        /// The cluster.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The network could not be removed.
    #[error("removing the network of {folder:?} failed: {source}")]
    Network {
        /// The cluster.
        folder: PathBuf,
        /// Which command failed.
        source: network::Error,
    },
}

/// Removes all of the cluster in `folder` but the folder itself. The caller holds its lock.
pub(crate) fn clear(folder: &Path, record: Option<&Record>) -> Result<(), Error> {
    let addresses = record.and_then(Record::addresses);
    let nodes = record.map_or(0, |record| record.nodes);
    let groups: Vec<_> = addresses
        .iter()
        .flat_map(|a| (1..=nodes).map(|node| a.namespace(node)))
        .collect();
    kill_all(folder, &groups)?;
    let failed = |what| {
        let folder = folder.to_owned();
        move |source| Error::Remove { what, folder, source }
    };
    for node in 1..=nodes {
        remove_shim_sockets(&record::node_folder(folder, node)).map_err(failed("sockets"))?;
    }
    mounts::unmount_below(folder).map_err(failed("mounts"))?;
    if let Some(addresses) = addresses {
        network::remove(addresses, nodes).map_err(|source| Error::Network {
            folder: folder.to_owned(),
            source,
        })?;
        remove_traces(folder, addresses, nodes).map_err(failed("traces"))?;
    }
    for group in &groups {
        cgroup::remove(group).map_err(failed("cgroups"))?;
    }
    Ok(())
}

/// Removes the folder of a cleared cluster. The `last` cluster with nodes leaves the machine's settings as the
/// first one found them. The caller holds the lock on all clusters.
pub(crate) fn remove_folder(folder: &Path, last: Option<&Record>) -> Result<(), Error> {
    let failed = |what| {
        let folder = folder.to_owned();
        move |source| Error::Remove { what, folder, source }
    };
    if let Some(record) = last {
        tunables::restore(&record.tunables).map_err(failed("kernel settings"))?;
    }
    match fs::remove_dir_all(folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed("files")(source)),
        _ => Ok(()),
    }
}

/// Kills until a whole pass finds nothing, because what is being killed may still be starting others.
fn kill_all(folder: &Path, groups: &[String]) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let count = kill_once(folder, groups).map_err(|source| Error::Kill {
            folder: folder.to_owned(),
            source,
        })?;
        if count == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::StillRunning {
                folder: folder.to_owned(),
                count,
            });
        }
        sleep(POLL);
    }
}

fn kill_once(folder: &Path, groups: &[String]) -> io::Result<usize> {
    let mut count = process::kill_marked(folder)?;
    for group in groups {
        count += cgroup::kill(group)?;
    }
    Ok(count)
}

/// A killed shim cannot remove the socket that it keeps below `/run/containerd`.
fn remove_shim_sockets(node: &Path) -> io::Result<()> {
    let bundles = node.join("state/io.containerd.runtime.v2.task/k8s.io");
    for bundle in read_dir_if_there(&bundles)? {
        let Ok(content) = fs::read(bundle.join("bootstrap.json")) else {
            continue;
        };
        let bootstrap: serde_json::Value = serde_json::from_slice(&content).unwrap_or_default();
        let address = bootstrap.get("address").and_then(|address| address.as_str());
        let socket = address
            .and_then(|address| address.strip_prefix("unix://"))
            .map(Path::new);
        if let Some(socket) = socket.filter(|socket| socket.starts_with("/run/containerd/s/")) {
            let _ = fs::remove_file(socket);
        }
    }
    Ok(())
}

/// What kubelet and CNI write outside of the folder.
fn remove_traces(folder: &Path, addresses: Addresses, nodes: u8) -> io::Result<()> {
    for link in read_dir_if_there(Path::new(CONTAINER_LOG_LINKS))? {
        if fs::read_link(&link).is_ok_and(|target| target.starts_with(folder)) {
            fs::remove_file(&link)?;
        }
    }
    // Only a dead kubelet's: the last one that was started has it, which may be another cluster's.
    if UnixStream::connect(DEVICE_PLUGIN_SOCKET)
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        fs::remove_file(DEVICE_PLUGIN_SOCKET)?;
    }
    let prefixes: Vec<_> = (1..=nodes)
        .map(|node| format!("{}-", addresses.namespace(node)))
        .collect();
    for result in read_dir_if_there(Path::new(CNI_RESULTS))? {
        let name = result
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            fs::remove_file(&result)?;
        }
    }
    Ok(())
}

fn read_dir_if_there(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
