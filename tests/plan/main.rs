//! What the planner decides, as tables: a named state of the cluster, and what is done about it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking; the linter does not see that the model is part of tests"
)]
#![expect(unreachable_pub, reason = "modules of one program")]

mod acts;
mod adoption;
mod cluster;
mod credentials;
mod cut;
mod drift;
mod properties;
mod rollout;
mod rotation;
mod sketch;
mod teardown;
mod walks;
