//! What is kept of the objects of one claim, small: one block of bytes for all of them, with identities and hashes as
//! numbers, what they have in common once, and what is particular to one of them compressed. Knows nothing of where it is
//! kept.
//!
//! A block begins with what most objects of the claim share and goes on with one record per object:
//!
//! ```text
//! head:    marks · UID of the claim (16) · team (length, bytes)
//! record:  shape · marks · UID (16) · version (LEB128) · applied (8) · particular (length, bytes)
//! ```
//!
//! What the marks do not announce is not there. Nothing here can fail to be read, since nobody else writes it; if it did,
//! an object would be missing, and a pass asks for those by name.

use std::iter;

use super::particular::Particular;
use super::reduce::Seen;
use super::shapes::{Shape, Shapes};
use super::text::Text;
use crate::api::KIND;
use crate::compact;
use crate::plan::observed::Detail;
use crate::render::Kind;

const DELETING: u8 = 1;
const UID: u8 = 1 << 1;
const VERSION: u8 = 1 << 2;
const APPLIED: u8 = 1 << 3;
const PARTICULAR: u8 = 1 << 4;
/// Controlled by the claim of the head.
const OWNED: u8 = 1 << 5;
/// Of the team of the head.
const TEAM: u8 = 1 << 6;
/// Number of a shape that is not among the shared ones.
const NO_SHAPE: u8 = u8::MAX;

/// The objects of a claim. Empty: none.
#[derive(Debug, Default)]
pub(super) struct Objects(Box<[u8]>);

/// What is needed beside a block to read it.
#[derive(Clone, Copy)]
pub(super) struct Beside<'a> {
    pub(super) namespace: &'a str,
    pub(super) claim: &'a str,
    pub(super) shapes: &'a Shapes,
}

/// What most objects of a claim share.
#[derive(Clone, Debug, Default, PartialEq)]
struct Head {
    owner: Option<[u8; 16]>,
    team: Option<String>,
}

/// An object in a block.
#[derive(Clone, Copy, Debug)]
struct Record<'a> {
    raw: &'a [u8],
    shape: u8,
    marks: u8,
    uid: [u8; 16],
    version: u64,
    applied: [u8; 8],
    particular: &'a [u8],
}

impl Head {
    /// What an object could share.
    fn of(seen: &Seen, claim: &str) -> Self {
        let owner = seen.controller.as_ref();
        let owner = owner.filter(|(kind, name, _)| kind == KIND && name == claim);
        Self {
            owner: owner.and_then(|(_, _, uid)| match uid.as_str().into() {
                Text::Uuid(uid) => Some(uid),
                _ => None,
            }),
            team: seen.team.clone().filter(|it| u8::try_from(it.len()).is_ok()),
        }
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let marks = byte(from)?;
        let owner = if marks & OWNED == 0 {
            None
        } else {
            Some(array(from)?)
        };
        let team = if marks & TEAM == 0 {
            None
        } else {
            Some(slice(from)?)
        };
        let team = team.and_then(|it| std::str::from_utf8(it).ok());
        Some(Self {
            owner,
            team: team.map(str::to_owned),
        })
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.push(mark(OWNED, self.owner.is_some()) | mark(TEAM, self.team.is_some()));
        to.extend(self.owner.iter().flatten());
        if let Some(team) = &self.team {
            write_slice(team.as_bytes(), to);
        }
    }
}

impl<'a> Record<'a> {
    fn read(from: &mut &'a [u8]) -> Option<Self> {
        let begin = *from;
        let (shape, marks) = (byte(from)?, byte(from)?);
        let has = |it| marks & it != 0;
        let uid = if has(UID) { array(from)? } else { [0; 16] };
        let version = if has(VERSION) { number(from)? } else { 0 };
        let applied = if has(APPLIED) { array(from)? } else { [0; 8] };
        let particular = if has(PARTICULAR) { slice(from)? } else { &[] };
        Some(Self {
            raw: begin.get(..begin.len() - from.len())?,
            shape,
            marks,
            uid,
            version,
            applied,
            particular,
        })
    }

    fn has(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    fn particular(&self) -> Option<Particular> {
        if self.has(PARTICULAR) {
            compact::open(self.particular)
        } else {
            Some(Particular::default())
        }
    }

    /// The object again.
    fn seen(&self, head: &Head, beside: Beside<'_>) -> Option<Seen> {
        let own = self.particular()?;
        let shape = beside.shapes.get(self.shape).or(own.shape.as_ref())?;
        let suffix = shape.suffix.as_deref().or(own.suffix.as_deref());
        let owner = head.owner.filter(|_| self.has(OWNED)).map(|uid| {
            let uid = Text::Uuid(uid).to_string();
            (KIND.to_owned(), beside.claim.to_owned(), uid)
        });
        Some(Seen {
            kind: shape.kind,
            namespace: beside.namespace.to_owned(),
            name: match suffix {
                Some(suffix) => [beside.claim, suffix].concat(),
                None => own.name?,
            },
            uid: self.uid().or(own.uid)?,
            resource_version: match own.resource_version {
                Some(other) => other,
                None => self.version.to_string(),
            },
            claim: Some(beside.claim.to_owned()),
            labelled: shape.labelled,
            controller: owner.or(own.controller),
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

    /// Its kind and its UID.
    fn identity(&self, shapes: &Shapes) -> Option<(Kind, Text)> {
        let kind = shapes.get(self.shape).map(|it| it.kind);
        let uid = self.has(UID).then_some(Text::Uuid(self.uid));
        if let (Some(kind), Some(uid)) = (kind, &uid) {
            return Some((kind, uid.clone()));
        }
        let own = self.particular()?;
        let kind = kind.or(own.shape.map(|it| it.kind))?;
        Some((kind, uid.or_else(|| own.uid.as_deref().map(Text::from))?))
    }

    /// Whether it is in the place of a kind and a name.
    fn is_in_place(&self, kind: Kind, name: &str, beside: Beside<'_>) -> bool {
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

impl Objects {
    fn head(&self) -> Head {
        Head::read(&mut &*self.0).unwrap_or_default()
    }

    fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let mut rest = &*self.0;
        Head::read(&mut rest);
        iter::from_fn(move || Record::read(&mut rest))
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.records().next().is_none()
    }

    /// All of them.
    pub(super) fn all(&self, beside: Beside<'_>) -> Vec<Seen> {
        let head = self.head();
        self.records().filter_map(|it| it.seen(&head, beside)).collect()
    }

    /// One of them.
    pub(super) fn get(&self, place: usize, beside: Beside<'_>) -> Option<Seen> {
        self.records().nth(place)?.seen(&self.head(), beside)
    }

    /// The place of the object of a kind and a name.
    pub(super) fn place(&self, kind: Kind, name: &str, beside: Beside<'_>) -> Option<usize> {
        self.records().position(|it| it.is_in_place(kind, name, beside))
    }

    /// Kind and UID of each.
    pub(super) fn identities<'a>(&'a self, shapes: &'a Shapes) -> impl Iterator<Item = (Kind, Text)> + 'a {
        self.records().filter_map(|it| it.identity(shapes))
    }

    /// Takes out what has a kind and a UID. Says whether there was any.
    pub(super) fn remove(&mut self, kind: Kind, uid: &Text, shapes: &Shapes) -> bool {
        let is = |it: &Record<'_>| {
            it.identity(shapes)
                .is_some_and(|(of, it)| of == kind && it == *uid)
        };
        if !self.records().any(|it| is(&it)) {
            return false;
        }
        let rest: Vec<_> = self.records().filter(|it| !is(it)).map(|it| it.raw).collect();
        *self = Self::joined(&self.head(), &rest);
        true
    }

    /// Puts an object in a place, or behind all others.
    pub(super) fn put(&mut self, place: Option<usize>, seen: Seen, claim: &str, shapes: &mut Shapes) {
        let (mut head, own) = (self.head(), Head::of(&seen, claim));
        let before = head.clone();
        // What none of the others shares any more makes room for what they can share from now on.
        let others = || {
            let all = self.records().enumerate();
            all.filter(|(at, _)| Some(*at) != place).map(|(_, it)| it)
        };
        if own.owner.is_some() && !others().any(|it| it.has(OWNED)) {
            head.owner = own.owner;
        }
        if own.team.is_some() && !others().any(|it| it.has(TEAM)) {
            head.team = own.team;
        }
        let mut records: Vec<Vec<u8>> = Vec::new();
        for record in self.records() {
            let beside = Beside {
                namespace: "",
                claim,
                shapes,
            };
            let known = (head != before).then(|| record.seen(&before, beside));
            records.push(match known.flatten() {
                Some(known) => written(known, claim, &head, shapes),
                None => record.raw.to_vec(),
            });
        }
        let record = written(seen, claim, &head, shapes);
        match place.and_then(|it| records.get_mut(it)) {
            Some(known) => *known = record,
            None => records.push(record),
        }
        *self = Self::joined(&head, &records);
    }

    fn joined<T: AsRef<[u8]>>(head: &Head, records: &[T]) -> Self {
        let mut first = Vec::new();
        head.write(&mut first);
        let length: usize = records.iter().map(|it| it.as_ref().len()).sum();
        let mut block = Vec::with_capacity(first.len() + length);
        block.extend(first);
        for record in records {
            block.extend_from_slice(record.as_ref());
        }
        Self(block.into())
    }
}

/// The record of an object. Empty, which leaves the object out, where it has no JSON: that cannot be.
fn written(seen: Seen, claim: &str, head: &Head, shapes: &mut Shapes) -> Vec<u8> {
    let same = Head::of(&seen, claim);
    let owned = same.owner.is_some() && same.owner == head.owner;
    let of_team = same.team.is_some() && same.team == head.team;
    let suffix = seen.name.strip_prefix(claim);
    // Whoever makes them makes their names up.
    let made_up = seen.kind == Kind::EndpointSlice;
    let shape = shapes.number(Shape {
        kind: seen.kind,
        labelled: seen.labelled,
        fingerprint: seen.fingerprint,
        suffix: suffix.filter(|_| !made_up).map(Box::from),
    });
    let uid = Text::from(seen.uid.as_str());
    let version = Text::from(seen.resource_version.as_str());
    let applied = seen.applied.as_deref().map(Text::from);
    let (has_uid, has_version) = (matches!(uid, Text::Uuid(_)), matches!(version, Text::Number(_)));
    let has_applied = matches!(applied, Some(Text::Hash(_)));
    let own = Particular {
        suffix: suffix.filter(|_| made_up).map(str::to_owned),
        name: suffix.is_none().then(|| seen.name.clone()),
        shape: shape.as_ref().err().cloned(),
        uid: (!has_uid).then_some(seen.uid),
        resource_version: (!has_version).then_some(seen.resource_version),
        applied: seen.applied.filter(|_| !has_applied),
        controller: seen.controller.filter(|_| !owned),
        team: seen.team.filter(|_| !of_team),
        detail: Some(seen.detail).filter(|it| *it != Detail::None),
    };
    let special = !own.is_empty();
    let marks = mark(DELETING, seen.deleting)
        | mark(UID, has_uid)
        | mark(VERSION, has_version)
        | mark(APPLIED, has_applied)
        | mark(PARTICULAR, special)
        | mark(OWNED, owned)
        | mark(TEAM, of_team);
    let mut record = vec![shape.unwrap_or(NO_SHAPE), marks];
    if let Text::Uuid(uid) = uid {
        record.extend(uid);
    }
    if let Text::Number(version) = version {
        write_number(version, &mut record);
    }
    if let Some(Text::Hash(applied)) = applied {
        record.extend(applied);
    }
    if special {
        let Some(packed) = compact::pack(&own) else {
            return Vec::new();
        };
        write_slice(&packed, &mut record);
    }
    record
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
    let length = usize::try_from(number(from)?).ok()?;
    let (slice, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(slice)
}

fn number(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = byte(from)?;
        number |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn write_slice(slice: &[u8], to: &mut Vec<u8>) {
    write_number(slice.len() as u64, to);
    to.extend_from_slice(slice);
}

fn write_number(mut number: u64, to: &mut Vec<u8>) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return to.push(low);
        }
        to.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests;
