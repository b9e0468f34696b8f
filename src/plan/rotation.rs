//! Rotation of credentials. The agent gets new ones, and those before them stay valid: first until applications
//! have the new ones, then for the overlap. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::observed::{Observed, SecretState};
use crate::api::protocol::{Credentials, Previous};
use crate::claim::Claim;
use crate::engine::Engine;

/// What decides whether it is time.
#[derive(Debug)]
pub struct Rotation<'a> {
    /// The claim.
    pub claim: &'a Claim,
    /// What there is.
    pub observed: &'a Observed,
    /// Whether the database has data, and so may have clients.
    pub initialized: bool,
    /// Now.
    pub now: Timestamp,
    /// How long credentials stay valid after applications were given newer ones.
    pub overlap: Duration,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing: none is asked for, or something else comes first.
    Keep,
    /// There is nobody yet who would have to learn of new ones: what is asked for is the case already.
    Note,
    /// New ones.
    Begin,
    /// Applications have the new ones: the end of those before is set.
    End,
    /// The end of those before is now, because somebody asked for it.
    EndNow,
}

/// What is to be done about the credentials in the admin Secret.
pub fn turn(rotation: &Rotation<'_>, current: &Credentials) -> Turn {
    let Rotation {
        claim, observed, now, ..
    } = *rotation;
    if !matches!(observed.admin, SecretState::Present { .. }) {
        return Turn::Keep;
    }
    let known = known(rotation, current);
    if current.previous_is_open() {
        return if known { Turn::End } else { Turn::Keep };
    }
    if end_is_asked(claim, current) {
        return Turn::EndNow;
    }
    if claim.rotation.is_none() || claim.rotation == current.rotation {
        return Turn::Keep;
    }
    if !rotation.initialized {
        return Turn::Note;
    }
    // One that is asked for within the overlap waits: it would end credentials that are still promised.
    if known && !current.previous_is_valid(now) {
        Turn::Begin
    } else {
        Turn::Keep
    }
}

/// The credentials that follow, as the turn says. `fresh`: a new password, with a generation by the clock; without
/// one nothing begins.
pub fn rotated(
    rotation: &Rotation<'_>,
    turn: Turn,
    current: Credentials,
    fresh: Option<Credentials>,
) -> Credentials {
    let claim = rotation.claim;
    match (turn, fresh) {
        (Turn::Keep, _) | (Turn::Begin, None) => current,
        (Turn::Note, _) => Credentials {
            rotation: claim.rotation.clone(),
            ..current
        },
        (Turn::End, _) => {
            let at_once = current.previous.as_ref().is_some_and(|it| it.at_once);
            let until = if at_once || end_is_asked(claim, &current) {
                at_once_ends(rotation.now)
            } else {
                overlap_ends(rotation)
            };
            ended(claim, current, until)
        }
        (Turn::EndNow, _) => {
            let until = at_once_ends(rotation.now);
            ended(claim, current, until)
        }
        (Turn::Begin, Some(fresh)) => Credentials {
            generation: fresh.generation.max(current.generation.saturating_add(1)),
            previous: Some(Box::new(Previous {
                password: Some(current.password.clone()),
                ..Previous::default()
            })),
            rotation: claim.rotation.clone(),
            ended: current.ended.clone(),
            ..following(claim, &current, fresh)
        },
    }
}

/// Fresh credentials, with the login that comes after that of the current ones.
pub(super) fn following(claim: &Claim, current: &Credentials, fresh: Credentials) -> Credentials {
    let login = Engine::from(claim.engine).next_login(&claim.username, current.login(&claim.username));
    Credentials {
        login: Some(login).filter(|it| *it != claim.username),
        ..fresh
    }
}

/// Sets the end of the previous credentials, unless they end earlier already.
fn ended(claim: &Claim, current: Credentials, until: Timestamp) -> Credentials {
    let previous = current.previous.map(|mut previous| {
        previous.until = Some(previous.until.map_or(until, |it| it.min(until)));
        previous
    });
    let asked = claim.end_previous.as_deref().map(Into::into);
    Credentials {
        previous,
        ended: asked.or(current.ended),
        ..current
    }
}

/// Whether somebody asks to end the previous credentials who was not heard yet.
fn end_is_asked(claim: &Claim, current: &Credentials) -> bool {
    claim.end_previous.is_some() && claim.end_previous.as_deref() != current.ended.as_deref()
}

/// The last whole second, so that it is over now.
fn at_once_ends(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// The whole second after the overlap, counted from now.
fn overlap_ends(rotation: &Rotation<'_>) -> Timestamp {
    let overlap = SignedDuration::try_from(rotation.overlap).unwrap_or(SignedDuration::MAX);
    let until = rotation.now.saturating_add(overlap).unwrap_or(Timestamp::MAX);
    let whole = at_once_ends(until);
    if whole == until {
        return until;
    }
    Timestamp::from_second(until.as_second().saturating_add(1)).unwrap_or(until)
}

/// Whether the database has taken over these credentials, and applications have them.
fn known(rotation: &Rotation<'_>, current: &Credentials) -> bool {
    let Rotation { claim, observed, .. } = rotation;
    let applied = observed
        .current_report(&claim.id)
        .map(|it| it.applied.credentials);
    let has = |state: &SecretState| match state {
        SecretState::Present {
            credentials: Some(app),
            deleting: false,
            ..
        } => app.password == current.password,
        _ => false,
    };
    applied == Some(current.generation) && has(&observed.app)
}
