//! The command line of devcluster.

use std::{
    io::{Write, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};
use devcluster::{
    Cluster, Options, Profile, Progress, Running,
    operator::{Setting, Stage},
    with_interrupt,
};
use serde_json::Value;

/// The images of the default versions.
const POSTGRES_IMAGE: &str = "docker.io/library/postgres:17";
const MYSQL_IMAGE: &str = "docker.io/library/mysql:9.7";

/// A real, throw-away Kubernetes on this machine.
///
/// The programs are built from source once and kept in the cache folder of this user. Programs of Kubernetes
/// v1.36 in KUBEBUILDER_ASSETS or on PATH are used instead.
#[derive(Debug, Parser)]
#[command(name = "devcluster")]
#[expect(
    clippy::doc_markdown,
    reason = "this is the text of --help, where backticks would show"
)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start a cluster and keep it until Ctrl-C
    Up {
        /// How much of a cluster: `api` is the API server and the controllers, for any user; `fake` adds nodes that
        /// only pretend to run pods; `node` runs pods and needs root on Linux. `node` by default for root on Linux, else `api`
        #[arg(long)]
        profile: Option<ProfileName>,
        /// How many nodes, 1 to 5
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
        nodes: u8,
        /// The name that the other commands know the cluster by
        #[arg(long, default_value = "default")]
        name: String,
        /// Install the operator of this working copy as well, with the images of both engines; needs nodes
        #[arg(long)]
        operator: bool,
    },
    /// Stop a cluster, or remove what a killed one left behind
    Down {
        /// Which one; may be left out when there is only one
        #[arg(long)]
        name: Option<String>,
    },
    /// List the clusters of this user
    Status,
    /// Print the line that makes a shell use a cluster: eval "$(devcluster env)"
    Env {
        /// Which one; may be left out when there is only one
        #[arg(long)]
        name: Option<String>,
    },
    /// Make an image known to every node of a cluster
    LoadImage {
        /// An OCI archive (tar)
        file: PathBuf,
        /// Which cluster; may be left out when there is only one
        #[arg(long)]
        name: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProfileName {
    Api,
    Fake,
    Node,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().action).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(action: Action) -> anyhow::Result<()> {
    match action {
        Action::Up {
            profile,
            nodes,
            name,
            operator: false,
        } => up(profile, nodes, name).await,
        Action::Up {
            profile: None | Some(ProfileName::Node),
            nodes,
            name,
            operator: true,
        } => up_with_operator(nodes, name).await,
        Action::Up { operator: true, .. } => {
            anyhow::bail!(
                "--operator needs nodes, where the operator runs: use it with --profile node, or without --profile"
            )
        }
        Action::Down { name } => {
            let cluster = devcluster::find(name.as_deref())?;
            let step = Progress::Stderr.step(format!("stopping {}", cluster.name()));
            cluster.stop().await?;
            step.finish();
            Ok(())
        }
        Action::Status => status(),
        Action::Env { name } => {
            let cluster = devcluster::find(name.as_deref())?;
            tell(&environment(
                &cluster.kubeconfig(),
                &cluster.program("kubectl").await?,
            ));
            Ok(())
        }
        Action::LoadImage { file, name } => {
            let cluster = devcluster::find(name.as_deref())?;
            let step = Progress::Stderr.step(format!("loading {} into {}", file.display(), cluster.name()));
            cluster.load_image(&file, Progress::Stderr).await?;
            step.finish();
            Ok(())
        }
    }
}

async fn up(profile: Option<ProfileName>, nodes: u8, name: String) -> anyhow::Result<()> {
    let can_run_nodes = cfg!(target_os = "linux") && rustix::process::geteuid().is_root();
    let profile = match profile {
        Some(ProfileName::Node) => Profile::Node { nodes },
        None if can_run_nodes => Profile::Node { nodes },
        Some(ProfileName::Fake) => Profile::Fake { nodes: nodes.into() },
        Some(ProfileName::Api) | None => Profile::Api,
    };
    let options = Options {
        profile,
        name: Some(name),
        progress: Progress::Stderr,
    };
    until_interrupted(async {
        let cluster = Box::pin(Cluster::start(options)).await?;
        explain(&cluster, "kubectl get all --all-namespaces");
        Err(anyhow::Error::from(cluster.failed().await))
    })
    .await
}

/// What of the working copy is shown to somebody who has the operator.
const TRY: &str = "\
kubectl apply -f examples/postgres.yaml -f examples/mysql.yaml
  kubectl wait dbclaim --all --for=condition=Ready --timeout=5m
  kubectl get dbclaim
  kubectl describe dbclaim orders
  kubectl exec -it orders-db-1-0 -- psql -h /run/dbclaim -U postgres app   # as the superuser, or as an application:
  PGHOSTADDR=$(kubectl get service orders-db -o jsonpath='{.spec.clusterIP}') \\
    psql \"$(kubectl get secret orders-db-app -o jsonpath='{.data.uri}' | base64 -d)\"";

async fn up_with_operator(nodes: u8, name: String) -> anyhow::Result<()> {
    let engines = [POSTGRES_IMAGE, MYSQL_IMAGE];
    let setting = Setting {
        workspace: &Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
        name: Some(name),
        nodes,
        engines: &engines,
        values: &Value::Null,
        progress: Progress::Stderr,
    };
    until_interrupted(async {
        let stage = Box::pin(Stage::set(setting)).await?;
        explain(&stage.cluster, TRY);
        Err(anyhow::Error::from(stage.cluster.failed().await))
    })
    .await
}

async fn until_interrupted(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    match with_interrupt(work).await {
        // The cluster was dropped, and so removed, together with the work that was interrupted.
        Err(devcluster::Interrupted::Signal) => {
            Progress::Stderr.say("stopped");
            Ok(())
        }
        other => other?,
    }
}

/// The line that makes a shell use a cluster and its `kubectl`.
fn environment(kubeconfig: &Path, kubectl: &Path) -> String {
    let programs = kubectl.parent().unwrap_or(kubectl).display();
    format!(
        "export KUBECONFIG={} PATH={programs}:\"$PATH\"",
        kubeconfig.display()
    )
}

/// Says how the cluster is used, and what can be tried on it.
fn explain(cluster: &Cluster, to_try: &str) {
    let dns = cluster.dns().map(|dns| {
        format!("names of the cluster: DNS server {dns}; pods and Services are reachable from here\n")
    });
    tell(&format!(
        "\nIn another terminal (eval \"$(cargo devcluster env)\" does the first line):\n\n  {}\n  {to_try}\n\n\
         logs of its programs: {}\n{}Ctrl-C stops the cluster and removes it.",
        environment(cluster.kubeconfig(), &cluster.program("kubectl")),
        cluster.dir().join("log").display(),
        dns.unwrap_or_default(),
    ));
}

fn status() -> anyhow::Result<()> {
    let clusters = devcluster::list()?;
    if clusters.is_empty() {
        tell("no clusters");
    }
    for cluster in &clusters {
        tell(&described(cluster));
    }
    Ok(())
}

/// A cluster must not end because nobody reads what it says, as `println!` would have it.
fn tell(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}

fn described(cluster: &Running) -> String {
    let profile = match cluster.profile() {
        Profile::Api => "api".to_owned(),
        Profile::Fake { nodes } => format!("fake, {nodes} node(s)"),
        Profile::Node { nodes } => format!("node, {nodes} node(s)"),
    };
    let owner = match cluster.owner() {
        Some(owner) => format!("run by process {owner}"),
        None => "left behind by a killed process; the next start or `down` removes it".to_owned(),
    };
    format!(
        "{}: {profile}, since {:.0}, {owner}\n  KUBECONFIG={}",
        cluster.name(),
        cluster.started(),
        cluster.kubeconfig().display()
    )
}
