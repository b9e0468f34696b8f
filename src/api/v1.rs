//! `platform.acme.com/v1` `DatabaseClaim`: the Rust types from which the CRD is generated.
//!
//! Field documentation here is user documentation: it is what `kubectl explain` prints.

#![expect(
    unreachable_pub,
    reason = "the derives repeat each struct inside a private item"
)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A database, asked for by an application team and kept running by the operator.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "platform.acme.com",
    version = "v1",
    kind = "DatabaseClaim",
    doc = "A database, asked for by an application team and kept running by the operator.",
    plural = "databaseclaims",
    singular = "databaseclaim",
    shortname = "dbclaim",
    shortname = "dbclaims",
    namespaced,
    status = "DatabaseClaimStatus",
    derive = "PartialEq",
    printcolumn(name = "Engine", type_ = "string", json_path = ".spec.engine"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.members[0].version"),
    printcolumn(name = "Size", type_ = "string", json_path = ".spec.size"),
    printcolumn(name = "Team", type_ = "string", json_path = ".spec.team"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Storage", type_ = "string", json_path = ".status.resolved.storage", priority = 1),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoints.readWrite", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        priority = 1
    ),
    validation = Rule::new("self.metadata.name.size() <= 46 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be at most 46 characters of a-z, 0-9 and '-', begin with a letter and end with a letter or digit; names of Pods and Services are made from it"),
    // The rules that look at the status look at what a field changes to: an object that was stored with it stays
    // valid, whatever its status says later. Otherwise every write to it would be refused, of a label or of the status.
    validation = Rule::new("!has(self.spec.storage) || has(oldSelf.spec.storage) && self.spec.storage == oldSelf.spec.storage || !has(oldSelf.status) || !has(oldSelf.status.resolved) || !has(oldSelf.status.members) || !oldSelf.status.members.exists(m, has(m.storage)) || !isQuantity(oldSelf.status.resolved.storage) || !isQuantity(self.spec.storage) || quantity(self.spec.storage).compareTo(quantity(oldSelf.status.resolved.storage)) >= 0")
        .message("spec.storage cannot be lowered below what the volume has (status.resolved.storage); a volume cannot shrink"),
    validation = Rule::new("has(self.spec.storageClassName) == has(oldSelf.spec.storageClassName) && (!has(self.spec.storageClassName) || self.spec.storageClassName == oldSelf.spec.storageClassName) || !has(oldSelf.status) || !has(oldSelf.status.members) || !oldSelf.status.members.exists(m, has(m.storage)) || has(self.spec.storageClassName) && has(oldSelf.status.resolved) && has(oldSelf.status.resolved.storageClassName) && self.spec.storageClassName == oldSelf.status.resolved.storageClassName")
        .message("spec.storageClassName cannot be changed once there is a volume, other than to the class of that volume (status.resolved.storageClassName); create a new claim in the other class and copy the data"),
    validation = Rule::new("!has(self.spec.version) || has(oldSelf.spec.version) && self.spec.version == oldSelf.spec.version || !has(oldSelf.status) || !has(oldSelf.status.resolved) || self.spec.version.find('^([89][.][0-9]+|[0-9]+)') == oldSelf.status.resolved.version.find('^([89][.][0-9]+|[0-9]+)')")
        .message("spec.version must be of the series that the data is of (status.resolved.version)"),
    validation = Rule::new("!has(self.spec.version) || has(oldSelf.spec.version) && self.spec.version == oldSelf.spec.version || !has(oldSelf.status) || !has(oldSelf.status.members) || !self.spec.version.matches('^([89][.][0-9]+|[1-9][0-9])[.][0-9]+$') || !oldSelf.status.members.exists(m, has(m.version) && m.version.matches('^[0-9]+([.][0-9]+){1,2}$') && m.version.startsWith(self.spec.version.find('^([89][.][0-9]+|[0-9]+)') + '.') && int(m.version.split('.')[m.version.split('.').size() - 1]) > int(self.spec.version.split('.')[self.spec.version.split('.').size() - 1]))")
        .message("spec.version cannot be lowered below the version that has run (status.members[].version); the engine may not read what a newer one wrote")
)]
#[x_kube(
    validation = Rule::new("self.engine != 'postgres' || !has(self.version) || self.version.matches('^(17|18)([.][0-9]+)?$')")
        .message(Message::Expression("'version \"' + self.version + '\" is not one of PostgreSQL; available are 17 and 18, and exact ones of these such as 17.5'".into()))
        .field_path(".version"),
    validation = Rule::new("self.engine != 'mysql' || !has(self.version) || self.version.matches('^(8[.]4|9[.]7)([.][0-9]+)?$')")
        .message(Message::Expression("'version \"' + self.version + '\" is not one of MySQL; available are 8.4 and 9.7, and exact ones of these such as 9.7.4'".into()))
        .field_path(".version"),
    validation = Rule::new("self.engine == oldSelf.engine")
        .message("engine cannot be changed; create a new claim and copy the data"),
    validation = Rule::new("!(has(self.version) && has(oldSelf.version)) || self.version.find('^([89][.][0-9]+|[0-9]+)') == oldSelf.version.find('^([89][.][0-9]+|[0-9]+)')")
        .message("the series of the version (17, 9.7) cannot be changed yet; create a new claim of the wanted version and copy the data"),
    validation = Rule::new("self.database == oldSelf.database")
        .message("database cannot be changed; it was created when the claim was"),
    validation = Rule::new("self.username == oldSelf.username")
        .message("username cannot be changed; it was created when the claim was")
)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseClaimSpec {
    /// Database engine: `postgres` or `mysql`. Cannot be changed.
    pub engine: EngineName,

    /// Size of the database: CPU, memory and default storage together. `small` (250m–1 CPU, 512Mi, 5Gi),
    /// `medium` (1–2 CPU, 2Gi, 20Gi) or `large` (4–8 CPU, 16Gi, 100Gi). A change restarts the database once,
    /// but for a larger MySQL where the cluster can resize its Pod; the volume never shrinks.
    pub size: SizeName,

    /// Team that owns the database; stands as label `platform.acme.com/team` on everything that belongs to
    /// the claim. May be changed at any time.
    #[schemars(length(min = 1, max = 63), pattern(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub team: String,

    /// Version of the engine: a release series such as `"17"` (PostgreSQL) or `"9.7"` (MySQL), or an exact one
    /// such as `"17.5"` or `"9.7.4"`. Write it in quotes. By default, what the volume already holds, else the
    /// newest series that is proven (`17`, `9.7`). Within its series it may be raised, which restarts the database
    /// once, and be set back until the new one has run. The series cannot be changed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), pattern(r"^[1-9][0-9]?(\.[0-9]{1,2}){0,2}$"))]
    pub version: Option<String>,

    /// Size of the volume as a Kubernetes quantity, such as `20Gi`; at least `1Gi`. By default, that of the
    /// size. May be raised where the storage class allows it, never lowered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 24))]
    #[x_kube(validation = Rule::new("isQuantity(self)")
        .message("storage must be a Kubernetes quantity such as 20Gi"))]
    #[x_kube(validation = Rule::new("!isQuantity(self) || quantity(self).compareTo(quantity('1Gi')) >= 0 && quantity(self).compareTo(quantity('64Ti')) <= 0")
        .message("storage must be between 1Gi and 64Ti"))]
    pub storage: Option<String>,

    /// StorageClass of the volume. By default, the cluster's default class. Cannot be changed once the volume is
    /// bound; before that, another one corrects a class that does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), pattern(r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub storage_class_name: Option<String>,

    /// Name of the database that is created for the application. Cannot be changed.
    #[serde(default = "default_name")]
    #[schemars(length(min = 1, max = 32), pattern(r"^[a-z_][a-z0-9_]{0,31}$"))]
    #[x_kube(validation = Rule::new("!(self in ['postgres', 'template0', 'template1', 'mysql', 'sys', 'information_schema', 'performance_schema', 'admin', 'local', 'config', 'dbclaim'])")
        .message("database must not be a name that an engine or the operator keeps for itself: postgres, template0, template1, mysql, sys, information_schema, performance_schema, admin, local, config, dbclaim"))]
    pub database: String,

    /// Name of the user that owns the database; its password is in the Secret `<claim>-db-app`. Cannot be
    /// changed.
    #[serde(default = "default_name")]
    #[schemars(length(min = 1, max = 32), pattern(r"^[a-z_][a-z0-9_]{0,31}$"))]
    #[x_kube(validation = Rule::new("!(self in ['postgres', 'root', 'admin', 'mysql', 'public', 'none', 'replication', 'dbclaim', 'user', 'current_user', 'session_user', 'current_role']) && !self.startsWith('pg_') && !self.startsWith('mysql_') && !self.startsWith('dbclaim_')")
        .message("username must not be a name that an engine or the operator keeps for itself: postgres, root, admin, mysql, public, none, replication, dbclaim, user, current_user, session_user, current_role, or one that begins with pg_, mysql_ or dbclaim_"))]
    pub username: String,

    /// What happens to the data when the claim is deleted. `Retain` (default) keeps the volume and the
    /// Secrets; creating the same claim again gives the same data and password back. `Delete` removes both
    /// for good.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// Parameters of the engine by name, such as `work_mem: 16MB`; values are text, so quote numbers and `on`.
    /// All that can be set: https://github.com/acme/dbclaim/blob/main/docs/parameters.md
    ///
    /// Those that can be changed while the engine runs are in force at once, others wait for a restart and are
    /// listed in `status.members[].pendingRestart` until then.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "parameters")]
    pub parameters: BTreeMap<String, String>,

    /// Extensions of the engine that are created in the database, such as `pg_trgm` (PostgreSQL). All that there are:
    /// https://github.com/acme/dbclaim/blob/main/docs/parameters.md
    ///
    /// They stand in the
    /// schema `extensions`, which is on the database's search path. One that is taken off the list stays in the
    /// database; drop it yourself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 63), pattern(r"^[a-z0-9][-_a-z0-9]*$"))
    )]
    pub extensions: Vec<String>,

    /// How connections over the network are protected. Applies without a restart.
    #[serde(default)]
    pub tls: Tls,

    /// While `true`, the database is stopped and costs no CPU and memory; its data, addresses and Secrets stay.
    /// Default `false`.
    #[serde(default)]
    pub hibernated: bool,

    /// While `true`, the operator changes nothing but the status; deleting the claim still works. Default
    /// `false`.
    #[serde(default)]
    pub paused: bool,
}

/// How connections over the network are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Tls {
    /// While `true`, which is the default, connections without TLS are refused. `false` lets them in as well;
    /// TLS is offered in any case.
    #[serde(default = "yes")]
    pub required: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self { required: true }
    }
}

fn yes() -> bool {
    true
}

/// Bounded, so that its size at the API server is.
fn parameters(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 256},
    })
}

fn default_name() -> String {
    "app".to_owned()
}

/// Engines that a claim can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EngineName {
    /// PostgreSQL.
    Postgres,
    /// MySQL.
    Mysql,
}

/// Sizes that a claim can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SizeName {
    /// For development and small services.
    Small,
    /// For ordinary production.
    Medium,
    /// For heavy production.
    Large,
}

/// What happens to the data when the claim is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum DeletionPolicy {
    /// Volume and Secrets stay.
    #[default]
    Retain,
    /// Volume and Secrets are deleted with the claim.
    Delete,
}

/// What the operator has seen and done. Written by the operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseClaimStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// One word for people: Pending, Provisioning, Ready, Updating, Degraded, Hibernated, Failed or Terminating.
    /// Programs use the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,

    /// `Accepted`, `Ready`, `StorageReady`, `CredentialsReady`, `UpdatePending`, `Reconciling`, `Stalled`.
    /// Every one that is not good says what is wrong and what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,

    /// Secret with everything that a client needs (Service Binding specification).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,

    /// Addresses inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,

    /// The database processes, one entry per member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub members: Vec<Member>,

    /// What the defaults came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,

    /// What is known of rotations; absent as long as none was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationStatus>,

    /// What is known of restarts; absent as long as none was requested by annotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartStatus>,

    /// When the data directory was created. The volume's own record is what counts; this is a copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub initialized_at: Option<String>,
}

/// `observedGeneration` of a claim that no operator has looked at; no object has this generation.
pub const NOT_SEEN: i64 = -1;

impl DatabaseClaimStatus {
    /// Whether an operator wrote it; else it is the schema's default.
    pub fn is_written(&self) -> bool {
        self.observed_generation != Some(NOT_SEEN)
    }
}

/// Restarts that were requested by annotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestartStatus {
    /// Newest value of the annotation `platform.acme.com/restart`. It stays when the annotation is removed: that is
    /// no request, and what was requested before is still carried out.
    #[schemars(length(max = 64))]
    pub asked: String,
}

/// Rotation of the credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotationStatus {
    /// Value of the annotation `platform.acme.com/rotate-credentials` that is not carried out yet. It is carried out
    /// also when the annotation is removed before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub asked: Option<String>,

    /// Value of the annotation `platform.acme.com/rotate-credentials` that was carried out last: the Secret has
    /// the new credentials. A long value is told by its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub done: Option<String>,

    /// When the credentials before them end, or have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub previous_valid_until: Option<String>,

    /// Value of the annotation `platform.acme.com/end-previous-credentials` that was carried out last. A long value
    /// is told by its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub previous_ended: Option<String>,
}

/// One word for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Phase {
    /// Not accepted, or nothing has been made yet.
    Pending,
    /// On the way to its first Ready.
    Provisioning,
    /// Serves, as asked for.
    Ready,
    /// Serves or is about to, while a change is carried out.
    Updating,
    /// Was Ready and does not serve now.
    Degraded,
    /// Stopped because `spec.hibernated` is true.
    Hibernated,
    /// Cannot go on without a human.
    Failed,
    /// Being deleted.
    Terminating,
}

/// Reference to the binding Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Binding {
    /// Name of the Secret, in the claim's namespace.
    #[schemars(length(max = 253))]
    pub name: String,
}

/// Addresses inside the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// `host:port` for reading and writing.
    #[schemars(length(max = 300))]
    pub read_write: String,
}

/// One database process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Name of its StatefulSet and volume.
    #[schemars(length(max = 63))]
    pub name: String,
    /// `primary` for now.
    #[schemars(length(max = 16))]
    pub role: String,
    /// Whether it accepts connections.
    pub ready: bool,
    /// Version of the engine, as it ran last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub version: Option<String>,
    /// Size of its volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub storage: Option<String>,
    /// Settings that wait for a restart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 128)))]
    pub pending_restart: Vec<String>,
}

/// What the defaults came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// Engine image.
    #[schemars(length(max = 512))]
    pub image: String,
    /// Version that is asked for: major, or exact.
    #[schemars(length(max = 32))]
    pub version: String,
    /// CPU and memory of the database container.
    pub resources: ResolvedResources,
    /// Size of the volume.
    #[schemars(length(max = 32))]
    pub storage: String,
    /// StorageClass of the volume, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,
    /// Class from which sizes and images come: `built-in`.
    #[schemars(length(max = 63))]
    pub class: String,
}

/// CPU and memory of the database container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedResources {
    /// Guaranteed CPU.
    #[schemars(length(max = 32))]
    pub cpu_request: String,
    /// Most CPU.
    #[schemars(length(max = 32))]
    pub cpu_limit: String,
    /// Guaranteed and most memory.
    #[schemars(length(max = 32))]
    pub memory: String,
}
