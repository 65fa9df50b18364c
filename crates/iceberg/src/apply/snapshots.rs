//! Updates of snapshots and refs.

use std::sync::Arc;

use super::{AddedSnapshot, Builder, MAX_CLOCK_SKEW_MS};
use crate::error::{InvalidUpdate, StaleCommit, UpdateError};
use crate::json::RawJson;
use crate::section::Section;
use crate::snapshot::{MAIN_BRANCH, RefKind, Snapshot, SnapshotLogEntry, SnapshotRef};

/// How far one snapshot may move `next-row-id`: more rows than any table has, and few enough that
/// a mistaken number does not use up the ids of later appends.
const MAX_ROW_ID_STEP: i64 = 1 << 50;

impl Builder<'_> {
    pub(super) fn add_snapshot(&mut self, raw: &RawJson) -> Result<(), UpdateError> {
        let snapshot = Snapshot::parse(raw).map_err(InvalidUpdate::from)?;
        self.check_snapshot(&snapshot)?;
        self.check_sequence_number(&snapshot)?;
        let next_row_id = self.check_row_ids(&snapshot)?;
        let core = &mut self.table.core;
        core.next_row_id = next_row_id;
        if core.format_version > 1 {
            core.last_sequence_number = core.last_sequence_number.max(snapshot.sequence_number);
        }
        self.updated_ms = Some(snapshot.timestamp_ms);
        self.added_ids.insert(snapshot.snapshot_id);
        self.added.push(AddedSnapshot::new(&snapshot));
        self.put_snapshot(Arc::new(snapshot))?;
        Ok(())
    }

    fn put_snapshot(&mut self, snapshot: Arc<Snapshot>) -> Result<(), InvalidUpdate> {
        let completed = match self.table.core.format_version {
            1 => None,
            _ => snapshot.with_sequence_number()?.map(Arc::new),
        };
        let ordinal = self.table.snapshots.upsert(completed.unwrap_or(snapshot));
        self.touch(Section::Snapshots, Some(ordinal));
        Ok(())
    }

    /// Brings the snapshots of a v1 table into the form of later versions.
    pub(super) fn upgrade_snapshots(&mut self) -> Result<(), InvalidUpdate> {
        let snapshots: Vec<Arc<Snapshot>> = self.table.snapshots.iter().cloned().collect();
        snapshots
            .into_iter()
            .try_for_each(|snapshot| self.put_snapshot(snapshot))
    }

    fn check_snapshot(&self, snapshot: &Snapshot) -> Result<(), InvalidUpdate> {
        let format_version = self.table.core.format_version;
        let missing = [
            (self.table.schemas.is_empty(), "schema"),
            (self.table.specs.is_empty(), "partition spec"),
            (self.table.sort_orders.is_empty(), "sort order"),
        ];
        if let Some((_, what)) = missing.into_iter().find(|(is_missing, _)| *is_missing) {
            return Err(InvalidUpdate::SnapshotBefore { what });
        }
        let snapshot_id = snapshot.snapshot_id;
        if snapshot_id < 0 {
            return Err(InvalidUpdate::SnapshotId { snapshot_id });
        }
        if self.table.snapshots.contains(&snapshot_id) {
            return Err(InvalidUpdate::SnapshotExists { snapshot_id });
        }
        if format_version > 1 && snapshot.manifest_list.is_none() {
            return Err(InvalidUpdate::NoManifestList { format_version });
        }
        if format_version > 1 && snapshot.operation.is_none() {
            return Err(InvalidUpdate::NoSummary { format_version });
        }
        let limit_ms = MAX_CLOCK_SKEW_MS;
        if snapshot.timestamp_ms > self.now_ms.saturating_add(limit_ms) {
            let (timestamp_ms, now_ms) = (snapshot.timestamp_ms, self.now_ms);
            return Err(InvalidUpdate::FarFuture {
                timestamp_ms,
                now_ms,
                limit_ms,
            });
        }
        Ok(())
    }

    fn check_sequence_number(&self, snapshot: &Snapshot) -> Result<(), UpdateError> {
        let sequence_number = snapshot.sequence_number;
        let last_sequence_number = self.table.core.last_sequence_number;
        if sequence_number < 0 {
            let field = "sequence-number";
            return Err(InvalidUpdate::Negative {
                field,
                value: sequence_number,
            }
            .into());
        }
        if self.table.core.format_version == 1 {
            return match sequence_number {
                0 => Ok(()),
                number => Err(InvalidUpdate::SequenceNumberInV1 { number }.into()),
            };
        }
        // Writers number the snapshots of a commit upwards from the version they built on, which is
        // this one or an older one; a higher number would use up those of all later commits.
        let limit = self.sequence_limit;
        if sequence_number > limit {
            return Err(InvalidUpdate::SequenceNumberAhead {
                sequence_number,
                limit,
            }
            .into());
        }
        // A snapshot without parent (the table was replaced) may share the number, never go below.
        let is_newer = sequence_number > last_sequence_number;
        let is_root = snapshot.parent_snapshot_id.is_none();
        if is_newer || (is_root && sequence_number == last_sequence_number) {
            return Ok(());
        }
        Err(StaleCommit::SequenceNumber {
            sequence_number,
            last_sequence_number,
        }
        .into())
    }

    /// Checks v3 row ids and gives the table's next one.
    fn check_row_ids(&self, snapshot: &Snapshot) -> Result<i64, UpdateError> {
        let next_row_id = self.table.core.next_row_id;
        if self.table.core.format_version < 3 {
            return Ok(next_row_id);
        }
        let first_row_id = snapshot.first_row_id.ok_or(InvalidUpdate::NoFirstRowId)?;
        let added_rows = snapshot.added_rows.ok_or(InvalidUpdate::NoAddedRows)?;
        for (field, value) in [("first-row-id", first_row_id), ("added-rows", added_rows)] {
            if value < 0 {
                return Err(InvalidUpdate::Negative { field, value }.into());
            }
        }
        if first_row_id < next_row_id {
            return Err(StaleCommit::FirstRowId {
                first_row_id,
                next_row_id,
            }
            .into());
        }
        let too_large = |field, value| UpdateError::from(InvalidUpdate::TooLarge { field, value });
        let limit = next_row_id.saturating_add(MAX_ROW_ID_STEP);
        if first_row_id > limit {
            return Err(too_large("first-row-id", first_row_id));
        }
        // Past every id in use, also when the snapshot left a gap before its first row.
        first_row_id
            .checked_add(added_rows)
            .filter(|next| *next <= limit)
            .ok_or_else(|| too_large("added-rows", added_rows))
    }

    pub(super) fn set_ref(&mut self, reference: &SnapshotRef) -> Result<(), InvalidUpdate> {
        let snapshot_id = reference.snapshot_id;
        let is_main = &*reference.name == MAIN_BRANCH;
        if is_main && reference.kind != RefKind::Branch {
            return Err(InvalidUpdate::MainIsTag);
        }
        if self
            .table
            .refs
            .get(&reference.name)
            .is_some_and(|old| old.same_as(reference))
        {
            return Ok(());
        }
        let Some(snapshot) = self.table.snapshots.get(&snapshot_id) else {
            let name = reference.name.clone();
            return Err(InvalidUpdate::UnknownSnapshot { name, snapshot_id });
        };
        if self.added_ids.contains(&snapshot_id) {
            self.updated_ms = Some(snapshot.timestamp_ms);
        }
        if is_main {
            let now_ms = self.now_ms.max(self.table.core.last_updated_ms);
            let updated_ms = *self.updated_ms.get_or_insert(now_ms);
            self.moves
                .push(SnapshotLogEntry::new(updated_ms, snapshot_id));
            self.table.core.current_snapshot_id = Some(snapshot_id);
        }
        let before = self.table.refs.get(&reference.name);
        let before = before.map(|before| before.snapshot_id);
        self.known
            .ref_moved(&reference.name, before, Some(snapshot_id));
        let ordinal = self.table.refs.upsert(reference.clone());
        self.touch(Section::Refs, Some(ordinal));
        Ok(())
    }

    pub(super) fn remove_ref(&mut self, name: &str) {
        if name == MAIN_BRANCH {
            self.table.core.current_snapshot_id = None;
        }
        if let Some(gone) = self.table.refs.get(name) {
            let at = Some(gone.snapshot_id);
            self.known.ref_moved(&gone.name, at, None);
        }
        let removed = self.table.refs.remove(name);
        self.touch(Section::Refs, removed);
    }

    /// Removes snapshots with their statistics and every ref to them; unknown ids are skipped.
    pub(super) fn remove_snapshots(&mut self, snapshot_ids: &[i64]) {
        for snapshot_id in snapshot_ids {
            let Some(ordinal) = self.table.snapshots.remove(snapshot_id) else {
                continue;
            };
            self.touch(Section::Snapshots, Some(ordinal));
            self.removed_ids.insert(*snapshot_id);
            self.remove_statistics(*snapshot_id);
            self.remove_partition_statistics(*snapshot_id);
            for name in self.known.refs_at(&self.table, *snapshot_id) {
                self.remove_ref(&name);
            }
        }
    }
}
