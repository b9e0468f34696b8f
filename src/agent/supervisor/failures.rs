//! Ends of the engine that nobody asked for: how long to pause, and when it counts as failed. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many ends within the window are a failure.
const MANY: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// Recent ends.
#[derive(Debug, Default)]
pub(super) struct Failures {
    ends: VecDeque<Instant>,
    in_a_row: u32,
}

impl Failures {
    /// Records an end of an engine that had run for `lived`; returns how long to pause before the next start.
    pub(super) fn record(&mut self, now: Instant, lived: Duration) -> Duration {
        self.in_a_row = if lived >= WINDOW { 0 } else { self.in_a_row + 1 };
        self.ends.push_back(now);
        while self.ends.len() > MANY {
            self.ends.pop_front();
        }
        FIRST
            .saturating_mul(1 << self.in_a_row.saturating_sub(1).min(10))
            .min(LONGEST)
    }

    /// Whether it does not stay up. Pauses grow beyond the window, so ends in a row count whenever they were.
    pub(super) fn failed(&self, now: Instant) -> bool {
        let recent = self
            .ends
            .iter()
            .filter(|end| now.duration_since(**end) <= WINDOW)
            .count();
        recent >= MANY || self.in_a_row as usize >= MANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_ends_within_a_minute_are_a_failure_and_pauses_grow() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let mut pauses = Vec::new();
        for end in 0..8 {
            assert_eq!(failures.failed(now), end >= 3, "after {end} ends");
            pauses.push(failures.record(now, Duration::ZERO).as_millis());
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
    }

    #[test]
    fn ends_far_apart_are_no_failure() {
        let (mut failures, mut now) = (Failures::default(), Instant::now());
        for _ in 0..5 {
            now += Duration::from_secs(61);
            assert_eq!(failures.record(now, Duration::from_secs(61)), FIRST);
            assert!(!failures.failed(now));
        }
    }
}
