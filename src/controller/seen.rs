//! The claim as a pass sees it: the watch's copy, and what is remembered of it between passes.

use std::time::Duration;

use super::memory::Remembered;
use super::{Context, renewal};
use crate::api::condition::reason;
use crate::api::v1::{DatabaseClaim, DatabaseClaimStatus};
use crate::api::{FINALIZER, key};
use crate::claim::ClaimId;
use crate::observe::MadeSecrets;
use crate::observe::cache::newer;
use crate::render::Slot;
use crate::status::{self, Moment, News, Refusal};

/// The claim as this pass saw it.
pub(super) struct Seen {
    pub(super) resource_version: String,
    pub(super) generation: i64,
    pub(super) finalizers: Vec<String>,
    pub(super) deleting: bool,
    pub(super) namespace_goes: bool,
    pub(super) status: Option<DatabaseClaimStatus>,
    pub(super) suspects: Vec<Slot>,
    pub(super) made: Option<MadeSecrets>,
    /// Time since the Secrets were made or read last.
    pub(super) secrets_age: Option<Duration>,
    /// Time since our last status write.
    pub(super) status_age: Option<Duration>,
    /// Whether a rotation, or the end of previous credentials, was asked for that the status does not know as done.
    pub(super) rotation_open: bool,
    /// Why the API server refused to resize the Pod while it runs, for the claim as it is.
    pub(super) not_in_place: Option<String>,
    /// What this pass has to tell people.
    pub(super) news: Vec<News>,
}

impl Seen {
    pub(super) fn new(
        claim: &DatabaseClaim,
        remembered: Remembered,
        context: &Context,
        id: &ClaimId,
    ) -> Self {
        let meta = &claim.metadata;
        let resource_version = meta.resource_version.clone().unwrap_or_default();
        let written = claim.status.as_ref().filter(|it| it.is_written());
        let status = remembered.newest_status(&resource_version, written);
        let released = remembered.released;
        let rotation = status.as_ref().and_then(|it| it.rotation.as_ref());
        let rotate = renewal::rotation(claim, status.as_ref());
        let end = renewal::asked(claim, key::END_PREVIOUS);
        let rotation_open = status::rotation_waits(rotate.as_deref(), rotation)
            || status::end_waits(end.as_deref(), rotation);
        let (resource_version, mut finalizers) = match remembered.answered {
            Some((version, finalizers)) if newer(&version, &resource_version) => (version, finalizers),
            _ => (resource_version, meta.finalizers.clone().unwrap_or_default()),
        };
        // What was taken off is off, whether or not the watch has shown it.
        finalizers.retain(|it| it != FINALIZER || !released);
        let generation = meta.generation.unwrap_or_default();
        let not_in_place = remembered.not_in_place.filter(|(of, _)| *of == generation);
        Self {
            status,
            resource_version,
            not_in_place: not_in_place.map(|(_, words)| words),
            generation,
            finalizers,
            deleting: meta.deletion_timestamp.is_some(),
            namespace_goes: remembered.namespace_goes,
            suspects: remembered.suspects,
            made: context.memory.take_made(&id.uid),
            secrets_age: remembered.secrets_read.map(|read| read.elapsed()),
            status_age: remembered.status_written.map(|written| written.elapsed()),
            rotation_open,
            news: Vec::new(),
        }
    }

    pub(super) fn moment<'a>(&'a self, refusals: &'a [Refusal], context: &Context) -> Moment<'a> {
        Moment {
            generation: self.generation,
            before: self.status.as_ref(),
            now: context.now(),
            refusals,
        }
    }

    /// How long a status waits that only names the next step of a start.
    pub(super) fn postponed(&self, status: &DatabaseClaimStatus, context: &Context) -> Option<Duration> {
        status::postponed(self.status.as_ref()?, status, self.status_age?, context.is_busy())
    }

    /// Whether it has not been ready for longer than a start takes, or its volume has not grown.
    pub(super) fn in_trouble(&self, context: &Context) -> bool {
        let down = |it: &DatabaseClaimStatus| !status::is_ready(it) && !status::is_hibernated(it);
        let not_ready = self.status.as_ref().is_some_and(down);
        let moment = self.moment(&[], context);
        let lasts =
            (not_ready && status::patience(moment).is_zero()) || status::growth_lasts(moment).is_some();
        lasts && !self.deleting
    }

    /// Whether the Secrets were not in order the last time, although their markers are there: one made no sense,
    /// and no watch tells when it does again; or the binding Secret waits until the database knows a newer
    /// password. Told from the status, so that a process that has just started knows it as well.
    pub(super) fn secrets_open(&self) -> bool {
        let Some(status) = &self.status else {
            return false;
        };
        // A database that never was ready takes the password when it starts, and nothing waits for that.
        let pending = status.initialized_at.is_some();
        (pending && self.rotation_open)
            || status.conditions.iter().any(|it| {
                let open = [reason::SECRET_UNREADABLE, reason::CERTIFICATE_INVALID];
                let waits = [reason::CREDENTIALS_PENDING, reason::ROTATING];
                open.contains(&it.reason.as_str()) || (pending && waits.contains(&it.reason.as_str()))
            })
    }

    pub(super) fn has_finalizer(&self) -> bool {
        self.finalizers.iter().any(|it| it == FINALIZER)
    }

    /// Whether the claim has made or taken over what there is.
    pub(super) fn has_taken_over(&self) -> bool {
        self.status.as_ref().is_some_and(status::has_taken_over)
    }

    pub(super) fn initialized_before(&self) -> bool {
        self.status
            .as_ref()
            .is_some_and(|status| status.initialized_at.is_some())
    }
}
