//! How far this leader's wall clock is from those of the other voters.
//!
//! The leader stamps log time, so a leader with a clock of its own would stamp nonsense for
//! everybody. Answers to appends carry the wall time of the node that answers; a leader that is
//! off the median of the voters hands its leadership over.

use crate::raft::{Metrics, Raft};
use floeberg_env::Clock;
use floeberg_types::{GroupId, NodeId};
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What a leader may be off the median, in ms.
pub const SKEW_MAX_MS: i64 = 1000;
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Older observations say nothing.
const STALE_AFTER: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
struct Observed {
    ahead_ms: i64,
    at: Duration,
}

/// The other nodes' clocks as this node sees them; clones share everything.
#[derive(Clone)]
pub(crate) struct Clocks {
    clock: Arc<dyn Clock>,
    seen: Arc<Mutex<BTreeMap<NodeId, Observed>>>,
}

impl Clocks {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let seen = Arc::default();
        Self { clock, seen }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now().0
    }

    /// Time that no jump of the wall clock changes.
    pub(crate) fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// A call made at `asked`, by the monotonic clock, was answered just now by a node whose wall clock says
    /// `clock_ms`.
    pub(crate) fn answered(&self, node: NodeId, asked: Duration, clock_ms: i64) {
        let at = self.clock.monotonic();
        let took = at.saturating_sub(asked).as_millis();
        let half = i64::try_from(took / 2).unwrap_or(i64::MAX);
        let observed = Observed {
            ahead_ms: certainly_ahead(clock_ms, self.now_ms(), half),
            at,
        };
        self.seen.lock().insert(node, observed);
    }

    /// By how much other clocks are ahead of this one, as far as that was seen of late.
    fn ahead_ms(&self, nodes: impl Iterator<Item = NodeId>) -> BTreeMap<NodeId, i64> {
        let now = self.clock.monotonic();
        let seen = self.seen.lock();
        let fresh = nodes.filter_map(|node| {
            let observed = seen.get(&node)?;
            (now.saturating_sub(observed.at) < STALE_AFTER).then_some((node, observed.ahead_ms))
        });
        fresh.collect()
    }
}

/// By how much a clock that said `clock_ms` is ahead of one that says `now_ms`, at least: it was read within
/// the last `2 * half` ms. A process that was stopped in between has a long round trip and a good clock.
#[must_use]
pub fn certainly_ahead(clock_ms: i64, now_ms: i64, half: i64) -> i64 {
    let ahead = clock_ms.saturating_sub(now_ms.saturating_sub(half));
    let certain = ahead.saturating_abs().saturating_sub(half).max(0);
    certain * ahead.signum()
}

/// The median clock of the voters relative to this node's, if most of them are known; between two
/// middle ones the nearer.
#[must_use]
pub fn median_ms(voters: usize, ahead: &BTreeMap<NodeId, i64>) -> Option<i64> {
    let mut all: Vec<i64> = ahead.values().copied().chain([0]).collect();
    if all.len() * 2 <= voters {
        return None;
    }
    all.sort_unstable();
    let middle = all.len() / 2;
    let (low, high) = (all[(all.len() - 1) / 2], all[middle]);
    Some(if low.abs() <= high.abs() { low } else { high })
}

/// To whom a leader with this skew should hand over: the voter that has most of the log among
/// those whose clocks are right.
fn successor(metrics: &Metrics, clocks: &Clocks) -> Option<(NodeId, i64)> {
    if metrics.state != ServerState::Leader {
        return None;
    }
    let membership = metrics.membership_config.membership();
    let others: Vec<u64> = membership
        .voter_ids()
        .filter(|id| *id != metrics.id)
        .collect();
    let ahead = clocks.ahead_ms(others.iter().copied().map(NodeId));
    let median = median_ms(others.len() + 1, &ahead)?;
    if median.abs() <= SKEW_MAX_MS {
        return None;
    }
    let replication = metrics.replication.as_ref()?;
    let right = others.into_iter().filter(|id| {
        let off = ahead.get(&NodeId(*id)).map(|ms| (ms - median).abs());
        off.is_some_and(|off| off <= SKEW_MAX_MS)
    });
    let matched = |id: &u64| replication.get(id).copied().flatten();
    right.max_by_key(matched).map(|id| (NodeId(id), median))
}

/// Watches the clocks while this node leads, until the group stops.
pub(crate) async fn run(raft: Raft, group: GroupId, clocks: Clocks) {
    let metrics = raft.metrics();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let found = successor(&metrics.borrow_watched(), &clocks);
        let Some((to, median)) = found else {
            if metrics.borrow_watched().running_state.is_err() {
                return;
            }
            continue;
        };
        tracing::warn!(
            group = %group, behind_ms = median, to = %to,
            "this node's clock is off the median of the voters, so another node takes the lead: \
             check its time synchronisation"
        );
        if raft.trigger().transfer_leader(to.0).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(ms: &[i64]) -> BTreeMap<NodeId, i64> {
        (2..).map(NodeId).zip(ms.iter().copied()).collect()
    }

    #[test]
    fn what_a_round_trip_explains_is_no_skew() {
        assert_eq!(certainly_ahead(1_000, 1_000, 0), 0);
        assert_eq!(certainly_ahead(7_000, 1_000, 10), 6_000);
        assert_eq!(certainly_ahead(1_000, 7_000, 10), -5_980);
        // Asked at 0, stopped for 30 s, resumed: the answer of the first instant is 15 s off the middle.
        assert_eq!(certainly_ahead(5, 30_000, 15_000), 0);
        assert_eq!(certainly_ahead(30_000, 30_000, 15_000), 0);
        assert_eq!(certainly_ahead(40_000, 30_000, 15_000), 10_000);
    }

    #[test]
    fn the_median_needs_most_voters_and_never_blames_without_a_majority() {
        assert_eq!(median_ms(1, &ahead(&[])), Some(0));
        assert_eq!(median_ms(3, &ahead(&[])), None);
        assert_eq!(median_ms(3, &ahead(&[5000])), Some(0), "one against one");
        assert_eq!(median_ms(3, &ahead(&[5000, 5010])), Some(5000));
        assert_eq!(median_ms(3, &ahead(&[5000, -20])), Some(0));
        assert_eq!(median_ms(5, &ahead(&[9, 5, 7])), Some(5));
    }
}
