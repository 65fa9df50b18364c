//! One test per rule and message of a commit, with updates in the form clients send them.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(
    clippy::too_many_lines,
    reason = "one match over all actions reads best whole"
)]

#[path = "workload/mod.rs"]
mod workload;

use floeberg_iceberg::{
    Applied, ApplyContext, CreateContext, MetadataLogEntry, NewTable, RawJson, TableMetadata,
    TableRequirement, TableUpdate, UpdateError, check,
};
use serde_json::{Value, json};
use workload::START_MS;

fn table(format_version: u8) -> TableMetadata {
    let text = workload::first_version(format_version).to_string();
    TableMetadata::parse(text.as_bytes()).unwrap()
}

fn apply(table: &TableMetadata, updates: Value) -> Result<Applied, UpdateError> {
    apply_at(table, updates, START_MS + 1_000)
}

fn apply_at(table: &TableMetadata, updates: Value, now_ms: i64) -> Result<Applied, UpdateError> {
    let updates: Vec<TableUpdate> = serde_json::from_str(&updates.to_string()).unwrap();
    let previous = MetadataLogEntry::new(table.last_updated_ms(), "s3://b/m/0.metadata.json");
    table.apply(
        &updates,
        &ApplyContext {
            now_ms,
            clock_ms: now_ms,
            previous: Some(previous),
        },
    )
}

fn after(table: &TableMetadata, updates: Value) -> TableMetadata {
    apply(table, updates).unwrap().metadata
}

/// The message of a commit that can never succeed.
fn invalid(table: &TableMetadata, updates: Value) -> String {
    match apply(table, updates) {
        Err(UpdateError::Invalid(error)) => error.to_string(),
        other => panic!("expected an invalid update: {other:?}"),
    }
}

/// The message of a commit that only came too late.
fn stale(table: &TableMetadata, updates: Value) -> String {
    match apply(table, updates) {
        Err(UpdateError::Stale(error)) => error.to_string(),
        other => panic!("expected a stale commit: {other:?}"),
    }
}

fn document(table: &TableMetadata) -> Value {
    serde_json::from_slice(&table.render()).unwrap()
}

fn snapshot(id: i64, sequence_number: i64, parent: Option<i64>) -> Value {
    let mut snapshot = json!({"snapshot-id": id, "sequence-number": sequence_number,
        "timestamp-ms": START_MS + 500, "manifest-list": format!("s3://b/{id}.avro"),
        "summary": {"operation": "append"}, "schema-id": 0});
    if let Some(parent) = parent {
        snapshot["parent-snapshot-id"] = json!(parent);
    }
    snapshot
}

fn add(snapshot: Value) -> Value {
    json!({"action": "add-snapshot", "snapshot": snapshot})
}

fn branch(name: &str, id: i64) -> Value {
    json!({"action": "set-snapshot-ref", "ref-name": name, "type": "branch", "snapshot-id": id})
}

fn append(table: &TableMetadata, id: i64) -> TableMetadata {
    let parent = table.current_snapshot().map(|s| s.snapshot_id);
    let next = table.last_sequence_number() + 1;
    after(
        table,
        json!([add(snapshot(id, next, parent)), branch("main", id)]),
    )
}

#[test]
fn requirement_texts_are_those_of_the_compatibility_kit() {
    let table = after(
        &append(&table(2), 7),
        json!([{"action": "set-snapshot-ref", "ref-name": "t", "type": "tag", "snapshot-id": 7}]),
    );
    let failed = |requirement: Value| {
        let requirement: TableRequirement = serde_json::from_str(&requirement.to_string()).unwrap();
        assert_eq!(
            serde_json::from_str::<TableRequirement>(&serde_json::to_string(&requirement).unwrap())
                .unwrap(),
            requirement
        );
        check(&[requirement], Some(&table)).unwrap_err().to_string()
    };
    let uuid = "9c12d441-03fe-4693-9a96-a0705ddf69c1";
    let cases = [
        (
            json!({"type": "assert-create"}),
            "table already exists".to_owned(),
        ),
        (
            json!({"type": "assert-table-uuid", "uuid": "x"}),
            format!("UUID does not match: expected {uuid} != x"),
        ),
        (
            json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": 5}),
            "branch main has changed: expected id 5 != 7".to_owned(),
        ),
        (
            json!({"type": "assert-ref-snapshot-id", "ref": "t", "snapshot-id": 5}),
            "tag t has changed: expected id 5 != 7".to_owned(),
        ),
        (
            json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": null}),
            "branch main was created concurrently".to_owned(),
        ),
        (
            json!({"type": "assert-ref-snapshot-id", "ref": "gone", "snapshot-id": 5}),
            "branch or tag gone is missing, expected 5".to_owned(),
        ),
        (
            json!({"type": "assert-last-assigned-field-id", "last-assigned-field-id": 5}),
            "last assigned field id changed: expected id 5 != 6".to_owned(),
        ),
        (
            json!({"type": "assert-current-schema-id", "current-schema-id": 5}),
            "current schema changed: expected id 5 != 0".to_owned(),
        ),
        (
            json!({"type": "assert-last-assigned-partition-id", "last-assigned-partition-id": 5}),
            "last assigned partition id changed: expected id 5 != 999".to_owned(),
        ),
        (
            json!({"type": "assert-default-spec-id", "default-spec-id": 5}),
            "default partition spec changed: expected id 5 != 0".to_owned(),
        ),
        (
            json!({"type": "assert-default-sort-order-id", "default-sort-order-id": 5}),
            "default sort order changed: expected id 5 != 0".to_owned(),
        ),
    ];
    for (requirement, text) in cases {
        assert_eq!(failed(requirement), format!("Requirement failed: {text}"));
    }
}

#[test]
fn requirements_that_hold_pass_and_unknown_ones_are_refused() {
    let table = append(&table(2), 7);
    let held: Vec<TableRequirement> = serde_json::from_value::<Vec<Value>>(json!([
        {"type": "assert-table-uuid", "uuid": "9C12D441-03FE-4693-9A96-A0705DDF69C1"},
        {"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": 7},
        {"type": "assert-ref-snapshot-id", "ref": "new", "snapshot-id": null},
        {"type": "assert-ref-snapshot-id", "ref": "new"},
        {"type": "assert-last-assigned-field-id", "last-assigned-field-id": 6},
        {"type": "assert-current-schema-id", "current-schema-id": 0},
        {"type": "assert-last-assigned-partition-id", "last-assigned-partition-id": 999},
        {"type": "assert-default-spec-id", "default-spec-id": 0},
        {"type": "assert-default-sort-order-id", "default-sort-order-id": 0}
    ]))
    .unwrap()
    .iter()
    .map(|value| serde_json::from_str(&value.to_string()).unwrap())
    .collect();
    assert_eq!(check(&held, Some(&table)), Ok(()));
    assert_eq!(check(&[TableRequirement::AssertCreate], None), Ok(()));
    let error = serde_json::from_str::<TableRequirement>(r#"{"type":"assert-luck"}"#).unwrap_err();
    assert!(
        error.to_string().contains("unknown type assert-luck"),
        "{error}"
    );
}

#[test]
fn lost_races_are_stale_and_not_invalid() {
    let v2 = append(&append(&table(2), 1), 2);
    assert_eq!(
        stale(&v2, json!([add(snapshot(3, 2, Some(1)))])),
        "Cannot add snapshot with sequence number 2 older than last sequence number 2"
    );
    let mut late = snapshot(3, 2, None);
    late["first-row-id"] = json!(4);
    late["added-rows"] = json!(1);
    let mut first = snapshot(1, 1, None);
    first["first-row-id"] = json!(0);
    first["added-rows"] = json!(10);
    let v3 = after(&table(3), json!([add(first)]));
    assert_eq!(v3.core().next_row_id, 10);
    assert_eq!(
        stale(&v3, json!([add(late)])),
        "Cannot add a snapshot, first-row-id is behind table next-row-id: 4 < 10"
    );
}

#[test]
fn next_row_id_is_past_every_assigned_id_even_after_a_gap() {
    let mut gap = snapshot(1, 1, None);
    gap["first-row-id"] = json!(100);
    gap["added-rows"] = json!(5);
    assert_eq!(after(&table(3), json!([add(gap)])).core().next_row_id, 105);
    let refused = |field: &str, value: Value| {
        let mut bad = snapshot(1, 1, None);
        bad["first-row-id"] = json!(0);
        bad["added-rows"] = json!(5);
        bad[field] = value;
        invalid(&table(3), json!([add(bad)]))
    };
    assert_eq!(
        refused("first-row-id", Value::Null),
        "Cannot add a snapshot: first-row-id is null"
    );
    assert_eq!(
        refused("added-rows", Value::Null),
        "Invalid added-rows (cannot be null) when first-row-id is set"
    );
    assert_eq!(
        refused("added-rows", json!(-1)),
        "Invalid added-rows (cannot be negative): -1"
    );
    let mut huge = snapshot(1, 1, None);
    huge["first-row-id"] = json!(2);
    huge["added-rows"] = json!(i64::MAX);
    assert!(invalid(&table(3), json!([add(huge)])).contains("too large"));
}

#[test]
fn bad_snapshots_are_refused() {
    let base = append(&table(2), 1);
    assert_eq!(
        invalid(&base, json!([add(snapshot(1, 2, Some(1)))])),
        "Snapshot already exists for id: 1"
    );
    assert_eq!(
        invalid(&base, json!([add(snapshot(-1, 2, Some(1)))])),
        "Invalid snapshot id: -1"
    );
    let without = |name: &str| {
        let mut bad = snapshot(2, 2, Some(1));
        bad.as_object_mut().unwrap().remove(name);
        invalid(&base, json!([add(bad)]))
    };
    assert_eq!(without("manifest-list"), "missing field `manifest-list`");
    assert!(without("summary").contains("summary with an operation is required in v2"));
    assert!(without("timestamp-ms").contains("timestamp-ms"));
    assert_eq!(
        invalid(&table(1), json!([add(snapshot(2, 2, None))])),
        "Sequence number must be 0 in v1: 2"
    );
    assert_eq!(
        invalid(&base, json!([branch("b", 9)])),
        "Cannot set b to unknown snapshot: 9"
    );
}

#[test]
fn snapshot_times_stay_within_a_minute_of_the_table() {
    let base = append(&table(2), 1);
    let at = |timestamp_ms: i64| {
        let mut late = snapshot(2, 2, Some(1));
        late["timestamp-ms"] = json!(timestamp_ms);
        apply(&base, json!([add(late), branch("main", 2)]))
    };
    let now_ms = START_MS + 1_000;
    assert!(at(now_ms + 60_000).is_ok());
    assert_eq!(
        at(now_ms + 60_001).unwrap_err().to_string(),
        format!(
            "Invalid snapshot timestamp {}: more than 60000 ms ahead of {now_ms}",
            now_ms + 60_001
        )
    );
    let last_ms = base.last_updated_ms();
    assert!(at(last_ms - 60_000).is_ok());
    assert_eq!(
        at(last_ms - 60_001).unwrap_err().to_string(),
        format!(
            "Invalid update timestamp {}: before last snapshot log entry at {last_ms}",
            last_ms - 60_001
        )
    );
}

#[test]
fn a_writer_ahead_of_time_does_not_block_other_commits() {
    let base = append(&table(2), 1);
    let mut ahead = snapshot(2, 2, Some(1));
    ahead["timestamp-ms"] = json!(START_MS + 55_000);
    let base = after(&base, json!([add(ahead), branch("main", 2)]));
    assert_eq!(base.last_updated_ms(), START_MS + 55_000);
    let later = after(
        &base,
        json!([{"action": "set-properties", "updates": {"a": "b"}}]),
    );
    assert_eq!(
        later.last_updated_ms(),
        START_MS + 55_000,
        "time never runs backwards"
    );
    let rolled_back = after(&later, json!([branch("main", 1)]));
    assert_eq!(
        rolled_back.snapshot_log().last().unwrap().timestamp_ms,
        START_MS + 55_000
    );
}

#[test]
fn intermediate_snapshots_stay_out_of_the_log() {
    let base = append(&table(2), 1);
    let applied = apply(
        &base,
        json!([
            add(snapshot(2, 2, Some(1))),
            branch("main", 2),
            add(snapshot(3, 3, Some(2))),
            branch("main", 3)
        ]),
    )
    .unwrap();
    let log: Vec<i64> = applied
        .metadata
        .snapshot_log()
        .map(|entry| entry.snapshot_id)
        .collect();
    assert_eq!(log, [1, 3]);
    assert_eq!(applied.metadata.snapshot_count(), 3);
    let added: Vec<i64> = applied
        .added_snapshots
        .iter()
        .map(|s| s.snapshot_id)
        .collect();
    assert_eq!(added, [2, 3]);
    assert_eq!(
        applied.added_snapshots[0].manifest_list.as_deref(),
        Some("s3://b/2.avro")
    );
}

#[test]
fn the_fingerprint_ignores_layout_but_not_content() {
    let of = |text: &str| {
        floeberg_iceberg::AddedSnapshot::of(&RawJson::parse(text).unwrap())
            .unwrap()
            .fingerprint
    };
    let one = of(r#"{"snapshot-id":1,"timestamp-ms":2,"manifest-list":"m"}"#);
    assert_eq!(
        one,
        of(r#"{ "manifest-list":"m", "timestamp-ms":2, "snapshot-id":1 }"#)
    );
    assert_ne!(
        one,
        of(r#"{"snapshot-id":1,"timestamp-ms":3,"manifest-list":"m"}"#)
    );
}

#[test]
fn removing_snapshots_takes_their_files_refs_and_older_history() {
    let base = append(&append(&append(&table(2), 1), 2), 3);
    let base = after(
        &base,
        json!([
            {"action": "set-statistics", "statistics": {"snapshot-id": 2,
                "statistics-path": "p", "file-size-in-bytes": 1,
                "file-footer-size-in-bytes": 1, "blob-metadata": []}},
            {"action": "set-partition-statistics", "partition-statistics":
                {"snapshot-id": 2, "statistics-path": "p", "file-size-in-bytes": 1}},
            {"action": "set-snapshot-ref", "ref-name": "t", "type": "tag", "snapshot-id": 2}
        ]),
    );
    let expired = after(
        &base,
        json!([{"action": "remove-snapshots", "snapshot-ids": [2]}]),
    );
    let found = document(&expired);
    assert_eq!(found["statistics"], json!([]));
    assert_eq!(found["partition-statistics"], json!([]));
    assert!(found["refs"].get("t").is_none());
    let log: Vec<i64> = expired
        .snapshot_log()
        .map(|entry| entry.snapshot_id)
        .collect();
    assert_eq!(log, [3], "a gap would make time travel wrong");

    let emptied = after(
        &base,
        json!([{"action": "remove-snapshots", "snapshot-ids": [3]}]),
    );
    assert!(emptied.main().is_none());
    assert!(document(&emptied).get("current-snapshot-id").is_none());
}

#[test]
fn removing_main_unsets_the_current_snapshot_and_keeps_the_log() {
    let base = append(&table(2), 1);
    let cleared = after(
        &base,
        json!([{"action": "remove-snapshot-ref", "ref-name": "main"}]),
    );
    assert!(cleared.current_snapshot().is_none());
    assert_eq!(cleared.snapshot_log().count(), 1);
    let tag = json!([{"action": "set-snapshot-ref", "ref-name": "main", "type": "tag",
        "snapshot-id": 1}]);
    assert_eq!(
        invalid(&cleared, tag),
        "Cannot set main to a tag: main must be a branch"
    );
}

#[test]
fn equal_layouts_are_reused_and_minus_one_is_the_last_added() {
    let base = table(2);
    let schema = &document(&base)["schemas"][0];
    let mut other_id = schema.clone();
    other_id["schema-id"] = json!(9);
    let applied = apply(
        &base,
        json!([{"action": "add-schema", "schema": other_id},
            {"action": "set-current-schema", "schema-id": -1}]),
    )
    .unwrap();
    assert!(!applied.changed);
    assert_eq!(
        invalid(
            &base,
            json!([{"action": "set-current-schema", "schema-id": -1}])
        ),
        "Cannot set last added schema: no schema has been added"
    );
    assert_eq!(
        invalid(
            &base,
            json!([{"action": "set-default-spec", "spec-id": -1}])
        ),
        "Cannot set last added spec: no spec has been added"
    );
    assert_eq!(
        invalid(
            &base,
            json!([{"action": "set-default-sort-order", "sort-order-id": -1}])
        ),
        "Cannot set last added sort order: no sort order has been added"
    );
    assert_eq!(
        invalid(
            &base,
            json!([{"action": "set-current-schema", "schema-id": 4}])
        ),
        "Cannot set current schema to unknown schema: 4"
    );
}

#[test]
fn partition_field_ids_are_reused_for_the_same_source_and_transform() {
    let spec = |fields: Value| {
        json!([{"action": "add-spec", "spec": {"spec-id": 7, "fields": fields}},
            {"action": "set-default-spec", "spec-id": -1}])
    };
    let day = json!({"source-id": 2, "transform": "day", "name": "d"});
    let one = after(&table(2), spec(json!([day])));
    assert_eq!(one.core().default_spec_id, 1);
    assert_eq!(one.core().last_partition_id, 1000);
    let bucket = json!({"source-id": 1, "transform": "bucket[8]", "name": "b"});
    let renamed = json!({"source-id": 2, "transform": "day", "name": "renamed"});
    let two = after(&one, spec(json!([bucket, renamed])));
    let ids: Vec<i32> = two
        .default_spec()
        .fields
        .iter()
        .map(|f| f.field_id)
        .collect();
    assert_eq!(ids, [1001, 1000]);
    assert_eq!(two.core().last_partition_id, 1001);
}

#[test]
fn bad_partition_specs_are_refused() {
    let refused = |fields: Value| {
        invalid(
            &table(2),
            json!([{"action": "add-spec", "spec": {"fields": fields}}]),
        )
    };
    let field = |source: i64, transform: &str, name: &str| json!({"source-id": source, "transform": transform, "name": name});
    let cases = [
        (
            json!([field(99, "identity", "x")]),
            "Cannot find source column for partition field: x: identity(99)",
        ),
        (
            json!([field(4, "identity", "x")]),
            "Cannot partition by non-primitive source field: nested",
        ),
        (
            json!([field(3, "day", "x")]),
            "Invalid source type string for transform: day",
        ),
        (
            json!([field(3, "identity", "p"), field(1, "identity", "p")]),
            "Cannot use partition name more than once: p",
        ),
        (
            json!([field(3, "bucket[4]", "id")]),
            "Cannot create partition from name that exists in schema: id",
        ),
        (
            json!([field(3, "identity", "id")]),
            "Cannot create identity partition sourced from different field in schema: id",
        ),
        (
            json!([field(3, "identity", "a"), field(3, "identity", "b")]),
            "Cannot add redundant partition: a conflicts with b",
        ),
        (
            json!([field(3, "identity", "")]),
            "Cannot use empty or null partition name: ",
        ),
        (
            json!([field(1, "bucket[0]", "b")]),
            "Invalid partition spec: Invalid number of buckets: 0 (must be > 0)",
        ),
    ];
    for (fields, text) in cases {
        assert_eq!(refused(fields), text);
    }
    let jump = json!([{"source-id": 1, "transform": "identity", "name": "id", "field-id": 1005}]);
    let text = invalid(
        &table(1),
        json!([{"action": "add-spec", "spec": {"fields": jump}}]),
    );
    assert!(text.starts_with("Spec does not use sequential IDs that are required in v1:"));
}

#[test]
fn bad_sort_orders_are_refused() {
    let refused = |id: i64, fields: Value| {
        let order = json!({"order-id": id, "fields": fields});
        invalid(
            &table(2),
            json!([{"action": "add-sort-order", "sort-order": order}]),
        )
    };
    let field = |source: i64, transform: &str, direction: &str| {
        json!({"source-id": source, "transform": transform, "direction": direction,
            "null-order": "nulls-last"})
    };
    assert_eq!(
        refused(1, json!([field(99, "identity", "asc")])),
        "Cannot find source column for sort field: identity(99)"
    );
    assert_eq!(
        refused(1, json!([field(4, "identity", "asc")])),
        "Cannot sort by non-primitive source field: nested"
    );
    assert_eq!(
        refused(1, json!([field(3, "hour", "asc")])),
        "Invalid source type string for transform: hour"
    );
    assert_eq!(
        refused(1, json!([field(3, "identity", "up")])),
        "Invalid sort direction: up"
    );
    assert_eq!(refused(1, json!([])), "Unsorted order ID must be 0");
    assert_eq!(
        refused(0, json!([field(3, "identity", "asc")])),
        "Sort order ID 0 is reserved for unsorted order"
    );
}

#[test]
fn bad_schemas_are_refused() {
    let refused = |version: u8, fields: Value, identifiers: Value| {
        let schema = json!({"type": "struct", "fields": fields,
            "identifier-field-ids": identifiers});
        invalid(
            &table(version),
            json!([{"action": "add-schema", "schema": schema}]),
        )
    };
    let field = |id: i64, name: &str, kind: &str| json!({"id": id, "name": name, "required": false, "type": kind});
    assert_eq!(
        refused(
            2,
            json!([field(1, "a", "int"), field(2, "a", "int")]),
            json!([])
        ),
        "Invalid schema: multiple fields for name a: 1 and 2"
    );
    assert_eq!(
        refused(
            2,
            json!([field(1, "a", "int"), field(1, "b", "int")]),
            json!([])
        ),
        "Invalid schema: field id 1 is used by both a and b"
    );
    assert_eq!(
        refused(2, json!([field(1, "a", "integer")]), json!([])),
        "Invalid schema: Cannot parse type string to primitive: integer"
    );
    assert_eq!(
        refused(2, json!([field(1, "a", "int")]), json!([3])),
        "Cannot add fieldId 3 as an identifier field: field does not exist"
    );
    assert_eq!(
        refused(2, json!([field(1, "a", "int")]), json!([1])),
        "Cannot add field a as an identifier field: not a required field"
    );
    let mut double = field(1, "a", "double");
    double["required"] = json!(true);
    assert_eq!(
        refused(2, json!([double]), json!([1])),
        "Cannot add field a as an identifier field: must not be float or double field"
    );
    for kind in [
        "variant",
        "timestamp_ns",
        "unknown",
        "geometry(OGC:CRS84)",
        "geography",
    ] {
        assert!(
            refused(2, json!([field(1, "a", kind)]), json!([])).ends_with(&format!(
                "Invalid type for a: {kind} is not supported until v3"
            ))
        );
        let schema = json!({"type": "struct", "fields": [field(7, "a", kind)]});
        let added = apply(
            &table(3),
            json!([{"action": "add-schema", "schema": schema}]),
        );
        assert!(added.unwrap().changed, "{kind} is a v3 type");
    }
    let mut with_default = field(1, "a", "int");
    with_default["initial-default"] = json!(5);
    assert!(refused(2, json!([with_default]), json!([])).contains("Invalid initial default for a"));
}

#[test]
fn layouts_in_use_cannot_be_removed() {
    let base = table(2);
    assert_eq!(
        invalid(
            &base,
            json!([{"action": "remove-schemas", "schema-ids": [0]}])
        ),
        "Cannot remove the current schema"
    );
    assert_eq!(
        invalid(
            &base,
            json!([{"action": "remove-partition-specs", "spec-ids": [0]}])
        ),
        "Cannot remove the default partition spec"
    );
}

#[test]
fn a_schema_that_loses_the_partition_source_cannot_become_current() {
    let base = after(
        &table(2),
        json!([{"action": "add-spec", "spec": {"fields":
                [{"source-id": 2, "transform": "day", "name": "d"}]}},
            {"action": "set-default-spec", "spec-id": -1}]),
    );
    let schema = json!({"type": "struct", "fields":
        [{"id": 1, "name": "id", "required": true, "type": "long"}]});
    let text = invalid(
        &base,
        json!([{"action": "add-schema", "schema": schema},
            {"action": "set-current-schema", "schema-id": -1}]),
    );
    assert_eq!(
        text,
        "Cannot find source column for partition field: d: day(2)"
    );
}

#[test]
fn the_version_only_goes_up_and_the_uuid_stays() {
    let upgrade =
        |version: i64| json!([{"action": "upgrade-format-version", "format-version": version}]);
    assert_eq!(
        invalid(&table(2), upgrade(1)),
        "Cannot downgrade v2 table to v1"
    );
    assert_eq!(
        invalid(&table(2), upgrade(4)),
        "Cannot upgrade table to unsupported format version: v4 (supported: v3)"
    );
    assert!(!apply(&table(2), upgrade(2)).unwrap().changed);
    let v3 = after(&after(&table(1), upgrade(2)), upgrade(3));
    let found = document(&v3);
    assert_eq!(found["next-row-id"], 0);
    assert!(found.get("schema").is_none() && found.get("partition-spec").is_none());

    let assign = |uuid: &str| json!([{"action": "assign-uuid", "uuid": uuid}]);
    let same = "9C12D441-03FE-4693-9A96-A0705DDF69C1";
    assert!(!apply(&table(2), assign(same)).unwrap().changed);
    assert!(
        invalid(&table(2), assign("00000000-0000-0000-0000-000000000001"))
            .starts_with("Cannot reassign uuid")
    );
    assert_eq!(invalid(&table(2), assign("me")), "Invalid table uuid: me");
}

#[test]
fn the_metadata_log_is_trimmed_to_its_limit() {
    let mut base = table(2);
    for value in 0..5 {
        base = after(
            &base,
            json!([{"action": "set-properties", "updates": {"n": value.to_string()}}]),
        );
    }
    assert_eq!(base.metadata_log().count(), 5);
    let limit = "write.metadata.previous-versions-max";
    let applied = apply(
        &base,
        json!([{"action": "set-properties", "updates": {limit: "2"}}]),
    )
    .unwrap();
    assert_eq!(applied.metadata.metadata_log().count(), 2);
    let newest = applied.metadata.metadata_log().last().unwrap();
    assert_eq!(newest.timestamp_ms, base.last_updated_ms());
    assert_eq!(&*newest.metadata_file, "s3://b/m/0.metadata.json");
}

#[test]
fn nothing_to_do_makes_no_version() {
    let base = append(&table(2), 1);
    for updates in [
        json!([]),
        json!([{"action": "set-properties", "updates": {"owner": "team-a"}}]),
        json!([{"action": "remove-properties", "removals": ["gone"]}]),
        json!([{"action": "remove-snapshots", "snapshot-ids": [99]}]),
        json!([{"action": "remove-snapshot-ref", "ref-name": "gone"}]),
        json!([branch("main", 1)]),
        json!([{"action": "set-location", "location": "s3://bucket/ns/table/"}]),
        json!([{"action": "set-properties", "updates": {"x": "1"}},
            {"action": "remove-properties", "removals": ["x"]}]),
    ] {
        let applied = apply(&base, updates.clone()).unwrap();
        assert!(!applied.changed && applied.changes.is_empty(), "{updates}");
        assert_eq!(applied.metadata, base);
    }
}

#[test]
fn reserved_properties_at_commit_are_kept_as_the_reference_does() {
    let base = after(
        &table(2),
        json!([{"action": "set-properties", "updates": {"format-version": "3"}}]),
    );
    assert_eq!(base.property("format-version"), Some("3"));
    assert_eq!(base.format_version(), 2);
}

#[test]
fn encryption_keys_are_for_v3() {
    let key = json!([{"action": "add-encryption-key", "encryption-key":
        {"key-id": "k", "encrypted-key-metadata": "AAAA", "x": 1}}]);
    assert_eq!(
        invalid(&table(2), key.clone()),
        "Encryption keys are not supported until v3"
    );
    let v3 = after(&table(3), key);
    assert_eq!(document(&v3)["encryption-keys"][0]["x"], 1);
    let gone = after(
        &v3,
        json!([{"action": "remove-encryption-key", "key-id": "k"}]),
    );
    assert!(document(&gone).get("encryption-keys").is_none());
}

fn new_table(properties: &[(&str, &str)]) -> NewTable {
    let field = |id: i64, name: &str, kind: Value| json!({"id": id, "name": name, "required": id == 10, "type": kind});
    let nested = json!({"type": "struct", "fields": [field(30, "x", json!("int"))]});
    let schema = json!({"type": "struct", "schema-id": 5, "identifier-field-ids": [10],
        "fields": [field(20, "n", nested), field(10, "id", json!("long")),
            field(40, "ts", json!("timestamptz"))]});
    let spec = json!({"spec-id": 4, "fields": [
        {"source-id": 40, "field-id": 3000, "transform": "day", "name": "ts_day"},
        {"source-id": 30, "transform": "identity", "name": "px"}]});
    let order = json!({"order-id": 8, "fields": [{"source-id": 10, "transform": "identity",
        "direction": "asc", "null-order": "nulls-first"}]});
    let raw = |value: Value| RawJson::parse(&value.to_string()).unwrap();
    NewTable {
        uuid: "9c12d441-03fe-4693-9a96-a0705ddf69c1".into(),
        location: "s3://bucket/ns/table".into(),
        schema: raw(schema),
        partition_spec: Some(raw(spec)),
        sort_order: Some(raw(order)),
        properties: properties
            .iter()
            .map(|(n, v)| ((*n).into(), (*v).into()))
            .collect(),
        now_ms: START_MS,
    }
}

#[test]
fn a_new_table_gets_fresh_ids() {
    let table = TableMetadata::new_table(&new_table(&[("a", "b"), ("uuid", "x")])).unwrap();
    let found = document(&table);
    assert_eq!(found["format-version"], 2);
    assert_eq!(found["last-column-id"], 4);
    let schema = &found["schemas"][0];
    assert_eq!(schema["schema-id"], 0);
    assert_eq!(schema["identifier-field-ids"], json!([2]));
    let ids: Vec<&Value> = schema["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| &field["id"])
        .collect();
    assert_eq!(ids, [&json!(1), &json!(2), &json!(3)]);
    assert_eq!(schema["fields"][0]["type"]["fields"][0]["id"], 4);
    let spec = &found["partition-specs"][0];
    assert_eq!(spec["spec-id"], 0);
    assert_eq!(spec["fields"][0]["source-id"], 3);
    assert_eq!(spec["fields"][0]["field-id"], 1000);
    assert_eq!(spec["fields"][1]["source-id"], 4);
    assert_eq!(found["last-partition-id"], 1001);
    assert_eq!(found["default-sort-order-id"], 1);
    assert_eq!(found["sort-orders"][0]["fields"][0]["source-id"], 2);
    assert_eq!(
        found["properties"],
        json!({"write.parquet.compression-codec": "zstd", "a": "b"}),
        "reserved names are not stored"
    );
    assert_eq!(found["last-updated-ms"], START_MS);
    assert_eq!(TableMetadata::parse(&table.render()).unwrap(), table);
}

#[test]
fn a_new_table_has_the_version_it_asks_for() {
    let version = |text: &str| {
        TableMetadata::new_table(&new_table(&[("format-version", text)]))
            .map(|table| document(&table))
            .map_err(|error| error.to_string())
    };
    assert_eq!(version("3").unwrap()["next-row-id"], 0);
    let v1 = version("1").unwrap();
    assert_eq!(v1["schema"], v1["schemas"][0]);
    assert_eq!(v1["partition-spec"], v1["partition-specs"][0]["fields"]);
    assert_eq!(
        version("4").unwrap_err(),
        "Unsupported format version: v4 (supported: v3)"
    );
    assert_eq!(
        version("0").unwrap_err(),
        "Unsupported format version: v0 (supported: v3)"
    );
    assert!(version("two").unwrap_err().contains("expected a number"));
}

#[test]
fn a_new_table_without_layout_is_unpartitioned_and_unsorted() {
    let new = NewTable {
        partition_spec: None,
        sort_order: None,
        ..new_table(&[])
    };
    let found = document(&TableMetadata::new_table(&new).unwrap());
    assert_eq!(
        found["partition-specs"],
        json!([{"spec-id": 0, "fields": []}])
    );
    assert_eq!(found["sort-orders"], json!([{"order-id": 0, "fields": []}]));
    assert_eq!(found["default-sort-order-id"], 0);
    assert_eq!(found["last-partition-id"], 999);
}

#[test]
fn a_new_table_refuses_unknown_sources_and_early_types() {
    let mut bad = new_table(&[]);
    let spec = r#"{"fields":[{"source-id":77,"transform":"day","name":"d"}]}"#;
    bad.partition_spec = Some(RawJson::parse(spec).unwrap());
    assert_eq!(
        TableMetadata::new_table(&bad).unwrap_err().to_string(),
        "Cannot find source column for partition field: d: day(77)"
    );
    let mut early = NewTable {
        partition_spec: None,
        sort_order: None,
        ..new_table(&[])
    };
    let schema = r#"{"type":"struct","fields":
        [{"id":1,"name":"v","required":false,"type":"variant"}]}"#;
    early.schema = RawJson::parse(schema).unwrap();
    assert!(
        TableMetadata::new_table(&early)
            .unwrap_err()
            .to_string()
            .contains("variant is not supported until v3")
    );
    early.properties = vec![("format-version".into(), "3".into())];
    assert!(TableMetadata::new_table(&early).is_ok());
}

#[test]
fn replaying_a_create_transaction_gives_the_staged_table() {
    let staged = TableMetadata::new_table(&new_table(&[("a", "b")])).unwrap();
    let found = document(&staged);
    let updates = json!([
        {"action": "assign-uuid", "uuid": found["table-uuid"]},
        {"action": "upgrade-format-version", "format-version": 2},
        {"action": "add-schema", "schema": found["schemas"][0], "last-column-id": 4},
        {"action": "set-current-schema", "schema-id": -1},
        {"action": "add-spec", "spec": found["partition-specs"][0]},
        {"action": "set-default-spec", "spec-id": -1},
        {"action": "add-sort-order", "sort-order": found["sort-orders"][0]},
        {"action": "set-default-sort-order", "sort-order-id": -1},
        {"action": "set-location", "location": found["location"]},
        {"action": "set-properties", "updates": found["properties"]},
        add(snapshot(1, 1, None)),
        branch("main", 1)
    ]);
    let updates: Vec<TableUpdate> = serde_json::from_str(&updates.to_string()).unwrap();
    let context = CreateContext {
        now_ms: START_MS + 1_000,
        uuid: "00000000-0000-0000-0000-000000000001".into(),
        location: "s3://bucket/else".into(),
    };
    let (create, rest) = updates.split_at(10);
    let mut replayed = document(
        &TableMetadata::create_from_updates(create, &context)
            .unwrap()
            .metadata,
    );
    replayed["last-updated-ms"] = json!(START_MS);
    assert_eq!(replayed, found);

    let applied = TableMetadata::create_from_updates(&updates, &context).unwrap();
    assert_eq!(applied.metadata.current_snapshot().unwrap().snapshot_id, 1);
    assert_eq!(applied.added_snapshots.len(), 1);
    assert_eq!(applied.changes.len(), applied.metadata.parts().count());

    let error = TableMetadata::create_from_updates(rest, &context).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Attempting to add a snapshot before a schema is added"
    );
    let error = TableMetadata::create_from_updates(&create[..4], &context).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Cannot create a table without a partition spec"
    );
}
