//! The volume guard: from what is expected and what is found to what may be done. Pure.
//!
//! Nothing is ever initialised over data, and a volume that should hold data and does not is never taken for
//! a new one. Which volume it is, the engine's own system identifier decides: where the operator knows it and
//! it matches, another `volumeId` or claim name is accepted (a volume restored by a backup tool, a claim that
//! moved), since it proves more than a label of ours. Where it is not known yet, `volumeId`, claim and member
//! must all match.

use crate::api::protocol::{Identity, Initialized, MemberConfig, Trouble};

/// How often our own initialisation may be interrupted before a human is asked; each leaves a directory in
/// `quarantine`, and those must not fill the volume.
const INTERRUPTIONS: usize = 16;

/// What is on the volume.
#[derive(Clone, Debug)]
pub struct Found {
    /// `identity.json`.
    pub identity: IdentityFile,
    /// The data directory of the engine and major version that are asked for.
    pub data: DataState,
    /// Data directories of other engines and versions, as `<engine>/<major>`, that are not empty.
    pub others: Vec<String>,
    /// Entries at the top of the volume that are not ours.
    pub strangers: Vec<String>,
    /// Remains of interrupted initialisations in `quarantine`.
    pub interrupted: usize,
}

/// State of `identity.json`.
#[derive(Clone, Debug)]
pub enum IdentityFile {
    /// There is none.
    Absent,
    /// There is one that cannot be read or understood.
    Unreadable(String),
    /// Ours or that of another volume.
    Present(Identity),
}

/// State of a data directory.
#[derive(Clone, Debug)]
pub enum DataState {
    /// Absent or empty.
    Empty,
    /// Holds files, but not those that make a complete data directory.
    Partial,
    /// A complete data directory.
    Complete {
        /// Major version that the engine wrote into it.
        major: String,
        /// The engine's identifier of the data, where it can be read.
        system_identifier: Option<String>,
    },
}

/// What may be done with the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Empty, and meant to be: initialise.
    Initialize,
    /// An initialisation of our own was interrupted: put its remains aside, then initialise.
    ResumeInitialize,
    /// The data that is expected: serve it.
    Serve(Initialized),
    /// Not to be touched.
    Blocked(Trouble),
}

/// Decides what may be done with the volume of `member`.
pub fn decide(config: &MemberConfig, member: u32, found: &Found) -> Decision {
    let Some(expected) = config.volumes.get(&member) else {
        let message = format!(
            "the configuration of {} lists no volume for member {member}",
            config.claim
        );
        return blocked("ConfigInvalid", message);
    };
    let known = expected.system_identifier.as_deref();
    match &found.identity {
        IdentityFile::Unreadable(why) => blocked(
            "DataUnreadable",
            format!(
                "identity.json on the volume cannot be used ({why}); restore it, or give the claim its own volume"
            ),
        ),
        IdentityFile::Absent => without_identity(config, found, known),
        IdentityFile::Present(identity) => {
            let checked = same_version(config, identity, found)
                .and_then(|()| match known {
                    Some(_) => Ok(()),
                    None => same_volume(config, member, &expected.volume_id, identity),
                })
                .and_then(|()| same_names(config, identity));
            match checked {
                Err(trouble) => Decision::Blocked(trouble),
                Ok(()) => with_identity(identity, found, known),
            }
        }
    }
}

fn without_identity(config: &MemberConfig, found: &Found, known: Option<&str>) -> Decision {
    let mut there: Vec<&str> = found
        .others
        .iter()
        .chain(&found.strangers)
        .map(String::as_str)
        .collect();
    let own = format!("{}/{}", config.engine, config.major);
    if !matches!(found.data, DataState::Empty) {
        there.insert(0, &own);
    }
    match (there.is_empty(), known) {
        (true, None) => Decision::Initialize,
        (true, Some(system)) => missing(system, "the volume is empty"),
        (false, _) => blocked(
            "DataForeign",
            format!(
                "the volume holds data without identity.json ({}); it is left as it is: give {} another volume, \
                 or restore identity.json",
                there.join(", "),
                config.claim
            ),
        ),
    }
}

fn with_identity(identity: &Identity, found: &Found, known: Option<&str>) -> Decision {
    match (&identity.initialized, known) {
        (None, None) => uninitialized(found),
        (None, Some(system)) => match found.data {
            DataState::Empty => missing(system, "the volume was never initialised"),
            DataState::Partial | DataState::Complete { .. } => incomplete(&format!(
                "system {system} is expected, but the volume's initialisation never completed"
            )),
        },
        (Some(initialized), Some(system)) if initialized.system_identifier != system => {
            foreign_system(system, &initialized.system_identifier, "identity.json says")
        }
        (Some(initialized), _) => serve(initialized, found),
    }
}

fn uninitialized(found: &Found) -> Decision {
    match found.data {
        DataState::Empty => Decision::Initialize,
        DataState::Partial | DataState::Complete { .. } if found.interrupted >= INTERRUPTIONS => {
            incomplete(&format!(
                "{} initialisations were interrupted; find out why in the log, then delete quarantine/ on the volume",
                found.interrupted
            ))
        }
        DataState::Partial | DataState::Complete { .. } => Decision::ResumeInitialize,
    }
}

fn serve(initialized: &Initialized, found: &Found) -> Decision {
    let system = &initialized.system_identifier;
    match &found.data {
        DataState::Empty => missing(system, "its data directory is missing or empty"),
        DataState::Partial => incomplete(&format!(
            "files of system {system} are missing in the data directory"
        )),
        DataState::Complete {
            system_identifier: None,
            ..
        } => incomplete(&format!(
            "system {system} is expected, but the identifier of its data cannot be read"
        )),
        DataState::Complete {
            system_identifier: Some(real),
            ..
        } if real != system => foreign_system(system, real, "the data directory is of"),
        DataState::Complete { .. } => Decision::Serve(initialized.clone()),
    }
}

fn same_version(config: &MemberConfig, identity: &Identity, found: &Found) -> Result<(), Trouble> {
    let there = match &found.data {
        DataState::Complete { major, .. } if identity.major == config.major => major,
        DataState::Complete { .. } | DataState::Empty | DataState::Partial => &identity.major,
    };
    if identity.engine == config.engine && *there == config.major {
        return Ok(());
    }
    Err(trouble(
        "DataOtherVersion",
        format!(
            "the volume holds {} {there}, but {} {} is asked for; ask for what is there, or use another volume",
            identity.engine, config.engine, config.major
        ),
    ))
}

fn same_volume(
    config: &MemberConfig,
    member: u32,
    volume_id: &str,
    identity: &Identity,
) -> Result<(), Trouble> {
    if identity.volume_id == volume_id && identity.claim == config.claim && identity.member == member {
        return Ok(());
    }
    Err(trouble(
        "DataForeign",
        format!(
            "the volume is {} of {} member {}, but {volume_id} of {} member {member} is expected; \
             attach the right volume",
            identity.volume_id, identity.claim, identity.member, config.claim
        ),
    ))
}

fn same_names(config: &MemberConfig, identity: &Identity) -> Result<(), Trouble> {
    if identity.database == config.database && identity.username == config.username {
        return Ok(());
    }
    Err(trouble(
        "DataForeign",
        format!(
            "the volume was made for database {:?} of {:?}, but {:?} of {:?} is asked for; ask for what is there",
            identity.database, identity.username, config.database, config.username
        ),
    ))
}

fn missing(system: &str, what: &str) -> Decision {
    blocked(
        "DataMissing",
        format!(
            "data of system {system} is expected, but {what}; attach the volume that has it or restore a backup \
             (no new database is made)"
        ),
    )
}

fn incomplete(what: &str) -> Decision {
    blocked("DataIncomplete", format!("{what}; restore the volume"))
}

fn foreign_system(expected: &str, real: &str, place: &str) -> Decision {
    let message =
        format!("system {expected} is expected, but {place} system {real}; attach the right volume");
    blocked("DataForeign", message)
}

fn blocked(reason: &str, message: String) -> Decision {
    Decision::Blocked(trouble(reason, message))
}

fn trouble(reason: &str, message: String) -> Trouble {
    Trouble {
        reason: reason.into(),
        message,
    }
}
