//! Texts that mostly are a number, a hash or a UUID, as what they are. Knows nothing of what they are good for.

use std::fmt;

use crate::compact::uuid;

/// A text that mostly is a number, a hash of 64 bits or a UUID. It says exactly what it was made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Text {
    Number(u64),
    Hash([u8; 8]),
    Uuid([u8; 16]),
    Other(Box<str>),
}

impl Text {
    pub(super) fn hash(&self) -> Option<[u8; 8]> {
        match self {
            Self::Hash(hash) => Some(*hash),
            _ => None,
        }
    }

    pub(super) fn uuid(&self) -> Option<[u8; 16]> {
        match self {
            Self::Uuid(uuid) => Some(*uuid),
            _ => None,
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let is_hash = || text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
        // Others could not be told from the number that they are equal to: leading zeros, signs.
        let is_number = || matches!(text.as_bytes(), [b'0'] | [b'1'..=b'9', ..]);
        let packed = match text.len() {
            36 => uuid(text.as_bytes()).map(|it| Self::Uuid(it.to_be_bytes())),
            16 if is_hash() => u64::from_str_radix(text, 16)
                .ok()
                .map(|it| Self::Hash(it.to_be_bytes())),
            16 => None,
            _ => text.parse().ok().filter(|_| is_number()).map(Self::Number),
        };
        packed.unwrap_or_else(|| Self::Other(text.into()))
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Hash(bytes) => write!(f, "{:016x}", u64::from_be_bytes(*bytes)),
            Self::Uuid(bytes) => {
                let all = u128::from_be_bytes(*bytes);
                let part = |low: u32, digits: u32| (all >> low) & ((1 << (4 * digits)) - 1);
                let (first, second, third) = (part(96, 8), part(80, 4), part(64, 4));
                let (fourth, last) = (part(48, 4), part(0, 12));
                write!(f, "{first:08x}-{second:04x}-{third:04x}-{fourth:04x}-{last:012x}")
            }
            Self::Other(text) => f.write_str(text),
        }
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
