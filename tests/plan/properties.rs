//! What no state of the cluster leads to, and that every state comes to rest.

use std::collections::BTreeSet;

use dbclaim::api::protocol::Identity;
use dbclaim::api::v1::{DeletionPolicy, EngineName};
use dbclaim::plan::observed::{Ownership, SecretState};
use dbclaim::plan::{Allowance, Plan, Step};
use dbclaim::render::{InPlace, Kind, Object, Slot};
use proptest::prelude::*;

use crate::cluster::server::secret;
use crate::cluster::{Cluster, PATIENCE, Pass, Reads, password};
use crate::sketch;

/// What holds for every pass, whatever it finds.
struct Law {
    name: &'static str,
    holds: fn(&Cluster, &Pass) -> bool,
}

macro_rules! laws {
    ($($name:ident),* $(,)?) => { [$(Law { name: stringify!($name), holds: $name }),*] };
}

const LAWS: [Law; 19] = laws![
    nothing_is_deleted_but_at_the_deletion_of_a_claim_whose_policy_is_delete,
    no_volume_is_deleted_for_another_but_one_that_was_never_bound_and_then_by_its_version,
    what_was_not_observed_is_created_and_the_rest_is_written_by_its_uid_if_it_is_ours,
    what_was_not_read_is_not_written,
    no_object_is_written_twice_in_a_wave,
    no_volume_is_made_where_data_was_ever_created,
    no_workload_is_made_on_a_volume_that_lost_its_record,
    the_workload_is_made_only_on_a_volume_that_is_ours_and_stays,
    the_record_of_a_volume_never_forgets,
    the_pod_template_changes_only_when_that_was_asked_for_or_nothing_runs,
    a_pod_is_replaced_only_when_that_was_asked_for_and_by_what_was_asked_for,
    no_pod_that_is_from_the_newest_template_is_replaced,
    what_is_started_anew_has_its_configuration,
    no_engine_counts_on_memory_that_it_has_not_got,
    a_pod_is_resized_only_to_the_size_that_was_asked_for,
    a_claim_that_goes_is_paused_refused_or_gone_gets_nothing,
    a_claim_is_let_go_only_when_all_of_its_data_is,
    a_password_that_is_unreadable_or_in_use_is_not_changed,
    applications_get_a_password_only_when_the_database_knows_it,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 768, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_state_leads_to_a_step_that_breaks_a_law(cluster in sketch::cluster()) {
        let pass = cluster.pass();
        check(&cluster, &pass)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_state_comes_to_rest(mut cluster in sketch::cluster()) {
        rest(&mut cluster)?;
    }

    #[test]
    fn every_life_comes_to_rest_with_one_password(mut cluster in sketch::cluster()) {
        cluster.reads = Reads::WhereAMarkerIsMissing;
        for _ in 0..4 {
            rest(&mut cluster)?;
            cluster.controllers();
            cluster.agent();
        }
        rest(&mut cluster)?;
        cluster.reads = Reads::Always;
        let serves = cluster.report().is_some_and(|it| it.write_test.is_some());
        if serves && !cluster.deleting && cluster.pass().plan == Plan::default() && !cluster.claim_gone {
            prop_assert!(password(&cluster.admin).is_some());
            prop_assert_eq!(password(&cluster.admin), password(&cluster.app));
        }
    }
}

/// Passes until nothing is left to do, each under the laws.
fn rest(cluster: &mut Cluster) -> Result<(), TestCaseError> {
    let mut log = Vec::new();
    for _ in 0..=PATIENCE {
        let pass = cluster.pass();
        check(cluster, &pass)?;
        if pass.plan.steps.is_empty() {
            prop_assert!(
                !pass.plan.again,
                "a pass without a write asks for another at once: {}",
                pass.text()
            );
            return Ok(());
        }
        log.push(pass.text());
        cluster.carry_out(&pass.plan);
    }
    Err(TestCaseError::fail(format!(
        "no rest after {PATIENCE} passes:\n{}",
        log.join("\n")
    )))
}

fn check(cluster: &Cluster, pass: &Pass) -> Result<(), TestCaseError> {
    for law in &LAWS {
        prop_assert!((law.holds)(cluster, pass), "{}:\n{}", law.name, pass.text());
    }
    Ok(())
}

fn nothing_is_deleted_but_at_the_deletion_of_a_claim_whose_policy_is_delete(
    cluster: &Cluster,
    pass: &Pass,
) -> bool {
    pass.plan.steps.iter().all(|step| match step {
        Step::Delete {
            allowed_by: Allowance::DeletionPolicyDelete,
            ..
        } => {
            cluster.deleting
                && cluster.has_finalizer
                && cluster.taken_over
                && cluster.spec.deletion_policy == DeletionPolicy::Delete
        }
        _ => true,
    })
}

fn no_volume_is_deleted_for_another_but_one_that_was_never_bound_and_then_by_its_version(
    cluster: &Cluster,
    pass: &Pass,
) -> bool {
    let volume = pass.observed.volume(&cluster.id);
    pass.plan.steps.iter().all(|step| match step {
        Step::Delete {
            kind,
            uid,
            resource_version,
            allowed_by: Allowance::NeverBound,
            ..
        } => volume.is_some_and(|(child, volume)| {
            let same = *uid == child.uid && resource_version.as_ref() == Some(&child.resource_version);
            same && *kind == Kind::PersistentVolumeClaim
                && volume.never_bound
                && volume
                    .identity
                    .as_ref()
                    .is_some_and(|it| it.initialized.is_none())
                && !cluster.said_initialized
                && !cluster.deleting
                && !cluster.spec.paused
        }),
        Step::Delete {
            kind: Kind::PersistentVolumeClaim,
            allowed_by,
            ..
        } => *allowed_by == Allowance::DeletionPolicyDelete,
        _ => true,
    })
}

fn what_was_not_observed_is_created_and_the_rest_is_written_by_its_uid_if_it_is_ours(
    cluster: &Cluster,
    pass: &Pass,
) -> bool {
    pass.plan.steps.iter().all(|step| {
        if let Step::CreateSecrets(_) = step {
            let unasked = |state: &SecretState| *state == SecretState::Untried;
            return unasked(&pass.observed.admin) && unasked(&pass.observed.app);
        }
        let Some((kind, name)) = target(step) else {
            return true;
        };
        let seen = seen(cluster, pass, kind, &name);
        match step {
            Step::Create(_) | Step::CreateSecrets(_) => seen.is_none(),
            Step::Apply { uid, .. }
            | Step::Label { uid, .. }
            | Step::Annotate { uid, .. }
            | Step::Resize { uid, .. }
            | Step::Delete { uid, .. } => seen == Some((uid.clone(), Ownership::Ours)),
            Step::Finalizer { .. } => true,
        }
    })
}

fn what_was_not_read_is_not_written(_: &Cluster, pass: &Pass) -> bool {
    let states = [
        (Slot::AdminSecret, &pass.observed.admin),
        (Slot::AppSecret, &pass.observed.app),
    ];
    states
        .into_iter()
        .all(|(slot, state)| *state != SecretState::Unread || written(pass, slot).is_none())
}

fn no_object_is_written_twice_in_a_wave(_: &Cluster, pass: &Pass) -> bool {
    let targets: Vec<_> = pass.plan.steps.iter().filter_map(target).collect();
    targets.iter().collect::<BTreeSet<_>>().len() == targets.len()
}

fn no_volume_is_made_where_data_was_ever_created(cluster: &Cluster, pass: &Pass) -> bool {
    let reported = cluster.report().is_some_and(|it| it.initialized.is_some());
    !created(pass, Slot::Volume) || !(cluster.said_initialized || reported && cluster.taken_over)
}

fn no_workload_is_made_on_a_volume_that_lost_its_record(cluster: &Cluster, pass: &Pass) -> bool {
    let told = || {
        let claim = pass.resolved.as_ref().unwrap();
        let config = cluster.desired(claim, &pass.observed).config.body["data"]["member.json"].to_string();
        config.contains("systemIdentifier")
    };
    !created(pass, Slot::StatefulSet) || !cluster.said_initialized || told()
}

fn the_workload_is_made_only_on_a_volume_that_is_ours_and_stays(cluster: &Cluster, pass: &Pass) -> bool {
    let volume = pass.observed.volume(&cluster.id);
    let usable = volume.is_some_and(|(child, _)| child.ownership == Ownership::Ours && !child.deleting);
    !created(pass, Slot::StatefulSet) || usable
}

fn the_record_of_a_volume_never_forgets(cluster: &Cluster, pass: &Pass) -> bool {
    let known = pass
        .observed
        .volume(&cluster.id)
        .and_then(|(_, it)| it.identity.clone());
    let (Some(known), Some(object)) = (known, written(pass, Slot::Volume)) else {
        return true;
    };
    let text = object.body["metadata"]["annotations"]["platform.acme.com/identity"]
        .as_str()
        .unwrap();
    let record: Identity = serde_json::from_str(text).unwrap();
    record.volume_id == known.volume_id
        && (known.initialized.is_none() || record.initialized == known.initialized)
}

fn the_pod_template_changes_only_when_that_was_asked_for_or_nothing_runs(
    cluster: &Cluster,
    pass: &Pass,
) -> bool {
    let (Ok(claim), Some((_, live))) = (&pass.resolved, pass.observed.workload(&cluster.id)) else {
        return true;
    };
    let wanted = cluster.desired(claim, &pass.observed);
    written(pass, Slot::StatefulSet).is_none()
        || live.restart_hash == Some(wanted.restart_hash)
        || live.asked != Some(wanted.asked)
        || live.stopped
        || cluster.spec.hibernated
}

fn replaces_a_pod(pass: &Pass) -> bool {
    let replaces = |it: &Step| {
        matches!(
            it,
            Step::Delete {
                allowed_by: Allowance::RestartAsked,
                ..
            }
        )
    };
    pass.plan.steps.iter().any(replaces)
}

fn a_pod_is_replaced_only_when_that_was_asked_for_and_by_what_was_asked_for(
    cluster: &Cluster,
    pass: &Pass,
) -> bool {
    if !replaces_a_pod(pass) {
        return true;
    }
    let (Ok(claim), Some((_, live)), Some((child, pod))) = (
        &pass.resolved,
        pass.observed.workload(&cluster.id),
        pass.observed.pod(&cluster.id),
    ) else {
        return false;
    };
    let deletes = |it: &&Step| matches!(it, Step::Delete { .. });
    let only = pass
        .plan
        .steps
        .iter()
        .filter(deletes)
        .all(|it| matches!(it, Step::Delete { kind: Kind::Pod, uid, .. } if *uid == child.uid));
    let asked = Some(cluster.desired(claim, &pass.observed).asked);
    only && pod.asked != asked
        && live.asked == asked
        && live.taken_up
        && !cluster.deleting
        && !cluster.spec.hibernated
}

fn no_pod_that_is_from_the_newest_template_is_replaced(cluster: &Cluster, pass: &Pass) -> bool {
    let newest = pass
        .observed
        .workload(&cluster.id)
        .and_then(|(_, it)| it.revision.clone());
    let of = pass
        .observed
        .pod(&cluster.id)
        .and_then(|(_, it)| it.revision.clone());
    !replaces_a_pod(pass) || of.is_none() || of != newest || was_grown(cluster, pass)
}

/// Whether the Pod was resized while it ran, and a smaller size is asked for by now.
fn was_grown(cluster: &Cluster, pass: &Pass) -> bool {
    let (Ok(claim), Some((_, pod))) = (&pass.resolved, pass.observed.pod(&cluster.id)) else {
        return false;
    };
    let in_place = cluster.desired(claim, &pass.observed).in_place;
    let mut larger = in_place.iter().flat_map(InPlace::larger);
    larger.any(|it| Some(it.asked) == pod.asked)
}

/// As long as a Pod runs on, its engine is told of a larger size only when the template says that size, and the
/// template says it only when the container has the memory and the Pod is marked.
fn no_engine_counts_on_memory_that_it_has_not_got(cluster: &Cluster, pass: &Pass) -> bool {
    let (Ok(claim), Some((_, live)), Some((_, pod))) = (
        &pass.resolved,
        pass.observed.workload(&cluster.id),
        pass.observed.pod(&cluster.id),
    ) else {
        return true;
    };
    if pass.observed.volume(&cluster.id).is_none() {
        // Nothing is started, whatever is asked for.
        return true;
    }
    let asked = Some(cluster.desired(claim, &pass.observed).asked);
    // Where the workload has lost what it says, its Pod says it.
    let started_for = live.asked.clone().or_else(|| pod.asked.clone());
    let starts = pass.plan.restarting || cluster.spec.hibernated || live.stopped || started_for == asked;
    let has = pod.memory == Some(claim.size.memory) && pod.asked == asked;
    let told = written(pass, Slot::Config).is_some() && !created(pass, Slot::Config);
    (starts || !told) && (starts || has || written(pass, Slot::StatefulSet).is_none())
}

/// A Pod is resized only for a size that was asked for, and only where the engine takes it over.
fn a_pod_is_resized_only_to_the_size_that_was_asked_for(cluster: &Cluster, pass: &Pass) -> bool {
    pass.plan.steps.iter().all(|step| match step {
        Step::Resize { memory, .. } => {
            let claim = pass.resolved.as_ref().unwrap();
            *memory == claim.size.memory && claim.engine == EngineName::Mysql && !cluster.spec.hibernated
        }
        _ => true,
    })
}

fn what_is_started_anew_has_its_configuration(cluster: &Cluster, pass: &Pass) -> bool {
    let (Ok(claim), Some((_, live))) = (&pass.resolved, pass.observed.workload(&cluster.id)) else {
        return true;
    };
    let pod = pass
        .observed
        .pod(&cluster.id)
        .and_then(|(_, it)| it.asked.clone());
    let asked = live.asked.clone().or(pod) != Some(cluster.desired(claim, &pass.observed).asked);
    let starts = written(pass, Slot::StatefulSet).is_some() && (asked || live.stopped);
    let configured = written(pass, Slot::Config).is_none() || created(pass, Slot::Config);
    configured || !(starts || replaces_a_pod(pass))
}

fn a_claim_that_goes_is_paused_refused_or_gone_gets_nothing(cluster: &Cluster, pass: &Pass) -> bool {
    let mut steps = pass.plan.steps.iter();
    if cluster.deleting {
        return steps.all(|it| matches!(it, Step::Delete { .. } | Step::Finalizer { present: false }));
    }
    let idle = cluster.spec.paused || cluster.claim_gone || pass.resolved.is_err();
    // The finalizer follows the policy, because that counts whatever else the claim says.
    let harmless = |it: &Step| matches!(it, Step::Finalizer { .. }) && !cluster.claim_gone;
    !idle || steps.all(harmless)
}

fn a_claim_is_let_go_only_when_all_of_its_data_is(cluster: &Cluster, pass: &Pass) -> bool {
    // What it has not taken over is not its data.
    let delete =
        cluster.deleting && cluster.taken_over && cluster.spec.deletion_policy == DeletionPolicy::Delete;
    if !delete || !pass.plan.steps.contains(&Step::Finalizer { present: false }) {
        return true;
    }
    let workload = [Slot::StatefulSet, Slot::Volume].into_iter().all(|slot| {
        let left = pass.observed.slot(&cluster.id, slot);
        left.is_none_or(|it| it.deleting || it.ownership != Ownership::Ours)
    });
    let ours = |it: &SecretState| {
        matches!(
            it,
            SecretState::Present {
                ownership: Ownership::Ours,
                deleting: false,
                ..
            }
        )
    };
    workload && !ours(&pass.observed.admin) && !ours(&pass.observed.app)
}

fn a_password_that_is_unreadable_or_in_use_is_not_changed(_: &Cluster, pass: &Pass) -> bool {
    let (Some(object), before @ SecretState::Present { .. }) =
        (written(pass, Slot::AdminSecret), &pass.observed.admin)
    else {
        return true;
    };
    password(before).is_some() && password(before) == password(&secret(object, String::new()))
}

fn applications_get_a_password_only_when_the_database_knows_it(cluster: &Cluster, pass: &Pass) -> bool {
    let Some(object) = written(pass, Slot::AppSecret) else {
        return true;
    };
    let given = secret(object, String::new());
    let report = pass.observed.any_report(&cluster.id);
    let recorded = pass
        .resolved
        .as_ref()
        .is_ok_and(|it| it.identity.initialized.is_some());
    if !recorded && report.is_none_or(|it| it.initialized.is_none()) {
        // A database that is still to be made takes what the agent's Secret says when it starts.
        let made = written(pass, Slot::AdminSecret).map(|it| secret(it, String::new()));
        return password(&given) == password(made.as_ref().unwrap_or(&pass.observed.admin));
    }
    match &pass.observed.admin {
        SecretState::Present {
            credentials: Some(it),
            ..
        } => {
            password(&given) == Some(&it.password)
                && report.map(|it| it.applied.credentials) == Some(it.generation)
        }
        _ => false,
    }
}

/// Kind and name of what a step writes to; none for the claim itself.
fn target(step: &Step) -> Option<(Kind, String)> {
    match step {
        Step::Create(object) | Step::Apply { object, .. } => Some((object.slot.kind(), object.name.clone())),
        Step::Label { kind, name, .. }
        | Step::Annotate { kind, name, .. }
        | Step::Delete { kind, name, .. } => Some((*kind, name.clone())),
        Step::Resize { name, .. } => Some((Kind::Pod, name.clone())),
        Step::CreateSecrets(_) | Step::Finalizer { .. } => None,
    }
}

/// UID and owner of what was observed there.
fn seen(cluster: &Cluster, pass: &Pass, kind: Kind, name: &str) -> Option<(String, Ownership)> {
    if kind != Kind::Secret {
        return pass
            .observed
            .find(kind, name)
            .map(|it| (it.uid.clone(), it.ownership.clone()));
    }
    let is_admin = name == Slot::AdminSecret.name(&cluster.id);
    match if is_admin {
        &pass.observed.admin
    } else {
        &pass.observed.app
    } {
        SecretState::Present { uid, ownership, .. } => Some((uid.clone(), ownership.clone())),
        SecretState::Made { uid } => Some((uid.clone(), Ownership::Ours)),
        SecretState::Untried | SecretState::Absent | SecretState::Unread => None,
    }
}

fn written(pass: &Pass, slot: Slot) -> Option<&Object> {
    pass.plan.steps.iter().find_map(|step| match step {
        Step::Create(object) | Step::Apply { object, .. } if object.slot == slot => Some(object),
        _ => None,
    })
}

fn created(pass: &Pass, slot: Slot) -> bool {
    pass.plan
        .steps
        .iter()
        .any(|step| matches!(step, Step::Create(object) if object.slot == slot))
}
