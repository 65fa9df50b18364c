//! Partition specs: parsing, binding to a schema, and equality that ignores ids.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::json::{JsonError, RawJson, RawObject};
use crate::schema::Fields;
use crate::sequence::{Fragment, Keyed};
use crate::transform::{self, TransformError};
use crate::types::FreshIds;

/// The field id below the first partition field's.
pub(crate) const LAST_UNPARTITIONED_ID: i32 = 999;

/// One partition spec of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionSpec {
    pub spec_id: i32,
    pub fields: Vec<PartitionField>,
    json: Arc<str>,
}

/// One field of a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionField {
    pub source_ids: Vec<i32>,
    pub field_id: i32,
    pub name: Arc<str>,
    pub transform: Arc<str>,
}

/// A partition spec that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartitionSpecError {
    #[error("Invalid partition spec: {0}")]
    Json(#[from] JsonError),
    #[error("Invalid partition spec: {0}")]
    Transform(#[from] TransformError),
    #[error("Cannot use empty or null partition name: {name}")]
    EmptyName { name: Arc<str> },
    #[error("Cannot use partition name more than once: {name}")]
    DuplicateName { name: Arc<str> },
    #[error("Cannot use partition field id more than once: {field_id}")]
    DuplicateFieldId { field_id: i32 },
    #[error("Cannot add redundant partition: {first} conflicts with {second}")]
    Redundant { first: Arc<str>, second: Arc<str> },
    #[error("Cannot create identity partition sourced from different field in schema: {name}")]
    IdentityNameConflict { name: Arc<str> },
    #[error("Cannot create partition from name that exists in schema: {name}")]
    NameConflict { name: Arc<str> },
    #[error("Cannot find source column for partition field: {name}: {transform}({source_id})")]
    MissingSource {
        name: Arc<str>,
        transform: Arc<str>,
        source_id: i32,
    },
    #[error("Cannot partition by non-primitive source field: {source_name}")]
    NestedSource { source_name: Arc<str> },
    #[error("Invalid source type {kind} for transform: {transform}")]
    SourceType { kind: Arc<str>, transform: Arc<str> },
    #[error("Invalid partition field parent: {source_name} is inside a list or map")]
    SourceInCollection { source_name: Arc<str> },
    #[error("Spec does not use sequential IDs that are required in v1: {json}")]
    NotSequential { json: Arc<str> },
    #[error("source-ids with several columns are not supported until v3: {name}")]
    SeveralSources { name: Arc<str> },
    #[error("Invalid partition spec: no partition field id is left")]
    TooManyFields,
}

/// The field ids of a table's specs by source and transform, which new specs use again. An id stays
/// as long as a spec has it.
#[derive(Debug, Default)]
pub(crate) struct ReusableIds(BTreeMap<(Vec<i32>, Arc<str>), BTreeMap<i32, usize>>);

impl ReusableIds {
    pub fn add(&mut self, spec: &PartitionSpec) {
        for field in &spec.fields {
            let content = (field.source_ids.clone(), field.transform.clone());
            let ids = self.0.entry(content).or_default();
            *ids.entry(field.field_id).or_default() += 1;
        }
    }

    pub fn remove(&mut self, spec: &PartitionSpec) {
        for field in &spec.fields {
            let content = (field.source_ids.clone(), field.transform.clone());
            let Some(ids) = self.0.get_mut(&content) else {
                continue;
            };
            if let Some(uses) = ids.get_mut(&field.field_id) {
                *uses -= 1;
                if *uses == 0 {
                    ids.remove(&field.field_id);
                }
            }
        }
    }

    /// The highest id of a source and transform.
    fn get(&self, content: &(Vec<i32>, Arc<str>)) -> Option<i32> {
        self.0.get(content)?.keys().next_back().copied()
    }
}

/// How a spec gets the field ids its author left out.
pub(crate) struct FieldIds<'a> {
    /// Ids that are used again for the same source and transform.
    pub known: &'a ReusableIds,
    /// Highest id given out so far.
    pub last: i32,
}

/// The source columns of a field: `source-ids` (several, v3) or `source-id`.
pub(crate) fn source_ids(field: &RawObject) -> Result<Vec<i32>, JsonError> {
    match field.optional::<Vec<i32>>("source-ids")? {
        Some(ids) if !ids.is_empty() => Ok(ids),
        _ => Ok(vec![field.required("source-id")?]),
    }
}

/// Replaces source columns by what they became in a fresh schema.
pub(crate) fn rename_sources(field: &mut RawObject, ids: &FreshIds) -> Result<(), i32> {
    if let Ok(Some(old)) = field.optional::<Vec<i32>>("source-ids") {
        let new = old
            .iter()
            .map(|id| ids.of(*id).ok_or(*id))
            .collect::<Result<Vec<_>, _>>()?;
        field.set("source-ids", RawJson::of(&new));
    }
    if let Ok(Some(old)) = field.optional::<i32>("source-id") {
        field.set("source-id", RawJson::of(&ids.of(old).ok_or(old)?));
    }
    Ok(())
}

impl PartitionSpec {
    /// Reads a spec that is part of a document; every field needs its id, as v1's older lists
    /// do not have (those are completed first, see [`PartitionSpec::complete`]).
    pub fn parse(raw: &RawJson) -> Result<Self, PartitionSpecError> {
        let object = RawObject::parse(raw.as_str())?;
        let mut fields = Vec::new();
        for field in object.required::<Vec<RawJson>>("fields")? {
            let field = RawObject::parse(field.as_str())?;
            fields.push(PartitionField {
                source_ids: source_ids(&field)?,
                field_id: field.required("field-id")?,
                name: field.required("name")?,
                transform: field.required("transform")?,
            });
        }
        let spec_id = object.required("spec-id")?;
        Ok(Self {
            spec_id,
            fields,
            json: raw.text().clone(),
        })
    }

    /// Gives a spec its id and its fields the ids they lack; everything else keeps its bytes.
    pub(crate) fn complete(
        raw: &RawJson,
        spec_id: i32,
        mut ids: FieldIds<'_>,
    ) -> Result<Self, PartitionSpecError> {
        let mut object = RawObject::parse(raw.as_str())?;
        let mut changed = false;
        let mut fields = Vec::new();
        let mut missing = Vec::new();
        for field in object.required::<Vec<RawJson>>("fields")? {
            let field = RawObject::parse(field.as_str())?;
            match field.optional::<i32>("field-id")? {
                Some(id) => ids.last = ids.last.max(id),
                None => missing.push(fields.len()),
            }
            fields.push(field);
        }
        for at in missing {
            let id = ids.assign(&fields[at])?;
            fields[at].set("field-id", RawJson::of(&id));
            changed = true;
        }
        if changed {
            let fields: Vec<RawJson> = fields.iter().map(RawObject::render).collect();
            object.set("fields", RawJson::of(&fields));
        }
        if object.optional::<i32>("spec-id")? != Some(spec_id) {
            object.set_first("spec-id", RawJson::of(&spec_id));
            changed = true;
        }
        if changed {
            Self::parse(&object.render())
        } else {
            Self::parse(raw)
        }
    }

    /// The spec's JSON text.
    pub fn json(&self) -> &Arc<str> {
        &self.json
    }

    /// The text of the `fields` array, which v1 documents repeat as `partition-spec`.
    pub(crate) fn fields_json(&self) -> Result<RawJson, JsonError> {
        RawObject::parse(&self.json)?.required("fields")
    }

    /// Highest field id, or 999.
    pub(crate) fn last_field_id(&self) -> i32 {
        let highest = self.fields.iter().map(|field| field.field_id).max();
        highest
            .unwrap_or(LAST_UNPARTITIONED_ID)
            .max(LAST_UNPARTITIONED_ID)
    }

    /// What a new spec has to satisfy against the current schema.
    pub(crate) fn validate(
        &self,
        schema: &Fields,
        format_version: u8,
    ) -> Result<(), PartitionSpecError> {
        let mut names = BTreeSet::new();
        let mut ids = BTreeSet::new();
        let mut partitions = BTreeMap::new();
        for (at, field) in self.fields.iter().enumerate() {
            transform::check(&field.transform)?;
            let name = || field.name.clone();
            if field.name.is_empty() {
                return Err(PartitionSpecError::EmptyName { name: name() });
            }
            if !names.insert(&field.name) {
                return Err(PartitionSpecError::DuplicateName { name: name() });
            }
            if !ids.insert(field.field_id) {
                return Err(PartitionSpecError::DuplicateFieldId {
                    field_id: field.field_id,
                });
            }
            if format_version == 1 && field.field_id != LAST_UNPARTITIONED_ID + 1 + at as i32 {
                return Err(PartitionSpecError::NotSequential {
                    json: self.json.clone(),
                });
            }
            if format_version < 3 && field.source_ids.len() > 1 {
                return Err(PartitionSpecError::SeveralSources { name: name() });
            }
            field.validate_name(schema)?;
            if transform::is_void(&field.transform) {
                continue;
            }
            let partition = (&field.source_ids, &field.transform);
            if let Some(first) = partitions.insert(partition, &field.name) {
                return Err(PartitionSpecError::Redundant {
                    first: first.clone(),
                    second: name(),
                });
            }
        }
        self.validate_sources(schema)
    }

    /// What the default spec has to satisfy whenever a version is made.
    pub(crate) fn validate_sources(&self, schema: &Fields) -> Result<(), PartitionSpecError> {
        self.fields
            .iter()
            .filter(|field| !transform::is_void(&field.transform))
            .try_for_each(|field| field.validate_sources(schema))
    }
}

impl PartitionField {
    fn validate_name(&self, schema: &Fields) -> Result<(), PartitionSpecError> {
        let Some(column) = schema.top_level.get(&self.name) else {
            return Ok(());
        };
        if transform::is_void(&self.transform) {
            return Ok(());
        }
        match (
            transform::is_identity(&self.transform),
            self.source_ids == [*column],
        ) {
            (true, true) => Ok(()),
            (true, false) => Err(PartitionSpecError::IdentityNameConflict {
                name: self.name.clone(),
            }),
            (false, _) => Err(PartitionSpecError::NameConflict {
                name: self.name.clone(),
            }),
        }
    }

    fn validate_sources(&self, schema: &Fields) -> Result<(), PartitionSpecError> {
        for source_id in &self.source_ids {
            let Some(info) = schema.by_id.get(source_id) else {
                return Err(PartitionSpecError::MissingSource {
                    name: self.name.clone(),
                    transform: self.transform.clone(),
                    source_id: *source_id,
                });
            };
            let source_name: Arc<str> = info.full_name.as_str().into();
            let Some(kind) = &info.primitive else {
                return Err(PartitionSpecError::NestedSource { source_name });
            };
            if !transform::applies_to(&self.transform, kind) {
                return Err(PartitionSpecError::SourceType {
                    kind: kind.clone(),
                    transform: self.transform.clone(),
                });
            }
            if !schema.only_structs_above(*source_id) {
                return Err(PartitionSpecError::SourceInCollection { source_name });
            }
        }
        Ok(())
    }
}

impl FieldIds<'_> {
    /// Uses an id of an older spec again for the same source and transform, else the next one.
    fn assign(&mut self, field: &RawObject) -> Result<i32, PartitionSpecError> {
        let sources = source_ids(field)?;
        let transform: Arc<str> = field.required("transform")?;
        if let Some(id) = self.known.get(&(sources, transform)) {
            return Ok(id);
        }
        self.last = self
            .last
            .checked_add(1)
            .ok_or(PartitionSpecError::TooManyFields)?;
        Ok(self.last)
    }
}

impl Fragment for PartitionSpec {
    fn json(&self) -> &Arc<str> {
        &self.json
    }
}

impl Keyed for PartitionSpec {
    type Key = i32;
    fn key(&self) -> i32 {
        self.spec_id
    }
}
