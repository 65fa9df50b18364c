//! What the sync thread does: sync the database, then note it in the marker.

use super::Shared;
use super::marker::{Position, SyncMarker};
use super::sync::Journal;
use crate::LogError;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The sync thread's hold on the database and the marker.
pub(super) struct RocksJournal {
    shared: Arc<Shared>,
    marker: SyncMarker,
}

impl RocksJournal {
    pub(super) fn new(shared: Arc<Shared>, marker: SyncMarker) -> Self {
        Self { shared, marker }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Journal for RocksJournal {
    fn sync(&mut self) -> Result<(), LogError> {
        // Read before the sync: both count only writes that are already in the log's buffer.
        let votes = self.shared.votes.load(Ordering::SeqCst);
        let sequence = self.shared.db.latest_sequence_number();
        self.shared.db.flush_wal(true)?;
        let position = Position { sequence, votes };
        self.marker
            .record(position)
            .map_err(|error| LogError::engine(&error))
    }

    fn settle(&mut self) -> Result<(), LogError> {
        self.marker.sync().map_err(|error| LogError::engine(&error))
    }

    fn trim(&mut self, from: &[u8], to: &[u8]) {
        // Only an early return of disk space: the range is deleted already.
        if let Err(error) = self.shared.db.delete_file_in_range(from, to) {
            tracing::warn!(%error, "purged table files of the raft log not removed");
        }
    }

    fn stop(&mut self, error: &LogError) {
        tracing::error!(%error, "raft log stopped");
        let mut groups = self.shared.groups.lock();
        groups
            .stopped
            .get_or_insert_with(|| error.to_string().into());
    }
}
