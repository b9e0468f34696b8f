//! Kubernetes quantities as numbers: bytes of storage and memory, thousandths of a CPU.
//! Grammar: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A string that is not a quantity.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a quantity; write a number with a unit, such as 20Gi")]
pub struct ParseQuantity(pub String);

/// A number of bytes. As JSON it is a plain number, for this process' own memory; on the wire it is a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Bytes(pub u64);

const BINARY: [(&str, u64); 6] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
];
const DECIMAL: [(&str, u64); 6] = [
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
];

impl Bytes {
    /// One mebibyte.
    pub const MIB: u64 = 1 << 20;
    /// One gibibyte.
    pub const GIB: u64 = 1 << 30;

    /// Reads a quantity; fractions of a byte are rounded up.
    ///
    /// # Errors
    /// When the text is not a quantity, or negative, or beyond 2^64 bytes.
    pub fn parse(text: &str) -> Result<Self, ParseQuantity> {
        let bad = || ParseQuantity(text.to_owned());
        let (digits, factor) = split_unit(text).ok_or_else(bad)?;
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.len() > 18 {
            return Err(bad());
        }
        let number = |s: &str| if s.is_empty() { Some(0) } else { parse_digits(s) };
        let (whole, part) = (number(whole).ok_or_else(bad)?, number(fraction).ok_or_else(bad)?);
        let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| bad())?);
        let total = whole.checked_mul(factor).ok_or_else(bad)? + (part * factor).div_ceil(scale);
        u64::try_from(total).map(Self).map_err(|_| bad())
    }
}

fn parse_digits(text: &str) -> Option<u128> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

fn split_unit(text: &str) -> Option<(&str, u128)> {
    let text = text.strip_prefix('+').unwrap_or(text);
    for (unit, factor) in BINARY.iter().chain(&DECIMAL) {
        if let Some(digits) = text.strip_suffix(unit) {
            return Some((digits, u128::from(*factor)));
        }
    }
    if let Some((digits, exponent)) = text.split_once(['e', 'E']) {
        let exponent: u32 = exponent.strip_prefix('+').unwrap_or(exponent).parse().ok()?;
        return (exponent <= 18).then(|| (digits, 10_u128.pow(exponent)));
    }
    Some((text, 1))
}

impl fmt::Display for Bytes {
    /// As the API server writes it; another spelling of the same number would look like somebody's edit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in BINARY.iter().rev().chain(DECIMAL.iter().rev()) {
            if self.0 >= *factor && self.0.is_multiple_of(*factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// Thousandths of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millicores(pub u32);

impl fmt::Display for Millicores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            write!(f, "{}", self.0 / 1000)
        } else {
            write!(f, "{}m", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1", 1),
            ("5Gi", 5 * Bytes::GIB),
            ("0.5Gi", Bytes::GIB / 2),
            (".5Ki", 512),
            ("1.5Gi", 3 * Bytes::GIB / 2),
            ("20G", 20_000_000_000),
            ("1e3", 1_000),
            ("2E", 2_000_000_000_000_000_000),
            ("1E+3", 1_000),
            ("1.0000000001k", 1_001),
        ] {
            assert_eq!(Bytes::parse(text), Ok(Bytes(bytes)), "{text}");
        }
        for text in [
            "",
            "Gi",
            "-1Gi",
            "1 Gi",
            "1gi",
            "0x10",
            "1e99",
            "99999999999Ei",
            "1.2.3",
            "1_0",
        ] {
            assert!(Bytes::parse(text).is_err(), "{text:?} was taken for a quantity");
        }
    }

    #[test]
    fn bytes_are_written_as_the_api_server_writes_them() {
        for (bytes, text) in [
            (0, "0"),
            (1, "1"),
            (1_000, "1k"),
            (1_024, "1Ki"),
            (512_000, "500Ki"),
            (1_500_000_000, "1500M"),
            (1_500_000_001, "1500000001"),
            (20_000_000_000, "19531250Ki"),
            (5 * Bytes::GIB, "5Gi"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn cpus_are_written_shortest() {
        assert_eq!(Millicores(250).to_string(), "250m");
        assert_eq!(Millicores(2000).to_string(), "2");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes: u64) {
            prop_assert_eq!(Bytes::parse(&Bytes(bytes).to_string()), Ok(Bytes(bytes)));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = Bytes::parse(&text);
        }
    }
}
