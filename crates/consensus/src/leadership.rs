//! Follows who leads, and notices when the group stops.

use crate::Term;
use crate::group::OnFatal;
use crate::machine::EntryId;
use crate::raft::{Raft, TypeConfig};
use floeberg_types::{GroupId, NodeId};
use openraft::RaftMetrics;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::Fatal;
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

/// Keeps [`Leadership`] current.
pub(crate) struct Follower {
    pub(crate) raft: Raft,
    pub(crate) group: GroupId,
    pub(crate) node: NodeId,
    pub(crate) applied: watch::Receiver<Option<EntryId>>,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) on_fatal: OnFatal,
}

impl Follower {
    /// Runs until the group stops; a stop that nobody asked for is reported.
    pub(crate) async fn run(mut self) {
        let mut metrics = self.raft.metrics();
        loop {
            let (now, stopped) = {
                let metrics = metrics.borrow_watched();
                (self.observe(&metrics), metrics.running_state.clone().err())
            };
            if let Some(cause) = stopped {
                return self.stop(cause);
            }
            self.publish(now);
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

    fn observe(&self, metrics: &RaftMetrics<TypeConfig>) -> Leadership {
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
