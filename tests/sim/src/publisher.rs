//! Clients that point one table at metadata files which no single command takes here, and at times leave
//! before they have an answer.
//!
//! Such a file is written ahead in pieces, which nobody may see before one command publishes all of them and
//! compares everything that was read. In the history the table is a register of whole documents: whoever
//! reads it finds one document, all of it, and nothing else.

use crate::client::{Asked, Client};
use crate::tables::PREFIX;
use bytes::Bytes;
use floeberg_test_chaos::history::{Answer, Call};
use serde_json::{Value, json};
use std::time::Duration;

/// The table, whose only snapshots are those of published documents.
pub(crate) const DOCUMENTS: &str = "documents";

/// How S3 Tables names the table's pointer.
const POINTER: &str = "/tables/arn%3Aaws%3As3tables%3Aus-east-1%3A000000000000%3Abucket%2Flake/ns/\
                       documents/metadata-location";
/// Before any simulated time, so that no clock takes a document for one from the future.
const WRITTEN_MS: i64 = 1_700_000_000_000;
/// Documents have at least so many snapshots, and less than twice as many.
const SNAPSHOTS: u64 = 8;

/// Snapshots that say which document they belong to, and how many there are in it.
fn snapshots(location: &str, marker: u64, count: u64) -> Vec<Value> {
    let id = |number: u64| marker + number;
    let each = (0..count).map(|number| {
        let mut snapshot = json!({
            "snapshot-id": id(number), "sequence-number": number + 1, "timestamp-ms": WRITTEN_MS,
            "manifest-list": format!("{location}/metadata/snap-{}.avro", id(number)),
            "summary": {"operation": "append", "document": marker.to_string(), "of": count.to_string()},
            "schema-id": 0});
        if number > 0 {
            snapshot["parent-snapshot-id"] = json!(id(number - 1));
        }
        snapshot
    });
    each.collect()
}

/// A document for a table that has `metadata`, whatever its history is.
fn document(mut metadata: Value, marker: u64, count: u64) -> Value {
    let location = metadata["location"].as_str().unwrap_or_default().to_owned();
    let last = marker + count - 1;
    metadata["snapshots"] = snapshots(&location, marker, count).into();
    metadata["current-snapshot-id"] = json!(last);
    metadata["refs"] = json!({"main": {"snapshot-id": last, "type": "branch"}});
    metadata["snapshot-log"] = json!([{"snapshot-id": last, "timestamp-ms": WRITTEN_MS}]);
    metadata["metadata-log"] = json!([]);
    metadata["last-sequence-number"] = json!(count);
    metadata["last-updated-ms"] = json!(WRITTEN_MS);
    metadata
}

/// Which document a load shows; anything but a whole one is garbled.
fn shown(loaded: &Bytes) -> Option<Answer> {
    let loaded: Value = serde_json::from_slice(loaded).ok()?;
    let metadata = &loaded["metadata"];
    metadata["location"].as_str()?;
    let empty = Vec::new();
    let snapshots = metadata["snapshots"].as_array().unwrap_or(&empty);
    let Some(first) = snapshots.first() else {
        return Some(Answer::Object { marker: None });
    };
    let number = |name: &str| -> Option<u64> { first["summary"][name].as_str()?.parse().ok() };
    let (marker, count) = (number("document")?, number("of")?);
    let location = metadata["location"].as_str()?;
    let whole = document(metadata.clone(), marker, count);
    let is_whole = *snapshots == self::snapshots(location, marker, count)
        && metadata["current-snapshot-id"] == whole["current-snapshot-id"];
    Some(match is_whole {
        true => Answer::Object {
            marker: Some(marker),
        },
        false => Answer::Garbled {
            what: format!(
                "{} snapshots, the first of document {marker} with {count}",
                snapshots.len()
            ),
        },
    })
}

impl Client {
    /// Publishes a document, or reads which one there is; then a random pause.
    pub(crate) async fn publish_step(&mut self) {
        if self.draw(4) == 0 {
            self.wander();
        }
        match self.draw(3) {
            0 => self.publish().await,
            1 => self.race().await,
            _ => drop(self.read_document().await),
        }
        let pause = Duration::from_millis(20 + self.draw(150));
        tokio::time::sleep(pause).await;
    }

    /// Whether there was an answer.
    pub(crate) async fn read_document(&mut self) -> bool {
        let call = Call::Get {
            key: DOCUMENTS.to_owned(),
        };
        let path = format!("{PREFIX}/namespaces/ns/tables/{DOCUMENTS}");
        let asked = self.ask(call, ("GET", &path, None), shown).await;
        matches!(asked, Asked::Done(_))
    }

    async fn publish(&mut self) {
        let Some(token) = self.version().await else {
            return;
        };
        let count = SNAPSHOTS + self.draw(SNAPSHOTS);
        if let Some(written) = self.write_document(count).await {
            let patience = self.patience;
            if self.draw(3) == 0 {
                // It leaves after some of the pieces.
                self.patience = Duration::from_millis(1 + self.draw(60));
            }
            self.point(&token, written).await;
            self.patience = patience;
        }
    }

    /// A document through each node at once, of as many pieces, for one version of the table.
    async fn race(&mut self) {
        let Some(token) = self.version().await else {
            return;
        };
        let count = SNAPSHOTS + self.draw(SNAPSHOTS);
        let mut racers = Vec::new();
        for (node, _) in self.cluster.doors() {
            if let Some(written) = self.write_document(count).await {
                let mut racer = self.twin(node);
                let token = token.clone();
                racers.push(async move { racer.point(&token, written).await });
            }
        }
        futures::future::join_all(racers).await;
    }

    /// Points the table, of which `token` names the version, at a metadata file with the document `marker`.
    async fn point(&mut self, token: &str, (uri, marker): (String, u64)) {
        let body = json!({"versionToken": token, "metadataLocation": uri});
        let call = Call::Put {
            key: DOCUMENTS.to_owned(),
            marker,
        };
        let request = ("PUT", POINTER, Some(&body));
        let asked = self.ask(call, request, |_| Some(Answer::Done)).await;
        if matches!(asked, Asked::Done(_)) {
            self.cluster.record.published(token, marker);
        }
    }

    /// What the home node answers, if it does.
    async fn look(&self, path: &str) -> Option<Value> {
        let door = self.cluster.door(self.home)?;
        let answered = door.lakehouse(self.patience, "GET", path, Bytes::new());
        let (status, body) = answered.await.ok()?;
        let body = status.is_success().then_some(body)?;
        serde_json::from_slice(&body).ok()
    }

    async fn version(&self) -> Option<String> {
        let pointer = self.look(POINTER).await?;
        Some(pointer["versionToken"].as_str()?.to_owned())
    }

    /// Writes a metadata file; returns its URI and which document is in it.
    async fn write_document(&self, count: u64) -> Option<(String, u64)> {
        let path = format!("{PREFIX}/namespaces/ns/tables/{DOCUMENTS}");
        let loaded = self.look(&path).await?;
        let door = self.cluster.door(self.home)?;
        // Whatever is added to it is still a number that JSON and the snapshots' ids take.
        let marker = self.draw(1 << 50) << 8;
        let location = loaded["metadata"]["location"].as_str()?.to_owned();
        let body = document(loaded["metadata"].clone(), marker, count).to_string();
        let uri = format!("{location}/metadata/{marker}.metadata.json");
        let path = uri.trim_start_matches("s3://");
        let written = door.s3(self.patience, "PUT", path, body.into()).await;
        let (status, _) = written.ok()?;
        status.is_success().then_some((uri, marker))
    }
}
