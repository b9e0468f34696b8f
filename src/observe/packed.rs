//! What is kept of an object, small: identities and hashes as numbers, and what all objects of a claim have in common
//! once for all of them. Knows nothing of where it is kept.

use std::fmt;
use std::sync::Arc;

use super::reduce::Seen;
use crate::plan::observed::Detail;
use crate::render::Kind;

/// An object. What it was made from comes back whole from [`Packed::seen`].
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) kind: Kind,
    labelled: bool,
    pub(super) deleting: bool,
    name: Box<str>,
    pub(super) uid: Text,
    resource_version: Text,
    applied: Option<Text>,
    fingerprint: u64,
    controller: Option<Arc<(String, String, String)>>,
    team: Option<Arc<str>>,
    /// Most objects have none.
    detail: Option<Box<Detail>>,
}

/// A text that mostly is a number, a hash of 64 bits or a UUID. It says exactly what it was made from.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Text {
    Number(u64),
    Hash([u8; 8]),
    Uuid([u8; 16]),
    Other(Box<str>),
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let other = || Self::Other(text.into());
        let packed = match text.len() {
            36 => {
                let digits: String = text.chars().filter(|it| *it != '-').collect();
                u128::from_str_radix(&digits, 16).map_or_else(|_| other(), |it| Self::Uuid(it.to_be_bytes()))
            }
            16 => u64::from_str_radix(text, 16).map_or_else(|_| other(), |it| Self::Hash(it.to_be_bytes())),
            _ => text.parse().map_or_else(|_| other(), Self::Number),
        };
        // Leading zeros, capitals, dashes elsewhere.
        if packed.to_string() == text {
            packed
        } else {
            other()
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Hash(bytes) => write!(f, "{:016x}", u64::from_be_bytes(*bytes)),
            Self::Uuid(bytes) => {
                let digits = format!("{:032x}", u128::from_be_bytes(*bytes));
                let parts =
                    [0..8, 8..12, 12..16, 16..20, 20..32].map(|it| digits.get(it).unwrap_or_default());
                f.write_str(&parts.join("-"))
            }
            Self::Other(text) => f.write_str(text),
        }
    }
}

fn boxed(detail: Detail) -> Option<Box<Detail>> {
    (detail != Detail::None).then(|| Box::new(detail))
}

impl Packed {
    /// Packs an object; `beside` are others of its claim, with which it shares what they have in common.
    pub(super) fn new(seen: Seen, beside: &[Self]) -> Self {
        let controller = seen.controller.map(|controller| {
            let known = beside.iter().filter_map(|it| it.controller.as_ref());
            let mut same = known.filter(|it| ***it == controller);
            same.next()
                .map_or_else(|| Arc::new(controller.clone()), Arc::clone)
        });
        let team = seen.team.map(|team| {
            let known = beside.iter().filter_map(|it| it.team.as_ref());
            let mut same = known.filter(|it| ***it == *team);
            same.next().map_or_else(|| Arc::from(team.as_str()), Arc::clone)
        });
        Self {
            kind: seen.kind,
            labelled: seen.labelled,
            deleting: seen.deleting,
            name: seen.name.into(),
            uid: seen.uid.as_str().into(),
            resource_version: seen.resource_version.as_str().into(),
            applied: seen.applied.map(|it| it.as_str().into()),
            fingerprint: seen.fingerprint,
            controller,
            team,
            detail: boxed(seen.detail),
        }
    }

    /// Takes over what is particular to the kind.
    pub(super) fn set_detail(&mut self, detail: Detail) {
        self.detail = boxed(detail);
    }

    /// The object again, of a claim in a namespace.
    pub(super) fn seen(&self, namespace: &str, claim: &str) -> Seen {
        Seen {
            kind: self.kind,
            namespace: namespace.to_owned(),
            name: self.name.to_string(),
            uid: self.uid(),
            resource_version: self.resource_version.to_string(),
            claim: Some(claim.to_owned()),
            labelled: self.labelled,
            controller: self.controller.as_deref().cloned(),
            deleting: self.deleting,
            applied: self.applied.as_ref().map(Text::to_string),
            team: self.team.as_deref().map(str::to_owned),
            fingerprint: self.fingerprint,
            detail: self.detail.as_deref().cloned().unwrap_or(Detail::None),
        }
    }

    pub(super) fn uid(&self) -> String {
        self.uid.to_string()
    }

    /// Whether it is in the same place as another.
    pub(super) fn is_in_place_of(&self, kind: Kind, name: &str) -> bool {
        self.kind == kind && *self.name == *name
    }

    /// Whether it is of this UID.
    pub(super) fn is(&self, uid: &str) -> bool {
        self.uid == uid.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_as_it_was() {
        for text in [
            "",
            "0",
            "12345",
            "012345",
            "+7",
            "18446744073709551615",
            "18446744073709551616",
            "u1",
            "0123456789abcdef",
            "0123456789ABCDEF",
            "1234567890123456",
            "+123456789abcdef",
            "6f1b6c6e-0a3f-4a52-9d7e-3c1f5d0c9a11",
            "00000000-0000-0000-0000-000000000000",
            "6F1B6C6E-0a3f-4a52-9d7e-3c1f5d0c9a11",
            "6f1b6c6e0a3f-4a52-9d7e-3c1f5d0c-9a11",
            "not-a-uuid-but-of-the-same-length-ok",
        ] {
            assert_eq!(Text::from(text).to_string(), text);
        }
        assert!(matches!(Text::from("12345"), Text::Number(12345)));
        assert!(matches!(Text::from("0123456789abcdef"), Text::Hash(_)));
        let uuid = Text::from("6f1b6c6e-0a3f-4a52-9d7e-3c1f5d0c9a11");
        assert!(matches!(uuid, Text::Uuid(_)));
        assert!(size_of::<Text>() <= 24);
    }
}
