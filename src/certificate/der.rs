//! The few fields of a certificate that nobody else tells: who issued it to whom, and for how long. It checks
//! nothing; whether a certificate is any good is judged where its signature is.

use jiff::Timestamp;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Issuer, life and subject (RFC 5280, section 4.1). Names are as encoded, to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outline<'a> {
    pub(super) issuer: &'a [u8],
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    pub(super) subject: &'a [u8],
}

/// One value: its tag, what is in it, and what follows it.
#[derive(Clone, Copy)]
struct Value<'a> {
    tag: u8,
    content: &'a [u8],
    rest: &'a [u8],
}

pub(super) fn outline(der: &[u8]) -> Option<Outline<'_>> {
    let certificate = inside(der, SEQUENCE)?;
    let mut next = value(inside(certificate.content, SEQUENCE)?.content)?;
    if next.tag == VERSION {
        next = value(next.rest)?;
    }
    // After the serial number and the algorithm.
    let issuer = value(value(next.rest)?.rest)?;
    let life = inside(issuer.rest, SEQUENCE)?;
    let from = value(life.content)?;
    let subject = inside(life.rest, SEQUENCE)?;
    Some(Outline {
        issuer: issuer.content,
        from: time(from)?,
        until: time(value(from.rest)?)?,
        subject: subject.content,
    })
}

fn inside(bytes: &[u8], tag: u8) -> Option<Value<'_>> {
    value(bytes).filter(|it| it.tag == tag)
}

fn value(bytes: &[u8]) -> Option<Value<'_>> {
    let (&[tag, first], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // Four bytes of length are more than any certificate has.
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = length
                .iter()
                .fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some(Value { tag, content, rest })
}

fn time(value: Value<'_>) -> Option<Timestamp> {
    let text = std::str::from_utf8(value.content).ok()?.strip_suffix('Z')?;
    let (year, rest) = match value.tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            // RFC 5280, section 4.1.2.5.1.
            let century = if year >= "50" { "19" } else { "20" };
            (format!("{century}{year}"), rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.to_owned(), rest)
        }
        _ => return None,
    };
    let pair = |at: usize| rest.get(at..at + 2);
    let (month, day) = (pair(0)?, pair(2)?);
    let (hour, minute, second) = (pair(4)?, pair(6)?, pair(8)?);
    format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_time_are_read() {
        let read = |tag, text: &str| {
            time(Value {
                tag,
                content: text.as_bytes(),
                rest: &[],
            })
            .map(|it| it.to_string())
        };
        assert_eq!(
            read(UTC_TIME, "261121143000Z").as_deref(),
            Some("2026-11-21T14:30:00Z")
        );
        assert_eq!(
            read(UTC_TIME, "991231235959Z").as_deref(),
            Some("1999-12-31T23:59:59Z")
        );
        assert_eq!(
            read(GENERALIZED_TIME, "20560101000000Z").as_deref(),
            Some("2056-01-01T00:00:00Z")
        );
        for (tag, text) in [(UTC_TIME, "2611211430Z"), (0x02, "261121143000Z"), (UTC_TIME, "")] {
            assert_eq!(read(tag, text), None, "{text}");
        }
    }

    #[test]
    fn what_is_cut_short_or_is_something_else_is_no_certificate() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 0x03, 0x02, 0x01],
            &[0x30, 0x80],
            &[0x02, 0x01, 0x05],
        ] {
            assert_eq!(outline(bytes), None, "{bytes:?}");
        }
    }
}
