//! What was requested by an annotation that is gone. Removing an annotation requests nothing. Pure.

use super::observed::Observed;
use crate::claim::{Claim, Version};
use crate::class;
use crate::engine::Engine;
use crate::render::asked;

/// The claim, where nothing is known of a restart, with what its database was started for. The status remembers the
/// newest request; but it is empty after a restore and was not kept by former operators, and a database may have been
/// started for a request of which no record is left. It is not restarted for that alone.
pub fn settled(claim: Claim, observed: &Observed) -> Claim {
    if claim.restart.is_some() {
        return claim;
    }
    let asked_before = observed.workload(&claim.id).and_then(|(_, it)| it.asked.clone());
    // Both say the same where the database was started for it and nothing has changed it by hand.
    let started_for = observed.pod(&claim.id).and_then(|(_, it)| it.asked.clone());
    let before = asked_before.filter(|it| started_for.as_ref() == Some(it) && *it != asked(&claim));
    match before {
        Some(before) if was_restarted(&claim, &before) && runs(&claim, observed) => Claim {
            asked: Some(before),
            ..claim
        },
        _ => claim,
    }
}

/// Whether a database was started for a request by annotation: whether none of the sizes and versions of the claim's
/// series explains the hash alone.
fn was_restarted(claim: &Claim, hash: &str) -> bool {
    // No more numbers than the API accepts in `spec.version`.
    let minors = (0..100).map(Some).chain([None]);
    let mut started = minors.flat_map(|minor| class::SIZES.map(|size| (minor, size)));
    !started.any(|(minor, size)| {
        let version = Version {
            minor,
            ..claim.version.clone()
        };
        let size = class::size(size);
        let without = Claim {
            size,
            version,
            ..claim.clone()
        };
        asked(&without) == hash
    })
}

/// Whether what runs has the requested size and version.
fn runs(claim: &Claim, observed: &Observed) -> bool {
    let size = observed.pod(&claim.id).and_then(|(_, pod)| pod.requested_memory);
    let version = observed
        .any_report(&claim.id)
        .and_then(|it| it.version.as_deref());
    let numbers = Engine::from(claim.engine).series_numbers();
    let version = version.and_then(|it| Version::parse(it, numbers));
    let same = |it: Version| {
        it.major == claim.version.major && claim.version.minor.is_none_or(|minor| it.minor == Some(minor))
    };
    size == Some(claim.size.memory) && version.is_some_and(same)
}
