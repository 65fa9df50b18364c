//! Sort orders: parsing, binding to a schema, and equality that ignores the order id.

use std::sync::Arc;

use crate::json::{JsonError, RawJson, RawObject};
use crate::partition::source_ids;
use crate::schema::Fields;
use crate::sequence::{Fragment, Keyed};
use crate::transform::{self, TransformError};

/// The text of the order of an unsorted table.
pub(crate) const UNSORTED: &str = r#"{"order-id":0,"fields":[]}"#;

/// One sort order of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortOrder {
    pub order_id: i32,
    pub fields: Vec<SortField>,
    json: Arc<str>,
}

/// One field of an order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SortField {
    pub source_ids: Vec<i32>,
    pub transform: Arc<str>,
    pub direction: Arc<str>,
    pub null_order: Arc<str>,
}

/// A sort order that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SortOrderError {
    #[error("Invalid sort order: {0}")]
    Json(#[from] JsonError),
    #[error("Invalid sort order: {0}")]
    Transform(#[from] TransformError),
    #[error("Invalid sort direction: {direction}")]
    Direction { direction: Arc<str> },
    #[error("Invalid null order: {null_order}")]
    NullOrder { null_order: Arc<str> },
    #[error("Unsorted order ID must be 0")]
    UnsortedId,
    #[error("Sort order ID 0 is reserved for unsorted order")]
    ReservedId,
    #[error("Cannot find source column for sort field: {transform}({source_id})")]
    MissingSource { transform: Arc<str>, source_id: i32 },
    #[error("Cannot sort by non-primitive source field: {source_name}")]
    NestedSource { source_name: Arc<str> },
    #[error("Invalid source type {kind} for transform: {transform}")]
    SourceType { kind: Arc<str>, transform: Arc<str> },
    #[error("source-ids with several columns are not supported until v3")]
    SeveralSources,
}

impl SortOrder {
    /// Reads a sort order.
    pub fn parse(raw: &RawJson) -> Result<Self, SortOrderError> {
        let object = RawObject::parse(raw.as_str())?;
        let mut fields = Vec::new();
        for field in object.required::<Vec<RawJson>>("fields")? {
            let field = RawObject::parse(field.as_str())?;
            let direction: Arc<str> = field.required("direction")?;
            let null_order: Arc<str> = field.required("null-order")?;
            if !matches!(&*direction, "asc" | "desc") {
                return Err(SortOrderError::Direction { direction });
            }
            if !matches!(&*null_order, "nulls-first" | "nulls-last") {
                return Err(SortOrderError::NullOrder { null_order });
            }
            fields.push(SortField {
                source_ids: source_ids(&field)?,
                transform: field.required("transform")?,
                direction,
                null_order,
            });
        }
        let order_id = object.required("order-id")?;
        Ok(Self {
            order_id,
            fields,
            json: raw.text().clone(),
        })
    }

    /// The order of an unsorted table.
    pub(crate) fn unsorted() -> Self {
        Self {
            order_id: 0,
            fields: Vec::new(),
            json: UNSORTED.into(),
        }
    }

    /// An order as a client sends it; the id, when given, must fit the number of fields.
    pub(crate) fn parse_new(raw: &RawJson) -> Result<Self, SortOrderError> {
        let mut object = RawObject::parse(raw.as_str())?;
        let sorted = !object.required::<Vec<RawJson>>("fields")?.is_empty();
        match (object.optional::<i32>("order-id")?, sorted) {
            (Some(0), true) => Err(SortOrderError::ReservedId),
            (Some(id), false) if id != 0 => Err(SortOrderError::UnsortedId),
            (Some(_), _) => Self::parse(raw),
            (None, _) => {
                object.set_first("order-id", RawJson::of(&i32::from(sorted)));
                Self::parse(&object.render())
            }
        }
    }

    /// The order under another id; everything else keeps its bytes.
    pub(crate) fn with_id(&self, order_id: i32) -> Result<Self, SortOrderError> {
        if self.order_id == order_id {
            return Ok(self.clone());
        }
        let mut object = RawObject::parse(&self.json)?;
        object.set_first("order-id", RawJson::of(&order_id));
        Self::parse(&object.render())
    }

    /// The order's JSON text.
    pub fn json(&self) -> &Arc<str> {
        &self.json
    }

    pub(crate) fn is_sorted(&self) -> bool {
        !self.fields.is_empty()
    }

    /// What a sort order has to satisfy against the current schema.
    pub(crate) fn validate(
        &self,
        schema: &Fields,
        format_version: u8,
    ) -> Result<(), SortOrderError> {
        for field in &self.fields {
            transform::check(&field.transform)?;
            if format_version < 3 && field.source_ids.len() > 1 {
                return Err(SortOrderError::SeveralSources);
            }
            for source_id in &field.source_ids {
                let Some(info) = schema.by_id.get(source_id) else {
                    return Err(SortOrderError::MissingSource {
                        transform: field.transform.clone(),
                        source_id: *source_id,
                    });
                };
                let Some(kind) = &info.primitive else {
                    let source_name = info.full_name.as_str().into();
                    return Err(SortOrderError::NestedSource { source_name });
                };
                if !transform::applies_to(&field.transform, kind) {
                    return Err(SortOrderError::SourceType {
                        kind: kind.clone(),
                        transform: field.transform.clone(),
                    });
                }
            }
        }
        Ok(())
    }
}

impl Fragment for SortOrder {
    fn json(&self) -> &Arc<str> {
        &self.json
    }
}

impl Keyed for SortOrder {
    type Key = i32;
    fn key(&self) -> i32 {
        self.order_id
    }
}
