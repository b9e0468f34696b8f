//! `render(&Claim, …) -> Desired`: every object of a claim, whole. Total and pure: same input, same bytes.

mod in_place;
mod metadata;
mod object;
mod objects;
mod pod;
mod secrets;

pub use in_place::{InPlace, Sized};
pub use object::{Kind, Object, Slot, hash};
pub use objects::asked;
pub use pod::DATABASE;
pub use secrets::marker;

use crate::api::protocol::{Credentials, Initialized};
use crate::certificate::Keys;
use crate::claim::Claim;

/// Seconds between SIGTERM and SIGKILL of a database Pod.
pub const TERMINATION_GRACE: u32 = 300;
/// Seconds within which the agent ends a fast stop; what is left belongs to the kubelet and the agent itself.
const STOP: u32 = 270;

/// What the operator's installation decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Image with `/dbclaim-agent`.
    pub agent_image: String,
    /// Secrets to pull it and the engine's image with, in each claim's namespace.
    pub pull_secrets: Vec<String>,
}

/// Every object of a claim, one field each, so that a forgotten one does not compile.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// The member's workload.
    pub stateful_set: Object,
    /// Hash of what needs a restart to change in it.
    pub restart_hash: String,
    /// Hash of what the claim's owner asks for that takes a restart.
    pub asked: String,
    /// How its Pod can come to a larger size while it runs; none where the engine cannot.
    pub in_place: Option<InPlace>,
    /// The member's volume.
    pub volume: Object,
    /// Read-write Service.
    pub service: Object,
    /// Headless Service.
    pub members_service: Object,
    /// Engine configuration.
    pub config: Object,
    /// Generation of that configuration, as the agent reports it back.
    pub config_generation: String,
    /// The member's report, without what the agent writes into it.
    pub report: Object,
    /// The agent's identity.
    pub service_account: Object,
    /// The agent's rights.
    pub role: Object,
    /// Binds the two.
    pub role_binding: Object,
    /// Both Secrets, where password and keys are known in this pass.
    pub secrets: Option<Secrets>,
}

/// The two Secrets, from one password and one set of keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Secrets {
    /// For the agent.
    pub admin: Object,
    /// For applications.
    pub app: Object,
    /// Generation of the credentials in both.
    pub generation: u64,
    /// Whether the credentials before these are valid, without an end yet.
    pub previous_is_open: bool,
}

/// Renders a claim. `initialized` is what is known of the volume beside its record; what the record says
/// stands, whoever forgets to repeat it.
pub fn render(
    claim: &Claim,
    settings: &Settings,
    secrets: Option<(&Credentials, &Keys)>,
    initialized: Option<&Initialized>,
) -> Desired {
    let initialized = claim.identity.initialized.as_ref().or(initialized);
    let asked = objects::asked(claim);
    let (stateful_set, restart_hash) = objects::stateful_set(claim, settings, &asked);
    let (config, config_generation) = objects::config(claim, initialized);
    Desired {
        in_place: in_place::in_place(claim, settings, (&asked, &restart_hash)),
        stateful_set,
        restart_hash,
        asked,
        volume: objects::volume(claim, initialized),
        service: objects::service(claim),
        members_service: objects::members_service(claim),
        config,
        config_generation,
        report: objects::report(claim),
        service_account: objects::service_account(claim),
        role: objects::role(claim),
        role_binding: objects::role_binding(claim),
        secrets: secrets.map(|(credentials, keys)| secrets::secrets(claim, credentials, keys)),
    }
}
