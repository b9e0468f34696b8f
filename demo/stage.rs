//! A cluster with the operator in it: built from this checkout, loaded, installed by the chart as a user would.
//! Shared by the demo and the node tests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use devcluster::operator::{self, Installation};
use devcluster::{Cluster, Options, Profile, Progress, image, programs};
use serde_json::Value;
use tokio::task::spawn_blocking;

/// The engine images that the built-in class uses for the default versions.
const ENGINE_IMAGES: [&str; 2] = ["docker.io/library/postgres:17", "docker.io/library/mysql:9.7"];
/// How long the operator may take from installed to serving.
const OPERATOR_DEADLINE: Duration = Duration::from_secs(60);

/// A running cluster with the operator in it.
pub struct Stage {
    /// The cluster.
    pub cluster: Cluster,
    /// `helm`.
    pub helm: PathBuf,
    /// The operator's image.
    pub image: String,
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Stage {
    /// Builds what is not built yet, side by side, starts the cluster, and installs the operator with these values
    /// of the chart.
    pub async fn set(nodes: u8, values: &Value, progress: Progress) -> anyhow::Result<Self> {
        let cluster = Cluster::start(Options {
            profile: Profile::Node { nodes },
            name: None,
            progress,
        });
        let images = images(progress);
        let helm = programs::tool("helm", progress);
        // Programs first: what they print about a first build is the longest wait.
        let cluster = cluster.await.context("the cluster could not be started")?;
        let (operator, image, engines) = images.await?;
        let helm = helm.await.context("helm could not be had")?;
        let step = progress.step("loading the images into the nodes");
        cluster.load_image(&operator).await?;
        for engine in &engines {
            cluster.load_image(engine).await?;
        }
        step.finish();
        let stage = Self { cluster, helm, image };
        stage.install(&stage.image, progress, values).await?;
        Ok(stage)
    }

    /// Installs the operator by its chart, or upgrades it to this image.
    pub async fn install(&self, image: &str, progress: Progress, values: &Value) -> anyhow::Result<()> {
        let step = progress.step("installing the operator with helm");
        let installation = Installation {
            kubeconfig: self.cluster.kubeconfig(),
            context: None,
            helm: &self.helm,
            chart: &root().join("charts/dbclaim"),
            image,
            values,
            deadline: OPERATOR_DEADLINE,
        };
        operator::install(installation)
            .await
            .context("the operator could not be installed")?;
        step.finish();
        Ok(())
    }
}

/// The operator's image (archive and reference) and the engines'.
pub async fn images(progress: Progress) -> anyhow::Result<(PathBuf, String, Vec<PathBuf>)> {
    let step = progress.step("building the operator (a first build takes some minutes)");
    let operator = spawn_blocking(|| {
        let cache = operator::target_folder(root()).join("images");
        std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
        operator::build_image(root(), &cache, &mut |_| {}).context("the operator could not be built")
    });
    let (archive, reference) = operator.await??;
    step.finish();
    let mut engines = Vec::new();
    for name in ENGINE_IMAGES {
        let step = progress.step(format!("making {name} from Debian packages (once)"));
        let engine = spawn_blocking(move || image::engine_archive(name, &mut |_| {})).await?;
        step.finish();
        engines.push(engine.with_context(|| format!("the image {name} could not be made"))?);
    }
    Ok((archive, reference, engines))
}
