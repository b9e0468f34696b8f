//! What the controller remembers of each claim between passes. None of it is needed for safety: after a
//! restart it is empty, and the first pass finds out again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::refused::Refused;
use crate::api::v1::DatabaseClaimStatus;
use crate::controller::error::Class;
use crate::observe::MadeSecrets;
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
/// How often they are read at most where a running agent has no password from them.
pub const DOUBT: Duration = Duration::from_secs(15);

/// Memory of all claims, by UID.
#[derive(Debug, Default)]
pub struct Memory {
    /// Boxed: a map has room for up to twice as many as it holds.
    claims: Mutex<HashMap<String, Box<Remembered>>>,
}

/// Memory of one claim.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// Failures in a row.
    pub failures: u32,
    /// Places in which a POST found something that no watch has shown.
    pub suspects: Vec<Slot>,
    /// Our last status write: the version that it made, and what it said until the watch has shown it.
    pub status: Option<(String, Option<Arc<DatabaseClaimStatus>>)>,
    /// When that was.
    pub status_written: Option<Instant>,
    /// Version and finalizers of the claim by the answer to our last write to it, until the watch has shown them.
    pub answered: Option<(String, Vec<String>)>,
    /// The two Secrets, if the pass before made them. The next one takes this away; later ones read.
    pub made: Option<MadeSecrets>,
    /// When the Secrets were read last.
    pub secrets_read: Option<Instant>,
    /// Whether the namespace is being deleted, so that nothing can be made in it.
    pub namespace_goes: bool,
    /// Whether our finalizer was taken off a claim that goes: there is nothing left to do for it.
    pub released: bool,
    /// Why the API server refused to resize the Pod while it runs, and at which generation of the claim.
    pub not_in_place: Option<(i64, String)>,
    /// Whether an Event has told of trouble and none yet of its end.
    pub in_trouble: bool,
    /// What the API server did not take.
    pub(super) refused: Refused,
}

impl Remembered {
    /// The newest status that is known: what the watch has shown, or what we wrote after it. Whoever recalls first
    /// and looks at what is shown then misses neither.
    pub fn newest_status(
        &self,
        shown_version: &str,
        shown: Option<&DatabaseClaimStatus>,
    ) -> Option<DatabaseClaimStatus> {
        match &self.status {
            Some((version, Some(written))) if newer(version, shown_version) => {
                Some(DatabaseClaimStatus::clone(written))
            }
            _ => shown.cloned(),
        }
    }
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Box<Remembered>>> {
        // Every update is one assignment; a panic elsewhere leaves it whole.
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of a claim.
    pub fn recall(&self, uid: &str) -> Remembered {
        self.lock()
            .get(uid)
            .map(|it| Remembered::clone(it))
            .unwrap_or_default()
    }

    /// Takes away what the pass before made.
    pub fn take_made(&self, uid: &str) -> Option<MadeSecrets> {
        self.lock().get_mut(uid)?.made.take()
    }

    /// Changes what is remembered.
    pub fn note<R>(&self, uid: &str, change: impl FnOnce(&mut Remembered) -> R) -> R {
        let mut claims = self.lock();
        if let Some(known) = claims.get_mut(uid) {
            return change(known);
        }
        change(claims.entry(uid.to_owned()).or_default())
    }

    /// Forgets a claim that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// Takes in that the watch has shown this version of a claim: what it says need not be kept twice. Returns
    /// whether it is the echo of our own status write.
    pub fn shown(&self, uid: &str, resource_version: &str) -> bool {
        let mut claims = self.lock();
        let Some(remembered) = claims.get_mut(uid) else {
            return false;
        };
        remembered
            .answered
            .take_if(|(version, _)| !newer(version, resource_version));
        let Some((version, status)) = remembered.status.as_mut() else {
            return false;
        };
        if !newer(version, resource_version) {
            *status = None;
        }
        version == resource_version
    }

    /// Counts a failure and says how long to wait: doubling per claim, capped by class.
    pub fn back_off(&self, uid: &str, class: Class) -> Duration {
        let failures = self.note(uid, |it| {
            it.failures = it.failures.saturating_add(1);
            it.failures
        });
        delay(class, failures)
    }
}

/// How long to wait after so many failures in a row.
pub(super) fn delay(class: Class, failures: u32) -> Duration {
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
        memory.note("u", |it| {
            it.status = Some(("20".into(), Some(Arc::new(written.clone()))));
        });
        assert_eq!(memory.recall("u").newest_status("19", None), Some(written));
        assert_eq!(memory.recall("u").newest_status("20", None), None);
        assert!(!memory.shown("u", "19"), "an older version");
        assert!(memory.recall("u").newest_status("19", None).is_some());
        assert!(
            memory.shown("u", "20") && memory.shown("u", "20"),
            "also when it is listed again"
        );
        assert_eq!(
            memory.recall("u").newest_status("19", None),
            None,
            "it is not kept twice"
        );
        assert!(!memory.shown("u", "21"));
        memory.forget("u");
        assert!(!memory.shown("u", "20"));
    }
}
