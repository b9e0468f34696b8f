//! MySQL: the parameters that a claim may set, and why others are not among them. Pure.
//!
//! Names, kinds and bounds are those of the manual's reference of system variables
//! (<https://dev.mysql.com/doc/refman/8.4/en/server-system-variables.html>). What takes a restart is bounded more
//! narrowly, so that the server starts on it. The engine has the last word: what it refuses shows in the claim's
//! conditions.

use crate::claim::quantity::Bytes;
use crate::engine::setting::{Parameter, number, switch, whole, word};

const KIB: f64 = 1024.0;
const MIB: f64 = 1_048_576.0;
const GIB: f64 = 1_073_741_824.0;
const SIZES: &[(&str, f64)] = &[("K", KIB), ("M", MIB), ("G", GIB)];
/// A year, in seconds.
const YEAR: f64 = 31_536_000.0;
/// Most that a 32-bit number can say.
const MANY: f64 = 4_294_967_295.0;

/// By name.
pub const PARAMETERS: &[Parameter] = &[
    whole("back_log", 1.0, 65_535.0),
    size("binlog_cache_size", 4.0 * KIB, GIB),
    whole("binlog_expire_logs_seconds", 3_600.0, YEAR),
    whole("connect_timeout", 2.0, YEAR),
    whole("eq_range_index_dive_limit", 0.0, MANY),
    word("event_scheduler", &["on", "off"]),
    whole("group_concat_max_len", 4.0, MANY),
    switch("innodb_adaptive_hash_index"),
    size("innodb_buffer_pool_size", 16.0 * MIB, 1024.0 * GIB),
    whole("innodb_flush_neighbors", 0.0, 2.0),
    whole("innodb_io_capacity", 100.0, 1_000_000.0),
    whole("innodb_io_capacity_max", 100.0, 1_000_000.0),
    whole("innodb_lock_wait_timeout", 1.0, 1_073_741_824.0),
    size("innodb_log_buffer_size", MIB, GIB),
    whole("innodb_lru_scan_depth", 100.0, 65_536.0),
    number("innodb_max_dirty_pages_pct", 0.0, 99.0),
    switch("innodb_print_all_deadlocks"),
    whole("innodb_purge_threads", 1.0, 32.0),
    whole("innodb_read_io_threads", 1.0, 64.0),
    size("innodb_redo_log_capacity", 8.0 * MIB, 128.0 * GIB),
    whole("innodb_stats_persistent_sample_pages", 1.0, 1_000_000.0),
    whole("innodb_thread_concurrency", 0.0, 1_000.0),
    whole("innodb_write_io_threads", 1.0, 64.0),
    whole("interactive_timeout", 1.0, YEAR),
    size("join_buffer_size", 128.0, GIB),
    whole("lock_wait_timeout", 1.0, YEAR),
    whole("log_error_verbosity", 1.0, 3.0),
    size("max_allowed_packet", KIB, GIB),
    whole("max_connect_errors", 1.0, MANY),
    whole("max_connections", 20.0, 10_000.0),
    whole("max_execution_time", 0.0, MANY),
    size("max_heap_table_size", 16.0 * KIB, GIB),
    whole("max_prepared_stmt_count", 0.0, 4_194_304.0),
    whole("max_user_connections", 0.0, MANY),
    whole("net_read_timeout", 1.0, YEAR),
    whole("net_write_timeout", 1.0, YEAR),
    whole("optimizer_search_depth", 0.0, 62.0),
    size("read_buffer_size", 8.0 * KIB, GIB),
    size("read_rnd_buffer_size", KIB, GIB),
    size("sort_buffer_size", 32.0 * KIB, GIB),
    whole("table_definition_cache", 400.0, 524_288.0),
    whole("table_open_cache", 64.0, 524_288.0),
    size("temptable_max_ram", 2.0 * MIB, 1024.0 * GIB),
    whole("thread_cache_size", 0.0, 16_384.0),
    size("tmp_table_size", KIB, GIB),
    word(
        "transaction_isolation",
        &[
            "READ-UNCOMMITTED",
            "READ-COMMITTED",
            "REPEATABLE-READ",
            "SERIALIZABLE",
        ],
    ),
    whole("wait_timeout", 1.0, YEAR),
];

const fn size(name: &'static str, least: f64, most: f64) -> Parameter {
    Parameter::amount(name, SIZES, 1.0, least, most)
}

const DURABILITY: [&str; 8] = [
    "innodb_checksum_algorithm",
    "innodb_doublewrite",
    "innodb_flush_log_at_trx_commit",
    "innodb_flush_method",
    "innodb_force_recovery",
    "innodb_redo_log_archive_dirs",
    "innodb_use_fdatasync",
    "sync_binlog",
];

/// Beginnings of names.
const REPLICATION: [&str; 12] = [
    "binlog_format",
    "binlog_row",
    "enforce_gtid",
    "gtid_",
    "log_bin",
    "log_replica",
    "read_only",
    "relay_",
    "replica_",
    "server_",
    "super_read_only",
    "sync_relay_log",
];

/// Beginnings of names.
const OURS: [&str; 22] = [
    "admin_",
    "authentication_",
    "bind_",
    "caching_sha2",
    "datadir",
    "general_log",
    "init_",
    "local_infile",
    "log_error_s",
    "mysqlx",
    "performance_schema",
    "persist",
    "pid_file",
    "plugin",
    "port",
    "require_secure",
    "secure_",
    "skip_",
    "slow_query",
    "socket",
    "ssl",
    "tmpdir",
];

/// Why a parameter that exists is not one that a claim may set.
pub fn kept_back(name: &str) -> Option<&'static str> {
    let begins = |list: &[&str]| list.iter().any(|it| name.starts_with(it));
    if DURABILITY.contains(&name) {
        Some("what is committed must be safe, so this is no setting")
    } else if begins(&REPLICATION) {
        Some("replication and backups are the operator's")
    } else if begins(&OURS) || name.starts_with("tls_") {
        Some("files, addresses, plugins and logins are the operator's")
    } else {
        None
    }
}

/// What the engine's use of memory grows with.
pub const TAKE_MEMORY: &[&str] = &[
    "binlog_cache_size",
    "innodb_buffer_pool_size",
    "innodb_log_buffer_size",
    "join_buffer_size",
    "max_allowed_packet",
    "max_connections",
    "max_heap_table_size",
    "max_prepared_stmt_count",
    "read_buffer_size",
    "read_rnd_buffer_size",
    "sort_buffer_size",
    "table_definition_cache",
    "table_open_cache",
    "temptable_max_ram",
    "thread_cache_size",
    "tmp_table_size",
];

/// The most that a parameter may be, where memory decides that: the server must be able to start in it.
pub fn most(name: &str, memory: Bytes) -> Option<Bytes> {
    let most = match name {
        "innodb_buffer_pool_size" => memory.0 / 4 * 3,
        "innodb_log_buffer_size" | "temptable_max_ram" | "binlog_cache_size" => memory.0 / 4,
        _ => return None,
    };
    Some(Bytes(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_memory_can_be_set() {
        for name in TAKE_MEMORY {
            assert!(PARAMETERS.iter().any(|it| it.name == *name), "{name}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_keeps_nothing_back() {
        let names: Vec<_> = PARAMETERS.iter().map(|it| it.name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        for name in names {
            assert_eq!(kept_back(name), None, "{name}");
        }
    }
}
