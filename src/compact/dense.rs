//! JSON with its identities and hashes as numbers: each takes half of its digits' room, and nothing that compresses can
//! make more of them. Knows nothing of what the JSON says.

/// What stands in front of a number: bytes that UTF-8 never has.
const UUID: u8 = 0xFF;
const DIGITS: u8 = 0xFE;
/// Fewer digits are not worth it.
const FEW: usize = 8;
/// How many fit into one number: pairs, counted by a byte.
const MOST: usize = 2 * u8::MAX as usize;
/// Where the dashes of a UUID are, and how long it is.
const DASHES: [usize; 4] = [8, 13, 18, 23];
const LENGTH: usize = 36;

/// The text with UUIDs and hexadecimal digits that follow a quote as numbers.
pub(super) fn pack(text: &str) -> Vec<u8> {
    let mut packed = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some(quote) = rest.iter().position(|it| *it == b'"') {
        let (before, after) = rest.split_at(quote + 1);
        packed.extend_from_slice(before);
        rest = number(after, &mut packed);
    }
    packed.extend_from_slice(rest);
    packed
}

/// Packs the number that a text begins with, if it does, and returns what is left of it.
fn number<'a>(text: &'a [u8], packed: &mut Vec<u8>) -> &'a [u8] {
    if let Some((begin, rest)) = text.split_at_checked(LENGTH)
        && let Some(number) = uuid(begin)
    {
        packed.push(UUID);
        packed.extend_from_slice(&number.to_be_bytes());
        return rest;
    }
    let digits = text.iter().take(MOST).map_while(|it| digit(*it)).count() & !1;
    let (run, rest) = text.split_at(digits);
    if digits < FEW {
        return text;
    }
    packed.push(DIGITS);
    packed.extend(u8::try_from(digits / 2));
    let pairs = run.chunks_exact(2);
    packed.extend(pairs.map(|pair| {
        pair.iter()
            .filter_map(|it| digit(*it))
            .fold(0, |all, it| all << 4 | it)
    }));
    rest
}

/// The number that a UUID is, if the text is one with small letters.
pub fn uuid(text: &[u8]) -> Option<u128> {
    if text.len() != LENGTH {
        return None;
    }
    let mut places = text.iter().enumerate();
    places.try_fold(0, |all, (place, byte)| {
        if DASHES.contains(&place) {
            return (*byte == b'-').then_some(all);
        }
        Some(all << 4 | u128::from(digit(*byte)?))
    })
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// The text again. `None` for what [`pack`] has not written.
pub(super) fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(packed.len() * 2);
    let mut rest = packed;
    while let Some(place) = rest.iter().position(|it| *it >= DIGITS) {
        let (before, after) = rest.split_at(place);
        text.extend_from_slice(before);
        let (mark, after) = after.split_first()?;
        let (bytes, after) = if *mark == UUID {
            after.split_at_checked(LENGTH / 2 - 2)?
        } else {
            let (pairs, after) = after.split_first()?;
            after.split_at_checked(usize::from(*pairs))?
        };
        let begin = text.len();
        for byte in bytes {
            // The dashes of a UUID are after a whole number of bytes each.
            if *mark == UUID && DASHES.contains(&(text.len() - begin)) {
                text.push(b'-');
            }
            text.extend([letter(byte >> 4), letter(byte & 15)]);
        }
        rest = after;
    }
    text.extend_from_slice(rest);
    Some(text)
}

fn letter(digit: u8) -> u8 {
    if digit < 10 {
        b'0' + digit
    } else {
        b'a' + digit - 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn identities_and_hashes_take_half_of_their_digits() {
        let uuid = r#""6f1b6c6e-0a3f-4a52-9d7e-3c1f5d0c9a11""#;
        assert_eq!(pack(uuid).len(), 2 + 17);
        assert_eq!(pack(r#""0123456789abcdef""#).len(), 2 + 2 + 8);
        for other in [
            r#""0123456""#,
            r#""ABCDEF0123456789""#,
            "0123456789abcdef",
            r#""_0123456789""#,
        ] {
            assert_eq!(pack(other), other.as_bytes());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_text_comes_back_as_it_was(
            parts in proptest::collection::vec(
                prop_oneof![
                    "\"[0-9a-f]{0,40}",
                    "\"[0-9a-f]{500,530}",
                    "\"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{10,14}",
                    "\"[0-9a-fA-F-]{30,40}",
                    ".{0,9}",
                ],
                0..8,
            )
        ) {
            let text = parts.concat();
            prop_assert_eq!(unpack(&pack(&text)), Some(text.into_bytes()));
        }

        #[test]
        fn what_was_not_packed_by_us_is_told(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            // It must end, that is all.
            unpack(&bytes);
        }
    }
}
