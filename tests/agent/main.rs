//! The agent, as the real binary with real engines below one temporary directory per test.
//!
//! Engines are administered by whom the system says is connected, so their users must be there, and root to become
//! them: PostgreSQL is this machine's, MySQL that of the image that the node tests use. Where one is missing, its
//! tests are skipped with the reason; with `CI` set that fails.

#![allow(unreachable_pub, reason = "modules of one program")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking; with a harness of its own the linter does not see that these are tests"
)]

mod access;
mod admin;
mod certificates;
mod client;
mod config;
mod crash;
mod credentials;
#[path = "../harness/durations.rs"]
mod durations;
mod engines;
mod guard;
mod logins;
mod member;
mod mysql;
mod pure;
mod report;
mod service;
mod stop;
mod volume;

use std::process::ExitCode;

use devcluster::Progress;
use devcluster::prerequisites::{self, Task};
use durations::Durations;
use engines::{Engine, Prerequisites};
use libtest_mimic::{Arguments, Failed, Trial};

/// A test that needs no database.
type Pure = fn();
/// A test that does.
type Real = fn(&Prerequisites);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They wait more than they compute.
    arguments.test_threads = arguments.test_threads.or(Some(6));
    let durations = Durations::default();
    let mut trials: Vec<Trial> = [guard::TESTS, pure::TESTS]
        .concat()
        .into_iter()
        .map(|test| pure(test, &durations))
        .collect();
    let mut missing = false;
    let installed = arguments.list || install(&Engine::ALL.map(Engine::needs).concat()).is_ok();
    for engine in Engine::ALL {
        let prerequisites = if arguments.list {
            Err("only listed".into())
        } else if installed {
            engine.prerequisites()
        } else {
            // The other engine may lack nothing.
            install(engine.needs()).and_then(|()| engine.prerequisites())
        };
        let engine = engine.dialect().name;
        if let Err(reason) = &prerequisites
            && !arguments.list
        {
            println!("skipped, for {reason}: every test with a real {engine}");
            missing = true;
        }
        for (name, test) in tests(engine) {
            trials.push(real(
                format!("{engine}::{name}"),
                test,
                &prerequisites,
                &durations,
            ));
        }
    }
    if missing && std::env::var_os("CI").is_some() {
        return ExitCode::FAILURE;
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    durations.print();
    conclusion.exit_code()
}

/// Installs what these tasks need where that is possible; else says all that is missing.
fn install(tasks: &[Task]) -> Result<(), String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let ensured = runtime.block_on(prerequisites::ensure(tasks, Progress::Stderr));
    ensured.map_err(|error| error.to_string())
}

/// What every engine must do, and what only this one can.
fn tests(engine: &str) -> Vec<(&'static str, Real)> {
    let own: &[_] = match engine {
        "postgres" => &[
            access::POSTGRES,
            crash::POSTGRES,
            logins::POSTGRES,
            service::POSTGRES,
        ],
        _ => &[mysql::TESTS],
    };
    let all: &[_] = &[
        access::TESTS,
        certificates::TESTS,
        config::TESTS,
        crash::TESTS,
        credentials::TESTS,
        report::TESTS,
        service::TESTS,
        stop::TESTS,
        volume::TESTS,
    ];
    [all, own].concat().concat()
}

fn pure((name, test): (&'static str, Pure), durations: &Durations) -> Trial {
    let durations = durations.clone();
    Trial::test(name, move || {
        let _timer = durations.start(name);
        test();
        Ok(())
    })
}

fn real(
    name: String,
    test: Real,
    prerequisites: &Result<Prerequisites, String>,
    durations: &Durations,
) -> Trial {
    let ignored = prerequisites.is_err();
    let (prerequisites, durations, timed) = (prerequisites.clone(), durations.clone(), name.clone());
    let trial = Trial::test(name, move || {
        let _timer = durations.start(&timed);
        test(&prerequisites.map_err(Failed::from)?);
        Ok(())
    });
    trial.with_ignored_flag(ignored)
}
