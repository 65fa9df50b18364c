//! Request bodies of the Iceberg REST protocol, rendered without an intermediate tree.

use serde::Serialize;
use std::fmt::Write as _;

/// A primitive column type of Iceberg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// 64-bit integer.
    Long,
    /// UTF-8 text.
    String,
    /// 64-bit float.
    Double,
    /// Microseconds without time zone.
    Timestamp,
}

impl ColumnType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Long => "long",
            Self::String => "string",
            Self::Double => "double",
            Self::Timestamp => "timestamp",
        }
    }
}

/// The body of `createTable` for an unpartitioned table.
#[derive(Clone, Debug)]
pub struct CreateTableBody<'a> {
    /// Table name.
    pub name: &'a str,
    /// Names and types of optional columns; ids count from 1.
    pub columns: &'a [(&'a str, ColumnType)],
    /// Iceberg format version, 1 to 3.
    pub format_version: u8,
}

#[derive(Serialize)]
struct Field<'a> {
    id: usize,
    name: &'a str,
    required: bool,
    r#type: &'static str,
}

impl CreateTableBody<'_> {
    /// The JSON text.
    #[must_use]
    pub fn render(&self) -> String {
        let fields: Vec<Field<'_>> = (1..)
            .zip(self.columns)
            .map(|(id, (name, kind))| Field {
                id,
                name,
                required: false,
                r#type: kind.as_str(),
            })
            .collect();
        serde_json::json!({
            "name": self.name,
            "schema": {"type": "struct", "schema-id": 0, "fields": fields},
            "properties": {"format-version": self.format_version.to_string()},
        })
        .to_string()
    }
}

/// One append: a new snapshot on a branch, provided that the branch still is where it was.
///
/// Covers one data file in one new manifest, as the totals in the summary say.
#[derive(Clone, Copy, Debug)]
pub struct AppendCommit<'a> {
    /// Asserted if given.
    pub table_uuid: Option<&'a str>,
    /// Branch to append to, usually `main`.
    pub branch: &'a str,
    /// The branch's snapshot before; `None` asserts that the branch does not exist.
    pub parent: Option<i64>,
    /// The new snapshot's id.
    pub snapshot_id: i64,
    /// The new snapshot's sequence number, one above the table's last.
    pub sequence_number: i64,
    /// The new snapshot's time.
    pub timestamp_ms: i64,
    /// Location of the manifest list.
    pub manifest_list: &'a str,
    /// Schema the data was written with.
    pub schema_id: i32,
    /// Rows added.
    pub added_records: u64,
    /// Rows in the table afterwards.
    pub total_records: u64,
}

impl AppendCommit<'_> {
    /// The body of `updateTable`.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(1024);
        out.push('{');
        self.write_change(&mut out);
        out.push('}');
        out
    }

    /// The requirements and updates, as members of an object.
    fn write_change(&self, out: &mut String) {
        out.push_str("\"requirements\":[");
        if let Some(uuid) = self.table_uuid {
            let uuid = json(uuid);
            let _ = write!(out, r#"{{"type":"assert-table-uuid","uuid":{uuid}}},"#);
        }
        let branch = json(self.branch);
        let _ = write!(
            out,
            r#"{{"type":"assert-ref-snapshot-id","ref":{branch},"snapshot-id":"#
        );
        match self.parent {
            Some(parent) => {
                let _ = write!(out, "{parent}");
            }
            None => out.push_str("null"),
        }
        let id = self.snapshot_id;
        let _ = write!(
            out,
            r#"}}],"updates":[{{"action":"add-snapshot","snapshot":{{"snapshot-id":{id},"#
        );
        if let Some(parent) = self.parent {
            let _ = write!(out, r#""parent-snapshot-id":{parent},"#);
        }
        let _ = write!(
            out,
            concat!(
                r#""sequence-number":{},"timestamp-ms":{},"manifest-list":{},"#,
                r#""summary":{{"operation":"append","added-data-files":"1","#,
                r#""added-records":"{}","total-records":"{}"}},"schema-id":{}}}}},"#,
                r#"{{"action":"set-snapshot-ref","ref-name":{},"type":"branch","snapshot-id":{}}}]"#
            ),
            self.sequence_number,
            self.timestamp_ms,
            json(self.manifest_list),
            self.added_records,
            self.total_records,
            self.schema_id,
            branch,
            id,
        );
    }
}

/// The body of `commitTransaction`: one append each to several tables of one namespace.
#[must_use]
pub fn transaction_body(namespace: &[&str], changes: &[(&str, AppendCommit<'_>)]) -> String {
    let mut out = String::with_capacity(64 + 1024 * changes.len());
    let namespace = serde_json::to_string(namespace).expect("text is valid JSON");
    out.push_str("{\"table-changes\":[");
    for (i, (table, change)) in changes.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        let table = json(table);
        let _ = write!(
            out,
            r#"{{"identifier":{{"namespace":{namespace},"name":{table}}},"#
        );
        change.write_change(&mut out);
        out.push('}');
    }
    out.push_str("]}");
    out
}

fn json(text: &str) -> String {
    serde_json::to_string(text).expect("text is valid JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn append(parent: Option<i64>) -> AppendCommit<'static> {
        AppendCommit {
            table_uuid: Some("u"),
            branch: "ma\"in",
            parent,
            snapshot_id: 7,
            sequence_number: 2,
            timestamp_ms: 1000,
            manifest_list: "s3://b/t/l.avro",
            schema_id: 0,
            added_records: 5,
            total_records: 10,
        }
    }

    #[test]
    fn an_append_asserts_its_parent_and_moves_the_branch() {
        let body: Value = serde_json::from_str(&append(Some(3)).render()).unwrap();
        let snapshot = json!({
            "snapshot-id": 7, "parent-snapshot-id": 3, "sequence-number": 2,
            "timestamp-ms": 1000, "manifest-list": "s3://b/t/l.avro",
            "summary": {"operation": "append", "added-data-files": "1",
                        "added-records": "5", "total-records": "10"},
            "schema-id": 0
        });
        let expected = json!({
            "requirements": [
                {"type": "assert-table-uuid", "uuid": "u"},
                {"type": "assert-ref-snapshot-id", "ref": "ma\"in", "snapshot-id": 3}
            ],
            "updates": [
                {"action": "add-snapshot", "snapshot": snapshot},
                {"action": "set-snapshot-ref", "ref-name": "ma\"in", "type": "branch",
                 "snapshot-id": 7}
            ]
        });
        assert_eq!(body, expected);
        let first: Value = serde_json::from_str(&append(None).render()).unwrap();
        assert_eq!(first["requirements"][1]["snapshot-id"], Value::Null);
        assert!(
            first["updates"][0]["snapshot"]
                .get("parent-snapshot-id")
                .is_none()
        );
    }

    #[test]
    fn a_transaction_names_every_table() {
        let changes = [("a", append(None)), ("b", append(Some(1)))];
        let body: Value = serde_json::from_str(&transaction_body(&["x", "y"], &changes)).unwrap();
        let named = &body["table-changes"][1];
        assert_eq!(
            named["identifier"],
            json!({"namespace": ["x", "y"], "name": "b"})
        );
        assert_eq!(named["updates"][0]["snapshot"]["snapshot-id"], 7);
        assert_eq!(body["table-changes"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn a_table_gets_its_columns() {
        let body = CreateTableBody {
            name: "t",
            columns: &[("id", ColumnType::Long), ("at", ColumnType::Timestamp)],
            format_version: 2,
        };
        let body: Value = serde_json::from_str(&body.render()).unwrap();
        assert_eq!(body["schema"]["fields"][1]["id"], 2);
        assert_eq!(body["schema"]["fields"][1]["type"], "timestamp");
        assert_eq!(body["properties"]["format-version"], "2");
    }
}
