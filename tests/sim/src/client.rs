//! Simulated clients: random operations through the node's real HTTP services.

use crate::door::Door;
use crate::oracle::{Fate, Oracle, SnapshotId};
use crate::trace::Trace;
use bytes::Bytes;
use floeberg_env::{Clock, Rng, SeededRng};
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const BUCKET: &str = "lake";
pub(crate) const FILES: &str = "files";
const PREFIX: &str = "/iceberg/v1/lake";

/// One client with its own random stream.
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) door: Arc<Door>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: SeededRng,
    pub(crate) oracle: Arc<Mutex<Oracle>>,
    pub(crate) trace: Trace,
}

/// An answer, or none because the node failed inside.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// What the status code promises (Iceberg REST: 409 and other 4xx are definite).
    fn fate(&self) -> Fate {
        if self.status.is_success() {
            Fate::Acknowledged
        } else if self.status.is_client_error() || self.status == StatusCode::SERVICE_UNAVAILABLE {
            Fate::Refused
        } else {
            Fate::Unknown
        }
    }
}

impl Client {
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let body = Bytes::from(body.map(|b| b.to_string()).unwrap_or_default());
        let (status, body) = self.door.lakehouse(method, path, body).await;
        Answer { status, body }
    }

    fn note(&self, what: &str) {
        self.trace
            .line(self.clock.monotonic(), &format!("{} {what}", self.name));
    }

    /// Creates what every run needs; repeated after a crash until it is there.
    pub(crate) async fn prepare(&self) {
        let body = json!({"name": BUCKET});
        let made = self.call("PUT", "/buckets", Some(body)).await;
        let (files, _) = self.door.s3("PUT", FILES, Bytes::new()).await;
        self.note(&format!(
            "buckets {} {}",
            made.status.as_u16(),
            files.as_u16()
        ));
        let body = json!({"namespace": ["ns"]});
        let answer = self
            .call("POST", &format!("{PREFIX}/namespaces"), Some(body))
            .await;
        self.note(&format!("namespace {}", answer.status.as_u16()));
        for n in 0..4 {
            self.create_table(&format!("t{n}")).await;
        }
    }

    async fn create_table(&self, name: &str) {
        self.oracle.lock().table(name, Fate::Unknown);
        let body = json!({"name": name, "schema": {"type": "struct", "fields": [
            {"id": 1, "name": "id", "type": "long", "required": true}]}});
        let answer = self
            .call(
                "POST",
                &format!("{PREFIX}/namespaces/ns/tables"),
                Some(body),
            )
            .await;
        self.note(&format!("create {name} {}", answer.status.as_u16()));
        // 409: an earlier request whose answer was lost had made it.
        if answer.status.is_success() || answer.status == StatusCode::CONFLICT {
            self.oracle.lock().table(name, Fate::Acknowledged);
        }
    }

    pub(crate) async fn load(&self, table: &str) -> Option<Value> {
        let answer = self
            .call(
                "GET",
                &format!("{PREFIX}/namespaces/ns/tables/{table}"),
                None,
            )
            .await;
        answer.status.is_success().then(|| answer.json())
    }

    /// One random operation, then a random pause.
    pub(crate) async fn step(&mut self) {
        match self.rng.below_of(10) {
            0..=4 => self.commit_one().await,
            5..=6 => self.commit_two().await,
            7..=8 => self.put_object().await,
            _ => self.read().await,
        }
        let pause = Duration::from_micros(self.rng.below_of(3_000));
        tokio::time::sleep(pause).await;
    }

    fn pick(&mut self) -> Option<String> {
        let tables = self.oracle.lock().tables();
        let count = u64::try_from(tables.len()).ok().filter(|n| *n > 0)?;
        let at = usize::try_from(self.rng.below_of(count)).ok()?;
        tables.into_iter().nth(at)
    }

    /// Loads a table and builds an append on what was seen.
    async fn append(&mut self, table: &str) -> Option<(SnapshotId, Value)> {
        let loaded = self.load(table).await?;
        let metadata = &loaded["metadata"];
        let id = i64::try_from(self.rng.next() >> 2).ok()?;
        let parent = metadata["current-snapshot-id"]
            .as_i64()
            .filter(|id| *id >= 0);
        let sequence = metadata["last-sequence-number"].as_i64().unwrap_or(0) + 1;
        let location = metadata["location"].as_str()?;
        let mut snapshot = json!({
            "snapshot-id": id, "sequence-number": sequence,
            "timestamp-ms": self.clock.now().0,
            "manifest-list": format!("{location}/metadata/snap-{id}.avro"),
            "summary": {"operation": "append"}, "schema-id": 0});
        if let Some(parent) = parent {
            snapshot["parent-snapshot-id"] = json!(parent);
        }
        let change = json!({
            "identifier": {"namespace": ["ns"], "name": table},
            "requirements": [
                {"type": "assert-table-uuid", "uuid": metadata["table-uuid"]},
                {"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": parent}],
            "updates": [
                {"action": "add-snapshot", "snapshot": snapshot},
                {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch",
                 "snapshot-id": id}]});
        Some((id, change))
    }

    async fn commit_one(&mut self) {
        let Some(table) = self.pick() else { return };
        let Some((id, change)) = self.append(&table).await else {
            return;
        };
        let at = self.oracle.lock().commit(vec![(table.clone(), id)]);
        let path = format!("{PREFIX}/namespaces/ns/tables/{table}");
        let answer = self.call("POST", &path, Some(change.clone())).await;
        self.settle(at, &answer, &format!("commit {table} {id}"));
        // A client that lost the answer sends the same request again: it must never fail now.
        if answer.status.is_success() && self.rng.below_of(4) == 0 {
            let again = self.call("POST", &path, Some(change)).await;
            assert!(
                again.status.is_success(),
                "a replay of {id} was answered {}",
                again.status
            );
            self.note(&format!("replay {table} {id} {}", again.status.as_u16()));
        }
        if let Some(location) = answer.json()["metadata-location"].as_str() {
            self.look_at_metadata(location).await;
        }
    }

    async fn commit_two(&mut self) {
        let (Some(first), Some(second)) = (self.pick(), self.pick()) else {
            return;
        };
        if first == second {
            return;
        }
        let Some((id1, change1)) = self.append(&first).await else {
            return;
        };
        let Some((id2, change2)) = self.append(&second).await else {
            return;
        };
        let at = self
            .oracle
            .lock()
            .commit(vec![(first.clone(), id1), (second.clone(), id2)]);
        let body = json!({"table-changes": [change1, change2]});
        let answer = self
            .call("POST", &format!("{PREFIX}/transactions/commit"), Some(body))
            .await;
        self.settle(
            at,
            &answer,
            &format!("transaction {first} {id1} {second} {id2}"),
        );
    }

    fn settle(&self, at: usize, answer: &Answer, what: &str) {
        assert_ne!(
            answer.status,
            StatusCode::INTERNAL_SERVER_ERROR,
            "{what}: {}",
            String::from_utf8_lossy(&answer.body)
        );
        self.oracle.lock().settle_commit(at, answer.fate());
        self.note(&format!("{what} {}", answer.status.as_u16()));
    }

    async fn look_at_metadata(&self, location: &str) {
        if let Some(bytes) = self.get(location.trim_start_matches("s3://")).await {
            let checked = self.oracle.lock().rendered(location, &bytes);
            if let Err(violation) = checked {
                panic!("{violation}");
            }
        }
    }

    /// GET of `bucket/key` on the S3 port.
    pub(crate) async fn get(&self, path: &str) -> Option<Bytes> {
        let (status, body) = self.door.s3("GET", path, Bytes::new()).await;
        assert!(!status.is_server_error(), "GET {path}: {status}");
        status.is_success().then_some(body)
    }

    async fn put_object(&mut self) {
        let key = format!("{}-{}", self.name, self.rng.below_of(5));
        let sizes = [0, 10, 16_384, 16_385, 70_000, 300_000];
        let size = sizes[usize::try_from(self.rng.below_of(6)).expect("below six")];
        let mut body = vec![0; size];
        self.rng.fill(&mut body);
        let at = self.oracle.lock().object(&key, body.clone());
        let path = format!("{FILES}/{key}");
        let (status, _) = self.door.s3("PUT", &path, Bytes::from(body)).await;
        let fate = Answer {
            status,
            body: Bytes::new(),
        }
        .fate();
        self.oracle.lock().settle_object(&key, at, fate);
        self.note(&format!("put {key} {size} {}", status.as_u16()));
    }

    async fn read(&mut self) {
        let Some(table) = self.pick() else { return };
        let found = self.load(&table).await;
        let count = found.map_or(0, |t| {
            t["metadata"]["snapshots"].as_array().map_or(0, Vec::len)
        });
        self.note(&format!("read {table} {count}"));
    }

    /// Reads everything back and compares it with what was promised.
    pub(crate) async fn verify(&self) -> Result<(), String> {
        let mut found = BTreeMap::new();
        let names = self.oracle.lock().tables();
        for name in names {
            let table = self
                .load(&name)
                .await
                .ok_or(format!("table {name} cannot be loaded"))?;
            found.insert(name, lineage(&table["metadata"]));
        }
        self.oracle.lock().check_tables(&found)?;
        let keys = self.oracle.lock().object_keys();
        for key in keys {
            let got = self.get(&format!("{FILES}/{key}")).await;
            self.oracle.lock().check_object(&key, got.as_deref())?;
        }
        let locations = self.oracle.lock().rendered_locations();
        for location in locations {
            let path = location.trim_start_matches("s3://");
            let got = self
                .get(path)
                .await
                .ok_or(format!("{location} is not served any more"))?;
            self.oracle.lock().rendered(&location, &got)?;
        }
        self.note("verified");
        Ok(())
    }
}

/// Snapshot ids with their parents, in the order of the metadata.
fn lineage(metadata: &Value) -> Vec<(SnapshotId, Option<SnapshotId>)> {
    metadata["snapshots"]
        .as_array()
        .map_or_else(Vec::new, |snapshots| {
            snapshots
                .iter()
                .filter_map(|s| {
                    Some((s["snapshot-id"].as_i64()?, s["parent-snapshot-id"].as_i64()))
                })
                .collect()
        })
}

/// Draws that need no trait object.
pub(crate) trait Draws {
    fn next(&self) -> u64;
    fn below_of(&self, bound: u64) -> u64;
}

impl Draws for SeededRng {
    fn next(&self) -> u64 {
        (self as &dyn Rng).next_u64()
    }

    fn below_of(&self, bound: u64) -> u64 {
        (self as &dyn Rng).below(bound)
    }
}
