//! Gathers what happens to a claim's objects: changes within a moment are one look at the claim. Knows nothing of
//! what changed.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::time::{Instant, sleep_until};

/// A StatefulSet, its Pod, its volume and its endpoints change in bursts of some tens of milliseconds.
pub(super) const MOMENT: Duration = Duration::from_millis(100);

/// What is waited with.
struct Gathering<S, T> {
    named: S,
    ended: bool,
    /// In the order in which they were named first, which is that in which they are due.
    due: VecDeque<(Instant, T)>,
    waiting: HashSet<T>,
}

/// Each item once, a moment after it was named first. Being named again does not put it off, so that nobody can keep
/// a claim from being looked at by changing its objects all the time. What is left when `named` ends comes at once.
pub(super) fn gathered<T: Clone + Eq + Hash>(
    named: impl Stream<Item = T> + Unpin,
    moment: Duration,
) -> impl Stream<Item = T> {
    let nothing = Gathering {
        named,
        ended: false,
        due: VecDeque::new(),
        waiting: HashSet::new(),
    };
    futures::stream::unfold(nothing, move |mut state| async move {
        loop {
            let first = state.due.front().map(|(at, _)| *at);
            if state.ended && first.is_none() {
                return None;
            }
            let expired = async {
                match first {
                    Some(at) if !state.ended => sleep_until(at).await,
                    Some(_) => {}
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = expired => {
                    let (_, item) = state.due.pop_front()?;
                    state.waiting.remove(&item);
                    return Some((item, state));
                }
                item = state.named.next() => match item {
                    Some(item) if state.waiting.insert(item.clone()) => {
                        state.due.push_back((Instant::now() + moment, item));
                    }
                    Some(_) => {}
                    None => state.ended = true,
                },
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_within_a_moment_are_one_look_and_later_ones_another() {
        let (sender, named) = futures::channel::mpsc::unbounded();
        for claim in ["orders", "orders", "users", "orders"] {
            sender.unbounded_send(claim).unwrap();
        }
        drop(sender);
        let hour = Duration::from_secs(3600);
        let looks: Vec<_> = gathered(named, hour).collect().await;
        assert_eq!(looks, ["orders", "users"]);

        let (sender, named) = futures::channel::mpsc::unbounded();
        let mut looks = std::pin::pin!(gathered(named, Duration::ZERO));
        for _ in 0..2 {
            sender.unbounded_send("orders").unwrap();
            assert_eq!(looks.next().await, Some("orders"));
        }
    }
}
