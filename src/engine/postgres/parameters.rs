//! PostgreSQL: the parameters that a claim may set, and why others are not among them. Pure.
//!
//! Names, kinds, units and bounds are those of `pg_settings`. What takes a restart is bounded more narrowly, so
//! that the server starts on it. The engine has the last word: what it refuses shows in the claim's conditions.

use crate::claim::quantity::Bytes;
use crate::engine::setting::{Parameter, number, switch, whole, word};

const MEMORY: &[(&str, f64)] = &[
    ("B", 1.0),
    ("kB", 1024.0),
    ("MB", 1_048_576.0),
    ("GB", 1_073_741_824.0),
    ("TB", 1_099_511_627_776.0),
];
const TIME: &[(&str, f64)] = &[
    ("us", 1.0),
    ("ms", 1_000.0),
    ("s", 1_000_000.0),
    ("min", 60_000_000.0),
    ("h", 3_600_000_000.0),
    ("d", 86_400_000_000.0),
];

/// By name.
pub const PARAMETERS: &[Parameter] = &[
    number("autovacuum_analyze_scale_factor", 0.0, 100.0),
    whole("autovacuum_analyze_threshold", 0.0, 2_147_483_647.0),
    whole("autovacuum_freeze_max_age", 100_000.0, 2_000_000_000.0),
    whole("autovacuum_max_workers", 1.0, 64.0),
    whole("autovacuum_multixact_freeze_max_age", 10_000.0, 2_000_000_000.0),
    time(
        "autovacuum_naptime",
        1_000_000.0,
        1_000_000.0,
        2_147_483_000_000.0,
    ),
    time("autovacuum_vacuum_cost_delay", 1000.0, -1.0, 100_000.0),
    whole("autovacuum_vacuum_cost_limit", -1.0, 10_000.0),
    number("autovacuum_vacuum_insert_scale_factor", 0.0, 100.0),
    whole("autovacuum_vacuum_insert_threshold", -1.0, 2_147_483_647.0),
    number("autovacuum_vacuum_scale_factor", 0.0, 100.0),
    whole("autovacuum_vacuum_threshold", 0.0, 2_147_483_647.0),
    memory("autovacuum_work_mem", 1024.0, -1.0, 17_179_869_184.0),
    time("bgwriter_delay", 1000.0, 10_000.0, 10_000_000.0),
    whole("bgwriter_lru_maxpages", 0.0, 1_073_741_823.0),
    number("bgwriter_lru_multiplier", 0.0, 10.0),
    number("checkpoint_completion_target", 0.0, 1.0),
    time("checkpoint_timeout", 1_000_000.0, 30_000_000.0, 86_400_000_000.0),
    time("checkpoint_warning", 1_000_000.0, 0.0, 2_147_483_647_000_000.0),
    word("constraint_exclusion", &["partition", "on", "off"]),
    number("cpu_index_tuple_cost", 0.0, 1_000_000_000.0),
    number("cpu_operator_cost", 0.0, 1_000_000_000.0),
    number("cpu_tuple_cost", 0.0, 1_000_000_000.0),
    number("cursor_tuple_fraction", 0.0, 1.0),
    time("deadlock_timeout", 1000.0, 1000.0, 2_147_483_647_000.0),
    whole("default_statistics_target", 1.0, 10_000.0),
    word(
        "default_transaction_isolation",
        &[
            "serializable",
            "repeatable read",
            "read committed",
            "read uncommitted",
        ],
    ),
    memory("effective_cache_size", 8192.0, 8192.0, 17_592_186_036_224.0),
    whole("effective_io_concurrency", 0.0, 1000.0),
    switch("enable_async_append"),
    switch("enable_bitmapscan"),
    switch("enable_gathermerge"),
    switch("enable_hashagg"),
    switch("enable_hashjoin"),
    switch("enable_incremental_sort"),
    switch("enable_indexonlyscan"),
    switch("enable_indexscan"),
    switch("enable_material"),
    switch("enable_memoize"),
    switch("enable_mergejoin"),
    switch("enable_nestloop"),
    switch("enable_parallel_append"),
    switch("enable_parallel_hash"),
    switch("enable_partition_pruning"),
    switch("enable_partitionwise_aggregate"),
    switch("enable_partitionwise_join"),
    switch("enable_seqscan"),
    switch("enable_sort"),
    switch("enable_tidscan"),
    whole("from_collapse_limit", 1.0, 2_147_483_647.0),
    switch("geqo"),
    whole("geqo_effort", 1.0, 10.0),
    whole("geqo_threshold", 2.0, 2_147_483_647.0),
    memory("gin_pending_list_limit", 1024.0, 65_536.0, 2_147_483_648.0),
    number("hash_mem_multiplier", 1.0, 1000.0),
    time(
        "idle_in_transaction_session_timeout",
        1000.0,
        0.0,
        2_147_483_647_000.0,
    ),
    time("idle_session_timeout", 1000.0, 0.0, 2_147_483_647_000.0),
    switch("jit"),
    number("jit_above_cost", -1.0, 1_000_000_000.0),
    number("jit_inline_above_cost", -1.0, 1_000_000_000.0),
    number("jit_optimize_above_cost", -1.0, 1_000_000_000.0),
    whole("join_collapse_limit", 1.0, 2_147_483_647.0),
    time("lock_timeout", 1000.0, 0.0, 2_147_483_647_000.0),
    time("log_autovacuum_min_duration", 1000.0, -1.0, 2_147_483_647_000.0),
    switch("log_checkpoints"),
    switch("log_connections"),
    switch("log_disconnections"),
    switch("log_lock_waits"),
    time("log_min_duration_sample", 1000.0, -1.0, 2_147_483_647_000.0),
    time("log_min_duration_statement", 1000.0, -1.0, 2_147_483_647_000.0),
    memory("log_temp_files", 1024.0, -1.0, 2_199_023_254_528.0),
    memory("logical_decoding_work_mem", 1024.0, 65_536.0, 17_179_869_184.0),
    memory("maintenance_work_mem", 1024.0, 1_048_576.0, 17_179_869_184.0),
    whole("max_connections", 20.0, 5000.0),
    whole("max_locks_per_transaction", 10.0, 4096.0),
    whole("max_parallel_maintenance_workers", 0.0, 64.0),
    whole("max_parallel_workers", 0.0, 512.0),
    whole("max_parallel_workers_per_gather", 0.0, 64.0),
    whole("max_pred_locks_per_transaction", 10.0, 4096.0),
    memory("max_wal_size", 1_048_576.0, 67_108_864.0, 1_099_511_627_776.0),
    whole("max_worker_processes", 8.0, 512.0),
    memory("min_wal_size", 1_048_576.0, 33_554_432.0, 1_099_511_627_776.0),
    number("parallel_setup_cost", 0.0, 1_000_000_000.0),
    number("parallel_tuple_cost", 0.0, 1_000_000_000.0),
    word(
        "plan_cache_mode",
        &["auto", "force_generic_plan", "force_custom_plan"],
    ),
    number("random_page_cost", 0.0, 1_000_000_000.0),
    number("seq_page_cost", 0.0, 1_000_000_000.0),
    memory("shared_buffers", 8192.0, 33_554_432.0, 1_099_511_627_776.0),
    time("statement_timeout", 1000.0, 0.0, 2_147_483_647_000.0),
    whole("tcp_keepalives_count", 0.0, 2_147_483_647.0),
    time("tcp_keepalives_idle", 1_000_000.0, 0.0, 2_147_483_647_000_000.0),
    time(
        "tcp_keepalives_interval",
        1_000_000.0,
        0.0,
        2_147_483_647_000_000.0,
    ),
    time("tcp_user_timeout", 1000.0, 0.0, 2_147_483_647_000.0),
    memory("temp_buffers", 8192.0, 819_200.0, 8_589_934_592.0),
    memory("temp_file_limit", 1024.0, -1.0, 2_199_023_254_528.0),
    memory("track_activity_query_size", 1.0, 100.0, 1_048_576.0),
    switch("track_commit_timestamp"),
    word("track_functions", &["none", "pl", "all"]),
    switch("track_io_timing"),
    switch("track_wal_io_timing"),
    time("transaction_timeout", 1000.0, 0.0, 2_147_483_647_000.0),
    time("vacuum_cost_delay", 1000.0, 0.0, 100_000.0),
    whole("vacuum_cost_limit", 1.0, 10_000.0),
    whole("vacuum_cost_page_dirty", 0.0, 10_000.0),
    whole("vacuum_cost_page_hit", 0.0, 10_000.0),
    whole("vacuum_cost_page_miss", 0.0, 10_000.0),
    whole("vacuum_failsafe_age", 0.0, 2_100_000_000.0),
    whole("vacuum_freeze_min_age", 0.0, 1_000_000_000.0),
    whole("vacuum_freeze_table_age", 0.0, 2_000_000_000.0),
    whole("vacuum_multixact_failsafe_age", 0.0, 2_100_000_000.0),
    whole("vacuum_multixact_freeze_min_age", 0.0, 1_000_000_000.0),
    whole("vacuum_multixact_freeze_table_age", 0.0, 2_000_000_000.0),
    memory("wal_buffers", 8192.0, -1.0, 134_217_728.0),
    word("wal_compression", &["pglz", "lz4", "zstd", "on", "off"]),
    memory("work_mem", 1024.0, 65_536.0, 17_179_869_184.0),
];

const fn memory(name: &'static str, plain: f64, least: f64, most: f64) -> Parameter {
    Parameter::amount(name, MEMORY, plain, least, most)
}

const fn time(name: &'static str, plain: f64, least: f64, most: f64) -> Parameter {
    Parameter::amount(name, TIME, plain, least, most)
}

/// Why a parameter that exists is not one that a claim may set.
pub fn kept_back(name: &str) -> Option<&'static str> {
    let durability = [
        "fsync",
        "full_page_writes",
        "synchronous_commit",
        "wal_sync_method",
        "zero_damaged_pages",
        "ignore_checksum_failure",
        "data_sync_retry",
        "wal_writer_delay",
        "track_counts",
        "autovacuum",
    ];
    let replication = [
        "wal_level",
        "wal_log_hints",
        "max_wal_senders",
        "max_replication_slots",
        "hot_standby",
        "primary_conninfo",
        "primary_slot_name",
        "synchronous_standby_names",
        "restore_command",
        "transaction_read_only",
        "default_transaction_read_only",
    ];
    let prefixes = |list: &[&str]| list.iter().any(|it| name.starts_with(it));
    if durability.contains(&name) {
        Some("what is committed must be safe, so this is no setting")
    } else if replication.contains(&name) || prefixes(&["archive_", "recovery_", "wal_keep", "max_slot_wal"])
    {
        Some("replication and backups are the operator's")
    } else if name.ends_with("_libraries")
        || name.ends_with("_file")
        || name.ends_with("_directory")
        || name.ends_with("_directories")
        || name.ends_with("_path")
        || name.ends_with("_command")
        || prefixes(&[
            "ssl",
            "listen_",
            "unix_socket",
            "log_file",
            "logging_",
            "password_",
            "krb_",
        ])
        || matches!(
            name,
            "port" | "include" | "include_dir" | "include_if_exists" | "allow_alter_system"
        )
    {
        Some("files, addresses, libraries and logins are the operator's")
    } else {
        None
    }
}

/// What the engine's use of memory grows with.
pub const TAKE_MEMORY: &[&str] = &[
    "autovacuum_max_workers",
    "autovacuum_work_mem",
    "hash_mem_multiplier",
    "logical_decoding_work_mem",
    "maintenance_work_mem",
    "max_connections",
    "max_locks_per_transaction",
    "max_parallel_maintenance_workers",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "max_pred_locks_per_transaction",
    "max_worker_processes",
    "shared_buffers",
    "temp_buffers",
    "track_activity_query_size",
    "wal_buffers",
    "work_mem",
];

/// The most that a parameter may be, where memory decides that: the server must be able to start in it.
pub fn most(name: &str, memory: Bytes) -> Option<Bytes> {
    let most = match name {
        "shared_buffers" => memory.0 / 2,
        "work_mem"
        | "maintenance_work_mem"
        | "temp_buffers"
        | "autovacuum_work_mem"
        | "logical_decoding_work_mem" => memory.0,
        _ => return None,
    };
    Some(Bytes(most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;

    #[test]
    fn what_takes_memory_can_be_set() {
        for name in TAKE_MEMORY {
            assert!(PARAMETERS.iter().any(|it| it.name == *name), "{name}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_keeps_nothing_back() {
        let names: Vec<_> = PARAMETERS.iter().map(|it| it.name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
        for name in names {
            assert_eq!(kept_back(name), None, "{name}");
        }
    }

    #[test]
    fn shared_buffers_must_fit() {
        let refuses = |value| Engine::Postgres.refuses("shared_buffers", value, Bytes(512 * Bytes::MIB));
        assert_eq!(refuses("256MB"), None);
        assert!(refuses("257MB").is_some());
        assert!(refuses("40000").is_some(), "in pages of 8 kB");
    }
}
