//! What every run needs before it is disturbed: the cluster, its buckets and its tables.

use crate::cluster::Cluster;
use crate::operator::Operator;
use crate::publisher::DOCUMENTS;
use crate::tables::{BUCKET, FILES, PREFIX, TABLES};
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
const TRIES: u32 = 100;

/// Starts `nodes` nodes and creates what clients use; `false` if that does not come about.
pub(crate) async fn prepare(cluster: &Arc<Cluster>, nodes: u64) -> bool {
    cluster.found().await;
    let operator = Operator::new(cluster);
    for _ in 1..nodes {
        let joined = operator.grow().await;
        if joined.is_none() {
            cluster.record.broken("a node cannot join in calm");
            return false;
        }
    }
    let space = json!({"namespace": ["ns"]});
    let mut wanted = vec![
        (
            "PUT".to_owned(),
            "/buckets".to_owned(),
            json!({"name": BUCKET}),
        ),
        ("POST".to_owned(), format!("{PREFIX}/namespaces"), space),
    ];
    for name in TABLES.into_iter().chain([DOCUMENTS]) {
        let table = json!({"name": name, "schema": {"type": "struct", "fields": [
            {"id": 1, "name": "id", "type": "long", "required": true}]}});
        let path = format!("{PREFIX}/namespaces/ns/tables");
        wanted.push(("POST".to_owned(), path, table));
    }
    for (method, path, body) in wanted {
        if !create(cluster, &method, &path, &body).await {
            cluster
                .record
                .broken(format!("{method} {path} fails in calm"));
            return false;
        }
    }
    bucket(cluster).await
}

fn is_there(status: StatusCode) -> bool {
    status.is_success() || status == StatusCode::CONFLICT
}

async fn create(cluster: &Cluster, method: &str, path: &str, body: &Value) -> bool {
    for _ in 0..TRIES {
        if let Some(door) = cluster.door(1) {
            let body = Bytes::from(body.to_string());
            let answered = door.lakehouse(PATIENCE, method, path, body).await;
            if answered.is_ok_and(|(status, _)| is_there(status)) {
                return true;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

async fn bucket(cluster: &Cluster) -> bool {
    for _ in 0..TRIES {
        if let Some(door) = cluster.door(1) {
            let answered = door.s3(PATIENCE, "PUT", FILES, Bytes::new()).await;
            if answered.is_ok_and(|(status, _)| is_there(status)) {
                return true;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster
        .record
        .broken("the bucket cannot be created in calm");
    false
}
