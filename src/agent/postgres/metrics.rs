//! The server's metrics: one query, one pass.

use tokio_postgres::Row;

use super::Postgres;
use super::sql::get;
use crate::agent::engine::EngineError;
use crate::agent::supervisor::metrics::{Kind, Page};

/// One row; everything as double precision, for that is what Prometheus keeps.
const QUERY: &str = "SELECT \
    (SELECT setting::float8 FROM pg_settings WHERE name = 'max_connections') AS max_connections, \
    (SELECT pg_database_size(oid)::float8 FROM pg_database WHERE datname = $1) AS size, \
    (SELECT sum(xact_commit)::float8 FROM pg_stat_database) AS commits, \
    (SELECT sum(xact_rollback)::float8 FROM pg_stat_database) AS rollbacks, \
    (SELECT sum(deadlocks)::float8 FROM pg_stat_database) AS deadlocks, \
    (SELECT sum(blks_hit)::float8 FROM pg_stat_database) AS hits, \
    (SELECT sum(blks_read)::float8 FROM pg_stat_database) AS reads, \
    (SELECT sum(temp_bytes)::float8 FROM pg_stat_database) AS temp, \
    (SELECT extract(epoch FROM max(clock_timestamp() - xact_start))::float8 FROM pg_stat_activity \
       WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()) AS oldest, \
    (SELECT max(age(datfrozenxid))::float8 FROM pg_database) AS frozen_age, \
    extract(epoch FROM pg_postmaster_start_time())::float8 AS started, \
    CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8 END AS wal, \
    (SELECT count(*)::float8 FROM pg_replication_slots WHERE active) AS slots_active, \
    (SELECT count(*)::float8 FROM pg_replication_slots WHERE NOT active) AS slots_inactive, \
    (SELECT max(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() \
       ELSE pg_current_wal_lsn() END, restart_lsn))::float8 FROM pg_replication_slots) AS retained";

const STATES: &str = "SELECT CASE WHEN state IN ('active', 'idle', 'idle in transaction') THEN state \
    ELSE 'other' END AS state, count(*)::float8 AS connections \
    FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY 1";

/// Column, metric, kind, help.
const SINGLE: [(&str, &str, Kind, &str); 13] = [
    (
        "max_connections",
        "pg_max_connections",
        Kind::Gauge,
        "Connections that the server allows.",
    ),
    (
        "size",
        "pg_database_size_bytes",
        Kind::Gauge,
        "Size of the application's database.",
    ),
    (
        "commits",
        "pg_transactions_committed_total",
        Kind::Counter,
        "Transactions committed.",
    ),
    (
        "rollbacks",
        "pg_transactions_rolled_back_total",
        Kind::Counter,
        "Transactions rolled back.",
    ),
    (
        "deadlocks",
        "pg_deadlocks_total",
        Kind::Counter,
        "Deadlocks found.",
    ),
    (
        "hits",
        "pg_blocks_hit_total",
        Kind::Counter,
        "Blocks found in the buffer cache.",
    ),
    (
        "reads",
        "pg_blocks_read_total",
        Kind::Counter,
        "Blocks read from files.",
    ),
    (
        "temp",
        "pg_temporary_bytes_total",
        Kind::Counter,
        "Bytes written to temporary files.",
    ),
    (
        "oldest",
        "pg_oldest_transaction_age_seconds",
        Kind::Gauge,
        "Age of the oldest open transaction.",
    ),
    (
        "frozen_age",
        "pg_transaction_id_age",
        Kind::Gauge,
        "Transactions since the oldest frozen one; 2^31 is the end.",
    ),
    (
        "started",
        "pg_start_time_seconds",
        Kind::Gauge,
        "When the server started, in Unix time.",
    ),
    (
        "wal",
        "pg_wal_written_bytes_total",
        Kind::Counter,
        "Position in the write-ahead log.",
    ),
    (
        "retained",
        "pg_replication_slots_retained_bytes",
        Kind::Gauge,
        "Most log that a slot holds back.",
    ),
];

impl Postgres {
    pub(in crate::agent) async fn metrics(&self, database: &str) -> Result<String, EngineError> {
        let session = self.session().await?;
        let row = session.one("collect metrics", QUERY, &[&database]).await?;
        let states = session.rows("collect metrics", STATES, &[]).await?;
        let mut page = Page::default();
        for (column, name, kind, help) in SINGLE {
            // NULL: there is none of it, for example no open transaction.
            let value: Option<f64> = get(&row, column)?;
            page.metric(name, kind, help, &[("", value.unwrap_or(0.0))]);
        }
        page.metric(
            "pg_connections",
            Kind::Gauge,
            "Client connections.",
            &connections(&states)?,
        );
        let slots = [
            ("active=\"true\"", number(&row, "slots_active")?),
            ("active=\"false\"", number(&row, "slots_inactive")?),
        ];
        page.metric("pg_replication_slots", Kind::Gauge, "Replication slots.", &slots);
        Ok(page.text())
    }
}

/// Every state is there, also with nobody in it: a series that comes and goes cannot be alerted on.
fn connections(rows: &[Row]) -> Result<[(&'static str, f64); 4], EngineError> {
    let mut counts = [
        ("state=\"active\"", 0.0),
        ("state=\"idle\"", 0.0),
        ("state=\"idle in transaction\"", 0.0),
        ("state=\"other\"", 0.0),
    ];
    for row in rows {
        let (state, connections): (String, f64) = (get(row, "state")?, number(row, "connections")?);
        let label = format!("state=\"{state}\"");
        for (_, count) in counts.iter_mut().filter(|(known, _)| *known == label) {
            *count = connections;
        }
    }
    Ok(counts)
}

fn number(row: &Row, column: &str) -> Result<f64, EngineError> {
    Ok(get::<Option<f64>>(row, column)?.unwrap_or(0.0))
}
