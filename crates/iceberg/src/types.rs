//! Field types: parsing of the JSON type tree, and assignment of fresh field ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::json::{JsonError, RawJson, RawObject};
use crate::schema::{Field, SchemaError};

/// The type of a field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FieldType {
    /// Normalized name, parameters included. `variant` counts as primitive here.
    Primitive(Arc<str>),
    Nested(NestedType),
}

/// A type with fields below it. Lists have one (`element`), maps two (`key`, `value`).
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NestedType {
    Struct(Vec<Field>),
    List(Vec<Field>),
    Map(Vec<Field>),
}

/// A type that the table format does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TypeError {
    #[error("Cannot parse type string to primitive: {text}")]
    UnknownPrimitive { text: Arc<str> },
    #[error("Cannot parse type of kind {kind}")]
    UnknownNested { kind: Arc<str> },
    #[error("Cannot parse type from json: {json}")]
    NotAType { json: Arc<str> },
    #[error("Decimals with precision larger than 38 are not supported: {precision}")]
    DecimalPrecision { precision: u32 },
}

const PRIMITIVES: [&str; 16] = [
    "boolean",
    "int",
    "long",
    "float",
    "double",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "string",
    "uuid",
    "binary",
    "timestamp_ns",
    "timestamptz_ns",
    "unknown",
    "variant",
];

/// The first format version that has a (normalized) primitive type.
pub(crate) fn first_version(kind: &str) -> u8 {
    match base_name(kind) {
        "timestamp_ns" | "timestamptz_ns" | "unknown" | "variant" | "geometry" | "geography" => 3,
        _ => 1,
    }
}

/// A type name without its parameters.
pub(crate) fn base_name(kind: &str) -> &str {
    kind.split(['(', '[']).next().unwrap_or(kind)
}

/// Checks a primitive type name and gives its normal form.
pub(crate) fn normalize(text: &str) -> Result<Arc<str>, TypeError> {
    let unknown = || TypeError::UnknownPrimitive { text: text.into() };
    let lower = text.trim().to_ascii_lowercase();
    if PRIMITIVES.contains(&lower.as_str()) {
        return Ok(lower.into());
    }
    let (name, rest) = match lower.find(['(', '[']) {
        Some(at) => lower.split_at(at),
        None => (lower.as_str(), ""),
    };
    let compact: String = rest.chars().filter(|c| !c.is_whitespace()).collect();
    match name.trim() {
        "fixed" => {
            let length = compact.strip_prefix('[').and_then(|r| r.strip_suffix(']'));
            let length: u32 = length.and_then(|n| n.parse().ok()).ok_or_else(unknown)?;
            Ok(format!("fixed[{length}]").into())
        }
        "decimal" => {
            let inner = compact.strip_prefix('(').and_then(|r| r.strip_suffix(')'));
            let (p, s) = inner.and_then(|i| i.split_once(',')).ok_or_else(unknown)?;
            let precision: u32 = p.parse().map_err(|_| unknown())?;
            let scale: u32 = s.parse().map_err(|_| unknown())?;
            if precision > 38 {
                return Err(TypeError::DecimalPrecision { precision });
            }
            Ok(format!("decimal({precision},{scale})").into())
        }
        name @ ("geometry" | "geography") => {
            let parameters = text.trim()[name.len()..].trim();
            let bracketed = parameters.starts_with('(') && parameters.ends_with(')');
            if !parameters.is_empty() && !bracketed {
                return Err(unknown());
            }
            Ok(format!("{name}{parameters}").into())
        }
        _ => Err(unknown()),
    }
}

/// The fields of an object `{"type": "struct", "fields": […]}`.
pub(crate) fn parse_struct(object: &RawObject) -> Result<Vec<Field>, SchemaError> {
    let raw: Vec<RawJson> = object.required("fields")?;
    let mut fields = Vec::with_capacity(raw.len());
    for field in &raw {
        let field = RawObject::parse(field.as_str())?;
        let kind = field
            .get("type")
            .ok_or(JsonError::MissingField { field: "type" })?;
        fields.push(Field {
            id: field.required("id")?,
            name: field.required("name")?,
            required: field.required("required")?,
            kind: parse_type(kind)?,
            initial_default: field
                .get("initial-default")
                .map(|value| value.text().clone()),
        });
    }
    Ok(fields)
}

fn parse_type(raw: &RawJson) -> Result<FieldType, SchemaError> {
    if raw.as_str().starts_with('"') {
        return Ok(FieldType::Primitive(normalize(&raw.read::<String>()?)?));
    }
    if !raw.as_str().starts_with('{') {
        return Err(TypeError::NotAType {
            json: raw.text().clone(),
        }
        .into());
    }
    let object = RawObject::parse(raw.as_str())?;
    let kind: String = object.required("type")?;
    let nested = match kind.as_str() {
        "struct" => NestedType::Struct(parse_struct(&object)?),
        "list" => NestedType::List(vec![Field {
            id: object.required("element-id")?,
            name: "element".into(),
            required: object.required("element-required")?,
            kind: parse_type(type_member(&object, "element")?)?,
            initial_default: None,
        }]),
        "map" => NestedType::Map(vec![
            Field {
                id: object.required("key-id")?,
                name: "key".into(),
                required: true,
                kind: parse_type(type_member(&object, "key")?)?,
                initial_default: None,
            },
            Field {
                id: object.required("value-id")?,
                name: "value".into(),
                required: object.required("value-required")?,
                kind: parse_type(type_member(&object, "value")?)?,
                initial_default: None,
            },
        ]),
        // A primitive may also come as an object of one member, as `variant` does.
        _ if object.members().len() == 1 => {
            return Ok(FieldType::Primitive(normalize(&kind)?));
        }
        _ => return Err(TypeError::UnknownNested { kind: kind.into() }.into()),
    };
    Ok(FieldType::Nested(nested))
}

fn type_member<'a>(object: &'a RawObject, name: &'static str) -> Result<&'a RawJson, JsonError> {
    object
        .get(name)
        .ok_or(JsonError::MissingField { field: name })
}

/// Field ids given out afresh, and what each old id became.
#[derive(Debug)]
pub(crate) struct FreshIds {
    last: i32,
    renamed: BTreeMap<i32, i32>,
}

impl FreshIds {
    /// Ids start at 1.
    pub fn new() -> Self {
        Self {
            last: 0,
            renamed: BTreeMap::new(),
        }
    }

    pub fn last(&self) -> i32 {
        self.last
    }

    /// The new id of an old one.
    pub fn of(&self, old: i32) -> Option<i32> {
        self.renamed.get(&old).copied()
    }

    fn assign(&mut self, object: &mut RawObject, name: &'static str) -> Result<(), SchemaError> {
        let old: i32 = object.required(name)?;
        self.last = self.last.checked_add(1).ok_or(SchemaError::TooManyFields)?;
        self.renamed.insert(old, self.last);
        object.set(name, RawJson::of(&self.last));
        Ok(())
    }

    /// Renumbers the fields of a struct: all of one level first, then each field's type in turn,
    /// which is the order the reference implementation uses.
    pub fn assign_struct(&mut self, object: &mut RawObject) -> Result<(), SchemaError> {
        let raw: Vec<RawJson> = object.required("fields")?;
        let mut fields = raw
            .iter()
            .map(|f| RawObject::parse(f.as_str()))
            .collect::<Result<Vec<_>, _>>()?;
        for field in &mut fields {
            self.assign(field, "id")?;
        }
        for field in &mut fields {
            self.assign_member(field, "type")?;
        }
        let fields: Vec<RawJson> = fields.iter().map(RawObject::render).collect();
        object.set("fields", RawJson::of(&fields));
        Ok(())
    }

    fn assign_member(&mut self, owner: &mut RawObject, name: &str) -> Result<(), SchemaError> {
        let Some(raw) = owner.get(name).filter(|raw| raw.as_str().starts_with('{')) else {
            return Ok(());
        };
        let mut nested = RawObject::parse(raw.as_str())?;
        match nested.required::<String>("type")?.as_str() {
            "struct" => self.assign_struct(&mut nested)?,
            "list" => {
                self.assign(&mut nested, "element-id")?;
                self.assign_member(&mut nested, "element")?;
            }
            "map" => {
                self.assign(&mut nested, "key-id")?;
                self.assign(&mut nested, "value-id")?;
                self.assign_member(&mut nested, "key")?;
                self.assign_member(&mut nested, "value")?;
            }
            _ => return Ok(()),
        }
        owner.set(name, nested.render());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_names_have_a_normal_form() {
        assert_eq!(&*normalize("decimal(9, 2)").unwrap(), "decimal(9,2)");
        assert_eq!(&*normalize("Fixed[ 16 ]").unwrap(), "fixed[16]");
        assert_eq!(
            &*normalize("geometry(OGC:CRS84)").unwrap(),
            "geometry(OGC:CRS84)"
        );
        assert_eq!(
            normalize("decimal(39,1)").unwrap_err().to_string(),
            "Decimals with precision larger than 38 are not supported: 39"
        );
        assert_eq!(
            normalize("text").unwrap_err().to_string(),
            "Cannot parse type string to primitive: text"
        );
    }

    #[test]
    fn fresh_ids_go_level_by_level() {
        let text = r#"{"type":"struct","fields":[
            {"id":9,"name":"a","required":true,"type":{"type":"map","key-id":20,"key":"string",
             "value-id":21,"value":{"type":"struct","fields":[
                {"id":30,"name":"x","required":false,"type":"int"}]},"value-required":false}},
            {"id":4,"name":"b","required":true,"type":{"type":"list","element-id":7,
             "element":"long","element-required":true}},
            {"id":5,"name":"c","required":false,"type":"double","initial-default":1.10}]}"#;
        let mut object = RawObject::parse(text).unwrap();
        let mut ids = FreshIds::new();
        ids.assign_struct(&mut object).unwrap();
        let renamed: Vec<_> = [9, 4, 5, 20, 21, 30, 7]
            .map(|old| ids.of(old).unwrap())
            .into();
        assert_eq!(renamed, vec![1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(ids.last(), 7);
        assert!(
            object
                .render()
                .as_str()
                .contains("\"initial-default\":1.10")
        );
    }
}
