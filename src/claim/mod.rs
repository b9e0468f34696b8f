//! The validated claim: everything resolved, nothing left that Kubernetes or an engine could refuse.
//! Downstream nobody reads the raw resource again. Pure.

pub mod quantity;

use std::collections::BTreeMap;

use crate::api::protocol::Identity;
use crate::api::v1::{DeletionPolicy, EngineName};

use quantity::{Bytes, Millicores};

/// Number of the only member, for as long as there are no replicas.
pub const FIRST_MEMBER: u32 = 1;

/// A claim that can be honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Where it lives and what it is called.
    pub id: ClaimId,
    /// Engine.
    pub engine: EngineName,
    /// Team label.
    pub team: String,
    /// Resolved size.
    pub size: Size,
    /// Resolved version.
    pub version: Version,
    /// Resolved image.
    pub image: EngineImage,
    /// Resolved volume size: the larger of what is asked for and what there is.
    pub storage: Bytes,
    /// Volume size that the spec requests, whatever the volume has.
    pub storage_asked: Bytes,
    /// What the volume's claim requests: more than before only where more is asked for than there is. A class
    /// may have given more than was requested, and refuses every other request for good.
    pub storage_request: Bytes,
    /// StorageClass that is asked for.
    pub storage_class: Option<String>,
    /// Database of the application.
    pub database: String,
    /// User of the application.
    pub username: String,
    /// What deletion does.
    pub deletion_policy: DeletionPolicy,
    /// Whether the database is stopped on purpose.
    pub hibernated: bool,
    /// Parameters of the engine, each of which may be set.
    pub parameters: BTreeMap<String, String>,
    /// Extensions, sorted, each available.
    pub extensions: Vec<String>,
    /// The newest request of a restart: any text that was not there before.
    pub restart: Option<String>,
    /// Hash of what was requested when the database was started, where it is equal to what is requested now.
    pub asked: Option<String>,
    /// The newest request of new credentials: any text that was not there before.
    pub rotation: Option<String>,
    /// Request to end the previous credentials at once: any text that was not there before.
    pub end_previous: Option<String>,
    /// Whether connections without TLS are let in.
    pub plaintext: bool,
    /// Whether the operator keeps its hands off.
    pub paused: bool,
    /// What the volume is, or is to be, identified by.
    pub identity: Identity,
}

/// Memory that the agent and the fencer may use; the engine is tuned to the rest.
const AGENT_MEMORY: u64 = 16 << 20;

impl Size {
    /// Memory that the engine may use.
    pub fn engine_memory(&self) -> Bytes {
        Bytes(self.memory.0.saturating_sub(AGENT_MEMORY))
    }
}

/// CPU, memory and default storage of a size. Memory is request and limit at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Name, as in the claim.
    pub name: &'static str,
    /// Guaranteed CPU.
    pub cpu_request: Millicores,
    /// Most CPU.
    pub cpu_limit: Millicores,
    /// Guaranteed and most memory.
    pub memory: Bytes,
    /// Volume when the claim says nothing.
    pub storage: Bytes,
}

/// An engine image and the user that it is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineImage {
    /// Full reference.
    pub reference: String,
    /// uid of the engine's user in the image.
    pub uid: i64,
    /// gid of the engine's user in the image.
    pub gid: i64,
}

/// Namespace, name and UID of a claim, and every name that follows from them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimId {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID; another claim of the same name has another one.
    pub uid: String,
}

impl ClaimId {
    /// `namespace/name`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// `<claim>-db`: read-write Service, ServiceAccount, Role and RoleBinding.
    pub fn base(&self) -> String {
        format!("{}-db", self.name)
    }

    /// Headless Service of the members.
    pub fn members_service(&self) -> String {
        format!("{}-db-members", self.name)
    }

    /// StatefulSet and PVC of a member.
    pub fn member(&self, member: u32) -> String {
        format!("{}-db-{member}", self.name)
    }

    /// Pod of a member.
    pub fn pod(&self, member: u32) -> String {
        format!("{}-db-{member}-0", self.name)
    }

    /// Report ConfigMap of a member.
    pub fn report(&self, member: u32) -> String {
        format!("{}-db-{member}-report", self.name)
    }

    /// ConfigMap of the members' configuration.
    pub fn config(&self) -> String {
        format!("{}-db-config", self.name)
    }

    /// Secret for applications, and its marker ConfigMap.
    pub fn app_secret(&self) -> String {
        format!("{}-db-app", self.name)
    }

    /// Secret of the agent, and its marker ConfigMap.
    pub fn admin_secret(&self) -> String {
        format!("{}-db-admin", self.name)
    }

    /// Fully qualified name of the read-write Service. `cluster.local` is what every cluster answers to
    /// unless its owner chose otherwise; a name without it would depend on the client's search path.
    pub fn host(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.base(), self.namespace)
    }

    /// Every name by which a client in the cluster may reach the database or one of its members; what its
    /// certificate is for. The first is [`Self::host`].
    pub fn hosts(&self) -> Vec<String> {
        let namespace = &self.namespace;
        let forms =
            |name: String| [".svc.cluster.local", ".svc", ""].map(|zone| format!("{name}.{namespace}{zone}"));
        let service = forms(self.base()).into_iter().chain([self.base()]);
        // Not within the namespace alone: clients want two labels after a wildcard.
        let members = forms(format!("*.{}", self.members_service()));
        service.chain(members).collect()
    }
}

/// A version that is asked for: a series, or an exact one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The series, whose versions share one data format: `17` (PostgreSQL), `9.7` (MySQL).
    pub major: String,
    /// What comes after it, when it is exact.
    pub minor: Option<u32>,
}

impl Version {
    /// Reads a series of so many numbers, or an exact version, which has one number more.
    pub fn parse(text: &str, series_numbers: usize) -> Option<Self> {
        let number = |s: &str| {
            s.bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| s.parse::<u32>().ok())
                .flatten()
        };
        let numbers: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
        if numbers.len() == series_numbers {
            return Some(Self {
                major: text.to_owned(),
                minor: None,
            });
        }
        let (major, _) = text.rsplit_once('.')?;
        let exact = numbers.len() == series_numbers + 1;
        exact.then(|| Self {
            major: major.to_owned(),
            minor: numbers.last().copied(),
        })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.minor {
            Some(minor) => write!(f, "{}.{minor}", self.major),
            None => f.write_str(&self.major),
        }
    }
}
