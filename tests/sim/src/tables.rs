//! Tables as clients see them: what a load shows, and the requests built on it.

use floeberg_test_chaos::history::{Answer, Change, Snapshot, digest};
use serde_json::{Value, json};

pub(crate) const BUCKET: &str = "lake";
pub(crate) const FILES: &str = "files";
pub(crate) const PREFIX: &str = "/iceberg/v1/lake";
pub(crate) const TABLES: [&str; 4] = ["t0", "t1", "t2", "t3"];

/// What a load showed.
#[derive(Clone)]
pub(crate) struct View {
    metadata: Value,
    pub(crate) head: Option<i64>,
    pub(crate) snapshots: Vec<Snapshot>,
}

impl View {
    pub(crate) fn of(loaded: &Value) -> Option<Self> {
        let metadata = &loaded["metadata"];
        let list = metadata["snapshots"].as_array();
        let snapshot = |value: &Value| {
            Some(Snapshot {
                id: value["snapshot-id"].as_i64()?,
                parent: value["parent-snapshot-id"].as_i64(),
                sequence: value["sequence-number"].as_i64()?,
            })
        };
        let list = list.map_or(&[][..], Vec::as_slice);
        let mut snapshots: Vec<Snapshot> = list.iter().map(snapshot).collect::<Option<_>>()?;
        snapshots.sort_by_key(|snapshot| snapshot.sequence);
        Some(Self {
            head: metadata["refs"]["main"]["snapshot-id"].as_i64(),
            metadata: metadata.clone(),
            snapshots,
        })
    }

    pub(crate) fn answer(&self) -> Answer {
        Answer::Table {
            head: self.head,
            length: self.snapshots.len(),
            digest: digest(self.snapshots.iter().map(|s| s.id)),
        }
    }

    /// An append on what was seen.
    pub(crate) fn append(&self, table: &str, id: i64, now_ms: i64) -> Option<(Change, Value)> {
        let metadata = &self.metadata;
        let sequence = metadata["last-sequence-number"].as_i64().unwrap_or(0) + 1;
        let location = metadata["location"].as_str()?;
        let mut snapshot = json!({
            "snapshot-id": id, "sequence-number": sequence, "timestamp-ms": now_ms,
            "manifest-list": format!("{location}/metadata/snap-{id}.avro"),
            "summary": {"operation": "append"}, "schema-id": 0});
        if let Some(parent) = self.head {
            snapshot["parent-snapshot-id"] = json!(parent);
        }
        let body = json!({
            "identifier": {"namespace": ["ns"], "name": table},
            "requirements": [
                {"type": "assert-table-uuid", "uuid": metadata["table-uuid"]},
                {"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": self.head}],
            "updates": [
                {"action": "add-snapshot", "snapshot": snapshot},
                {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch",
                 "snapshot-id": id}]});
        let change = Change {
            table: table.to_owned(),
            parent: self.head,
            snapshot: id,
        };
        Some((change, body))
    }
}
