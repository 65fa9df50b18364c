//! How large a request and a table may be: what is counted before a commit is decided, and what a
//! table may grow to.
//!
//! Nothing here is checked of what is stored: a table above a limit can be read, changed and shrunk.

use floeberg_types::limits::{self, Exceeded, check};

use crate::error::InvalidUpdate;
use crate::json::{RawJson, RawObject};
use crate::metadata::TableMetadata;
use crate::schema::{Field, check_read_cost};
use crate::section::Section;
use crate::types::{FieldType, NestedType, parse_struct};
use crate::update::TableUpdate;

/// Checks the updates of one request, over all its tables: their number, and what each repeats.
///
/// Updates that cannot be understood pass: applying them says what is wrong.
///
/// # Errors
/// A count or length is above its limit.
pub fn admit_updates<'a>(updates: impl Iterator<Item = &'a TableUpdate>) -> Result<(), Exceeded> {
    let mut count = 0;
    for update in updates {
        count += 1;
        check(
            "updates of one request",
            count,
            limits::UPDATES,
            "send several commits",
        )?;
        admit(update)?;
    }
    Ok(())
}

/// Checks what a new table is described by.
///
/// # Errors
/// A count or length is above its limit.
pub fn admit_create<N: AsRef<str>>(
    schema: &RawJson,
    spec: Option<&RawJson>,
    order: Option<&RawJson>,
    properties: &[(N, N)],
) -> Result<(), Exceeded> {
    admit_schema(schema)?;
    spec.map_or(Ok(()), admit_spec)?;
    order.map_or(Ok(()), admit_order)?;
    let pairs = properties.iter().map(|(n, v)| (n.as_ref(), v.as_ref()));
    admit_properties(properties.len(), pairs)
}

fn admit(update: &TableUpdate) -> Result<(), Exceeded> {
    match update {
        TableUpdate::AddSchema { schema } => admit_schema(schema),
        TableUpdate::AddSpec { spec } => admit_spec(spec),
        TableUpdate::AddSortOrder { sort_order } => admit_order(sort_order),
        TableUpdate::SetProperties { updates } => {
            let pairs = updates.iter().map(|(n, v)| (&**n, &**v));
            admit_properties(updates.len(), pairs)
        }
        TableUpdate::SetSnapshotRef { reference, .. } => admit_name(&reference.name),
        TableUpdate::RemoveProperties { removals } => repeats("removals", removals.len()),
        TableUpdate::RemoveSnapshots { snapshot_ids } => {
            repeats("snapshot-ids", snapshot_ids.len())
        }
        TableUpdate::RemovePartitionSpecs { spec_ids } => repeats("spec-ids", spec_ids.len()),
        TableUpdate::RemoveSchemas { schema_ids } => repeats("schema-ids", schema_ids.len()),
        TableUpdate::AssignUuid { .. }
        | TableUpdate::UpgradeFormatVersion { .. }
        | TableUpdate::SetCurrentSchema { .. }
        | TableUpdate::SetDefaultSpec { .. }
        | TableUpdate::SetDefaultSortOrder { .. }
        | TableUpdate::AddSnapshot { .. }
        | TableUpdate::RemoveSnapshotRef { .. }
        | TableUpdate::SetLocation { .. }
        | TableUpdate::SetStatistics { .. }
        | TableUpdate::RemoveStatistics { .. }
        | TableUpdate::SetPartitionStatistics { .. }
        | TableUpdate::RemovePartitionStatistics { .. }
        | TableUpdate::AddEncryptionKey { .. }
        | TableUpdate::RemoveEncryptionKey { .. } => Ok(()),
    }
}

/// A list inside an update stands for as many updates.
fn repeats(what: &'static str, found: usize) -> Result<(), Exceeded> {
    check(what, found, limits::UPDATES, "send several commits")
}

fn admit_name(name: &str) -> Result<(), Exceeded> {
    check(
        "bytes of the name of a property or ref",
        name.len(),
        limits::PROPERTY_NAME_BYTES,
        "choose a shorter name",
    )
}

fn admit_properties<'a>(
    count: usize,
    properties: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), Exceeded> {
    check(
        "properties of one update",
        count,
        limits::PROPERTIES,
        "a table has no more of them; remove some",
    )?;
    for (name, value) in properties {
        admit_name(name)?;
        check(
            "bytes of the value of a property",
            value.len(),
            limits::PROPERTY_VALUE_BYTES,
            "keep it in a file and name that",
        )?;
    }
    Ok(())
}

/// What the fields of a schema come to.
#[derive(Default)]
struct Extent {
    fields: usize,
    paths: usize,
    longest: usize,
}

impl Extent {
    fn add(&mut self, level: &[Field], above: usize) {
        for field in level {
            let path = above + field.name.len();
            self.fields += 1;
            self.paths += path;
            self.longest = self.longest.max(field.name.len());
            if let FieldType::Nested(
                NestedType::Struct(children)
                | NestedType::List(children)
                | NestedType::Map(children),
            ) = &field.kind
            {
                self.add(children, path + 1);
            }
        }
    }
}

fn admit_schema(raw: &RawJson) -> Result<(), Exceeded> {
    if check_read_cost(raw.as_str()).is_err() {
        return Ok(());
    }
    let Ok(object) = RawObject::parse(raw.as_str()) else {
        return Ok(());
    };
    let Ok(root) = parse_struct(&object) else {
        return Ok(());
    };
    let mut extent = Extent::default();
    extent.add(&root, 0);
    check(
        "fields of a schema, nested ones included",
        extent.fields,
        limits::SCHEMA_FIELDS,
        "split the table",
    )?;
    check(
        "bytes of a field's name",
        extent.longest,
        limits::FIELD_NAME_BYTES,
        "choose a shorter name",
    )?;
    check(
        "bytes of the full names of a schema's fields",
        extent.paths,
        limits::FIELD_PATHS_BYTES,
        "choose shorter names for the outer fields",
    )?;
    let identifiers = object.optional::<Vec<i64>>("identifier-field-ids");
    check(
        "identifier fields of a schema",
        identifiers.ok().flatten().map_or(0, |ids| ids.len()),
        limits::SCHEMA_FIELDS,
        "name each field once",
    )
}

/// How many source columns the fields of a spec or order have, at least one for each field.
fn sources(raw: &RawJson) -> usize {
    let fields = RawObject::parse(raw.as_str())
        .and_then(|object| object.optional::<Vec<RawJson>>("fields"))
        .ok()
        .flatten()
        .unwrap_or_default();
    let of_field = |field: &RawJson| {
        let ids = RawObject::parse(field.as_str())
            .and_then(|field| field.optional::<Vec<RawJson>>("source-ids"));
        ids.ok().flatten().map_or(1, |ids| ids.len().max(1))
    };
    fields.iter().map(of_field).sum()
}

fn admit_spec(raw: &RawJson) -> Result<(), Exceeded> {
    check(
        "source columns of a partition spec",
        sources(raw),
        limits::PARTITION_FIELDS,
        "partition by fewer columns",
    )
}

fn admit_order(raw: &RawJson) -> Result<(), Exceeded> {
    check(
        "source columns of a sort order",
        sources(raw),
        limits::SORT_FIELDS,
        "sort by fewer columns",
    )
}

/// The parts of a table that are counted.
const COUNTED: [(Section, &str, usize, &str); 6] = [
    (
        Section::Snapshots,
        "snapshots of the table",
        limits::SNAPSHOTS,
        "expire snapshots",
    ),
    (
        Section::Refs,
        "branches and tags of the table",
        limits::REFS,
        "remove some",
    ),
    (
        Section::Properties,
        "properties of the table",
        limits::PROPERTIES,
        "remove some",
    ),
    (
        Section::Schemas,
        "schemas of the table",
        limits::SCHEMAS,
        "remove those that no snapshot uses",
    ),
    (
        Section::PartitionSpecs,
        "partition specs of the table",
        limits::PARTITION_SPECS,
        "remove those that no file uses",
    ),
    (
        Section::SortOrders,
        "sort orders of the table",
        limits::SORT_ORDERS,
        "use one of them",
    ),
];

/// What a section's parts are called, and how a table gets rid of them.
fn relief(section: Section) -> (&'static str, &'static str) {
    match section {
        Section::Core | Section::Legacy | Section::Extras => ("other members", "remove them"),
        Section::Properties => ("properties", "remove some of them"),
        Section::Schemas => ("schemas", "remove those that no snapshot uses"),
        Section::PartitionSpecs => ("partition specs", "remove those that no file uses"),
        Section::SortOrders => ("sort orders", "use fewer of them"),
        Section::Snapshots | Section::SnapshotLog => ("snapshots", "expire snapshots"),
        Section::Refs => ("branches and tags", "remove some of them"),
        Section::MetadataLog => (
            "earlier metadata files",
            "lower write.metadata.previous-versions-max",
        ),
        Section::Statistics | Section::PartitionStatistics => {
            ("statistics files", "remove those of old snapshots")
        }
        Section::EncryptionKeys => ("encryption keys", "remove those that are not used"),
    }
}

/// What each commit writes about itself: a commit that shrinks a table may still add to it.
fn is_own(section: Section) -> bool {
    matches!(
        section,
        Section::Core | Section::SnapshotLog | Section::MetadataLog
    )
}

impl TableMetadata {
    /// Whether the table may become this from `base`: what is above its limit may not have grown.
    ///
    /// # Errors
    /// It has grown above a limit.
    pub fn check_growth(&self, base: Option<&TableMetadata>) -> Result<(), InvalidUpdate> {
        for (section, what, limit, advice) in COUNTED {
            let count = |table: &TableMetadata| table.weight(section).0 as usize;
            if count(self) > base.map_or(0, count) {
                check(what, count(self), limit, advice)?;
            }
        }
        let (bytes, limit) = (self.rendered_len(), limits::TABLE_METADATA_BYTES as u64);
        if bytes <= limit {
            return Ok(());
        }
        let grows = |section: &Section| !is_own(*section);
        let chosen = |table: &TableMetadata| {
            let sections = Section::ALL.into_iter().filter(grows);
            sections.map(|section| table.weight(section).1).sum::<u64>()
        };
        if base.is_some_and(|base| chosen(self) <= chosen(base)) {
            return Ok(());
        }
        let weight = |section: &Section| self.weight(*section).1;
        let largest = Section::ALL.into_iter().max_by_key(weight);
        let largest = largest.unwrap_or(Section::Core);
        let (part, advice) = relief(largest);
        Err(InvalidUpdate::MetadataTooLarge {
            bytes,
            limit,
            part,
            part_bytes: weight(&largest),
            advice,
        })
    }
}
