//! The largest bodies and files that are permitted, and how one is made longer by a byte.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use floeberg_client::transaction_body;
use serde_json::{Value, json};
use std::fmt::Write as _;

use super::ground::Crowd;
use crate::table::Observed;
use crate::world::{append, manifest_list};

/// Values that share the bytes of a large commit; each stays below the limit of one.
const VALUES: usize = 20;
/// Snapshots and columns of a large metadata file; the rest of it are properties.
pub(super) const SNAPSHOTS: i64 = 50_000;
const COLUMNS: usize = 10_000;
/// About so many bytes has each property that fills a file up.
const FILLER: usize = 1 << 20;

/// What a writer such as Spark says of a snapshot beside the totals.
const SUMMARY: &str = concat!(
    r#""spark.app.id":"application_1700000000000_0001","added-data-files":"12","#,
    r#""added-files-size":"123456789","changed-partition-count":"12","total-data-files":"1234","#,
    r#""total-files-size":"12345678901","total-delete-files":"0","total-position-deletes":"0","#,
    r#""total-equality-deletes":"0","engine-version":"3.5.1","iceberg-version":"#,
    r#""Apache Iceberg 1.6.1 (commit 8e9d59d299be42b0bca9461457cd1e95dbaad086)""#
);

/// The body of a commit, which has `length` bytes.
pub(super) fn commit(length: usize) -> String {
    let empty = commit_of(std::iter::repeat_n(0, VALUES)).len();
    let bytes = length - empty;
    let each = bytes / VALUES;
    commit_of((0..VALUES).map(|n| match n {
        0 => bytes - each * (VALUES - 1),
        _ => each,
    }))
}

fn commit_of(lengths: impl Iterator<Item = usize>) -> String {
    let mut body =
        r#"{"requirements":[],"updates":[{"action":"set-properties","updates":{"#.to_owned();
    body.push_str(&fillers(lengths));
    body.push_str("}}]}");
    body
}

/// Members of an object, one for each length of its value.
fn fillers(lengths: impl Iterator<Item = usize>) -> String {
    let mut members = String::new();
    for (n, length) in lengths.enumerate() {
        let comma = if n > 0 { "," } else { "" };
        let value = "x".repeat(length);
        let _ = write!(members, r#"{comma}"filler-{n:02}":"{value}""#);
    }
    members
}

/// The body of a transaction that appends snapshot `number` to each of the tables.
pub(super) fn transaction(namespace: &str, tables: &[Crowd], number: i64) -> String {
    let lists: Vec<_> = tables
        .iter()
        .map(|table| manifest_list(&table.location, number))
        .collect();
    let parent = (number > 1).then_some(number - 1);
    let changes: Vec<_> = tables
        .iter()
        .zip(&lists)
        .map(|(table, list)| (&*table.name, append(parent, number, number, list)))
        .collect();
    let body = transaction_body(&[namespace], &changes);
    body.replace(r#""added-data-files":"1""#, SUMMARY)
}

/// Metadata files of one length that differ in their table's location and UUID only.
pub(super) struct Files {
    text: String,
    /// Those of the text.
    location: String,
    uuid: String,
}

impl Files {
    /// Fills the metadata of a new table up to `len` bytes.
    pub(super) fn of(table: &Observed, len: usize) -> anyhow::Result<Self> {
        let mut metadata: Value = serde_json::from_str(&table.text)?;
        metadata["properties"] = json!({});
        with_snapshots(&mut metadata)?;
        with_columns(&mut metadata);
        let text = metadata.to_string();
        let missing = len.checked_sub(text.len());
        let missing = missing.context("the metadata is too long already")?;
        let count = missing / FILLER + 1;
        // A member takes 14 bytes beside its value, and a comma from the second on.
        let values = missing - count * 14 - (count - 1);
        let each = values / count;
        let lengths = (0..count).map(|n| match n {
            0 => values - each * (count - 1),
            _ => each,
        });
        let filled = format!(r#""properties":{{{}}}"#, fillers(lengths));
        let text = text.replacen(r#""properties":{}"#, &filled, 1);
        ensure!(text.len() == len, "{} bytes, not {len}", text.len());
        Ok(Self {
            text,
            location: table.location.clone(),
            uuid: table.uuid.clone(),
        })
    }

    /// The one for a table.
    pub(super) fn file(&self, table: &Observed) -> anyhow::Result<Bytes> {
        let text = self.text.replace(&self.location, &table.location);
        let text = text.replace(&self.uuid, &table.uuid);
        ensure!(
            text.len() == self.text.len(),
            "a location of another length"
        );
        Ok(text.into())
    }
}

fn with_snapshots(metadata: &mut Value) -> anyhow::Result<()> {
    let location = metadata["location"].as_str().context("no location")?;
    let at = metadata["last-updated-ms"].clone();
    let snapshot = |id: i64| {
        let mut snapshot = json!({
            "snapshot-id": id, "sequence-number": id, "timestamp-ms": at, "schema-id": 0,
            "manifest-list": manifest_list(location, id),
            "summary": {"operation": "append", "added-records": "1000", "total-records": id.to_string()},
        });
        if id > 1 {
            snapshot["parent-snapshot-id"] = (id - 1).into();
        }
        snapshot
    };
    let snapshots: Value = (1..=SNAPSHOTS).map(snapshot).collect();
    let entry = |id: i64| json!({"snapshot-id": id, "timestamp-ms": at});
    metadata["snapshot-log"] = (1..=SNAPSHOTS).map(entry).collect();
    metadata["snapshots"] = snapshots;
    metadata["last-sequence-number"] = SNAPSHOTS.into();
    metadata["current-snapshot-id"] = SNAPSHOTS.into();
    metadata["refs"] = json!({"main": {"snapshot-id": SNAPSHOTS, "type": "branch"}});
    Ok(())
}

fn with_columns(metadata: &mut Value) {
    let field = |id: usize| {
        json!({
            "id": id, "name": format!("a_column_with_a_name_{id}"), "required": false,
            "type": "string", "doc": "what this column says, in a few words",
        })
    };
    metadata["schemas"][0]["fields"] = (1..=COLUMNS).map(field).collect();
    metadata["last-column-id"] = COLUMNS.into();
}
