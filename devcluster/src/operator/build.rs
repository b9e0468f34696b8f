//! Builds the operator's programs for the cluster and packs them as an image. Blocks: cargo runs.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use super::linkage;
use crate::image::{self, Cache, Progress, cache_key, oci};

/// The operator's programs, static.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The operator.
    pub dbclaim: PathBuf,
    /// What runs in every database Pod.
    pub agent: PathBuf,
}

/// How the programs are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Close to the release in size and behaviour, and far quicker to build.
    Cluster,
    /// Exactly what is released. A build takes minutes.
    Release,
}

impl Flavour {
    fn profile(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Release => "release",
        }
    }
}

/// Why the operator's image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A program of the Rust toolchain could not be started.
    #[error("could not run {program:?}")]
    RunToolchain {
        /// The program.
        program: OsString,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// The Rust toolchain does not say for what it builds.
    #[error("`rustc -vV` names no host target")]
    NoHost,
    /// This machine's programs cannot run in a Linux container.
    #[error("programs for {host:?} do not run in the cluster's containers: build on Linux")]
    NotLinux {
        /// The toolchain's host target.
        host: String,
    },
    /// The programs did not compile.
    #[error("cargo ended with {status} while building the operator; its last words:\n{last_words}")]
    Compile {
        /// How cargo ended.
        status: ExitStatus,
        /// The end of what it wrote.
        last_words: String,
    },
    /// A program could not be read.
    #[error("could not read the program {path:?}")]
    Inspect {
        /// The program.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// A program wants libraries that the image does not have.
    #[error(
        "{path:?} is linked dynamically and cannot run in an image without libraries: \
         the toolchain ignores the target feature crt-static"
    )]
    Dynamic {
        /// The program.
        path: PathBuf,
    },
    /// The folder for the archives cannot be tidied.
    #[error("could not remove old archives from {path:?}")]
    Tidy {
        /// The folder.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// The image could not be packed.
    #[error("could not pack the operator's image")]
    Pack(#[from] image::Error),
}

/// Where the operator's programs for the cluster are built: `cluster` in the workspace's target folder, wherever
/// `CARGO_TARGET_DIR` has that. A folder of their own, so that they neither wait for nor undo another cargo's work.
pub fn target_folder(workspace_root: &Path) -> PathBuf {
    let chosen = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
    workspace_root
        .join(chosen.unwrap_or_else(|| "target".into()))
        .join("cluster")
}

/// Compiles the operator and the agent as they run in the cluster: static.
///
/// When nothing changed this takes well under a second.
///
/// # Errors
/// When cargo fails, or a program came out linked dynamically.
pub fn build_binaries(
    workspace_root: &Path,
    flavour: Flavour,
    progress: Progress<'_>,
) -> Result<Binaries, BuildError> {
    let host = host_target()?;
    if !host.contains("-linux-") {
        return Err(BuildError::NotLinux { host });
    }
    let target_folder = target_folder(workspace_root);
    cargo_build(workspace_root, flavour, &target_folder, &host, progress)?;
    let programs = target_folder.join(&host).join(flavour.profile());
    let binaries = Binaries {
        dbclaim: programs.join("dbclaim"),
        agent: programs.join("dbclaim-agent"),
    };
    for path in [&binaries.dbclaim, &binaries.agent] {
        let is_static = linkage::is_static(path);
        if !is_static.map_err(|source| BuildError::Inspect {
            path: path.clone(),
            source,
        })? {
            return Err(BuildError::Dynamic { path: path.clone() });
        }
    }
    Ok(binaries)
}

/// Builds the operator's image: the path of its OCI archive in `cache`, and its reference.
///
/// The tag follows from the programs' contents: what changed is a new image, and a node that has the old one
/// cannot take it for the new one.
///
/// # Errors
/// When the programs cannot be built, or `cache` cannot be written.
pub fn build_image(
    workspace_root: &Path,
    cache: &Path,
    progress: Progress<'_>,
) -> Result<(PathBuf, String), BuildError> {
    let Binaries { dbclaim, agent } = build_binaries(workspace_root, Flavour::Cluster, progress)?;
    let contents = format!(
        "{} {}",
        oci::sha256_of_file(&dbclaim)?,
        oci::sha256_of_file(&agent)?
    );
    let reference = format!("devcluster.local/dbclaim:{}", cache_key(&contents));
    let archive =
        Cache::at(cache.into()).get_or_build("dbclaim", &contents, progress, |_, out, progress| {
            progress("packing the operator's image");
            image::operator_archive(&dbclaim, &agent, out, &reference)
        })?;
    remove_old_archives(cache).map_err(|source| BuildError::Tidy {
        path: cache.into(),
        source,
    })?;
    Ok((archive, reference))
}

/// How long an archive is kept. Nodes have their own copy; an archive is only needed until they do.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

fn remove_old_archives(cache: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        let ours =
            entry.file_name().as_encoded_bytes().starts_with(b"dbclaim-") && entry.file_type()?.is_file();
        let age = SystemTime::now()
            .duration_since(entry.metadata()?.modified()?)
            .unwrap_or_default();
        if ours && age > KEPT {
            // Another process may be doing the same.
            ignore_missing(fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

fn ignore_missing(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A program of the toolchain: what runs this process' build if that is known, else what PATH has.
fn toolchain(variable: &str, program: &str) -> OsString {
    std::env::var_os(variable).unwrap_or_else(|| program.into())
}

fn host_target() -> Result<String, BuildError> {
    let program = toolchain("RUSTC", "rustc");
    let output = Command::new(&program).arg("-vV").output();
    let output = output.map_err(|source| BuildError::RunToolchain { program, source })?;
    let said = String::from_utf8_lossy(&output.stdout);
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or(BuildError::NoHost)
}

/// How many lines of a failed build are shown.
const LAST_WORDS: usize = 40;

fn cargo_build(
    root: &Path,
    flavour: Flavour,
    target_folder: &Path,
    host: &str,
    progress: Progress<'_>,
) -> Result<(), BuildError> {
    let program = toolchain("CARGO", "cargo");
    let failed = |source| BuildError::RunToolchain {
        program: program.clone(),
        source,
    };
    let mut cargo = Command::new(&program);
    cargo
        .args(["build", "--profile", flavour.profile()])
        .args(["--package", "dbclaim", "--bins"])
        // Naming the target, even the host's own, keeps the flags away from procedural macros, which
        // cannot be static.
        .args(["--target", host, "--target-dir"])
        .arg(target_folder)
        .current_dir(root)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        // Both would win over RUSTFLAGS or come in its way.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_RUSTFLAGS")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_outer_package(name)) {
        cargo.env_remove(name);
    }
    let mut cargo = cargo.spawn().map_err(failed)?;
    let said = cargo
        .stderr
        .take()
        .map(|stderr| follow(stderr, progress))
        .unwrap_or_default();
    let status = cargo.wait().map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    Err(BuildError::Compile {
        status,
        last_words: Vec::from(said).join("\n"),
    })
}

/// Whether a variable is what an outer `cargo run` or `cargo test` says of the package that it runs. Build
/// scripts that look at such variables (ring's does) would be run again, and whatever depends on them compiled
/// again, whenever another package, or another checkout, builds into the same folder.
fn is_of_outer_package(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    let prefixes: [&[u8]; 3] = [b"CARGO_PKG_", b"CARGO_MANIFEST_", b"CARGO_BIN_"];
    prefixes.iter().any(|prefix| name.starts_with(prefix)) || name == b"OUT_DIR"
}

/// Reports each crate that cargo compiles, and keeps its last words for an error.
fn follow(stderr: impl Read, progress: Progress<'_>) -> VecDeque<String> {
    let mut last = VecDeque::with_capacity(LAST_WORDS);
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let step = line.trim_start();
        if step.starts_with("Compiling ") || step.starts_with("Blocking ") {
            progress(step.split(" (").next().unwrap_or(step));
        }
        if last.len() == LAST_WORDS {
            last.pop_front();
        }
        last.push_back(line);
    }
    last
}
