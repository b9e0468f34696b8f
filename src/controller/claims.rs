//! The claims as their watch shows them, at rest: a thousand of them are looked at one at a time. Filled by their watch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::ResourceExt as _;

use crate::api::v1::{DatabaseClaim, Phase};
use crate::compact;
use crate::observe::cache::ClaimKey;

/// An ordinary claim. What a claim has in common with it takes no room.
const LIKE: &str = include_str!("claim.json");

/// All claims that are known. Every lock is held for a look-up only.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<BTreeMap<ClaimKey, Known>>);

#[derive(Debug)]
struct Known {
    uid: Box<str>,
    version: Box<str>,
    phase: Option<Phase>,
    /// At rest.
    claim: Box<[u8]>,
}

/// Where a claim is.
pub(super) fn key(claim: &DatabaseClaim) -> ClaimKey {
    (claim.namespace().unwrap_or_default(), claim.name_any())
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClaimKey, Known>> {
        // Every update is one insertion or removal; a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a claim as its watch shows it. Returns the UID of another one that was in its place.
    pub(super) fn insert(&self, claim: &DatabaseClaim) -> Option<Box<str>> {
        let packed = compact::pack(claim, LIKE);
        debug_assert!(
            packed.as_deref().and_then(|it| compact::open(it, LIKE)).as_ref() == Some(claim),
            "a claim comes back as it was"
        );
        let known = Known {
            uid: claim.uid().unwrap_or_default().into(),
            version: claim.resource_version().unwrap_or_default().into(),
            phase: claim.status.as_ref().and_then(|it| it.phase),
            claim: packed.unwrap_or_default().into(),
        };
        let before = self.lock().insert(key(claim), known)?;
        (Some(&*before.uid) != claim.metadata.uid.as_deref()).then_some(before.uid)
    }

    /// A claim as it was shown last.
    pub(super) fn get(&self, key: &ClaimKey) -> Option<DatabaseClaim> {
        // Opened outside of the lock.
        let packed = self.lock().get(key)?.claim.clone();
        compact::open(&packed, LIKE)
    }

    /// A claim as it was shown last, if that is another version than this one.
    pub(super) fn other_than(&self, claim: &DatabaseClaim) -> Option<DatabaseClaim> {
        let (key, meta) = (key(claim), &claim.metadata);
        let newer = |it: &Known| {
            Some(&*it.uid) == meta.uid.as_deref() && Some(&*it.version) != meta.resource_version.as_deref()
        };
        let is_there = self.lock().get(&key).is_some_and(newer);
        is_there.then(|| self.get(&key)).flatten()
    }

    /// Takes in that a claim is gone. Returns its UID.
    pub(super) fn remove(&self, key: &ClaimKey) -> Option<Box<str>> {
        self.lock().remove(key).map(|it| it.uid)
    }

    /// Whether a claim of this UID is there.
    pub(super) fn has(&self, key: &ClaimKey, uid: &str) -> bool {
        self.lock().get(key).is_some_and(|it| *it.uid == *uid)
    }

    /// Those that a complete list did not name.
    pub(super) fn missing_in(&self, listed: &BTreeSet<ClaimKey>) -> Vec<ClaimKey> {
        let claims = self.lock();
        claims.keys().filter(|it| !listed.contains(it)).cloned().collect()
    }

    /// Phase of each.
    pub(super) fn phases(&self) -> Vec<Phase> {
        let claims = self.lock();
        claims
            .values()
            .map(|it| it.phase.unwrap_or(Phase::Pending))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordinary(name: &str, version: &str, phase: Phase) -> DatabaseClaim {
        let mut claim: DatabaseClaim = serde_json::from_str(LIKE).unwrap();
        claim.metadata.name = Some(name.to_owned());
        claim.metadata.resource_version = Some(version.to_owned());
        claim.status.as_mut().unwrap().phase = Some(phase);
        claim
    }

    #[test]
    fn claims_are_kept_by_a_text_that_is_still_like_them() {
        let ordinary: DatabaseClaim = serde_json::from_str(LIKE).unwrap();
        assert_eq!(serde_json::to_string(&ordinary).unwrap(), LIKE);
    }

    #[test]
    fn a_claim_is_what_was_shown_last_until_it_is_gone() {
        let (claims, orders) = (Claims::default(), ordinary("orders", "7", Phase::Updating));
        assert_eq!(claims.get(&key(&orders)), None);
        assert_eq!(claims.insert(&orders), None);
        claims.insert(&ordinary("users", "8", Phase::Ready));
        assert!(claims.has(&key(&orders), &orders.uid().unwrap()) && !claims.has(&key(&orders), "u"));
        assert_eq!(claims.get(&key(&orders)).as_ref(), Some(&orders));
        assert_eq!(claims.phases(), [Phase::Updating, Phase::Ready]);
        assert_eq!(claims.other_than(&orders), None);
        let newer = ordinary("orders", "9", Phase::Ready);
        claims.insert(&newer);
        assert_eq!(claims.other_than(&orders), Some(newer));
        let mut another = orders.clone();
        another.metadata.uid = Some("of another claim of this name".to_owned());
        assert_eq!(claims.other_than(&another), None);
        assert_eq!(claims.insert(&another).as_deref(), orders.metadata.uid.as_deref());
        assert_eq!(claims.insert(&another), None);
        let listed = BTreeSet::from([key(&orders)]);
        assert_eq!(
            claims.missing_in(&listed),
            [("shop".to_owned(), "users".to_owned())]
        );
        claims.remove(&key(&orders));
        assert_eq!(
            (claims.get(&key(&orders)), claims.other_than(&orders)),
            (None, None)
        );
    }
}
