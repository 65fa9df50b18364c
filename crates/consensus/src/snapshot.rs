//! When a checkpoint is made: after so many entries or bytes or so much time, never on an idle
//! group.
//!
//! A checkpoint makes the applied state durable, which lets the log be purged up to it.

use crate::machine::EntryId;
use crate::raft::Raft;
use crate::retention::Weights;
use std::time::Duration;
use tokio::sync::watch;

/// What makes a checkpoint due.
pub(crate) struct Schedule {
    /// Entries applied before the group started that are durable already.
    pub(crate) covered: u64,
    pub(crate) entries: u64,
    pub(crate) interval: Duration,
    /// Bytes appended since the last checkpoint.
    pub(crate) bytes: u64,
    pub(crate) weights: Weights,
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
    let mut appended = 0;
    loop {
        let due = covered.saturating_add(schedule.entries.max(1));
        let heavy = schedule.bytes.saturating_add(appended);
        let enough = applied
            .wait_for(|last| next_index(*last) >= due || schedule.weights.appended() >= heavy);
        if let Ok(Err(_)) = tokio::time::timeout(schedule.interval, enough).await {
            return;
        }
        let next = next_index(*applied.borrow());
        appended = schedule.weights.appended();
        if next > covered {
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
            covered = next;
        }
    }
}
