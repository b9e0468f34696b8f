//! The operator's image is made of static programs, and an operator that cannot start is described.
//!
//! The first run compiles the operator.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use devcluster::operator;

/// The layer's files with their modes, and the image's name.
fn look_into(archive: &Path) -> Result<(BTreeMap<String, u32>, String)> {
    let mut name = None;
    let mut largest = Vec::new();
    for entry in tar::Archive::new(File::open(archive)?).entries()? {
        let mut entry = entry?;
        let is_index = entry.path()?.as_ref() == Path::new("index.json");
        let mut contents = Vec::new();
        entry.read_to_end(&mut contents)?;
        if is_index {
            let index: serde_json::Value = serde_json::from_slice(&contents)?;
            let found = index.pointer("/manifests/0/annotations/io.containerd.image.name");
            name = found.and_then(|name| Some(name.as_str()?.to_owned()));
        } else if contents.len() > largest.len() {
            largest = contents;
        }
    }
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(largest.as_slice()).entries()? {
        let entry = entry?;
        files.insert(
            entry.path()?.to_string_lossy().into_owned(),
            entry.header().mode()?,
        );
    }
    Ok((files, name.context("the index names no image")?))
}

#[test]
fn the_same_programs_are_the_same_image() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cache = std::env::temp_dir().join(format!("devcluster-{}-operator", std::process::id()));
    let (archive, reference) = operator::build_image(&root, &cache, &mut |step| eprintln!("{step}"))?;
    let again = operator::build_image(&root, &cache, &mut |_| ())?;
    let looked = look_into(&archive);
    std::fs::remove_dir_all(&cache)?;
    ensure!(again == (archive, reference.clone()), "{again:?}");
    let (files, name) = looked?;
    ensure!(name == reference, "{name} is not {reference}");
    let expected = [("dbclaim", 0o755), ("dbclaim-agent", 0o755)];
    ensure!(
        files == expected.map(|(path, mode)| (path.to_owned(), mode)).into(),
        "{files:?}"
    );
    Ok(())
}
