//! The `DatabaseClaim` operator.

pub mod agent;
pub mod api;
