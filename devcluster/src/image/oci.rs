//! The OCI image archive: a tar of `oci-layout`, `index.json` and blobs, as `ctr images import` reads it.
//!
//! Layers are files on disk and stay uncompressed: the archive never leaves this machine, and unpacking
//! is what a node waits for. Nothing here runs a program or holds a layer in memory.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Error, io_error};

/// How containers of an image start unless their Pod says otherwise. Empty fields are left out.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// User and group, as numbers or names.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `NAME=value` pairs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its fixed arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The folder in which the program starts.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// The signal that asks the program to stop; the runtime's default is SIGTERM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
}

/// One entry of a layer made by [`write_layer`]. Everything belongs to root.
#[derive(Debug, Clone, Copy)]
pub struct LayerFile<'a> {
    /// Path inside the image, without the leading slash.
    pub path: &'a str,
    /// The file whose contents it gets.
    pub source: &'a Path,
    /// Permission bits.
    pub mode: u32,
}

/// Writes a layer that holds just `files`; equal inputs give equal bytes.
///
/// # Errors
/// When a source cannot be read or `out` cannot be written.
pub fn write_layer(out: &Path, files: &[LayerFile<'_>]) -> Result<(), Error> {
    let mut layer = create_tar(out)?;
    for file in files {
        append_file(&mut layer, file.path, file.source, file.mode)?;
    }
    finish_tar(layer, out)
}

/// Writes an archive of one image with one layer, under each of these names, for this machine's architecture.
///
/// # Errors
/// When `layer` cannot be read or `out` cannot be written.
pub fn write_archive<'a>(
    out: &Path,
    references: impl IntoIterator<Item = &'a str>,
    run: &RunConfig,
    layer: &Path,
) -> Result<(), Error> {
    let layer_blob = Blob::of_file(layer)?;
    let platform = json!({"architecture": architecture(), "os": "linux"});
    let config = to_json(&json!({
        "architecture": architecture(),
        "os": "linux",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [layer_blob.digest()]},
    }))?;
    let config_blob = Blob::of_bytes(&config);
    let manifest = to_json(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config_blob.descriptor("application/vnd.oci.image.config.v1+json"),
        "layers": [layer_blob.descriptor("application/vnd.oci.image.layer.v1.tar")],
    }))?;
    let manifest_blob = Blob::of_bytes(&manifest);
    let named = |reference: &str| {
        let mut entry = manifest_blob.descriptor(MANIFEST);
        if let Some(fields) = entry.as_object_mut() {
            fields.insert("platform".into(), platform.clone());
            fields.insert("annotations".into(), annotations(reference));
        }
        entry
    };
    let index = to_json(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": references.into_iter().map(named).collect::<Vec<_>>(),
    }))?;

    let mut archive = create_tar(out)?;
    append_bytes(
        &mut archive,
        out,
        "oci-layout",
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    append_bytes(&mut archive, out, "index.json", &index)?;
    append_bytes(&mut archive, out, &config_blob.path(), &config)?;
    append_bytes(&mut archive, out, &manifest_blob.path(), &manifest)?;
    append_file(&mut archive, &layer_blob.path(), layer, 0o644)?;
    finish_tar(archive, out)
}

/// The names that an archive's image gets where it is loaded.
///
/// # Errors
/// When `archive` cannot be read, or is none of [`write_archive`]'s.
pub fn references(archive: &Path) -> Result<Vec<String>, Error> {
    let read = || -> io::Result<Vec<String>> {
        let mut tar = tar::Archive::new(File::open(archive)?);
        for entry in tar.entries_with_seek()? {
            let entry = entry?;
            if entry.path()?.as_os_str() == "index.json" {
                let index: serde_json::Value = serde_json::from_reader(entry)?;
                let manifests = index.get("manifests").and_then(serde_json::Value::as_array);
                let name =
                    |it: &serde_json::Value| Some(it.get("annotations")?.get(NAME)?.as_str()?.to_owned());
                return Ok(manifests.into_iter().flatten().filter_map(name).collect());
            }
        }
        Ok(Vec::new())
    };
    read().map_err(io_error("read the index of", archive))
}

/// SHA-256 of a file, in lower-case hexadecimal.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256_of_file(path: &Path) -> Result<String, Error> {
    Blob::of_file(path).map(|blob| blob.hex)
}

/// SHA-256 of some bytes, in lower-case hexadecimal.
pub fn sha256_of_bytes(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// The annotation from which containerd takes the image's name.
const NAME: &str = "io.containerd.image.name";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// How large a piece of a file is hashed at a time.
const CHUNK: usize = 1 << 20;

type Tar = tar::Builder<BufWriter<File>>;

/// What names a blob: the hash of its contents, and its size in bytes.
struct Blob {
    hex: String,
    size: u64,
}

impl Blob {
    fn of_bytes(bytes: &[u8]) -> Self {
        Self {
            hex: sha256_of_bytes(bytes),
            size: bytes.len() as u64,
        }
    }

    fn of_file(path: &Path) -> Result<Self, Error> {
        let mut file = BufReader::with_capacity(CHUNK, open(path)?);
        let mut hasher = HashWriter {
            hasher: Sha256::new(),
        };
        let size = io::copy(&mut file, &mut hasher).map_err(io_error("read", path))?;
        Ok(Self {
            hex: hexadecimal(&hasher.hasher.finalize()),
            size,
        })
    }

    fn digest(&self) -> String {
        format!("sha256:{}", self.hex)
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.hex)
    }

    fn descriptor(&self, media_type: &str) -> serde_json::Value {
        json!({"mediaType": media_type, "digest": self.digest(), "size": self.size})
    }
}

/// Feeds a hash from `io::copy`.
struct HashWriter {
    hasher: Sha256,
}

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn annotations(reference: &str) -> serde_json::Value {
    let tag = reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    json!({NAME: reference, "org.opencontainers.image.ref.name": tag})
}

/// This machine's architecture in the words of OCI, which are Go's.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0xf])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

fn to_json(value: &serde_json::Value) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(Error::Describe)
}

fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(io_error("open", path))
}

fn create_tar(out: &Path) -> Result<Tar, Error> {
    let file = File::create(out).map_err(io_error("create", out))?;
    Ok(tar::Builder::new(BufWriter::with_capacity(CHUNK, file)))
}

fn finish_tar(tar: Tar, out: &Path) -> Result<(), Error> {
    tar.into_inner()
        .and_then(|mut file| file.flush())
        .map_err(io_error("write", out))
}

fn append_bytes(tar: &mut Tar, out: &Path, path: &str, bytes: &[u8]) -> Result<(), Error> {
    append(tar, path, bytes.len() as u64, 0o644, bytes).map_err(io_error("write", out))
}

fn append_file(tar: &mut Tar, path: &str, source: &Path, mode: u32) -> Result<(), Error> {
    let file = open(source)?;
    let size = file
        .metadata()
        .map_err(io_error("read the size of", source))?
        .len();
    append(tar, path, size, mode, BufReader::with_capacity(CHUNK, file)).map_err(io_error("copy", source))
}

/// Owner, time and mode are fixed, so that the same contents always have the same digest.
fn append(tar: &mut Tar, path: &str, size: u64, mode: u32, data: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    tar.append_data(&mut header, path, data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::fs;

    fn entries(archive: &Path) -> HashMap<String, Vec<u8>> {
        let mut tar = tar::Archive::new(File::open(archive).unwrap());
        let read = |entry: io::Result<tar::Entry<'_, File>>| {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).unwrap();
            (path, contents)
        };
        tar.entries().unwrap().map(read).collect()
    }

    fn blob<'a>(entries: &'a HashMap<String, Vec<u8>>, descriptor: &serde_json::Value) -> &'a [u8] {
        let digest = descriptor["digest"].as_str().unwrap();
        let contents = &entries[&format!("blobs/{}", digest.replace(':', "/"))];
        assert_eq!(format!("sha256:{}", sha256_of_bytes(contents)), digest);
        assert_eq!(descriptor["size"].as_u64().unwrap(), contents.len() as u64);
        contents
    }

    #[test]
    fn every_blob_of_an_archive_is_named_by_its_contents() {
        let folder = crate::image::test_folder("oci-blobs");
        let (program, layer, out) = (
            folder.join("program"),
            folder.join("layer"),
            folder.join("image.tar"),
        );
        fs::write(&program, "a program").unwrap();
        write_layer(
            &layer,
            &[LayerFile {
                path: "bin/program",
                source: &program,
                mode: 0o755,
            }],
        )
        .unwrap();
        let run = RunConfig {
            user: "7:8".into(),
            entrypoint: vec!["/bin/program".into()],
            ..RunConfig::default()
        };
        let names = ["example.test/a:b", "example.test/a:b.1"];
        write_archive(&out, names, &run, &layer).unwrap();
        assert_eq!(references(&out).unwrap(), names);

        let entries = entries(&out);
        let index: serde_json::Value = serde_json::from_slice(&entries["index.json"]).unwrap();
        let listed = &index["manifests"][0];
        assert_eq!(
            listed["annotations"]["io.containerd.image.name"],
            "example.test/a:b"
        );
        let manifest: serde_json::Value = serde_json::from_slice(blob(&entries, listed)).unwrap();
        let config: serde_json::Value = serde_json::from_slice(blob(&entries, &manifest["config"])).unwrap();
        assert_eq!(
            config["config"],
            json!({"User": "7:8", "Entrypoint": ["/bin/program"]})
        );
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        assert_eq!(blob(&entries, &manifest["layers"][0]), fs::read(&layer).unwrap());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn equal_inputs_give_equal_bytes() {
        let folder = crate::image::test_folder("oci-equal");
        let program = folder.join("program");
        fs::write(&program, "a program").unwrap();
        let build = |name: &str| {
            let (layer, out) = (folder.join("layer"), folder.join(name));
            write_layer(
                &layer,
                &[LayerFile {
                    path: "program",
                    source: &program,
                    mode: 0o755,
                }],
            )
            .unwrap();
            write_archive(&out, ["example.test/a:b"], &RunConfig::default(), &layer).unwrap();
            fs::read(out).unwrap()
        };
        assert_eq!(build("one"), build("two"));
        fs::remove_dir_all(folder).unwrap();
    }
}
