//! What a Pod is marked with in each size, and what it is resized with while it runs. Pure.

use serde_json::{Value, json};

use super::{Settings, objects, pod};
use crate::claim::Claim;
use crate::claim::quantity::Bytes;
use crate::class;
use crate::engine::Engine;

/// How a Pod can come to a larger size while it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct InPlace {
    /// The size that is wanted.
    pub wanted: Sized,
    /// What else is wanted, in the smaller sizes.
    pub smaller: Vec<Sized>,
    /// And in the larger ones.
    pub larger: Vec<Sized>,
    /// CPU and memory of the wanted size, as the change to a Pod.
    pub resources: Value,
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
    let others = class::SIZES.map(class::size).into_iter();
    let others = others.filter(|it| it.memory != claim.size.memory);
    let (smaller, larger) = others
        .map(|it| sized(claim, settings, it))
        .partition(|it: &Sized| it.memory < claim.size.memory);
    Some(InPlace {
        wanted: Sized {
            memory: claim.size.memory,
            asked: asked.to_owned(),
            restart_hash: restart_hash.to_owned(),
        },
        smaller,
        larger,
        resources: json!({"spec": {"containers": [
            {"name": pod::DATABASE, "resources": pod::database_resources(claim)},
        ]}}),
    })
}

fn sized(claim: &Claim, settings: &Settings, size: crate::claim::Size) -> Sized {
    let claim = Claim {
        size,
        ..claim.clone()
    };
    Sized {
        memory: size.memory,
        asked: objects::asked(&claim),
        restart_hash: objects::restart_hash(&objects::pod_spec(&claim, settings)),
    }
}
