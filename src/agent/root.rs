//! Where the fixed paths of [`crate::api::protocol::path`] are; tests move them all under one directory.

use std::path::PathBuf;

use crate::api::protocol::path;

/// Prefix of every fixed path; empty in a container.
#[derive(Clone, Debug)]
pub(super) struct Root(PathBuf);

impl Root {
    pub(super) fn new(prefix: PathBuf) -> Self {
        Self(prefix)
    }

    pub(super) fn volume(&self) -> PathBuf {
        self.at(path::VOLUME)
    }

    pub(super) fn run(&self) -> PathBuf {
        self.at(path::RUN)
    }

    pub(super) fn config(&self) -> PathBuf {
        self.at(path::CONFIG)
    }

    pub(super) fn credentials(&self) -> PathBuf {
        self.at(path::CREDENTIALS)
    }

    pub(super) fn pod(&self) -> PathBuf {
        self.at(path::POD)
    }

    pub(super) fn api(&self) -> PathBuf {
        self.at(path::API)
    }

    fn at(&self, absolute: &str) -> PathBuf {
        if self.0.as_os_str().is_empty() {
            return PathBuf::from(absolute);
        }
        self.0.join(absolute.trim_start_matches('/'))
    }
}
