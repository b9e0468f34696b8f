//! What this machine must have, per task: a table of programs and the Debian packages that have them.
//!
//! As root on Debian [`ensure`] installs what is missing. Elsewhere it names everything that is missing in one
//! error, before anything else is done. A test that needs one more program adds a row here and nowhere else.

use std::{
    env, fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tokio::task::{JoinError, spawn_blocking};

use crate::{Profile, command, node::CNI_PLUGINS, progress::Progress};

/// Something that this machine must be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Run nodes, and so Pods.
    Nodes,
    /// Build the images of database engines from Debian packages.
    EngineImages,
    /// Build the images of older engine versions, which are published on Maven Central.
    OlderEngineImages,
    /// Run PostgreSQL on this machine, for the tests of the agent.
    Postgres,
    /// Build an image from a Dockerfile.
    Dockerfile,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 5] = [
        Self::Nodes,
        Self::EngineImages,
        Self::OlderEngineImages,
        Self::Postgres,
        Self::Dockerfile,
    ];

    fn needs(self) -> &'static [Need] {
        match self {
            Self::Nodes => &NODES,
            Self::EngineImages => &ENGINE_IMAGES,
            Self::OlderEngineImages => &OLDER_ENGINE_IMAGES,
            Self::Postgres => &POSTGRES,
            Self::Dockerfile => &DOCKERFILE,
        }
    }
}

/// A program or folder, and the Debian package that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Need {
    name: &'static str,
    package: &'static str,
    place: Place,
}

/// Where it is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A program of that name in one of the folders of `PATH`.
    Path,
    /// The program `bridge` in one of the folders of CNI plugins.
    CniPlugins,
    /// `/usr/lib/postgresql/<version>/bin/initdb`, which is on nobody's `PATH`.
    PostgresServer,
}

const fn program(name: &'static str, package: &'static str) -> Need {
    Need {
        name,
        package,
        place: Place::Path,
    }
}

const NODES: [Need; 6] = [
    program("runc", "runc"),
    program("nft", "nftables"),
    program("iptables", "iptables"),
    program("ip", "iproute2"),
    program("nsenter", "util-linux"),
    Need {
        name: "the CNI plugins",
        package: "containernetworking-plugins",
        place: Place::CniPlugins,
    },
];
const ENGINE_IMAGES: [Need; 1] = [program("mmdebstrap", "mmdebstrap")];
const OLDER_ENGINE_IMAGES: [Need; 2] = [program("mvn", "maven"), program("xz", "xz-utils")];
const POSTGRES: [Need; 1] = [Need {
    name: "a PostgreSQL server",
    package: "postgresql",
    place: Place::PostgresServer,
}];
const DOCKERFILE: [Need; 1] = [program("buildah", "buildah")];

/// This machine lacks something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something is missing that cannot be installed here.
    #[error("this machine lacks what is needed:\n{}", listed(.0))]
    Lacking(Vec<String>),
    /// Installing failed.
    #[error("installing what is missing failed; to see why, run apt-get install {packages}\n{source}")]
    Install {
        /// The packages.
        packages: String,
        /// What the package manager said.
        source: command::Error,
    },
    /// Debian could not be told to set up no database server.
    #[error("writing {path:?} failed: {source}", path = NO_SERVER)]
    NoServer {
        /// What the system said.
        source: io::Error,
    },
    /// Another installation could not be waited for.
    #[error("locking {path:?} failed: {source}", path = LOCKED)]
    Lock {
        /// What the system said.
        source: io::Error,
    },
    /// The task that installs panicked.
    #[error("installing ended unexpectedly: {0}")]
    Task(#[source] JoinError),
}

fn listed(lines: &[String]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| format!("  - {line}")).collect();
    lines.join("\n")
}

/// Makes sure that this machine can do these tasks: as root on Debian by installing what is missing.
///
/// # Errors
/// When something is missing that cannot be installed: all of it, with what to do. When the installation fails.
pub async fn ensure(tasks: &[Task], progress: Progress) -> Result<(), Error> {
    ensure_with(tasks, None, progress).await
}

/// What a cluster of this profile needs, with the programs that it cannot be built without.
pub(crate) async fn ensure_profile(profile: Profile, progress: Progress) -> Result<(), Error> {
    let tasks: &[Task] = match profile {
        Profile::Node { .. } => &[Task::Nodes],
        Profile::Api | Profile::Fake { .. } => &[],
    };
    ensure_with(tasks, crate::programs::lacking_go(profile), progress).await
}

async fn ensure_with(tasks: &[Task], lacking: Option<String>, progress: Progress) -> Result<(), Error> {
    let needs = missing(tasks);
    let machine = Machine::this();
    let lacking: Vec<_> = machine.lacks(tasks, &needs).into_iter().chain(lacking).collect();
    if !lacking.is_empty() {
        return Err(Error::Lacking(lacking));
    }
    if needs.is_empty() {
        return Ok(());
    }
    let step = progress.step(format!(
        "installing {}: apt-get install {}",
        names(&needs),
        packages(&needs).join(" ")
    ));
    let tasks = tasks.to_vec();
    let installed = spawn_blocking(move || install(&tasks)).await;
    installed.map_err(Error::Task)??;
    step.finish();
    Ok(())
}

/// What decides whether something can be installed.
struct Machine {
    linux: bool,
    root: bool,
    debian: bool,
}

impl Machine {
    fn this() -> Self {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let is_debian = |line: &str| line.starts_with("ID") && line.contains("debian");
        Self {
            linux: cfg!(target_os = "linux"),
            root: rustix::process::geteuid().is_root(),
            debian: release.lines().any(is_debian),
        }
    }

    /// Everything that stands in the way here, each with what to do.
    fn lacks(&self, tasks: &[Task], missing: &[Need]) -> Vec<String> {
        let mut lacks = Vec::new();
        if tasks.is_empty() {
            return lacks;
        }
        if !self.linux {
            lacks.push(format!(
                "Linux: this is {}; use the profile `api`, or kind",
                env::consts::OS
            ));
        }
        if !self.root {
            lacks.push(
                "root, for network namespaces, containers and images: use sudo, or the profile `api`"
                    .to_owned(),
            );
        }
        let can_install = self.linux && self.root && self.debian;
        if !(missing.is_empty() || can_install) {
            lacks.push(format!(
                "{}: install what Debian calls {} (root on Debian has it installed)",
                names(missing),
                packages(missing).join(" ")
            ));
        }
        lacks
    }
}

fn names(needs: &[Need]) -> String {
    let names: Vec<_> = needs.iter().map(|need| need.name).collect();
    names.join(", ")
}

fn packages(needs: &[Need]) -> Vec<&'static str> {
    needs.iter().map(|need| need.package).collect()
}

/// What these tasks need and this machine has not, each once.
fn missing(tasks: &[Task]) -> Vec<Need> {
    let mut missing: Vec<Need> = Vec::new();
    for need in tasks.iter().flat_map(|task| task.needs()) {
        if !missing.contains(need) && !is_there(need) {
            missing.push(*need);
        }
    }
    missing
}

fn is_there(need: &Need) -> bool {
    match need.place {
        Place::Path => {
            let path = env::var_os("PATH").unwrap_or_default();
            let mut folders = env::split_paths(&path);
            folders.any(|folder| folder.join(need.name).is_file())
        }
        Place::CniPlugins => CNI_PLUGINS
            .iter()
            .any(|folder| Path::new(folder).join("bridge").is_file()),
        Place::PostgresServer => postgres_servers().next().is_some(),
    }
}

/// The folders of the programs of PostgreSQL servers that are installed.
fn postgres_servers() -> impl Iterator<Item = PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let folders = versions.map(|version| version.path().join("bin"));
    folders.filter(|folder| folder.join("initdb").is_file())
}

/// Held by whoever installs. A folder that every Debian has, so that no lock file is left behind.
const LOCKED: &str = "/var/lib/dpkg";
/// Debian sets up and starts a database server when it installs PostgreSQL, unless this file says otherwise.
const NO_SERVER: &str = "/etc/postgresql-common/createcluster.conf";

fn install(tasks: &[Task]) -> Result<(), Error> {
    let folder = fs::File::open(LOCKED).map_err(|source| Error::Lock { source })?;
    folder.lock().map_err(|source| Error::Lock { source })?;
    // Somebody else may have installed it meanwhile.
    let packages = packages(&missing(tasks));
    if packages.is_empty() {
        return Ok(());
    }
    if packages.contains(&"postgresql") {
        set_up_no_server().map_err(|source| Error::NoServer { source })?;
    }
    let failed = |source| Error::Install {
        packages: packages.join(" "),
        source,
    };
    apt_get(&["update"]).map_err(failed)?;
    apt_get(&[&["install", "-y", "--no-install-recommends"], packages.as_slice()].concat()).map_err(failed)
}

fn apt_get(arguments: &[&str]) -> Result<(), command::Error> {
    let mut command = Command::new("apt-get");
    command
        // Other package managers hold dpkg's lock for seconds.
        .args(["-qq", "-o", "DPkg::Lock::Timeout=300"])
        .args(["-o", "Dpkg::Options::=--force-confold"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        // Ctrl-C is for us: a package manager that is interrupted leaves half-installed packages.
        .process_group(0);
    command::output(&mut command).map(drop)
}

fn set_up_no_server() -> io::Result<()> {
    let path = Path::new(NO_SERVER);
    if path.exists() {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, "create_main_cluster = false\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const THIS: Machine = Machine {
        linux: true,
        root: true,
        debian: true,
    };

    #[test]
    fn all_that_is_missing_is_said_at_once() {
        let needs: Vec<Need> = Task::ALL.iter().flat_map(|task| task.needs()).copied().collect();
        let other = Machine {
            root: false,
            debian: false,
            ..THIS
        };
        let lacks = other.lacks(&Task::ALL, &needs);
        let said = Error::Lacking(lacks).to_string();
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 3, "{said}");
        assert!(said.contains("root, for network namespaces"), "{said}");
        for need in &needs {
            assert!(
                said.contains(need.name) && said.contains(need.package),
                "{}: {said}",
                need.name
            );
        }
    }

    #[test]
    fn root_on_debian_lacks_nothing_that_can_be_installed() {
        assert_eq!(THIS.lacks(&Task::ALL, &NODES), [""; 0]);
    }

    #[test]
    fn a_cluster_that_needs_nothing_of_the_system_runs_for_anybody() {
        let nobody = Machine {
            linux: false,
            root: false,
            debian: false,
        };
        assert_eq!(nobody.lacks(&[], &[]), [""; 0]);
    }

    #[test]
    fn what_two_tasks_need_is_installed_once() {
        let twice = [Task::Dockerfile, Task::Dockerfile];
        assert!(missing(&twice).len() <= 1);
    }
}
