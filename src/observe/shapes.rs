//! What the objects of one place in a claim have in common with those of all other claims, kept once for all of them.
//! Knows no claim.

use serde::{Deserialize, Serialize};

use crate::render::Kind;

/// How many are remembered. A claim has 14 objects; the others are former versions' and what somebody else has made of
/// them. What comes after these is kept with the objects themselves, and takes a little more room.
const MOST: u8 = 250;

/// What many objects have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shape {
    pub(super) kind: Kind,
    pub(super) labelled: bool,
    /// The same for all claims, since it covers no values and no owners.
    pub(super) fingerprint: u64,
    /// What follows the claim's name in theirs, where that is not made up for each of them.
    pub(super) suffix: Option<Box<str>>,
    /// Kind of the controller, and what follows the claim's name in its name.
    pub(super) controller: Option<(Box<str>, Box<str>)>,
}

/// The shapes that were seen so far. None is ever forgotten, so that a number means the same for good.
#[derive(Debug, Default)]
pub(super) struct Shapes(Vec<Shape>);

impl Shapes {
    /// The number of a shape, which is remembered; the shape itself where there is no room for it.
    pub(super) fn number(&mut self, shape: Shape) -> Result<u8, Shape> {
        let known = self.0.iter().position(|it| *it == shape);
        let place = u8::try_from(known.unwrap_or(self.0.len()));
        match place {
            Ok(place) if place < MOST => {
                if known.is_none() {
                    self.0.push(shape);
                }
                Ok(place)
            }
            _ => Err(shape),
        }
    }

    /// The shape of a number.
    pub(super) fn get(&self, number: u8) -> Option<&Shape> {
        self.0.get(usize::from(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(fingerprint: u64) -> Shape {
        Shape {
            kind: Kind::Service,
            labelled: true,
            fingerprint,
            suffix: Some("-db".into()),
            controller: None,
        }
    }

    #[test]
    fn a_shape_keeps_its_number_and_there_are_not_too_many() {
        let mut shapes = Shapes::default();
        for it in 0..u64::from(MOST) {
            assert_eq!(shapes.number(shape(it)).map(u64::from), Ok(it));
        }
        assert_eq!(shapes.number(shape(999)), Err(shape(999)));
        assert_eq!(shapes.number(shape(7)), Ok(7));
        assert_eq!(shapes.get(7), Some(&shape(7)));
        assert_eq!(shapes.get(MOST), None);
    }
}
