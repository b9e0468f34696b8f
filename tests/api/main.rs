//! Tests against a real API server: schema and its messages, and the operator's line without nodes.

#![allow(unreachable_pub, reason = "modules of one program")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod acts;
mod again;
mod cluster;
mod crowd;
mod deletion;
#[path = "../harness/durations.rs"]
mod durations;
mod exposition;
mod faults;
mod grants;
mod growth;
mod lease;
mod line;
mod member;
mod milestones;
mod normal;
mod pairs;
mod program;
mod resize;
mod rights;
mod scenarios;
mod scene;
mod schema;
mod shutdown;
mod stage;
mod telemetry;
mod walks;
mod weather;

use std::process::ExitCode;
use std::sync::Arc;

use cluster::Suite;
use durations::Durations;
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They wait more than they work.
    arguments.test_threads.get_or_insert(4);
    let runtime = Arc::new(tokio::runtime::Runtime::new().expect("a runtime"));
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None, &Durations::default())).exit_code();
    }
    let done = runtime.block_on(devcluster::with_interrupt(run(&runtime, arguments)));
    match done {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            eprintln!("the API server for the tests could not be started: {error:#}");
            ExitCode::FAILURE
        }
        Err(interrupted) => {
            eprintln!("{interrupted}");
            ExitCode::FAILURE
        }
    }
}

async fn run(runtime: &Arc<tokio::runtime::Runtime>, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let suite = Arc::new(Suite::start().await?);
    let durations = Durations::default();
    let trials = trials(Some(&(runtime.clone(), suite.clone())), &durations);
    let conclusion = tokio::task::spawn_blocking(move || libtest_mimic::run(&arguments, trials)).await?;
    durations.print();
    if let Some(suite) = Arc::into_inner(suite) {
        suite.stop().await?;
    }
    Ok(conclusion.exit_code())
}

type Bench = (Arc<tokio::runtime::Runtime>, Arc<Suite>);

macro_rules! tests {
    ($bench:ident, $durations:ident: $($module:ident :: $test:ident),* $(,)?) => {
        vec![$(trial(concat!(stringify!($module), "::", stringify!($test)), $bench.cloned(), $durations, |suite| {
            Box::pin(async move { $module::$test(&suite).await })
        })),*]
    };
}

fn trials(bench: Option<&Bench>, durations: &Durations) -> Vec<Trial> {
    let named = tests![
        bench, durations:
        schema::wrong_claims_are_refused_with_words_that_help,
        schema::names_that_do_not_fit_are_refused,
        schema::unknown_fields_are_refused_under_strict_validation,
        schema::the_smallest_claim_gets_the_constant_defaults,
        schema::null_means_absent,
        schema::changes_that_cannot_be_honoured_are_refused,
        schema::storage_is_not_lowered_below_what_the_volume_has,
        schema::a_version_is_bound_to_what_has_run,
        schema::every_field_is_documented,
        telemetry::a_claim_on_its_way_to_ready_is_seen_everywhere_and_its_password_nowhere,
        lease::there_is_one_holder_at_any_time,
        lease::a_released_lease_is_taken_at_once,
        lease::a_silent_holder_is_succeeded_after_its_term,
        lease::a_renewal_survives_lost_answers_conflicts_and_refusals,
        lease::a_holder_that_was_replaced_ends_without_another_write,
        lease::a_holder_that_was_paused_past_its_term_sends_nothing,
        lease::a_deleted_lease_is_not_taken_before_its_term_is_over,
        lease::a_standby_is_ready_and_writes_nothing_until_it_leads,
        lease::a_leader_whose_lease_ran_out_writes_nothing,
    ];
    named
        .into_iter()
        .chain(more_trials(bench, durations))
        .chain(line_trials(bench, durations))
        .collect()
}

/// Deletions, a cluster that is in trouble, and what belongs to no other part.
fn more_trials(bench: Option<&Bench>, durations: &Durations) -> Vec<Trial> {
    tests![
        bench, durations:
        deletion::a_claim_that_is_deleted_in_the_foreground_ends,
        deletion::a_claim_that_is_deleted_in_the_background_ends,
        deletion::a_claim_that_is_deleted_as_an_orphan_ends_and_the_same_claim_goes_on,
        deletion::a_retained_claim_that_is_created_again_has_its_data_and_password,
        deletion::a_retained_volume_without_its_secrets_is_served_with_a_new_password,
        deletion::a_volume_that_is_deleted_is_named_and_not_made_anew,
        deletion::a_claim_whose_spec_is_refused_ends,
        deletion::a_claim_that_was_refused_leaves_what_a_former_one_has_left,
        deletion::a_paused_claim_ends,
        deletion::a_claim_that_was_deleted_while_no_operator_ran_ends,
        deletion::of_two_policies_the_safer_one_wins_when_it_changes_after_the_deletion,
        deletion::a_namespace_that_goes_ends_and_nothing_is_made_in_it,
        deletion::a_claim_that_is_deleted_together_with_its_namespace_ends,
        deletion::a_deleted_definition_leaves_what_retain_protects_and_comes_back,
        weather::an_api_server_that_is_away_for_a_while_is_waited_for,
        weather::an_api_server_that_refuses_with_429_is_waited_for,
        weather::an_api_server_that_refuses_with_500_is_waited_for,
        weather::an_api_server_that_refuses_with_503_is_waited_for,
        weather::watches_that_begin_too_late_are_begun_anew,
        weather::answers_that_come_after_the_pass_has_ended_are_made_up_for,
        weather::an_api_server_that_is_killed_and_started_again_is_found_again,
        weather::a_pass_that_panics_disturbs_no_other_claim,
        shutdown::sigterm_in_the_middle_of_work_finishes_what_runs_and_releases_the_lease,
        grants::what_is_granted_is_what_is_used,
        milestones::an_ordinary_life_is_told_once_and_a_restarted_operator_repeats_nothing,
        growth::a_growth_that_is_stuck_is_named_in_the_drivers_words_and_heals,
        growth::a_growth_that_is_refused_is_not_asked_for_at_every_pass,
        walks::a_claim_ends_where_a_fresh_one_with_its_spec_begins,
        pairs::a_claim_that_is_stored_can_be_written_to_whatever_it_says,
        pairs::a_claim_that_a_former_definition_took_can_be_written_to,
        acts::a_restart_is_done_once_however_its_annotation_comes_and_goes,
        acts::a_rotation_that_waits_is_not_withdrawn_by_taking_its_annotation_away,
        again::under_delete_a_claim_that_is_applied_again_at_once_begins_anew,
        again::under_retain_a_claim_that_is_applied_again_at_once_goes_on,
        again::a_class_that_does_not_exist_is_corrected_in_place_or_by_applying_again,
        crowd::claims_that_are_held_up_together_are_looked_at_together,
        resize::a_refused_resize_is_one_restart_and_told_why,
        resize::a_full_quota_stops_nothing_but_the_larger_size,
        rights::a_withdrawn_right_is_named_with_verb_and_resource_and_heals,
    ]
}

fn line_trials(bench: Option<&Bench>, durations: &Durations) -> impl Iterator<Item = Trial> {
    scenarios::ALL.iter().map(move |scenario| {
        let name = format!("line::every_fault_at_every_write::{}", scenario.name);
        trial(&name, bench.cloned(), durations, move |suite| {
            Box::pin(async move { line::every_fault_at_every_write(&suite, scenario).await })
        })
    })
}

type Future = futures::future::LocalBoxFuture<'static, ()>;

fn trial(
    name: &str,
    bench: Option<Bench>,
    durations: &Durations,
    test: impl FnOnce(Arc<Suite>) -> Future + Send + 'static,
) -> Trial {
    let (durations, timed) = (durations.clone(), name.to_owned());
    Trial::test(name, move || {
        let Some((runtime, suite)) = bench else {
            return Ok(());
        };
        let _timer = durations.start(&timed);
        runtime.block_on(test(suite));
        Ok(())
    })
}
