//! The operator in the local cluster: its programs built, packed as an image, and installed by its own chart.
//!
//! Knows the workspace's layout and the chart's values, and nothing about nodes: whoever calls loads the
//! image into them between [`build_image`] and [`install`].

mod build;
mod install;
mod linkage;

pub use build::{Binaries, BuildError, Flavour, build_binaries, build_image, target_folder};
pub use install::{InstallError, Installation, NAMESPACE, install};
