//! What Debian has not, from Maven: older versions of engines, as they are published for tests.
//!
//! `mvn` finds and checks them, by the mirrors and the cache that its user has set up. Knows no engine.

use std::path::Path;
use std::process::Command;

use super::{Error, not_started};

/// An artefact, and how its contents get into an image.
#[derive(Debug, Clone)]
pub(super) struct Artefact {
    /// `group:artefact:version`.
    pub(super) coordinates: String,
    /// The script that does it when all packages are there.
    pub(super) hook: &'static str,
}

/// The version is the one that comes with Maven itself; a newer one would be fetched for nothing.
const UNPACK: &str = "org.apache.maven.plugins:maven-dependency-plugin:2.8:unpack";

/// Fetches an artefact and unpacks it into a folder `artefact` in `scratch`, for the image `reference`.
///
/// # Errors
/// When `mvn` is missing or fails.
pub(super) fn unpack(artefact: &Artefact, reference: &str, scratch: &Path) -> Result<(), Error> {
    let output = Command::new("mvn")
        .args(["--batch-mode", "--quiet", UNPACK])
        .arg(format!("-Dartifact={}", artefact.coordinates))
        .arg(format!(
            "-DoutputDirectory={}",
            scratch.join("artefact").display()
        ))
        // Where there is no project, and where it may remember what it has unpacked.
        .current_dir(scratch)
        .output()
        .map_err(not_started("mvn", "apt-get install maven", "run mvn in", scratch))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::ProgramGaveUp {
        program: "mvn",
        image: reference.into(),
        status: output.status,
        last_words: String::from_utf8_lossy(&output.stdout).into_owned(),
    })
}
