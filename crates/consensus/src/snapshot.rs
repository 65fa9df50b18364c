//! When a checkpoint is made: after so many entries or so much time, never on an idle group.
//!
//! A checkpoint makes the applied state durable, which lets the log be purged up to it.

use crate::machine::EntryId;
use crate::raft::Raft;
use std::time::Duration;
use tokio::sync::watch;

/// What makes a checkpoint due.
pub(crate) struct Schedule {
    /// Entries applied before the group started that the last checkpoint already covers.
    pub(crate) covered: u64,
    pub(crate) entries: u64,
    pub(crate) interval: Duration,
}

fn next_index(applied: Option<EntryId>) -> u64 {
    applied.map_or(0, |id| id.index + 1)
}

/// Triggers checkpoints until the group stops.
pub(crate) async fn run(
    raft: Raft,
    mut applied: watch::Receiver<Option<EntryId>>,
    schedule: Schedule,
) {
    let mut covered = schedule.covered;
    loop {
        let due = covered.saturating_add(schedule.entries.max(1));
        let enough = applied.wait_for(|last| next_index(*last) >= due);
        if let Ok(Err(_)) = tokio::time::timeout(schedule.interval, enough).await {
            return;
        }
        let next = next_index(*applied.borrow());
        if next > covered {
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
            covered = next;
        }
    }
}
