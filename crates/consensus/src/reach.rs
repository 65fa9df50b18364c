//! Whether a leader can be reached, which it cannot see itself: its own calls may arrive while the calls of
//! its followers, or its answers to them, get lost. Such a leader goes on to lead, and nobody but its own
//! clients is served.
//!
//! Followers try the leader, and say in their answers to appends for how long they have not reached it. A
//! leader that a majority cannot reach hands over.

use crate::leadership::Leader;
use crate::raft::{Metrics, Raft};
use crate::wire;
use bytes::Bytes;
use floeberg_env::Clock;
use floeberg_proto::floeberg::rpc::v1 as pb;
use floeberg_rpc::{CallError, Method, Request, Transport};
use floeberg_types::{GroupId, NodeId};
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Pause after a leader has handed over because it was not reached; it doubles with every further time.
const BACK_OFF: Duration = Duration::from_secs(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(300);

/// A follower's calls to its leader; clones share everything.
#[derive(Clone)]
pub(crate) struct Reach {
    clock: Arc<dyn Clock>,
    seen: Arc<Mutex<Option<Seen>>>,
}

#[derive(Clone, Copy)]
struct Seen {
    leader: NodeId,
    /// When it answered last, or was first heard of.
    at: Duration,
}

impl Reach {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let seen = Arc::default();
        Self { clock, seen }
    }

    /// A call to `leader` ended so; a refusal is an answer, too.
    pub(crate) fn note(&self, leader: NodeId, answer: &Result<Bytes, CallError>) {
        if matches!(answer, Ok(_) | Err(CallError::Refused(_))) {
            let at = self.clock.monotonic();
            *self.seen.lock() = Some(Seen { leader, at });
        }
    }

    /// For how long `leader` was not reached.
    pub(crate) fn unreached(&self, leader: NodeId) -> Duration {
        let (now, mut seen) = (self.clock.monotonic(), self.seen.lock());
        match *seen {
            Some(seen) if seen.leader == leader => now.saturating_sub(seen.at),
            // From now on it is tried.
            _ => {
                *seen = Some(Seen { leader, at: now });
                Duration::ZERO
            }
        }
    }
}

/// What followers say of reaching this node; clones share everything.
#[derive(Clone)]
pub(crate) struct Reports {
    clock: Arc<dyn Clock>,
    heard: Arc<Mutex<BTreeMap<NodeId, Report>>>,
}

#[derive(Clone, Copy)]
struct Report {
    unreached: Duration,
    at: Duration,
}

impl Reports {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let heard = Arc::default();
        Self { clock, heard }
    }

    pub(crate) fn hear(&self, node: NodeId, unreached: Duration) {
        let at = self.clock.monotonic();
        let report = Report { unreached, at };
        self.heard.lock().insert(node, report);
    }

    /// Those of `nodes` that answer, yet have not reached this node for `limit`.
    fn cut_off(&self, nodes: &[NodeId], limit: Duration) -> Vec<NodeId> {
        let (now, heard) = (self.clock.monotonic(), self.heard.lock());
        let cut = nodes.iter().filter(|node| {
            let report = heard.get(node);
            report.is_some_and(|r| r.unreached >= limit && now.saturating_sub(r.at) < limit)
        });
        cut.copied().collect()
    }
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reports").finish_non_exhaustive()
    }
}

/// Tries the leader while this node follows, and looks at the reports while it leads.
pub(crate) struct Reaching {
    pub(crate) raft: Raft,
    pub(crate) group: GroupId,
    pub(crate) node: NodeId,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) leader: watch::Receiver<Option<Leader>>,
    pub(crate) reach: Reach,
    pub(crate) reports: Reports,
    /// The longest election timeout.
    pub(crate) patience: Duration,
}

impl Reaching {
    /// Runs until the group stops.
    pub(crate) async fn run(self) {
        let metrics = self.raft.metrics();
        let (every, limit) = (self.patience / 4, self.patience * 3 / 2);
        let mut back_off = BACK_OFF;
        loop {
            tokio::time::sleep(every).await;
            if metrics.borrow_watched().running_state.is_err() {
                return;
            }
            let leader = *self.leader.borrow();
            match leader {
                Some(leader) if leader.node != self.node => self.try_leader(leader, every).await,
                _ => {}
            }
            let heir = heir(&metrics.borrow_watched(), &self.reports, limit);
            let Some(to) = heir else { continue };
            tracing::warn!(
                group = %self.group, %to,
                "most voters answer this leader and cannot reach it, so another node takes the lead: check \
                 what lets connections to the node port of this machine through"
            );
            if self.raft.trigger().transfer_leader(to.0).await.is_err() {
                return;
            }
            tokio::time::sleep(back_off).await;
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    async fn try_leader(&self, leader: Leader, patience: Duration) {
        if self.reach.unreached(leader.node) < patience {
            return;
        }
        let (format, probe) = (wire::FORMAT, true);
        let request = Request {
            method: Method::ReadIndex,
            group: self.group,
            body: wire::write(&pb::ReadIndexRequest { format, probe }),
        };
        let answer = self.transport.call(leader.node, request, patience).await;
        self.reach.note(leader.node, &answer);
    }
}

/// To whom a leader should hand over that fewer than a majority can reach: whoever has most of the log.
fn heir(metrics: &Metrics, reports: &Reports, limit: Duration) -> Option<NodeId> {
    if metrics.state != ServerState::Leader {
        return None;
    }
    let voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
    let others = voters.iter().copied().filter(|id| *id != metrics.id);
    let others: Vec<NodeId> = others.map(NodeId).collect();
    let cut_off = reports.cut_off(&others, limit);
    let majority = voters.len() / 2 + 1;
    if voters.len() - cut_off.len() >= majority {
        return None;
    }
    let replication = metrics.replication.as_ref()?;
    let matched = |node: &NodeId| replication.get(&node.0).copied().flatten();
    cut_off.into_iter().max_by_key(matched)
}

#[cfg(test)]
mod tests {
    use super::*;
    use floeberg_env::Env;
    use floeberg_rpc::{Refusal, RefusalCode};

    const ONE: NodeId = NodeId(1);

    #[tokio::test(start_paused = true)]
    async fn a_leader_is_unreached_since_it_answered_last_or_was_heard_of() {
        let (env, _) = Env::simulated(1);
        let reach = Reach::new(env.clock.clone());
        let second = Duration::from_secs(1);
        assert_eq!(reach.unreached(ONE), Duration::ZERO);
        tokio::time::sleep(second).await;
        assert_eq!(reach.unreached(ONE), second);
        reach.note(ONE, &Err(CallError::lost("gone")));
        assert_eq!(reach.unreached(ONE), second);
        let refusal = Refusal::new(RefusalCode::Busy, "later");
        reach.note(ONE, &Err(CallError::Refused(refusal)));
        assert_eq!(reach.unreached(ONE), Duration::ZERO);
        tokio::time::sleep(second).await;
        assert_eq!(reach.unreached(NodeId(2)), Duration::ZERO, "another leader");
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_answers_can_say_that_it_is_cut_off() {
        let (env, _) = Env::simulated(1);
        let reports = Reports::new(env.clock.clone());
        let (limit, all) = (Duration::from_secs(2), [NodeId(2), NodeId(3)]);
        reports.hear(NodeId(2), limit);
        reports.hear(NodeId(3), limit / 2);
        assert_eq!(reports.cut_off(&all, limit), [NodeId(2)]);
        tokio::time::sleep(limit).await;
        assert_eq!(reports.cut_off(&all, limit), []);
    }
}
