//! Reading a whole document, or the parts of one, into [`TableMetadata`].

use std::sync::Arc;

use crate::error::ParseError;
use crate::json::{JsonError, RawJson, RawObject, split_member};
use crate::metadata::{Core, MAX_FORMAT_VERSION, TableMetadata};
use crate::partition::{FieldIds, LAST_UNPARTITIONED_ID, PartitionSpec, ReusableIds};
use crate::schema::Schema;
use crate::section::Section;
use crate::sequence::{Index, Keyed, Sequence};
use crate::snapshot::{
    EncryptionKey, MAIN_BRANCH, Member, MetadataLogEntry, RefKind, Snapshot, SnapshotLogEntry,
    SnapshotRef, StatisticsFile,
};
use crate::sort::SortOrder;

/// Members that are read into fields; every other one is an extra.
const KNOWN: [&str; 26] = [
    "format-version",
    "table-uuid",
    "location",
    "last-sequence-number",
    "last-updated-ms",
    "last-column-id",
    "schema",
    "schemas",
    "current-schema-id",
    "partition-spec",
    "partition-specs",
    "default-spec-id",
    "last-partition-id",
    "sort-orders",
    "default-sort-order-id",
    "properties",
    "current-snapshot-id",
    "snapshots",
    "refs",
    "snapshot-log",
    "metadata-log",
    "statistics",
    "partition-statistics",
    "encryption-keys",
    "next-row-id",
    "row-lineage",
];

impl TableMetadata {
    /// Reads a document (v1, v2 or v3) as any writer made it.
    pub fn parse(text: &[u8]) -> Result<Self, ParseError> {
        let text = std::str::from_utf8(text).map_err(|_| ParseError::NotUtf8)?;
        let document = RawObject::parse(text)?;
        let format_version = read_format_version(&document)?;
        let mut table = TableMetadata::blank(format_version);
        table.read_schemas(&document)?;
        table.read_specs(&document)?;
        table.read_sort_orders(&document)?;
        table.read_collections(&document)?;
        table.core = read_core(&document, &table)?;
        table.read_refs(&document)?;
        for (name, value) in document.members() {
            if !KNOWN.contains(&&**name) {
                table.extras.upsert(Member::extra(name, value));
            }
        }
        table.check_and_finish()
    }

    /// Puts a table together from the parts of its document, in any order.
    pub fn from_parts(
        parts: impl IntoIterator<Item = (Section, u64, Arc<str>)>,
    ) -> Result<Self, ParseError> {
        let mut table = TableMetadata::blank(MAX_FORMAT_VERSION);
        let mut core = None;
        for (section, ordinal, json) in parts {
            match section {
                Section::Core => core = Some(RawObject::parse(&format!("{{{json}}}"))?),
                _ => table.read_part(section, ordinal, json)?,
            }
        }
        let core = core.ok_or(JsonError::MissingField {
            field: "format-version",
        })?;
        table.core.format_version = read_format_version(&core)?;
        table.core = read_core(&core, &table)?;
        table.check_and_finish()
    }

    /// A table without any part, to be filled.
    pub(crate) fn blank(format_version: u8) -> Self {
        Self {
            core: Core {
                format_version,
                table_uuid: None,
                location: "".into(),
                last_sequence_number: 0,
                last_updated_ms: 0,
                last_column_id: 0,
                current_schema_id: 0,
                default_spec_id: 0,
                last_partition_id: LAST_UNPARTITIONED_ID,
                default_sort_order_id: 0,
                current_snapshot_id: None,
                next_row_id: 0,
            },
            core_json: "".into(),
            legacy: Sequence::default(),
            properties: Index::default(),
            schemas: Index::default(),
            specs: Index::default(),
            sort_orders: Index::default(),
            snapshots: Index::default(),
            refs: Index::default(),
            snapshot_log: Default::default(),
            metadata_log: Sequence::default(),
            statistics: Index::default(),
            partition_statistics: Index::default(),
            encryption_keys: Index::default(),
            extras: Index::default(),
        }
    }

    pub(crate) fn read_part(
        &mut self,
        section: Section,
        ordinal: u64,
        json: Arc<str>,
    ) -> Result<(), ParseError> {
        let raw = RawJson::from_rendered(json.clone());
        let fresh = match section {
            Section::Core | Section::Legacy => true,
            Section::Properties => self
                .properties
                .place(ordinal, Member::parse_property(json)?),
            Section::Schemas => self.schemas.place(ordinal, Arc::new(Schema::parse(&raw)?)),
            Section::PartitionSpecs => self
                .specs
                .place(ordinal, Arc::new(PartitionSpec::parse(&raw)?)),
            Section::SortOrders => self
                .sort_orders
                .place(ordinal, Arc::new(SortOrder::parse(&raw)?)),
            Section::Snapshots => self
                .snapshots
                .place(ordinal, Arc::new(Snapshot::parse(&raw)?)),
            Section::Refs => self.refs.place(ordinal, SnapshotRef::parse_member(&json)?),
            Section::SnapshotLog => {
                self.snapshot_log
                    .put(ordinal, SnapshotLogEntry::parse(&raw)?);
                true
            }
            Section::MetadataLog => {
                self.metadata_log
                    .put(ordinal, MetadataLogEntry::parse(&raw)?);
                true
            }
            Section::Statistics => self.statistics.place(ordinal, StatisticsFile::parse(&raw)?),
            Section::PartitionStatistics => self
                .partition_statistics
                .place(ordinal, StatisticsFile::parse(&raw)?),
            Section::EncryptionKeys => self
                .encryption_keys
                .place(ordinal, EncryptionKey::parse(&raw)?),
            Section::Extras => self.extras.place(ordinal, Member::parse_extra(json)?),
        };
        if fresh {
            Ok(())
        } else {
            Err(ParseError::DuplicatePart { section, ordinal })
        }
    }

    fn read_schemas(&mut self, document: &RawObject) -> Result<(), ParseError> {
        let schemas = match document.optional::<Vec<RawJson>>("schemas")? {
            Some(schemas) => schemas,
            None if self.core.format_version > 1 => {
                return Err(JsonError::MissingField { field: "schemas" }.into());
            }
            None => {
                let mut schema = RawObject::parse(
                    document
                        .get("schema")
                        .ok_or(JsonError::MissingField { field: "schema" })?
                        .as_str(),
                )?;
                let schema_id: i32 = schema.optional("schema-id")?.unwrap_or(0);
                schema.set_first("schema-id", RawJson::of(&schema_id));
                vec![schema.render()]
            }
        };
        add_all(&mut self.schemas, schemas, "schemas", |raw| {
            Ok(Arc::new(Schema::parse(raw)?))
        })
    }

    fn read_specs(&mut self, document: &RawObject) -> Result<(), ParseError> {
        if let Some(specs) = document.optional::<Vec<RawJson>>("partition-specs")? {
            return add_all(&mut self.specs, specs, "partition-specs", |raw| {
                // Old v1 writers left the field ids out: they count from 1000 in each spec.
                let spec_id = RawObject::parse(raw.as_str())?.required("spec-id")?;
                let ids = FieldIds {
                    known: &ReusableIds::default(),
                    last: LAST_UNPARTITIONED_ID,
                };
                Ok(Arc::new(PartitionSpec::complete(raw, spec_id, ids)?))
            });
        }
        if self.core.format_version > 1 {
            return Err(JsonError::MissingField {
                field: "partition-specs",
            }
            .into());
        }
        let fields = document
            .get("partition-spec")
            .ok_or(JsonError::MissingField {
                field: "partition-spec",
            })?;
        let mut spec = RawObject::default();
        spec.set("fields", fields.clone());
        let ids = FieldIds {
            known: &ReusableIds::default(),
            last: LAST_UNPARTITIONED_ID,
        };
        self.specs
            .upsert(Arc::new(PartitionSpec::complete(&spec.render(), 0, ids)?));
        Ok(())
    }

    fn read_sort_orders(&mut self, document: &RawObject) -> Result<(), ParseError> {
        match document.optional::<Vec<RawJson>>("sort-orders")? {
            Some(orders) => add_all(&mut self.sort_orders, orders, "sort-orders", |raw| {
                Ok(Arc::new(SortOrder::parse(raw)?))
            }),
            None if self.core.format_version > 1 => Err(JsonError::MissingField {
                field: "sort-orders",
            }
            .into()),
            None => {
                self.sort_orders.upsert(Arc::new(SortOrder::unsorted()));
                Ok(())
            }
        }
    }

    fn read_collections(&mut self, document: &RawObject) -> Result<(), ParseError> {
        let list = |name: &str| {
            document
                .optional::<Vec<RawJson>>(name)
                .map(Option::unwrap_or_default)
        };
        add_all(
            &mut self.snapshots,
            list("snapshots")?,
            "snapshots",
            |raw| Ok(Arc::new(Snapshot::parse(raw)?)),
        )?;
        for raw in list("snapshot-log")? {
            self.snapshot_log.push(SnapshotLogEntry::parse(&raw)?);
        }
        for raw in list("metadata-log")? {
            self.metadata_log.push(MetadataLogEntry::parse(&raw)?);
        }
        // The format allows one file per snapshot; of several, the last one counts.
        for raw in list("statistics")? {
            self.statistics.upsert(StatisticsFile::parse(&raw)?);
        }
        for raw in list("partition-statistics")? {
            self.partition_statistics
                .upsert(StatisticsFile::parse(&raw)?);
        }
        add_all(
            &mut self.encryption_keys,
            list("encryption-keys")?,
            "encryption-keys",
            |raw| Ok(EncryptionKey::parse(raw)?),
        )?;
        if let Some(properties) = document.get("properties") {
            for (name, value) in RawObject::parse(properties.as_str())?.members() {
                let text = crate::json::member(name, value.as_str());
                self.properties.upsert(Member::parse_property(text)?);
            }
        }
        Ok(())
    }

    fn read_refs(&mut self, document: &RawObject) -> Result<(), ParseError> {
        match document.get("refs") {
            Some(refs) => {
                for (name, value) in RawObject::parse(refs.as_str())?.members() {
                    let text = crate::json::member(name, value.as_str());
                    self.refs.upsert(SnapshotRef::parse_member(&text)?);
                }
            }
            None => {
                // Documents from before refs existed: the current snapshot is the main branch.
                if let Some(snapshot_id) = self.core.current_snapshot_id {
                    let mut main = RawObject::default();
                    main.set("snapshot-id", RawJson::of(&snapshot_id));
                    main.set("type", RawJson::of("branch"));
                    self.refs
                        .upsert(SnapshotRef::new(MAIN_BRANCH.into(), &main)?);
                }
            }
        }
        Ok(())
    }

    /// Checks what holds between parts and computes the derived ones.
    /// What is current has to be there.
    pub(crate) fn check_current(&self) -> Result<(), ParseError> {
        let core = &self.core;
        if !self.schemas.contains(&core.current_schema_id) {
            return Err(ParseError::UnknownCurrentSchema {
                schema_id: core.current_schema_id,
            });
        }
        if !self.specs.contains(&core.default_spec_id) {
            return Err(ParseError::UnknownDefaultSpec {
                spec_id: core.default_spec_id,
            });
        }
        if !self.sort_orders.contains(&core.default_sort_order_id) {
            let order_id = core.default_sort_order_id;
            return Err(ParseError::UnknownDefaultSortOrder { order_id });
        }
        Ok(())
    }

    fn check_and_finish(mut self) -> Result<Self, ParseError> {
        self.check_current()?;
        let core = &self.core;
        if core.table_uuid.is_none() && core.format_version > 1 {
            return Err(JsonError::MissingField {
                field: "table-uuid",
            }
            .into());
        }
        for snapshot in self.snapshots.iter() {
            if core.format_version > 1 && snapshot.sequence_number > core.last_sequence_number {
                return Err(ParseError::SequenceNumberTooHigh {
                    sequence_number: snapshot.sequence_number,
                    last_sequence_number: core.last_sequence_number,
                });
            }
        }
        self.check_refs()?;
        self.snapshot_log.find_dangling(&self.snapshots);
        self.refresh();
        Ok(self)
    }

    fn check_refs(&self) -> Result<(), ParseError> {
        let current = self.core.current_snapshot_id;
        if let Some(snapshot_id) = current.filter(|id| !self.snapshots.contains(id)) {
            return Err(ParseError::UnknownCurrentSnapshot { snapshot_id });
        }
        for reference in self.refs.iter() {
            if !self.snapshots.contains(&reference.snapshot_id) {
                return Err(ParseError::UnknownRefSnapshot {
                    name: reference.name.clone(),
                    snapshot_id: reference.snapshot_id,
                });
            }
        }
        match (self.main(), current) {
            (Some(main), _) if main.kind != RefKind::Branch => Err(ParseError::MainIsTag),
            (Some(main), current) if current != Some(main.snapshot_id) => {
                Err(ParseError::MainIsNotCurrent {
                    main: main.snapshot_id,
                    current,
                })
            }
            _ => Ok(()),
        }
    }
}

pub(crate) fn read_format_version(document: &RawObject) -> Result<u8, ParseError> {
    let version: i64 = document.required("format-version")?;
    match u8::try_from(version) {
        Ok(version @ 1..=MAX_FORMAT_VERSION) => Ok(version),
        _ => Err(ParseError::UnsupportedVersion { version }),
    }
}

pub(crate) fn read_core(document: &RawObject, table: &TableMetadata) -> Result<Core, ParseError> {
    let format_version = table.core.format_version;
    // v1 documents from before schema and spec lists lack the ids: take them from the only entry.
    let only_schema = table
        .schemas
        .iter()
        .next()
        .map_or(0, |schema| schema.schema_id);
    let highest_partition_id = table.specs.iter().map(|spec| spec.last_field_id()).max();
    let or_v1 = |name: &'static str, default: i32| match document.optional::<i32>(name)? {
        Some(value) => Ok(value),
        None if format_version == 1 => Ok(default),
        None => Err(JsonError::MissingField { field: name }),
    };
    let location: String = document.required("location")?;
    Ok(Core {
        format_version,
        table_uuid: document.optional("table-uuid")?,
        location: strip_trailing_slashes(&location).into(),
        last_sequence_number: match format_version {
            1 => 0,
            _ => document.required("last-sequence-number")?,
        },
        last_updated_ms: document.required("last-updated-ms")?,
        last_column_id: document.required("last-column-id")?,
        current_schema_id: or_v1("current-schema-id", only_schema)?,
        default_spec_id: or_v1("default-spec-id", 0)?,
        last_partition_id: or_v1(
            "last-partition-id",
            highest_partition_id.unwrap_or(LAST_UNPARTITIONED_ID),
        )?,
        default_sort_order_id: or_v1("default-sort-order-id", 0)?,
        // -1 is how older writers say "none".
        current_snapshot_id: document
            .optional("current-snapshot-id")?
            .filter(|id| *id != -1),
        next_row_id: match format_version {
            3 => document.required("next-row-id")?,
            _ => 0,
        },
    })
}

/// `s3://b/t/` and `s3://b/t` are one location; the root of a scheme keeps its slashes.
pub(crate) fn strip_trailing_slashes(location: &str) -> &str {
    let mut location = location;
    while let Some(shorter) = location.strip_suffix('/') {
        if shorter.ends_with(":/") || shorter.is_empty() {
            break;
        }
        location = shorter;
    }
    location
}

fn add_all<T: Keyed>(
    index: &mut Index<T>,
    items: Vec<RawJson>,
    name: &'static str,
    mut parse: impl FnMut(&RawJson) -> Result<T, ParseError>,
) -> Result<(), ParseError> {
    for (at, raw) in items.iter().enumerate() {
        if !index.place(at as u64, parse(raw)?) {
            return Err(ParseError::DuplicateId {
                list: name,
                position: at,
            });
        }
    }
    Ok(())
}

/// The name of a stored member part, for callers that look at parts one by one.
pub fn part_name(json: &str) -> Result<Arc<str>, JsonError> {
    split_member(json).map(|(name, _)| name)
}
