//! Entries that no message between nodes can carry: earlier versions let them into the log.
//!
//! Whoever lacks one gets it inside a snapshot. The library sends a snapshot to a node that needs what
//! the leader's log no longer has, so once the entry is applied the leader makes a checkpoint and
//! purges its log up to it.

use crate::machine::EntryId;
use crate::raft::{Entry, Raft};
use crate::ring::weight;
use floeberg_types::{GroupId, limits};
use openraft::async_runtime::WatchReceiver as _;
use std::sync::Arc;
use tokio::sync::watch;

/// The last entry that could not be sent; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Unsendable {
    group: GroupId,
    last: Arc<watch::Sender<Option<u64>>>,
}

impl Unsendable {
    pub(crate) fn new(group: GroupId) -> Self {
        let last = Arc::new(watch::Sender::new(None));
        Self { group, last }
    }

    /// Whether entries are too large to be sent together, which is then remembered. Measured before
    /// anything is written: the library asks again and again.
    pub(crate) fn notice(&self, entries: &[Entry]) -> bool {
        let bytes: usize = entries.iter().map(weight).sum();
        if bytes <= limits::RPC_BODY_BYTES - limits::COMMAND_AROUND_BYTES {
            return false;
        }
        let last = entries.last().map(|entry| entry.log_id.index);
        self.last.send_if_modified(|known| {
            let is_new = last > *known;
            *known = last.max(*known);
            is_new
        });
        true
    }

    /// Moves what cannot be sent from the log into a checkpoint, until the group stops.
    pub(crate) async fn run(self, raft: Raft, mut applied: watch::Receiver<Option<EntryId>>) {
        let group = self.group;
        let mut noticed = self.last.subscribe();
        // Something may have been noticed before this task ran.
        noticed.mark_changed();
        while noticed.changed().await.is_ok() {
            let Some(index) = *noticed.borrow_and_update() else {
                continue;
            };
            tracing::info!(%group, index, "an entry is too large to be sent; a snapshot takes it");
            let reached = applied.wait_for(|last| last.is_some_and(|last| last.index >= index));
            if reached.await.is_err() || checkpoint(&raft, index).await.is_none() {
                return;
            }
        }
    }
}

/// Makes a checkpoint that covers an applied entry, and purges the log up to it; `None` if the group
/// has stopped.
async fn checkpoint(raft: &Raft, index: u64) -> Option<()> {
    let mut metrics = raft.metrics();
    let covers = |snapshot: Option<u64>| snapshot.is_some_and(|last| last >= index);
    let covered = |raft: &Raft| {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        covers(metrics.snapshot.as_ref().map(|id| id.index))
    };
    if !covered(raft) {
        raft.trigger().snapshot().await.ok()?;
    }
    while !covered(raft) {
        metrics.changed().await.ok()?;
    }
    raft.trigger().purge_log(index).await.ok()
}
