//! Turns on busy rows, so that a node that is far from the leader gets its commits in.
//!
//! The leader's own decisions build on rows in flight; another node's decision rests on rows
//! applied there, and on a row that always has something in flight it would miss for ever. After a
//! few misses its rows are kept for it until its next proposal arrives or a moment has passed, and
//! whoever else reads them waits.

use bytes::Bytes;
use floeberg_types::NodeId;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Misses of one request after which its node gets a turn.
pub(crate) const MISSES_BEFORE: u32 = 2;

/// How long a turn lasts if its holder does not come back: several round trips between nodes.
pub(crate) const LASTS: Duration = Duration::from_millis(200);

/// Turns at a time; more would only be waited for.
const TURNS_MAX: usize = 64;

#[derive(Debug)]
struct Turn {
    holder: NodeId,
    keys: BTreeSet<Bytes>,
    until: Instant,
    /// Closes when the turn ends.
    lasting: watch::Sender<()>,
}

/// What to wait for before a decision on taken rows is made again.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    until: Instant,
    lasting: watch::Receiver<()>,
}

impl Taken {
    /// Waits for the end of the turn.
    pub(crate) async fn ended(mut self) {
        // Which of the two comes first does not matter: the turn is over.
        let _ = tokio::time::timeout_at(self.until, self.lasting.changed()).await;
    }
}

/// The turns of one term.
#[derive(Debug, Default)]
pub(crate) struct Turns(Vec<Turn>);

impl Turns {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The turn of somebody else that covers one of `keys`; `by` is `None` for the leader itself.
    pub(crate) fn taken<'a>(
        &mut self,
        now: Instant,
        by: Option<NodeId>,
        mut keys: impl Iterator<Item = &'a Bytes>,
    ) -> Option<Taken> {
        self.0.retain(|turn| turn.until > now);
        if self.0.is_empty() {
            return None;
        }
        keys.find_map(|key| {
            let turns = &mut self.0.iter();
            let turn = turns.find(|turn| Some(turn.holder) != by && turn.keys.contains(key))?;
            Some(Taken {
                until: turn.until,
                lasting: turn.lasting.subscribe(),
            })
        })
    }

    /// Gives `holder` a turn on all of `keys`, unless any of them is in another turn already:
    /// turns that wait for each other would all run out.
    pub(crate) fn give(&mut self, now: Instant, holder: NodeId, keys: BTreeSet<Bytes>) {
        self.0.retain(|turn| turn.until > now);
        let busy = self.0.iter().any(|turn| !turn.keys.is_disjoint(&keys));
        if busy || self.0.len() >= TURNS_MAX {
            return;
        }
        self.0.push(Turn {
            holder,
            keys,
            until: now + LASTS,
            lasting: watch::Sender::new(()),
        });
    }

    /// A proposal of `holder` that writes or reads one of its rows got in.
    pub(crate) fn end(&mut self, holder: NodeId, key: &Bytes) {
        self.0
            .retain(|turn| turn.holder != holder || !turn.keys.contains(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn keys(names: &[&'static str]) -> BTreeSet<Bytes> {
        let key = |name: &&'static str| Bytes::from_static(name.as_bytes());
        names.iter().map(key).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn rows_are_kept_for_the_holder_until_it_comes_or_time_is_up() {
        let mut turns = Turns::default();
        let now = Instant::now();
        turns.give(now, A, keys(&["x", "y"]));
        // Overlaps with the first, so it is not given.
        turns.give(now, B, keys(&["y", "z"]));
        let (x, z) = (Bytes::from_static(b"x"), Bytes::from_static(b"z"));
        assert!(turns.taken(now, Some(A), [&x].into_iter()).is_none());
        assert!(turns.taken(now, None, [&z].into_iter()).is_none());
        let taken = turns.taken(now, Some(B), [&z, &x].into_iter()).unwrap();
        let waiting = taken.ended();
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        turns.end(B, &x);
        assert!(!turns.is_empty(), "ended by somebody else");
        turns.end(A, &x);
        waiting.await;
        assert_eq!(
            Instant::now(),
            now,
            "waited for the time instead of the end"
        );

        turns.give(now, A, keys(&["x"]));
        let taken = turns.taken(now, None, [&x].into_iter()).unwrap();
        taken.ended().await;
        assert_eq!(Instant::now(), now + LASTS);
        assert!(
            turns
                .taken(Instant::now(), None, [&x].into_iter())
                .is_none()
        );
        assert!(turns.is_empty());
    }
}
