//! What a cluster with nodes needs from the system, named all at once.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use tokio::task::{JoinError, spawn_blocking};

use crate::{Profile, command, node::CNI_PLUGINS, progress::Progress};

/// The system lacks something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nodes need Linux.
    #[error(
        "nodes need Linux, this is {}: use the profile `api`, or kind",
        env::consts::OS
    )]
    NotLinux,
    /// Nodes need root.
    #[error("nodes need root, for network namespaces and containers: use sudo, or the profile `api`")]
    NotRoot,
    /// Programs are missing.
    #[error("missing: {missing}; {advice}")]
    Missing {
        /// The programs.
        missing: String,
        /// How to install them.
        advice: String,
    },
    /// Installing failed.
    #[error("installing what is missing ({missing}) failed: {source}")]
    Install {
        /// The programs.
        missing: String,
        /// What the package manager said.
        source: command::Error,
    },
    /// The task that installs panicked.
    #[error("installing ended unexpectedly: {0}")]
    Task(#[source] JoinError),
}

/// A program or folder, and the Debian package that has it.
struct Need {
    name: &'static str,
    package: &'static str,
}

const PROGRAMS: [Need; 6] = [
    Need {
        name: "runc",
        package: "runc",
    },
    Need {
        name: "nft",
        package: "nftables",
    },
    Need {
        name: "iptables",
        package: "iptables",
    },
    Need {
        name: "ip",
        package: "iproute2",
    },
    Need {
        name: "nsenter",
        package: "util-linux",
    },
    Need {
        name: "mmdebstrap",
        package: "mmdebstrap",
    },
];
const PLUGINS: Need = Need {
    name: "the CNI plugins",
    package: "containernetworking-plugins",
};

/// Makes sure that all is there; installs it where that is possible without asking.
pub(crate) async fn ensure(profile: Profile, progress: Progress) -> Result<(), Error> {
    if !matches!(profile, Profile::Node { .. }) {
        return Ok(());
    }
    if !cfg!(target_os = "linux") {
        return Err(Error::NotLinux);
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing
        .iter()
        .map(|need| need.name)
        .collect::<Vec<_>>()
        .join(", ");
    let packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    if !is_debian() {
        let advice = format!("install what Debian calls {}", packages.join(" "));
        return Err(Error::Missing {
            missing: names,
            advice,
        });
    }
    let step = progress.step(format!(
        "installing {names}: apt-get install {}",
        packages.join(" ")
    ));
    let installed = spawn_blocking(move || install(&packages)).await;
    installed.map_err(Error::Task)?.map_err(|source| Error::Install {
        missing: names,
        source,
    })?;
    step.finish();
    Ok(())
}

fn missing() -> Vec<Need> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let is_there = |need: &Need| folders.iter().any(|folder| folder.join(need.name).is_file());
    let has_plugins = CNI_PLUGINS
        .iter()
        .any(|folder| Path::new(folder).join("bridge").is_file());
    let programs = PROGRAMS.into_iter().filter(|need| !is_there(need));
    programs.chain((!has_plugins).then_some(PLUGINS)).collect()
}

fn is_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    release
        .lines()
        .any(|line| line.starts_with("ID") && line.contains("debian"))
}

fn install(packages: &[&str]) -> Result<(), command::Error> {
    let get = |arguments: &[&str]| {
        command::output(
            std::process::Command::new("apt-get")
                .args(arguments)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    get(&["update", "-qq"])?;
    get(&[&["install", "-qq", "-y", "--no-install-recommends"], packages].concat())?;
    Ok(())
}
