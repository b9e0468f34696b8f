//! Command line and environment, read once and checked: `Args` in, `Config` out. The only place where the
//! environment is read.

mod connect;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use http::StatusCode;
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::api::crd;
use crate::controller::{self, Context};
use crate::issue::Lifetimes;
use crate::lease::{Elector, Leadership, Terms};
use crate::render::Settings;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::{http as probes, logs, traces};
use connect::Server;

/// Turns DatabaseClaims into running databases.
#[derive(Debug, Parser)]
#[command(name = "dbclaim", version, about, subcommand_required = false)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator against the current kubeconfig or, in a Pod, its own cluster (the default).
    Run(Run),
    /// Print the CustomResourceDefinitions as YAML.
    Crd,
}

#[derive(Clone, Debug, clap::Args)]
struct Run {
    /// Image with the agent, which an init container copies into every database Pod; usually the operator's
    /// own image.
    #[arg(long, env = "DBCLAIM_AGENT_IMAGE", value_name = "IMAGE")]
    agent_image: Option<String>,

    /// Secrets in each claim's namespace with which the images are pulled, separated by commas.
    #[arg(
        long,
        env = "DBCLAIM_AGENT_PULL_SECRETS",
        value_delimiter = ',',
        value_name = "NAMES"
    )]
    agent_pull_secrets: Vec<String>,

    /// Only serve claims in this namespace. By default, in all.
    #[arg(long, env = "DBCLAIM_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Work only while holding a Lease, for several replicas of which one is active.
    #[arg(long, env = "DBCLAIM_LEADER_ELECT", action = clap::ArgAction::Set, default_value_t = false,
          num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false")]
    leader_elect: bool,

    /// Namespace of the Lease. By default the Pod's or, outside a cluster, the kubeconfig's.
    #[arg(long, env = "DBCLAIM_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    lease_namespace: Option<String>,

    /// Name of the Lease.
    #[arg(
        long,
        env = "DBCLAIM_LEASE_NAME",
        default_value = "dbclaim",
        value_name = "NAME"
    )]
    lease_name: String,

    /// Claims that are worked on side by side.
    #[arg(long, env = "DBCLAIM_CONCURRENCY", default_value_t = 16, value_name = "NUMBER",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,

    /// Longest time in seconds that one pass over a claim may take.
    #[arg(long, env = "DBCLAIM_PASS_TIMEOUT", default_value_t = 60, value_name = "SECONDS",
          value_parser = clap::value_parser!(u16).range(5..=3600))]
    pass_timeout: u16,

    /// Life in seconds of the certificates that databases show. Each is renewed at two thirds of it, without a
    /// restart.
    #[arg(long, env = "DBCLAIM_CERTIFICATE_LIFETIME", default_value_t = 90 * 24 * 3600, value_name = "SECONDS",
          value_parser = clap::value_parser!(u32).range(60..=10 * 365 * 24 * 3600))]
    certificate_lifetime: u32,

    /// Life in seconds of the certificate authority that each claim has; at least four times that of
    /// certificates. At two thirds of it a new one joins, and takes over once clients had time to learn of it.
    #[arg(long, env = "DBCLAIM_AUTHORITY_LIFETIME", default_value_t = 3650 * 24 * 3600, value_name = "SECONDS",
          value_parser = clap::value_parser!(u32).range(240..=50 * 365 * 24 * 3600))]
    authority_lifetime: u32,

    /// Time in seconds for which rotated credentials stay valid after the Secret has the new ones.
    #[arg(long, env = "DBCLAIM_CREDENTIALS_OVERLAP", default_value_t = 24 * 3600, value_name = "SECONDS",
          value_parser = clap::value_parser!(u32).range(1..=365 * 24 * 3600))]
    credentials_overlap: u32,

    /// Address for probes and metrics: /livez, /readyz, /metrics.
    #[arg(
        long,
        env = "DBCLAIM_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,

    /// Log filter: a level (error, warn, info, debug, trace) or target=level pairs.
    #[arg(long, env = "DBCLAIM_LOG", default_value = "info", value_name = "FILTER")]
    log: String,

    /// Log format.
    #[arg(
        long,
        env = "DBCLAIM_LOG_FORMAT",
        default_value = "auto",
        value_name = "FORMAT"
    )]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl From<LogFormat> for logs::Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Auto => Self::Auto,
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

/// Entry point of `dbclaim`: parses, runs, prints the cause chain of what went wrong.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Crd) => print_crd(),
        Some(Command::Run(run)) => operate(run),
        None => operate(cli.run),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dbclaim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_crd() -> anyhow::Result<()> {
    use std::io::Write as _;
    let text = crd::yaml().context("cannot write the CRD")?;
    // A closed pipe (`dbclaim crd | head`) is the reader's choice.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn operate(run: Run) -> anyhow::Result<()> {
    let (recorder, exporter) = traces::settings::Settings::read(environment)?
        .map(traces::pipeline)
        .unzip();
    logs::start(&run.log, run.log_format.into(), recorder)?;
    let config = config(&run)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let work = Box::pin(serve(run, config));
    let served = runtime.block_on(async {
        match exporter {
            Some(exporter) => Box::pin(exporter.during(work)).await,
            None => work.await,
        }
    });
    // Whoever has lost the lease must not wait for a name that is being looked up.
    runtime.shutdown_background();
    served
}

/// For variables that belong to a standard, not to us.
#[expect(clippy::disallowed_methods, reason = "the environment is read here")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn config(run: &Run) -> anyhow::Result<controller::Config> {
    let agent_image = run.agent_image.clone().filter(|image| !image.trim().is_empty()).context(
        "no agent image: set --agent-image or DBCLAIM_AGENT_IMAGE to the image that holds dbclaim-agent, usually the operator's own",
    )?;
    let pull_secrets = run
        .agent_pull_secrets
        .iter()
        .filter(|name| !name.is_empty())
        .cloned()
        .collect();
    anyhow::ensure!(
        run.authority_lifetime / 4 >= run.certificate_lifetime,
        "--authority-lifetime is {} s and must be at least four times --certificate-lifetime, which is {} s",
        run.authority_lifetime,
        run.certificate_lifetime
    );
    Ok(controller::Config {
        settings: Settings {
            agent_image,
            pull_secrets,
        },
        namespace: run.namespace.clone().filter(|namespace| !namespace.is_empty()),
        concurrency: run.concurrency,
        pass_timeout: Duration::from_secs(run.pass_timeout.into()),
        lifetimes: Lifetimes {
            authority: Duration::from_secs(run.authority_lifetime.into()),
            server: Duration::from_secs(run.certificate_lifetime.into()),
        },
        overlap: Duration::from_secs(run.credentials_overlap.into()),
    })
}

async fn serve(run: Run, config: controller::Config) -> anyhow::Result<()> {
    let metrics = Arc::<Metrics>::default();
    let to = Server::find(metrics.clone()).await?;
    let client = to.client(Arc::new(|| Some(Duration::MAX)))?;
    let stop = CancellationToken::new();
    let elector = elector(&run, &client)?;
    let leadership = elector
        .as_ref()
        .map_or_else(Leadership::always, Elector::leadership);
    let writes = to.client(controller::fence(&leadership))?;
    let context = Context::led(&client, &config, leadership).with_metrics(metrics);
    let context = Arc::new(context.with_writes(writes));
    let listener = probes::serve(run.listen, answers(context.clone()), stop.clone());
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let stopping = stop.clone();
    let signals = async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: finishing what is under way"),
            _ = interrupt.recv() => tracing::info!("SIGINT: finishing what is under way"),
            () = stopping.cancelled() => {}
        }
        stopping.cancel();
    };
    let drained = CancellationToken::new();
    let elected = elect(elector, context.clone(), drained.clone());
    let work = async {
        controller::run(client, config, context, stop.clone()).await;
        drained.cancel();
    };
    let listen = async {
        let served = listener
            .await
            .with_context(|| format!("cannot listen on {}", run.listen));
        // Without probes the operator would be killed anyway; better to say why.
        stop.cancel();
        served
    };
    let all = async {
        let (served, (), ()) = tokio::join!(listen, work, signals);
        served
    };
    // Lost leadership drops everything where it stands.
    tokio::try_join!(all, elected)?;
    Ok(())
}

/// A candidate, where replicas are to elect one. A Pod's host name is its name.
fn elector(run: &Run, client: &Client) -> anyhow::Result<Option<Elector>> {
    if !run.leader_elect {
        return Ok(None);
    }
    let namespace = run.lease_namespace.as_deref().filter(|it| !it.is_empty());
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let namespace = namespace.unwrap_or(client.default_namespace());
    let elector = Elector::new(
        client.clone(),
        namespace,
        &run.lease_name,
        &host,
        Terms::default(),
    );
    Ok(Some(elector?))
}

/// Stands for election once the watches are complete, and gives the lease back when the work is `drained`.
async fn elect(
    elector: Option<Elector>,
    context: Arc<Context>,
    drained: CancellationToken,
) -> anyhow::Result<()> {
    let Some(elector) = elector else {
        return Ok(());
    };
    let complete = drained.run_until_cancelled(context.complete()).await;
    drop(context);
    match complete {
        Some(()) => Ok(elector.run(drained).await?),
        None => Ok(()),
    }
}

fn answers(context: Arc<Context>) -> probes::Answer {
    Arc::new(move |path| match path {
        "/livez" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" if context.is_synced() => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the watches are not complete yet\n".to_owned(),
        ),
        "/metrics" => (StatusCode::OK, context.metrics()),
        _ => (
            StatusCode::NOT_FOUND,
            "not found; there are /livez, /readyz and /metrics\n".to_owned(),
        ),
    })
}
