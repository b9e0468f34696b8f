//! PostgreSQL: configuration from the memory of the size.
//!
//! Ratios are those that the PostgreSQL manual recommends as a starting point
//! (<https://www.postgresql.org/docs/current/runtime-config-resource.html>): a quarter of memory for
//! `shared_buffers`, the rest for the page cache and for sessions.

pub mod parameters;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Facts;
use crate::api::protocol::path;
use crate::claim::quantity::Bytes;

/// File in the run directory by which the agent turns TLS on.
pub const TLS_FILE: &str = "tls.conf";

pub(super) const FACTS: Facts = Facts {
    name: "postgres",
    port: 5432,
    binding_type: "postgresql",
    series_numbers: 1,
    version_examples: ["17", "17.5"],
    config_files,
    parameters: parameters::PARAMETERS,
    kept_back: parameters::kept_back,
    most: parameters::most,
    take_memory: parameters::TAKE_MEMORY,
    extensions: &EXTENSIONS,
    // `shared_buffers` and `max_connections` are decided when it starts.
    grows_live: false,
    dump_command: || format!("pg_dumpall -h {} -U postgres", path::RUN),
    two_logins: true,
    uri_options: ["sslmode=require", "sslmode=prefer"],
    jdbc_options: ["sslmode=require", "sslmode=prefer"],
};

/// Who may connect: the agent as `postgres` over the socket (peer), everybody else by SCRAM-SHA-256; over the
/// network with TLS, or in any way where `plaintext` is let in.
fn hba(plaintext: bool) -> String {
    let network = if plaintext { "host   " } else { "hostssl" };
    format!(
        "\
# type  database  user      address  method
local   all       postgres           peer
local   all       all                scram-sha-256
host    all       postgres  all      reject
{network} all       all       all      scram-sha-256
"
    )
}

/// Of the contrib modules that every packaged server has
/// (<https://www.postgresql.org/docs/current/contrib.html>): those that reach no file, no network and no other
/// database, and whose scripts do not depend on the search path.
pub const EXTENSIONS: [&str; 25] = [
    "amcheck",
    "bloom",
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "dict_int",
    "dict_xsyn",
    "fuzzystrmatch",
    "hstore",
    "intarray",
    "isn",
    "lo",
    "ltree",
    "pg_buffercache",
    "pg_stat_statements",
    "pg_trgm",
    "pgcrypto",
    "pgrowlocks",
    "pgstattuple",
    "seg",
    "tablefunc",
    "tcn",
    "unaccent",
    "uuid-ossp",
];

/// Extensions that work only when the server has loaded their library at its start.
const PRELOADED: [&str; 1] = ["pg_stat_statements"];

/// `postgresql.conf` and `pg_hba.conf`. `parameters` and `extensions` are of those that may be set, and valid.
pub fn config_files(
    memory: Bytes,
    parameters: &BTreeMap<String, String>,
    extensions: &[String],
    plaintext: bool,
) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("postgresql.conf", server(memory, parameters, extensions)),
        ("pg_hba.conf", hba(plaintext)),
    ])
}

/// What no size changes.
const FIXED: [(&str, &str); 22] = [
    ("huge_pages", "off"),
    // Decided once, so that replicas, logical decoding and pg_rewind can come later without a new cluster.
    ("wal_level", "logical"),
    ("wal_log_hints", "on"),
    ("max_wal_senders", "10"),
    ("max_replication_slots", "10"),
    ("max_wal_size", "1GB"),
    ("min_wal_size", "80MB"),
    // Durability is not a setting.
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("synchronous_commit", "on"),
    ("log_destination", "stderr"),
    ("logging_collector", "off"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
    ("log_min_duration_statement", "-1"),
    ("log_statement", "none"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("datestyle", "iso, mdy"),
    ("default_text_search_config", "pg_catalog.english"),
    // What a superuser sets by SQL would fight with this file. (Version 17 and later.)
    ("allow_alter_system", "off"),
    ("ssl_min_protocol_version", "TLSv1.2"),
    // For TLS 1.2; 1.3 has no others. The certificate's key is ECDSA.
    ("ssl_ciphers", "ECDHE+AESGCM:ECDHE+CHACHA20"),
];

fn server(memory: Bytes, parameters: &BTreeMap<String, String>, extensions: &[String]) -> String {
    let mib = memory.0 / Bytes::MIB;
    // About 5 MiB per session beside the shared memory; never fewer than a small pool needs.
    let connections = (mib / 10).clamp(50, 400);
    let mut text = String::new();
    let mut write = |key: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key} = '{}'", quoted(value));
    };
    let mut set = |key: &str, value: &str| {
        // What is asked for stands further down, once.
        if !parameters.contains_key(key) {
            write(key, value);
        }
    };
    set("listen_addresses", "*");
    set("port", "5432");
    set("max_connections", &connections.to_string());
    set("password_encryption", "scram-sha-256");
    set("scram_iterations", "4096");
    set("shared_buffers", &format!("{}MB", (mib / 4).max(32)));
    set("effective_cache_size", &format!("{}MB", (mib * 3 / 4).max(64)));
    set(
        "work_mem",
        &format!("{}kB", (mib * 1024 / 4 / connections).max(1024)),
    );
    set(
        "maintenance_work_mem",
        &format!("{}MB", (mib / 16).clamp(16, 2048)),
    );
    for (key, value) in FIXED {
        set(key, value);
    }
    let libraries: Vec<&str> = PRELOADED
        .into_iter()
        .filter(|it| extensions.iter().any(|asked| asked == it))
        .collect();
    if !libraries.is_empty() {
        write("shared_preload_libraries", &libraries.join(","));
    }
    for (key, value) in parameters {
        write(key, value);
    }
    // The agent writes it when it has a certificate that can be used, and TLS is on from then on.
    let _ = writeln!(text, "include_if_exists = '{}/{TLS_FILE}'", path::RUN);
    text
}

/// As it may stand between single quotes in `postgresql.conf`.
fn quoted(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\'', "''")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_settings_fit_into_every_size() {
        for mib in [256_u64, 512, 2048, 16 * 1024] {
            let text = server(Bytes(mib * Bytes::MIB), &BTreeMap::new(), &[]);
            let number = |key: &str| -> u64 {
                let line = text.lines().find(|line| line.starts_with(key)).unwrap();
                line.chars()
                    .filter(char::is_ascii_digit)
                    .collect::<String>()
                    .parse()
                    .unwrap()
            };
            let sessions = number("max_connections") * number("work_mem") / 1024;
            let used = number("shared_buffers") + sessions + number("maintenance_work_mem");
            assert!(
                used <= mib * 3 / 4,
                "{mib} MiB: {used} MiB are spoken for\n{text}"
            );
        }
    }
}
