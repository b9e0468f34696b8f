//! The `DatabaseClaim` operator: a claim flows in one straight line, and only the two ends touch the cluster.
//!
//! ```text
//!            ┌─────────────────────── controller ───────────────────────┐
//!  watch ──▶ │ observe ─▶ validate ─▶ render ─▶ plan ─▶ apply ─▶ status │ ──▶ requeue
//!            └────┬────────────────── pure ─────────────────┬───────────┘
//!                 └────────────── API server ◀──────────────┘
//! ```
//!
//! Reading order: api, claim, certificate, class, engine, validate, render, plan, status, observe, issue, apply, controller,
//! agent.
//! `docs/architecture.md` has the invariants.

// Writes, the clock and the environment have one place each; clippy.toml lists what is meant.
#![deny(clippy::disallowed_methods)]

pub mod agent;
pub mod api;
pub mod apply;
pub mod certificate;
pub mod claim;
pub mod class;
pub mod cli;
pub mod compact;
pub mod controller;
pub mod engine;
pub mod issue;
pub mod lease;
pub mod observe;
pub mod plan;
pub mod render;
pub mod status;
pub mod telemetry;
pub mod validate;
