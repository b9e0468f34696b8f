//! Container images without a registry and without Docker: each one is an OCI archive in a file,
//! ready for `ctr -n k8s.io images import --local`.
//!
//! `oci` knows the archive format, `cache` keeps what was built, `pause` and `engine` know how the two
//! kinds of images that a cluster needs are made, `maven` fetches what Debian has not. None of them knows a cluster or a node.
//!
//! Everything here blocks (programs run, large files are hashed): call it from `spawn_blocking`.

mod cache;
mod engine;
mod maven;
mod mysql;
pub mod oci;
mod operator;
mod pause;
mod postgres;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

pub(crate) use cache::{Cache, cache_key};
pub use engine::{engine_archive, engine_references};
pub use oci::references;
pub use operator::operator_archive;
pub use pause::{PAUSE_REFERENCE, pause_archive};

/// Told one short sentence at each step of a build, for whoever waits at the terminal.
pub type Progress<'a> = &'a mut dyn FnMut(&str);

/// Why an image could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody wrote a recipe for this reference.
    #[error("no recipe for image {reference:?}: devcluster builds {}", engine_references().collect::<Vec<_>>().join(", "))]
    UnknownReference {
        /// The reference that was asked for.
        reference: String,
    },
    /// A program that builds images is not on `PATH`.
    #[error("{program} was not found on PATH and images are built with it: run `{remedy}`")]
    ProgramMissing {
        /// The program's name.
        program: &'static str,
        /// The command that installs it.
        remedy: &'static str,
    },
    /// A program that builds images gave up.
    #[error("{program} ended with {status} while building {image}; its last words:\n{last_words}")]
    ProgramGaveUp {
        /// The program's name.
        program: &'static str,
        /// The image being built.
        image: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to standard error.
        last_words: String,
    },
    /// The environment names no folder for caches.
    #[error(
        "neither XDG_CACHE_HOME nor HOME is an absolute path, so there is no place for the image cache: set one"
    )]
    NoCacheFolder,
    /// The file system refused something.
    #[error("could not {action} {path:?}")]
    Io {
        /// What was attempted, as a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// A value that goes into an image could not be written as JSON.
    #[error("could not write the image's description as JSON")]
    Describe(#[source] serde_json::Error),
}

/// Names the attempt and the path of an I/O error.
fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { action, path, source }
}

/// Why a program that builds images did not start: it is missing, or the attempt and the path.
fn not_started(
    program: &'static str,
    remedy: &'static str,
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |error| match error.kind() {
        io::ErrorKind::NotFound => Error::ProgramMissing { program, remedy },
        _ => io_error(action, &path)(error),
    }
}

/// An empty folder of one test's own.
#[cfg(test)]
pub(crate) fn test_folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("devcluster-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
