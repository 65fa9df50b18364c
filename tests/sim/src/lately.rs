//! Whether a node that no longer hears from the catalog stops showing what was deleted (decision 0010).
//!
//! A bucket of tables has no fence. That it is gone, and with it the right to read what lies in it, takes
//! effect on every node within [`BOUND`], because rows of the catalog that are older are not read any more.
//! A node shows whether it keeps to that only while it reads objects and hears nothing of the catalog: when
//! it is cut off from the leader of that group alone.

use crate::cluster::Cluster;
use crate::door::Door;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How old the rows may be in which the bucket of a name is found. Said here once more: a longer one in
/// the product is to be found.
const BOUND: Duration = Duration::from_secs(10);
/// For so long after that it is watched.
const WATCHED: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(250);
const TRIES: u32 = 240;

const BUCKET: &str = "brief";
const ARN: &str = "arn%3Aaws%3As3tables%3Aus-east-1%3A000000000000%3Abucket%2Fbrief";
const SPACES: &str = "/iceberg/v1/brief/namespaces";
const TABLES: &str = "/iceberg/v1/brief/namespaces/ns/tables";

/// Deletes a bucket while one node is cut off from the catalog, and watches what that node shows.
pub(crate) async fn watch(cluster: &Arc<Cluster>) {
    let Some(leader) = part_leaders(cluster).await else {
        return cluster
            .record
            .broken("one node goes on leading both groups");
    };
    let up = cluster.members_up().into_iter().map(|(node, _)| node);
    let others: Vec<u64> = up.filter(|node| *node != leader).collect();
    let at = usize::try_from(cluster.draw(others.len() as u64)).unwrap_or(0);
    let scene = Scene {
        cluster,
        cut: others[at],
        leader,
    };
    if let Err(what) = scene.play().await {
        cluster.record.broken(what);
    }
    cluster.rejoin(scene.cut);
}

/// Lets different nodes lead the two groups; returns who leads the catalog.
async fn part_leaders(cluster: &Cluster) -> Option<u64> {
    for _ in 0..TRIES {
        if let (Some(catalog), Some(objects)) = (cluster.leader(0), cluster.leader(1)) {
            if catalog != objects {
                return Some(catalog);
            }
            let mut others = cluster.members_up().into_iter();
            let other = others.find(|(node, _)| *node != catalog);
            if let (Some((to, _)), Some(door)) = (other, cluster.door(catalog)) {
                let body = Bytes::from(json!({"group": 1, "to": to}).to_string());
                let path = "/admin/v1/cluster/leader";
                let _ = door.lakehouse(PATIENCE, "POST", path, body).await;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    None
}

struct Scene<'a> {
    cluster: &'a Cluster,
    /// Who is cut off from the catalog.
    cut: u64,
    leader: u64,
}

impl Scene<'_> {
    async fn play(&self) -> Result<(), String> {
        let file = self.furnish().await?;
        let mut tries = 0;
        while self.shows(&file).await != Some(true) {
            tries += 1;
            if tries == TRIES {
                return Err(format!("node {} does not show {file} in calm", self.cut));
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.cluster.cut_off(self.cut, self.leader);
        let table = format!("{TABLES}/t");
        let space = format!("{SPACES}/ns");
        let bucket = format!("/buckets/{ARN}");
        for path in [&table, &space, &bucket] {
            self.change("DELETE", path, &Value::Null).await?;
        }
        self.cluster.record.note("a bucket of tables is gone", &[]);
        let gone = Instant::now();
        while gone.elapsed() < BOUND + WATCHED {
            let begun = gone.elapsed();
            if self.shows(&file).await == Some(true) && begun > BOUND {
                let node = self.cut;
                return Err(format!(
                    "node {node} shows a file of a bucket that was deleted {begun:?} before"
                ));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// A bucket with a table and a file; returns the path of the file.
    async fn furnish(&self) -> Result<String, String> {
        let table = json!({"name": "t", "schema": {"type": "struct", "fields": [
            {"id": 1, "name": "id", "type": "long", "required": true}]}});
        self.change("PUT", "/buckets", &json!({"name": BUCKET}))
            .await?;
        self.change("POST", SPACES, &json!({"namespace": ["ns"]}))
            .await?;
        self.change("POST", TABLES, &table).await?;
        let body = self
            .change("GET", &format!("{TABLES}/t"), &Value::Null)
            .await?;
        let loaded: Value = serde_json::from_slice(&body).unwrap_or_default();
        let location = loaded["metadata"]["location"].as_str();
        let location = location.ok_or("a table without a location")?;
        let file = format!("{}/data/file", location.trim_start_matches("s3://"));
        for _ in 0..TRIES {
            let body = Bytes::from_static(b"what is in it");
            let answered = self.door()?.s3(PATIENCE, "PUT", &file, body).await;
            // It is written once: a try whose answer was lost has written it.
            let is_there = |status: StatusCode| status.is_success() || status.is_client_error();
            if answered.is_ok_and(|(status, _)| is_there(status)) {
                return Ok(file);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err("a file cannot be written although all is healed".to_owned())
    }

    fn door(&self) -> Result<Arc<Door>, String> {
        let door = self.cluster.door(self.leader);
        door.ok_or_else(|| "a leader is down although all is healed".to_owned())
    }

    /// Insists on a change of the catalog, by the node that leads it.
    async fn change(&self, method: &str, path: &str, body: &Value) -> Result<Bytes, String> {
        for _ in 0..TRIES {
            let sent = match body {
                Value::Null => Bytes::new(),
                body => Bytes::from(body.to_string()),
            };
            let answered = self.door()?.lakehouse(PATIENCE, method, path, sent).await;
            if let Ok((status, body)) = answered {
                // A try whose answer was lost may have done it.
                let before = match method {
                    "DELETE" => StatusCode::NOT_FOUND,
                    _ => StatusCode::CONFLICT,
                };
                if status.is_success() || status == before {
                    return Ok(body);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(format!("{method} {path} fails although all is healed"))
    }

    /// Whether the node that is cut off shows the file; `None`: it does not answer that.
    async fn shows(&self, file: &str) -> Option<bool> {
        let door = self.cluster.door(self.cut)?;
        match door.s3(PATIENCE, "GET", file, Bytes::new()).await {
            Ok((status, _)) if status.is_success() => Some(true),
            Ok((StatusCode::NOT_FOUND, _)) => Some(false),
            Ok(_) | Err(_) => None,
        }
    }
}
