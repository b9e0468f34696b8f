//! What the controller remembers of each claim between passes. None of it is needed for safety: after a
//! restart it is empty, and the first pass finds out again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::api::v1::DatabaseClaimStatus;
use crate::controller::error::Class;
use crate::observe::cache::newer;
use crate::render::Slot;

/// First delay after an error, and the longest, by class.
const BACKOFF: [(Class, Duration, Duration); 3] = [
    (
        Class::Conflict,
        Duration::from_millis(50),
        Duration::from_secs(10),
    ),
    (
        Class::Transient,
        Duration::from_millis(500),
        Duration::from_secs(60),
    ),
    // No watch tells that a quota has room again or a right was granted.
    (Class::Terminal, Duration::from_secs(5), Duration::from_secs(60)),
];
/// How often Secrets are read although nothing has happened.
pub const RESYNC: Duration = Duration::from_secs(30 * 60);

/// Memory of all claims, by UID.
#[derive(Debug, Default)]
pub struct Memory {
    claims: Mutex<HashMap<String, Remembered>>,
}

/// Memory of one claim.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// Namespace and name, to forget by.
    key: (String, String),
    /// Failures in a row.
    pub failures: u32,
    /// Places in which a POST found something that no watch has shown.
    pub suspects: Vec<Slot>,
    /// Our last status write: the version that it made, and what it said.
    pub status: Option<(String, DatabaseClaimStatus)>,
    /// When the Secrets were read last.
    pub secrets_read: Option<Instant>,
    /// Whether our finalizer was taken off a claim that goes: there is nothing left to do for it.
    pub released: bool,
    /// Whether an Event has told of trouble and none yet of its end.
    pub in_trouble: bool,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        // Every update is one assignment; a panic elsewhere leaves it whole.
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of a claim.
    pub fn recall(&self, uid: &str) -> Remembered {
        self.lock().get(uid).cloned().unwrap_or_default()
    }

    /// Changes what is remembered.
    pub fn note(&self, uid: &str, key: (&str, &str), change: impl FnOnce(&mut Remembered)) {
        let mut claims = self.lock();
        let entry = claims.entry(uid.to_owned()).or_default();
        if entry.key.0.is_empty() {
            entry.key = (key.0.to_owned(), key.1.to_owned());
        }
        change(entry);
    }

    /// Forgets a claim that is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.lock()
            .retain(|_, it| it.key.0 != namespace || it.key.1 != name);
    }

    /// Whether a version of a claim is the echo of our own status write.
    pub fn is_echo(&self, uid: &str, resource_version: &str) -> bool {
        self.lock()
            .get(uid)
            .and_then(|it| it.status.as_ref())
            .is_some_and(|(version, _)| version == resource_version)
    }

    /// The newest status that is known: what the watch has shown, or what we wrote after it.
    pub fn newest_status(
        &self,
        uid: &str,
        shown_version: &str,
        shown: Option<&DatabaseClaimStatus>,
    ) -> Option<DatabaseClaimStatus> {
        match self.lock().get(uid).and_then(|it| it.status.as_ref()) {
            Some((version, written)) if newer(version, shown_version) => Some(written.clone()),
            _ => shown.cloned(),
        }
    }

    /// Counts a failure and says how long to wait: doubling per claim, capped by class.
    pub fn back_off(&self, uid: &str, key: (&str, &str), class: Class) -> Duration {
        let mut failures = 0;
        self.note(uid, key, |it| {
            it.failures = it.failures.saturating_add(1);
            failures = it.failures;
        });
        delay(class, failures)
    }
}

fn delay(class: Class, failures: u32) -> Duration {
    let (_, first, longest) = BACKOFF
        .into_iter()
        .find(|(it, ..)| *it == class)
        .unwrap_or((class, RESYNC, RESYNC));
    first
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_cap_per_class() {
        let ms = |class, failures| delay(class, failures).as_millis();
        assert_eq!(
            [1, 2, 3, 99].map(|n| ms(Class::Conflict, n)),
            [50, 100, 200, 10_000]
        );
        assert_eq!([1, 2, 99].map(|n| ms(Class::Transient, n)), [500, 1000, 60_000]);
        assert_eq!([1, 99].map(|n| ms(Class::Terminal, n)), [5000, 60_000]);
    }

    #[test]
    fn a_status_that_we_wrote_counts_until_the_watch_shows_it() {
        let memory = Memory::default();
        let written = DatabaseClaimStatus {
            observed_generation: Some(2),
            ..Default::default()
        };
        memory.note("u", ("shop", "orders"), |it| {
            it.status = Some(("20".into(), written.clone()));
        });
        assert_eq!(memory.newest_status("u", "19", None), Some(written));
        assert_eq!(memory.newest_status("u", "20", None), None);
        assert!(memory.is_echo("u", "20") && !memory.is_echo("u", "21"));
        memory.forget("shop", "orders");
        assert!(!memory.is_echo("u", "20"));
    }
}
