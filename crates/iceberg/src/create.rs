//! New tables: from a create request, or from the updates of a create transaction.

use std::sync::Arc;

use crate::apply::{Applied, Builder};
use crate::error::{ApplyError, InvalidUpdate, UpdateError};
use crate::json::{JsonError, RawJson, RawObject};
use crate::metadata::{DEFAULT_FORMAT_VERSION, MAX_FORMAT_VERSION, TableMetadata};
use crate::partition::{PartitionSpecError, rename_sources};
use crate::schema::{Fields, SchemaError, check_read_cost};
use crate::sort::{SortOrderError, UNSORTED};
use crate::types::FreshIds;
use crate::update::TableUpdate;

/// Properties that steer or describe a table and are never stored by a create request.
pub const RESERVED_PROPERTIES: [&str; 9] = [
    "format-version",
    "uuid",
    "snapshot-count",
    "current-snapshot-summary",
    "current-snapshot-id",
    "current-snapshot-timestamp-ms",
    "current-schema",
    "default-partition-spec",
    "default-sort-order",
];

/// The codec that new tables name explicitly, so that a later change of the default of an
/// engine does not change existing tables.
const PARQUET_CODEC: (&str, &str) = ("write.parquet.compression-codec", "zstd");

/// What a create request asks for.
#[derive(Debug, Clone)]
pub struct NewTable {
    pub uuid: Arc<str>,
    pub location: Arc<str>,
    pub schema: RawJson,
    /// `None` is unpartitioned.
    pub partition_spec: Option<RawJson>,
    /// `None` is unsorted.
    pub sort_order: Option<RawJson>,
    pub properties: Vec<(Arc<str>, Arc<str>)>,
    /// Milliseconds since the Unix epoch (log time).
    pub now_ms: i64,
}

/// What replaying a create transaction needs besides its updates.
#[derive(Debug, Clone)]
pub struct CreateContext {
    /// Milliseconds since the Unix epoch (log time).
    pub now_ms: i64,
    /// Used when no update assigns one.
    pub uuid: Arc<str>,
    /// Used when no update sets one.
    pub location: Arc<str>,
}

impl TableMetadata {
    /// The first version of a new table: fresh field ids from 1 and partition field ids from
    /// 1000, schema and spec id 0, sort order id 1 (0 when unsorted).
    pub fn new_table(new: &NewTable) -> Result<Self, InvalidUpdate> {
        let format_version = requested_version(&new.properties)?;
        let blank = TableMetadata::blank(format_version);
        let mut builder = Builder::new(None, blank, new.now_ms);
        builder.assign_uuid(&new.uuid)?;
        builder.set_location(&new.location)?;

        let (schema, ids) = fresh_schema(&new.schema)?;
        builder.add_schema(&schema)?;
        // Not derived from the schema: nested fields may leave the highest id elsewhere.
        builder.table.core.last_column_id = ids.last();
        let spec = match &new.partition_spec {
            Some(spec) => fresh_spec(spec, &ids)?,
            None => RawJson::parse(r#"{"fields":[]}"#)?,
        };
        builder.add_spec(&spec)?;
        let order = match &new.sort_order {
            Some(order) => fresh_sort_order(order, &ids)?,
            None => RawJson::parse(UNSORTED)?,
        };
        builder.add_sort_order(&order)?;
        builder.set_default_sort_order(-1)?;
        builder.set_properties(&stored_properties(&new.properties));
        match builder.finish(None) {
            Ok(applied) => Ok(applied.metadata),
            Err(UpdateError::Invalid(error)) => Err(error),
            Err(UpdateError::Stale(_)) => unreachable!("a new table has no snapshot to be stale"),
        }
    }

    /// Replays the updates of a create transaction (its first requirement is `assert-create`)
    /// on nothing; ids stay as the client's staged copy has them.
    pub fn create_from_updates(
        updates: &[TableUpdate],
        context: &CreateContext,
    ) -> Result<Applied, UpdateError> {
        match Self::create_while(updates, context, &|| true) {
            Ok(applied) => Ok(applied),
            Err(ApplyError::Update(error)) => Err(error),
            Err(ApplyError::Stopped) => unreachable!("it always goes on"),
        }
    }

    /// Like [`TableMetadata::create_from_updates`], but ends before the next update once nobody
    /// waits any more.
    ///
    /// # Errors
    /// An update is wrong, or `goes_on` said no.
    pub fn create_while(
        updates: &[TableUpdate],
        context: &CreateContext,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Applied, ApplyError> {
        let requested = updates.iter().find_map(|update| match update {
            TableUpdate::UpgradeFormatVersion { format_version } => Some(*format_version),
            _ => None,
        });
        let format_version = match requested {
            None => DEFAULT_FORMAT_VERSION,
            Some(version) => supported_version(version).map_err(UpdateError::from)?,
        };
        let blank = TableMetadata::blank(format_version);
        let mut builder = Builder::new(None, blank, context.now_ms);
        builder.apply_all(updates, goes_on)?;
        if builder.table.core.table_uuid.is_none() {
            let assigned = builder.assign_uuid(&context.uuid);
            assigned.map_err(UpdateError::from)?;
        }
        if builder.table.core.location.is_empty() {
            let set = builder.set_location(&context.location);
            set.map_err(UpdateError::from)?;
        }
        Ok(builder.finish(None)?)
    }
}

fn supported_version(version: i64) -> Result<u8, InvalidUpdate> {
    match u8::try_from(version) {
        Ok(version @ 1..=MAX_FORMAT_VERSION) => Ok(version),
        _ => Err(InvalidUpdate::UnsupportedVersion { version }),
    }
}

fn requested_version(properties: &[(Arc<str>, Arc<str>)]) -> Result<u8, InvalidUpdate> {
    match properties
        .iter()
        .rev()
        .find(|(name, _)| &**name == "format-version")
    {
        None => Ok(DEFAULT_FORMAT_VERSION),
        Some((_, text)) => {
            let version = text.trim().parse();
            let text = text.clone();
            supported_version(version.map_err(|_| InvalidUpdate::FormatVersionNotANumber { text })?)
        }
    }
}

/// The given properties without reserved ones, after the defaults of new tables.
fn stored_properties(given: &[(Arc<str>, Arc<str>)]) -> Vec<(Arc<str>, Arc<str>)> {
    let (name, value) = PARQUET_CODEC;
    let mut stored: Vec<(Arc<str>, Arc<str>)> = vec![(name.into(), value.into())];
    let allowed = given
        .iter()
        .filter(|(name, _)| !RESERVED_PROPERTIES.contains(&&**name));
    stored.extend(allowed.cloned());
    stored
}

fn fresh_schema(raw: &RawJson) -> Result<(RawJson, FreshIds), InvalidUpdate> {
    check_read_cost(raw.as_str())?;
    let mut object = RawObject::parse(raw.as_str()).map_err(InvalidUpdate::from)?;
    // Refuses what is no schema in the words of the client's own ids.
    Fields::parse(&object)?;
    let mut ids = FreshIds::new();
    ids.assign_struct(&mut object)?;
    object.set_first("schema-id", RawJson::of(&0));
    let identifiers: Vec<i32> = object.optional("identifier-field-ids")?.unwrap_or_default();
    if !identifiers.is_empty() {
        let rename = |id: &i32| {
            ids.of(*id)
                .ok_or(SchemaError::IdentifierMissing { id: *id })
        };
        let renamed = identifiers
            .iter()
            .map(rename)
            .collect::<Result<Vec<i32>, _>>()?;
        object.set("identifier-field-ids", RawJson::of(&renamed));
    }
    Ok((object.render(), ids))
}

fn fresh_spec(raw: &RawJson, ids: &FreshIds) -> Result<RawJson, InvalidUpdate> {
    let mut object = RawObject::parse(raw.as_str())?;
    let fields = renamed_fields(&object, ids)?.map_err(|(field, source_id)| {
        let text = |name: &str| field.optional::<Arc<str>>(name).ok().flatten();
        PartitionSpecError::MissingSource {
            name: text("name").unwrap_or_default(),
            transform: text("transform").unwrap_or_default(),
            source_id,
        }
    })?;
    let mut next_id = crate::partition::LAST_UNPARTITIONED_ID;
    let mut numbered = Vec::with_capacity(fields.len());
    for mut field in fields {
        next_id += 1;
        field.set("field-id", RawJson::of(&next_id));
        numbered.push(field.render());
    }
    object.set("fields", RawJson::of(&numbered));
    object.set_first("spec-id", RawJson::of(&0));
    Ok(object.render())
}

fn fresh_sort_order(raw: &RawJson, ids: &FreshIds) -> Result<RawJson, InvalidUpdate> {
    let mut object = RawObject::parse(raw.as_str())?;
    let fields = renamed_fields(&object, ids)?.map_err(|(field, source_id)| {
        let transform = field
            .optional("transform")
            .ok()
            .flatten()
            .unwrap_or_default();
        SortOrderError::MissingSource {
            transform,
            source_id,
        }
    })?;
    let fields: Vec<RawJson> = fields.iter().map(RawObject::render).collect();
    if object.optional::<i32>("order-id")? == Some(0) && !fields.is_empty() {
        return Err(SortOrderError::ReservedId.into());
    }
    let order_id = i32::from(!fields.is_empty());
    object.set("fields", RawJson::of(&fields));
    object.set_first("order-id", RawJson::of(&order_id));
    Ok(object.render())
}

/// A field whose source column does not exist.
type MissingSource = (RawObject, i32);

fn renamed_fields(
    object: &RawObject,
    ids: &FreshIds,
) -> Result<Result<Vec<RawObject>, MissingSource>, JsonError> {
    let mut fields = Vec::new();
    for raw in object.required::<Vec<RawJson>>("fields")? {
        let mut field = RawObject::parse(raw.as_str())?;
        crate::partition::source_ids(&field)?;
        if let Err(source_id) = rename_sources(&mut field, ids) {
            return Ok(Err((field, source_id)));
        }
        fields.push(field);
    }
    Ok(Ok(fields))
}
