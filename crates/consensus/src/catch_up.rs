//! How a new member catches up with the log.

use crate::members::{self, ChangeError};
use crate::raft::{Metrics, TypeConfig};
use crate::transfer::outgoing::SnapshotProgress;
use floeberg_types::{GroupId, NodeId};
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::WatchReceiver as _;
use std::collections::BTreeMap;
use tokio::sync::watch;

/// How far a member has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last entry known to be in its log.
    pub matched: Option<u64>,
    /// The last entry of the leader's log.
    pub last: Option<u64>,
    /// The snapshot it is being sent, if any.
    pub snapshot: Option<SnapshotProgress>,
}

/// Follows a member from the leader's point of view.
pub struct CatchUp {
    group: GroupId,
    node: NodeId,
    lag_max: u64,
    metrics: WatchReceiverOf<TypeConfig, Metrics>,
    snapshots: watch::Receiver<BTreeMap<NodeId, SnapshotProgress>>,
}

impl CatchUp {
    pub(crate) fn new(
        group: GroupId,
        node: NodeId,
        lag_max: u64,
        metrics: WatchReceiverOf<TypeConfig, Metrics>,
        snapshots: watch::Receiver<BTreeMap<NodeId, SnapshotProgress>>,
    ) -> Self {
        Self {
            group,
            node,
            lag_max,
            metrics,
            snapshots,
        }
    }

    /// How far the member has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let metrics = self.metrics.borrow_watched();
        let replication = metrics.replication.as_ref();
        let matched = replication.and_then(|all| all.get(&self.node.0).copied().flatten());
        Progress {
            matched: matched.map(|log_id| log_id.index),
            last: metrics.last_log_index,
            snapshot: self.snapshots.borrow().get(&self.node).copied(),
        }
    }

    /// Waits until anything may have changed.
    ///
    /// # Errors
    /// The group has stopped.
    pub async fn changed(&mut self) -> Result<Progress, ChangeError> {
        // Biased, so that a seed replays exactly.
        let alive = tokio::select! {
            biased;
            changed = self.metrics.changed() => changed.is_ok(),
            changed = self.snapshots.changed() => changed.is_ok(),
        };
        if !alive {
            return Err(ChangeError::Stopped);
        }
        Ok(self.progress())
    }

    /// Whether the member lacks little enough to get a vote.
    fn is_done(&self) -> Result<bool, ChangeError> {
        let metrics = self.metrics.borrow_watched();
        if metrics.running_state.is_err() {
            return Err(ChangeError::Stopped);
        }
        let Some(replication) = metrics.replication.as_ref() else {
            return Err(ChangeError::NotLeader {
                group: self.group,
                leader: metrics.current_leader.map(NodeId),
            });
        };
        let membership = metrics.membership_config.membership();
        if membership.get_node(&self.node.0).is_none() {
            return Err(ChangeError::UnknownNode(self.node));
        }
        let matched = replication.get(&self.node.0).copied().flatten();
        let matched = matched.map(|log_id| log_id.index);
        Ok(matched.is_some() && members::lag(&metrics, matched) <= self.lag_max)
    }

    /// Waits until the member lacks little enough to get a vote.
    ///
    /// # Errors
    /// This node does not lead any more, or the member was removed.
    pub async fn done(&mut self) -> Result<(), ChangeError> {
        while !self.is_done()? {
            self.changed().await?;
        }
        Ok(())
    }
}
