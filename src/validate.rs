//! `(DatabaseClaim, References)` → `Claim`, or what is wrong with it. Pure; shared by the admission webhook
//! and the controller, so both say the same.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::api::protocol::{FORMAT, Identity};
use crate::api::v1::{DatabaseClaim, DatabaseClaimSpec};
use crate::claim::quantity::{Bytes, ParseQuantity};
use crate::claim::{Claim, ClaimId, FIRST_MEMBER, Version};
use crate::class;
use crate::engine::Engine;

/// What the spec is resolved against, besides the class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// The record on the member's PVC, when there is one of ours.
    pub identity: Option<Identity>,
    /// Whether that volume certainly holds no data and no Pod could be writing any: then the record says no more than
    /// what was requested once.
    pub vacant: bool,
    /// What that PVC requests.
    pub requested: Option<Bytes>,
    /// What its volume has.
    pub capacity: Option<Bytes>,
    /// The newest value that the claim's annotation for a restart has had.
    pub restart: Option<String>,
    /// The newest value that the claim's annotation for new credentials has had.
    pub rotation: Option<String>,
    /// The claim's annotation that asks to end the previous credentials.
    pub end_previous: Option<String>,
    /// Whether the agent that runs knows nothing of TLS: what it cannot offer must not be insisted on.
    pub without_tls: bool,
}

/// One thing that keeps a claim from being honoured: where, what and what to do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Violation {
    /// The API server gave an object without what it always sets.
    #[error("metadata.{0} is missing; the object did not come from an API server")]
    Incomplete(&'static str),
    /// Not a version.
    #[error(
        "spec.version: {found:?} is not a version; write a major version such as {major:?} or an exact one such as {exact:?}"
    )]
    VersionFormat {
        /// What is written.
        found: String,
        /// A series, as an example.
        major: &'static str,
        /// An exact version, as an example.
        exact: &'static str,
    },
    /// A version that the class lacks.
    #[error("spec.version: major version {wanted} is not available; available are {available}")]
    VersionUnknown {
        /// Major that was asked for.
        wanted: String,
        /// Those there are.
        available: String,
    },
    /// Not a quantity.
    #[error("spec.storage: {0}")]
    Storage(#[from] ParseQuantity),
    /// A parameter that may not be set, or not to this value.
    #[error("spec.parameters.{name} {rule}")]
    Parameter {
        /// Parameter.
        name: String,
        /// What is wrong with it.
        rule: String,
    },
    /// An extension that the engine's images lack or that may not be had.
    #[error("spec.extensions: {name} is not available; available are {available}")]
    Extension {
        /// Extension.
        name: String,
        /// Those there are.
        available: String,
    },
    /// The volume of this name was made for something else.
    #[error(
        "the volume {volume} holds {engine} {major} of {claim}, and {wanted} is asked for; create the claim with what the volume holds, or under another name"
    )]
    OtherData {
        /// PVC.
        volume: String,
        /// Engine on the volume.
        engine: String,
        /// Major on the volume.
        major: String,
        /// Claim that made it.
        claim: String,
        /// Engine and major that are asked for.
        wanted: String,
    },
    /// The volume holds a version that the class lacks, and the claim asks for no other.
    #[error(
        "the volume {volume} holds {engine} {major}, which is not available; available are {available}. Run an operator that has {major}, or create the claim under another name"
    )]
    DataUnsupported {
        /// PVC.
        volume: String,
        /// Engine on the volume.
        engine: String,
        /// Major on the volume.
        major: String,
        /// Those there are.
        available: String,
    },
    /// Database or user differ from what the volume was made for. Neither can be changed in a claim.
    #[error(
        "spec.{field}: the volume {volume} was made for {found:?}, and {wanted:?} is asked for; create the claim again with spec.{field} {found:?}, or under another name"
    )]
    OtherName {
        /// `database` or `username`.
        field: &'static str,
        /// PVC.
        volume: String,
        /// Value on the volume.
        found: String,
        /// Value in the spec.
        wanted: String,
    },
}

/// All that is wrong; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violations(pub Vec<Violation>);

impl std::fmt::Display for Violations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, violation) in self.0.iter().enumerate() {
            write!(f, "{}{violation}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// Namespace, name and UID; all that deletion needs, however wrong the spec is.
///
/// # Errors
/// When the object did not come from an API server.
pub fn identify(claim: &DatabaseClaim) -> Result<ClaimId, Violation> {
    let part = |value: &Option<String>, what| value.clone().ok_or(Violation::Incomplete(what));
    Ok(ClaimId {
        namespace: part(&claim.metadata.namespace, "namespace")?,
        name: part(&claim.metadata.name, "name")?,
        uid: part(&claim.metadata.uid, "uid")?,
    })
}

/// Resolves every default (spec, then the volume's record, then the class) and checks the rest.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn validate(
    id: &ClaimId,
    spec: &DatabaseClaimSpec,
    references: &References,
) -> Result<Claim, Violations> {
    let mut wrong = Vec::new();
    let size = class::size(spec.size);
    let version = version(id, spec, references).map_err(|v| wrong.push(v)).ok();
    let asked = match &spec.storage {
        Some(text) => Bytes::parse(text).map_err(|e| wrong.push(e.into())).ok(),
        None => Some(size.storage),
    };
    wrong.extend(parameters(spec, size.engine_memory()));
    wrong.extend(extensions(spec));
    if let (Some(record), Some(version)) = (&references.identity, &version) {
        wrong.extend(disagreements(id, spec, version, record, references.vacant));
    }
    let (Some(version), Some(asked), true) = (version, asked, wrong.is_empty()) else {
        return Err(Violations(wrong));
    };
    let there = references.requested.max(references.capacity);
    let storage = there.map_or(asked, |there| there.max(asked));
    let identity = match &references.identity {
        Some(record) if references.vacant => Identity {
            volume_id: record.volume_id.clone(),
            ..new_identity(id, spec, &version)
        },
        Some(record) => record.clone(),
        None => new_identity(id, spec, &version),
    };
    Ok(Claim {
        id: id.clone(),
        engine: spec.engine,
        team: spec.team.clone(),
        size,
        image: class::image(spec.engine, &version.to_string()),
        version,
        storage,
        storage_asked: asked,
        storage_request: references
            .requested
            .filter(|_| Some(storage) == there)
            .unwrap_or(storage),
        storage_class: spec.storage_class_name.clone(),
        database: spec.database.clone(),
        username: spec.username.clone(),
        deletion_policy: spec.deletion_policy,
        hibernated: spec.hibernated,
        parameters: spec.parameters.clone(),
        extensions: BTreeSet::from_iter(spec.extensions.clone()).into_iter().collect(),
        restart: references.restart.clone(),
        asked: None,
        rotation: references.rotation.clone(),
        end_previous: references.end_previous.clone(),
        plaintext: !spec.tls.required || references.without_tls,
        paused: spec.paused,
        identity,
    })
}

fn parameters(spec: &DatabaseClaimSpec, memory: Bytes) -> impl Iterator<Item = Violation> + '_ {
    let engine = Engine::from(spec.engine);
    spec.parameters.iter().filter_map(move |(name, value)| {
        let rule = engine.refuses(name, value, memory)?;
        Some(Violation::Parameter {
            name: name.clone(),
            rule,
        })
    })
}

fn extensions(spec: &DatabaseClaimSpec) -> impl Iterator<Item = Violation> + '_ {
    let available = Engine::from(spec.engine).extensions();
    let lacking = move |name: &&String| !available.contains(&name.as_str());
    spec.extensions
        .iter()
        .filter(lacking)
        .map(move |name| Violation::Extension {
            name: name.clone(),
            available: match available {
                [] => "none for this engine".to_owned(),
                some => some.join(", "),
            },
        })
}

fn version(id: &ClaimId, spec: &DatabaseClaimSpec, references: &References) -> Result<Version, Violation> {
    let (available, default) = class::majors(spec.engine);
    let engine = Engine::from(spec.engine);
    // Another engine's version says nothing here; that it is another one is said elsewhere.
    let record = references.identity.as_ref();
    let counts = |it: &Identity| !references.vacant || it.volume_id == volume_id(id);
    let record = record.filter(|it| it.engine == engine.name() && counts(it));
    let recorded = record.map(|it| it.major.as_str());
    let text = spec.version.as_deref().or(recorded).unwrap_or(default);
    match (Version::parse(text, engine.series_numbers()), record) {
        (Some(version), _) if available.contains(&version.major.as_str()) => Ok(version),
        (_, Some(record)) if spec.version.is_none() => Err(Violation::DataUnsupported {
            volume: id.member(FIRST_MEMBER),
            engine: record.engine.clone(),
            major: record.major.clone(),
            available: available.join(", "),
        }),
        (None, _) => {
            let [major, exact] = engine.version_examples();
            Err(Violation::VersionFormat {
                found: text.to_owned(),
                major,
                exact,
            })
        }
        (Some(version), _) => Err(Violation::VersionUnknown {
            wanted: version.major,
            available: available.join(", "),
        }),
    }
}

/// The claim as far as it is known, for the status of one that cannot be honoured: nothing is rendered from it.
/// `None` where not even that is known.
pub fn outline(id: &ClaimId, spec: &DatabaseClaimSpec, references: &References) -> Option<Claim> {
    let spec = DatabaseClaimSpec {
        version: None,
        storage: None,
        parameters: BTreeMap::new(),
        extensions: Vec::new(),
        ..spec.clone()
    };
    let references = References {
        identity: None,
        ..references.clone()
    };
    validate(id, &spec, &references).ok()
}

/// A volume that does not exist yet is identified by the claim's UID: two passes of one claim then give it
/// the same identity, whatever happens between them.
fn new_identity(id: &ClaimId, spec: &DatabaseClaimSpec, version: &Version) -> Identity {
    Identity {
        v: FORMAT,
        claim: id.path(),
        volume_id: volume_id(id),
        member: FIRST_MEMBER,
        engine: Engine::from(spec.engine).name().to_owned(),
        major: version.major.clone(),
        database: spec.database.clone(),
        username: spec.username.clone(),
        initialized: None,
    }
}

fn volume_id(id: &ClaimId) -> String {
    format!("{}-{FIRST_MEMBER}", id.uid)
}

fn disagreements(
    id: &ClaimId,
    spec: &DatabaseClaimSpec,
    version: &Version,
    record: &Identity,
    vacant: bool,
) -> Vec<Violation> {
    if vacant && record.claim == id.path() {
        return Vec::new();
    }
    let volume = id.member(FIRST_MEMBER);
    let engine = Engine::from(spec.engine).name();
    let mut wrong = Vec::new();
    if record.claim != id.path() || record.engine != engine || record.major != version.major {
        wrong.push(Violation::OtherData {
            volume: volume.clone(),
            engine: record.engine.clone(),
            major: record.major.clone(),
            claim: record.claim.clone(),
            wanted: format!("{engine} {}", version.major),
        });
    }
    for (field, found, wanted) in [
        ("database", &record.database, &spec.database),
        ("username", &record.username, &spec.username),
    ] {
        if found != wanted {
            let (found, wanted) = (found.clone(), wanted.clone());
            wrong.push(Violation::OtherName {
                field,
                volume: volume.clone(),
                found,
                wanted,
            });
        }
    }
    wrong
}
