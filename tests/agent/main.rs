//! The agent, as the real binary with a real PostgreSQL below one temporary directory per test.
//!
//! PostgreSQL and its `postgres` user must be there (the agent connects by peer authentication), and root to
//! become that user. Where they are not, these tests are skipped with the reason; with `CI` set that fails.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking; with a harness of its own the linter does not see that these are tests"
)]

mod certificates;
mod client;
mod config;
mod crash;
mod credentials;
mod guard;
mod member;
mod pure;
mod report;
mod service;
mod stop;
mod volume;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use member::Prerequisites;

/// A test that needs no database.
type Pure = fn();
/// A test that does.
type Real = fn(&Prerequisites);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They wait more than they compute.
    arguments.test_threads = arguments.test_threads.or(Some(6));
    let prerequisites = if arguments.list {
        Err("only listed".into())
    } else {
        member::prerequisites()
    };
    let mut trials: Vec<Trial> = [guard::TESTS, pure::TESTS]
        .concat()
        .into_iter()
        .map(pure)
        .collect();
    for (name, test) in [
        certificates::TESTS,
        config::TESTS,
        crash::TESTS,
        credentials::TESTS,
        report::TESTS,
        service::TESTS,
        stop::TESTS,
        volume::TESTS,
    ]
    .concat()
    {
        trials.push(real(name, test, &prerequisites));
    }
    if let Err(reason) = &prerequisites
        && !arguments.list
    {
        println!("skipped, for {reason}: every test with a real PostgreSQL");
        if std::env::var_os("CI").is_some() {
            return ExitCode::FAILURE;
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn pure((name, test): (&'static str, Pure)) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

fn real(name: &'static str, test: Real, prerequisites: &Result<Prerequisites, String>) -> Trial {
    let ignored = prerequisites.is_err();
    let prerequisites = prerequisites.clone();
    let trial = Trial::test(name, move || {
        test(&prerequisites.map_err(Failed::from)?);
        Ok(())
    });
    trial.with_ignored_flag(ignored)
}
