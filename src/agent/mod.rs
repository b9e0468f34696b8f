//! The agent, PID 1 of every database container: starts, supervises and reports one database.
//!
//! Two processes of one binary. The **fencer** is PID 1: tiny and synchronous; it keeps the supervisor
//! running and is the only one that ends everything. The **supervisor** initialises the volume, runs the
//! engine, answers probes and reports. The engine survives the supervisor, which finds it again.
//!
//! Knows nothing of the operator but [`crate::api`].

mod command;
mod engine;
mod fencer;
mod files;
mod guard;
mod install;
mod log;
mod memory;
mod mysql;
mod postgres;
mod process;
mod root;
mod supervisor;
mod tls;
mod volume;

pub use command::main;
pub use guard::{DataState, Decision, Found, IdentityFile, decide};
pub use postgres::scram::Verifier;
pub use supervisor::report::{disk_bucket, patch, same_but_numbers};
