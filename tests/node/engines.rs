//! The engines that every scenario runs on, and what differs between them: their clients, files and words.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use anyhow::Context as _;
use devcluster::{Cluster, image};
use mysql_async::prelude::Queryable as _;
use mysql_async::{OptsBuilder, SslOpts};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio_postgres::config::SslMode;

use crate::binding::Binding;

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Postgres,
    Mysql,
}

/// What scenarios have to know of an engine.
#[derive(Debug)]
pub struct Facts {
    /// Spelling in a claim, and directory on the volume.
    pub name: &'static str,
    /// `type` of the binding Secret, and scheme of its URIs.
    pub binding_type: &'static str,
    pub port: u16,
    /// The default version.
    pub version: &'static str,
    /// Another one that a claim may ask for.
    pub other_version: &'static str,
    /// What a claim asks for before an upgrade within the series: an older version where there is an image of one,
    /// else the series.
    pub upgraded: &'static str,
    /// An exact version of the series that is older than the default's newest.
    pub older: &'static str,
    /// An exact version that nobody has published.
    pub missing_version: &'static str,
    /// Queries for what is decided once and for all, and what they say.
    pub decided: &'static [(&'static str, &'static str)],
    /// Whether the log of a start shows that the stop before it was clean.
    pub clean: fn(&str) -> bool,
    /// Something in the data directory without which the server does not start, and words that it says then.
    pub vital: (&'static str, &'static [&'static str]),
    /// A statement that takes more memory than a small database has.
    pub hungry: &'static [&'static str],
    /// A parameter that changes while the engine runs.
    pub live: Parameter,
    /// A parameter that waits for a restart.
    pub waiting: Parameter,
    /// A parameter that no claim may set.
    pub kept_back: (&'static str, &'static str),
    /// Query for the memory that the engine keeps pages in, in bytes.
    pub memory: &'static str,
    /// Whether it takes over a larger size while it runs.
    pub grows_live: bool,
    /// Settings of `medium` that it does not take over then.
    pub not_live: &'static [&'static str],
    /// Size whose memory bears a volume in memory.
    pub roomy: &'static str,
    /// Makes a table, and puts about a megabyte into it.
    pub bulk: [&'static str; 2],
    /// Words of the refusal where there is no space left.
    pub full: &'static str,
    /// What the JDBC URL asks for.
    pub jdbc_option: &'static str,
    /// Query for the version of TLS.
    pub tls: &'static str,
    /// Words of the refusal of a connection without it.
    pub plaintext_refused: &'static str,
}

/// A parameter, a value, a query for it and what that says.
#[derive(Debug)]
pub struct Parameter {
    pub name: &'static str,
    pub value: &'static str,
    pub query: &'static str,
    pub says: &'static str,
}

const POSTGRES: Facts = Facts {
    name: "postgres",
    binding_type: "postgresql",
    port: 5432,
    version: "17",
    other_version: "18",
    upgraded: "17.5",
    older: "17.5",
    missing_version: "17.99",
    decided: &[
        ("SHOW server_encoding", "UTF8"),
        ("SHOW data_checksums", "on"),
        ("SHOW wal_level", "logical"),
        ("SHOW wal_log_hints", "on"),
        ("SHOW password_encryption", "scram-sha-256"),
        ("SHOW fsync", "on"),
    ],
    clean: |log| log.contains("database system was shut down at"),
    vital: ("pg_wal", &["FATAL", "pg_wal"]),
    hungry: &["SELECT length(string_agg(repeat('x', 1000000), '')) FROM generate_series(1, 900)"],
    live: Parameter {
        name: "work_mem",
        value: "7MB",
        query: "SHOW work_mem",
        says: "7MB",
    },
    waiting: Parameter {
        name: "max_connections",
        value: "61",
        query: "SHOW max_connections",
        says: "61",
    },
    kept_back: ("fsync", "off"),
    memory: "SELECT pg_size_bytes(current_setting('shared_buffers'))::text",
    grows_live: false,
    not_live: &[],
    roomy: "small",
    bulk: [
        "CREATE TABLE IF NOT EXISTS large (row text)",
        "INSERT INTO large SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 20000)",
    ],
    full: "No space left",
    jdbc_option: "sslmode=require",
    tls: "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    plaintext_refused: "no encryption",
};

const MYSQL: Facts = Facts {
    name: "mysql",
    binding_type: "mysql",
    port: 3306,
    version: "9.7",
    other_version: "8.4",
    // Nobody publishes an older one for a machine without an image registry.
    upgraded: "9.7",
    older: "9.7.0",
    missing_version: "9.7.99",
    decided: &[
        ("SELECT @@character_set_server", "utf8mb4"),
        ("SELECT @@gtid_mode", "ON"),
        ("SELECT @@enforce_gtid_consistency", "ON"),
        ("SELECT @@log_bin", "1"),
        ("SELECT @@sync_binlog", "1"),
        ("SELECT @@innodb_flush_log_at_trx_commit", "1"),
        ("SELECT @@innodb_doublewrite", "ON"),
    ],
    clean: |log| log.contains("ready for connections") && !log.contains("Starting XA crash recovery"),
    vital: ("#innodb_redo", &["[ERROR]", "innodb_redo"]),
    hungry: &[
        "SET SESSION max_heap_table_size = 4294967296, cte_max_recursion_depth = 1000000",
        "CREATE TEMPORARY TABLE hungry (text VARCHAR(4000)) ENGINE = MEMORY",
        "INSERT INTO hungry WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 200000) \
         SELECT 'x' FROM n",
    ],
    live: Parameter {
        name: "max_allowed_packet",
        value: "32M",
        query: "SELECT @@max_allowed_packet",
        says: "33554432",
    },
    waiting: Parameter {
        name: "innodb_read_io_threads",
        value: "3",
        query: "SELECT @@innodb_read_io_threads",
        says: "3",
    },
    kept_back: ("sync_binlog", "0"),
    memory: "SELECT CAST(@@innodb_buffer_pool_size AS CHAR)",
    grows_live: true,
    not_live: &["performance_schema"],
    roomy: "medium",
    bulk: [
        "CREATE TABLE IF NOT EXISTS large (row_ LONGTEXT)",
        "INSERT INTO large SELECT REPEAT('dbclaim ', 120000)",
    ],
    full: "full",
    jdbc_option: "sslMode=REQUIRED",
    tls: "SELECT VARIABLE_VALUE FROM performance_schema.session_status WHERE VARIABLE_NAME = 'Ssl_version'",
    plaintext_refused: "insecure transport",
};

impl Engine {
    pub const ALL: [Self; 2] = [Self::Postgres, Self::Mysql];

    pub fn facts(self) -> &'static Facts {
        match self {
            Self::Postgres => &POSTGRES,
            Self::Mysql => &MYSQL,
        }
    }

    /// Spelling in a claim.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// Where the data is on the volume.
    pub fn data(self) -> String {
        let Facts { name, version, .. } = self.facts();
        format!("{name}/{version}/data")
    }

    /// Connects with what the binding Secret says, at the address that its host name resolves to, to a server that
    /// proves to be that host.
    pub async fn connect(self, binding: &Binding, address: IpAddr) -> anyhow::Result<Client> {
        self.connect_as(binding.get("host")?, binding, address).await
    }

    /// The same under another name of the server.
    pub async fn connect_as(self, host: &str, binding: &Binding, address: IpAddr) -> anyhow::Result<Client> {
        Ok(match self {
            Self::Postgres => {
                let port = binding.get("port")?.parse()?;
                Client::Postgres(binding.connect_as(host, address, port).await?)
            }
            Self::Mysql => {
                let ca = binding.get("ca.crt")?.as_bytes().to_vec();
                let tls = SslOpts::default()
                    .with_root_certs(vec![ca.into()])
                    .with_disable_built_in_roots(true)
                    .with_danger_tls_hostname_override(Some(host.to_owned()));
                let options = mysql(binding, address)?.ssl_opts(tls);
                Client::Mysql(Mutex::new(mysql_async::Conn::new(options).await?))
            }
        })
    }

    /// The same without TLS.
    pub async fn connect_plainly(self, binding: &Binding, address: IpAddr) -> anyhow::Result<Client> {
        Ok(match self {
            Self::Postgres => {
                let mut config: tokio_postgres::Config = binding.get("uri")?.parse()?;
                config.ssl_mode(SslMode::Disable).hostaddr(address);
                let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
                tokio::spawn(connection);
                Client::Postgres(client)
            }
            Self::Mysql => {
                let connected = mysql_async::Conn::new(mysql(binding, address)?).await?;
                Client::Mysql(Mutex::new(connected))
            }
        })
    }
}

fn mysql(binding: &Binding, address: IpAddr) -> anyhow::Result<OptsBuilder> {
    let options = mysql_async::Opts::from_url(binding.get("uri")?).context("uri is no URL of MySQL")?;
    Ok(OptsBuilder::from_opts(options)
        .ip_or_hostname(address.to_string())
        .prefer_socket(false))
}

/// Makes the images that the stage has not, and loads them. Returns the newest version of each engine, exactly.
pub async fn load_images(cluster: &Cluster) -> anyhow::Result<HashMap<&'static str, String>> {
    let mut newest = HashMap::new();
    for engine in Engine::ALL {
        let Facts {
            name,
            version,
            upgraded,
            ..
        } = engine.facts();
        for tag in BTreeSet::from([*version, *upgraded]) {
            let reference = format!("docker.io/library/{name}:{tag}");
            let archive = spawn_blocking(move || image::engine_archive(&reference, &mut |_| {})).await??;
            cluster.load_image(&archive).await?;
            if tag == *version {
                let exact = image::references(&archive)?.pop();
                let exact = exact.as_deref().and_then(|it| it.rsplit_once(':'));
                let (_, exact) = exact.context("an image without a name")?;
                newest.insert(*name, exact.to_owned());
            }
        }
    }
    Ok(newest)
}

/// A session of an application.
pub enum Client {
    Postgres(tokio_postgres::Client),
    Mysql(Mutex<mysql_async::Conn>),
}

impl Client {
    /// Runs one statement that returns nothing.
    pub async fn run(&self, statement: &str) -> anyhow::Result<()> {
        match self {
            Self::Postgres(client) => Ok(client.batch_execute(statement).await?),
            Self::Mysql(connection) => Ok(connection.lock().await.query_drop(statement).await?),
        }
    }

    /// The first column of a query's rows.
    pub async fn column(&self, query: &str) -> anyhow::Result<Vec<String>> {
        match self {
            Self::Postgres(client) => {
                let rows = client.query(query, &[]).await?;
                Ok(rows.iter().map(|row| row.get(0)).collect())
            }
            Self::Mysql(connection) => Ok(connection.lock().await.query(query).await?),
        }
    }
}
