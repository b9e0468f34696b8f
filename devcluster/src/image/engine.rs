//! The database engines' images, made from Debian packages.
//!
//! They carry the official images' names, user, paths and environment, so that the operator meets what it
//! would meet anywhere else. They lack the official entry point script, documentation, JIT and perl.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::cache::Cache;
use super::oci::{self, RunConfig};
use super::{Error, Progress, io_error};

/// The references that [`engine_archive`] knows.
pub const ENGINE_REFERENCES: [&str; 2] = [POSTGRES_17.reference, POSTGRES_18.reference];

/// The image `reference` as an OCI archive, from the cache or built now (about 30 s and 120 MB each).
///
/// # Errors
/// When there is no recipe for `reference`, `mmdebstrap` is missing or fails, or the cache cannot be
/// written.
pub fn engine_archive(reference: &str, progress: Progress<'_>) -> Result<PathBuf, Error> {
    engine_archive_in(&Cache::of_user()?, reference, progress)
}

fn engine_archive_in(cache: &Cache, reference: &str, progress: Progress<'_>) -> Result<PathBuf, Error> {
    let recipe = [POSTGRES_17, POSTGRES_18]
        .into_iter()
        .find(|recipe| recipe.reference == reference)
        .ok_or_else(|| Error::UnknownReference {
            reference: reference.into(),
        })?;
    let name = format!("postgres-{}", recipe.major);
    cache.get_or_build(&name, &recipe.text(), progress, |scratch, out, progress| {
        let layer = scratch.join("layer.tar");
        mmdebstrap(&recipe, scratch, &layer, progress)?;
        progress("packing the image");
        oci::write_archive(out, reference, &recipe.run_config(), &layer)
    })
}

/// One PostgreSQL image.
#[derive(Debug, Clone, Copy)]
struct Postgres {
    reference: &'static str,
    /// The Debian suite that has this major version.
    suite: &'static str,
    major: &'static str,
    /// Where the official image keeps its data; it moved with version 18.
    data: &'static str,
}

const POSTGRES_17: Postgres = Postgres {
    reference: "docker.io/library/postgres:17",
    suite: "trixie",
    major: "17",
    data: "/var/lib/postgresql/data",
};

const POSTGRES_18: Postgres = Postgres {
    reference: "docker.io/library/postgres:18",
    suite: "sid",
    major: "18",
    data: "/var/lib/postgresql/18/docker",
};

const ESSENTIAL_HOOK: &str = include_str!("postgres-essential.sh");
const CUSTOMIZE_HOOK: &str = include_str!("postgres-customize.sh");

/// Never unpacked: documentation, translations, and LLVM, which is half of the size and only serves JIT.
const EXCLUDED: [&str; 10] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
    "/usr/lib/*-linux-gnu/libLLVM*",
    "/usr/lib/*-linux-gnu/libz3.so*",
    "/usr/lib/postgresql/*/lib/llvmjit*",
    "/usr/lib/postgresql/*/lib/bitcode/*",
    "/usr/lib/llvm-*",
];

impl Postgres {
    fn run_config(&self) -> RunConfig {
        let Self { major, data, .. } = self;
        RunConfig {
            env: vec![
                format!(
                    "PATH=/usr/lib/postgresql/{major}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
                ),
                "LANG=C.UTF-8".into(),
                format!("PG_MAJOR={major}"),
                format!("PGDATA={data}"),
            ],
            // As the official image: what runs as PID 1 in it is asked to stop with SIGINT, not SIGTERM.
            stop_signal: "SIGINT".into(),
            ..RunConfig::default()
        }
    }

    fn arguments(&self) -> Vec<String> {
        let Self { suite, major, .. } = self;
        let mut arguments = vec![
            "--variant=minbase".into(),
            "--format=tar".into(),
            format!("--include=postgresql-{major}"),
            // A mirror may be a snapshot whose release file has expired. Signatures are checked all the same.
            "--aptopt=Acquire::Check-Valid-Until \"false\"".into(),
            // mmdebstrap runs text with shell characters in it as a script.
            format!("--essential-hook={ESSENTIAL_HOOK}"),
            format!("--customize-hook={CUSTOMIZE_HOOK}"),
        ];
        arguments.extend(
            EXCLUDED
                .iter()
                .map(|path| format!("--dpkgopt=path-exclude={path}")),
        );
        arguments.push((*suite).into());
        arguments
    }

    /// Everything that decides what is in the image.
    fn text(&self) -> String {
        format!(
            "{self:?}\n{:?}\n{:?}\n{}",
            self.run_config(),
            self.arguments(),
            std::env::consts::ARCH
        )
    }
}

/// How many lines of a failed build are shown.
const LAST_WORDS: usize = 15;

fn mmdebstrap(recipe: &Postgres, scratch: &Path, layer: &Path, progress: Progress<'_>) -> Result<(), Error> {
    let mut child = Command::new("mmdebstrap")
        .args(recipe.arguments())
        .arg(layer)
        .env("LC_ALL", "C")
        .env("TMPDIR", scratch)
        // The same packages give the same bytes.
        .env("SOURCE_DATE_EPOCH", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::ProgramMissing {
                program: "mmdebstrap",
                remedy: "apt-get install mmdebstrap",
            },
            _ => io_error("run mmdebstrap for", layer)(error),
        })?;
    let said = child
        .stderr
        .take()
        .map(|stderr| follow(stderr, progress))
        .unwrap_or_default();
    let status = child.wait().map_err(io_error("wait for mmdebstrap for", layer))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::ProgramGaveUp {
        program: "mmdebstrap",
        image: recipe.reference.into(),
        status,
        last_words: Vec::from(said).join("\n"),
    })
}

/// Reports each step that mmdebstrap announces (`I: …...`, not those about its own folders), and keeps its last words for an error.
fn follow(stderr: impl Read, progress: Progress<'_>) -> VecDeque<String> {
    let mut last = VecDeque::with_capacity(LAST_WORDS);
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if let Some(step) = line
            .strip_prefix("I: ")
            .filter(|step| step.ends_with("...") && !step.contains('/'))
        {
            progress(step.trim_end_matches('.'));
        }
        if last.len() == LAST_WORDS {
            last.pop_front();
        }
        last.push_back(line);
    }
    last
}
