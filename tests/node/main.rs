//! Real Pods, real engines, a real client: every scenario on every engine, on one cluster with the operator as a
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
mod engines;
mod interrupted;
mod leadership;
mod ledger;
mod life;
mod packaging;
mod processes;
mod rotation;
mod serving;
#[path = "../../demo/stage.rs"]
mod stage;
mod storage;
mod surroundings;
mod tls;
mod trouble;
mod world;

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::process::ExitCode;
use std::sync::Arc;

use devcluster::with_interrupt;
use engines::Engine;
use futures::FutureExt as _;
use futures::future::{BoxFuture, OptionFuture};
use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;
use world::{Scene, World};

type Scenario = fn(Scene) -> BoxFuture<'static, ()>;

/// The table: every scenario runs on every engine.
macro_rules! scenarios {
    ($($module:ident :: $name:ident),* $(,)?) => {
        const SCENARIOS: &[(&str, Scenario)] =
            &[$((concat!(stringify!($module), "::", stringify!($name)), |scene| Box::pin($module::$name(scene)))),*];
    };
}

scenarios![
    serving::a_client_needs_nothing_but_the_secret,
    serving::fencer_and_agent_stay_under_6_mb,
    serving::a_ready_claim_costs_no_writes,
    serving::a_restarted_operator_writes_nothing,
    serving::a_new_team_is_labelled_without_a_restart,
    serving::storage_grows_while_serving,
    dump::the_documented_dump_can_be_restored_into_another_claim,
    life::a_deleted_pod_comes_back_with_every_row,
    life::a_killed_agent_leaves_the_database_running,
    life::a_killed_container_recovers_every_row,
    life::an_operator_killed_again_and_again_ends_in_the_same_claim,
    life::children_deleted_by_hand_come_back,
    life::labels_of_the_volume_edited_by_hand_come_back,
    life::a_deleted_report_is_written_again_without_a_restart,
    life::a_deleted_secret_comes_back_with_the_same_password,
    life::a_deleted_admin_secret_brings_a_new_password_to_both_sides,
    life::a_claim_made_again_has_its_data_and_password_back,
    life::deletion_policy_delete_removes_volume_and_secrets,
    life::an_emptied_volume_is_blocked_and_never_initialised,
    life::a_foreign_volume_is_left_alone,
    life::a_volume_of_another_version_is_refused,
    changes::a_restart_that_is_asked_for_happens_once,
    changes::another_size_is_in_force_without_a_restart_where_that_is_possible,
    changes::a_pod_that_is_not_resized_is_replaced,
    changes::an_upgrade_within_the_series_restarts_once_and_has_no_way_back,
    changes::a_series_that_is_written_or_not_restarts_nothing,
    changes::a_version_without_an_image_is_named_and_taken_back,
    changes::parameters_are_in_force_at_once_or_wait_for_a_restart,
    changes::extensions_are_created_and_those_to_be_preloaded_wait,
    changes::a_hibernated_claim_has_no_pod_and_wakes_with_its_data,
    rotation::a_client_that_reads_the_secret_again_is_let_in_through_ten_rotations,
    storage::a_full_volume_is_named_and_heals_when_it_grows,
    storage::a_class_that_cannot_expand_says_so_and_nothing_else_stops,
    storage::a_growth_that_fails_is_named_and_heals,
    storage::storage_and_size_change_together,
    tls::a_client_verifies_and_plaintext_is_refused_until_it_is_allowed,
    tls::certificates_are_renewed_while_a_session_stays_open,
    trouble::an_image_that_does_not_exist_is_named,
    trouble::a_pod_that_fits_nowhere_is_named_without_reading_events,
    trouble::a_missing_storage_class_is_named_and_heals,
    trouble::a_full_quota_for_volumes_is_named_and_heals,
    trouble::a_full_quota_for_pods_is_named_and_heals,
    trouble::a_limit_range_below_the_size_is_named_and_heals,
    trouble::a_policy_that_refuses_our_write_is_named_and_heals,
    trouble::an_out_of_memory_kill_is_named_with_its_limit_and_heals,
    trouble::a_crash_loop_is_named_with_the_last_lines_and_heals,
    trouble::a_spoiled_secret_is_named_and_heals,
    deletion::with_the_database_dead,
    deletion::with_the_engine_frozen,
    deletion::with_the_image_missing,
    deletion::while_paused,
    deletion::in_the_foreground,
    deletion::as_an_orphan,
    deletion::with_the_operator_killed_half_way,
    deletion::of_the_whole_namespace,
    interrupted::a_node_that_lost_power_serves_every_acknowledged_row_again,
    interrupted::a_restarted_kubelet_disturbs_no_session,
    interrupted::a_pod_deleted_without_grace_keeps_every_acknowledged_row,
    interrupted::a_killed_agent_costs_no_row_and_no_session,
    interrupted::an_engine_killed_for_want_of_memory_keeps_every_acknowledged_row,
    surroundings::a_lost_node_is_named_and_heals_when_it_returns,
    surroundings::pod_security_that_refuses_a_changed_pod_is_named_and_heals,
    leadership::a_killed_leader_is_succeeded_and_the_claim_becomes_ready,
    leadership::a_terminated_leader_hands_over_and_ends_well,
    leadership::a_paused_leader_writes_nothing_when_it_wakes,
    packaging::kubectl_waits_until_a_claim_is_ready,
    packaging::helm_waits_for_a_claim_in_a_chart,
    packaging::an_upgraded_operator_restarts_no_database,
    packaging::an_uninstalled_operator_leaves_everything_and_a_new_one_takes_over,
    // Last, because they wait until all others are over.
    surroundings::a_missing_default_storage_class_is_named_and_heals,
];

/// Scenarios that change what all others rely on.
const ALONE: [&str; 2] = [
    "surroundings::a_missing_default_storage_class_is_named_and_heals",
    "tls::certificates_are_renewed_while_a_session_stays_open",
];

/// Scenarios wait more than they work, so there are more of them at once than cores.
const SIDE_BY_SIDE: usize = 4;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(SIDE_BY_SIDE);
    let skipped = why_not();
    if arguments.list || skipped.is_some() {
        return list_or_skip(&arguments, skipped);
    }
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    match runtime.block_on(with_interrupt(run(&runtime, arguments))) {
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
    let trials = names().map(|(name, ..)| Trial::test(name, || Ok(())).with_ignored_flag(skipped.is_some()));
    libtest_mimic::run(arguments, trials.collect()).exit_code()
}

fn names() -> impl Iterator<Item = (String, &'static str, Engine, Scenario)> {
    Engine::ALL.into_iter().flat_map(|engine| {
        SCENARIOS
            .iter()
            .map(move |(name, scenario)| (format!("{}::{name}", engine.name()), *name, engine, *scenario))
    })
}

async fn run(runtime: &Arc<Runtime>, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let world = Arc::new(Box::pin(World::new()).await?);
    let trials = names().map(|(name, scenario, engine, test)| {
        let (runtime, world) = (runtime.clone(), world.clone());
        Trial::test(name, move || {
            let scene = scenario.rsplit("::").next().unwrap_or(scenario);
            let played = runtime.block_on(async {
                let alone = ALONE.contains(&scenario);
                let _alone = OptionFuture::from(alone.then(|| world.shared.write())).await;
                let _together = OptionFuture::from((!alone).then(|| world.shared.read())).await;
                // An Event is told by the process that saw the change: here, one that nobody kills meanwhile.
                let undisturbed = ["trouble::", "surroundings::"]
                    .iter()
                    .any(|it| scenario.starts_with(it));
                let undisturbed = undisturbed.then(|| world.operator.read());
                let _undisturbed = OptionFuture::from(undisturbed).await;
                let scene = Scene::new(world.clone(), engine, scene).await;
                let namespace = scene.namespace.clone();
                let played = AssertUnwindSafe(test(scene)).catch_unwind().await;
                // The node is small; what has been played makes room.
                world.remove(&namespace).await;
                played
            });
            played.map_err(|panic| resume_unwind(panic))
        })
    });
    let trials = trials.collect();
    let conclusion = tokio::task::spawn_blocking(move || libtest_mimic::run(&arguments, trials)).await?;
    if let Some(world) = Arc::into_inner(world) {
        world.stage.cluster.stop().await?;
    }
    Ok(conclusion.exit_code())
}
