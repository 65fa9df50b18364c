//! Schemas: the field tree, its validation, and equality that ignores the schema id.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use serde_json::Value;

use crate::json::{JsonError, RawJson, RawObject, canonical, nesting};
use crate::sequence::{Fragment, Keyed};
use crate::types::{FieldType, NestedType, TypeError};

/// One schema of a table. The field tree is parsed on demand by [`Schema::fields`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    pub schema_id: i32,
    pub highest_field_id: i32,
    fingerprint: u64,
    json: Arc<str>,
}

/// A field of a struct, with everything the checks need.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub id: i32,
    pub name: Arc<str>,
    pub required: bool,
    pub kind: FieldType,
    /// Text of a non-null `initial-default`.
    pub initial_default: Option<Arc<str>>,
}

/// A field as found by id anywhere in the tree.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FieldInfo {
    pub full_name: String,
    pub required: bool,
    /// `None` for struct, list and map.
    pub primitive: Option<Arc<str>>,
    pub initial_default: Option<Arc<str>>,
    pub parent: Option<i32>,
    /// Whether the children of this field are reached through a struct (and not a list or map).
    pub is_struct: bool,
}

/// The fields of a schema by id, plus its identifier fields.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fields {
    pub by_id: BTreeMap<i32, FieldInfo>,
    pub top_level: BTreeMap<Arc<str>, i32>,
    pub full_names: BTreeMap<String, i32>,
    pub identifiers: Vec<i32>,
}

/// A schema that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error("Invalid schema: {0}")]
    Json(#[from] JsonError),
    #[error("Invalid schema: {0}")]
    Type(#[from] TypeError),
    #[error("Invalid schema: multiple fields for name {name}: {first} and {second}")]
    DuplicateName {
        name: Arc<str>,
        first: i32,
        second: i32,
    },
    #[error("Invalid schema: field id {id} is used by both {first} and {second}")]
    DuplicateId {
        id: i32,
        first: Arc<str>,
        second: Arc<str>,
    },
    #[error("Invalid schema: field id {id} of {name} is negative")]
    NegativeId { id: i32, name: Arc<str> },
    #[error("Cannot create required field with unknown type: {name}")]
    RequiredUnknown { name: Arc<str> },
    #[error("Cannot add fieldId {id} as an identifier field: field does not exist")]
    IdentifierMissing { id: i32 },
    #[error("Cannot add field {name} as an identifier field: not a primitive type field")]
    IdentifierNotPrimitive { name: Arc<str> },
    #[error("Cannot add field {name} as an identifier field: not a required field")]
    IdentifierOptional { name: Arc<str> },
    #[error("Cannot add field {name} as an identifier field: must not be float or double field")]
    IdentifierFloat { name: Arc<str> },
    #[error("Cannot add field {name} as an identifier field: must not be nested in {parent}")]
    IdentifierInCollection { name: Arc<str>, parent: Arc<str> },
    #[error(
        "Cannot add field {name} as an identifier field: \
         must not be nested in an optional field {parent}"
    )]
    IdentifierInOptional { name: Arc<str>, parent: Arc<str> },
    #[error(
        "Invalid schema for v{format_version}:\n- Invalid type for {name}: {kind} \
         is not supported until v{since}"
    )]
    TypeTooNew {
        format_version: u8,
        name: Arc<str>,
        kind: Arc<str>,
        since: u8,
    },
    #[error(
        "Invalid schema for v{format_version}:\n- Invalid initial default for {name}: \
         non-null default ({default}) is not supported until v3"
    )]
    DefaultTooNew {
        format_version: u8,
        name: Arc<str>,
        default: Arc<str>,
    },
    #[error("Invalid schema: too many fields")]
    TooManyFields,
    #[error("Invalid schema: {bytes} bytes nested {depth} levels deep are too much to read")]
    TooLarge { bytes: usize, depth: usize },
}

/// The most bytes of schema text times its nesting: every level of a type is taken apart on its own,
/// so this bounds the work of reading a schema.
const READ_COST_MAX: usize = 64 << 20;

/// Refuses a schema whose text takes too much work to read.
pub(crate) fn check_read_cost(text: &str) -> Result<(), SchemaError> {
    let (bytes, depth) = (text.len(), nesting(text));
    if bytes.saturating_mul(depth) > READ_COST_MAX {
        return Err(SchemaError::TooLarge { bytes, depth });
    }
    Ok(())
}

impl Schema {
    /// Reads a schema that is part of a document; only its shape is checked.
    pub fn parse(raw: &RawJson) -> Result<Self, SchemaError> {
        Self::read(raw).map(|(schema, _)| schema)
    }

    /// Reads a schema and gives its fields along, which take most of the time.
    pub(crate) fn read(raw: &RawJson) -> Result<(Self, Fields), SchemaError> {
        check_read_cost(raw.as_str())?;
        let object = RawObject::parse(raw.as_str())?;
        let fields = Fields::parse(&object)?;
        let schema = Self {
            schema_id: object.optional("schema-id")?.unwrap_or(0),
            highest_field_id: fields.by_id.keys().next_back().copied().unwrap_or(0),
            fingerprint: fingerprint(&same_schema_form(raw)?),
            json: raw.text().clone(),
        };
        Ok((schema, fields))
    }

    /// The schema under another id; everything else keeps its bytes.
    pub(crate) fn with_id(self, schema_id: i32) -> Result<Self, SchemaError> {
        let mut object = RawObject::parse(&self.json)?;
        if object.optional::<i32>("schema-id")? == Some(schema_id) {
            return Ok(self);
        }
        object.set_first("schema-id", RawJson::of(&schema_id));
        let json = object.render().text().clone();
        // What is stored must be readable: the text may have grown.
        check_read_cost(&json)?;
        Ok(Self {
            schema_id,
            json,
            ..self
        })
    }

    /// Equal for schemas that are the same, and hardly ever for others. Only in memory: the hash may
    /// change with the compiler.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The schema's JSON text.
    pub fn json(&self) -> &Arc<str> {
        &self.json
    }

    pub(crate) fn fields(&self) -> Result<Fields, SchemaError> {
        Fields::parse(&RawObject::parse(&self.json)?)
    }

    /// Same columns and identifier fields, whatever the schema id.
    pub(crate) fn same_as(&self, other: &Schema) -> Result<bool, SchemaError> {
        if self.fingerprint != other.fingerprint {
            return Ok(false);
        }
        let form = |schema: &Schema| same_schema_form(&RawJson::from_rendered(schema.json.clone()));
        Ok(form(self)? == form(other)?)
    }
}

impl Fragment for Schema {
    fn json(&self) -> &Arc<str> {
        &self.json
    }
}

impl Keyed for Schema {
    type Key = i32;
    fn key(&self) -> i32 {
        self.schema_id
    }
}

impl FieldInfo {
    fn validate(&self, format_version: u8) -> Result<(), SchemaError> {
        let name = || Arc::from(self.full_name.as_str());
        if let Some(kind) = &self.primitive {
            let since = crate::types::first_version(kind);
            if since > format_version {
                let kind = kind.clone();
                return Err(SchemaError::TypeTooNew {
                    format_version,
                    name: name(),
                    kind,
                    since,
                });
            }
            if &**kind == "unknown" && self.required {
                return Err(SchemaError::RequiredUnknown { name: name() });
            }
        }
        match &self.initial_default {
            Some(default) if format_version < 3 => Err(SchemaError::DefaultTooNew {
                format_version,
                name: name(),
                default: default.clone(),
            }),
            _ => Ok(()),
        }
    }
}

impl Fields {
    /// What a new schema has to satisfy for a table of this format version.
    pub fn validate(&self, format_version: u8) -> Result<(), SchemaError> {
        for info in self.by_id.values() {
            info.validate(format_version)?;
        }
        self.identifiers
            .iter()
            .try_for_each(|id| self.validate_identifier(*id))
    }

    pub fn parse(object: &RawObject) -> Result<Self, SchemaError> {
        let root = crate::types::parse_struct(object)?;
        let mut fields = Fields {
            by_id: BTreeMap::new(),
            top_level: root
                .iter()
                .map(|field| (field.name.clone(), field.id))
                .collect(),
            full_names: BTreeMap::new(),
            identifiers: object.optional("identifier-field-ids")?.unwrap_or_default(),
        };
        fields.index(&root, None, "")?;
        Ok(fields)
    }

    fn index(
        &mut self,
        level: &[Field],
        parent: Option<i32>,
        prefix: &str,
    ) -> Result<(), SchemaError> {
        for field in level {
            let full_name = match prefix {
                "" => field.name.to_string(),
                _ => format!("{prefix}.{}", field.name),
            };
            self.insert(field, parent, &full_name)?;
            let children = match &field.kind {
                FieldType::Primitive(_) => continue,
                FieldType::Nested(NestedType::Struct(children))
                | FieldType::Nested(NestedType::List(children))
                | FieldType::Nested(NestedType::Map(children)) => children,
            };
            self.index(children, Some(field.id), &full_name)?;
        }
        Ok(())
    }

    fn insert(
        &mut self,
        field: &Field,
        parent: Option<i32>,
        full_name: &str,
    ) -> Result<(), SchemaError> {
        let info = FieldInfo {
            full_name: full_name.to_owned(),
            required: field.required,
            primitive: match &field.kind {
                FieldType::Primitive(kind) => Some(kind.clone()),
                FieldType::Nested(_) => None,
            },
            initial_default: field.initial_default.clone(),
            parent,
            is_struct: matches!(field.kind, FieldType::Nested(NestedType::Struct(_))),
        };
        if field.id < 0 {
            return Err(SchemaError::NegativeId {
                id: field.id,
                name: full_name.into(),
            });
        }
        if let Some(first) = self.full_names.insert(full_name.to_owned(), field.id) {
            let name = full_name.into();
            return Err(SchemaError::DuplicateName {
                name,
                first,
                second: field.id,
            });
        }
        if let Some(first) = self.by_id.insert(field.id, info) {
            return Err(SchemaError::DuplicateId {
                id: field.id,
                first: first.full_name.as_str().into(),
                second: full_name.into(),
            });
        }
        Ok(())
    }

    fn validate_identifier(&self, id: i32) -> Result<(), SchemaError> {
        let Some(info) = self.by_id.get(&id) else {
            return Err(SchemaError::IdentifierMissing { id });
        };
        let name: Arc<str> = info.full_name.as_str().into();
        match info.primitive.as_deref() {
            None | Some("variant") => return Err(SchemaError::IdentifierNotPrimitive { name }),
            _ if !info.required => return Err(SchemaError::IdentifierOptional { name }),
            Some("float" | "double") => return Err(SchemaError::IdentifierFloat { name }),
            Some(_) => {}
        }
        let mut above = info.parent;
        while let Some(parent) = above.and_then(|id| self.by_id.get(&id)) {
            let parent_name: Arc<str> = parent.full_name.as_str().into();
            if !parent.is_struct {
                return Err(SchemaError::IdentifierInCollection {
                    name,
                    parent: parent_name,
                });
            }
            if !parent.required {
                return Err(SchemaError::IdentifierInOptional {
                    name,
                    parent: parent_name,
                });
            }
            above = parent.parent;
        }
        Ok(())
    }

    /// Whether every field above `id` is a struct, as partition sources need.
    pub fn only_structs_above(&self, id: i32) -> bool {
        let mut above = self.by_id.get(&id).and_then(|info| info.parent);
        while let Some(parent) = above.and_then(|id| self.by_id.get(&id)) {
            if !parent.is_struct {
                return false;
            }
            above = parent.parent;
        }
        true
    }
}

/// Canonical text of everything that makes two schemas the same.
fn same_schema_form(raw: &RawJson) -> Result<String, SchemaError> {
    let mut value: Value = raw.read()?;
    if let Some(object) = value.as_object_mut() {
        object.remove("schema-id");
        if let Some(Value::Array(ids)) = object.get_mut("identifier-field-ids") {
            ids.sort_by_key(Value::as_i64);
            ids.dedup();
            if ids.is_empty() {
                object.remove("identifier-field-ids");
            }
        }
    }
    normalize_types(&mut value);
    let mut out = String::new();
    canonical(&value, &mut out);
    Ok(out)
}

/// Type names compare without case and inner spaces: `decimal(9, 2)` is `decimal(9,2)`.
fn normalize_types(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (name, member) in object.iter_mut() {
                match (name.as_str(), member) {
                    ("type" | "element" | "key" | "value", Value::String(text)) => {
                        if let Ok(kind) = crate::types::normalize(text) {
                            *text = kind.to_string();
                        }
                    }
                    (_, member) => normalize_types(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(normalize_types),
        _ => {}
    }
}

fn fingerprint(form: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(form.as_bytes());
    hasher.finish()
}
