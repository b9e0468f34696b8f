//! The `DatabaseClaim` operator.

pub mod api;
