//! Values at rest, small: JSON, its identities and hashes as numbers, compressed with the help of a text that is like it.
//! Whoever has a thousand values of one type and looks at one at a time keeps them so. Knows no type and no place.

mod dense;
pub mod number;

pub use dense::uuid;

use lz4_flex::block::{compress_with_dict, decompress_with_dict};
use serde::Serialize;
use serde::de::DeserializeOwned;

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    const LIKE: &str = r#"{"name":"orders-db-1","ready":true}"#;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Member {
        name: String,
        ready: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trouble: Option<String>,
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
            member("6f1b6c6e-0a3f-4a52-9d7e-3c1f5d0c9a11", Some("0123456789abcdef")),
            member("b", Some("\"quoted\"\n and ü")),
            member("c", Some(&long)),
        ] {
            assert_eq!(open(&pack(&value, LIKE).unwrap(), LIKE), Some(value));
        }
        assert_eq!(pack(&BTreeMap::from([((1, 2), 3)]), LIKE), None);
    }

    #[test]
    fn what_is_like_the_ordinary_takes_next_to_nothing() {
        let size = |name, trouble| pack(&member(name, trouble), LIKE).unwrap().len();
        let ordinary = size("users-db-1", None);
        assert!(
            ordinary < 24 && ordinary < size("users-db-1", Some("no room")),
            "{ordinary}"
        );
    }
}
