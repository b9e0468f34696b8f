//! `cargo measure`: the figures by which this project is judged, as one table. Counts, sizes and ratios; times are
//! printed, and nothing depends on them.

#![expect(unreachable_pub, reason = "modules of one program")]
#![expect(clippy::print_stdout, reason = "its purpose is to print")]
#![expect(
    clippy::indexing_slicing,
    reason = "serde_json answers null for what is not there"
)]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod agents;
mod audit;
mod burst;
mod contender;
mod fleet;
mod ground;
mod histogram;
mod known;
mod node;
mod process;
mod raw;
mod rest;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use contender::{Contender, Dbclaim};
use devcluster::operator::{self, Binaries, Flavour};
use devcluster::{Progress, with_interrupt};
use table::{Table, megabytes};
use tokio::task::spawn_blocking;

/// Measures the operator on clusters that it starts for that, and prints a table.
#[derive(Parser)]
#[command(name = "cargo measure", bin_name = "cargo measure")]
struct Args {
    /// Everything small: 20 claims, short windows, a quick build instead of the release.
    #[arg(long)]
    quick: bool,
    /// Only these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Claims in the burst.
    #[arg(long, value_name = "NUMBER")]
    claims: Option<usize>,
    /// Length in seconds of a quiet window.
    #[arg(long, value_name = "SECONDS")]
    quiet: Option<u64>,
    /// Measure these programs instead of building the release: a folder with dbclaim and dbclaim-agent.
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Sizes of programs and image.
    Sizes,
    /// Memory for what is known of the claims' objects.
    Known,
    /// Requests at rest and in trouble, on fake nodes.
    Rest,
    /// All claims at once, on fake nodes.
    Burst,
    /// A real database on a real node; needs root.
    Node,
}

/// How much is done.
#[derive(Debug)]
pub struct Settings {
    /// Claims of the burst.
    claims: usize,
    /// Claims that cannot be scheduled, and as many healthy ones.
    troubled: usize,
    /// How long is looked when nothing happens.
    quiet: Duration,
    /// How long is looked when claims are created.
    window: Duration,
    /// Claims on the real node, one after the other.
    runs: usize,
}

impl Settings {
    fn new(args: &Args) -> Self {
        let (claims, troubled, quiet, window, runs) = if args.quick {
            (20, 10, 3, 4, 1)
        } else {
            (1000, 100, 60, 60, 5)
        };
        Self {
            claims: args.claims.unwrap_or(claims),
            troubled,
            quiet: Duration::from_secs(args.quiet.unwrap_or(quiet)),
            window: Duration::from_secs(window),
            runs,
        }
    }
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let mut table = Table::default();
    let done = Box::pin(with_interrupt(measure(&args, &mut table))).await;
    // What was found until then counts, too.
    println!("{}", table.markdown());
    match done {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("measure: {error:#}");
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::from(130),
    }
}

async fn measure(args: &Args, table: &mut Table) -> anyhow::Result<()> {
    let settings = Settings::new(args);
    let binaries = binaries(args).await?;
    let contender: Arc<dyn Contender> = Arc::new(Dbclaim {
        program: binaries.dbclaim.clone(),
    });
    let wanted = |part| {
        let by_default = part != Part::Node || (!args.quick && rustix::process::geteuid().is_root());
        args.only.contains(&part) || (args.only.is_empty() && by_default)
    };
    eprintln!("measuring {}", contender.name());
    let archive = if wanted(Part::Sizes) || wanted(Part::Node) {
        node::pack(&binaries)?
    } else {
        PathBuf::new()
    };
    if wanted(Part::Sizes) {
        sizes(&binaries, &archive, table)?;
    }
    if wanted(Part::Known) {
        known::known(settings.claims, table)?;
    }
    if wanted(Part::Rest) {
        rest::rest(&settings, contender.clone(), table)
            .await
            .context("requests at rest")?;
    }
    if wanted(Part::Burst) {
        Box::pin(burst::burst(&settings, contender.clone(), table))
            .await
            .context("all claims at once")?;
    }
    if wanted(Part::Node) {
        node::node(&settings, contender, archive, table)
            .await
            .context("a real node")?;
    }
    Ok(())
}

async fn binaries(args: &Args) -> anyhow::Result<Binaries> {
    if let Some(folder) = &args.programs {
        return Ok(Binaries {
            dbclaim: folder.join("dbclaim"),
            agent: folder.join("dbclaim-agent"),
        });
    }
    let flavour = if args.quick {
        Flavour::Cluster
    } else {
        Flavour::Release
    };
    let step = Progress::Stderr.step("building the operator (a release takes minutes)");
    let built = spawn_blocking(move || operator::build_binaries(root(), flavour, &mut |_| {})).await??;
    step.finish();
    Ok(built)
}

fn sizes(binaries: &Binaries, archive: &Path, table: &mut Table) -> anyhow::Result<()> {
    let size = |path: &Path| Ok::<_, std::io::Error>(std::fs::metadata(path)?.len());
    table.row(
        "size of the operator's program",
        megabytes(size(&binaries.dbclaim)?),
        "",
        "63.6 MB (60.7 MiB)",
    );
    table.row(
        "size of the agent's program",
        megabytes(size(&binaries.agent)?),
        "",
        "the same program",
    );
    table.row(
        "size of the image, uncompressed",
        megabytes(size(archive)?),
        "<= 15 MB",
        "64.9 MB (61.9 MiB)",
    );
    Ok(())
}
