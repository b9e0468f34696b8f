//! `install`: puts this binary where the database container finds it. The image has no shell and no `cp`.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const NAME: &str = "dbclaim-agent";

/// Why the binary could not be installed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The copy could not be written.
    #[error(
        "cannot copy the agent to {path:?}; is the directory a writable emptyDir with room for it: {source}"
    )]
    Copy { path: PathBuf, source: io::Error },
    /// The copy could not be put in place.
    #[error("cannot move the agent to {path:?}: {source}")]
    Place { path: PathBuf, source: io::Error },
}

/// Copies the running binary to `directory/dbclaim-agent`, mode 0755, atomically.
///
/// # Errors
/// When the directory is missing, full or read-only.
pub(super) fn install(directory: &Path) -> Result<(), Error> {
    let partial = directory.join(format!(".{NAME}.partial"));
    let path = directory.join(NAME);
    // A partial copy of an earlier try may have a mode that forbids writing over it.
    let _ = fs::remove_file(&partial);
    fs::copy("/proc/self/exe", &partial)
        .and_then(|_| fs::set_permissions(&partial, fs::Permissions::from_mode(0o755)))
        .map_err(|source| Error::Copy {
            path: partial.clone(),
            source,
        })?;
    fs::rename(&partial, &path).map_err(|source| Error::Place {
        path: path.clone(),
        source,
    })?;
    tracing::info!(path = %path.display(), "installed");
    Ok(())
}
