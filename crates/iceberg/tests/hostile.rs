//! Input that is made to hurt: it must be refused, at a cost that does not explode.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use floeberg_iceberg::{
    ApplyContext, NESTING_MAX, NewTable, RawJson, Schema, TableMetadata, TableUpdate,
};

fn nested_lists(depth: usize, innermost: &str) -> String {
    let list = r#"{"type":"list","element-required":false,"element-id":9,"element":"#;
    format!("{}{innermost}{}", list.repeat(depth), "}".repeat(depth))
}

fn schema(column_type: &str) -> String {
    format!(
        r#"{{"type":"struct","schema-id":0,"fields":[
            {{"id":1,"name":"a","required":false,"type":{column_type}}}]}}"#
    )
}

#[test]
fn deep_values_are_refused_before_they_are_walked() {
    for depth in [NESTING_MAX + 1, 4_000, 200_000] {
        let deep = nested_lists(depth, r#""long""#);
        assert!(RawJson::parse(&deep).is_err());
        let update = format!(r#"{{"action":"add-schema","schema":{}}}"#, schema(&deep));
        let refused = serde_json::from_str::<TableUpdate>(&update).unwrap_err();
        assert!(refused.to_string().contains("nested"), "{refused}");
        let snapshot =
            format!(r#"{{"action":"add-snapshot","snapshot":{{"snapshot-id":1,"x":{deep}}}}}"#);
        assert!(serde_json::from_str::<TableUpdate>(&snapshot).is_err());
        let document = format!(r#"{{"format-version":2,"unknown":{deep}}}"#);
        assert!(TableMetadata::parse(document.as_bytes()).is_err());
    }
}

#[test]
fn brackets_in_texts_are_not_nesting() {
    let text = format!(r#"{{"doc":"{}\"[["}}"#, "[{".repeat(1_000));
    assert!(RawJson::parse(&text).is_ok());
}

#[test]
fn a_schema_that_is_long_and_deep_is_refused_and_a_long_flat_one_is_not() {
    let doc = "x".repeat(1 << 20);
    let field = format!(
        r#"{{"type":"struct","fields":[{{"id":2,"name":"b","type":"long","doc":"{doc}"}}]}}"#
    );
    let deep = RawJson::parse(&schema(&nested_lists(80, &field))).unwrap();
    let refused = Schema::parse(&deep).unwrap_err();
    assert!(
        refused.to_string().contains("too much to read"),
        "{refused}"
    );
    let flat = format!(
        r#"{{"type":"struct","schema-id":0,"fields":[
            {{"id":1,"name":"a","required":false,"type":"long","doc":"{doc}"}}]}}"#
    );
    assert!(Schema::parse(&RawJson::parse(&flat).unwrap()).is_ok());
}
#[test]
fn partition_field_ids_that_run_out_are_refused() {
    let table = table_with_one_column();
    let spec = |fields: &str| {
        let json = format!(r#"{{"action":"add-spec","spec":{{"spec-id":5,"fields":[{fields}]}}}}"#);
        serde_json::from_str::<TableUpdate>(&json).unwrap()
    };
    let last = spec(r#"{"source-id":1,"field-id":2147483647,"name":"p","transform":"identity"}"#);
    let context = ApplyContext {
        now_ms: NOW,
        clock_ms: NOW,
        previous: None,
    };
    let table = table.apply(&[last], &context).unwrap().metadata;
    let next = spec(r#"{"source-id":1,"name":"q","transform":"bucket[4]"}"#);
    let refused = table.apply(&[next], &context).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("no partition field id is left"),
        "{refused}"
    );
}

const NOW: i64 = 1_700_000_000_000;

fn table_with_one_column() -> TableMetadata {
    TableMetadata::new_table(&NewTable {
        uuid: "9c12d441-03fe-4693-9a96-a0705ddf69c1".into(),
        location: "s3://b/t".into(),
        schema: RawJson::parse(&schema(r#""long""#)).unwrap(),
        partition_spec: None,
        sort_order: None,
        properties: Vec::new(),
        now_ms: NOW,
    })
    .unwrap()
}
