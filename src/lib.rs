//! The `DatabaseClaim` operator. Modules in reading order.

pub mod agent;
pub mod api;
pub mod apply;
pub mod claim;
pub mod class;
pub mod cli;
pub mod controller;
pub mod engine;
pub mod lease;
pub mod observe;
pub mod plan;
pub mod render;
pub mod status;
pub mod telemetry;
pub mod validate;
