//! Numbers of a snapshot that would use up those of every later commit.
#![allow(
    clippy::too_many_lines,
    reason = "one match over all actions reads best whole"
)]

use floeberg_iceberg::{ApplyContext, CreateContext, TableMetadata, TableUpdate, UpdateError};
use serde_json::{Value, json};

#[path = "workload/mod.rs"]
mod workload;

use workload::START_MS;

fn table(format_version: u8) -> TableMetadata {
    let first = workload::first_version(format_version).to_string();
    TableMetadata::parse(first.as_bytes()).expect("the first version is valid")
}

fn typed(updates: &Value) -> Vec<TableUpdate> {
    serde_json::from_str(&updates.to_string()).expect("valid updates")
}

fn apply(table: &TableMetadata, updates: &Value) -> Result<TableMetadata, UpdateError> {
    let context = ApplyContext {
        now_ms: START_MS + 1_000,
        clock_ms: START_MS + 1_000,
        previous: None,
    };
    let applied = table.apply(&typed(updates), &context)?;
    Ok(applied.metadata)
}

fn refused(result: Result<TableMetadata, UpdateError>) -> String {
    match result {
        Err(UpdateError::Invalid(error)) => error.to_string(),
        other => panic!("expected an invalid update: {other:?}"),
    }
}

fn add(id: i64, sequence_number: i64, parent: Option<i64>) -> Value {
    let mut snapshot = json!({"snapshot-id": id, "sequence-number": sequence_number,
        "timestamp-ms": START_MS + 500, "manifest-list": format!("s3://b/{id}.avro"),
        "summary": {"operation": "append"}, "schema-id": 0});
    if let Some(parent) = parent {
        snapshot["parent-snapshot-id"] = json!(parent);
    }
    json!({"action": "add-snapshot", "snapshot": snapshot})
}

fn add_rows(id: i64, first_row_id: i64, added_rows: i64) -> Value {
    let mut update = add(id, id, None);
    update["snapshot"]["first-row-id"] = json!(first_row_id);
    update["snapshot"]["added-rows"] = json!(added_rows);
    update
}

#[test]
fn sequence_numbers_go_up_by_one_for_each_snapshot_of_a_commit() {
    for version in [2, 3] {
        let base = table(version);
        for far in [2, 100, i64::MAX - 1, i64::MAX] {
            for parent in [None, Some(7)] {
                assert_eq!(
                    refused(apply(&base, &json!([add(1, far, parent)]))),
                    format!(
                        "Cannot add snapshot with sequence number {far}: a snapshot takes the \
                         number after the table's last one, here at most 1"
                    )
                );
            }
        }
    }
    let one = apply(&table(2), &json!([add(1, 1, None)])).expect("the next number");
    let several = json!([add(2, 2, Some(1)), add(3, 3, Some(2)), add(4, 4, Some(3))]);
    let base = apply(&one, &several).expect("one number for each");
    assert_eq!(base.last_sequence_number(), 4);
    // A writer that leaves a number out, as one does that counts a snapshot it then dropped.
    let gap = json!([add(5, 6, Some(4)), {"action": "remove-snapshots", "snapshot-ids": [5]}]);
    assert!(refused(apply(&base, &gap)).contains("here at most 5"));
    let removed = json!([add(5, 5, Some(4)), {"action": "remove-snapshots", "snapshot-ids": [5]}]);
    let base = apply(&base, &removed).expect("a number is not used again");
    assert_eq!(base.last_sequence_number(), 5);
    assert!(apply(&base, &json!([add(6, 6, Some(4))])).is_ok());
}

#[test]
fn a_create_transaction_counts_from_zero() {
    let create = |sequence_number: i64| {
        let updates = json!([
            {"action": "assign-uuid", "uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1"},
            {"action": "add-schema", "schema": {"type": "struct", "schema-id": 0, "fields": []}},
            {"action": "set-current-schema", "schema-id": -1},
            {"action": "add-spec", "spec": {"spec-id": 0, "fields": []}},
            {"action": "set-default-spec", "spec-id": -1},
            {"action": "add-sort-order", "sort-order": {"order-id": 0, "fields": []}},
            {"action": "set-default-sort-order", "sort-order-id": -1},
            add(1, sequence_number, None),
        ]);
        let context = CreateContext {
            now_ms: START_MS + 1_000,
            uuid: "9c12d441-03fe-4693-9a96-a0705ddf69c1".into(),
            location: "s3://b/t".into(),
        };
        let applied = TableMetadata::create_from_updates(&typed(&updates), &context)?;
        Ok::<_, UpdateError>(applied.metadata)
    };
    assert_eq!(create(1).expect("created").last_sequence_number(), 1);
    assert!(refused(create(i64::MAX)).contains("here at most 1"));
}

#[test]
fn row_ids_are_not_used_up_by_one_snapshot() {
    let base = table(3);
    // A table that was upgraded gives ids to all its rows at once.
    let large = 300_000_000_000_000;
    let after = apply(&base, &json!([add_rows(1, 0, large)])).expect("many rows");
    assert_eq!(after.core().next_row_id, large);
    for (first, added, field) in [
        (i64::MAX, 0, "first-row-id"),
        (i64::MAX - 5, 5, "first-row-id"),
        (1 << 60, 1, "first-row-id"),
        (0, i64::MAX, "added-rows"),
        (10, i64::MAX - 10, "added-rows"),
        (1 << 50, 1, "added-rows"),
    ] {
        let text = refused(apply(&base, &json!([add_rows(1, first, added)])));
        assert!(
            text.starts_with(&format!("Invalid {field}: ")) && text.ends_with(" is too large"),
            "{first}, {added}: {text}"
        );
    }
}

#[test]
fn a_v1_snapshot_names_its_manifests() {
    let base = table(1);
    let mut update = add(1, 0, None);
    let snapshot = update["snapshot"].as_object_mut().expect("an object");
    snapshot.remove("manifest-list");
    snapshot.insert(
        "manifests".into(),
        json!(["s3://b/m1.avro", "s3://b/m2.avro"]),
    );
    let updates = json!([update, add(2, 0, None)]);
    let context = ApplyContext {
        now_ms: START_MS + 1_000,
        clock_ms: START_MS + 1_000,
        previous: None,
    };
    let applied = base.apply(&typed(&updates), &context).expect("applied");
    let files = |id: i64| {
        let snapshot = applied.metadata.snapshot(id).expect("added");
        snapshot.manifest_files().expect("read before")
    };
    assert_eq!(files(1), ["s3://b/m1.avro".into(), "s3://b/m2.avro".into()]);
    assert_eq!(files(2), ["s3://b/2.avro".into()]);
    let written: Vec<i64> = applied
        .metadata
        .written_snapshots(&applied.changes)
        .map(|snapshot| snapshot.snapshot_id)
        .collect();
    assert_eq!(written, [1, 2]);
}
