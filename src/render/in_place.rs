//! What a Pod is marked with in each size, and what it is resized with while it runs. Pure.

use serde_json::{Value, json};

use super::{Settings, objects, pod};
use crate::claim::quantity::Bytes;
use crate::claim::{Claim, Size};
use crate::class;
use crate::engine::Engine;

/// How a Pod can come to a larger size while it runs. The other sizes are rendered when they are asked for, which is
/// only while one of them is in the way.
#[derive(Clone, Debug, PartialEq)]
pub struct InPlace {
    /// The size that is wanted.
    pub wanted: Sized,
    claim: Claim,
    settings: Settings,
}

impl InPlace {
    /// What else is wanted, in the smaller sizes.
    pub fn smaller(&self) -> impl Iterator<Item = Sized> {
        Self::sizes()
            .filter(|it| it.memory < self.wanted.memory)
            .map(|it| self.sized(it))
    }

    /// And in the larger ones.
    pub fn larger(&self) -> impl Iterator<Item = Sized> {
        Self::sizes()
            .filter(|it| it.memory > self.wanted.memory)
            .map(|it| self.sized(it))
    }

    /// CPU and memory of the wanted size, as the change to a Pod.
    pub fn resources(&self) -> Value {
        json!({"spec": {"containers": [
            {"name": pod::DATABASE, "resources": pod::database_resources(&self.claim)},
        ]}})
    }

    fn sizes() -> impl Iterator<Item = Size> {
        class::SIZES.map(class::size).into_iter()
    }

    fn sized(&self, size: Size) -> Sized {
        let claim = Claim {
            size,
            asked: None,
            ..self.claim.clone()
        };
        Sized {
            memory: size.memory,
            asked: objects::asked(&claim),
            restart_hash: objects::restart_hash(&objects::pod_spec(&claim, &self.settings)),
        }
    }
}

/// A size, and what a Pod of it is marked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sized {
    /// Memory, which every size has another of.
    pub memory: Bytes,
    /// [`super::Desired::asked`].
    pub asked: String,
    /// [`super::Desired::restart_hash`].
    pub restart_hash: String,
}

pub(super) fn in_place(
    claim: &Claim,
    settings: &Settings,
    (asked, restart_hash): (&str, &str),
) -> Option<InPlace> {
    if !Engine::from(claim.engine).grows_live() {
        return None;
    }
    Some(InPlace {
        wanted: Sized {
            memory: claim.size.memory,
            asked: asked.to_owned(),
            restart_hash: restart_hash.to_owned(),
        },
        claim: claim.clone(),
        settings: settings.clone(),
    })
}
