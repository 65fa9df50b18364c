//! What a request and a table may grow to, and that what is above can shrink.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(
    clippy::too_many_lines,
    reason = "one match over all actions reads best whole"
)]

use floeberg_iceberg::{
    ApplyContext, ApplyError, InvalidUpdate, TableMetadata, TableUpdate, UpdateError, admit_updates,
};
use floeberg_types::limits;
use serde_json::{Value, json};
use std::cell::Cell;

#[path = "workload/mod.rs"]
mod workload;

use workload::START_MS;

fn updates(updates: Value) -> Vec<TableUpdate> {
    serde_json::from_str(&updates.to_string()).unwrap()
}

fn context() -> ApplyContext {
    ApplyContext {
        now_ms: START_MS + 1_000,
        clock_ms: START_MS + 1_000,
        previous: None,
    }
}

fn refused(of: Value) -> Option<String> {
    let updates = updates(json!([of]));
    admit_updates(updates.iter()).err().map(|e| e.to_string())
}

fn columns(count: usize, name: impl Fn(usize) -> String) -> Value {
    let field = |n| json!({"id": n + 1, "name": name(n), "required": false, "type": "long"});
    let fields: Vec<Value> = (0..count).map(field).collect();
    json!({"type": "struct", "fields": fields})
}

fn schema(count: usize) -> Value {
    json!({"action": "add-schema", "schema": columns(count, |n| format!("c{n}"))})
}

fn spec(count: usize) -> Value {
    let field = |n| json!({"source-id": 1, "name": format!("p{n}"), "transform": "identity"});
    let fields: Vec<Value> = (0..count).map(field).collect();
    json!({"action": "add-spec", "spec": {"fields": fields}})
}

fn order(count: usize) -> Value {
    let field = |_| {
        json!({"source-id": 1, "transform": "identity", "direction": "asc",
            "null-order": "nulls-first"})
    };
    let fields: Vec<Value> = (0..count).map(field).collect();
    json!({"action": "add-sort-order", "sort-order": {"fields": fields}})
}

fn properties(count: usize) -> Value {
    let pairs = (0..count).map(|n| (format!("p{n}"), json!("v")));
    json!({"action": "set-properties", "updates": Value::Object(pairs.collect())})
}

/// Makes an update that repeats something so often.
type Repeating = fn(usize) -> Value;

#[test]
fn counts_are_refused_from_one_above_their_limit() {
    let kinds: [(Repeating, usize, &str); 4] = [
        (schema, limits::SCHEMA_FIELDS, "fields of a schema"),
        (spec, limits::PARTITION_FIELDS, "partition spec"),
        (order, limits::SORT_FIELDS, "sort order"),
        (properties, limits::PROPERTIES, "properties of one update"),
    ];
    for (make, limit, what) in kinds {
        assert_eq!(refused(make(limit)), None);
        let text = refused(make(limit + 1)).unwrap();
        assert!(text.contains(what), "{text}");
        assert!(text.contains(&format!("limit of {limit}")), "{text}");
    }
    let uuid = json!({"action": "assign-uuid", "uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1"});
    let uuid: TableUpdate = serde_json::from_str(&uuid.to_string()).unwrap();
    let many = |count| admit_updates(std::iter::repeat_n(&uuid, count));
    assert_eq!(many(limits::UPDATES), Ok(()));
    assert!(many(limits::UPDATES + 1).is_err());
}

#[test]
fn lengths_are_refused_where_they_multiply() {
    let long = "x".repeat(limits::FIELD_NAME_BYTES);
    let named = |name: &str| json!({"action": "add-schema", "schema": columns(1, |_| name.into())});
    assert_eq!(refused(named(&long)), None);
    assert!(
        refused(named(&format!("{long}x")))
            .unwrap()
            .contains("name")
    );

    // The name of an outer field counts again for each of its fields.
    let below = |count| {
        let inner = columns(count, |n| format!("c{n}"));
        let mut outer = columns(1, |_| long.clone());
        outer["fields"][0]["id"] = json!(1_000_000);
        outer["fields"][0]["type"] = inner;
        json!({"action": "add-schema", "schema": outer})
    };
    assert_eq!(refused(below(10_000)), None);
    let text = refused(below(19_000)).unwrap();
    assert!(text.contains("full names"), "{text}");

    let value = |bytes| json!({"action": "set-properties", "updates": {"k": "v".repeat(bytes)}});
    assert_eq!(refused(value(limits::PROPERTY_VALUE_BYTES)), None);
    assert!(refused(value(limits::PROPERTY_VALUE_BYTES + 1)).is_some());
    let tag = |bytes| {
        json!({"action": "set-snapshot-ref", "ref-name": "t".repeat(bytes), "type": "tag",
            "snapshot-id": 1})
    };
    assert_eq!(refused(tag(limits::PROPERTY_NAME_BYTES)), None);
    assert!(refused(tag(limits::PROPERTY_NAME_BYTES + 1)).is_some());
}

/// A table with so many properties of so many bytes, as an earlier version would have let it become.
fn with_properties(count: usize, bytes: usize) -> TableMetadata {
    let mut document = workload::first_version(2);
    let value = "v".repeat(bytes);
    let pairs = (0..count).map(|n| (format!("p{n}"), json!(value)));
    document["properties"] = Value::Object(pairs.collect());
    TableMetadata::parse(document.to_string().as_bytes()).unwrap()
}

fn set(name: &str, bytes: usize) -> Vec<TableUpdate> {
    let value = "w".repeat(bytes);
    updates(json!([{"action": "set-properties", "updates": {name: value}}]))
}

fn remove(name: &str) -> Vec<TableUpdate> {
    updates(json!([{"action": "remove-properties", "removals": [name]}]))
}

#[test]
fn a_table_above_the_limit_of_bytes_can_only_shrink() {
    let mib = 1 << 20;
    let table = with_properties(limits::TABLE_METADATA_BYTES / mib + 1, mib);
    let refused = table.apply(&set("p0", mib + 1), &context()).unwrap_err();
    let UpdateError::Invalid(InvalidUpdate::MetadataTooLarge { part, .. }) = refused else {
        panic!("{refused}");
    };
    assert_eq!(part, "properties");
    assert!(
        refused.to_string().contains("remove some of them"),
        "{refused}"
    );
    assert!(table.apply(&set("new", 1), &context()).is_err());
    // As large as before, smaller, or below the limit at last.
    assert!(table.apply(&set("p0", mib), &context()).unwrap().changed);
    let smaller = table.apply(&remove("p0"), &context()).unwrap().metadata;
    let below = smaller.apply(&remove("p1"), &context()).unwrap().metadata;
    assert!(below.rendered_len() <= limits::TABLE_METADATA_BYTES as u64);
    assert!(below.apply(&set("new", 1), &context()).is_ok());
}

#[test]
fn a_table_above_a_count_can_be_changed_and_shrunk_but_not_grown() {
    let table = with_properties(limits::PROPERTIES + 2, 1);
    let refused = table.apply(&set("new", 1), &context()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "properties of the table: {} are more than the limit of {}; remove some",
            limits::PROPERTIES + 3,
            limits::PROPERTIES
        )
    );
    assert!(table.apply(&set("p0", 2), &context()).unwrap().changed);
    let smaller = table.apply(&remove("p0"), &context()).unwrap().metadata;
    assert_eq!(smaller.properties().count(), limits::PROPERTIES + 1);
}

#[test]
fn a_commit_ends_before_the_next_update_once_nobody_waits() {
    let table = with_properties(1, 1);
    let many: Vec<TableUpdate> = (0..100).flat_map(|n| set(&format!("k{n}"), 1)).collect();
    let asked = Cell::new(0);
    let goes_on = || {
        asked.set(asked.get() + 1);
        asked.get() <= 3
    };
    let ended = table.apply_while(&many, &context(), &goes_on);
    assert_eq!(ended.unwrap_err(), ApplyError::Stopped);
    assert_eq!(asked.get(), 4);
}

#[test]
fn a_permitted_table_is_as_large_as_it_says() {
    let table = with_properties(1, 1);
    let wide = table.apply(&updates(json!([schema(10_000)])), &context());
    assert_eq!(wide.unwrap().metadata.schemas().count(), 2);
}
