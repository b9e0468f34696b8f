//! The chart carries the same definitions as the repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The YAML files of a folder by name; none where there is no folder.
fn definitions(folder: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut found = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension() == Some("yaml".as_ref()) {
            found.insert(
                path.file_name().context("no name")?.into(),
                fs::read_to_string(&path)?,
            );
        }
    }
    Ok(found)
}

#[test]
fn the_chart_has_exactly_the_definitions_that_were_generated() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let generated = definitions(&root.join("crds"))?;
    let charted = definitions(&root.join("charts/dbclaim/files/crds"))?;
    ensure!(
        generated == charted,
        "charts/dbclaim/files/crds differs from crds: run `just crds`"
    );
    Ok(())
}
