//! Large things that clients may rightly ask for, and one byte more.

use super::lab::*;
use super::tables::register;
use crate::*;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use floeberg_iceberg::{RawJson, TableMetadata};
use floeberg_metastore::Rows as _;
use floeberg_types::limits;
use serde_json::{Value, json};
use std::io::Write as _;

/// The document of a new table at `location`, as its client would write it.
async fn document(lab: &Lab, location: &str) -> Value {
    let head = lab.create("template").await.unwrap();
    let text = String::from_utf8(head.rendered(SnapshotsMode::All).to_vec()).unwrap();
    lab.drop("template").await.unwrap();
    serde_json::from_str(&text.replace(&head.info().location, location)).unwrap()
}

fn with_snapshots(document: &mut Value, count: i64) {
    let location = document["location"].as_str().unwrap().to_owned();
    let at = document["last-updated-ms"].as_i64().unwrap();
    let snapshot = |id: i64| {
        json!({
            "snapshot-id": id, "parent-snapshot-id": id - 1, "sequence-number": id,
            "timestamp-ms": at, "schema-id": 0,
            "manifest-list": format!("{location}/metadata/snap-{id}.avro"),
            "summary": {"operation": "append", "added-records": "1000", "total-records": id.to_string()},
        })
    };
    document["snapshots"] = (1..=count).map(snapshot).collect();
    let entry = |id: i64| json!({"snapshot-id": id, "timestamp-ms": at});
    document["snapshot-log"] = (1..=count).map(entry).collect();
    document["last-sequence-number"] = count.into();
    document["current-snapshot-id"] = count.into();
    document["refs"] = json!({"main": {"snapshot-id": count, "type": "branch"}});
}

fn with_columns(document: &mut Value, count: usize) {
    let field = |id: usize| {
        json!({
            "id": id, "name": format!("a_column_with_a_name_{id}"), "required": false,
            "type": "string", "doc": "what this column says, in a few words",
        })
    };
    document["schemas"][0]["fields"] = (1..=count).map(field).collect();
    document["last-column-id"] = count.into();
}

/// The document as a file of exactly `len` bytes.
fn filled(mut document: Value, len: usize) -> Vec<u8> {
    let name = |n: usize| format!("filler-{n}");
    document["properties"] = json!({});
    for n in 0.. {
        document["properties"][name(n)] = "".into();
        let missing = len - serde_json::to_vec(&document).unwrap().len();
        let take = missing.min(1 << 20);
        // What the next one takes beside its value must not be more than what is left.
        let take = if missing - take < 64 && missing != take {
            take - 64
        } else {
            take
        };
        document["properties"][name(n)] = "x".repeat(take).into();
        if take == missing {
            break;
        }
    }
    let file = serde_json::to_vec(&document).unwrap();
    assert_eq!(file.len(), len);
    file
}

fn packed(file: &[u8]) -> Bytes {
    let mut packing = GzEncoder::new(Vec::new(), Compression::fast());
    packing.write_all(file).unwrap();
    packing.finish().unwrap().into()
}

async fn cold(lab: &Lab, name: &str) -> TableMetadata {
    let (catalog, lake, ident) = (lab.forgetful(), lake(), ident(name));
    let head = catalog.load_table(&allowed(), &cx(), &lake, &ident).await;
    head.unwrap().metadata().clone()
}

#[tokio::test]
async fn the_largest_metadata_file_becomes_a_table_and_a_byte_more_does_not() {
    let lab = Lab::with_pieces(PieceSizes::default()).await;
    let mut large = document(&lab, "s3://lake/in/t").await;
    with_snapshots(&mut large, 50_000);
    with_columns(&mut large, 10_000);
    let file = filled(large.clone(), limits::METADATA_FILE_BYTES);
    let put = |key: &str, bytes: Bytes| lab.objects.0.lock().insert(key.to_owned(), bytes);
    put("in/a.metadata.json", file.clone().into());
    put("in/b.metadata.json.gz", packed(&file));
    let longer = filled(large, limits::METADATA_FILE_BYTES + 1);
    put("in/c.metadata.json.gz", packed(&longer));
    put("in/c.metadata.json", longer.into());
    let parsed = TableMetadata::parse(&file).unwrap();

    for longer in ["c.metadata.json", "c.metadata.json.gz"] {
        let uri = format!("s3://lake/in/{longer}");
        let refused = register(&lab, "t", &uri, Overwrite::Refuse).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("33554432"), "{refused}");
    }
    let uri = "s3://lake/in/a.metadata.json";
    let head = register(&lab, "t", uri, Overwrite::Refuse).await.unwrap();
    assert_eq!(head.metadata(), &parsed);
    let published = written(&lab, &head.info().version_token);
    assert!(published < 4 << 10, "{published} bytes in the last command");
    assert_eq!(cold(&lab, "t").await, parsed);
    // The same once more, packed, in place of it: what does not differ is not written.
    let before = lab.rows().len();
    let uri = "s3://lake/in/b.metadata.json.gz";
    let head = register(&lab, "t", uri, Overwrite::Replace).await.unwrap();
    assert_eq!(lab.rows().len(), before + 1, "a version");

    // It is a table like any other: it is appended to, and nearly all of it expires at once.
    let head = lab.commit(&append("t", head.metadata(), 50_001)).await;
    let head = head.unwrap().head;
    assert_eq!(cold(&lab, "t").await, *head.metadata());
    let ids: Vec<String> = (1..50_000).map(|id| id.to_string()).collect();
    let expire = TableChange {
        updates: vec![update(&format!(
            r#"{{"action":"remove-snapshots","snapshot-ids":[{}]}}"#,
            ids.join(",")
        ))],
        ..set_property("t", "k", "v")
    };
    let head = lab.commit(&expire).await.unwrap().head;
    assert_eq!(head.metadata().snapshot_count(), 2);
    assert_eq!(cold(&lab, "t").await, *head.metadata());
}

#[tokio::test]
async fn what_is_no_part_of_a_command_is_a_clear_refusal_on_older_nodes() {
    let lab = Lab::with_namespace().await;
    let large = document(&lab, "s3://lake/in/t").await;
    let file = filled(large, limits::COMMAND_BYTES);
    let key = "in/a.metadata.json".to_owned();
    lab.objects.0.lock().insert(key, file.into());
    let before = lab.rows();
    let uri = "s3://lake/in/a.metadata.json";
    let refused = register(&lab, "t", uri, Overwrite::Refuse)
        .await
        .unwrap_err();
    let RegisterTableError::Outage(Outage::TooLarge(large)) = refused else {
        panic!("{refused}");
    };
    assert_eq!(large.limit, limits::COMMAND_BYTES as u64);
    assert_eq!(lab.rows(), before);
}

/// Bytes of the catalog's rows that a command wrote.
fn written(lab: &Lab, token: &VersionToken) -> usize {
    let rows = lab.store.local();
    let rows = (0x10..=0x1e).map(|tag| rows.scan_prefix(&[tag], None, usize::MAX).unwrap());
    let own = rows
        .flatten()
        .filter(|(_, row)| token.matches(&row.commit_id.to_hex()));
    own.map(|(key, row)| key.len() + row.payload.len()).sum()
}

#[tokio::test]
async fn the_largest_transaction_is_one_command_and_a_table_more_is_refused() {
    let lab = Lab::with_namespace().await;
    let schema: Vec<String> = (2..=20)
        .map(|id| format!(r#"{{"id":{id},"name":"column_{id}","required":false,"type":"string"}}"#))
        .collect();
    let mut heads = Vec::new();
    for first in (0..limits::TRANSACTION_TABLES).step_by(500) {
        let creations: Vec<TableChange> = (first..first + 500)
            .map(|n| {
                let mut change = super::commits::creation(&format!("t{n}"), None);
                let text = serde_json::to_string(&change.updates).unwrap();
                let fields = schema.join(",");
                let text = text.replacen(r#""fields":["#, &format!(r#""fields":[{fields},"#), 1);
                change.updates = serde_json::from_str(&text).unwrap();
                change
            })
            .collect();
        let created = lab.transaction(&creations).await.unwrap();
        heads.extend(created.into_iter().map(|table| table.head));
    }
    let summary = r#""summary":{"operation":"append","spark.app.id":"application_1700000000000_0001","added-data-files":"12","added-records":"1234567","added-files-size":"123456789","changed-partition-count":"12","total-records":"123456789","total-files-size":"12345678901","total-data-files":"1234","total-delete-files":"0","total-position-deletes":"0","total-equality-deletes":"0","engine-version":"3.5.1","iceberg-version":"Apache Iceberg 1.6.1 (commit 8e9d59d299be42b0bca9461457cd1e95dbaad086)"}"#;
    let mut changes: Vec<TableChange> = heads
        .iter()
        .enumerate()
        .map(|(n, head)| {
            let change = append(&format!("t{n}"), head.metadata(), n as i64 + 1);
            let text = serde_json::to_string(&change.updates).unwrap();
            let text = text.replace(r#""summary":{"operation":"append"}"#, summary);
            TableChange {
                updates: serde_json::from_str(&text).unwrap(),
                ..change
            }
        })
        .collect();
    let done = lab.transaction(&changes).await.unwrap();
    assert!(done.iter().all(|t| t.outcome == CommitOutcome::Committed));
    let bytes = written(&lab, &done[0].head.info().version_token);
    assert!(bytes > 2 << 20 && bytes < 6 << 20, "{bytes}");
    changes.push(set_property("t0", "k", "v"));
    lab.transaction(&changes).await.unwrap_err();
}

#[tokio::test]
async fn a_table_of_ten_thousand_columns_is_created_and_evolves() {
    let lab = Lab::with_namespace().await;
    let schema = |count: usize| {
        let mut document = json!({"schemas": [{"type": "struct", "schema-id": 0}]});
        with_columns(&mut document, count);
        serde_json::to_string(&document["schemas"][0]).unwrap()
    };
    let request = CreateTable {
        schema: RawJson::parse(&schema(10_000)).unwrap(),
        ..new_table("wide")
    };
    let head = lab.create_with(&request).await.unwrap();
    assert_eq!(cold(&lab, "wide").await, *head.metadata());
    let wider = TableChange {
        updates: vec![
            update(&format!(
                r#"{{"action":"add-schema","schema":{}}}"#,
                schema(10_001)
            )),
            update(r#"{"action":"set-current-schema","schema-id":-1}"#),
        ],
        ..set_property("wide", "k", "v")
    };
    let head = lab.commit(&wider).await.unwrap().head;
    assert_eq!(cold(&lab, "wide").await, *head.metadata());
    let bytes = written(&lab, &head.info().version_token);
    assert!(bytes < 2 << 20, "{bytes}");
}
