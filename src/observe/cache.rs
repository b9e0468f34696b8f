//! What is known of the claims' objects: a few hundred bytes each, indexed by claim. Fed by the watches and by
//! the answers to our own writes, so that a pass sees what the pass before it wrote.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::reduce::Seen;
use crate::plan::observed::{Detail, Volume};
use crate::render::Kind;

/// Namespace and name of a claim.
pub type ClaimKey = (String, String);

/// UIDs of deleted objects that are remembered, so that a late answer does not bring one back.
const TOMBSTONES: usize = 1024;

/// The cache. Cheap to share; every lock is held for a look-up only.
#[derive(Debug, Default)]
pub struct Cache {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    claims: HashMap<ClaimKey, Vec<Seen>>,
    tombstones: VecDeque<String>,
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves the map whole: no update spans two statements that could be torn apart.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that is labelled as a claim's.
    pub fn of(&self, key: &ClaimKey) -> Vec<Seen> {
        self.lock().claims.get(key).cloned().unwrap_or_default()
    }

    /// Takes in what a watch says. Returns the claim to look at, or `None` for an echo of what is known.
    pub fn upsert(&self, seen: Seen) -> Option<ClaimKey> {
        let Some(key) = claim_key(&seen) else {
            return self.astray(&seen);
        };
        let mut inner = self.lock();
        let objects = inner.claims.entry(key.clone()).or_default();
        match objects
            .iter_mut()
            .find(|it| it.kind == seen.kind && it.name == seen.name)
        {
            Some(known)
                if known.uid == seen.uid && !newer(&seen.resource_version, &known.resource_version) =>
            {
                let echo = known.resource_version == seen.resource_version;
                if echo {
                    // The answer to a write holds metadata only; the watch has the rest.
                    known.detail = seen.detail;
                }
                None
            }
            Some(known) => {
                let same = Seen {
                    resource_version: seen.resource_version.clone(),
                    ..known.clone()
                } == seen;
                *known = seen;
                // A version in which nothing that we look at has changed is nobody's business.
                (!same).then_some(key)
            }
            None => {
                objects.push(seen);
                Some(key)
            }
        }
    }

    /// Takes an object whose label does not name its claim any more from the claim that it is known for, and returns
    /// that one: it has to label it again.
    fn astray(&self, seen: &Seen) -> Option<ClaimKey> {
        let mut inner = self.lock();
        let ends = seen.name.match_indices(AFTER_CLAIM);
        let claims = ends.filter_map(|(end, _)| seen.name.get(..end));
        let mut keys = claims.map(|claim| (seen.namespace.clone(), claim.to_owned()));
        keys.find(|key| {
            let Some(objects) = inner.claims.get_mut(key) else {
                return false;
            };
            let known = objects.len();
            objects.retain(|it| it.kind != seen.kind || it.uid != seen.uid);
            objects.len() < known
        })
    }

    /// Takes in the answer to one of our own writes.
    pub fn written(&self, mut seen: Seen) {
        let Some(key) = claim_key(&seen) else { return };
        let mut inner = self.lock();
        if inner.tombstones.contains(&seen.uid) {
            return;
        }
        let objects = inner.claims.entry(key).or_default();
        match objects
            .iter_mut()
            .find(|it| it.kind == seen.kind && it.name == seen.name)
        {
            Some(known)
                if known.uid == seen.uid && newer(&known.resource_version, &seen.resource_version) => {}
            Some(known) => {
                seen.detail = merge(known.detail.clone(), seen.detail);
                *known = seen;
            }
            None => objects.push(seen),
        }
    }

    /// Takes in that a delete of ours was accepted.
    pub fn deleted_by_us(&self, key: &ClaimKey, kind: Kind, name: &str, uid: &str) {
        if let Some(objects) = self.lock().claims.get_mut(key)
            && let Some(known) = objects
                .iter_mut()
                .find(|it| it.kind == kind && it.name == name && it.uid == uid)
        {
            known.deleting = true;
        }
    }

    /// Takes in that an object is gone. Returns the claim to look at.
    pub fn remove(&self, seen: &Seen) -> Option<ClaimKey> {
        let key = claim_key(seen)?;
        let mut inner = self.lock();
        inner.tombstones.push_back(seen.uid.clone());
        if inner.tombstones.len() > TOMBSTONES {
            inner.tombstones.pop_front();
        }
        let objects = inner.claims.get_mut(&key)?;
        objects.retain(|it| it.kind != seen.kind || it.uid != seen.uid);
        if objects.is_empty() {
            inner.claims.remove(&key);
        }
        Some(key)
    }

    /// Takes in a complete list of one kind: what is not in it is gone. Returns the claims that changed.
    pub fn replace(&self, kind: Kind, all: Vec<Seen>) -> HashSet<ClaimKey> {
        let uids: HashSet<String> = all.iter().map(|seen| seen.uid.clone()).collect();
        let gone: Vec<Seen> = {
            let inner = self.lock();
            let known = inner.claims.values().flatten();
            known
                .filter(|it| it.kind == kind && !uids.contains(&it.uid))
                .cloned()
                .collect()
        };
        let mut changed: HashSet<ClaimKey> = gone.iter().filter_map(|seen| self.remove(seen)).collect();
        changed.extend(all.into_iter().filter_map(|seen| self.upsert(seen)));
        changed
    }
}

/// What follows the claim's name in the names of all of its objects.
const AFTER_CLAIM: &str = "-db";

/// The claim that the label names, if the object can be its own.
fn claim_key(seen: &Seen) -> Option<ClaimKey> {
    let claim = seen.claim.as_deref()?;
    let rest = seen.name.strip_prefix(claim)?;
    rest.starts_with(AFTER_CLAIM)
        .then(|| (seen.namespace.clone(), claim.to_owned()))
}

/// Whether one version is newer than another. Comparable as numbers since Kubernetes 1.35 by contract
/// (KEP-5504), before by how etcd works. What is no number is always taken for newer.
pub fn newer(a: &str, b: &str) -> bool {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a > b,
        _ => a != b,
    }
}

/// The answer to a write knows the annotations; the watch knew the rest.
fn merge(known: Detail, answer: Detail) -> Detail {
    match (known, answer) {
        (Detail::Volume(known), Detail::Volume(answer)) => Detail::Volume(Box::new(Volume {
            identity: answer.identity,
            ..*known
        })),
        (known @ (Detail::Pod(_) | Detail::Endpoints { .. }), _) => known,
        (_, answer) => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(version: &str) -> Seen {
        Seen {
            kind: Kind::Service,
            namespace: "shop".into(),
            name: "orders-db".into(),
            uid: "u1".into(),
            resource_version: version.into(),
            claim: Some("orders".into()),
            labelled: true,
            controller: None,
            deleting: false,
            applied: None,
            team: None,
            fingerprint: 7,
            detail: Detail::None,
        }
    }

    fn key() -> ClaimKey {
        ("shop".into(), "orders".into())
    }

    #[test]
    fn the_echo_of_our_own_write_triggers_nothing() {
        let cache = Cache::default();
        cache.written(seen("10"));
        assert_eq!(cache.upsert(seen("10")), None, "the echo");
        assert_eq!(cache.upsert(seen("9")), None, "an older version");
        assert_eq!(
            cache.upsert(Seen {
                fingerprint: 8,
                ..seen("11")
            }),
            Some(key()),
            "somebody's edit"
        );
    }

    #[test]
    fn a_late_answer_does_not_bring_a_deleted_object_back() {
        let cache = Cache::default();
        assert_eq!(cache.upsert(seen("10")), Some(key()));
        assert_eq!(cache.remove(&seen("11")), Some(key()));
        cache.written(seen("10"));
        assert_eq!(cache.of(&key()), vec![]);
    }

    #[test]
    fn a_complete_list_removes_what_is_not_in_it() {
        let cache = Cache::default();
        cache.upsert(seen("10"));
        assert_eq!(cache.replace(Kind::Pod, vec![]), HashSet::new(), "another kind");
        assert_eq!(cache.replace(Kind::Service, vec![]), HashSet::from([key()]));
        assert_eq!(cache.of(&key()), vec![]);
    }

    #[test]
    fn an_object_that_was_made_anew_replaces_the_old_one() {
        let cache = Cache::default();
        cache.upsert(seen("10"));
        assert_eq!(
            cache.upsert(Seen {
                uid: "u2".into(),
                ..seen("12")
            }),
            Some(key())
        );
        cache.remove(&seen("11"));
        assert_eq!(
            cache.of(&key()).len(),
            1,
            "the delete of the old one is not the new one's"
        );
    }
    #[test]
    fn an_object_that_is_labelled_for_another_claim_is_the_business_of_its_own() {
        for claim in [Some("intruder".to_owned()), None] {
            let cache = Cache::default();
            cache.upsert(seen("10"));
            let astray = Seen { claim, ..seen("11") };
            assert_eq!(cache.upsert(astray.clone()), Some(key()));
            assert_eq!(cache.of(&key()), vec![], "it is asked for by name");
            assert_eq!(cache.upsert(astray), None, "told once");
            assert_eq!(cache.of(&("shop".into(), "intruder".into())), vec![]);
            assert_eq!(cache.upsert(seen("12")), Some(key()), "labelled again");
        }
    }
}
