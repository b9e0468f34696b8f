//! When a supervisor counts as silent, and when to start the next one. Pure: time is an argument.

use std::time::{Duration, Instant};

/// Silence after which a supervisor is replaced.
const SILENCE: Duration = Duration::from_secs(30);
/// A gap between two of our own looks that shows that we were not running either.
const GAP: Duration = Duration::from_secs(5);
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// A supervisor that lived this long starts the backoff anew.
const PROVEN: Duration = Duration::from_secs(60);

/// The heartbeat of one supervisor.
#[derive(Debug)]
pub(super) struct Heart {
    last_beat: Instant,
    last_look: Instant,
}

impl Heart {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last_beat: now,
            last_look: now,
        }
    }

    pub(super) fn beat(&mut self, now: Instant) {
        self.last_beat = now;
    }

    /// Whether it has been silent for too long. Where we did not run ourselves (a frozen container), its
    /// silence proves nothing, and it gets the whole time again.
    pub(super) fn stalled(&mut self, now: Instant) -> bool {
        if now.duration_since(self.last_look) > GAP {
            self.last_beat = now;
        }
        self.last_look = now;
        now.duration_since(self.last_beat) > SILENCE
    }
}

/// Growing pauses between starts.
#[derive(Debug)]
pub(super) struct Backoff {
    pause: Duration,
    started: Option<Instant>,
    next: Option<Instant>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            pause: FIRST,
            started: None,
            next: None,
        }
    }
}

impl Backoff {
    pub(super) fn due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    /// A start is tried; when it fails, the next is due after the pause too.
    pub(super) fn started(&mut self, now: Instant) {
        self.started = Some(now);
        self.next = Some(now + self.pause);
    }

    pub(super) fn ended(&mut self, now: Instant) {
        if self
            .started
            .is_some_and(|started| now.duration_since(started) >= PROVEN)
        {
            self.pause = FIRST;
        }
        self.next = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_supervisor_is_silent_after_thirty_seconds_and_not_before() {
        let start = Instant::now();
        let mut heart = Heart::new(start);
        for second in 1..=30 {
            assert!(!heart.stalled(start + seconds(second)), "after {second} s");
        }
        assert!(heart.stalled(start + seconds(31)));
        heart.beat(start + seconds(31));
        assert!(!heart.stalled(start + seconds(32)));
    }

    #[test]
    fn silence_while_we_were_frozen_ourselves_proves_nothing() {
        let start = Instant::now();
        let mut heart = Heart::new(start);
        assert!(!heart.stalled(start + seconds(600)));
        assert!(!heart.stalled(start + seconds(601)));
    }

    #[test]
    fn pauses_grow_to_ten_seconds_and_shrink_after_a_proven_run() {
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert!(backoff.due(now));
            backoff.started(now);
            backoff.ended(now);
            let before = now;
            while !backoff.due(now) {
                now += Duration::from_millis(50);
            }
            pauses.push((now - before).as_millis());
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000]);
        backoff.started(now);
        backoff.ended(now + seconds(60));
        assert!(backoff.due(now + seconds(60) + FIRST));
    }
}
