//! What the documentation says is so: its links lead somewhere, its reasons are those that exist, and its rights are
//! those of the chart.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file below a folder with this extension, but for what is built.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != ".git" {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found
}

/// A page without its code blocks, where brackets are no links and `#` begins no heading.
fn prose(page: &str) -> String {
    let parts = page.split("\n```").enumerate();
    // A fence line goes with what it begins or ends.
    let outside = parts.filter(|(number, _)| number % 2 == 0);
    outside.map(|(_, text)| text).collect::<Vec<_>>().join("\n")
}

/// The targets of links, but for those into the web.
fn links(page: &str) -> Vec<String> {
    let prose = prose(page);
    let targets = prose.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split([')', ' ']).next());
    targets
        .filter(|it| !it.contains("://"))
        .map(str::to_owned)
        .collect()
}

/// The anchors that GitHub makes of a page's headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let prose = prose(page);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text
            .chars()
            .filter(|it| it.is_alphanumeric() || [' ', '-', '_'].contains(it));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let pages: Vec<_> = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
        .map(|it| root().join(it))
        .into_iter()
        .chain(
            ["docs", "charts", "devcluster", "crds"]
                .iter()
                .flat_map(|it| files(&root().join(it), "md")),
        )
        .collect();
    let mut dead = Vec::new();
    let mut count = 0;
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        for link in links(&text) {
            count += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() {
                page.clone()
            } else {
                page.parent().unwrap().join(file)
            };
            let known = |anchor: &str| anchors(&fs::read_to_string(&target).unwrap()).contains(anchor);
            if !target.exists() || !(anchor.is_empty() || known(anchor)) {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(count > 40, "only {count} links were found");
    assert_eq!(dead, [""; 0]);
}

/// Two or more words, each with a capital: `CrashLoop`.
fn is_reason(text: &str) -> bool {
    let capitals = text.chars().filter(char::is_ascii_uppercase).count();
    let letters = text.chars().all(|it| it.is_ascii_alphabetic());
    let mut characters = text.chars();
    letters
        && capitals >= 2
        && capitals < text.len() / 2
        && characters.next().is_some_and(|it| it.is_ascii_uppercase())
}

/// The string literals of source text.
fn literals(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('"').skip(1).step_by(2))
}

/// The reasons of conditions and Events: one module has the operator's, and the agent has no other literal of that form.
fn reasons() -> BTreeSet<String> {
    let ours = read("src/api/condition.rs");
    let (_, after) = ours.split_once("pub mod event").unwrap();
    let mut reasons: BTreeSet<_> = literals(after).map(str::to_owned).collect();
    for file in files(&root().join("src/agent"), "rs") {
        let text = fs::read_to_string(&file).unwrap();
        let (program, _) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
        reasons.extend(literals(program).filter(|it| is_reason(it)).map(str::to_owned));
    }
    reasons
}

/// What stands in backquotes in the first column of the tables below this heading.
fn first_column(page: &str, heading: &str) -> BTreeSet<String> {
    let (_, after) = page.split_once(heading).unwrap_or_else(|| panic!("{heading}"));
    let section = after.split("\n## ").next().unwrap();
    let cells = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let words = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    words.map(str::to_owned).collect()
}

#[test]
fn every_reason_is_documented_and_no_other() {
    let mut documented = first_column(&read("docs/using-a-claim.md"), "## What the status says");
    for condition in [
        "StorageReady",
        "CredentialsReady",
        "UpdatePending",
        "Reconciling",
        "Stalled",
    ] {
        assert!(documented.remove(condition), "the condition {condition}");
    }
    let reasons = reasons();
    assert!(reasons.contains("CrashLoop") && reasons.contains("EngineStuck"));
    let missing: Vec<_> = reasons.difference(&documented).collect();
    let invented: Vec<_> = documented.difference(&reasons).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "not documented: {missing:?}; documented and unknown: {invented:?}"
    );
}

/// What the pages about trouble call a reason is one.
#[test]
fn no_page_names_a_reason_that_does_not_exist() {
    // Words of Kubernetes and of other programs.
    const OTHERS: [&str; 14] = [
        "StorageReady",
        "CredentialsReady",
        "UpdatePending",
        "DatabaseClaim",
        "RuntimeDefault",
        "OnDelete",
        "IfNotPresent",
        "RssFile",
        "RssAnon",
        "EngineName",
        "StatefulSet",
        "ConfigMap",
        "OnRootMismatch",
        "RollingUpdate",
    ];
    let reasons = reasons();
    for page in [
        "docs/failure-modes.md",
        "docs/deletion.md",
        "docs/gitops.md",
        "docs/using-a-claim.md",
    ] {
        let text = read(page);
        let prose = prose(&text);
        let quoted = prose.split('`').skip(1).step_by(2);
        for word in quoted.filter(|it| is_reason(it) && !OTHERS.contains(it)) {
            assert!(reasons.contains(word), "{page} names `{word}`");
        }
    }
}

type Rights = BTreeMap<String, BTreeSet<String>>;

fn words(text: &str) -> BTreeSet<String> {
    let words = text.split([',', ' ']).map(str::trim).filter(|it| !it.is_empty());
    words.map(str::to_owned).collect()
}

/// The rules of the chart's ClusterRole: verbs by `group/resource`.
fn granted() -> Rights {
    let text = read("charts/dbclaim/templates/clusterrole.yaml");
    let (role, _) = text.split_once("\n---").unwrap();
    let list = |line: &str, key: &str| {
        let rest = line.trim_start_matches([' ', '-']).strip_prefix(key)?;
        Some(words(rest.trim().trim_matches(['[', ']'])))
    };
    let (mut groups, mut resources, mut rights) = (BTreeSet::new(), BTreeSet::new(), Rights::new());
    for line in role.lines() {
        if let Some(found) = list(line, "apiGroups:") {
            groups = found.iter().map(|it| it.trim_matches('"').to_owned()).collect();
        } else if let Some(found) = list(line, "resources:") {
            resources = found;
        } else if let Some(verbs) = list(line, "verbs:") {
            for group in &groups {
                for resource in &resources {
                    let key = format!("{group}/{resource}");
                    rights.entry(key).or_default().extend(verbs.clone());
                }
            }
        }
    }
    rights
}

/// The table of SECURITY.md in the same form.
fn documented() -> Rights {
    let page = read("SECURITY.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut rights = Rights::new();
    for row in rows {
        let (resources, verbs) = row.split_once(" | ").unwrap();
        let verbs = verbs.split(['.', '|']).next().unwrap();
        for resource in format!("`{resources}").split('`').skip(1).step_by(2) {
            rights.insert(resource.to_owned(), words(verbs));
        }
    }
    rights
}

#[test]
fn the_documented_rights_are_those_of_the_chart() {
    let granted = granted();
    assert!(granted.len() > 12, "{granted:#?}");
    assert_eq!(documented(), granted);
}
