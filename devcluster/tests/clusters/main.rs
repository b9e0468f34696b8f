//! Clusters are started, used, killed, interrupted and stopped for real.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends by panicking"
)]

mod api;
mod nodes;
mod outside;
