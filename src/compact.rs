//! Values at rest, small: JSON, its identities and hashes as numbers, compressed with the help of a text that is like it.
//! Whoever has a thousand values of one type and looks at one at a time keeps them so. Knows no type and no place.

mod dense;
pub mod number;

pub use dense::uuid;

use std::fmt;
use std::marker::PhantomData;

use lz4_flex::block::{compress_with_dict, decompress_with_dict};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A type of which values are kept small.
pub trait AtRest: Serialize + DeserializeOwned {
    /// JSON of an ordinary value, or of several; what a value has in common with it takes no room. It must not change
    /// while values are kept, and should not be longer than a few KiB, since it is read through for each value.
    const LIKE: &str;
}

/// Packs a value with the help of a text, for whoever keeps several in one place or knows several such texts. `None` for a
/// value that has no JSON, such as a map whose keys are no texts.
pub fn pack<T: Serialize>(value: &T, like: &str) -> Option<Vec<u8>> {
    let dense = dense::pack(&serde_json::to_string(value).ok()?);
    let mut packed = Vec::new();
    number::write(dense.len() as u64, &mut packed);
    packed.extend(compress_with_dict(&dense, like.as_bytes()));
    Some(packed)
}

/// What was packed with the help of the same text. `None` only where the type does not read what it writes.
pub fn open<T: DeserializeOwned>(mut packed: &[u8], like: &str) -> Option<T> {
    let length = usize::try_from(number::read(&mut packed)?).ok()?;
    let dense = decompress_with_dict(packed, length, like.as_bytes()).ok()?;
    serde_json::from_slice(&dense::unpack(&dense)?).ok()
}

/// A value at rest.
pub struct Compact<T> {
    bytes: Box<[u8]>,
    of: PhantomData<fn() -> T>,
}

impl<T: AtRest> Compact<T> {
    /// Packs a value. `None` for one that has no JSON, such as a map whose keys are no texts.
    pub fn new(value: &T) -> Option<Self> {
        Some(Self {
            bytes: pack(value, T::LIKE)?.into(),
            of: PhantomData,
        })
    }

    /// The value again. `None` only where its type does not read what it writes.
    pub fn open(&self) -> Option<T> {
        open(&self.bytes, T::LIKE)
    }

    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

impl<T> Clone for Compact<T> {
    fn clone(&self) -> Self {
        Self {
            bytes: self.bytes.clone(),
            of: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Compact<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Member {
        name: String,
        ready: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trouble: Option<String>,
    }

    impl AtRest for Member {
        const LIKE: &str = r#"{"name":"orders-db-1","ready":true}"#;
    }

    fn member(name: &str, trouble: Option<&str>) -> Member {
        Member {
            name: name.to_owned(),
            ready: trouble.is_none(),
            trouble: trouble.map(str::to_owned),
        }
    }

    #[test]
    fn every_value_comes_back_as_it_was() {
        let long = "no space left on device; ".repeat(1000);
        for value in [
            member("orders-db-1", None),
            member("", Some("")),
            member("b", Some("\"quoted\"\n and ü")),
            member("c", Some(&long)),
        ] {
            assert_eq!(Compact::new(&value).unwrap().open(), Some(value));
        }
    }

    #[test]
    fn what_is_like_the_ordinary_takes_next_to_nothing() {
        let ordinary = Compact::new(&member("users-db-1", None)).unwrap();
        let strange = Compact::new(&member("users-db-1", Some("no room"))).unwrap();
        assert!(
            ordinary.size() < 24 && ordinary.size() < strange.size(),
            "{ordinary:?}"
        );
    }
}
