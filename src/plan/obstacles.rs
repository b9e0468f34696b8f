//! What keeps everything of a claim from being made or changed: names that are taken, and a volume that its database must
//! not be started on.

use super::volume::is_made_for_something_else;
use super::{Blocked, Input};
use crate::api::condition::{kind, reason};
use crate::api::protocol::Report;
use crate::api::{key, label};
use crate::claim::{Claim, ClaimId, FIRST_MEMBER};
use crate::engine::Engine;
use crate::plan::observed::{Ownership, SecretState};
use crate::render::{Kind, Slot};

/// What stands in the claim's way.
pub(super) fn of(input: &Input<'_>) -> Vec<Blocked> {
    let taken = names_taken(input);
    if taken.is_empty() {
        volume_unusable(input).into_iter().collect()
    } else {
        taken
    }
}

fn names_taken(input: &Input<'_>) -> Vec<Blocked> {
    let id = &input.claim.id;
    let children = Slot::ALL.iter().filter_map(|slot| input.observed.slot(id, *slot));
    let children = children.map(|child| (child.kind, child.name.clone(), &child.ownership));
    let secrets = [
        (Slot::AdminSecret, &input.observed.admin),
        (Slot::AppSecret, &input.observed.app),
    ];
    let secrets = secrets.into_iter().filter_map(|(slot, state)| match state {
        SecretState::Present { ownership, .. } => Some((Kind::Secret, slot.name(id), ownership)),
        _ => None,
    });
    children
        .chain(secrets)
        .filter_map(|(kind, name, ownership)| taken(id, kind, &name, ownership))
        .collect()
}

fn taken(id: &ClaimId, kind: Kind, name: &str, ownership: &Ownership) -> Option<Blocked> {
    let kind_name = kind.name();
    let (reason, message) = match ownership {
        Ownership::Ours => return None,
        Ownership::FormerClaim { uid } => (
            reason::WAITING_FOR_REMOVAL,
            format!(
                "{kind_name} {name} belongs to a former claim of this name (uid {uid}) and is being removed; nothing to do but wait"
            ),
        ),
        // Nobody shall be told to remove what may hold data.
        Ownership::Foreign if matches!(kind, Kind::PersistentVolumeClaim | Kind::Secret) => (
            reason::NAME_TAKEN,
            format!(
                "{kind_name} {name} exists and is not ours; it was left as it is. If it belongs to this claim, label it {}={} and {}={}; else create the claim under another name",
                key::CLAIM,
                id.name,
                label::MANAGED_BY,
                label::MANAGER
            ),
        ),
        Ownership::Foreign => (
            reason::NAME_TAKEN,
            format!(
                "{kind_name} {name} exists and is not ours; it was left as it is. Remove it, or create the claim under another name"
            ),
        ),
    };
    Some(Blocked {
        condition: kind::ACCEPTED,
        reason,
        message,
    })
}

/// Why the database must not start on what there is, or is not, in the volume's place.
fn volume_unusable(input: &Input<'_>) -> Option<Blocked> {
    let Input { claim, observed, .. } = input;
    let id = &claim.id;
    let name = Slot::Volume.name(id);
    let tells = |report: &Report| report.initialized.is_some();
    // Before the claim has taken over anything, a report is a former claim's, which may have left it.
    let reported = input.taken_over && observed.any_report(id).is_some_and(tells);
    let expected = input.initialized_before || reported;
    let runs = observed.current_report(id).is_some_and(tells);
    let (reason, message) = match observed.volume(id) {
        None if !expected => return None,
        None => (
            reason::DATA_MISSING,
            format!(
                "PersistentVolumeClaim {name} held this claim's data and is gone; restore it under the same name with its annotations, or delete this claim and create it anew to begin with an empty database"
            ),
        ),
        Some((child, _)) if child.deleting && !expected => (
            reason::WAITING_FOR_REMOVAL,
            format!(
                "PersistentVolumeClaim {name} of a former claim is being removed; a new one is made when it is gone, nothing to do but wait"
            ),
        ),
        Some((child, _)) if child.deleting => (
            reason::VOLUME_TERMINATING,
            format!(
                "PersistentVolumeClaim {name} is being deleted and goes when its Pod stops; while it can still be read, save the data: kubectl exec {} -- {} > dump",
                id.pod(FIRST_MEMBER),
                Engine::from(claim.engine).dump_command()
            ),
        ),
        // An agent that is told nothing takes an empty volume for a new one.
        Some((_, volume)) if input.initialized_before && !volume.is_initialized() && !runs => (
            reason::DATA_MISSING,
            format!(
                "PersistentVolumeClaim {name} does not say any more that it holds this claim's data; restore its annotation {}, or the volume that had it. Nothing is started, because an empty volume would be taken for a new one",
                key::IDENTITY
            ),
        ),
        Some(_) if is_made_for_something_else(input) => return None,
        Some((_, volume)) => other_class(&name, volume.storage_class.as_ref()?, claim)?,
    };
    Some(Blocked {
        condition: kind::STORAGE_READY,
        reason,
        message,
    })
}

/// The class of a volume can never be changed; the API server would refuse the apply again and again.
fn other_class(name: &str, has: &str, claim: &Claim) -> Option<(&'static str, String)> {
    let asked = claim.storage_class.as_deref().filter(|asked| *asked != has)?;
    Some((
        reason::DATA_MISMATCH,
        format!(
            "PersistentVolumeClaim {name} is of StorageClass {has:?}, and {asked:?} is asked for; set spec.storageClassName to {has:?}, or create the claim under another name"
        ),
    ))
}
