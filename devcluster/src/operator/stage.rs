//! A cluster with the operator in it: built from a working copy, loaded, and installed by the chart as a user would.
//! Shared by `cargo demo`, `cargo devcluster up --operator` and the tests with real Pods.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::task::{JoinError, spawn_blocking};

use super::{BuildError, InstallError, Installation, build_image, install, target_folder};
use crate::image::{self, engine_archive};
use crate::prerequisites::{self, Task};
use crate::{Cluster, Options, Profile, Progress, cluster, programs};

/// How long the operator may take from installed to serving.
const OPERATOR_DEADLINE: Duration = Duration::from_secs(60);

/// What is set up.
#[derive(Debug, Clone)]
pub struct Setting<'a> {
    /// The working copy that the operator and its chart are taken from.
    pub workspace: &'a Path,
    /// The cluster's name; see [`Options::name`].
    pub name: Option<String>,
    /// How many nodes, 1 to 5.
    pub nodes: u8,
    /// The engines' images that the nodes get; see [`image::engine_references`].
    pub engines: &'a [&'static str],
    /// Values of the chart, an object; `null` for none.
    pub values: &'a Value,
    /// Where progress is shown.
    pub progress: Progress,
}

/// Why there is no cluster with the operator in it.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The machine lacks something.
    #[error(transparent)]
    Prerequisites(#[from] prerequisites::Error),
    /// The cluster could not be started or used.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// A program could not be had.
    #[error(transparent)]
    Programs(#[from] programs::Error),
    /// The folder for images could not be made.
    #[error("making the folder {path:?} for images failed: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The operator could not be built.
    #[error("the operator could not be built")]
    Build(#[from] BuildError),
    /// An engine's image could not be made.
    #[error("the image {reference} could not be made")]
    Engine {
        /// Its reference.
        reference: &'static str,
        /// Why.
        source: image::Error,
    },
    /// The operator could not be installed.
    #[error("the operator could not be installed")]
    Install(#[from] InstallError),
    /// A background task panicked.
    #[error("a build ended unexpectedly: {0}")]
    Task(#[from] JoinError),
}

/// A running cluster with the operator in it.
#[derive(Debug)]
pub struct Stage {
    /// The cluster.
    pub cluster: Cluster,
    /// `helm`.
    pub helm: PathBuf,
    /// The operator's image.
    pub image: String,
    chart: PathBuf,
}

impl Stage {
    /// Gets what this machine lacks, builds what is not built yet, starts the cluster, and installs the operator.
    ///
    /// # Errors
    /// [`StageError`]: whichever of these fails first.
    pub async fn set(setting: Setting<'_>) -> Result<Self, StageError> {
        let Setting {
            workspace,
            name,
            nodes,
            engines,
            values,
            progress,
        } = setting;
        prerequisites::ensure(&[Task::Nodes, Task::EngineImages], progress).await?;
        let profile = Profile::Node { nodes };
        // First, because what it prints about a first build is the longest wait.
        let cluster = Cluster::start(Options {
            profile,
            name,
            progress,
        })
        .await?;
        let (operator, image) = build(workspace, progress).await?;
        let mut archives = vec![operator];
        for reference in engines {
            archives.push(engine(reference, progress).await?);
        }
        let helm = programs::tool("helm", progress).await?;
        let step = progress.step("loading the images into the nodes");
        for archive in &archives {
            cluster.load_image(archive).await?;
        }
        step.finish();
        let stage = Self {
            cluster,
            helm,
            image,
            chart: chart(workspace),
        };
        stage.install(&stage.image, progress, values).await?;
        Ok(stage)
    }

    /// Installs the operator by its chart, or upgrades it to this image.
    ///
    /// # Errors
    /// When the operator does not serve in time.
    pub async fn install(&self, image: &str, progress: Progress, values: &Value) -> Result<(), InstallError> {
        let step = progress.step("installing the operator with helm");
        install(Installation {
            kubeconfig: self.cluster.kubeconfig(),
            context: None,
            helm: &self.helm,
            chart: &self.chart,
            image,
            values,
            deadline: OPERATOR_DEADLINE,
        })
        .await?;
        step.finish();
        Ok(())
    }
}

/// The operator's chart in a working copy.
pub fn chart(workspace: &Path) -> PathBuf {
    workspace.join("charts/dbclaim")
}

/// Builds the operator of a working copy and packs its image: the archive and its reference.
///
/// # Errors
/// When it does not compile, or cannot be packed.
pub async fn build(workspace: &Path, progress: Progress) -> Result<(PathBuf, String), StageError> {
    let step = progress.step("building the operator (a first build takes some minutes)");
    let workspace = workspace.to_owned();
    let built = spawn_blocking(move || {
        let path = target_folder(&workspace).join("images");
        let made = std::fs::create_dir_all(&path);
        made.map_err(|source| StageError::Folder {
            path: path.clone(),
            source,
        })?;
        let built = build_image(&workspace, &path, &mut |detail| step.detail(detail))?;
        step.finish();
        Ok(built)
    });
    built.await?
}

async fn engine(reference: &'static str, progress: Progress) -> Result<PathBuf, StageError> {
    let step = progress.step(format!("making {reference} from Debian packages (once)"));
    let made = spawn_blocking(move || {
        let archive = engine_archive(reference, &mut |detail| step.detail(detail));
        step.finish();
        archive
    });
    made.await?
        .map_err(|source| StageError::Engine { reference, source })
}
