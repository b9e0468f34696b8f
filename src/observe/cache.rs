//! What is known of the claims' objects: a hundred bytes each, indexed by claim. Fed by the watches and by
//! the answers to our own writes, so that a pass sees what the pass before it wrote.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::packed::{Beside, Objects};
use super::reduce::Seen;
use super::shapes::Shapes;
use super::text::Text;
use crate::plan::observed::{Detail, Pod, Volume, Workload};
use crate::render::Kind;

/// Namespace and name of a claim.
pub type ClaimKey = (String, String);

/// UIDs of deleted objects, and of those labelled for another claim, that are remembered, so that a late answer does
/// not bring one back.
const TOMBSTONES: usize = 1024;

/// The cache. Cheap to share; every lock is held for a look-up only.
#[derive(Debug, Default)]
pub struct Cache {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By namespace and name with a slash between them, which neither can have.
    claims: HashMap<Box<str>, Objects>,
    shapes: Shapes,
    tombstones: VecDeque<Text>,
    /// UIDs of objects that were labelled for another claim, and the versions in which they were.
    strays: VecDeque<(Text, String)>,
}

impl Inner {
    fn get(&self, key: &ClaimKey) -> Option<(&Objects, Beside<'_>)> {
        let (path, objects) = self.claims.get_key_value(&*path(key))?;
        let (namespace, claim) = path.split_once('/')?;
        let beside = Beside {
            namespace,
            claim,
            shapes: &self.shapes,
        };
        Some((objects, beside))
    }

    /// The object in the place that another one takes, and where that is.
    fn known(&self, key: &ClaimKey, kind: Kind, name: &str) -> Option<(usize, Seen)> {
        let (objects, beside) = self.get(key)?;
        let place = objects.place(kind, name, beside)?;
        Some((place, objects.get(place, beside)?))
    }

    /// The place that an object takes, and UID and version of the one that has it.
    fn version(&self, key: &ClaimKey, seen: &Seen) -> Option<(usize, (String, String))> {
        let (objects, beside) = self.get(key)?;
        let place = objects.place(seen.kind, &seen.name, beside)?;
        Some((place, objects.version(place, &self.shapes)?))
    }

    /// Puts an object in a place, or behind all others of its claim. Says whether more than the version is new in it.
    fn put(&mut self, key: &ClaimKey, place: Option<usize>, seen: Seen) -> bool {
        let objects = self.claims.entry(path(key)).or_default();
        objects.put(place, seen, &key.1, &mut self.shapes)
    }

    /// Takes out an object, and the claim with its last one. Says whether it was there.
    fn take(&mut self, key: &ClaimKey, kind: Kind, uid: &Text) -> bool {
        let path = path(key);
        let Some(objects) = self.claims.get_mut(&path) else {
            return false;
        };
        let was_there = objects.remove(kind, uid, &self.shapes);
        if objects.is_empty() {
            self.claims.remove(&path);
        }
        was_there
    }
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves the map whole: no update spans two statements that could be torn apart.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that is labelled as a claim's.
    pub fn of(&self, key: &ClaimKey) -> Vec<Seen> {
        let inner = self.lock();
        let known = inner.get(key);
        known
            .map(|(objects, beside)| objects.all(beside))
            .unwrap_or_default()
    }

    /// Takes in what a watch says. Returns the claim to look at, or `None` for an echo of what is known.
    pub fn upsert(&self, seen: Seen) -> Option<ClaimKey> {
        let Some(key) = claim_key(&seen) else {
            return self.astray(&seen);
        };
        let mut inner = self.lock();
        let Some((place, (uid, version))) = inner.version(&key, &seen) else {
            inner.put(&key, None, seen);
            return Some(key);
        };
        if uid == seen.uid && !newer(&seen.resource_version, &version) {
            if version != seen.resource_version {
                return None;
            }
            // The answer to a write holds metadata only; the watch has the rest. That is news where the write changed
            // nothing: then this is a version of somebody else's making.
            let (_, known) = inner.known(&key, seen.kind, &seen.name)?;
            let detail = seen.detail;
            let is_news = inner.put(&key, Some(place), Seen { detail, ..known });
            return is_news.then_some(key);
        }
        // A version in which nothing that we look at has changed is nobody's business.
        let is_news = inner.put(&key, Some(place), seen);
        is_news.then_some(key)
    }

    /// Takes an object whose label does not name its claim any more from the claim that it is known for, and returns
    /// that one: it has to label it again.
    fn astray(&self, seen: &Seen) -> Option<ClaimKey> {
        let mut inner = self.lock();
        let uid = Text::from(seen.uid.as_str());
        inner.strays.retain(|(stray, _)| *stray != uid);
        if inner.strays.len() == TOMBSTONES {
            inner.strays.pop_front();
        }
        inner
            .strays
            .push_back((uid.clone(), seen.resource_version.clone()));
        let ends = seen.name.match_indices(AFTER_CLAIM);
        let claims = ends.filter_map(|(end, _)| seen.name.get(..end));
        let mut keys = claims.map(|claim| (seen.namespace.clone(), claim.to_owned()));
        keys.find(|key| inner.take(key, seen.kind, &uid))
    }

    /// Takes in the answer to one of our own writes.
    pub fn written(&self, mut seen: Seen) {
        let Some(key) = claim_key(&seen) else { return };
        let mut inner = self.lock();
        let uid = Text::from(seen.uid.as_str());
        let strayed =
            |(stray, version): &(Text, String)| *stray == uid && newer(version, &seen.resource_version);
        if inner.tombstones.contains(&uid) || inner.strays.iter().any(strayed) {
            return;
        }
        let Some((place, known)) = inner.known(&key, seen.kind, &seen.name) else {
            inner.put(&key, None, seen);
            return;
        };
        // A version that the watch has shown already is known in more detail than the answer tells.
        if known.uid != seen.uid || newer(&seen.resource_version, &known.resource_version) {
            seen.detail = merge(known.detail, seen.detail);
            inner.put(&key, Some(place), seen);
        }
    }

    /// Takes in that a delete of ours was accepted.
    pub fn deleted_by_us(&self, key: &ClaimKey, kind: Kind, name: &str, uid: &str) {
        let mut inner = self.lock();
        let known = inner.known(key, kind, name);
        if let Some((place, known)) = known.filter(|(_, it)| it.uid == uid) {
            let deleting = true;
            inner.put(key, Some(place), Seen { deleting, ..known });
        }
    }

    /// Takes in that an object is gone. Returns the claim to look at.
    pub fn remove(&self, seen: &Seen) -> Option<ClaimKey> {
        self.forget(claim_key(seen)?, seen.kind, seen.uid.as_str().into())
    }

    fn forget(&self, key: ClaimKey, kind: Kind, uid: Text) -> Option<ClaimKey> {
        let mut inner = self.lock();
        let is_known = inner.claims.contains_key(&path(&key));
        inner.take(&key, kind, &uid);
        if inner.tombstones.len() == TOMBSTONES {
            inner.tombstones.pop_front();
        }
        inner.tombstones.push_back(uid);
        is_known.then_some(key)
    }

    /// Takes in that the list of one kind is complete: what was not in it is gone. Returns the claims that changed.
    pub fn complete(&self, kind: Kind, listed: &Listed) -> HashSet<ClaimKey> {
        let mut gone = Vec::new();
        let inner = self.lock();
        for (path, objects) in &inner.claims {
            let identities = objects.identities(&inner.shapes);
            let unlisted = identities.filter(|(of, uid)| *of == kind && !listed.0.contains(uid));
            gone.extend(unlisted.filter_map(|(_, uid)| Some((key(path)?, uid))));
        }
        drop(inner);
        let gone = gone.into_iter();
        gone.filter_map(|(key, uid)| self.forget(key, kind, uid))
            .collect()
    }
}

/// What a list has named so far. Each of its objects is taken in as it comes, so that none waits for all others.
#[derive(Debug, Default)]
pub struct Listed(HashSet<Text>);

impl Listed {
    /// Notes an object.
    pub fn name(&mut self, seen: &Seen) {
        self.0.insert(seen.uid.as_str().into());
    }
}

fn path(key: &ClaimKey) -> Box<str> {
    [&*key.0, "/", &*key.1].concat().into()
}

fn key(path: &str) -> Option<ClaimKey> {
    let (namespace, claim) = path.split_once('/')?;
    Some((namespace.to_owned(), claim.to_owned()))
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
            // It may have been bound between the version that was known and the one that was written.
            never_bound: false,
            ..*known
        })),
        (Detail::StatefulSet(known), Detail::StatefulSet(answer)) => Detail::StatefulSet(Workload {
            revision: known.revision,
            ..answer
        }),
        (Detail::Pod(known), Detail::Pod(answer)) => Detail::Pod(Box::new(Pod {
            restart_hash: answer.restart_hash,
            asked: answer.asked,
            requested_memory: answer.requested_memory.or(known.requested_memory),
            wanted: answer.wanted,
            gone_by: answer.gone_by,
            ..*known
        })),
        (known @ Detail::Endpoints { .. }, _) => known,
        (_, answer) => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::quantity::Bytes;

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
    fn what_the_answer_to_a_write_did_not_tell_is_news_when_the_watch_does() {
        let cache = Cache::default();
        let set = |version, taken_up, revision: Option<&str>| Seen {
            kind: Kind::StatefulSet,
            detail: Detail::StatefulSet(Workload {
                taken_up,
                revision: revision.map(str::to_owned),
                ..Workload::default()
            }),
            ..seen(version)
        };
        cache.upsert(set("10", true, Some("former")));
        cache.written(set("11", false, None));
        assert_eq!(cache.upsert(set("11", false, Some("former"))), None, "the echo");
        // Written once more, since the first answer was lost: that changed nothing, and its version is that of the
        // controller's status.
        cache.written(set("12", false, None));
        let taken_up = set("12", true, Some("newest"));
        assert_eq!(cache.upsert(taken_up.clone()), Some(key()));
        // The same answer, later than the watch.
        cache.written(set("12", false, None));
        assert_eq!(cache.of(&key()), vec![taken_up]);
    }

    #[test]
    fn the_answer_to_an_annotation_of_a_pod_is_known_before_its_watch_shows_it() {
        let cache = Cache::default();
        let pod = |version, pod| Seen {
            kind: Kind::Pod,
            detail: Detail::Pod(Box::new(pod)),
            ..seen(version)
        };
        let runs = Pod {
            ready: true,
            ..Pod::default()
        };
        let told = Pod {
            wanted: Some("newest".into()),
            asked: Some("a larger size".into()),
            requested_memory: Some(Bytes(Bytes::GIB)),
            ..Pod::default()
        };
        cache.upsert(pod("10", runs.clone()));
        cache.written(pod("11", told.clone()));
        let both = Pod {
            wanted: told.wanted,
            asked: told.asked,
            requested_memory: told.requested_memory,
            ..runs
        };
        assert_eq!(cache.of(&key()), vec![pod("11", both)]);
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
        let nothing = Listed::default();
        let mut listed = Listed::default();
        listed.name(&seen("10"));
        assert_eq!(cache.complete(Kind::Service, &listed), HashSet::new());
        assert_eq!(
            cache.complete(Kind::Pod, &nothing),
            HashSet::new(),
            "another kind"
        );
        assert_eq!(cache.complete(Kind::Service, &nothing), HashSet::from([key()]));
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
    fn a_late_answer_does_not_hide_that_an_object_was_labelled_for_another_claim() {
        let cache = Cache::default();
        cache.upsert(seen("10"));
        let astray = Seen {
            claim: Some("intruder".to_owned()),
            ..seen("12")
        };
        assert_eq!(cache.upsert(astray), Some(key()));
        cache.written(seen("11"));
        assert_eq!(cache.of(&key()), vec![], "it is asked for by name");
        cache.written(seen("13"));
        assert_eq!(cache.of(&key()), vec![seen("13")], "labelled again");
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
