//! MySQL: configuration from the memory of the size.
//!
//! About 200 MiB are the server's own, whatever it is told; what is left goes to the buffer pool by two thirds,
//! the rest to sessions and temporary tables. The manual's advice is more for the pool, on machines where the
//! server's own share does not count (<https://dev.mysql.com/doc/refman/8.4/en/innodb-buffer-pool-resize.html>).

pub mod parameters;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Facts;
use crate::api::protocol::path;
use crate::claim::quantity::Bytes;

pub(super) const FACTS: Facts = Facts {
    name: "mysql",
    port: 3306,
    binding_type: "mysql",
    series_numbers: 2,
    version_examples: ["9.7", "9.7.4"],
    config_files,
    parameters: parameters::PARAMETERS,
    kept_back: parameters::kept_back,
    most: parameters::most,
    take_memory: parameters::TAKE_MEMORY,
    extensions: &[],
    // The buffer pool, the redo log and the limit of connections are dynamic.
    grows_live: true,
    dump_command: || {
        format!(
            "mysqldump -S {}/mysqld.sock -u root --all-databases --single-transaction --routines --events",
            path::RUN
        )
    },
    // There is no option that all drivers know, and some refuse to connect for one that they do not.
    // An account can have two passwords for a while.
    two_logins: false,
    uri_options: ["", ""],
    jdbc_options: ["sslMode=REQUIRED", "sslMode=PREFERRED"],
};

/// MiB that the server needs before its first page is cached.
const BASE: u64 = 256;
/// MiB in which the buffer pool is counted. The server rounds up to its chunks: with its own default, by 128.
const CHUNK: u64 = 16;
/// From so many MiB on there is room for the performance schema, which takes about 200.
const ROOMY: u64 = 1536;

/// `my.cnf`, with `parameters` that may be set, and are valid. Every key is the name of a system variable, so that the agent can compare the file with the server.
pub fn config_files(
    memory: Bytes,
    parameters: &BTreeMap<String, String>,
    _extensions: &[String],
    plaintext: bool,
) -> BTreeMap<&'static str, String> {
    BTreeMap::from([("my.cnf", server(memory, parameters, plaintext))])
}

/// Settings that no size changes.
const FIXED: [(&str, &str); 12] = [
    // Durability is not a setting.
    ("innodb_flush_log_at_trx_commit", "1"),
    ("sync_binlog", "1"),
    ("innodb_doublewrite", "ON"),
    ("innodb_checksum_algorithm", "crc32"),
    // Decided once, so that replicas and change streams can come later without a new database.
    ("server_id", "1"),
    ("gtid_mode", "ON"),
    ("enforce_gtid_consistency", "ON"),
    // Nobody limits the binary log by size; a day of it is what a volume of these sizes can bear.
    ("binlog_expire_logs_seconds", "86400"),
    ("max_binlog_size", "100M"),
    // With row events a function cannot make replicas differ; without it an owner cannot create triggers.
    ("log_bin_trust_function_creators", "ON"),
    ("character_set_server", "utf8mb4"),
    ("collation_server", "utf8mb4_0900_ai_ci"),
];

fn server(memory: Bytes, parameters: &BTreeMap<String, String>, plaintext: bool) -> String {
    let mib = memory.0 / Bytes::MIB;
    let pool = mib.saturating_sub(BASE) * 2 / 3;
    // One per 2 GiB, so that many processors do not wait for each other; each has whole chunks.
    let instances = (pool / 2048).clamp(1, 8);
    let pool = (pool / (CHUNK * instances) * CHUNK * instances).max(64);
    let mut text = String::from("[mysqld]\n");
    let mut write = |key: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key} = {value}");
    };
    let mut set = |key: &str, value: &str| {
        // What is asked for stands further down, once.
        if !parameters.contains_key(key) {
            write(key, value);
        }
    };
    set("port", "3306");
    set("bind_address", "*");
    // Addresses of Pods have no names worth asking for.
    set("skip_name_resolve", "ON");
    set("max_connections", &(mib / 8).clamp(50, 1000).to_string());
    set("innodb_buffer_pool_chunk_size", &format!("{CHUNK}M"));
    set("innodb_buffer_pool_instances", &instances.to_string());
    set("innodb_buffer_pool_size", &format!("{pool}M"));
    set(
        "innodb_redo_log_capacity",
        &format!("{}M", (mib / 4 / 16 * 16).clamp(64, 4096)),
    );
    set("innodb_log_buffer_size", "16M");
    // By default a share of the machine's memory, whatever the container may use.
    set("temptable_max_ram", &format!("{}M", (mib / 16).max(16)));
    set("key_buffer_size", "1M");
    set("table_open_cache", &(mib * 2).clamp(800, 4000).to_string());
    set("performance_schema", if mib < ROOMY { "OFF" } else { "ON" });
    for (key, value) in FIXED {
        set(key, value);
    }
    // The socket counts as secure.
    set("require_secure_transport", if plaintext { "OFF" } else { "ON" });
    set("tls_version", "TLSv1.2,TLSv1.3");
    set("local_infile", "OFF");
    set("general_log", "OFF");
    set("slow_query_log", "OFF");
    for (key, value) in parameters {
        write(key, value);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_settings_fit_into_every_size() {
        for mib in [496_u64, 512, 2048, 16 * 1024] {
            let text = server(Bytes(mib * Bytes::MIB), &BTreeMap::new(), false);
            let number = |key: &str| -> u64 {
                let line = text
                    .lines()
                    .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
                    .unwrap();
                line.trim_end_matches('M').parse().unwrap()
            };
            let schema = if text.contains("performance_schema = ON") {
                200
            } else {
                0
            };
            let used = 200
                + schema
                + number("innodb_buffer_pool_size")
                + number("innodb_log_buffer_size")
                + number("temptable_max_ram")
                // What an idle session takes, rounded up.
                + number("max_connections");
            assert!(used <= mib, "{mib} MiB: {used} MiB are spoken for\n{text}");
            assert_eq!(
                number("innodb_buffer_pool_size")
                    % (number("innodb_buffer_pool_chunk_size") * number("innodb_buffer_pool_instances")),
                0,
                "the server would round up"
            );
        }
    }

    #[test]
    fn every_line_is_one_setting() {
        let text = server(Bytes(Bytes::GIB), &BTreeMap::new(), false);
        for line in text.lines().skip(1) {
            let (key, value) = line.split_once(" = ").unwrap();
            assert!(
                key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{line}"
            );
            assert!(!value.is_empty() && !value.contains(['#', '\n']), "{line}");
        }
    }
}
