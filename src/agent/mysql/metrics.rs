//! The server's metrics, from its status counters: they cost it next to nothing, also without performance schema.

use std::collections::HashMap;

use super::Mysql;
use super::text::literal;
use crate::agent::engine::EngineError;
use crate::agent::supervisor::metrics::{Kind, Page};

/// Status variable, metric, kind, help.
const STATUS: [(&str, &str, Kind, &str); 16] = [
    (
        "Threads_connected",
        "mysql_connections",
        Kind::Gauge,
        "Client connections.",
    ),
    (
        "Threads_running",
        "mysql_threads_running",
        Kind::Gauge,
        "Connections that are not idle.",
    ),
    (
        "Aborted_connects",
        "mysql_connects_failed_total",
        Kind::Counter,
        "Connections that could not be made.",
    ),
    (
        "Questions",
        "mysql_statements_total",
        Kind::Counter,
        "Statements of clients.",
    ),
    (
        "Slow_queries",
        "mysql_statements_slow_total",
        Kind::Counter,
        "Statements that took longer than long_query_time.",
    ),
    (
        "Handler_commit",
        "mysql_commits_total",
        Kind::Counter,
        "Commits, those inside of the server included.",
    ),
    (
        "Handler_rollback",
        "mysql_rollbacks_total",
        Kind::Counter,
        "Rollbacks, those inside of the server included.",
    ),
    (
        "Innodb_row_lock_waits",
        "mysql_row_lock_waits_total",
        Kind::Counter,
        "Waits for a row that somebody else had locked.",
    ),
    (
        "Innodb_row_lock_current_waits",
        "mysql_row_lock_waiting",
        Kind::Gauge,
        "Sessions that wait for a row now.",
    ),
    (
        "Innodb_buffer_pool_read_requests",
        "mysql_pages_requested_total",
        Kind::Counter,
        "Pages asked of the buffer pool.",
    ),
    (
        "Innodb_buffer_pool_reads",
        "mysql_pages_read_total",
        Kind::Counter,
        "Pages that had to be read from files.",
    ),
    (
        "Innodb_buffer_pool_bytes_dirty",
        "mysql_buffer_pool_dirty_bytes",
        Kind::Gauge,
        "Changed pages that are not yet in their files.",
    ),
    (
        "Innodb_os_log_written",
        "mysql_redo_written_bytes_total",
        Kind::Counter,
        "Bytes written to the redo log.",
    ),
    (
        "Created_tmp_disk_tables",
        "mysql_temporary_tables_on_disk_total",
        Kind::Counter,
        "Temporary tables that did not fit into memory.",
    ),
    (
        "Binlog_cache_disk_use",
        "mysql_binlog_cache_on_disk_total",
        Kind::Counter,
        "Transactions whose binary log did not fit into memory.",
    ),
    (
        "Uptime",
        "mysql_uptime_seconds",
        Kind::Gauge,
        "Since the server started.",
    ),
];

impl Mysql {
    pub(in crate::agent) async fn metrics(&self, database: &str) -> Result<String, EngineError> {
        let (session, attempt) = (self.session().await?, "collect metrics");
        let rows = session.rows(attempt, "SHOW GLOBAL STATUS").await?;
        let status: HashMap<String, f64> = rows
            .into_iter()
            .filter_map(|row| {
                let mut cells = row.into_iter();
                Some((cells.next()??, cells.next()??.parse().ok()?))
            })
            .collect();
        let sizes = format!(
            "SELECT @@GLOBAL.max_connections, (SELECT CAST(IFNULL(SUM(file_size), 0) AS CHAR) \
             FROM information_schema.innodb_tablespaces WHERE SUBSTRING_INDEX(name, '/', 1) = {})",
            literal(database)
        );
        let [connections, size] = session.one(attempt, &sizes).await?;
        let logs = session.rows(attempt, "SHOW BINARY LOGS").await?;
        let logged: f64 = logs
            .iter()
            .filter_map(|row| row.get(1)?.as_ref()?.parse::<f64>().ok())
            .sum();
        let mut page = Page::default();
        for (variable, name, kind, help) in STATUS {
            let value = status.get(variable).copied().unwrap_or_default();
            page.metric(name, kind, help, &[("", value)]);
        }
        for (name, help, value) in [
            (
                "mysql_max_connections",
                "Connections that the server allows.",
                number(&connections),
            ),
            (
                "mysql_database_size_bytes",
                "Size of the application's database.",
                number(&size),
            ),
            ("mysql_binlog_size_bytes", "Size of the binary logs.", logged),
        ] {
            page.metric(name, Kind::Gauge, help, &[("", value)]);
        }
        Ok(page.text())
    }
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_default()
}
