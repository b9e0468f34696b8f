//! What is kept of the objects of one claim, small: one block of bytes for all of them, with identities and hashes as
//! numbers, what they have in common once, and what is particular to one of them compressed. Knows nothing of where it is
//! kept.
//!
//! A block begins with what most objects of the claim share and goes on with one record per object:
//!
//! ```text
//! head:    marks · UID of the claim (16) · team (length, bytes)
//! record:  shape · marks · UID (16) · version (LEB128) · applied (8) · UID of the controller (16)
//!          · particular (length, bytes)
//! ```
//!
//! What the marks do not announce is not there. A shape is a number of [`Shapes`]; with the claim's name it tells the
//! object's name and its controller's. Nothing here can fail to be read, since nobody else writes it; if it did,
//! an object would be missing, and a pass asks for those by name.

mod record;

use std::iter;

use record::{Head, OWNED, Record, TEAM};

use super::reduce::Seen;
use super::shapes::Shapes;
use super::text::Text;
use crate::render::Kind;

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

    /// UID and version of one of them.
    pub(super) fn version(&self, place: usize, shapes: &Shapes) -> Option<(String, String)> {
        self.records().nth(place)?.version(shapes)
    }

    /// Takes out what has a kind and a UID. Says whether there was any.
    pub(super) fn remove(&mut self, kind: Kind, uid: &Text, shapes: &Shapes) -> bool {
        let mut rest: Vec<_> = self.records().collect();
        let all = rest.len();
        rest.retain(|it| {
            it.identity(shapes)
                .is_none_or(|(of, it)| of != kind || it != *uid)
        });
        let was_there = rest.len() < all;
        if was_there {
            *self = Self::new(&self.head(), &rest);
        }
        was_there
    }

    /// Puts an object in a place, or behind all others. Says whether more than the version is new in it.
    pub(super) fn put(&mut self, place: Option<usize>, seen: Seen, claim: &str, shapes: &mut Shapes) -> bool {
        let head = self.head_beside(place, Head::of(&seen, claim));
        if head != self.head() {
            *self = self.under(&head, claim, shapes);
        }
        let mut packed = Vec::new();
        let record = Record::of(seen, claim, &head, shapes, &mut packed);
        let mut records: Vec<_> = self.records().collect();
        let news = if let Some(known) = place.and_then(|it| records.get_mut(it)) {
            let news = record.is_news_to(known);
            *known = record;
            news
        } else {
            records.push(record);
            true
        };
        *self = Self::new(&head, &records);
        news
    }

    /// The head for all of them with another one in a place. What none of the others shares any more makes room for what
    /// they can share from now on.
    fn head_beside(&self, place: Option<usize>, other: Head) -> Head {
        let mut head = self.head();
        let shared = |mark| {
            let mut all = self.records().enumerate();
            all.any(|(at, it)| Some(at) != place && it.has(mark))
        };
        if other.owner.is_some() && other.owner != head.owner && !shared(OWNED) {
            head.owner = other.owner;
        }
        if other.team.is_some() && other.team != head.team && !shared(TEAM) {
            head.team = other.team;
        }
        head
    }

    /// The same objects under another head.
    fn under(&self, head: &Head, claim: &str, shapes: &mut Shapes) -> Self {
        let before = self.head();
        let mut block = Vec::new();
        head.write(&mut block);
        for record in self.records() {
            let beside = Beside {
                namespace: "",
                claim,
                shapes,
            };
            if let Some(seen) = record.seen(&before, beside) {
                Record::of(seen, claim, head, shapes, &mut Vec::new()).write(&mut block);
            }
        }
        Self(block.into())
    }

    fn new(head: &Head, records: &[Record<'_>]) -> Self {
        let mut block = Vec::with_capacity(2 * 1024);
        head.write(&mut block);
        for record in records {
            record.write(&mut block);
        }
        Self(block.into())
    }
}

#[cfg(test)]
mod tests;
