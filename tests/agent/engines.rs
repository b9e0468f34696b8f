//! The engines that the agent is tested with: where they are on this machine, and what differs between them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use devcluster::prerequisites::Task;

/// Names the folder of the programs of a PostgreSQL of another version than this machine's, for example the newest.
const OTHER_POSTGRES: &str = "DBCLAIM_TEST_POSTGRES";

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Postgres,
    Mysql,
}

/// An engine that can be run, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Prerequisites {
    pub(crate) engine: Engine,
    /// Release series, as in the configuration.
    pub(crate) major: String,
    /// Directory of the engine's programs, as its container sees it.
    pub(crate) bin: PathBuf,
    /// Root of the image that it runs in; without one, this machine's.
    pub(crate) image: Option<PathBuf>,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// What a test has to know of an engine. Statements are given to the application's client.
#[derive(Debug)]
pub(crate) struct Dialect {
    pub(crate) name: &'static str,
    /// Name that clients log in with after a first rotation.
    pub(crate) second_login: &'static str,
    /// A series that is older than any that is tested.
    pub(crate) older: &'static str,
    /// Written early by an initialisation, and files by which its progress is known.
    pub(crate) first_file: &'static str,
    pub(crate) later_file: &'static str,
    /// Makes a table `item` of a thousand rows.
    pub(crate) fill: &'static str,
    /// Adds 500 rows of 8 kB that do not compress to a table `bulk`.
    pub(crate) bulk: &'static str,
    /// Size of a small volume, what fills it at first, and settings that suit it.
    pub(crate) small_volume: &'static str,
    pub(crate) filler: usize,
    pub(crate) small_settings: &'static str,
    /// Settings that log every statement.
    pub(crate) log_all: &'static str,
    /// Mode of the data directory.
    pub(crate) mode: u32,
    /// Two values of a setting that needs no restart, and the query that shows them.
    pub(crate) live: [(&'static str, &'static str); 2],
    pub(crate) live_query: &'static str,
    /// A setting that needs one: its name, its line, and the query with its answer.
    pub(crate) waiting: (&'static str, &'static str, &'static str, &'static str),
    /// A line with which the server does not start, and what it says.
    pub(crate) fatal: (&'static str, &'static str),
    /// Metric that says whether the server could be asked.
    pub(crate) up: &'static str,
    /// Said by a start after a crash.
    pub(crate) recovery: &'static str,
    /// Query for the version of TLS, and words of the refusal of a connection without.
    pub(crate) tls_query: &'static str,
    pub(crate) plaintext_refused: &'static str,
}

const POSTGRES: Dialect = Dialect {
    name: "postgres",
    second_login: "dbclaim_shopkeeper",
    older: "12",
    first_file: "PG_VERSION",
    later_file: "global/pg_control",
    fill: "CREATE TABLE item AS SELECT generate_series(1, 1000) AS id",
    bulk: "INSERT INTO bulk SELECT (SELECT string_agg(md5(random()::text || n || m), '') \
        FROM generate_series(1, 250) m) FROM generate_series(1, 500) n",
    small_volume: "250m",
    filler: 60 << 20,
    small_settings: "max_wal_size = '64MB'\nmin_wal_size = '32MB'",
    log_all: "log_statement = 'all'\nlog_min_duration_statement = 0",
    mode: 0o700,
    live: [("work_mem = '7MB'", "7MB"), ("work_mem = '9MB'", "9MB")],
    live_query: "SHOW work_mem",
    waiting: (
        "max_connections",
        "max_connections = 77",
        "SHOW max_connections",
        "77",
    ),
    fatal: (
        "shared_buffers = 'a lot'",
        r#"invalid value for parameter \"shared_buffers\""#,
    ),
    up: "pg_up",
    recovery: "database system was interrupted",
    tls_query: "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    plaintext_refused: "no encryption",
};

const MYSQL: Dialect = Dialect {
    name: "mysql",
    second_login: "shopkeeper",
    older: "8.4",
    first_file: "ibdata1",
    later_file: "mysql.ibd",
    fill: "CREATE TABLE item AS WITH RECURSIVE n AS (SELECT 1 AS id UNION ALL SELECT id + 1 FROM n WHERE id < 1000) \
        SELECT id FROM n",
    bulk: "INSERT INTO bulk WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 500) \
        SELECT REPEAT(SHA2(CONCAT(RAND(), i), 256), 125) FROM n",
    small_volume: "400m",
    filler: 150 << 20,
    small_settings: "innodb_redo_log_capacity = 16M\nmax_binlog_size = 16M",
    log_all: "general_log = ON\nslow_query_log = ON\nlong_query_time = 0\nlog_output = FILE",
    mode: 0o750,
    live: [("max_connections = 77", "77"), ("max_connections = 79", "79")],
    live_query: "SELECT @@max_connections",
    waiting: (
        "table_open_cache_instances",
        "table_open_cache_instances = 3",
        "SELECT @@table_open_cache_instances",
        "3",
    ),
    fatal: ("innodb_buffer_pool_size = a lot", "Unknown suffix"),
    up: "mysql_up",
    recovery: "Starting XA crash recovery",
    tls_query: "SELECT VARIABLE_VALUE FROM performance_schema.session_status WHERE VARIABLE_NAME = 'Ssl_version'",
    plaintext_refused: "insecure transport",
};

impl Engine {
    pub(crate) const ALL: [Self; 2] = [Self::Postgres, Self::Mysql];

    pub(crate) fn dialect(self) -> &'static Dialect {
        match self {
            Self::Postgres => &POSTGRES,
            Self::Mysql => &MYSQL,
        }
    }

    /// What this machine must be able to do for its tests.
    pub(crate) fn needs(self) -> &'static [Task] {
        match self {
            Self::Postgres if std::env::var_os(OTHER_POSTGRES).is_some() => &[],
            Self::Postgres => &[Task::Postgres],
            Self::Mysql => &[Task::EngineImages],
        }
    }

    /// What its tests need, or why it is not there.
    pub(crate) fn prerequisites(self) -> Result<Prerequisites, String> {
        if !rustix::process::getuid().is_root() {
            return Err("only root can become the engine's user".into());
        }
        match self {
            Self::Postgres => postgres(),
            Self::Mysql => mysql(),
        }
    }

    /// Configuration files of a server for tests, of a member in this directory; later settings count.
    pub(crate) fn files(
        self,
        port: u16,
        settings: &str,
        encrypted: bool,
        root: &Path,
    ) -> Vec<(&'static str, String)> {
        match self {
            Self::Postgres => {
                let tls = root.join("run/dbclaim/tls.conf");
                let host = if encrypted { "hostssl" } else { "host" };
                vec![
                    (
                        "postgresql.conf",
                        // Its shared memory lies in its own directory, which goes with the member.
                        format!(
                            "listen_addresses = '127.0.0.1'\nport = {port}\nfsync = on\n\
                             dynamic_shared_memory_type = mmap\n{settings}\n\
                             include_if_exists = '{}'\n",
                            tls.display()
                        ),
                    ),
                    (
                        "pg_hba.conf",
                        format!(
                            "local all postgres peer\nlocal all all scram-sha-256\n{host} all all all scram-sha-256\n"
                        ),
                    ),
                ]
            }
            Self::Mysql => {
                let require = if encrypted { "ON" } else { "OFF" };
                vec![(
                    "my.cnf",
                    format!(
                        "[mysqld]\nbind_address = 127.0.0.1\nport = {port}\nskip_name_resolve = ON\nperformance_schema = OFF\n\
                         innodb_buffer_pool_size = 64M\ninnodb_redo_log_capacity = 32M\ngtid_mode = ON\n\
                         enforce_gtid_consistency = ON\nrequire_secure_transport = {require}\n{settings}\n"
                    ),
                )]
            }
        }
    }
}

fn postgres() -> Result<Prerequisites, String> {
    let named = std::env::var_os(OTHER_POSTGRES).map(PathBuf::from);
    let bin = named.or_else(newest).ok_or("there is no PostgreSQL server")?;
    let major = major(&bin).ok_or_else(|| format!("{} cannot be run", bin.join("postgres").display()))?;
    let (uid, gid) = user(Path::new("/etc/passwd"), "postgres")?;
    Ok(Prerequisites {
        engine: Engine::Postgres,
        major,
        bin,
        image: None,
        uid,
        gid,
    })
}

/// Directory of the newest installed version's binaries.
fn newest() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let installed = versions.filter_map(|entry| {
        let bin = entry.path().join("bin");
        let major: u32 = entry.file_name().to_str()?.parse().ok()?;
        (bin.join("postgres").exists() && bin.join("initdb").exists()).then_some((major, bin))
    });
    installed.max().map(|(_, bin)| bin)
}

fn major(bin: &Path) -> Option<String> {
    let output = Command::new(bin.join("postgres"))
        .arg("--version")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let major = text
        .strip_prefix("postgres (PostgreSQL) ")?
        .split(['.', ' '])
        .next()?;
    major.trim().parse::<u32>().ok().map(|major| major.to_string())
}

/// Debian's stable releases have no MySQL: it runs in the image that the node tests use, unpacked once beside it.
fn mysql() -> Result<Prerequisites, String> {
    let reference = "docker.io/library/mysql:9.7";
    let archive =
        devcluster::image::engine_archive(reference, &mut |_| ()).map_err(|error| error.to_string())?;
    let root = archive.with_extension("root");
    if !root.exists() {
        unpack(&archive, &root).map_err(|error| format!("cannot unpack {}: {error}", archive.display()))?;
    }
    let (uid, gid) = user(&root.join("etc/passwd"), "mysql")?;
    Ok(Prerequisites {
        engine: Engine::Mysql,
        major: "9.7".into(),
        bin: "/usr/sbin".into(),
        image: Some(root),
        uid,
        gid,
    })
}

/// Unpacks the only layer of an archive. The folder appears when it is whole.
fn unpack(archive: &Path, root: &Path) -> std::io::Result<()> {
    let partial = root.with_extension(format!("partial-{}", std::process::id()));
    fs::create_dir_all(&partial)?;
    let script = r#"set -e
layer=$(tar -tvf "$1" | grep blobs/sha256/ | sort -n -k3 | tail -n 1 | sed 's/.* //')
tar -xOf "$1" "$layer" | tar -x --numeric-owner -p -C "$2"
"#;
    let output = Command::new("sh")
        .args(["-c", script, "unpack"])
        .args([archive, &partial])
        .output()?;
    if !output.status.success() {
        return Err(std::io::Error::other(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ));
    }
    match fs::rename(&partial, root) {
        // Another run was faster.
        Err(_) if root.exists() => fs::remove_dir_all(&partial),
        other => other,
    }
}

fn user(passwd: &Path, name: &str) -> Result<(u32, u32), String> {
    let passwd = fs::read_to_string(passwd).map_err(|error| error.to_string())?;
    let entry = passwd
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .ok_or_else(|| format!("there is no user {name}"))?;
    let mut ids = entry.split(':').skip(1).map(str::parse);
    match (ids.next(), ids.next()) {
        (Some(Ok(uid)), Some(Ok(gid))) => Ok((uid, gid)),
        _ => Err(format!("the user {name} has no uid and gid")),
    }
}
