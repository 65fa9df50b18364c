//! The Iceberg parts of `CreateTable`, as the catalog takes them.

use crate::failure::Failure;
use crate::wire::{
    IcebergMetadata, IcebergSchema, IcebergSchemaV2, SchemaField, SchemaV2Field, TableMetadataUnion,
};
use floeberg_iceberg::RawJson;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A schema and what comes with it.
#[derive(Debug)]
pub(crate) struct FirstMetadata {
    pub schema: RawJson,
    pub partition_spec: Option<RawJson>,
    pub sort_order: Option<RawJson>,
    pub properties: Vec<(Arc<str>, Arc<str>)>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Schema {
    r#type: &'static str,
    schema_id: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    identifier_field_ids: Option<Vec<i32>>,
    fields: Vec<SchemaV2Field>,
}

/// The metadata a new table begins with; `None` if the request gives none.
pub(crate) fn first(given: Option<TableMetadataUnion>) -> Result<Option<FirstMetadata>, Failure> {
    let Some(given) = given else { return Ok(None) };
    let given = given
        .iceberg
        .ok_or_else(|| Failure::bad_request("metadata must have the member `iceberg`"))?;
    let IcebergMetadata {
        schema,
        schema_v2,
        partition_spec,
        write_order,
        properties,
    } = given;
    let schema = match (schema, schema_v2) {
        (Some(simple), None) => of_simple(simple)?,
        (None, Some(full)) => of_full(full)?,
        (Some(_), Some(_)) => {
            return Err(Failure::bad_request(
                "give either schema or schemaV2, not both",
            ));
        }
        (None, None) => {
            return Err(Failure::bad_request(
                "metadata.iceberg needs schema or schemaV2",
            ));
        }
    };
    Ok(Some(FirstMetadata {
        schema: RawJson::of(&schema),
        partition_spec: partition_spec.map(|spec| RawJson::of(&spec)),
        sort_order: write_order.map(|order| RawJson::of(&order)),
        properties: properties
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect(),
    }))
}

/// A schema of primitive columns. Columns without an id get the lowest free ones in order, so that
/// a partition spec may count columns from one.
fn of_simple(given: IcebergSchema) -> Result<Schema, Failure> {
    let mut taken = BTreeSet::new();
    for id in given.fields.iter().filter_map(|field| field.id) {
        if !taken.insert(id) {
            return Err(Failure::bad_request(format!(
                "field id {id} is given twice"
            )));
        }
    }
    let mut free = (1..).filter(|id| !taken.contains(id));
    let fields = given
        .fields
        .into_iter()
        .map(
            |SchemaField {
                 id,
                 name,
                 r#type,
                 required,
             }| SchemaV2Field {
                id: id.unwrap_or_else(|| free.next().unwrap_or(i32::MAX)),
                name,
                required: required.unwrap_or(false),
                r#type: RawJson::of(&r#type),
                doc: None,
            },
        )
        .collect();
    Ok(Schema {
        r#type: "struct",
        schema_id: 0,
        identifier_field_ids: None,
        fields,
    })
}

fn of_full(given: IcebergSchemaV2) -> Result<Schema, Failure> {
    if given.r#type != "struct" {
        let text = format!("schemaV2.type must be `struct`, not `{}`", given.r#type);
        return Err(Failure::bad_request(text));
    }
    Ok(Schema {
        r#type: "struct",
        schema_id: given.schema_id.unwrap_or(0),
        identifier_field_ids: given.identifier_field_ids,
        fields: given.fields,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<FirstMetadata>, Failure> {
        first(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn simple_schemas_become_structs_with_ids() {
        let first = parse(
            r#"{"iceberg":{"schema":{"fields":[{"name":"a","type":"int","required":true},
                {"id":1,"name":"b","type":"string"}]},"properties":{"k":"v"}}}"#,
        )
        .unwrap()
        .unwrap();
        assert_eq!(
            first.schema.as_str(),
            r#"{"type":"struct","schema-id":0,"fields":[{"id":2,"name":"a","required":true,"type":"int"},{"id":1,"name":"b","required":false,"type":"string"}]}"#
        );
        assert_eq!(first.properties, [("k".into(), "v".into())]);
    }

    #[test]
    fn full_schemas_specs_and_orders_keep_their_ids() {
        let first = parse(
            r#"{"iceberg":{"schemaV2":{"type":"struct","fields":[{"id":1,"name":"m","required":false,
                "type":{"type":"list","element-id":2,"element":"int","element-required":false}}],
                "identifier-field-ids":[1]},
                "partitionSpec":{"fields":[{"source-id":1,"transform":"identity","name":"p"}]},
                "writeOrder":{"order-id":1,"fields":[{"source-id":1,"transform":"identity",
                "direction":"asc","null-order":"nulls-first"}]}}}"#,
        )
        .unwrap()
        .unwrap();
        assert!(
            first
                .schema
                .as_str()
                .contains(r#""identifier-field-ids":[1]"#)
        );
        assert!(first.schema.as_str().contains(r#""element-id":2"#));
        let spec = first.partition_spec.unwrap();
        assert!(spec.as_str().contains(r#""source-id":1"#), "{spec:?}");
        assert!(
            first
                .sort_order
                .unwrap()
                .as_str()
                .contains(r#""null-order":"nulls-first""#)
        );
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(parse("null").unwrap().is_none());
        for bad in [
            "{}",
            r#"{"iceberg":{}}"#,
            r#"{"iceberg":{"schema":{"fields":[]},"schemaV2":{"type":"struct","fields":[]}}}"#,
            r#"{"iceberg":{"schemaV2":{"type":"list","fields":[]}}}"#,
            r#"{"iceberg":{"schema":{"fields":[{"id":1,"name":"a","type":"int"},{"id":1,"name":"b","type":"int"}]}}}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
