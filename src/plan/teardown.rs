//! What is deleted with a claim, in which order, and what stays. Pure; works however invalid the spec is,
//! because it looks at nothing but the policy and what is there.

use crate::api::v1::DeletionPolicy;
use crate::claim::ClaimId;
use crate::render::{Kind, Slot};

use super::observed::{Observed, Ownership, SecretState};
use super::{Allowance, Plan, Step};

/// Plans for a claim with a deletionTimestamp. Nothing is created or healed.
///
/// Under `Retain` the volume and the Secrets have no owner, so there is nothing to do but let go. Under
/// `Delete`, first the workload is told to stop, then volume and Secrets are deleted, and the claim goes when
/// all these deletes have been accepted. A claim that has not `taken_over` what there is, because it was refused
/// or blocked, has no say in it: that is what a former claim of its name has left.
pub fn teardown(
    id: &ClaimId,
    policy: DeletionPolicy,
    has_finalizer: bool,
    taken_over: bool,
    observed: &Observed,
) -> Plan {
    let mut plan = Plan::default();
    if !has_finalizer {
        return plan;
    }
    if policy == DeletionPolicy::Retain || !taken_over {
        plan.steps.push(Step::Finalizer { present: false });
        return plan;
    }
    for wave in [
        &[Slot::StatefulSet][..],
        &[Slot::Volume, Slot::AdminSecret, Slot::AppSecret],
    ] {
        plan.steps
            .extend(wave.iter().filter_map(|slot| delete(id, *slot, observed)));
        if !plan.steps.is_empty() {
            plan.again = true;
            return plan;
        }
    }
    plan.steps.push(Step::Finalizer { present: false });
    plan
}

fn delete(id: &ClaimId, slot: Slot, observed: &Observed) -> Option<Step> {
    let uid = match slot {
        Slot::AdminSecret => secret_uid(&observed.admin)?,
        Slot::AppSecret => secret_uid(&observed.app)?,
        _ => observed
            .slot(id, slot)
            .filter(|child| child.ownership == Ownership::Ours && !child.deleting)
            .map(|child| child.uid.clone())?,
    };
    let kind: Kind = slot.kind();
    Some(Step::Delete {
        kind,
        name: slot.name(id),
        uid,
        resource_version: None,
        allowed_by: Allowance::DeletionPolicyDelete,
    })
}

fn secret_uid(state: &SecretState) -> Option<String> {
    match state {
        SecretState::Present {
            uid,
            ownership: Ownership::Ours,
            deleting: false,
            ..
        } => Some(uid.clone()),
        _ => None,
    }
}
