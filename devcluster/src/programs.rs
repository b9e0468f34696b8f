//! The programs a cluster runs: taken from the cache, from `KUBEBUILDER_ASSETS` or `PATH` when the version
//! fits, and built from Go modules otherwise.
//!
//! Knows nothing of how they are run.

mod build;
mod catalog;

use std::{
    collections::BTreeMap,
    env, io,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};

use crate::{Profile, progress::Progress};
use catalog::{Set, Source};

/// Why a program could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no Go toolchain, and not all programs are there ready-made.
    #[error(
        "building {missing} needs Go 1.26 or newer, and no `go` was found on PATH: install it from \
         https://go.dev/dl/ or put these programs (Kubernetes v1.36) on PATH"
    )]
    NoGo {
        /// The programs that would be built.
        missing: String,
    },
    /// Neither `XDG_CACHE_HOME` nor `HOME` says where to keep the programs.
    #[error("no folder to keep the built programs in: set HOME or XDG_CACHE_HOME")]
    NoCacheFolder,
    /// The cache folder cannot be used.
    #[error("preparing {path:?} for building failed: {source}")]
    Prepare {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The Go compiler could not be run.
    #[error("running go failed: {0}")]
    RunGo(#[source] io::Error),
    /// The Go compiler ended with an error.
    #[error("building {programs} from the module {set:?} failed:\n{output}")]
    Build {
        /// Name of the set.
        set: &'static str,
        /// What was being built.
        programs: String,
        /// The last lines that the compiler printed.
        output: String,
    },
    /// No set has a program of this name.
    #[error("no tool is called {0:?}; there are helm, helm4, kwok, kubeconform, crane and glua")]
    UnknownTool(String),
}

/// Where each program that a profile needs is found.
#[derive(Debug, Clone, Default)]
pub struct Programs(BTreeMap<&'static str, PathBuf>);

impl Programs {
    /// Finds or builds all that `profile` needs.
    pub(crate) async fn resolve(profile: Profile, progress: Progress) -> Result<Programs, Error> {
        let mut plans = Vec::new();
        let mut found = BTreeMap::new();
        for (set, names) in needed(profile) {
            let sources = set
                .programs
                .iter()
                .filter(|program| names.contains(&program.name))
                .collect();
            let (have, plan) = locate(set, sources)?;
            found.extend(have);
            plans.extend(plan);
        }
        found.extend(build::all(plans, progress).await?);
        Ok(Programs(found))
    }

    /// The path of a program, or its bare name (so that `PATH` decides) when the cluster does not use it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.get(name).cloned().unwrap_or_else(|| PathBuf::from(name))
    }

    /// The folders that hold the programs, to be put before `PATH`.
    pub(crate) fn search_path(&self) -> String {
        let mut folders: Vec<_> = self.0.values().filter_map(|path| path.parent()).collect();
        folders.dedup();
        let mut search: Vec<_> = folders
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        search.extend(env::var("PATH"));
        search.join(":")
    }
}

/// What stands in the way of having the programs that `profile` needs, as a sentence: they would have to be built, and
/// there is no Go.
pub(crate) fn lacking_go(profile: Profile) -> Option<String> {
    if go_version().is_some() {
        return None;
    }
    let wanted = needed(profile).iter().flat_map(|(set, names)| {
        let programs = set.programs.iter();
        programs.filter(|program| names.contains(&program.name))
    });
    let missing: Vec<_> = wanted.filter(|source| ready_made(source).is_none()).collect();
    let lacks = Error::NoGo {
        missing: build::names(&missing),
    };
    (!missing.is_empty()).then(|| lacks.to_string())
}

/// The sets of programs that a profile needs, and which programs of each.
fn needed(profile: Profile) -> &'static [(&'static Set, &'static [&'static str])] {
    match profile {
        Profile::Api => catalog::FOR_API,
        Profile::Fake { .. } => catalog::FOR_FAKE,
        Profile::Node { .. } => catalog::FOR_NODE,
    }
}

/// Finds or builds one of the tools that work on a cluster from outside: `helm`, `helm4`, `kwok`, `kubeconform`,
/// `crane`, `glua`.
pub async fn tool(name: &str, progress: Progress) -> Result<PathBuf, Error> {
    let known = [&catalog::TOOLS, &catalog::GITOPS].into_iter().find_map(|set| {
        let mut programs = set.programs.iter();
        programs
            .find(|program| program.name == name)
            .map(|source| (set, source))
    });
    let (set, source) = known.ok_or_else(|| Error::UnknownTool(name.to_owned()))?;
    let (found, plan) = locate(set, vec![source])?;
    let built = build::all(plan.into_iter().collect(), progress).await?;
    found
        .into_iter()
        .chain(built)
        .map(|(_, path)| path)
        .next()
        .ok_or(Error::NoCacheFolder)
}

type Found = BTreeMap<&'static str, PathBuf>;

/// Splits what is wanted of a set into what is there already and a plan to build the rest.
fn locate(set: &'static Set, wanted: Vec<&'static Source>) -> Result<(Found, Option<build::Plan>), Error> {
    let go = go_version();
    let cache = go.as_deref().map(|go| cache_folder(set, go)).transpose()?;
    let mut found = Found::new();
    let mut missing = Vec::new();
    for source in wanted {
        let cached = cache
            .as_ref()
            .map(|folder| folder.join(source.name))
            .filter(|path| path.is_file());
        match cached.or_else(|| ready_made(source)) {
            Some(path) => drop(found.insert(source.name, path)),
            None => missing.push(source),
        }
    }
    if missing.is_empty() {
        return Ok((found, None));
    }
    let Some(folder) = cache else {
        return Err(Error::NoGo {
            missing: build::names(&missing),
        });
    };
    Ok((
        found,
        Some(build::Plan {
            set,
            programs: missing,
            folder,
        }),
    ))
}

/// A program of a fitting version that somebody else has installed.
fn ready_made(source: &Source) -> Option<PathBuf> {
    let assets = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let candidates = assets
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(source.name));
    candidates
        .filter(|path| path.is_file())
        .find(|path| fits(path, source))
}

fn fits(path: &Path, source: &Source) -> bool {
    let Ok(output) = Command::new(path).args(source.version_args).output() else {
        return false;
    };
    String::from_utf8_lossy(&output.stdout).contains(source.fits)
}

fn go_version() -> Option<String> {
    let output = Command::new("go").args(["env", "GOVERSION"]).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The folder that holds what was built from exactly these sources by exactly this compiler.
fn cache_folder(set: &Set, go: &str) -> Result<PathBuf, Error> {
    let base = env::var_os("XDG_CACHE_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from);
    let home = || {
        env::var_os("HOME")
            .filter(|value| !value.is_empty())
            .map(|home| PathBuf::from(home).join(".cache"))
    };
    let base = base.or_else(home).ok_or(Error::NoCacheFolder)?;
    let mut hash = Sha256::new();
    for part in [
        set.go_mod,
        set.go_sum,
        set.stamps,
        go,
        env::consts::OS,
        env::consts::ARCH,
    ] {
        hash.update(part);
        hash.update([0]);
    }
    let digest = hash
        .finalize()
        .iter()
        .take(8)
        .fold(0_u64, |digest, byte| digest << 8 | u64::from(*byte));
    Ok(base
        .join("dbclaim/devcluster")
        .join(format!("{}-{digest:016x}", set.name)))
}
