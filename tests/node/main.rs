//! Real Pods, real engines, a real client, on one cluster with the operator as a
//! Deployment under its own ServiceAccount, in namespaces that enforce Pod Security `restricted`.

#![allow(unreachable_pub, reason = "modules of one program")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod admission;
mod audit;
#[path = "../../demo/binding.rs"]
mod binding;
mod changes;
mod deletion;
mod dump;
#[path = "../harness/durations.rs"]
mod durations;
mod engines;
mod interrupted;
mod leadership;
mod ledger;
mod life;
mod packaging;
mod processes;
mod rotation;
mod schedule;
mod serving;
mod storage;
mod surroundings;
mod tls;
mod trouble;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use devcluster::with_interrupt;
use durations::Durations;
use engines::Engine;
use libtest_mimic::Arguments;
use schedule::{Engines, Need, Scenario};
use world::World;

/// The table. A group in braces shares one claim on each engine: its scenarios run in this order, and each leaves the
/// claim as it was. Groups start in this order as far as their needs allow, so what takes long comes first.
///
/// `each`, `once`, `postgres`, `mysql` and `nightly` are [`Engines`]; in brackets are the [`Need`]s.
macro_rules! scenarios {
    ($({$($engines:ident $module:ident :: $name:ident $([$($need:ident),+])?),+ $(,)?})*) => {
        const SCENARIOS: &[&[Scenario]] = &[$(&[$(Scenario {
            name: concat!(stringify!($module), "::", stringify!($name)),
            test: |scene| Box::pin($module::$name(scene)),
            engines: engines!($engines),
            needs: &[$($(Need::$need),+)?],
        }),+]),*];
    };
}

macro_rules! engines {
    (each) => {
        Engines::Each
    };
    (once) => {
        Engines::Once
    };
    (postgres) => {
        Engines::On(Engine::Postgres)
    };
    (mysql) => {
        Engines::On(Engine::Mysql)
    };
    (nightly) => {
        Engines::Nightly
    };
}

scenarios![
    { once leadership::a_paused_leader_writes_nothing_when_it_wakes [Operator] }
    { once leadership::a_killed_leader_is_succeeded_and_the_claim_becomes_ready [Operator] }
    { once leadership::a_terminated_leader_hands_over_and_ends_well [Operator] }
    { once packaging::an_upgraded_operator_restarts_no_database [Operator] }
    { once packaging::an_uninstalled_operator_leaves_everything_and_a_new_one_takes_over [Operator] }
    { once life::an_operator_killed_again_and_again_ends_in_the_same_claim [Operator] }
    { once deletion::with_the_operator_killed_half_way [Operator] }
    {
        once serving::a_ready_claim_costs_no_writes,
        once serving::a_restarted_operator_writes_nothing [Operator],
    }
    {
        once interrupted::a_restarted_kubelet_disturbs_no_session [SpareNode],
        each interrupted::a_node_that_lost_power_serves_every_acknowledged_row_again [SpareNode],
    }
    { once surroundings::a_lost_node_is_named_and_heals_when_it_returns [SpareNode, Undisturbed] }
    { each storage::a_full_volume_is_named_and_heals_when_it_grows [SpareNode] }
    { each changes::another_size_is_in_force_without_a_restart_where_that_is_possible [SpareNode] }
    { mysql changes::a_pod_that_is_not_resized_is_replaced [SpareNode] }
    { once storage::storage_and_size_change_together [SpareNode] }
    {
        each serving::fencer_and_agent_stay_under_6_mb,
        each life::a_killed_agent_leaves_the_database_running,
        each life::a_deleted_admin_secret_brings_a_new_password_to_both_sides,
        each life::a_deleted_pod_comes_back_with_every_row,
        each life::a_killed_container_recovers_every_row,
        each interrupted::a_killed_agent_costs_no_row_and_no_session,
        each interrupted::a_pod_deleted_without_grace_keeps_every_acknowledged_row,
        each interrupted::an_engine_killed_for_want_of_memory_keeps_every_acknowledged_row,
    }
    {
        each changes::parameters_are_in_force_at_once_or_wait_for_a_restart,
        once changes::a_restart_that_is_asked_for_happens_once,
        once changes::a_series_that_is_written_or_not_restarts_nothing,
        once changes::a_hibernated_claim_has_no_pod_and_wakes_with_its_data,
        once changes::a_version_without_an_image_is_named_and_taken_back,
    }
    {
        once life::labels_of_the_volume_edited_by_hand_come_back,
        once life::children_deleted_by_hand_come_back,
        once life::a_deleted_report_is_written_again_without_a_restart,
        once life::a_deleted_secret_comes_back_with_the_same_password,
        once serving::a_new_team_is_labelled_without_a_restart,
        once serving::storage_grows_while_serving,
    }
    { nightly rotation::a_client_that_reads_the_secret_again_is_let_in_through_ten_rotations }
    { each rotation::a_client_that_reads_the_secret_again_is_let_in_through_three_rotations }
    { each tls::certificates_are_renewed_while_a_session_stays_open }
    { each dump::the_documented_dump_can_be_restored_into_another_claim }
    { postgres changes::an_upgrade_within_the_series_restarts_once_and_has_no_way_back }
    { postgres changes::extensions_are_created_and_those_to_be_preloaded_wait }
    { each tls::a_client_verifies_and_plaintext_is_refused_until_it_is_allowed }
    { each serving::a_client_needs_nothing_but_the_secret }
    { each trouble::an_out_of_memory_kill_is_named_with_its_limit_and_heals [Undisturbed] }
    { each trouble::a_crash_loop_is_named_with_the_last_lines_and_heals [Undisturbed] }
    { once trouble::a_spoiled_secret_is_named_and_heals [Undisturbed] }
    { once trouble::an_image_that_does_not_exist_is_named [Undisturbed] }
    { once trouble::a_pod_that_fits_nowhere_is_named_without_reading_events [Undisturbed] }
    { once trouble::a_missing_storage_class_is_named_and_heals [Undisturbed] }
    { once trouble::a_full_quota_for_volumes_is_named_and_heals [Undisturbed] }
    { once trouble::a_full_quota_for_pods_is_named_and_heals [Undisturbed] }
    { once trouble::a_limit_range_below_the_size_is_named_and_heals [Undisturbed] }
    { once trouble::a_policy_that_refuses_our_write_is_named_and_heals [Undisturbed] }
    { once surroundings::a_container_that_ignores_sigterm_is_named_as_what_is_waited_for }
    { once surroundings::pod_security_that_refuses_a_changed_pod_is_named_and_heals [Undisturbed] }
    { once deletion::with_the_database_dead }
    { once deletion::with_the_engine_frozen }
    { once deletion::with_the_image_missing }
    { once deletion::while_paused }
    { once deletion::in_the_foreground }
    { once deletion::as_an_orphan }
    { once deletion::of_the_whole_namespace }
    { once life::a_claim_made_again_has_its_data_and_password_back }
    { once life::an_emptied_volume_is_blocked_and_never_initialised }
    { once life::a_volume_of_another_version_is_refused }
    { once life::deletion_policy_delete_removes_volume_and_secrets }
    { once life::a_foreign_volume_is_left_alone }
    { once storage::a_class_that_cannot_expand_says_so_and_nothing_else_stops }
    { once storage::a_growth_that_fails_is_named_and_heals }
    { once packaging::kubectl_waits_until_a_claim_is_ready }
    { once packaging::helm_waits_for_a_claim_in_a_chart }
    { once surroundings::a_missing_default_storage_class_is_named_and_heals [Last] }
];

/// Scenarios wait more than they work, so there are more of them at once than cores.
const SIDE_BY_SIDE: usize = 5;
/// Scenarios now and then block a thread: they read files, and end processes.
const THREADS: usize = 8;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let skipped = why_not();
    if arguments.list || skipped.is_some() {
        return list_or_skip(&arguments, skipped);
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(THREADS).enable_all().build();
    let runtime = runtime.expect("a runtime");
    match runtime.block_on(with_interrupt(run(arguments))) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            eprintln!("the cluster for the node tests could not be set up: {error:#}");
            ExitCode::FAILURE
        }
        Err(interrupted) => {
            eprintln!("{interrupted}");
            ExitCode::FAILURE
        }
    }
}

/// Why nodes cannot run here.
fn why_not() -> Option<&'static str> {
    if !cfg!(target_os = "linux") {
        Some("nodes need Linux")
    } else if !rustix::process::geteuid().is_root() {
        Some("nodes need root; run the tests as root, for example with sudo")
    } else {
        None
    }
}

fn list_or_skip(arguments: &Arguments, skipped: Option<&str>) -> ExitCode {
    if let Some(reason) = skipped {
        eprintln!("node tests are skipped: {reason}");
        if std::env::var_os("CI").is_some() {
            eprintln!("with CI set, a skipped node test is a failure");
            return ExitCode::FAILURE;
        }
    }
    let (trials, _) = schedule::plan(SCENARIOS, arguments);
    let skips = skipped.is_some();
    let trials = trials.into_iter().map(|it| {
        let ignored = skips || it.has_ignored_flag();
        it.with_ignored_flag(ignored)
    });
    libtest_mimic::run(arguments, trials.collect()).exit_code()
}

async fn run(mut arguments: Arguments) -> anyhow::Result<ExitCode> {
    let world = Arc::new(Box::pin(World::new()).await?);
    let durations = Durations::default();
    let (trials, schedule) = schedule::plan(SCENARIOS, &arguments);
    let places = arguments.test_threads.unwrap_or(SIDE_BY_SIDE);
    // Tests only wait for their scenarios; the schedule decides which of these run.
    arguments.test_threads = Some(trials.len().max(2));
    let results = tokio::task::spawn_blocking(move || libtest_mimic::run(&arguments, trials));
    schedule.run(&world, places, &durations).await;
    let conclusion = results.await?;
    durations.print();
    if let Some(world) = Arc::into_inner(world) {
        world.stage.cluster.stop().await?;
    }
    Ok(conclusion.exit_code())
}
