//! Values at rest, small: JSON, compressed with the help of a text that is like it. Whoever has a thousand values of one
//! type and looks at one at a time keeps them so. Knows no type and no place.

use std::fmt;

use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A type of which values are kept small.
pub trait AtRest: Serialize + DeserializeOwned + Clone + PartialEq {
    /// JSON of an ordinary value, or of several; what a value has in common with it takes no room. It must not change
    /// while values are kept, and should not be longer than a few KiB, since it is read through for each value.
    const LIKE: &str;
}

/// A value at rest.
#[derive(Clone)]
pub struct Compact<T>(Kept<T>);

#[derive(Clone)]
enum Kept<T> {
    Small(Box<[u8]>),
    /// One that has no JSON, such as a map whose keys are no texts.
    Whole(Box<T>),
}

impl<T: AtRest> Compact<T> {
    /// Packs a value.
    pub fn new(value: &T) -> Self {
        let kept = serde_json::to_vec(value).map_or_else(
            |_| Kept::Whole(Box::new(value.clone())),
            |text| Kept::Small(compress_prepend_size_with_dict(&text, T::LIKE.as_bytes()).into()),
        );
        let packed = Self(kept);
        debug_assert!(
            packed.open().as_ref() == Some(value),
            "a type that does not read what it writes"
        );
        packed
    }

    /// The value again. `None` only where its type does not read what it writes.
    pub fn open(&self) -> Option<T> {
        match &self.0 {
            Kept::Small(bytes) => {
                let text = decompress_size_prepended_with_dict(bytes, T::LIKE.as_bytes()).ok()?;
                serde_json::from_slice(&text).ok()
            }
            Kept::Whole(value) => Some(T::clone(value)),
        }
    }
}

impl<T> fmt::Debug for Compact<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kept::Small(bytes) => write!(f, "{} bytes", bytes.len()),
            Kept::Whole(_) => f.write_str("whole"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
            assert_eq!(Compact::new(&value).open(), Some(value));
        }
    }

    #[test]
    fn what_is_like_the_ordinary_takes_next_to_nothing() {
        let size = |name, trouble| match Compact::new(&member(name, trouble)).0 {
            Kept::Small(bytes) => bytes.len(),
            Kept::Whole(_) => usize::MAX,
        };
        let ordinary = size("users-db-1", None);
        assert!(
            ordinary < 24 && ordinary < size("users-db-1", Some("no room")),
            "{ordinary}"
        );
    }

    #[test]
    fn what_has_no_json_is_kept_whole() {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        struct Odd(BTreeMap<(u8, u8), u8>);
        impl AtRest for Odd {
            const LIKE: &str = "";
        }
        let odd = Odd(BTreeMap::from([((1, 2), 3)]));
        assert_eq!(Compact::new(&odd).open(), Some(odd));
    }
}
