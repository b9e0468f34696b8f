//! What the operator and the agent say to each other, and what is kept on the volume.
//!
//! The operator speaks through mounted files (a ConfigMap, a Secret) and through Pod annotations that a
//! downward-API volume shows to the agent; the agent answers with one annotation on its report ConfigMap.
//! Every document carries `v`, its format version. Readers ignore fields that they do not know.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Format version that this build writes.
pub const FORMAT: u32 = 1;

/// Paths inside the database container, fixed between operator and agent.
pub mod path {
    /// The agent's own binary, put there by the init container.
    pub const AGENT_DIR: &str = "/agent";
    /// The PersistentVolume: `identity.json`, `state.json`, `<engine>/<major>/data`, `quarantine/`.
    pub const VOLUME: &str = "/var/lib/dbclaim";
    /// An emptyDir for sockets, pid files and temporary files.
    pub const RUN: &str = "/run/dbclaim";
    /// The `<claim>-db-config` ConfigMap: [`MEMBER_FILE`] and the engine's own files.
    pub const CONFIG: &str = "/etc/dbclaim/config";
    /// The `<claim>-db-admin` Secret (optional; may be empty for a while): [`CREDENTIALS_FILE`], [`CA_FILE`],
    /// [`CERTIFICATE_FILE`], [`KEY_FILE`].
    pub const CREDENTIALS: &str = "/etc/dbclaim/credentials";
    /// Downward API: one file, `annotations`, with the Pod's annotations.
    pub const POD: &str = "/etc/dbclaim/pod";
    /// Projected: `token`, `ca.crt`, `namespace` of the agent's ServiceAccount.
    pub const API: &str = "/etc/dbclaim/api";
    /// Key of the ConfigMap that holds a [`super::MemberConfig`].
    pub const MEMBER_FILE: &str = "member.json";
    /// Key of the Secret that holds [`super::Credentials`].
    pub const CREDENTIALS_FILE: &str = "credentials.json";
    /// Key of both Secrets: certificates of the authorities to trust, the newest first. PEM.
    pub const CA_FILE: &str = "ca.crt";
    /// Key of the Secret, never mounted: private key of the newest authority. PEM.
    pub const CA_KEY_FILE: &str = "ca.key";
    /// Key of the Secret: the server's certificate. PEM.
    pub const CERTIFICATE_FILE: &str = "tls.crt";
    /// Key of the Secret: the server's private key. PEM.
    pub const KEY_FILE: &str = "tls.key";
}

/// TCP port of the agent's HTTP server: `/readyz`, `/metrics`. Container port names `agent` and `metrics`.
pub const AGENT_PORT: u16 = 8009;

/// `member.json`: everything that the agent needs to know besides credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberConfig {
    /// Format version.
    pub v: u32,
    /// Names this configuration as a whole; echoed in [`Applied::config`] once it is in force.
    pub generation: String,
    /// Engine, in the claim's spelling (`postgres`).
    pub engine: String,
    /// Release series of the engine, for example `17` or `9.7`. The data directory carries it.
    pub major: String,
    /// `namespace/name` of the claim.
    pub claim: String,
    /// Application database to create.
    pub database: String,
    /// Application role to create; owner of the database.
    pub username: String,
    /// Extensions to create in the application's database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<String>,
    /// Report ConfigMap by member id.
    pub reports: BTreeMap<u32, String>,
    /// What the volume of each member must hold, by member id.
    pub volumes: BTreeMap<u32, VolumeExpectation>,
    /// Name by which clients reach the database, which its certificate must be for; empty from an operator that
    /// knows nothing of certificates.
    #[serde(default)]
    pub host: String,
    /// Seconds a fast stop may take before the processes are killed; below the Pod's grace period.
    pub stop_seconds: u32,
}

/// What a member's volume must hold. Anything else is Blocked; nothing is ever initialised over data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeExpectation {
    /// Identity that the operator gave the volume when it created the PVC.
    pub volume_id: String,
    /// Absent: the volume was never initialised, and initialising it when it is empty is allowed.
    /// Present: the volume must hold exactly this system; an empty one is `DataMissing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<String>,
}

/// `credentials.json` in the admin Secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// Format version.
    pub v: u32,
    /// Counts up with every change of a password; echoed in [`Applied::credentials`].
    pub generation: u64,
    /// Password of the application role.
    pub password: String,
    /// Name that applications log in with; absent: that of the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// The credentials before these, where they were rotated: present, they stay valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Box<Previous>>,
    /// Rotation that was asked for and brought these, or was there before them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<String>,
    /// Request to end the previous credentials that was carried out last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Box<str>>,
}

impl Credentials {
    /// Name that applications log in with. `username`: the application role.
    pub fn login<'a>(&'a self, username: &'a str) -> &'a str {
        self.login.as_deref().unwrap_or(username)
    }

    /// Password of the credentials before these, as far as it is known.
    pub fn previous_password(&self) -> Option<&str> {
        self.previous.as_ref()?.password.as_deref()
    }

    /// End of the credentials before these, as far as it is known.
    pub fn previous_until(&self) -> Option<Timestamp> {
        self.previous.as_ref()?.until
    }

    /// Whether the credentials before these stay valid, until applications have these.
    pub fn previous_is_open(&self) -> bool {
        self.previous.as_ref().is_some_and(|it| it.until.is_none())
    }

    /// Whether the credentials before these stay valid for now.
    pub fn previous_is_valid(&self, now: Timestamp) -> bool {
        let valid = |it: &Previous| it.until.is_none_or(|until| now < until);
        self.previous.as_deref().is_some_and(valid)
    }
}

/// Credentials that were replaced.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Previous {
    /// When they end. Absent as long as applications were not given the new ones: the overlap begins then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Their password, which the agent keeps valid until then. Absent where it is not known: the agent keeps what
    /// the database has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Whether they end as soon as applications were given the new ones, without an overlap.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_once: bool,
}

impl std::fmt::Debug for Previous {
    // A password must never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Previous")
            .field("until", &self.until)
            .field("at_once", &self.at_once)
            .finish_non_exhaustive()
    }
}

/// The other name by which applications log in, where an engine knows one password per role: rotations alternate
/// between the two. No claim's username begins so.
pub fn second_login(username: &str) -> String {
    format!("dbclaim_{username}")
}

impl std::fmt::Debug for Credentials {
    // A password must never reach a log, not even by `{:?}`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// `identity.json` on the volume, written before and completed after initialisation; also the value of the
/// PVC's identity annotation. The PVC is the record; status only shows a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Format version.
    pub v: u32,
    /// `namespace/name` of the claim for which the volume was made.
    pub claim: String,
    /// Identity of the volume itself; survives the claim (undelete).
    pub volume_id: String,
    /// Member id.
    pub member: u32,
    /// Engine, in the claim's spelling.
    pub engine: String,
    /// Release series of the data directory.
    pub major: String,
    /// Application database.
    pub database: String,
    /// Application role.
    pub username: String,
    /// Set once initialisation has completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialized: Option<Initialized>,
}

/// The facts of a completed initialisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Initialized {
    /// RFC 3339, UTC.
    pub at: String,
    /// The engine's own identifier of the data (PostgreSQL: `system_identifier`; MySQL: `server-uuid`).
    pub system_identifier: String,
}

/// The agent's report, the JSON value of one annotation on the member's report ConfigMap.
/// Written only when something material has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Format version.
    pub v: u32,
    /// Version of the agent.
    pub agent: String,
    /// UID of the Pod that reports; a report of another Pod is history.
    pub pod_uid: String,
    /// What the member is doing.
    pub phase: MemberPhase,
    /// Why it cannot go on, when `phase` is `Blocked` or `Failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// Full version of the running engine, for example `17.5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What the volume was initialised as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialized: Option<Initialized>,
    /// What is in force.
    pub applied: Applied,
    /// Settings that wait for a restart, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending_restart: Vec<String>,
    /// Outcome of the newest write test; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_test: Option<WriteTest>,
    /// What keeps an application out that uses the Secret, although the engine runs; absent while nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Trouble>,
    /// When a password that was changed inside the database was last set back to that of the Secret, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_set_back: Option<String>,
    /// What clients get to see of TLS; absent from an agent that knows nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsReport>,
    /// Fill level of the volume in percent, rounded down to a multiple of 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_percent: Option<u8>,
}

/// What a member is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberPhase {
    /// Waits for its files (credentials) or sets up the volume.
    Starting,
    /// Creates the data directory.
    Initializing,
    /// The engine runs and does not accept connections yet (crash recovery).
    Recovering,
    /// The engine accepts connections.
    Running,
    /// The engine is being stopped on purpose.
    Stopping,
    /// Something must be decided by a human; see [`Report::trouble`].
    Blocked,
    /// The engine does not stay up; see [`Report::trouble`]. The agent goes on trying.
    Failed,
}

/// A reason with a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// CamelCase, for conditions: `DataMissing`, `DataForeign`, `DataIncomplete`, `EngineFailed`, …
    pub reason: String,
    /// What is wrong, where, and what to do; no secret in it.
    pub message: String,
}

/// Generations in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// [`MemberConfig::generation`]; empty before the first.
    #[serde(default)]
    pub config: String,
    /// [`Credentials::generation`]; 0 before the first.
    #[serde(default)]
    pub credentials: u64,
    /// [`Previous::until`] of these credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_until: Option<Timestamp>,
}

/// What clients get to see of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsReport {
    /// Fingerprint of the certificate that the engine shows; empty while it shows none.
    #[serde(default)]
    pub certificate: String,
    /// Fingerprint of `ca.crt` as the agent has it; empty while it has none.
    #[serde(default)]
    pub ca: String,
    /// Whether a client that trusts `ca.crt` and nothing else accepts it.
    #[serde(default)]
    pub verified: bool,
    /// What is wrong with it, or with the one that should take its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// When something is to be renewed, RFC 3339: long before it expires. Absent while nothing is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<String>,
}

/// Outcome of a write test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteTest {
    /// Whether a committed write was read back.
    pub ok: bool,
    /// The engine's message when it failed; without secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
