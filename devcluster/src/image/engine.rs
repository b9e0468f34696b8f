//! The database engines' images, made from Debian packages.
//!
//! They carry the official images' names, for the series and for the exact version, user, paths and environment, so that the operator meets what it
//! would meet anywhere else. They lack the official entry point script, documentation, JIT and perl. Each engine's recipe is a file of its own.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::cache::Cache;
use super::maven::{self, Artefact};
use super::mysql::MYSQL_9_7;
use super::oci::{self, RunConfig};
use super::postgres::{POSTGRES_17, POSTGRES_17_5, POSTGRES_18};
use super::{Error, Progress, io_error, not_started};

/// How one engine's image is made from Debian packages.
pub(super) trait Recipe {
    /// The official image's name, which the image gets.
    fn reference(&self) -> &'static str;
    /// Name in the cache.
    fn name(&self) -> String;
    /// Environment and stop signal, as the official image has them.
    fn run_config(&self) -> RunConfig;
    /// Debian packages, with commas between.
    fn packages(&self) -> String;
    /// The Debian suite that has them.
    fn suite(&self) -> &'static str;
    /// Scripts to run when only the essential packages are there, and when all are.
    fn hooks(&self) -> [&'static str; 2];
    /// What holds the engine, where Debian has not got it.
    fn artefact(&self) -> Option<Artefact> {
        None
    }
    /// Paths that are never unpacked, besides documentation and translations.
    fn excluded(&self) -> &'static [&'static str];
    /// What else decides what is in the image.
    fn text(&self) -> String;
}

const RECIPES: [&dyn Recipe; 4] = [&POSTGRES_17, &POSTGRES_17_5, &POSTGRES_18, &MYSQL_9_7];

/// The references that [`engine_archive`] knows.
pub fn engine_references() -> impl Iterator<Item = &'static str> {
    RECIPES.iter().map(|recipe| recipe.reference())
}

/// The image `reference` as an OCI archive, from the cache or built now (about 30 s and up to 250 MB each). It gets
/// the name of its exact version as well, as the official images do: [`super::references`] tells it.
///
/// # Errors
/// When there is no recipe for `reference`, `mmdebstrap` is missing or fails, or the cache cannot be
/// written.
pub fn engine_archive(reference: &str, progress: Progress<'_>) -> Result<PathBuf, Error> {
    let recipe = RECIPES
        .into_iter()
        .find(|recipe| recipe.reference() == reference)
        .ok_or_else(|| Error::UnknownReference {
            reference: reference.into(),
        })?;
    let cache = Cache::of_user()?;
    let whole = whole_text(recipe);
    cache.get_or_build(&recipe.name(), &whole, progress, |scratch, out, progress| {
        let layer = scratch.join("layer.tar");
        if let Some(artefact) = recipe.artefact() {
            progress("fetching the engine");
            maven::unpack(&artefact, reference, scratch)?;
        }
        mmdebstrap(recipe, scratch, &layer, progress)?;
        progress("packing the image");
        let exact = exact_reference(reference, &scratch.join(VERSION))?;
        let references = [reference].into_iter().chain(exact.as_deref());
        oci::write_archive(out, references, &recipe.run_config(), &layer)
    })
}

/// What hooks write into the folder that `SCRATCH` names: the version of the engine's package.
const VERSION: &str = "version";

/// The name of the exact version, `…:17.11` by the package's version `17.11-0+deb13u1`; none where the recipe has
/// said it already.
fn exact_reference(reference: &str, version: &Path) -> Result<Option<String>, Error> {
    let version = match std::fs::read_to_string(version) {
        Ok(version) => version,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", version)(error)),
    };
    let exact = version.trim().split(['-', '+', '~']).next().unwrap_or_default();
    let repository = reference.rsplit_once(':').map_or(reference, |(name, _)| name);
    Ok(Some(format!("{repository}:{exact}")))
}

/// Never unpacked: documentation and translations.
const EXCLUDED: [&str; 5] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
];

fn arguments(recipe: &dyn Recipe) -> Vec<String> {
    let [essential, customize] = recipe.hooks();
    let mut arguments = vec![
        "--variant=minbase".into(),
        "--format=tar".into(),
        format!("--include={}", recipe.packages()),
        // A mirror may be a snapshot whose release file has expired. Signatures are checked all the same.
        "--aptopt=Acquire::Check-Valid-Until \"false\"".into(),
        // mmdebstrap runs text with shell characters in it as a script.
        format!("--essential-hook={essential}"),
    ];
    let unpack = recipe.artefact().map(|it| it.hook);
    let hooks = unpack.into_iter().chain([customize]);
    arguments.extend(hooks.map(|hook| format!("--customize-hook={hook}")));
    let excluded = EXCLUDED.iter().chain(recipe.excluded());
    arguments.extend(excluded.map(|path| format!("--dpkgopt=path-exclude={path}")));
    arguments.push(recipe.suite().into());
    arguments
}

/// Everything that decides what is in the image.
fn whole_text(recipe: &dyn Recipe) -> String {
    format!(
        "{}\n{:?}\n{:?}\n{:?}\n{}",
        recipe.text(),
        recipe.artefact().map(|it| it.coordinates),
        recipe.run_config(),
        arguments(recipe),
        std::env::consts::ARCH
    )
}

/// How many lines of a failed build are shown.
const LAST_WORDS: usize = 15;

fn mmdebstrap(
    recipe: &dyn Recipe,
    scratch: &Path,
    layer: &Path,
    progress: Progress<'_>,
) -> Result<(), Error> {
    let mut child = Command::new("mmdebstrap")
        .args(arguments(recipe))
        .arg(layer)
        .env("LC_ALL", "C")
        .env("TMPDIR", scratch)
        .env("SCRATCH", scratch)
        .env("PACKAGE", recipe.packages().split(',').next().unwrap_or_default())
        // The same packages give the same bytes.
        .env("SOURCE_DATE_EPOCH", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(not_started(
            "mmdebstrap",
            "apt-get install mmdebstrap",
            "run mmdebstrap for",
            layer,
        ))?;
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
        image: recipe.reference().into(),
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
