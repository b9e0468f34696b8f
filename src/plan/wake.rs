//! What the agent is told that it is behind with. Pure.

use serde_json::json;

use super::observed::SecretState;
use super::{Input, Plan, Step, certificates, writes_to_pod};
use crate::api::key;
use crate::api::protocol::{Credentials, FORMAT, MemberPhase, Report};
use crate::render::{Kind, Slot};

/// An agent that is behind is told so by an annotation of its Pod: that makes the kubelet deliver changed files
/// within a second instead of a minute and a half, and the agent write a report that was lost.
pub(super) fn agent(input: &Input<'_>, plan: &mut Plan) {
    let Input {
        claim,
        desired,
        observed,
        ..
    } = input;
    let (Some((child, pod)), Some(report)) =
        (observed.pod(&claim.id), observed.slot(&claim.id, Slot::Report))
    else {
        return;
    };
    let (credentials, certificate) = match &observed.admin {
        SecretState::Present {
            credentials, keys, ..
        } => (credentials.as_ref(), certificates::fingerprints(keys)),
        _ => (None, None),
    };
    plan.config_pending = observed.current_report(&claim.id).is_some_and(|said| {
        said.phase == MemberPhase::Running
            && said.trouble.is_none()
            && said.applied.config != desired.config_generation
    });
    let behind = match observed.current_report(&claim.id) {
        // An agent that serves readiness has reported; what it said is gone.
        None => pod.ready,
        Some(said) => {
            let applied = &said.applied;
            said.phase == MemberPhase::Running
                && (applied.config != desired.config_generation
                    || credentials.is_some_and(|it| {
                        (it.generation, it.previous_until()) != (applied.credentials, applied.previous_until)
                    })
                    || has_other(said, certificate.as_ref()))
        }
    };
    // While the Pod is resized, there is no new configuration to be told of yet.
    if !behind || child.deleting || plan.restarting || plan.growing.is_some() {
        return;
    }
    if writes_to_pod(plan) {
        plan.again = true;
        return;
    }
    let wanted = json!({
        "v": FORMAT, "config": desired.config_generation,
        "credentials": credentials.map(|it| it.generation),
        "previousUntil": credentials.and_then(Credentials::previous_until),
        "certificate": certificate, "report": report.uid,
    })
    .to_string();
    if pod.wanted.as_ref() != Some(&wanted) {
        plan.steps.push(Step::Annotate {
            kind: Kind::Pod,
            name: child.name.clone(),
            uid: child.uid.clone(),
            annotations: vec![(key::WANTED, wanted)],
        });
    }
}

/// Whether the agent has other certificates than those that were made. One that knows nothing of TLS is not
/// behind with it.
fn has_other(report: &Report, made: Option<&[String; 2]>) -> bool {
    match (&report.tls, made) {
        (Some(shown), Some([certificate, ca])) => shown.certificate != *certificate || shown.ca != *ca,
        _ => false,
    }
}
