//! The agent in the Pod of a claim, played: which configuration it runs with, and what it reports. As with the real
//! one, a Pod starts with the files that there are, and gets changed ones when it is told that they are wanted.

use std::collections::BTreeMap;

use dbclaim::api::key;
use dbclaim::api::protocol::{
    Applied, Credentials, FORMAT, Initialized, MemberConfig, MemberPhase, Report, TlsReport, WriteTest, path,
};
use dbclaim::certificate::{fingerprint, first};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::ResourceExt as _;
use serde_json::Value;

/// The minor version that an image of a whole series has.
pub const NEWEST: u32 = 99;

/// Settings by name, as an engine's file says them.
pub type Settings = BTreeMap<String, String>;

/// The agent of one Pod after the other.
#[derive(Default)]
pub struct Agent {
    pod: String,
    /// What its engine was started with.
    started: Settings,
    /// What it was told last, and the name of that.
    taken: Settings,
    generation: String,
}

impl Agent {
    /// Whether it is the one of this Pod.
    pub fn is_of(&self, pod: &Pod) -> bool {
        pod.metadata.uid.as_ref() == Some(&self.pod)
    }

    /// What it says, if it has what it needs.
    pub fn report(&mut self, pod: &Pod, config: &ConfigMap, secret: &Secret) -> Option<Report> {
        let member: MemberConfig =
            serde_json::from_str(config.data.as_ref()?.get(path::MEMBER_FILE)?).ok()?;
        let credentials = &secret.data.as_ref()?.get(path::CREDENTIALS_FILE)?.0;
        let credentials: Credentials = serde_json::from_slice(credentials).ok()?;
        let settings = settings(config)?;
        if !self.is_of(pod) {
            self.pod = pod.uid()?;
            self.started = settings.clone();
            self.take(settings, &member);
        } else if wanted(pod).as_ref() == Some(&member.generation) {
            self.take(settings, &member);
        }
        Some(Report {
            v: FORMAT,
            agent: "test".into(),
            pod_uid: self.pod.clone(),
            phase: MemberPhase::Running,
            trouble: None,
            version: Some(version(pod)?),
            initialized: Some(Initialized {
                at: "2026-01-01T00:00:00Z".into(),
                system_identifier: "7".into(),
            }),
            applied: Applied {
                config: self.generation.clone(),
                credentials: credentials.generation,
                previous_until: credentials.previous_until(),
            },
            pending_restart: pending((&member.engine, &member.major), &self.started, &self.taken),
            write_test: Some(WriteTest {
                ok: true,
                message: None,
            }),
            access: None,
            password_set_back: None,
            disk_percent: Some(5),
            tls: Some(tls(secret)?),
        })
    }

    fn take(&mut self, settings: Settings, member: &MemberConfig) {
        self.taken = settings;
        self.generation.clone_from(&member.generation);
    }
}

/// What differs between two configurations and cannot be changed while an engine of this series runs.
pub fn pending((engine, series): (&str, &str), started: &Settings, wanted: &Settings) -> Vec<String> {
    let names = started.keys().chain(wanted.keys());
    let waits =
        |name: &&String| started.get(*name) != wanted.get(*name) && needs_restart(engine, series, name);
    let mut pending: Vec<_> = names.filter(waits).cloned().collect();
    pending.sort();
    pending.dedup();
    pending
}

/// What is shown of a certificate. There is none for a moment after the Secret was deleted; then one is due.
fn tls(secret: &Secret) -> Option<TlsReport> {
    let secret = secret.data.as_ref()?;
    let certificate = secret
        .get(path::CERTIFICATE_FILE)
        .and_then(|it| std::str::from_utf8(&it.0).ok());
    let certificate = certificate.and_then(|it| first(it).ok());
    Some(TlsReport {
        due: certificate.is_none().then(|| "1970-01-01T00:00:00Z".into()),
        certificate: certificate.map(|it| fingerprint(&it)).unwrap_or_default(),
        ca: fingerprint(&secret.get(path::CA_FILE)?.0),
        verified: true,
        trouble: None,
    })
}

/// The configuration that a Pod is told to take over.
fn wanted(pod: &Pod) -> Option<String> {
    let wanted: Value = serde_json::from_str(pod.annotations().get(key::WANTED)?).ok()?;
    Some(wanted["config"].as_str()?.to_owned())
}

/// The lines of the engine's own file.
fn settings(config: &ConfigMap) -> Option<Settings> {
    let data = config.data.as_ref()?;
    let file = data.get("postgresql.conf").or_else(|| data.get("my.cnf"))?;
    let line = |line: &str| {
        let (name, value) = line.split_once(" = ")?;
        Some((name.to_owned(), value.trim_matches('\'').to_owned()))
    };
    Some(file.lines().filter_map(line).collect())
}

/// The version of the engine in a Pod's image.
fn version(pod: &Pod) -> Option<String> {
    let containers = &pod.spec.as_ref()?.containers;
    let image = containers
        .iter()
        .find(|it| it.name == "database")?
        .image
        .as_deref()?;
    let (name, tag) = image.rsplit_once(':')?;
    let exact = 1 + usize::from(name.ends_with("mysql"));
    if tag.matches('.').count() == exact {
        Some(tag.to_owned())
    } else {
        Some(format!("{tag}.{NEWEST}"))
    }
}

/// Whether a setting is one that the engine takes only when it starts, of those that a claim leads to.
/// PostgreSQL: `context` is `postmaster` in `pg_settings`. MySQL: not dynamic in the manual's list.
fn needs_restart(engine: &str, major: &str, name: &str) -> bool {
    match (engine, name) {
        ("postgres", "autovacuum_max_workers") => major == "17",
        ("postgres", name) => POSTMASTER.contains(&name),
        (_, name) => NOT_DYNAMIC.contains(&name),
    }
}

const POSTMASTER: [&str; 20] = [
    "autovacuum_freeze_max_age",
    "autovacuum_multixact_freeze_max_age",
    "huge_pages",
    "listen_addresses",
    "max_connections",
    "max_files_per_process",
    "max_locks_per_transaction",
    "max_pred_locks_per_transaction",
    "max_prepared_transactions",
    "max_replication_slots",
    "max_wal_senders",
    "max_worker_processes",
    "port",
    "shared_buffers",
    "shared_preload_libraries",
    "track_activity_query_size",
    "track_commit_timestamp",
    "wal_buffers",
    "wal_level",
    "wal_log_hints",
];

const NOT_DYNAMIC: [&str; 10] = [
    "back_log",
    "bind_address",
    "innodb_buffer_pool_chunk_size",
    "innodb_buffer_pool_instances",
    "innodb_purge_threads",
    "innodb_read_io_threads",
    "innodb_write_io_threads",
    "performance_schema",
    "port",
    "skip_name_resolve",
];
