//! The direction of dependencies, the purity of the core, and the size of files (docs/architecture.md).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// Modules from left to right: each may use its right neighbours' groups only, never its own group's others.
const GROUPS: [&[&str]; 10] = [
    &["bin"],
    &["cli"],
    &["controller", "agent"],
    &["apply", "observe", "lease", "issue"],
    &["status"],
    &["plan"],
    &["render"],
    &["validate"],
    &["engine", "class"],
    &["claim", "certificate", "compact"],
];
/// Used by everybody, use nobody but `api`.
const BESIDE: [&str; 2] = ["api", "telemetry"];
/// What pure modules must not mention.
const IMPURE: [&str; 8] = [
    "async fn",
    "kube::Client",
    "std::env::",
    "Timestamp::now",
    "Instant::now",
    "SystemTime",
    "getrandom",
    "tokio::",
];
/// From here to the right everything is pure.
const FIRST_PURE: &str = "status";

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Module of a file: its first path component below `src`, without `.rs`.
fn module(path: &Path) -> String {
    let below = path
        .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .unwrap();
    let first = below.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

fn place(module: &str) -> Option<usize> {
    GROUPS.iter().position(|group| group.contains(&module))
}

/// Non-test lines of a file.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]").next().unwrap_or_default().to_owned()
}

/// Modules that a file names by `crate::…` or, in programs, `dbclaim::…`.
fn used(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for prefix in ["crate::", "dbclaim::"] {
        for (index, _) in text.match_indices(prefix) {
            let rest = text.get(index + prefix.len()..).unwrap_or_default();
            if let Some(list) = rest.strip_prefix('{') {
                let list = list.split("};").next().unwrap_or_default();
                found.extend(
                    list.split(',')
                        .filter_map(|item| item.trim().split("::").next())
                        .map(str::to_owned),
                );
            } else {
                let end = rest
                    .find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(rest.len());
                found.push(rest.get(..end).unwrap_or_default().to_owned());
            }
        }
    }
    found
}

#[test]
fn dependencies_point_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for path in sources(&src) {
        let from = module(&path);
        for to in used(&code(&path)) {
            let known = place(&to).is_some() || BESIDE.contains(&to.as_str());
            let allowed = match (place(&from), place(&to)) {
                _ if from == to || to == "api" || !known => true,
                (Some(from), Some(to)) => from < to,
                // Telemetry is used by the outer modules.
                (Some(from), None) => from <= 2,
                (None, _) => from == "lib",
            };
            if !allowed {
                wrong.push(format!("{} uses {to}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_place() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let homeless: Vec<_> = sources(&src)
        .iter()
        .map(|path| module(path))
        .filter(|it| it != "lib" && place(it).is_none() && !BESIDE.contains(&it.as_str()))
        .collect();
    assert!(
        homeless.is_empty(),
        "modules without a place in GROUPS: {homeless:?}"
    );
}

#[test]
fn the_core_is_pure() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let first = place(FIRST_PURE).unwrap();
    let mut wrong = Vec::new();
    for path in sources(&src) {
        let from = module(&path);
        if from == "api" || place(&from).is_some_and(|it| it >= first) {
            let text = code(&path);
            wrong.extend(
                IMPURE
                    .iter()
                    .filter(|it| text.contains(**it))
                    .map(|it| format!("{}: {it}", path.display())),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Who may name an engine: what docs/adding-an-engine.md lists, and nobody else.
#[test]
fn engines_are_named_in_their_places_only() {
    const PLACES: [&str; 7] = [
        "api/",
        "engine/",
        "class/",
        "agent/engine.rs",
        "agent/mod.rs",
        "agent/postgres/",
        "agent/mysql/",
    ];
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for path in sources(&src) {
        let below = path.strip_prefix(&src).unwrap().display().to_string();
        if PLACES.iter().any(|place| below.starts_with(place)) {
            continue;
        }
        let text = code(&path);
        let statements = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in statements {
            let line = line.to_lowercase();
            let names = ["postgres", "mysql", "mongo"].iter().any(|it| line.contains(it));
            if names && !below.ends_with("tests.rs") {
                wrong.push(format!("{below}: {}", line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_small() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src", "devcluster/src", "demo", "tests"].map(|folder| root.join(folder));
    let long: Vec<_> = folders
        .iter()
        .flat_map(|folder| sources(folder))
        .map(|path| (code(&path).lines().count(), path))
        .filter(|(lines, _)| *lines > 500)
        .collect();
    assert!(long.is_empty(), "longer than 500 lines: {long:?}");
}

#[test]
fn no_catch_all_modules() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in sources(&src) {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(
            !["utils", "util", "helpers", "common", "manager"].contains(&stem.as_str()),
            "{}",
            path.display()
        );
    }
}
