//! Follows who leads, and notices when the group stops.

use crate::Term;
use crate::machine::EntryId;
use crate::raft::{LogId, Metrics, Raft, TypeConfig};
use crate::start::OnFatal;
use crate::transfer::outgoing::Outgoing;
use floeberg_telemetry::ConsensusMetrics;
use floeberg_types::{GroupId, NodeId};
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::Fatal;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// What this node knows about its own leadership.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The newest term seen.
    pub term: Term,
    /// Whether this node leads `term`, as far as it knows.
    pub is_leader: bool,
    /// Whether this leader has applied its own first entry, and with it everything that earlier
    /// leaders acknowledged. Nothing may be decided before.
    pub ready: bool,
}

/// Who leads a group, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The node; its first entry need not be applied yet.
    pub node: NodeId,
    /// The term it leads.
    pub term: Term,
}

/// The members' addresses, learners included.
pub(crate) type Addresses = Arc<BTreeMap<NodeId, String>>;

/// Keeps [`Leadership`] current.
pub(crate) struct Follower {
    pub(crate) raft: Raft,
    pub(crate) group: GroupId,
    pub(crate) node: NodeId,
    pub(crate) applied: watch::Receiver<Option<EntryId>>,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) leader: watch::Sender<Option<Leader>>,
    pub(crate) addresses: watch::Sender<Addresses>,
    pub(crate) outgoing: Outgoing,
    pub(crate) on_fatal: OnFatal,
    pub(crate) metrics: ConsensusMetrics,
}

impl Follower {
    /// Runs until the group stops; a stop that nobody asked for is reported.
    pub(crate) async fn run(mut self) {
        let mut metrics = self.raft.metrics();
        let mut members = None;
        loop {
            let (now, leader, stopped) = {
                let metrics = metrics.borrow_watched();
                let now = self.observe(&metrics);
                self.publish_addresses(&metrics, &mut members);
                let stopped = metrics.running_state.clone().err();
                (now, self.leader(&metrics, now), stopped)
            };
            if let Some(cause) = stopped {
                return self.stop(cause);
            }
            let led = self.leadership.borrow().is_leader;
            self.publish(now);
            self.leader.send_if_modified(|before| {
                let changed = *before != leader;
                *before = leader;
                changed
            });
            if led && !now.is_leader {
                // Whoever leads now makes copies of its own. Not here: a copy may be in the making.
                let outgoing = self.outgoing.clone();
                let tasks = outgoing.tasks().clone();
                tasks.spawn("snapshot-abandon", async move { outgoing.abandon().await });
            }
            // Which of the two changed does not matter; biased, so that a seed replays exactly.
            let alive = tokio::select! {
                biased;
                changed = metrics.changed() => changed.is_ok(),
                changed = self.applied.changed(), if now.is_leader && !now.ready => changed.is_ok(),
            };
            if !alive {
                return self.stop_after_end().await;
            }
        }
    }

    fn observe(&self, metrics: &Metrics) -> Leadership {
        let vote = &metrics.vote;
        // The vote trails the term until it is durable; only together do they make a leader.
        let is_leader = metrics.state == ServerState::Leader
            && vote.committed
            && vote.leader_id.node_id == self.node.0
            && vote.leader_id.term == metrics.current_term;
        let own_entry_applied = self
            .applied
            .borrow()
            .is_some_and(|id| id.term == metrics.current_term && id.node == self.node);
        let ready = is_leader && own_entry_applied;
        Leadership {
            term: metrics.current_term,
            is_leader,
            ready,
        }
    }

    /// The leader of the newest term; this node only once its vote is durable.
    fn leader(&self, metrics: &Metrics, now: Leadership) -> Option<Leader> {
        let node = NodeId(metrics.current_leader?);
        let known = node != self.node || now.is_leader;
        let term = metrics.current_term;
        known.then_some(Leader { node, term })
    }

    /// Only when another membership is in force than `seen`: metrics change with every batch.
    fn publish_addresses(&self, metrics: &Metrics, seen: &mut Option<Option<LogId>>) {
        let membership = &metrics.membership_config;
        if seen.as_ref() == Some(membership.log_id()) {
            return;
        }
        *seen = Some(*membership.log_id());
        let nodes = membership.membership().nodes();
        let addresses = nodes.map(|(id, node)| (NodeId(*id), node.addr.clone()));
        self.addresses.send_replace(Arc::new(addresses.collect()));
    }

    fn publish(&self, now: Leadership) {
        let changed = self.leadership.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
        if changed {
            let Leadership {
                term,
                is_leader,
                ready,
            } = now;
            self.metrics
                .term
                .set(i64::try_from(term).unwrap_or(i64::MAX));
            self.metrics.leads.set(i64::from(ready));
            tracing::info!(group = %self.group, term, is_leader, ready, "leadership");
        }
    }

    fn stop(&self, cause: Fatal<TypeConfig>) {
        self.leadership.send_modify(|l| {
            *l = Leadership {
                term: l.term,
                ..Leadership::default()
            }
        });
        self.leader.send_replace(None);
        match cause {
            Fatal::Stopped => {}
            Fatal::StorageError(_) | Fatal::Panicked => {
                tracing::error!(group = %self.group, error = %cause, "consensus stopped");
                (self.on_fatal)(self.group, &cause.to_string());
            }
        }
    }

    /// The core ended without a last word, as a panic does.
    async fn stop_after_end(&self) {
        if let Err(cause) = self.raft.is_initialized().await {
            self.stop(cause);
        }
    }
}
