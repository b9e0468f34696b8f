//! Requests, counted at the API server by its audit log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

/// One answered request.
#[derive(Debug)]
pub struct Request {
    /// `create`, `patch`, `watch`, …
    pub verb: String,
    /// Plural, with the subresource.
    pub resource: String,
}

/// A moment, as a place in the log.
#[derive(Debug, Clone, Copy)]
pub struct Mark(u64);

/// The audit log of one cluster.
#[derive(Debug, Clone, Copy)]
pub struct Audit<'a>(pub &'a Path);

impl Audit<'_> {
    /// Now.
    pub fn mark(&self) -> anyhow::Result<Mark> {
        let meta = std::fs::metadata(self.0).context("the audit log cannot be read")?;
        Ok(Mark(meta.len()))
    }

    /// Requests of `user` between two moments. A watch counts once, when it is opened.
    pub fn requests(&self, user: &str, from: Mark, to: Mark) -> anyhow::Result<Vec<Request>> {
        let mut file = File::open(self.0).context("the audit log cannot be read")?;
        file.seek(SeekFrom::Start(from.0))?;
        let mut found = Vec::new();
        for line in BufReader::new(file.take(to.0.saturating_sub(from.0))).lines() {
            let line = line?;
            if line.contains(user) {
                // A line that is being written belongs to the next moment.
                found.extend(
                    serde_json::from_str(&line)
                        .ok()
                        .and_then(|event| request(&event, user)),
                );
            }
        }
        Ok(found)
    }
}

fn request(event: &Value, user: &str) -> Option<Request> {
    let text = |path: &str| event.pointer(path).and_then(Value::as_str);
    let verb = text("/verb")?;
    let counted = if verb == "watch" {
        "ResponseStarted"
    } else {
        "ResponseComplete"
    };
    if text("/user/username") != Some(user) || text("/stage") != Some(counted) {
        return None;
    }
    let resource = text("/objectRef/resource").or(text("/requestURI"))?;
    let sub = text("/objectRef/subresource")
        .map(|it| format!("/{it}"))
        .unwrap_or_default();
    Some(Request {
        verb: verb.to_owned(),
        resource: format!("{resource}{sub}"),
    })
}

impl Request {
    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        !["get", "list", "watch"].contains(&self.verb.as_str())
    }
}

/// How many change something.
pub fn writes(requests: &[Request]) -> usize {
    requests.iter().filter(|it| it.is_write()).count()
}

/// Counts by verb and resource, sorted.
pub fn by_kind(requests: &[Request]) -> Vec<(String, usize)> {
    let mut counts = BTreeMap::new();
    for request in requests {
        *counts
            .entry(format!("{} {}", request.verb, request.resource))
            .or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

/// Counts by verb alone, as one phrase.
pub fn by_verb(requests: &[Request]) -> String {
    let mut counts = BTreeMap::new();
    for request in requests {
        *counts.entry(request.verb.as_str()).or_insert(0) += 1;
    }
    let counts: Vec<_> = counts
        .iter()
        .map(|(verb, count)| format!("{count} {verb}"))
        .collect();
    format!("{} ({})", requests.len(), counts.join(", "))
}
