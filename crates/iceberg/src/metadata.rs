//! [`TableMetadata`]: one immutable version of a table, cheap to clone, made of document parts.

use std::sync::Arc;

use imbl::OrdMap;

use crate::json::RawJson;
use crate::partition::PartitionSpec;
use crate::schema::Schema;
use crate::section::{Document, END, Part, PartChange, Section};
use crate::sequence::{Fragment, Index, Sequence};
use crate::snapshot::{
    EncryptionKey, MAIN_BRANCH, Member, MetadataLogEntry, Snapshot, SnapshotLogEntry, SnapshotRef,
    StatisticsFile,
};
use crate::sort::SortOrder;

/// Highest table format version this model knows.
pub const MAX_FORMAT_VERSION: u8 = 3;

/// The format version of new tables that do not ask for one.
pub const DEFAULT_FORMAT_VERSION: u8 = 2;

/// The scalar members of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Core {
    pub format_version: u8,
    /// Only v1 documents may lack it.
    pub table_uuid: Option<Arc<str>>,
    pub location: Arc<str>,
    /// 0 in v1, where it is not written.
    pub last_sequence_number: i64,
    /// Milliseconds since the Unix epoch.
    pub last_updated_ms: i64,
    pub last_column_id: i32,
    pub current_schema_id: i32,
    pub default_spec_id: i32,
    pub last_partition_id: i32,
    pub default_sort_order_id: i32,
    pub current_snapshot_id: Option<i64>,
    /// 0 below v3, where it is not written.
    pub next_row_id: i64,
}

/// One version of a table's metadata.
///
/// All collections are persistent: a clone is O(1) and a change costs O(log n).
#[derive(Clone)]
pub struct TableMetadata {
    pub(crate) core: Core,
    pub(crate) core_json: Arc<str>,
    pub(crate) legacy: Sequence<Arc<str>>,
    pub(crate) properties: Index<Member>,
    pub(crate) schemas: Index<Arc<Schema>>,
    pub(crate) specs: Index<Arc<PartitionSpec>>,
    pub(crate) sort_orders: Index<Arc<SortOrder>>,
    pub(crate) snapshots: Index<Arc<Snapshot>>,
    pub(crate) refs: Index<SnapshotRef>,
    pub(crate) snapshot_log: SnapshotLog,
    pub(crate) metadata_log: Sequence<MetadataLogEntry>,
    pub(crate) statistics: Index<StatisticsFile>,
    pub(crate) partition_statistics: Index<StatisticsFile>,
    pub(crate) encryption_keys: Index<EncryptionKey>,
    pub(crate) extras: Index<Member>,
}

/// The snapshot log with an index, so that expiry finds the entries of a snapshot directly.
#[derive(Clone, Default)]
pub(crate) struct SnapshotLog {
    entries: Sequence<SnapshotLogEntry>,
    by_snapshot: OrdMap<(i64, u64), ()>,
    /// Ordinals of entries whose snapshot was already gone when the table was read.
    dangling: OrdMap<u64, i64>,
}

impl Fragment for Arc<str> {
    fn json(&self) -> &Arc<str> {
        self
    }
}

impl SnapshotLog {
    pub fn entries(&self) -> &Sequence<SnapshotLogEntry> {
        &self.entries
    }

    pub fn push(&mut self, entry: SnapshotLogEntry) -> u64 {
        let snapshot_id = entry.snapshot_id;
        let ordinal = self.entries.push(entry);
        self.by_snapshot.insert((snapshot_id, ordinal), ());
        ordinal
    }

    pub fn put(&mut self, ordinal: u64, entry: SnapshotLogEntry) {
        self.by_snapshot.insert((entry.snapshot_id, ordinal), ());
        self.entries.put(ordinal, entry);
    }

    pub fn remove(&mut self, ordinal: u64) {
        if let Some(entry) = self.entries.remove(ordinal) {
            self.by_snapshot.remove(&(entry.snapshot_id, ordinal));
            self.dangling.remove(&ordinal);
        }
    }

    /// The newest entry of a snapshot.
    pub fn newest_of(&self, snapshot_id: i64) -> Option<u64> {
        let (key, ()) = self.by_snapshot.get_prev(&(snapshot_id, u64::MAX))?;
        (key.0 == snapshot_id).then_some(key.1)
    }

    /// The newest entry whose snapshot was gone from the start and still is.
    pub fn newest_dangling(&self, snapshots: &Index<Arc<Snapshot>>) -> Option<u64> {
        let mut gone = self
            .dangling
            .iter()
            .rev()
            .filter(|(_, id)| !snapshots.contains(*id));
        gone.next().map(|(ordinal, _)| *ordinal)
    }

    /// Notes the entries whose snapshot is missing; called once, when a table is read.
    pub fn find_dangling(&mut self, snapshots: &Index<Arc<Snapshot>>) {
        self.dangling = self
            .entries
            .iter()
            .filter(|(_, entry)| !snapshots.contains(&entry.snapshot_id))
            .map(|(ordinal, entry)| (ordinal, entry.snapshot_id))
            .collect();
    }
}

impl Core {
    /// The members' text, in the order the format's own documents use.
    pub(crate) fn render(&self) -> Arc<str> {
        use std::fmt::Write;
        let mut out = format!("\"format-version\":{}", self.format_version);
        let mut string = |name: &str, value: &str| {
            out.push(',');
            out.push_str(&crate::json::member(name, &crate::json::quote(value)));
        };
        if let Some(uuid) = &self.table_uuid {
            string("table-uuid", uuid);
        }
        string("location", &self.location);
        let mut number = |name: &str, value: i64| {
            write!(out, ",\"{name}\":{value}").expect("writing to a string cannot fail");
        };
        if self.format_version > 1 {
            number("last-sequence-number", self.last_sequence_number);
        }
        number("last-updated-ms", self.last_updated_ms);
        number("last-column-id", self.last_column_id.into());
        number("current-schema-id", self.current_schema_id.into());
        number("default-spec-id", self.default_spec_id.into());
        number("last-partition-id", self.last_partition_id.into());
        number("default-sort-order-id", self.default_sort_order_id.into());
        if let Some(snapshot_id) = self.current_snapshot_id {
            number("current-snapshot-id", snapshot_id);
        }
        if self.format_version > 2 {
            number("next-row-id", self.next_row_id);
        }
        out.into()
    }
}

impl TableMetadata {
    /// The scalar members.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// 1, 2 or 3.
    pub fn format_version(&self) -> u8 {
        self.core.format_version
    }

    /// `table-uuid` as its author wrote it; only v1 documents may lack it.
    pub fn uuid(&self) -> Option<&str> {
        self.core.table_uuid.as_deref()
    }

    /// Base location without a trailing slash.
    pub fn location(&self) -> &str {
        &self.core.location
    }

    /// Milliseconds since the Unix epoch of the last change.
    pub fn last_updated_ms(&self) -> i64 {
        self.core.last_updated_ms
    }

    /// Sequence number of the newest commit; 0 in v1.
    pub fn last_sequence_number(&self) -> i64 {
        self.core.last_sequence_number
    }

    /// The snapshot that `main` points at.
    pub fn current_snapshot(&self) -> Option<&Snapshot> {
        self.snapshot(self.core.current_snapshot_id?)
    }

    /// A snapshot by id.
    pub fn snapshot(&self, snapshot_id: i64) -> Option<&Snapshot> {
        self.snapshots.get(&snapshot_id).map(Arc::as_ref)
    }

    /// The snapshots among the parts that a commit writes.
    pub fn written_snapshots<'a>(
        &'a self,
        changes: &'a [PartChange],
    ) -> impl Iterator<Item = &'a Snapshot> {
        changes.iter().filter_map(|change| match change {
            PartChange::Put {
                section: Section::Snapshots,
                ordinal,
                ..
            } => self.snapshots.sequence().get(*ordinal).map(Arc::as_ref),
            _ => None,
        })
    }

    /// All snapshots in document order.
    pub fn snapshots(&self) -> impl Iterator<Item = &Snapshot> {
        self.snapshots.iter().map(Arc::as_ref)
    }

    /// Number of snapshots, in O(1).
    pub fn snapshot_count(&self) -> usize {
        self.snapshots.len()
    }

    /// A branch or tag by name.
    pub fn reference(&self, name: &str) -> Option<&SnapshotRef> {
        self.refs.get(name)
    }

    /// All branches and tags in document order.
    pub fn references(&self) -> impl Iterator<Item = &SnapshotRef> {
        self.refs.iter()
    }

    /// A table property.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(|member| &*member.value)
    }

    /// All table properties in document order.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.properties
            .iter()
            .map(|member| (&*member.name, &*member.value))
    }

    /// A schema by id.
    pub fn schema(&self, schema_id: i32) -> Option<&Schema> {
        self.schemas.get(&schema_id).map(Arc::as_ref)
    }

    /// All schemas in document order.
    pub fn schemas(&self) -> impl Iterator<Item = &Schema> {
        self.schemas.iter().map(Arc::as_ref)
    }

    /// The current schema.
    pub fn current_schema(&self) -> &Schema {
        self.schemas
            .get(&self.core.current_schema_id)
            .expect("checked when the version was made")
    }

    /// A partition spec by id.
    pub fn partition_spec(&self, spec_id: i32) -> Option<&PartitionSpec> {
        self.specs.get(&spec_id).map(Arc::as_ref)
    }

    /// The default partition spec.
    pub fn default_spec(&self) -> &PartitionSpec {
        self.specs
            .get(&self.core.default_spec_id)
            .expect("checked when the version was made")
    }

    /// A sort order by id.
    pub fn sort_order(&self, order_id: i32) -> Option<&SortOrder> {
        self.sort_orders.get(&order_id).map(Arc::as_ref)
    }

    /// When which snapshot became current, oldest first.
    pub fn snapshot_log(&self) -> impl Iterator<Item = &SnapshotLogEntry> {
        self.snapshot_log.entries().iter().map(|(_, entry)| entry)
    }

    /// Earlier metadata files, oldest first.
    pub fn metadata_log(&self) -> impl Iterator<Item = &MetadataLogEntry> {
        self.metadata_log.iter().map(|(_, entry)| entry)
    }

    /// Statistics files in document order.
    pub fn statistics(&self) -> impl Iterator<Item = &StatisticsFile> {
        self.statistics.iter()
    }

    /// Partition statistics files in document order.
    pub fn partition_statistics(&self) -> impl Iterator<Item = &StatisticsFile> {
        self.partition_statistics.iter()
    }

    /// Encryption keys in document order.
    pub fn encryption_keys(&self) -> impl Iterator<Item = &EncryptionKey> {
        self.encryption_keys.iter()
    }

    /// Every part of the document in (section, ordinal) order.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        Section::ALL
            .into_iter()
            .flat_map(|section| self.section_parts(section))
    }

    /// The parts of one section in ordinal order.
    pub fn section_parts(&self, section: Section) -> Box<dyn Iterator<Item = Part> + '_> {
        fn of<T: Fragment>(
            section: Section,
            sequence: &Sequence<T>,
        ) -> Box<dyn Iterator<Item = Part> + '_> {
            Box::new(sequence.iter().map(move |(ordinal, item)| Part {
                section,
                ordinal,
                json: item.json().clone(),
            }))
        }
        match section {
            Section::Core => Box::new(std::iter::once(Part {
                section,
                ordinal: 0,
                json: self.core_json.clone(),
            })),
            Section::Legacy => of(section, &self.legacy),
            Section::Properties => of(section, self.properties.sequence()),
            Section::Schemas => of(section, self.schemas.sequence()),
            Section::PartitionSpecs => of(section, self.specs.sequence()),
            Section::SortOrders => of(section, self.sort_orders.sequence()),
            Section::Snapshots => of(section, self.snapshots.sequence()),
            Section::Refs => of(section, self.refs.sequence()),
            Section::SnapshotLog => of(section, self.snapshot_log.entries()),
            Section::MetadataLog => of(section, &self.metadata_log),
            Section::Statistics => of(section, self.statistics.sequence()),
            Section::PartitionStatistics => of(section, self.partition_statistics.sequence()),
            Section::EncryptionKeys => of(section, self.encryption_keys.sequence()),
            Section::Extras => of(section, self.extras.sequence()),
        }
    }

    /// The text of one part.
    pub fn part(&self, section: Section, ordinal: u64) -> Option<Arc<str>> {
        fn of<T: Fragment>(sequence: &Sequence<T>, ordinal: u64) -> Option<Arc<str>> {
            sequence.get(ordinal).map(|item| item.json().clone())
        }
        match section {
            Section::Core => (ordinal == 0).then(|| self.core_json.clone()),
            Section::Legacy => of(&self.legacy, ordinal),
            Section::Properties => of(self.properties.sequence(), ordinal),
            Section::Schemas => of(self.schemas.sequence(), ordinal),
            Section::PartitionSpecs => of(self.specs.sequence(), ordinal),
            Section::SortOrders => of(self.sort_orders.sequence(), ordinal),
            Section::Snapshots => of(self.snapshots.sequence(), ordinal),
            Section::Refs => of(self.refs.sequence(), ordinal),
            Section::SnapshotLog => of(self.snapshot_log.entries(), ordinal),
            Section::MetadataLog => of(&self.metadata_log, ordinal),
            Section::Statistics => of(self.statistics.sequence(), ordinal),
            Section::PartitionStatistics => of(self.partition_statistics.sequence(), ordinal),
            Section::EncryptionKeys => of(self.encryption_keys.sequence(), ordinal),
            Section::Extras => of(self.extras.sequence(), ordinal),
        }
    }

    /// Number of parts of a section and their total length in bytes, in O(1).
    pub(crate) fn weight(&self, section: Section) -> (u64, u64) {
        fn of<T: Fragment>(sequence: &Sequence<T>) -> (u64, u64) {
            (sequence.len() as u64, sequence.bytes())
        }
        match section {
            Section::Core => (1, self.core_json.len() as u64),
            Section::Legacy => of(&self.legacy),
            Section::Properties => of(self.properties.sequence()),
            Section::Schemas => of(self.schemas.sequence()),
            Section::PartitionSpecs => of(self.specs.sequence()),
            Section::SortOrders => of(self.sort_orders.sequence()),
            Section::Snapshots => of(self.snapshots.sequence()),
            Section::Refs => of(self.refs.sequence()),
            Section::SnapshotLog => of(self.snapshot_log.entries()),
            Section::MetadataLog => of(&self.metadata_log),
            Section::Statistics => of(self.statistics.sequence()),
            Section::PartitionStatistics => of(self.partition_statistics.sequence()),
            Section::EncryptionKeys => of(self.encryption_keys.sequence()),
            Section::Extras => of(self.extras.sequence()),
        }
    }

    /// The document.
    pub fn render(&self) -> Vec<u8> {
        join(self.parts())
    }

    /// The document with only those snapshots that a branch or tag points at
    /// (`snapshots=refs` of the REST catalog); everything else is unchanged.
    pub fn render_refs_only(&self) -> Vec<u8> {
        let mut kept: Vec<u64> = self
            .refs
            .iter()
            .filter_map(|r| self.snapshots.ordinal(&r.snapshot_id))
            .collect();
        kept.sort_unstable();
        kept.dedup();
        let section = Section::Snapshots;
        let snapshots = kept.into_iter().filter_map(|ordinal| {
            self.part(section, ordinal).map(|json| Part {
                section,
                ordinal,
                json,
            })
        });
        let sections = |wanted: fn(&Section) -> bool| {
            let sections = Section::ALL.into_iter().filter(wanted);
            sections.flat_map(|section| self.section_parts(section))
        };
        let before = sections(|section| *section < Section::Snapshots);
        let after = sections(|section| *section > Section::Snapshots);
        join(before.chain(snapshots).chain(after))
    }

    /// Length of [`TableMetadata::render`] in bytes, in O(number of sections).
    pub fn rendered_len(&self) -> u64 {
        let sections = Section::ALL.into_iter().map(|section| {
            let (count, bytes) = self.weight(section);
            section.rendered_len(count, bytes)
        });
        sections.sum::<u64>() + END.len() as u64
    }

    /// Brings the derived parts (core, v1 legacy members) in line with the fields.
    pub(crate) fn refresh(&mut self) {
        self.core_json = self.core.render();
        if self.core.format_version > 1 {
            self.legacy = Sequence::default();
            return;
        }
        let spec = self
            .default_spec()
            .fields_json()
            .unwrap_or_else(|_| RawJson::of::<[i32]>(&[]));
        let schema = crate::json::member("schema", self.current_schema().json());
        self.legacy.put(0, schema);
        self.legacy
            .put(1, crate::json::member("partition-spec", spec.as_str()));
    }

    /// The ref that is the table's current state.
    pub fn main(&self) -> Option<&SnapshotRef> {
        self.refs.get(MAIN_BRANCH)
    }
}

fn join(parts: impl Iterator<Item = Part>) -> Vec<u8> {
    let mut document = Document::new();
    for part in parts {
        document
            .push(part.section, part.ordinal, part.json.as_bytes())
            .expect("sections and ordinals ascend");
    }
    document.finish()
}

impl PartialEq for TableMetadata {
    fn eq(&self, other: &Self) -> bool {
        self.rendered_len() == other.rendered_len() && self.parts().eq(other.parts())
    }
}

impl Eq for TableMetadata {}

impl std::fmt::Debug for TableMetadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableMetadata")
            .field("core", &self.core)
            .field("snapshots", &self.snapshots.len())
            .finish_non_exhaustive()
    }
}
