//! Ending a commit: time stamps, logs, checks over the whole version, and the changed parts.

use std::collections::BTreeSet;

use super::{Applied, Builder, MAX_CLOCK_SKEW_MS};
use crate::error::{InvalidUpdate, UpdateError};
use crate::metadata::TableMetadata;
use crate::section::{PartChange, Section};
use crate::snapshot::{MetadataLogEntry, SnapshotLogEntry};

/// The property that bounds the metadata log, and its default.
const PREVIOUS_VERSIONS_MAX: &str = "write.metadata.previous-versions-max";
const PREVIOUS_VERSIONS_MAX_DEFAULT: usize = 100;

impl Builder<'_> {
    pub(crate) fn finish(
        mut self,
        previous: Option<&MetadataLogEntry>,
    ) -> Result<Applied, UpdateError> {
        if let Some(base) = self.base.filter(|base| self.is_unchanged(base)) {
            return Ok(Applied {
                metadata: base.clone(),
                changes: Vec::new(),
                changed: false,
                added_snapshots: Vec::new(),
            });
        }
        self.check_complete()?;
        self.check_defaults()?;
        self.check_times(previous)?;
        self.write_snapshot_log()?;
        if let (Some(_), Some(previous)) = (self.base, previous) {
            self.write_metadata_log(previous);
        }
        self.table.refresh();
        self.table.check_growth(self.base)?;
        let changes = self.changes();
        Ok(Applied {
            metadata: self.table,
            changes,
            changed: true,
            added_snapshots: self.added,
        })
    }

    fn is_unchanged(&self, base: &TableMetadata) -> bool {
        self.moves.is_empty()
            && self.table.core == base.core
            && self.touched.iter().all(|(section, ordinal)| {
                self.table.part(*section, *ordinal) == base.part(*section, *ordinal)
            })
    }

    fn check_complete(&self) -> Result<(), InvalidUpdate> {
        let core = &self.table.core;
        let missing = [
            (
                !self.table.schemas.contains(&core.current_schema_id),
                "schema",
            ),
            (
                !self.table.specs.contains(&core.default_spec_id),
                "partition spec",
            ),
            (
                !self.table.sort_orders.contains(&core.default_sort_order_id),
                "sort order",
            ),
            (core.location.is_empty(), "location"),
            (core.format_version > 1 && core.table_uuid.is_none(), "uuid"),
        ];
        match missing.into_iter().find(|(is_missing, _)| *is_missing) {
            Some((_, what)) => Err(InvalidUpdate::Incomplete { what }),
            None => Ok(()),
        }
    }

    /// The default spec and order must fit the current schema; only checked when one changed.
    fn check_defaults(&mut self) -> Result<(), InvalidUpdate> {
        let ids = |table: &TableMetadata| {
            let core = &table.core;
            (
                core.current_schema_id,
                core.default_spec_id,
                core.default_sort_order_id,
            )
        };
        if self.base.is_some_and(|base| ids(base) == ids(&self.table)) {
            return Ok(());
        }
        let fields = self.current_fields()?;
        let core = &self.table.core;
        self.table.default_spec().validate_sources(&fields)?;
        if let Some(order) = self.table.sort_orders.get(&core.default_sort_order_id) {
            order.validate(&fields, core.format_version)?;
        }
        Ok(())
    }

    /// Readers refuse a document whose time runs backwards by more than a minute.
    ///
    /// Times of the table that no clock has reached come from a time when one was ahead. A snapshot of
    /// today is compared with today instead: the table's own times never fall, and the log entry of
    /// the snapshot is moved up to the one before it.
    fn check_times(&mut self, previous: Option<&MetadataLogEntry>) -> Result<(), InvalidUpdate> {
        let core = &self.table.core;
        let floor_ms = core.last_updated_ms;
        let timestamp_ms = self.updated_ms.unwrap_or(self.now_ms.max(floor_ms));
        let clock_ms = self.clock_ms;
        let is_before = |last_ms: i64| {
            let reached_ms = last_ms.min(clock_ms);
            timestamp_ms < reached_ms.saturating_sub(MAX_CLOCK_SKEW_MS)
        };
        if let Some((_, last)) = self.table.snapshot_log.entries().last() {
            let last_ms = last.timestamp_ms;
            if self.updated_ms.is_some() && is_before(last_ms) {
                return Err(InvalidUpdate::BeforeSnapshotLog {
                    timestamp_ms,
                    last_ms,
                });
            }
        }
        let last_ms = previous.map_or(floor_ms, |previous| previous.timestamp_ms);
        if self.updated_ms.is_some() && self.base.is_some() && is_before(last_ms) {
            return Err(InvalidUpdate::BeforeMetadataLog {
                timestamp_ms,
                last_ms,
            });
        }
        self.table.core.last_updated_ms = timestamp_ms.max(floor_ms);
        Ok(())
    }

    /// Appends the moves of `main` and cuts the log at removed snapshots.
    ///
    /// A snapshot that this commit added and already replaced was never visible: it is left out.
    /// History before a removed snapshot goes too, because a gap would make time travel answer
    /// with a snapshot that was not current then.
    fn write_snapshot_log(&mut self) -> Result<(), InvalidUpdate> {
        let current = self.table.core.current_snapshot_id;
        let is_intermediate = |entry: &SnapshotLogEntry| {
            self.added_ids.contains(&entry.snapshot_id) && Some(entry.snapshot_id) != current
        };
        let has_removed = !self.removed_ids.is_empty();
        let has_intermediate = self.moves.iter().any(is_intermediate);
        let mut cut = has_removed.then(|| self.log_cut()).flatten();
        let mut entries: Vec<SnapshotLogEntry> = Vec::new();
        for entry in &self.moves {
            if !self.table.snapshots.contains(&entry.snapshot_id) {
                entries.clear();
                cut = self
                    .table
                    .snapshot_log
                    .entries()
                    .last()
                    .map(|(ordinal, _)| ordinal);
            } else if !is_intermediate(entry) {
                entries.push(entry.clone());
            }
        }
        let was_consistent = self.base.is_none_or(log_ends_with_current);
        while let (Some(cut), Some((first, _))) = (cut, self.table.snapshot_log.entries().first()) {
            if first > cut {
                break;
            }
            self.table.snapshot_log.remove(first);
            self.touched.insert((Section::SnapshotLog, first));
        }
        for mut entry in entries {
            if let Some((_, last)) = self.table.snapshot_log.entries().last() {
                let last_ms = last.timestamp_ms;
                if entry.timestamp_ms < last_ms.saturating_sub(MAX_CLOCK_SKEW_MS) {
                    entry = SnapshotLogEntry::new(last_ms, entry.snapshot_id);
                }
            }
            let ordinal = self.table.snapshot_log.push(entry);
            self.touched.insert((Section::SnapshotLog, ordinal));
        }
        let is_checked = was_consistent && (has_removed || has_intermediate);
        if is_checked && !log_ends_with_current(&self.table) {
            return Err(InvalidUpdate::InvalidSnapshotLog);
        }
        Ok(())
    }

    /// The newest log entry whose snapshot is gone.
    fn log_cut(&self) -> Option<u64> {
        let log = &self.table.snapshot_log;
        let gone = self
            .removed_ids
            .iter()
            .filter(|id| !self.table.snapshots.contains(*id));
        let removed = gone.filter_map(|id| log.newest_of(*id)).max();
        removed.max(log.newest_dangling(&self.table.snapshots))
    }

    fn write_metadata_log(&mut self, previous: &MetadataLogEntry) {
        let limit = self.table.property(PREVIOUS_VERSIONS_MAX);
        let limit: Option<i64> = limit.and_then(|limit| limit.trim().parse().ok());
        let limit = limit.map_or(PREVIOUS_VERSIONS_MAX_DEFAULT, |limit| {
            usize::try_from(limit.max(1)).unwrap_or(PREVIOUS_VERSIONS_MAX_DEFAULT)
        });
        while self.table.metadata_log.len() >= limit {
            let Some((first, _)) = self.table.metadata_log.first() else {
                break;
            };
            self.table.metadata_log.remove(first);
            self.touched.insert((Section::MetadataLog, first));
        }
        let ordinal = self.table.metadata_log.push(previous.clone());
        self.touched.insert((Section::MetadataLog, ordinal));
    }

    /// The parts that differ from the base; without a base, every part.
    fn changes(&mut self) -> Vec<PartChange> {
        let Some(base) = self.base else {
            let puts = self.table.parts().map(|part| PartChange::Put {
                section: part.section,
                ordinal: part.ordinal,
                json: part.json,
            });
            return puts.collect();
        };
        let derived = [
            (Section::Core, 0),
            (Section::Legacy, 0),
            (Section::Legacy, 1),
        ];
        let touched: BTreeSet<(Section, u64)> =
            self.touched.iter().copied().chain(derived).collect();
        let change = |(section, ordinal): (Section, u64)| {
            let (old, new) = (
                base.part(section, ordinal),
                self.table.part(section, ordinal),
            );
            match new {
                new if new == old => None,
                Some(json) => Some(PartChange::Put {
                    section,
                    ordinal,
                    json,
                }),
                None => Some(PartChange::Remove { section, ordinal }),
            }
        };
        touched.into_iter().filter_map(change).collect()
    }
}

fn log_ends_with_current(table: &TableMetadata) -> bool {
    let Some(current) = table.core.current_snapshot_id else {
        return true;
    };
    table
        .snapshot_log
        .entries()
        .last()
        .is_some_and(|(_, entry)| entry.snapshot_id == current)
}
