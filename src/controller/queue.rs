//! Whose turn it is: which claims are to be looked at, when, and how many at once. Knows nothing of what a look does.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt as _};
use tokio::time::{Instant, sleep_until};

use crate::observe::cache::ClaimKey;

/// A StatefulSet, its Pod, its volume and its endpoints change in bursts of some tens of milliseconds.
const MOMENT: Duration = Duration::from_millis(100);
/// While more claims wait than can be worked on, those that somebody asked for come before those whose objects went
/// on; but nobody waits for longer than this.
const LONG_MOMENT: Duration = Duration::from_secs(10);

/// Whether more claims wait than can be looked at side by side.
pub(super) fn is_crowded(waiting: usize, concurrency: usize) -> bool {
    waiting > concurrency
}

/// Why a claim is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// People have changed it: at once.
    Asked(ClaimKey),
    /// Something of it has changed: what changes within a moment is looked at together.
    Changed(ClaimKey),
}

/// Looks at claims as they are named until `named` ends, and then waits for the looks that are under way. One claim is
/// never looked at twice at the same time. A look returns when the claim is to be looked at again, whatever happens;
/// `waiting` is told how many claims are due whose look has not begun.
pub(super) async fn run<L>(
    named: impl Stream<Item = Named>,
    concurrency: usize,
    waiting: impl Fn(usize),
    look: impl Fn(Arc<ClaimKey>) -> L,
) where
    L: Future<Output = Option<Duration>>,
{
    let mut named = std::pin::pin!(named);
    let (mut turns, mut looks) = (Turns::new(concurrency), FuturesUnordered::new());
    let mut open = true;
    loop {
        while open
            && looks.len() < concurrency
            && let Some(claim) = turns.next(Instant::now())
        {
            let looked = look(claim.clone());
            looks.push(async move { (claim, looked.await) });
        }
        waiting(turns.waiting);
        let due = turns.first().filter(|_| looks.len() < concurrency);
        tokio::select! {
            name = named.next(), if open => match name {
                Some(name) => turns.name(name, Instant::now()),
                None => open = false,
            },
            Some((claim, again)) = looks.next(), if !looks.is_empty() => {
                let now = Instant::now();
                turns.looked_at(&claim, again.map(|it| now + it));
            }
            () = at(due), if open => {}
            else => return,
        }
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// The claims that are to be looked at, or are looked at.
#[derive(Debug)]
struct Turns {
    claims: HashMap<Arc<ClaimKey>, Turn>,
    /// Those that have a time, but for those that are looked at.
    due: BTreeSet<(Instant, Arc<ClaimKey>)>,
    /// Those of which something has changed, in the order in which that was first seen. Entries of looks that have
    /// begun since are stale.
    changed: VecDeque<(Instant, Arc<ClaimKey>)>,
    /// Those that were named, are due, and are not looked at.
    waiting: usize,
    concurrency: usize,
}

#[derive(Debug, Default)]
struct Turn {
    due: Option<Instant>,
    changed: Option<Instant>,
    /// Whether it is due because it was named.
    named: bool,
    under_way: bool,
}

impl Turns {
    fn new(concurrency: usize) -> Self {
        Self {
            claims: HashMap::new(),
            due: BTreeSet::new(),
            changed: VecDeque::new(),
            waiting: 0,
            concurrency,
        }
    }

    /// For how long changes are gathered now.
    fn moment(&self) -> Duration {
        if is_crowded(self.waiting, self.concurrency) {
            LONG_MOMENT
        } else {
            MOMENT
        }
    }

    fn name(&mut self, name: Named, now: Instant) {
        match name {
            Named::Asked(claim) => self.call(&self.key(claim), now),
            Named::Changed(claim) => {
                let claim = self.key(claim);
                let turn = self.claims.entry(claim.clone()).or_default();
                // Being named again does not put it off, so that nobody can keep a claim from being looked at by
                // changing its objects all the time.
                if turn.changed.is_none() {
                    turn.changed = Some(now);
                    self.changed.push_back((now, claim));
                }
            }
        }
    }

    /// One copy of a name serves all that is kept of a claim here.
    fn key(&self, claim: ClaimKey) -> Arc<ClaimKey> {
        let known = self.claims.get_key_value(&claim);
        known.map_or_else(|| Arc::new(claim), |(it, _)| it.clone())
    }

    /// A named claim is due.
    fn call(&mut self, claim: &Arc<ClaimKey>, now: Instant) {
        self.set(claim, now);
        if let Some(turn) = self.claims.get_mut(claim)
            && !std::mem::replace(&mut turn.named, true)
        {
            self.waiting += 1;
        }
    }

    /// The earlier time counts.
    fn set(&mut self, claim: &Arc<ClaimKey>, at: Instant) {
        let turn = self.claims.entry(claim.clone()).or_default();
        if turn.due.is_some_and(|due| due <= at) {
            return;
        }
        let before = turn.due.replace(at);
        if turn.under_way {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, claim.clone()));
        }
        self.due.insert((at, claim.clone()));
    }

    /// The changed claim that has waited longest.
    fn first_changed(&mut self) -> Option<(Instant, Arc<ClaimKey>)> {
        while let Some((since, claim)) = self.changed.front() {
            let turn = self.claims.get(claim);
            if turn.is_some_and(|it| it.changed == Some(*since)) {
                return Some((*since, claim.clone()));
            }
            self.changed.pop_front();
        }
        None
    }

    /// When the next claim is due, as far as is known now.
    fn first(&mut self) -> Option<Instant> {
        let changed = self.first_changed().map(|(since, _)| since + self.moment());
        let due = self.due.first().map(|(at, _)| *at);
        changed.into_iter().chain(due).min()
    }

    /// The claim whose turn it is; it is looked at from now on.
    fn next(&mut self, now: Instant) -> Option<Arc<ClaimKey>> {
        while let Some((since, claim)) = self.first_changed()
            && since + self.moment() <= now
        {
            self.changed.pop_front();
            if let Some(turn) = self.claims.get_mut(&claim) {
                turn.changed = None;
            }
            self.call(&claim, now);
        }
        let (_, claim) = self.due.first().filter(|(at, _)| *at <= now)?.clone();
        self.due.pop_first();
        if let Some(turn) = self.claims.get_mut(&claim) {
            // Whatever has changed until now, this look sees.
            let before = std::mem::replace(
                turn,
                Turn {
                    under_way: true,
                    ..Turn::default()
                },
            );
            self.waiting -= usize::from(before.named);
        }
        Some(claim)
    }

    /// A look has ended.
    fn looked_at(&mut self, claim: &Arc<ClaimKey>, again: Option<Instant>) {
        if let Some(at) = again {
            self.set(claim, at);
        }
        let Some(turn) = self.claims.get_mut(claim) else {
            return;
        };
        turn.under_way = false;
        match turn.due {
            Some(at) => {
                self.due.insert((at, claim.clone()));
            }
            None if turn.changed.is_none() => {
                self.claims.remove(claim);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use proptest::prelude::*;

    use super::*;

    fn claim(name: &str) -> ClaimKey {
        ("shop".into(), name.into())
    }

    fn changed(name: &str) -> Named {
        Named::Changed(claim(name))
    }

    fn asked(name: &str) -> Named {
        Named::Asked(claim(name))
    }

    /// Names of the claims whose looks begin.
    fn begun(turns: &mut Turns, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| turns.next(now))
            .map(|it| it.1.clone())
            .collect()
    }

    #[test]
    fn changes_within_a_moment_are_one_look_and_later_ones_another() {
        let (mut turns, start) = (Turns::new(1), Instant::now());
        for (name, after) in [("orders", 0), ("users", 20), ("orders", 60), ("orders", 99)] {
            turns.name(changed(name), start + Duration::from_millis(after));
        }
        assert_eq!(turns.first(), Some(start + MOMENT));
        assert_eq!(begun(&mut turns, start + MOMENT), ["orders"], "it is not put off");
        turns.looked_at(&claim("orders").into(), None);
        assert_eq!(begun(&mut turns, start + MOMENT * 2), ["users"]);
        turns.name(changed("orders"), start + MOMENT * 2);
        assert_eq!(begun(&mut turns, start + MOMENT * 3), ["orders"]);
    }

    #[test]
    fn a_look_sees_what_has_changed_before_it_and_not_what_changes_after() {
        let (mut turns, start) = (Turns::new(1), Instant::now());
        turns.name(changed("orders"), start);
        turns.name(asked("orders"), start);
        assert_eq!(begun(&mut turns, start), ["orders"]);
        turns.name(changed("orders"), start);
        let later = start + MOMENT;
        assert_eq!(begun(&mut turns, later), Vec::<String>::new(), "one at a time");
        turns.looked_at(&claim("orders").into(), None);
        assert_eq!(begun(&mut turns, later), ["orders"]);
        turns.looked_at(&claim("orders").into(), None);
        assert_eq!((turns.first(), turns.waiting, turns.claims.len()), (None, 0, 0));
    }

    #[test]
    fn a_claim_is_looked_at_again_when_it_said_so_or_before() {
        let (mut turns, start) = (Turns::new(1), Instant::now());
        let hour = Duration::from_secs(3600);
        turns.name(asked("orders"), start);
        begun(&mut turns, start);
        turns.looked_at(&claim("orders").into(), Some(start + hour));
        assert_eq!((turns.first(), turns.waiting), (Some(start + hour), 0));
        turns.name(asked("orders"), start);
        assert_eq!(begun(&mut turns, start), ["orders"]);
        turns.looked_at(&claim("orders").into(), Some(start + hour));
        assert_eq!(begun(&mut turns, start + hour), ["orders"]);
    }

    #[test]
    fn what_somebody_asked_for_comes_before_what_went_on_and_nobody_waits_for_long() {
        let (mut turns, start) = (Turns::new(1), Instant::now());
        turns.name(changed("runs"), start);
        let ask = |turns: &mut Turns, names: &[&str], now| {
            for it in names {
                turns.name(asked(it), now);
            }
        };
        ask(&mut turns, &["a", "b", "c"], start + MOMENT);
        assert_eq!(
            turns.next(start + MOMENT).unwrap().1,
            "a",
            "two wait, and one fits"
        );
        ask(&mut turns, &["d"], start + MOMENT * 2);
        assert_eq!(turns.next(start + MOMENT * 2).unwrap().1, "b");
        // Always more than fit; yet it is due now, and the others came later.
        let late = start + LONG_MOMENT;
        ask(&mut turns, &["e", "f"], late);
        assert_eq!(turns.next(late).unwrap().1, "c");
        ask(&mut turns, &["g", "h"], late + MOMENT);
        assert_eq!(
            begun(&mut turns, late + MOMENT),
            ["d", "e", "f", "runs", "g", "h"]
        );
        assert!(LONG_MOMENT < Duration::from_secs(30), "trouble is named by then");
    }

    #[derive(Clone, Debug)]
    enum Happens {
        Asked(u8),
        Changed(u8),
        Begins,
        Ends(u8, Option<u64>),
        Passes(u64),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            (0..4_u8).prop_map(Happens::Asked),
            (0..4_u8).prop_map(Happens::Changed),
            Just(Happens::Begins),
            (0..4_u8, proptest::option::of(0..20_000_u64)).prop_map(|(it, again)| Happens::Ends(it, again)),
            (0..15_000_u64).prop_map(Happens::Passes),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever happens, whoever is named is looked at after that, never twice at a time, and nothing is left over.
        #[test]
        fn everyone_has_a_turn(story in proptest::collection::vec(happens(), 0..60)) {
            let (mut turns, mut now) = (Turns::new(2), Instant::now());
            let mut running: Vec<Arc<ClaimKey>> = Vec::new();
            let mut named: Vec<ClaimKey> = Vec::new();
            for it in story {
                match it {
                    Happens::Asked(it) => {
                        named.push(claim(&it.to_string()));
                        turns.name(asked(&it.to_string()), now);
                    }
                    Happens::Changed(it) => {
                        named.push(claim(&it.to_string()));
                        turns.name(changed(&it.to_string()), now);
                    }
                    Happens::Begins => if let Some(it) = turns.next(now) {
                        prop_assert!(!running.contains(&it));
                        named.retain(|name| *name != *it);
                        running.push(it);
                    },
                    Happens::Ends(it, again) if !running.is_empty() => {
                        let it = running.swap_remove(usize::from(it) % running.len());
                        turns.looked_at(&it, again.map(|it| now + Duration::from_millis(it)));
                    }
                    Happens::Ends(..) => {}
                    Happens::Passes(it) => now += Duration::from_millis(it),
                }
            }
            for it in running {
                turns.looked_at(&it, None);
            }
            while let Some(due) = turns.first() {
                now = now.max(due);
                while let Some(it) = turns.next(now) {
                    named.retain(|name| *name != *it);
                    turns.looked_at(&it, None);
                }
            }
            prop_assert_eq!(named, Vec::new());
            prop_assert_eq!((turns.waiting, turns.claims.len(), turns.due.len()), (0, 0, 0));
        }
    }

    #[tokio::test]
    async fn it_ends_when_the_looks_under_way_have_ended_and_begins_no_other() {
        let (sender, named) = futures::channel::mpsc::unbounded();
        for name in ["a", "b", "c"] {
            sender.unbounded_send(asked(name)).unwrap();
        }
        let (sender, looked, waited) = (RefCell::new(Some(sender)), RefCell::default(), Cell::new(0));
        let look = |claim: Arc<ClaimKey>| {
            let (sender, looked): (_, &RefCell<Vec<_>>) = (&sender, &looked);
            async move {
                looked.borrow_mut().push(claim.1.clone());
                // The first look is told to stop once the others wait.
                tokio::task::yield_now().await;
                sender.borrow_mut().take();
                Some(Duration::ZERO)
            }
        };
        run(named, 1, |it| waited.set(waited.get().max(it)), look).await;
        assert_eq!(looked.into_inner().first().map(String::as_str), Some("a"));
        assert!(waited.get() > 0);
    }
}
