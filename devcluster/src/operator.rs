//! The operator in the local cluster: its programs built, packed as an image, and installed by its own chart.
//!
//! Knows the workspace's layout and the chart's values. [`Stage`] does all of it on a cluster of its own; those who
//! have a cluster load the image into its nodes between [`build_image`] and [`install`].

mod build;
mod install;
mod linkage;
mod stage;

pub use build::{Binaries, BuildError, Flavour, build_binaries, build_image, target_folder};
pub use install::{InstallError, Installation, NAMESPACE, install};
pub use stage::{Setting, Stage, StageError, build, chart};
