//! A real, throw-away Kubernetes on this machine, for the demo, the tests and the benchmarks.
//!
//! [`Cluster::start`] builds the Kubernetes programs once (they are cached), starts them and waits until the
//! cluster is usable. Whatever happens then (stop, drop, Ctrl-C, a panic, even SIGKILL of the owner), nothing
//! stays behind: at the latest the next start cleans it.
//!
//! Nothing in here knows about databases or claims.

mod addons;
mod address;
mod cgroup;
mod claim;
mod cluster;
mod command;
mod component;
mod control_plane;
mod dns;
mod fake;
pub mod image;
mod interrupt;
mod kubeconfig;
mod leftovers;
mod mounts;
mod network;
mod node;
pub mod operator;
mod pki;
pub mod prerequisites;
mod process;
pub mod programs;
mod progress;
mod record;
mod running;
pub mod storage;
mod tunables;

pub use cluster::{Cluster, Error, Options, Profile};
pub use interrupt::{Interrupted, with_interrupt};
pub use node::Node;
pub use progress::{Progress, Step};
pub use running::{Running, find, list};
