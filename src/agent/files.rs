//! The files that the operator speaks through, re-read when the kubelet has swapped them.
//!
//! A file that is missing, empty or unreadable changes nothing: the last good value stays.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::root::Root;
use crate::api::protocol::{Credentials, FORMAT, MemberConfig, path};

/// All files of one member.
#[derive(Debug)]
pub(super) struct Mounted {
    pub(super) member: Watched<MemberConfig>,
    pub(super) credentials: Watched<Credentials>,
    /// Annotations of the Pod as the downward API prints them; a change means that the operator calls.
    pub(super) annotations: Watched<String>,
}

impl Mounted {
    pub(super) fn new(root: &Root) -> Self {
        Self {
            member: Watched::new(&root.config(), path::MEMBER_FILE, parse_versioned),
            credentials: Watched::new(&root.credentials(), path::CREDENTIALS_FILE, parse_credentials),
            annotations: Watched::new(&root.pod(), "annotations", |text| Ok(text.to_owned())),
        }
    }
}

/// One file below a directory that the kubelet replaces as a whole.
#[derive(Debug)]
pub(super) struct Watched<T> {
    directory: PathBuf,
    file: PathBuf,
    parse: fn(&str) -> Result<T, String>,
    seen: Option<Signature>,
    value: Option<T>,
    problem: Option<String>,
}

impl<T: PartialEq> Watched<T> {
    fn new(directory: &Path, name: &str, parse: fn(&str) -> Result<T, String>) -> Self {
        let (directory, file) = (directory.to_owned(), directory.join(name));
        Self {
            directory,
            file,
            parse,
            seen: None,
            value: None,
            problem: None,
        }
    }

    /// Looks again; true when a new good value is there.
    pub(super) fn refresh(&mut self) -> bool {
        let now = signature(&self.directory, &self.file);
        if now == self.seen && self.value.is_some() && self.problem.is_none() {
            return false;
        }
        self.seen = now;
        let read = fs::read_to_string(&self.file)
            .map_err(|error| format!("cannot read {}: {error}", self.file.display()));
        match read
            .and_then(|text| (self.parse)(&text).map_err(|error| format!("{}: {error}", self.file.display())))
        {
            Ok(value) => {
                self.problem = None;
                let new = self.value.as_ref() != Some(&value);
                self.value = Some(value);
                new
            }
            Err(problem) => {
                self.problem = Some(problem);
                false
            }
        }
    }

    /// The newest good value.
    pub(super) fn get(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// Why the file as it is now is not used.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

/// What changes when the content may have: the target of `..data`, and the file itself for plain directories.
#[derive(Debug, PartialEq, Eq)]
struct Signature {
    target: Option<PathBuf>,
    inode: u64,
    modified: (i64, i64),
    size: u64,
}

fn signature(directory: &Path, file: &Path) -> Option<Signature> {
    let target = fs::read_link(directory.join("..data")).ok();
    let file = fs::metadata(file).ok()?;
    Some(Signature {
        target,
        inode: file.ino(),
        modified: (file.mtime(), file.mtime_nsec()),
        size: file.size(),
    })
}

fn parse_credentials(text: &str) -> Result<Credentials, String> {
    let credentials: Credentials = parse_versioned(text)?;
    if credentials.password.is_empty() {
        return Err("an empty password would lock the application out".into());
    }
    Ok(credentials)
}

/// Parses a document that carries its format version. Parser errors may quote the document, so only their
/// place is said: one of the documents is a secret.
fn parse_versioned<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    #[derive(serde::Deserialize)]
    struct Version {
        v: u32,
    }
    let place = |error: &serde_json::Error| {
        format!(
            "not a document of ours (line {}, column {})",
            error.line(),
            error.column()
        )
    };
    let Version { v } = serde_json::from_str(text).map_err(|error| place(&error))?;
    if v > FORMAT {
        return Err(format!(
            "format {v} is newer than this agent reads ({FORMAT}); restart the Pod with a newer one"
        ));
    }
    serde_json::from_str(text).map_err(|error| place(&error))
}
