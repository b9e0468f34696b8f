//! The command line. The only place of the agent that reads the environment.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::{fencer, install, log, root::Root, supervisor};
use crate::api::protocol::{AGENT_PORT, path};

/// Runs one database: as PID 1 of its container, and as the supervisor beneath.
#[derive(Parser)]
#[command(name = "dbclaim-agent", version)]
struct Arguments {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Copies this binary into a directory, for the database container to run
    Install {
        /// Directory that both containers share
        #[arg(default_value = path::AGENT_DIR)]
        directory: PathBuf,
    },
    /// Keeps the supervisor running and ends everything when told to stop (the default; PID 1)
    Run,
    /// Runs the database; started by `run`
    #[command(hide = true)]
    Supervise {
        /// The parent is the fencer: whatever descends from it belongs to this container
        #[arg(long)]
        fenced: bool,
    },
}

/// What the container is told by its environment.
#[derive(Args, Clone, Debug)]
pub(super) struct Settings {
    /// Id of this member
    #[arg(long, env = "MEMBER", global = true, default_value_t = 1)]
    pub(super) member: u32,
    /// UID of this Pod, for the report
    #[arg(long, env = "POD_UID", global = true, default_value = "")]
    pub(super) pod_uid: String,
    /// Namespace of this Pod, where the mounted one cannot be read
    #[arg(long, env = "POD_NAMESPACE", global = true, default_value = "")]
    pub(super) pod_namespace: String,
    /// Address of the API server; without it nothing is reported
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", global = true)]
    pub(super) api_host: Option<String>,
    /// HTTPS port of the API server
    #[arg(
        long,
        env = "KUBERNETES_SERVICE_PORT_HTTPS",
        global = true,
        default_value_t = 443
    )]
    pub(super) api_port: u16,
    /// Where programs are looked for
    #[arg(long, env = "PATH", global = true, hide = true, default_value = "")]
    pub(super) search_path: String,
    /// Prefix of every path, for tests
    #[arg(long, global = true, hide = true)]
    root: Option<PathBuf>,
    /// Port of the HTTP server, for tests
    #[arg(long, global = true, hide = true, default_value_t = AGENT_PORT)]
    pub(super) port: u16,
    /// Seconds between looks at the application's logins and database, for tests
    #[arg(long, global = true, hide = true, default_value_t = 60)]
    check_seconds: u64,
}

impl Settings {
    pub(super) fn root(&self) -> Root {
        Root::new(self.root.clone().unwrap_or_default())
    }

    /// Pause between looks at the application's logins and database.
    pub(super) fn check(&self) -> Duration {
        Duration::from_secs(self.check_seconds)
    }

    /// The arguments with which a child of ours sees the same settings; the rest is in the environment.
    pub(super) fn forwarded(&self) -> Vec<std::ffi::OsString> {
        let mut arguments = vec![
            "--port".into(),
            self.port.to_string().into(),
            "--check-seconds".into(),
            self.check_seconds.to_string().into(),
        ];
        if let Some(root) = &self.root {
            arguments.extend(["--root".into(), root.into()]);
        }
        arguments
    }
}

/// Entry point of the binary.
pub fn main() -> ExitCode {
    let Arguments { settings, command } = Arguments::parse();
    log::start();
    match command.unwrap_or(Command::Run) {
        Command::Install { directory } => match install::install(&directory) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!(%error, "install failed");
                ExitCode::FAILURE
            }
        },
        Command::Run => fencer::run(&settings),
        Command::Supervise { fenced } => supervisor::run(settings, fenced),
    }
}
