//! Applying a commit's updates to a table: one builder per commit, one version as its result.

mod finish;
mod known;
mod schemas;
mod snapshots;

use std::collections::BTreeSet;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use self::known::Known;
use crate::error::{ApplyError, InvalidUpdate, UpdateError};
use crate::json::{RawJson, canonical};
use crate::metadata::{MAX_FORMAT_VERSION, TableMetadata};
use crate::parse::strip_trailing_slashes;
use crate::section::{PartChange, Section};
use crate::snapshot::{
    EncryptionKey, Member, MetadataLogEntry, Snapshot, SnapshotLogEntry, StatisticsFile,
};
use crate::update::TableUpdate;

/// How far a snapshot's clock may be from the table's, in either direction: readers of the
/// reference implementation refuse documents whose log runs backwards by more than this, so a
/// snapshot further ahead would block every other writer until time catches up.
pub const MAX_CLOCK_SKEW_MS: i64 = 60_000;

/// What a commit needs besides the table and the updates.
#[derive(Debug, Clone)]
pub struct ApplyContext {
    /// Milliseconds since the Unix epoch (log time).
    pub now_ms: i64,
    /// The same by the clock of whoever decides. Log time never falls, so it is ahead of all clocks
    /// for a while after one of them was; a table's times are then, too.
    pub clock_ms: i64,
    /// The metadata file of the base version, for the metadata log; `None` adds no entry.
    pub previous: Option<MetadataLogEntry>,
}

/// A snapshot that a commit added, with what recognises a repeated request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedSnapshot {
    pub snapshot_id: i64,
    pub manifest_list: Option<Arc<str>>,
    /// SHA-256 of the snapshot's canonical JSON: the same for any member order or whitespace.
    pub fingerprint: [u8; 32],
}

/// The outcome of a commit.
#[derive(Debug, Clone)]
pub struct Applied {
    pub metadata: TableMetadata,
    /// The parts that differ from the base, in (section, ordinal) order.
    pub changes: Vec<PartChange>,
    /// False when the updates ask for what is already so: then no new version is to be made.
    pub changed: bool,
    pub added_snapshots: Vec<AddedSnapshot>,
}

/// A version in the making.
pub(crate) struct Builder<'a> {
    base: Option<&'a TableMetadata>,
    pub(crate) table: TableMetadata,
    now_ms: i64,
    clock_ms: i64,
    known: Known,
    touched: BTreeSet<(Section, u64)>,
    last_added_schema: Option<i32>,
    last_added_spec: Option<i32>,
    last_added_order: Option<i32>,
    added: Vec<AddedSnapshot>,
    added_ids: BTreeSet<i64>,
    removed_ids: BTreeSet<i64>,
    /// Entries for the snapshot log, in the order `main` moved.
    moves: Vec<SnapshotLogEntry>,
    /// Set by the first update that has a time of its own.
    updated_ms: Option<i64>,
    /// The highest sequence number that a snapshot of this commit may have.
    sequence_limit: i64,
}

impl TableMetadata {
    /// Applies the updates of one commit in order; either all of them take effect or none.
    ///
    /// Costs O(log n + size of the change) in the number of snapshots and log entries.
    pub fn apply(
        &self,
        updates: &[TableUpdate],
        context: &ApplyContext,
    ) -> Result<Applied, UpdateError> {
        match self.apply_while(updates, context, &|| true) {
            Ok(applied) => Ok(applied),
            Err(ApplyError::Update(error)) => Err(error),
            Err(ApplyError::Stopped) => unreachable!("it always goes on"),
        }
    }

    /// Like [`TableMetadata::apply`], but ends before the next update once nobody waits any more.
    ///
    /// # Errors
    /// An update is wrong, or `goes_on` said no.
    pub fn apply_while(
        &self,
        updates: &[TableUpdate],
        context: &ApplyContext,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Applied, ApplyError> {
        let mut builder = Builder::new(Some(self), self.clone(), context.now_ms);
        builder.clock_ms = context.clock_ms;
        builder.apply_all(updates, goes_on)?;
        Ok(builder.finish(context.previous.as_ref())?)
    }
}

impl AddedSnapshot {
    /// Reads what identifies a snapshot from the payload of an `add-snapshot` update.
    pub fn of(snapshot: &RawJson) -> Result<Self, InvalidUpdate> {
        Ok(Self::new(&Snapshot::parse(snapshot)?))
    }

    fn new(snapshot: &Snapshot) -> Self {
        Self {
            snapshot_id: snapshot.snapshot_id,
            manifest_list: snapshot.manifest_list.clone(),
            fingerprint: fingerprint(snapshot.json()),
        }
    }
}

fn fingerprint(json: &str) -> [u8; 32] {
    let mut form = String::new();
    match serde_json::from_str(json) {
        Ok(value) => canonical(&value, &mut form),
        // A number beyond the value model's range: the text itself still identifies it.
        Err(_) => form.push_str(json),
    }
    Sha256::digest(form.as_bytes()).into()
}

impl<'a> Builder<'a> {
    pub(crate) fn new(base: Option<&'a TableMetadata>, table: TableMetadata, now_ms: i64) -> Self {
        Self {
            base,
            table,
            now_ms,
            clock_ms: now_ms,
            known: Known::default(),
            touched: BTreeSet::new(),
            last_added_schema: None,
            last_added_spec: None,
            last_added_order: None,
            added: Vec::new(),
            added_ids: BTreeSet::new(),
            removed_ids: BTreeSet::new(),
            moves: Vec::new(),
            updated_ms: None,
            sequence_limit: 0,
        }
    }

    /// Applies the updates of a commit in order.
    pub(crate) fn apply_all(
        &mut self,
        updates: &[TableUpdate],
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(), ApplyError> {
        let snapshots = updates
            .iter()
            .filter(|update| matches!(update, TableUpdate::AddSnapshot { .. }))
            .count();
        let snapshots = i64::try_from(snapshots).unwrap_or(i64::MAX);
        let last = self.table.core.last_sequence_number;
        self.sequence_limit = last.saturating_add(snapshots);
        for update in updates {
            if !goes_on() {
                return Err(ApplyError::Stopped);
            }
            self.apply(update)?;
        }
        Ok(())
    }

    fn apply(&mut self, update: &TableUpdate) -> Result<(), UpdateError> {
        match update {
            TableUpdate::AssignUuid { uuid } => self.assign_uuid(uuid)?,
            TableUpdate::UpgradeFormatVersion { format_version } => {
                self.upgrade_format_version(*format_version)?;
            }
            TableUpdate::AddSchema { schema } => self.add_schema(schema)?,
            TableUpdate::SetCurrentSchema { schema_id } => self.set_current_schema(*schema_id)?,
            TableUpdate::AddSpec { spec } => self.add_spec(spec)?,
            TableUpdate::SetDefaultSpec { spec_id } => self.set_default_spec(*spec_id)?,
            TableUpdate::AddSortOrder { sort_order } => self.add_sort_order(sort_order)?,
            TableUpdate::SetDefaultSortOrder { sort_order_id } => {
                self.set_default_sort_order(*sort_order_id)?;
            }
            TableUpdate::AddSnapshot { snapshot } => self.add_snapshot(snapshot)?,
            TableUpdate::SetSnapshotRef { reference, .. } => self.set_ref(reference)?,
            TableUpdate::RemoveSnapshots { snapshot_ids } => self.remove_snapshots(snapshot_ids),
            TableUpdate::RemoveSnapshotRef { ref_name } => self.remove_ref(ref_name),
            TableUpdate::SetLocation { location } => self.set_location(location)?,
            TableUpdate::SetProperties { updates } => self.set_properties(updates),
            TableUpdate::RemoveProperties { removals } => self.remove_properties(removals),
            TableUpdate::SetStatistics { statistics } => self.set_statistics(statistics)?,
            TableUpdate::RemoveStatistics { snapshot_id } => self.remove_statistics(*snapshot_id),
            TableUpdate::SetPartitionStatistics {
                partition_statistics,
            } => {
                self.set_partition_statistics(partition_statistics)?;
            }
            TableUpdate::RemovePartitionStatistics { snapshot_id } => {
                self.remove_partition_statistics(*snapshot_id);
            }
            TableUpdate::RemovePartitionSpecs { spec_ids } => self.remove_specs(spec_ids)?,
            TableUpdate::RemoveSchemas { schema_ids } => self.remove_schemas(schema_ids)?,
            TableUpdate::AddEncryptionKey { encryption_key } => self.add_key(encryption_key)?,
            TableUpdate::RemoveEncryptionKey { key_id } => {
                let removed = self.table.encryption_keys.remove(key_id);
                self.touch(Section::EncryptionKeys, removed);
            }
        }
        Ok(())
    }

    fn touch(&mut self, section: Section, ordinal: Option<u64>) {
        self.touched
            .extend(ordinal.map(|ordinal| (section, ordinal)));
    }

    pub(crate) fn assign_uuid(&mut self, uuid: &Arc<str>) -> Result<(), InvalidUpdate> {
        if uuid::Uuid::try_parse(uuid).is_err() {
            return Err(InvalidUpdate::BadUuid { uuid: uuid.clone() });
        }
        match &self.table.core.table_uuid {
            None => self.table.core.table_uuid = Some(uuid.clone()),
            Some(current) if current.eq_ignore_ascii_case(uuid) => {}
            Some(current) => {
                return Err(InvalidUpdate::ReassignUuid {
                    current: current.clone(),
                    requested: uuid.clone(),
                });
            }
        }
        Ok(())
    }

    fn upgrade_format_version(&mut self, version: i64) -> Result<(), InvalidUpdate> {
        let current = self.table.core.format_version;
        match u8::try_from(version) {
            Ok(version) if version < current => Err(InvalidUpdate::Downgrade {
                current,
                version: version.into(),
            }),
            Ok(version) if version <= MAX_FORMAT_VERSION => {
                self.table.core.format_version = version;
                if current == 1 && version > 1 {
                    self.upgrade_snapshots()
                } else {
                    Ok(())
                }
            }
            Err(_) if version < 0 => Err(InvalidUpdate::Downgrade { current, version }),
            _ => Err(InvalidUpdate::UpgradeTooHigh { version }),
        }
    }

    pub(crate) fn set_location(&mut self, location: &str) -> Result<(), InvalidUpdate> {
        let location = strip_trailing_slashes(location);
        if location.is_empty() {
            return Err(InvalidUpdate::EmptyLocation);
        }
        if &*self.table.core.location != location {
            self.table.core.location = location.into();
        }
        Ok(())
    }

    /// Reserved names are stored as they come, as the reference implementation does at commit.
    pub(crate) fn set_properties(&mut self, updates: &[(Arc<str>, Arc<str>)]) {
        for (name, value) in updates {
            if self.table.property(name) != Some(&**value) {
                let ordinal = self.table.properties.upsert(Member::property(name, value));
                self.touch(Section::Properties, Some(ordinal));
            }
        }
    }

    fn remove_properties(&mut self, names: &[Arc<str>]) {
        for name in names {
            let removed = self.table.properties.remove(name);
            self.touch(Section::Properties, removed);
        }
    }

    fn set_statistics(&mut self, raw: &RawJson) -> Result<(), InvalidUpdate> {
        let ordinal = self.table.statistics.upsert(StatisticsFile::parse(raw)?);
        self.touch(Section::Statistics, Some(ordinal));
        Ok(())
    }

    fn set_partition_statistics(&mut self, raw: &RawJson) -> Result<(), InvalidUpdate> {
        let ordinal = self
            .table
            .partition_statistics
            .upsert(StatisticsFile::parse(raw)?);
        self.touch(Section::PartitionStatistics, Some(ordinal));
        Ok(())
    }

    fn remove_statistics(&mut self, snapshot_id: i64) {
        let removed = self.table.statistics.remove(&snapshot_id);
        self.touch(Section::Statistics, removed);
    }

    fn remove_partition_statistics(&mut self, snapshot_id: i64) {
        let removed = self.table.partition_statistics.remove(&snapshot_id);
        self.touch(Section::PartitionStatistics, removed);
    }

    fn add_key(&mut self, raw: &RawJson) -> Result<(), InvalidUpdate> {
        if self.table.core.format_version < 3 {
            return Err(InvalidUpdate::EncryptionKeysTooEarly);
        }
        let key = EncryptionKey::parse(raw)?;
        // A key never changes under its id: a repeated one is the same key.
        if !self.table.encryption_keys.contains(&key.key_id) {
            let ordinal = self.table.encryption_keys.upsert(key);
            self.touch(Section::EncryptionKeys, Some(ordinal));
        }
        Ok(())
    }
}
