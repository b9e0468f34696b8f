//! The Dockerfile makes the image that the cluster runs. Its first stage, which compiles, is replaced by programs
//! that are compiled already: so that nothing is pulled, and not everything is compiled twice.

#![expect(clippy::indexing_slicing, reason = "of JSON, where what is not there is null")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use devcluster::Progress;
use devcluster::operator::{self, Binaries, Flavour};
use devcluster::prerequisites::{self, Task};
use serde_json::Value;

#[test]
fn buildah_makes_from_the_dockerfile_what_the_cluster_runs() -> Result<()> {
    if let Some(missing) = missing() {
        ensure!(
            std::env::var_os("CI").is_none(),
            "in CI this test must run: {missing}"
        );
        eprintln!("skipped: {missing}");
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = std::env::temp_dir().join(format!("devcluster-{}-dockerfile", std::process::id()));
    let outcome = compare(&root, &folder);
    fs::remove_dir_all(&folder)?;
    outcome
}

/// What is missing and cannot be installed.
fn missing() -> Option<String> {
    let runtime = tokio::runtime::Runtime::new();
    let ensured = runtime.map(|it| it.block_on(prerequisites::ensure(&[Task::Dockerfile], Progress::Stderr)));
    match ensured {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

fn compare(root: &Path, folder: &Path) -> Result<()> {
    let Binaries { dbclaim, agent } = operator::build_binaries(root, Flavour::Cluster, &mut |_| {})?;
    let builder = folder.join("builder");
    fs::create_dir_all(builder.join("out"))?;
    fs::copy(&dbclaim, builder.join("out/dbclaim"))?;
    fs::copy(&agent, builder.join("out/dbclaim-agent"))?;
    let built = build(root, folder, &builder)?;
    let cache = folder.join("cache");
    fs::create_dir_all(&cache)?;
    let (packed, _) = operator::build_image(root, &cache, &mut |_| {})?;
    let (built, packed) = (Image::read(&built)?, Image::read(&packed)?);
    ensure!(
        built.files == packed.files,
        "{:?} {:?}",
        built.files,
        packed.files
    );
    for key in ["User", "Entrypoint"] {
        let (ours, theirs) = (&packed.config[key], &built.config[key]);
        ensure!(!ours.is_null() && ours == theirs, "{key}: {theirs} is not {ours}");
    }
    Ok(())
}

/// Builds with a store of its own; the program in it is run once, as the user that the image names.
fn build(root: &Path, folder: &Path, builder: &Path) -> Result<PathBuf> {
    let buildah = |arguments: &[&str]| {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(folder.join("store"));
        command.arg("--runroot").arg(folder.join("run"));
        let output = command
            .args(["--storage-driver", "vfs"])
            .args(arguments)
            .current_dir(root)
            .output()?;
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        ensure!(output.status.success(), "buildah {arguments:?}: {said}");
        Ok(said)
    };
    let context = format!("builder={}", builder.display());
    let said = buildah(&[
        "build",
        "--isolation",
        "chroot",
        "--build-context",
        &context,
        "--tag",
        "dbclaim",
        ".",
    ])?;
    ensure!(
        !said.contains("cargo"),
        "the first stage was not replaced:\n{said}"
    );
    let container = buildah(&["from", "--pull-never", "localhost/dbclaim"])?;
    let help = buildah(&[
        "run",
        "--isolation",
        "chroot",
        &container,
        "--",
        "/dbclaim",
        "--help",
    ])?;
    ensure!(help.contains("Usage: dbclaim"), "{help}");
    buildah(&["rm", &container])?;
    let archive = folder.join("built.tar");
    buildah(&[
        "push",
        "localhost/dbclaim",
        &format!("oci-archive:{}", archive.display()),
    ])?;
    Ok(archive)
}

/// What counts of an image.
struct Image {
    /// Size and mode of each file.
    files: BTreeMap<String, (u64, u32)>,
    config: Value,
}

impl Image {
    /// Reads an OCI archive with one image of one layer.
    fn read(archive: &Path) -> Result<Self> {
        let mut blobs = BTreeMap::new();
        for entry in tar::Archive::new(File::open(archive)?).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().into_owned();
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents)?;
            blobs.insert(path, contents);
        }
        let document = |path: &str| -> Result<Value> {
            let blob = blobs.get(path).with_context(|| format!("there is no {path}"))?;
            Ok(serde_json::from_slice(blob)?)
        };
        let blob = |of: &Value| {
            let digest = of["digest"].as_str().unwrap_or_default();
            format!("blobs/{}", digest.replace(':', "/"))
        };
        let manifest = document(&blob(&document("index.json")?["manifests"][0]))?;
        let config = document(&blob(&manifest["config"]))?["config"].clone();
        let [layer] = &manifest["layers"].as_array().context("no layers")?[..] else {
            bail!("not one layer: {manifest}")
        };
        let layer_blob = blobs.get(&blob(layer)).context("the layer is missing")?;
        let unpacked = match layer["mediaType"].as_str() {
            Some(kind) if kind.ends_with("gzip") => gunzip(layer_blob)?,
            _ => layer_blob.clone(),
        };
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(unpacked.as_slice()).entries()? {
            let entry = entry?;
            let path = entry.path()?.to_string_lossy().into_owned();
            files.insert(path, (entry.size(), entry.header().mode()? & 0o7777));
        }
        Ok(Self { files, config })
    }
}

fn gunzip(packed: &[u8]) -> Result<Vec<u8>> {
    use std::io::Write;
    let mut child = Command::new("gzip")
        .args(["--decompress", "--stdout"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("no input")?;
    let packed = packed.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&packed));
    let output = child.wait_with_output()?;
    ensure!(output.status.success() && writer.join().is_ok(), "gzip failed");
    Ok(output.stdout)
}
