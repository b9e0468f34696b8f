//! What can go wrong in a pass, and how it is retried.

use thiserror::Error;

use crate::status::Refusal;
use crate::{apply, observe, validate};

/// How an error is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It passes by itself: the API server is away, busy or slow.
    Transient,
    /// Our view was old: look again soon.
    Conflict,
    /// The same request will be refused again until somebody changes something.
    Terminal,
}

/// A pass failed.
#[derive(Debug, Error)]
pub enum Error {
    /// The object did not come from an API server.
    #[error(transparent)]
    Identify(#[from] validate::Violation),
    /// Reading failed.
    #[error(transparent)]
    Observe(#[from] observe::Error),
    /// A write failed; the others of its wave were carried out.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// The pass took too long.
    #[error("the pass took longer than {0:?}; the API server may be slow")]
    Timeout(std::time::Duration),
    /// A defect of ours; this claim is isolated, the others go on.
    #[error("the pass panicked: {0}; this is a defect of dbclaim, please report it")]
    Panicked(String),
}

impl Class {
    /// A static name for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Conflict => "conflict",
            Self::Terminal => "terminal",
        }
    }
}

impl Error {
    /// How it is retried.
    pub fn class(&self) -> Class {
        match self {
            Self::Identify(_) | Self::Panicked(_) => Class::Terminal,
            Self::Timeout(_) => Class::Transient,
            Self::Observe(observe::Error::Read { source, .. }) => classify(source),
            Self::Apply(apply::Error::Write { source, .. }) => classify(source),
        }
    }

    /// What the API server refused, in its own words; `None` for what passes by itself.
    pub fn refusal(&self) -> Option<Refusal> {
        let (verb, kind, name, source) = match self {
            Self::Observe(observe::Error::Read { kind, name, source }) => ("read", *kind, name, source),
            Self::Apply(apply::Error::Write {
                verb,
                kind,
                name,
                source,
                ..
            }) => (*verb, *kind, name, &**source),
            _ => return None,
        };
        let kube::Error::Api(status) = source else {
            return None;
        };
        let refused = match status.code {
            400 | 403 | 405 | 413 => true,
            // Our UID in the body met another object of that name: our view was old.
            422 => !status.message.contains("metadata.uid"),
            // An admission webhook that does not answer.
            500 => status.message.contains("webhook"),
            _ => false,
        };
        // In a namespace that is going nothing is to be made, and nobody to be told.
        (refused && !self.namespace_goes()).then(|| Refusal {
            verb,
            kind,
            name: name.clone(),
            words: status.message.clone(),
        })
    }

    /// Whether nothing can be made in the claim's namespace any more, because it is being deleted; that never ends
    /// in anything else than the claim's own end.
    pub fn namespace_goes(&self) -> bool {
        let Self::Apply(apply::Error::Write { source, .. }) = self else {
            return false;
        };
        matches!(&**source, kube::Error::Api(status)
            if status.code == 403 && status.message.contains("because it is being terminated"))
    }

    /// A static name for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Identify(_) => "identify",
            Self::Observe(_) => "observe",
            Self::Apply(_) => "apply",
            Self::Timeout(_) => "timeout",
            Self::Panicked(_) => "panic",
        }
    }
}

fn classify(error: &kube::Error) -> Class {
    match error {
        // 409: changed meanwhile, or exists. 422 with our UID in the body: another object of that name.
        kube::Error::Api(status) => match status.code {
            404 | 409 => Class::Conflict,
            400 | 401 | 403 | 405 | 413 | 422 => Class::Terminal,
            _ => Class::Transient,
        },
        kube::Error::SerdeError(_) => Class::Terminal,
        _ => Class::Transient,
    }
}
