//! Parameters that a claim may set: what kind of value each takes. Pure; names no engine.

use std::fmt;

/// One parameter of an engine.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// The engine's name of it.
    pub name: &'static str,
    /// What it takes.
    pub takes: Takes,
}

pub(super) const fn switch(name: &'static str) -> Parameter {
    let takes = Takes::Switch;
    Parameter { name, takes }
}

pub(super) const fn word(name: &'static str, words: &'static [&'static str]) -> Parameter {
    let takes = Takes::Word(words);
    Parameter { name, takes }
}

pub(super) const fn whole(name: &'static str, least: f64, most: f64) -> Parameter {
    let whole = true;
    let takes = Takes::Number { whole, least, most };
    Parameter { name, takes }
}

pub(super) const fn number(name: &'static str, least: f64, most: f64) -> Parameter {
    let whole = false;
    let takes = Takes::Number { whole, least, most };
    Parameter { name, takes }
}

impl Parameter {
    pub(super) const fn amount(
        name: &'static str,
        units: &'static [(&'static str, f64)],
        plain: f64,
        least: f64,
        most: f64,
    ) -> Self {
        let takes = Takes::Amount {
            units,
            plain,
            least,
            most,
        };
        Self { name, takes }
    }
}

/// What a parameter takes.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    /// `on` or `off`.
    Switch,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A number without a unit.
    Number {
        /// Whether a fraction is refused.
        whole: bool,
        /// Least value.
        least: f64,
        /// Greatest value.
        most: f64,
    },
    /// An amount with a unit; without one it is in the first of the units.
    Amount {
        /// Spelling and worth of each unit, in the smallest of them.
        units: &'static [(&'static str, f64)],
        /// Worth of a number without a unit.
        plain: f64,
        /// Least value, as worth; what is below `0` and allowed is `-1` alone.
        least: f64,
        /// Greatest value, as worth.
        most: f64,
    },
}

impl Takes {
    /// Whether a value may be set.
    pub fn accepts(&self, value: &str) -> bool {
        match self {
            Self::Switch => matches!(value, "on" | "off"),
            Self::Word(words) => words.contains(&value),
            Self::Number { whole, least, most } => decimal(value)
                .is_some_and(|it| (*least..=*most).contains(&it) && (!whole || it.fract() == 0.0)),
            Self::Amount { least, most, .. } => {
                self.worth(value).is_some_and(|it| (*least..=*most).contains(&it))
            }
        }
    }

    /// What an amount comes to, in the smallest unit.
    pub fn worth(&self, value: &str) -> Option<f64> {
        let Self::Amount { units, plain, .. } = self else {
            return None;
        };
        if value == "-1" {
            // "No limit", or "as another one": no amount, and without a unit.
            return Some(-1.0);
        }
        // Whole numbers with the unit right behind them are what every engine reads alike.
        let end = value.find(|it: char| !it.is_ascii_digit()).unwrap_or(value.len());
        let (digits, unit) = value.split_at(end);
        let each = match unit {
            "" => *plain,
            unit => units.iter().find(|(name, _)| *name == unit)?.1,
        };
        decimal(digits).map(|it| it * each)
    }

    /// Whether an amount is of more bytes than this.
    pub(super) fn more_than(&self, value: &str, bytes: u64) -> bool {
        // Amounts of memory are far below 2^52, where every whole number is exact.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        let most = bytes as f64;
        self.worth(value).is_some_and(|it| it > most)
    }
}

/// Plain decimal notation; neither exponents nor `inf`, which engines read in their own ways.
fn decimal(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.starts_with(|it: char| it.is_ascii_digit())
        && digits.bytes().all(|it| it.is_ascii_digit() || it == b'.');
    plain.then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Takes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch => f.write_str("on or off"),
            Self::Word(words) => write!(f, "one of {}", words.join(", ")),
            Self::Number { whole, least, most } => {
                let kind = if *whole { "a whole number" } else { "a number" };
                write!(f, "{kind} from {least} to {most}")
            }
            Self::Amount {
                units,
                plain,
                least,
                most,
            } => {
                let names: Vec<_> = units.iter().map(|it| it.0).collect();
                let spelled = |worth: f64| spell(worth, units);
                write!(
                    f,
                    "an amount from {} to {} with a unit ({}); without a unit it is in {}",
                    spelled(*least),
                    spelled(*most),
                    names.join(", "),
                    match spelled(*plain).as_str() {
                        "1" => "bytes",
                        unit => unit,
                    }
                )
            }
        }
    }
}

/// The largest unit in which it is a whole number.
fn spell(worth: f64, units: &[(&str, f64)]) -> String {
    if worth <= 0.0 {
        return worth.to_string();
    }
    let best = units
        .iter()
        .filter(|(_, each)| (worth / each).fract() == 0.0)
        .max_by(|a, b| a.1.total_cmp(&b.1));
    best.map_or_else(
        || worth.to_string(),
        |(name, each)| format!("{}{name}", worth / each),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: Takes = Takes::Amount {
        units: &[("B", 1.0), ("kB", 1024.0), ("MB", 1_048_576.0)],
        plain: 1024.0,
        least: -1.0,
        most: 1_048_576.0,
    };

    #[test]
    fn amounts_are_read_with_and_without_units() {
        for (text, accepted) in [
            ("64", true),
            ("64kB", true),
            ("64 kB", false),
            ("1MB", true),
            ("0.5MB", false),
            ("-1", true),
            ("2MB", false),
            ("1025", false),
            ("1GB", false),
            ("1mb", false),
            ("", false),
            ("kB", false),
            ("-", false),
            ("1e3", false),
            ("NaN", false),
            ("inf", false),
            ("1.2.3", false),
            ("64kB'", false),
            ("64\n", false),
        ] {
            assert_eq!(MEMORY.accepts(text), accepted, "{text:?}");
        }
        assert_eq!(
            MEMORY.to_string(),
            "an amount from -1 to 1MB with a unit (B, kB, MB); without a unit it is in 1kB"
        );
    }

    #[test]
    fn numbers_switches_and_words_take_nothing_else() {
        let whole = Takes::Number {
            whole: true,
            least: 1.0,
            most: 10.0,
        };
        assert!(whole.accepts("10") && !whole.accepts("2.5") && !whole.accepts("11") && !whole.accepts("+1"));
        assert!(Takes::Switch.accepts("on") && !Takes::Switch.accepts("ON'"));
        assert!(Takes::Word(&["a b"]).accepts("a b") && !Takes::Word(&["a"]).accepts("a "));
    }
}
