//! The operator's image: its two static programs on nothing, as the repository's Dockerfile makes it.

use std::path::Path;

use super::oci::{self, LayerFile, RunConfig};
use super::{Error, io_error};

/// Writes the operator's image to `out` as an OCI archive named `reference`.
///
/// # Errors
/// When a program cannot be read or `out` cannot be written.
pub fn operator_archive(dbclaim: &Path, agent: &Path, out: &Path, reference: &str) -> Result<(), Error> {
    let layer = out.with_extension("layer");
    let programs = [
        LayerFile {
            path: "dbclaim",
            source: dbclaim,
            mode: 0o755,
        },
        LayerFile {
            path: "dbclaim-agent",
            source: agent,
            mode: 0o755,
        },
    ];
    let run = RunConfig {
        user: "65532:65532".into(),
        entrypoint: vec!["/dbclaim".into()],
        working_dir: "/".into(),
        ..RunConfig::default()
    };
    let written =
        oci::write_layer(&layer, &programs).and_then(|()| oci::write_archive(out, [reference], &run, &layer));
    written?;
    std::fs::remove_file(&layer).map_err(io_error("remove", &layer))
}
