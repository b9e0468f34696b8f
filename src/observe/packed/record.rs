//! One object of a claim as bytes, and the head that all of them are read with.

use super::Beside;
use crate::api::KIND;
use crate::compact::{self, number};
use crate::observe::particular::{Particular, like};
use crate::observe::reduce::Seen;
use crate::observe::shapes::{Shape, Shapes};
use crate::observe::text::Text;
use crate::plan::observed::Detail;
use crate::render::Kind;

const DELETING: u8 = 1;
const UID: u8 = 1 << 1;
const VERSION: u8 = 1 << 2;
const APPLIED: u8 = 1 << 3;
const PARTICULAR: u8 = 1 << 4;
/// Controlled by the claim of the head.
pub(super) const OWNED: u8 = 1 << 5;
/// Of the team of the head.
pub(super) const TEAM: u8 = 1 << 6;
/// Controlled by something else that is named after the claim.
const OWNER: u8 = 1 << 7;
/// Number of a shape that is not among the shared ones.
const NO_SHAPE: u8 = u8::MAX;

/// What most objects of a claim share.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Head {
    pub(super) owner: Option<[u8; 16]>,
    pub(super) team: Option<String>,
}

/// An object in a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Record<'a> {
    shape: u8,
    marks: u8,
    uid: [u8; 16],
    version: u64,
    applied: [u8; 8],
    owner: [u8; 16],
    particular: &'a [u8],
}

impl Head {
    /// What an object could share.
    pub(super) fn of(seen: &Seen, claim: &str) -> Self {
        let owner = seen.controller.as_ref().and_then(|it| named_after(it, claim));
        Self {
            owner: owner.and_then(|(kind, suffix, uid)| (kind == KIND && suffix.is_empty()).then_some(uid)),
            team: seen.team.clone(),
        }
    }

    pub(super) fn read(from: &mut &[u8]) -> Option<Self> {
        let marks = byte(from)?;
        let mut head = Self::default();
        if marks & OWNED != 0 {
            head.owner = Some(array(from)?);
        }
        if marks & TEAM != 0 {
            head.team = String::from_utf8(slice(from)?.to_vec()).ok();
        }
        Some(head)
    }

    pub(super) fn write(&self, to: &mut Vec<u8>) {
        to.push(mark(OWNED, self.owner.is_some()) | mark(TEAM, self.team.is_some()));
        to.extend(self.owner.iter().flatten());
        if let Some(team) = &self.team {
            write_slice(team.as_bytes(), to);
        }
    }
}

impl<'a> Record<'a> {
    pub(super) fn read(from: &mut &'a [u8]) -> Option<Self> {
        let (shape, marks) = (byte(from)?, byte(from)?);
        let has = |it| marks & it != 0;
        let uid = if has(UID) { array(from)? } else { [0; 16] };
        let version = if has(VERSION) { number::read(from)? } else { 0 };
        let applied = if has(APPLIED) { array(from)? } else { [0; 8] };
        let owner = if has(OWNER) { array(from)? } else { [0; 16] };
        let particular = if has(PARTICULAR) { slice(from)? } else { &[] };
        Some(Self {
            shape,
            marks,
            uid,
            version,
            applied,
            owner,
            particular,
        })
    }

    /// The record of an object. What is particular to it is packed into a place of its own.
    pub(super) fn of(
        seen: Seen,
        claim: &str,
        head: &Head,
        shapes: &mut Shapes,
        packed: &'a mut Vec<u8>,
    ) -> Self {
        let same = Head::of(&seen, claim);
        let of_team = same.team.is_some() && same.team == head.team;
        let of_claim = same.owner.is_some() && same.owner == head.owner;
        let owner = seen.controller.as_ref().and_then(|it| named_after(it, claim));
        let owner = owner.map(|(.., uid)| uid);
        let (shape, unshared) = match shapes.number(shape(&seen, claim)) {
            Ok(number) => (number, None),
            Err(shape) => (NO_SHAPE, Some(shape)),
        };
        let uid = Text::from(seen.uid.as_str()).uuid();
        let version = seen.resource_version.parse().ok();
        let version = version.filter(|it: &u64| it.to_string() == seen.resource_version);
        let applied = seen.applied.as_deref().and_then(|it| Text::from(it).hash());
        let suffix = seen.name.strip_prefix(claim);
        let own = Particular {
            suffix: suffix.filter(|_| is_made_up(seen.kind)).map(str::to_owned),
            name: suffix.is_none().then(|| seen.name.clone()),
            shape: unshared,
            uid: uid.is_none().then_some(seen.uid),
            resource_version: version.is_none().then_some(seen.resource_version),
            applied: seen.applied.filter(|_| applied.is_none()),
            controller: seen.controller.filter(|_| owner.is_none()),
            team: seen.team.filter(|_| !of_team),
            detail: Some(seen.detail).filter(|it| *it != Detail::None),
        };
        if !own.is_empty() {
            // What has no JSON, which cannot be, is nothing that could be opened.
            *packed = compact::pack(&own, like_of(shapes.get(shape))).unwrap_or_default();
        }
        let owner = owner.filter(|_| !of_claim);
        Self {
            shape,
            marks: mark(DELETING, seen.deleting)
                | mark(UID, uid.is_some())
                | mark(VERSION, version.is_some())
                | mark(APPLIED, applied.is_some())
                | mark(OWNED, of_claim)
                | mark(OWNER, owner.is_some())
                | mark(TEAM, of_team)
                | mark(PARTICULAR, !own.is_empty()),
            uid: uid.unwrap_or_default(),
            version: version.unwrap_or_default(),
            applied: applied.unwrap_or_default(),
            owner: owner.unwrap_or_default(),
            particular: packed,
        }
    }

    pub(super) fn write(&self, to: &mut Vec<u8>) {
        to.extend([self.shape, self.marks]);
        if self.has(UID) {
            to.extend(self.uid);
        }
        if self.has(VERSION) {
            number::write(self.version, to);
        }
        if self.has(APPLIED) {
            to.extend(self.applied);
        }
        if self.has(OWNER) {
            to.extend(self.owner);
        }
        if self.has(PARTICULAR) {
            write_slice(self.particular, to);
        }
    }

    /// Whether it says more than another one, under the same head, but for the number of its version.
    pub(super) fn is_news_to(&self, known: &Record<'_>) -> bool {
        let version = known.version;
        Self { version, ..*self } != *known
    }

    pub(super) fn has(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    pub(super) fn particular(&self, shapes: &Shapes) -> Option<Particular> {
        if self.has(PARTICULAR) {
            compact::open(self.particular, like_of(shapes.get(self.shape)))
        } else {
            Some(Particular::default())
        }
    }

    /// The object again.
    pub(super) fn seen(&self, head: &Head, beside: Beside<'_>) -> Option<Seen> {
        let own = self.particular(beside.shapes)?;
        let shape = beside.shapes.get(self.shape).or(own.shape.as_ref())?;
        let named = |suffix: &str| [beside.claim, suffix].concat();
        let owner = if self.has(OWNED) {
            head.owner
        } else {
            self.has(OWNER).then_some(self.owner)
        };
        let controller = shape.controller.as_ref().zip(owner);
        let controller = controller.map(|((kind, suffix), uid)| {
            let uid = Text::Uuid(uid).to_string();
            (kind.to_string(), named(suffix), uid)
        });
        Some(Seen {
            kind: shape.kind,
            namespace: beside.namespace.to_owned(),
            name: match shape.suffix.as_deref().or(own.suffix.as_deref()) {
                Some(suffix) => named(suffix),
                None => own.name?,
            },
            uid: self.uid().or(own.uid)?,
            resource_version: own.resource_version.unwrap_or_else(|| self.version.to_string()),
            claim: Some(beside.claim.to_owned()),
            labelled: shape.labelled,
            controller: controller.or(own.controller),
            deleting: self.has(DELETING),
            applied: match own.applied {
                None if self.has(APPLIED) => Some(Text::Hash(self.applied).to_string()),
                other => other,
            },
            team: head.team.clone().filter(|_| self.has(TEAM)).or(own.team),
            fingerprint: shape.fingerprint,
            detail: own.detail.unwrap_or(Detail::None),
        })
    }

    fn uid(&self) -> Option<String> {
        self.has(UID).then(|| Text::Uuid(self.uid).to_string())
    }

    /// Its UID and its version.
    pub(super) fn version(&self, shapes: &Shapes) -> Option<(String, String)> {
        if let Some(uid) = self.uid()
            && self.has(VERSION)
        {
            return Some((uid, self.version.to_string()));
        }
        let own = self.particular(shapes)?;
        let version = own.resource_version.unwrap_or_else(|| self.version.to_string());
        Some((self.uid().or(own.uid)?, version))
    }

    /// Its kind and its UID.
    pub(super) fn identity(&self, shapes: &Shapes) -> Option<(Kind, Text)> {
        let kind = shapes.get(self.shape).map(|it| it.kind);
        let uid = self.has(UID).then_some(Text::Uuid(self.uid));
        if let (Some(kind), Some(uid)) = (kind, &uid) {
            return Some((kind, uid.clone()));
        }
        let own = self.particular(shapes)?;
        let kind = kind.or(own.shape.map(|it| it.kind))?;
        Some((kind, uid.or_else(|| own.uid.as_deref().map(Text::from))?))
    }

    /// Whether it is in the place of a kind and a name.
    pub(super) fn is_in_place(&self, kind: Kind, name: &str, beside: Beside<'_>) -> bool {
        match beside.shapes.get(self.shape) {
            Some(shape) if shape.kind != kind => return false,
            Some(Shape {
                suffix: Some(suffix), ..
            }) => return name.strip_prefix(beside.claim) == Some(suffix),
            _ => (),
        }
        let seen = self.seen(&Head::default(), beside);
        seen.is_some_and(|it| it.kind == kind && it.name == name)
    }
}

/// What an object can have in common with those of other claims.
fn shape(seen: &Seen, claim: &str) -> Shape {
    let suffix = seen.name.strip_prefix(claim);
    let controller = seen.controller.as_ref().and_then(|it| named_after(it, claim));
    Shape {
        kind: seen.kind,
        labelled: seen.labelled,
        fingerprint: seen.fingerprint,
        suffix: suffix.filter(|_| !is_made_up(seen.kind)).map(Box::from),
        controller: controller.map(|(kind, suffix, _)| (kind.into(), suffix.into())),
    }
}

/// Whether whoever makes objects of a kind makes their names up.
fn is_made_up(kind: Kind) -> bool {
    kind == Kind::EndpointSlice
}

/// What the particular of an object of a shape is packed with the help of.
fn like_of(shape: Option<&Shape>) -> &'static str {
    shape.map_or("", |it| like(it.kind))
}

/// Kind, what follows the claim's name, and UID of a controller that is named after a claim.
fn named_after<'a>(
    (kind, name, uid): &'a (String, String, String),
    claim: &str,
) -> Option<(&'a str, &'a str, [u8; 16])> {
    Some((kind, name.strip_prefix(claim)?, Text::from(uid.as_str()).uuid()?))
}

fn mark(mark: u8, set: bool) -> u8 {
    if set { mark } else { 0 }
}

fn byte(from: &mut &[u8]) -> Option<u8> {
    array(from).map(|[byte]| byte)
}

fn array<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (array, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*array)
}

fn slice<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(number::read(from)?).ok()?;
    let (slice, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(slice)
}

fn write_slice(slice: &[u8], to: &mut Vec<u8>) {
    number::write(slice.len() as u64, to);
    to.extend_from_slice(slice);
}
