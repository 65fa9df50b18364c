//! Linearizable reads: one ReadIndex round serves everyone on this node who asked before it began.
//!
//! A leader confirms itself with a quorum of heartbeats; any other node asks the leader. A lease
//! would save the heartbeats, but a restarted follower has forgotten the one it granted and helps
//! to elect another leader within it: the old one would then serve stale reads. Without leases a
//! node may vote at once after its start.

use crate::codec;
use crate::leadership::Leader;
use crate::machine::EntryId;
use crate::raft::{LogId, Raft};
use crate::reach::Reach;
use crate::{Term, wire};
use bytes::Bytes;
use floeberg_proto::floeberg::rpc::v1 as pb;
use floeberg_rpc::{Method, Request, Transport};
use floeberg_telemetry::ConsensusMetrics;
use floeberg_types::{GroupId, NodeId};
use openraft::ReadPolicy;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Readers taken into one round; those beyond wait for the next.
const ROUND_MAX: usize = 65_536;

/// What a linearizable read has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPoint {
    /// Once this entry is applied, everything acknowledged before the read began is. At least the
    /// first entry of `term`, so everything of earlier terms that will ever be applied is, too.
    pub index: u64,
    /// The term in which the leader confirmed itself.
    pub term: Term,
    /// That leader.
    pub leader: NodeId,
}

/// A reader waiting for its point; dropped unanswered without a leader.
pub(crate) type Reader = oneshot::Sender<ReadPoint>;

/// What rounds need.
pub(crate) struct Rounds {
    pub(crate) raft: Raft,
    pub(crate) group: GroupId,
    pub(crate) node: NodeId,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) leader: watch::Receiver<Option<Leader>>,
    /// Whether the leader answers this node.
    pub(crate) reach: Reach,
    /// How long another leader may take.
    pub(crate) patience: Duration,
    pub(crate) metrics: ConsensusMetrics,
}

/// Lets this node prove with a quorum that it leads; the read index, of the term it leads.
pub(crate) async fn confirm(raft: &Raft) -> Option<LogId> {
    match raft.get_read_log_id(ReadPolicy::ReadIndex).await {
        Ok((read, _)) => Some(*read.log_id()),
        Err(e) => {
            tracing::debug!(error = %e, "no read index");
            None
        }
    }
}

impl Rounds {
    /// Runs rounds until the group stops or every handle is gone.
    ///
    /// A reader joins a round only before it begins: a leader confirmed earlier could since have
    /// been replaced by one that acknowledged a newer write.
    pub(crate) async fn serve(mut self, mut readers: mpsc::UnboundedReceiver<Reader>) {
        let mut round = Vec::new();
        while readers.recv_many(&mut round, ROUND_MAX).await > 0 {
            self.metrics.read_barriers.inc();
            match self.round().await {
                Some(at) => {
                    let id = codec::entry_id(&at);
                    let point = ReadPoint {
                        index: id.index,
                        term: id.term,
                        leader: id.node,
                    };
                    for reader in round.drain(..) {
                        // A reader that gave up needs no answer.
                        let _ = reader.send(point);
                    }
                }
                None => round.clear(),
            }
        }
    }

    async fn round(&mut self) -> Option<LogId> {
        let leader = *self.leader.borrow_and_update();
        let leader = leader?;
        if leader.node == self.node {
            return confirm(&self.raft).await;
        }
        let mut changes = self.leader.clone();
        let asking = self.ask(leader);
        // Biased, so that a seed replays exactly.
        tokio::select! {
            biased;
            at = asking => at,
            // The answer of a leader that is none any more may take for ever.
            _ = changes.changed() => None,
        }
    }

    async fn ask(&self, leader: Leader) -> Option<LogId> {
        let (group, format, probe) = (self.group, wire::FORMAT, false);
        let request = Request {
            method: Method::ReadIndex,
            group,
            body: wire::write(&pb::ReadIndexRequest { format, probe }),
        };
        let asked = self
            .transport
            .call(leader.node, request, self.patience)
            .await;
        self.reach.note(leader.node, &asked);
        let read = |body: Bytes| wire::read::<pb::ReadIndexResponse>(body);
        match asked.map(read) {
            Ok(Ok(response)) => wire::log_id(response.at.as_ref()),
            Ok(Err(e)) => {
                tracing::warn!(%group, leader = %leader.node, error = %e, "no read index");
                None
            }
            Err(e) => {
                tracing::debug!(%group, leader = %leader.node, error = %e, "no read index");
                None
            }
        }
    }
}

/// Waits until `index` is applied; `None` when the group stopped before.
pub(crate) async fn applied_at_least(
    applied: &mut watch::Receiver<Option<EntryId>>,
    index: u64,
) -> Option<()> {
    applied
        .wait_for(|last| last.is_some_and(|id| id.index >= index))
        .await
        .ok()
        .map(|_| ())
}
