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
    pub(super) certificate: Watched<Certificate, 3>,
    /// Annotations of the Pod as the downward API prints them; a change means that the operator calls.
    pub(super) annotations: Watched<String>,
}

impl Mounted {
    pub(super) fn new(root: &Root) -> Self {
        Self {
            member: Watched::new(&root.config(), [path::MEMBER_FILE], |[text]| {
                parse_versioned(text)
            }),
            credentials: Watched::new(&root.credentials(), [path::CREDENTIALS_FILE], |[text]| {
                parse_credentials(text)
            }),
            certificate: Watched::new(
                &root.credentials(),
                [path::CA_FILE, path::CERTIFICATE_FILE, path::KEY_FILE],
                |[ca, leaf, key]| Ok(Certificate::new(ca, leaf, key)),
            ),
            annotations: Watched::new(&root.pod(), ["annotations"], |[text]| Ok(text.clone())),
        }
    }
}

/// The server's certificate with its key, and whom clients trust; all PEM.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) ca: String,
    pub(super) leaf: String,
    pub(super) key: String,
}

impl Certificate {
    fn new(ca: &str, leaf: &str, key: &str) -> Self {
        let [ca, leaf, key] = [ca, leaf, key].map(str::to_owned);
        Self { ca, leaf, key }
    }
}

impl std::fmt::Debug for Certificate {
    // A private key must never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

/// Files below a directory that the kubelet replaces as a whole, and what they say together.
#[derive(Debug)]
pub(super) struct Watched<T, const N: usize = 1> {
    directory: PathBuf,
    files: [PathBuf; N],
    parse: fn(&[String; N]) -> Result<T, String>,
    seen: Option<Signature>,
    value: Option<T>,
    problem: Option<String>,
}

impl<T: PartialEq, const N: usize> Watched<T, N> {
    fn new(directory: &Path, names: [&str; N], parse: fn(&[String; N]) -> Result<T, String>) -> Self {
        Self {
            directory: directory.to_owned(),
            files: names.map(|name| directory.join(name)),
            parse,
            seen: None,
            value: None,
            problem: None,
        }
    }

    /// Looks again; true when a new good value is there.
    pub(super) fn refresh(&mut self) -> bool {
        let now = signature(&self.directory, &self.files);
        if now == self.seen && self.value.is_some() && self.problem.is_none() {
            return false;
        }
        self.seen = now;
        match self.read() {
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

    fn read(&self) -> Result<T, String> {
        let mut texts = [const { String::new() }; N];
        for (text, file) in texts.iter_mut().zip(&self.files) {
            let read = fs::read_to_string(file);
            *text = read.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        }
        let paths = self.files.each_ref().map(|file| file.display().to_string());
        (self.parse)(&texts).map_err(|error| format!("{}: {error}", paths.join(", ")))
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

/// What changes when the content may have: the target of `..data`, and the files for plain directories.
#[derive(Debug, PartialEq, Eq)]
struct Signature {
    target: Option<PathBuf>,
    /// Inode, time of the last change, size.
    files: Vec<(u64, (i64, i64), u64)>,
}

fn signature(directory: &Path, files: &[PathBuf]) -> Option<Signature> {
    let target = fs::read_link(directory.join("..data")).ok();
    let signature = |file: &PathBuf| {
        let file = fs::metadata(file).ok()?;
        Some((file.ino(), (file.mtime(), file.mtime_nsec()), file.size()))
    };
    let files = files.iter().map(signature).collect::<Option<_>>()?;
    Some(Signature { target, files })
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
