//! The demo on a cluster that is already there, reached through a kubeconfig context.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use devcluster::operator::{self, Installation};
use devcluster::{Progress, programs};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use tokio::process::Command;

use crate::binding::Binding;
use crate::{CLAIM, NAMESPACE, apply_example, query, root, watch};

/// Installs the operator there and asks the same question of a database.
pub async fn run(context: &str, exit: bool) -> anyhow::Result<()> {
    let options = KubeConfigOptions {
        context: Some(context.to_owned()),
        ..KubeConfigOptions::default()
    };
    let config = kube::Config::from_kubeconfig(&options).await;
    let config = config.with_context(|| format!("no usable context {context:?} in the kubeconfig"))?;
    let client = kube::Client::try_from(config)?;
    let (archive, image) = operator::build(root(), Progress::Stderr).await?;
    if let Some(kind) = context.strip_prefix("kind-") {
        let archive = archive.to_string_lossy().into_owned();
        command("kind", &["load", "image-archive", &archive, "--name", kind]).await?;
    }
    let helm = programs::tool("helm", Progress::Stderr).await?;
    operator::install(Installation {
        kubeconfig: &kubeconfig()?,
        context: Some(context),
        helm: &helm,
        chart: &operator::chart(root()),
        image: &image,
        values: &Value::Null,
        deadline: Duration::from_secs(180),
    })
    .await
    .with_context(|| {
        format!("the operator could not be installed; can the nodes of {context} get {image}?")
    })?;
    apply_example(&client).await?;
    watch::until_ready(&client, NAMESPACE, CLAIM).await?;
    let binding = Binding::read(&client, NAMESPACE, CLAIM).await?;
    let (port, _forward) = forward(context).await?;
    query(&binding, IpAddr::V4(Ipv4Addr::LOCALHOST), port).await?;
    if !exit {
        println!("\nThe claim stays: kubectl --context {context} -n {NAMESPACE} get dbclaim");
    }
    Ok(())
}

fn kubeconfig() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("KUBECONFIG").map(PathBuf::from);
    let default = || std::env::home_dir().map(|home| home.join(".kube/config"));
    let path = named
        .or_else(default)
        .context("neither KUBECONFIG nor a home folder is set")?;
    Kubeconfig::read_from(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(path)
}

/// Forwards a free port of this machine to the database for as long as the child lives.
async fn forward(context: &str) -> anyhow::Result<(u16, tokio::process::Child)> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let (service, ports) = (format!("service/{CLAIM}-db"), format!("{port}:5432"));
    let child = Command::new("kubectl")
        .args([
            "--context",
            context,
            "-n",
            NAMESPACE,
            "port-forward",
            &service,
            &ports,
        ])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run kubectl, which forwards the port")?;
    let open = async {
        while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .is_err()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), open)
        .await
        .context("kubectl port-forward did not open its port within 20 s")?;
    Ok((port, child))
}

async fn command(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(program).args(args).status().await;
    let status = status.with_context(|| format!("cannot run {program}"))?;
    anyhow::ensure!(
        status.success(),
        "{program} {} ended with {status}",
        args.join(" ")
    );
    Ok(())
}
