//! The folders behind the volumes. The only file here that touches the disk.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::mounts;

/// Why a folder could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{path:?} is not the folder of volume {volume:?} under {volumes:?}, so it stays")]
    Foreign {
        path: PathBuf,
        volume: String,
        volumes: PathBuf,
    },
    #[error("{name:?} cannot be the name of a folder")]
    Name { name: String },
    #[error("could not {action} {path:?}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Makes `<volumes>/<node>/<volume>`; one that is there already is kept as it is.
///
/// It belongs to root with mode 0755, like the root of a new disk: who may write to it is for `fsGroup`.
pub(super) async fn create(volumes: &Path, node: &str, volume: &str) -> Result<PathBuf, Error> {
    let path = volumes.join(plain(node)?).join(plain(volume)?);
    let made = tokio::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&path)
        .await;
    made.map_err(|source| Error::Io {
        action: "create",
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

/// Makes a folder a file system of its own of this size, in memory; one that is there already gets the size.
pub(super) fn limit(path: &Path, bytes: u64) -> Result<(), Error> {
    let failed = |source: io::Error| Error::Io {
        action: "limit the size of",
        path: path.into(),
        source,
    };
    let mounted = mounts::is_mounted(path).map_err(failed)?;
    mounts::memory(path, bytes, mounted).map_err(failed)
}

/// Makes a folder a file system for which nobody waits for the disk. Where its disk bears no overlay it stays as it is.
pub(super) async fn forget_syncs(path: &Path) -> Result<(), Error> {
    let failed = |source: io::Error| Error::Io {
        action: "mount an overlay on",
        path: path.into(),
        source,
    };
    if mounts::is_mounted(path).map_err(failed)? {
        return Ok(());
    }
    let layers = layers(path);
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| layers.join(name));
    for layer in [&lower, &upper, &work] {
        tokio::fs::create_dir_all(layer).await.map_err(failed)?;
    }
    match mounts::volatile(path, &lower, &upper, &work) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        mounted => mounted.map_err(failed),
    }
}

/// Where the contents of a volume are that is an overlay.
fn layers(path: &Path) -> PathBuf {
    path.with_extension("layers")
}

/// Checks that a folder is one that [`create`] makes for a volume.
pub(super) fn own(volumes: &Path, path: &Path, volume: &str) -> Result<(), Error> {
    let foreign = || Error::Foreign {
        path: path.into(),
        volume: volume.into(),
        volumes: volumes.into(),
    };
    // The path comes from an object that anyone with enough rights may have edited.
    let inner = path.strip_prefix(volumes).map_err(|_| foreign())?;
    let parts: Vec<Component<'_>> = inner.components().collect();
    let [Component::Normal(_), Component::Normal(last)] = parts.as_slice() else {
        return Err(foreign());
    };
    if *last != OsStr::new(volume) {
        return Err(foreign());
    }
    Ok(())
}

/// Removes a volume's folder and all in it, if it is one that [`create`] makes; one that is gone is fine.
pub(super) async fn remove(volumes: &Path, path: &Path, volume: &str) -> Result<(), Error> {
    own(volumes, path, volume)?;
    let failed = |action| {
        move |source| Error::Io {
            action,
            path: path.into(),
            source,
        }
    };
    // A link in the place of the node's folder would lead elsewhere; below, links are removed, not followed.
    let parent = match tokio::fs::symlink_metadata(path.parent().unwrap_or(path)).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(failed("look at the parent of"))?,
    };
    if !parent.is_dir() {
        return Err(Error::Foreign {
            path: path.into(),
            volume: volume.into(),
            volumes: volumes.into(),
        });
    }
    if path.exists() {
        mounts::unmount_below(path).map_err(failed("unmount"))?;
    }
    for folder in [path, &layers(path)] {
        match tokio::fs::remove_dir_all(folder).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(failed("remove"))?,
        }
    }
    Ok(())
}

/// A name that stays inside its parent.
fn plain(name: &str) -> Result<&str, Error> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(only)), None) if only == OsStr::new(name) => Ok(name),
        _ => Err(Error::Name { name: name.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::test_folder;
    use std::fs;

    #[tokio::test]
    async fn a_removed_volume_takes_its_contents_and_nothing_else() {
        let volumes = test_folder("folder-removed");
        let path = create(&volumes, "node1", "pvc-1").await.unwrap();
        let other = create(&volumes, "node1", "pvc-2").await.unwrap();
        fs::write(path.join("file"), "").unwrap();
        remove(&volumes, &path, "pvc-1").await.unwrap();
        assert!(!path.exists() && other.exists());
        remove(&volumes, &path, "pvc-1").await.unwrap();
        fs::remove_dir_all(volumes).unwrap();
    }

    #[tokio::test]
    async fn making_a_volume_again_keeps_its_contents() {
        let volumes = test_folder("folder-again");
        let path = create(&volumes, "node1", "pvc-1").await.unwrap();
        fs::write(path.join("file"), "rows").unwrap();
        assert_eq!(create(&volumes, "node1", "pvc-1").await.unwrap(), path);
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "rows");
        fs::remove_dir_all(volumes).unwrap();
    }

    #[tokio::test]
    async fn no_folder_outside_is_ever_removed() {
        let outer = test_folder("folder-outside");
        let (volumes, precious) = (outer.join("volumes"), outer.join("precious"));
        fs::create_dir_all(volumes.join("node1/pvc-1/inner")).unwrap();
        fs::create_dir_all(precious.join("pvc-1")).unwrap();
        std::os::unix::fs::symlink(&precious, volumes.join("link")).unwrap();
        let paths = [
            (precious.join("pvc-1"), "pvc-1"),
            (volumes.clone(), "volumes"),
            (volumes.join("node1"), "node1"),
            (volumes.join("node1/pvc-1"), "pvc-2"),
            (volumes.join("node1/pvc-1/inner"), "inner"),
            (volumes.join("../precious/pvc-1"), "pvc-1"),
            (volumes.join("node1/../../precious/pvc-1"), "pvc-1"),
            (volumes.join("link/pvc-1"), "pvc-1"),
        ];
        for (path, volume) in paths {
            let outcome = remove(&volumes, &path, volume).await;
            assert!(
                matches!(outcome, Err(Error::Foreign { .. })),
                "{path:?}: {outcome:?}"
            );
        }
        assert!(precious.join("pvc-1").exists() && volumes.join("node1/pvc-1/inner").exists());
        fs::remove_dir_all(outer).unwrap();
    }

    #[tokio::test]
    async fn a_name_that_leaves_the_folder_is_refused() {
        for name in ["..", ".", "", "/etc", "a/b", "a/.."] {
            assert!(
                matches!(
                    create(Path::new("/nowhere"), name, "pvc-1").await,
                    Err(Error::Name { .. })
                ),
                "{name:?}"
            );
        }
    }
}
