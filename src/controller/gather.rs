//! Gathers what happens to a claim's objects: changes within a moment are one look at the claim. Knows nothing of
//! what changed.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::time::{Instant, sleep_until};

/// A StatefulSet, its Pod, its volume and its endpoints change in bursts of some tens of milliseconds.
const MOMENT: Duration = Duration::from_millis(100);
/// While more claims wait than can be worked on, those that somebody asked for come before those whose objects went
/// on; but nobody waits for longer than this.
const LONG_MOMENT: Duration = Duration::from_secs(10);

/// For how long changes are gathered now.
pub(super) fn moment(is_busy: bool) -> Duration {
    if is_busy { LONG_MOMENT } else { MOMENT }
}

/// What is waited with.
struct Gathering<S, T, M> {
    named: S,
    /// For how long, now.
    moment: M,
    ended: bool,
    /// In the order in which they were named first, which is that in which they are due.
    due: VecDeque<(Instant, T)>,
    waiting: HashSet<T>,
}

/// Each item once, a moment after it was named first; how long a moment is, is asked anew all the time. Being named
/// again does not put it off, so that nobody can keep a claim from being looked at by changing its objects all the
/// time. What is left when `named` ends comes at once.
pub(super) fn gathered<T: Clone + Eq + Hash>(
    named: impl Stream<Item = T> + Unpin,
    moment: impl Fn() -> Duration,
) -> impl Stream<Item = T> {
    let nothing = Gathering {
        named,
        moment,
        ended: false,
        due: VecDeque::new(),
        waiting: HashSet::new(),
    };
    futures::stream::unfold(nothing, async |mut state| {
        loop {
            let due = state.due.front().map(|(since, _)| *since + (state.moment)());
            if state.ended || due.is_some_and(|at| at <= Instant::now()) {
                let (_, item) = state.due.pop_front()?;
                state.waiting.remove(&item);
                return Some((item, state));
            }
            let look = async {
                match due {
                    // A long moment may become a short one.
                    Some(at) => sleep_until(at.min(Instant::now() + MOMENT)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                item = state.named.next() => match item {
                    Some(item) if state.waiting.insert(item.clone()) => {
                        state.due.push_back((Instant::now(), item));
                    }
                    Some(_) => {}
                    None => state.ended = true,
                },
                () = look => {}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn changes_within_a_moment_are_one_look_and_later_ones_another() {
        let (sender, named) = futures::channel::mpsc::unbounded();
        for claim in ["orders", "orders", "users", "orders"] {
            sender.unbounded_send(claim).unwrap();
        }
        drop(sender);
        let hour = || Duration::from_secs(3600);
        let looks: Vec<_> = gathered(named, hour).collect().await;
        assert_eq!(looks, ["orders", "users"]);

        let (sender, named) = futures::channel::mpsc::unbounded();
        let mut looks = std::pin::pin!(gathered(named, || Duration::ZERO));
        for _ in 0..2 {
            sender.unbounded_send("orders").unwrap();
            assert_eq!(looks.next().await, Some("orders"));
        }
    }

    #[tokio::test]
    async fn what_waits_for_others_comes_as_soon_as_these_are_done() {
        let (sender, named) = futures::channel::mpsc::unbounded();
        let left = Cell::new(3);
        // Asked each time it looks whether the moment is over.
        let moment = || {
            left.set(left.get() - 1);
            Duration::from_secs(if left.get() > 0 { 3600 } else { 0 })
        };
        let mut looks = std::pin::pin!(gathered(named, moment));
        sender.unbounded_send("orders").unwrap();
        assert_eq!(looks.next().await, Some("orders"));
        assert_eq!(left.get(), 0);
    }

    #[test]
    fn nobody_is_put_off_for_longer_than_trouble_may_stay_unnamed() {
        assert!(moment(true) < Duration::from_secs(30) && moment(false) < Duration::from_secs(1));
    }
}
