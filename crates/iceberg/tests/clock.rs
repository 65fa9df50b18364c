//! A table that was changed while some clock was ahead, and the commits of the days after.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(
    clippy::too_many_lines,
    reason = "one match over all actions reads best whole"
)]

use floeberg_iceberg::{ApplyContext, MetadataLogEntry, TableMetadata, TableUpdate, UpdateError};
use serde_json::json;

#[path = "workload/mod.rs"]
mod workload;

use workload::START_MS;

const DAY_MS: i64 = 86_400_000;
const MINUTE_MS: i64 = 60_000;

fn commit(
    table: &TableMetadata,
    updates: &[TableUpdate],
    now_ms: i64,
    clock_ms: i64,
) -> Result<TableMetadata, UpdateError> {
    let file = format!("s3://b/{}.json", table.metadata_log().count());
    let context = ApplyContext {
        now_ms,
        clock_ms,
        previous: Some(MetadataLogEntry::new(table.last_updated_ms(), &file)),
    };
    Ok(table.apply(updates, &context)?.metadata)
}

fn append(table: &TableMetadata, at_ms: i64) -> Vec<TableUpdate> {
    let id = table.last_sequence_number() + 1;
    let mut snapshot = json!({"snapshot-id": id, "sequence-number": id, "timestamp-ms": at_ms,
        "manifest-list": format!("s3://b/{id}.avro"), "summary": {"operation": "append"}});
    if let Some(parent) = table.current_snapshot() {
        snapshot["parent-snapshot-id"] = json!(parent.snapshot_id);
    }
    let updates = json!([
        {"action": "add-snapshot", "snapshot": snapshot},
        {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": id}
    ]);
    serde_json::from_str(&updates.to_string()).unwrap()
}

fn set(name: &str) -> Vec<TableUpdate> {
    let updates = json!([{"action": "set-properties", "updates": {name: "v"}}]);
    serde_json::from_str(&updates.to_string()).unwrap()
}

/// The rules of `TableMetadata`'s constructor in Iceberg Java, which every reader runs.
fn assert_readable(table: &TableMetadata) {
    let snapshots: Vec<i64> = table.snapshot_log().map(|e| e.timestamp_ms).collect();
    let files: Vec<i64> = table.metadata_log().map(|e| e.timestamp_ms).collect();
    for log in [snapshots, files] {
        for pair in log.windows(2) {
            assert!(pair[1] - pair[0] >= -MINUTE_MS, "{log:?}");
        }
        if let Some(last) = log.last() {
            assert!(table.last_updated_ms() - last >= -MINUTE_MS, "{log:?}");
        }
    }
}

fn table() -> TableMetadata {
    let first = workload::first_version(2).to_string();
    TableMetadata::parse(first.as_bytes()).unwrap()
}

#[test]
fn a_table_touched_while_a_clock_was_a_day_ahead_is_appended_to_afterwards() {
    let today = START_MS + MINUTE_MS;
    for touch in [set("k"), append(&table(), today + DAY_MS)] {
        let mut table = commit(&table(), &touch, today + DAY_MS, today + DAY_MS).unwrap();
        assert_eq!(table.last_updated_ms(), today + DAY_MS);
        // Log time stays where it was; clocks, and writers with them, are back in the present.
        for n in 1..=3 {
            let now = today + n * MINUTE_MS;
            table = commit(&table, &append(&table, now), today + DAY_MS, now).unwrap();
            assert_readable(&table);
            assert_eq!(table.last_updated_ms(), today + DAY_MS, "times never fall");
            assert_eq!(table.current_snapshot().unwrap().timestamp_ms, now);
        }
        // Until the future is the present again.
        let later = today + 2 * DAY_MS;
        let table = commit(&table, &append(&table, later), later, later).unwrap();
        assert_readable(&table);
        assert_eq!(table.last_updated_ms(), later);
    }
}

#[test]
fn a_writer_whose_clock_is_behind_is_refused_as_before() {
    let now = START_MS + DAY_MS;
    let table = commit(&table(), &append(&table(), now), now, now).unwrap();
    let late = |by_ms: i64| commit(&table, &append(&table, now - by_ms), now, now);
    assert!(late(MINUTE_MS).is_ok());
    let refused = late(MINUTE_MS + 1).unwrap_err();
    assert!(
        refused.to_string().contains("Invalid update timestamp"),
        "{refused}"
    );
    let refused = commit(&table, &append(&table, now - DAY_MS), now + DAY_MS, now).unwrap_err();
    assert!(
        refused.to_string().contains("Invalid update timestamp"),
        "{refused}"
    );
}
