//! Linearizable reads: one ReadIndex round serves everyone who asked before it began.

use crate::machine::EntryId;
use crate::raft::Raft;
use floeberg_telemetry::ConsensusMetrics;
use openraft::ReadPolicy;
use tokio::sync::{mpsc, oneshot, watch};

/// Readers taken into one round; those beyond wait for the next.
const ROUND_MAX: usize = 65_536;

/// A reader waiting for the index it has to see applied; dropped unanswered without a leader.
pub(crate) type Reader = oneshot::Sender<u64>;

/// Runs rounds until the group stops or every handle is gone.
///
/// A reader joins a round only before it begins: a leader confirmed earlier could since have been
/// replaced by one that acknowledged a newer write.
pub(crate) async fn serve(
    raft: Raft,
    mut readers: mpsc::UnboundedReceiver<Reader>,
    metrics: ConsensusMetrics,
) {
    let mut round = Vec::new();
    while readers.recv_many(&mut round, ROUND_MAX).await > 0 {
        metrics.read_barriers.inc();
        match raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => {
                for reader in round.drain(..) {
                    // A reader that gave up needs no answer.
                    let _ = reader.send(read.index());
                }
            }
            Err(e) => {
                tracing::debug!(error = %e, readers = round.len(), "no read index");
                round.clear();
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
