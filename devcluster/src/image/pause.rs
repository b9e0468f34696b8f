//! The image of the container that holds a Pod's namespaces.
//!
//! Its program is a few lines of Go, since devcluster needs a Go toolchain anyway and a static C program
//! would need a C library that not every machine has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cache::Cache;
use super::oci::{self, LayerFile, RunConfig};
use super::{Error, Progress, io_error, not_started};

/// The name under which nodes expect it.
pub const PAUSE_REFERENCE: &str = "devcluster.local/pause:1";

const SOURCE: &str = include_str!("pause.go");

/// The pause image as an OCI archive, from the cache or built now (about a second).
///
/// # Errors
/// When `go` is missing or fails, or the cache cannot be written.
pub fn pause_archive(progress: Progress<'_>) -> Result<PathBuf, Error> {
    pause_archive_in(&Cache::of_user()?, progress)
}

fn pause_archive_in(cache: &Cache, progress: Progress<'_>) -> Result<PathBuf, Error> {
    let recipe = format!("{PAUSE_REFERENCE}\n{}\n{SOURCE}", std::env::consts::ARCH);
    cache.get_or_build("pause", &recipe, progress, |scratch, out, progress| {
        progress("compiling the pause program");
        let binary = compile(scratch)?;
        let layer = scratch.join("layer.tar");
        oci::write_layer(
            &layer,
            &[LayerFile {
                path: "pause",
                source: &binary,
                mode: 0o755,
            }],
        )?;
        let run = RunConfig {
            user: "65535:65535".into(),
            entrypoint: vec!["/pause".into()],
            ..RunConfig::default()
        };
        oci::write_archive(out, [PAUSE_REFERENCE], &run, &layer)
    })
}

fn compile(scratch: &Path) -> Result<PathBuf, Error> {
    let source = scratch.join("pause.go");
    let binary = scratch.join("pause");
    fs::write(&source, SOURCE).map_err(io_error("write", &source))?;
    let output = Command::new("go")
        .args(["build", "-trimpath", "-ldflags=-s -w", "-o", "pause", "pause.go"])
        .current_dir(scratch)
        .env("CGO_ENABLED", "0")
        // Whatever the user's environment says about workspaces and modules is not meant for this file.
        .env("GOWORK", "off")
        .env("GOFLAGS", "")
        .output()
        .map_err(not_started(
            "go",
            "apt-get install golang-go",
            "run go in",
            scratch,
        ))?;
    if output.status.success() {
        return Ok(binary);
    }
    Err(Error::ProgramGaveUp {
        program: "go",
        image: PAUSE_REFERENCE.into(),
        status: output.status,
        last_words: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
