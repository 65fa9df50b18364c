//! The cost of a commit, counted and not timed: it must not grow with the table.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(
    clippy::too_many_lines,
    reason = "one match over all actions reads best whole"
)]

#[path = "workload/mod.rs"]
mod workload;

use floeberg_iceberg::{ApplyContext, MetadataLogEntry, Section, TableMetadata, TableUpdate};
use serde_json::json;
use workload::START_MS;

fn append(table: &TableMetadata, id: i64) -> Vec<TableUpdate> {
    let mut snapshot = json!({"snapshot-id": id, "sequence-number": id,
        "timestamp-ms": START_MS + id, "manifest-list": format!("s3://b/{id}.avro"),
        "summary": {"operation": "append"}});
    if let Some(parent) = table.current_snapshot() {
        snapshot["parent-snapshot-id"] = json!(parent.snapshot_id);
    }
    let updates = json!([
        {"action": "add-snapshot", "snapshot": snapshot},
        {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": id}
    ]);
    serde_json::from_str(&updates.to_string()).unwrap()
}

fn with_snapshots(count: i64) -> TableMetadata {
    let first = workload::first_version(2).to_string();
    let mut table = TableMetadata::parse(first.as_bytes()).unwrap();
    for id in 1..=count {
        let previous = MetadataLogEntry::new(table.last_updated_ms(), &format!("s3://b/{id}.json"));
        let context = ApplyContext {
            now_ms: START_MS + id,
            clock_ms: START_MS + id,
            previous: Some(previous),
        };
        table = table.apply(&append(&table, id), &context).unwrap().metadata;
    }
    table
}

#[test]
fn an_append_changes_as_many_parts_at_ten_thousand_snapshots_as_at_a_hundred() {
    // 100 entries fill the metadata log; from there every commit also drops its oldest one.
    for count in [100, 10_000] {
        let table = with_snapshots(count);
        assert_eq!(table.snapshot_count() as i64, count);
        let previous = MetadataLogEntry::new(table.last_updated_ms(), "s3://b/last.json");
        let context = ApplyContext {
            now_ms: START_MS + count + 1,
            clock_ms: START_MS + count + 1,
            previous: Some(previous),
        };
        let applied = table.apply(&append(&table, count + 1), &context).unwrap();
        let changed: Vec<Section> = applied
            .changes
            .iter()
            .map(|change| match change {
                floeberg_iceberg::PartChange::Put { section, .. }
                | floeberg_iceberg::PartChange::Remove { section, .. } => *section,
            })
            .collect();
        let expected = [
            Section::Core,
            Section::Snapshots,
            Section::Refs,
            Section::SnapshotLog,
            Section::MetadataLog,
            Section::MetadataLog,
        ];
        assert_eq!(changed, expected, "at {count} snapshots");
        assert_eq!(
            applied.metadata.rendered_len(),
            applied.metadata.render().len() as u64
        );
    }
}

#[test]
fn refs_only_holds_one_snapshot_of_ten_thousand() {
    let table = with_snapshots(10_000);
    let all = table.render();
    let refs_only: serde_json::Value = serde_json::from_slice(&table.render_refs_only()).unwrap();
    assert_eq!(refs_only["snapshots"].as_array().unwrap().len(), 1);
    assert_eq!(refs_only["snapshots"][0]["snapshot-id"], 10_000);
    let all: serde_json::Value = serde_json::from_slice(&all).unwrap();
    assert_eq!(all["snapshots"].as_array().unwrap().len(), 10_000);
}
