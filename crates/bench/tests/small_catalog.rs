//! The load against a catalog of a few lines that checks what a real one checks.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use bytes::Bytes;
use floeberg_bench::{
    Afterwards, Bound, CommitMode, CommitsConfig, HistoryConfig, Pace, run_commits, run_history,
};
use floeberg_client::{IcebergAuth, IcebergConfig};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// Head snapshot and sequence number of each table.
#[derive(Default)]
struct Catalog {
    namespaces: Vec<String>,
    tables: BTreeMap<String, (Option<i64>, i64)>,
    commits: u64,
    largest_transaction: usize,
    refused: u64,
    faults: Vec<String>,
}

type Answer = (StatusCode, Value);

impl Catalog {
    fn describe(&self, table: &str) -> Value {
        let (snapshot, sequence) = self.tables[table];
        json!({"metadata": {
            "table-uuid": table, "location": format!("s3://b/{table}"),
            "current-snapshot-id": snapshot, "last-sequence-number": sequence
        }})
    }

    /// The new head, or `None` if a requirement fails.
    fn check(&mut self, table: &str, change: &Value) -> Option<(Option<i64>, i64)> {
        let (head, sequence) = self.tables[table];
        let snapshot = &change["updates"][0]["snapshot"];
        let moved = &change["updates"][1];
        let expected = change["requirements"][1]["snapshot-id"].as_i64();
        if change["requirements"][0]["uuid"] != table
            || moved["snapshot-id"] != snapshot["snapshot-id"]
            || snapshot["parent-snapshot-id"].as_i64() != expected
        {
            self.faults.push(change.to_string());
        }
        let next = snapshot["sequence-number"].as_i64().unwrap();
        let current = expected == head && next == sequence + 1;
        current.then(|| (snapshot["snapshot-id"].as_i64(), next))
    }

    fn commit(&mut self, changes: &[(String, Value)]) -> Answer {
        let mut heads = BTreeMap::new();
        for (table, change) in changes {
            let Some(head) = self.check(table, change) else {
                self.refused += 1;
                let error = json!({"error": {"message": "m", "type": "CommitFailedException"}});
                return (StatusCode::CONFLICT, error);
            };
            heads.insert(table.clone(), head);
        }
        self.commits += 1;
        self.largest_transaction = self.largest_transaction.max(heads.len());
        self.tables.extend(heads);
        (StatusCode::OK, Value::Null)
    }

    fn answer(&mut self, method: &Method, path: &str, body: &Value) -> Answer {
        let parts: Vec<&str> = path.trim_start_matches("/base/v1/").split('/').collect();
        let no_content = (StatusCode::NO_CONTENT, Value::Null);
        match (method.as_str(), &parts[..]) {
            ("GET", ["config"]) => (StatusCode::OK, json!({"overrides": {"prefix": "p%3Aq"}})),
            ("POST", ["p%3Aq", "namespaces"]) => {
                let name = body["namespace"][0].as_str().unwrap();
                self.namespaces.push(name.into());
                (StatusCode::OK, json!({"namespace": [name]}))
            }
            ("POST", ["p%3Aq", "namespaces", _, "tables"]) => {
                let name = body["name"].as_str().unwrap().to_owned();
                self.tables.insert(name.clone(), (None, 0));
                (StatusCode::OK, self.describe(&name))
            }
            ("GET", ["p%3Aq", "namespaces", _, "tables"]) => {
                let names = self
                    .tables
                    .keys()
                    .map(|n| json!({"namespace": ["n"], "name": n}));
                (
                    StatusCode::OK,
                    json!({"identifiers": names.collect::<Vec<_>>()}),
                )
            }
            ("GET", ["p%3Aq", "namespaces", _, "tables", table]) => {
                (StatusCode::OK, self.describe(table))
            }
            ("POST", ["p%3Aq", "namespaces", _, "tables", table]) => {
                match self.commit(&[((*table).into(), body.clone())]) {
                    (StatusCode::OK, _) => (StatusCode::OK, self.describe(table)),
                    refused => refused,
                }
            }
            ("POST", ["p%3Aq", "transactions", "commit"]) => {
                let changes = body["table-changes"].as_array().unwrap().iter();
                let named = |c: &Value| {
                    let name = c["identifier"]["name"].as_str().unwrap();
                    (name.to_owned(), c.clone())
                };
                match self.commit(&changes.map(named).collect::<Vec<_>>()) {
                    (StatusCode::OK, _) => no_content,
                    refused => refused,
                }
            }
            ("DELETE", ["p%3Aq", "namespaces", _, "tables", table]) => {
                self.tables.remove(*table);
                no_content
            }
            ("DELETE", ["p%3Aq", "namespaces", name]) => {
                self.namespaces.retain(|n| n != name);
                no_content
            }
            other => panic!("unexpected call {other:?}"),
        }
    }
}

async fn serve(
    catalog: Arc<Mutex<Catalog>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let (status, answer) = if head.headers["authorization"] == "Bearer secret" {
        catalog
            .lock()
            .unwrap()
            .answer(&head.method, head.uri.path(), &body)
    } else {
        (StatusCode::UNAUTHORIZED, Value::Null)
    };
    let mut response = Response::new(Full::new(answer.to_string().into()));
    *response.status_mut() = status;
    Ok(response)
}

/// A catalog on a free port, and how to reach it.
async fn start() -> (Arc<Mutex<Catalog>>, IcebergConfig) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/base", listener.local_addr().unwrap());
    let catalog = Arc::new(Mutex::new(Catalog::default()));
    let served = catalog.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let catalog = served.clone();
            let service = service_fn(move |request| serve(catalog.clone(), request));
            let builder = hyper::server::conn::http1::Builder::new();
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    let config = IcebergConfig {
        uri,
        warehouse: Some("w".into()),
        auth: IcebergAuth::Bearer("secret".into()),
    };
    (catalog, config)
}

fn commits(catalog: IcebergConfig, tables: usize, writers: usize) -> CommitsConfig {
    CommitsConfig {
        catalog,
        tables,
        writers,
        mode: CommitMode::UpdateTable,
        pace: Pace::Closed,
        bound: Bound::Operations(200),
        metrics_uri: None,
        afterwards: Afterwards::Remove,
    }
}

#[tokio::test]
async fn writers_with_their_own_tables_never_conflict() {
    for mode in [
        CommitMode::UpdateTable,
        CommitMode::Transaction { tables: 3 },
    ] {
        let (catalog, config) = start().await;
        let mut load = commits(config, 12, 4);
        load.mode = mode;
        let report = run_commits(&load).await.unwrap();
        let catalog = catalog.lock().unwrap();
        assert_eq!(
            (report.load.operations, report.load.conflicts),
            (200, 0),
            "{report}"
        );
        assert_eq!(report.load.errors, BTreeMap::new());
        assert_eq!((catalog.commits, catalog.refused), (200, 0));
        assert_eq!(catalog.largest_transaction, report.tables_per_commit);
        assert_eq!(catalog.faults, Vec::<String>::new());
        assert!(
            catalog.tables.is_empty() && catalog.namespaces.is_empty(),
            "cleaned up"
        );
    }
}

#[tokio::test]
async fn writers_of_one_table_conflict_and_go_on() {
    let (catalog, config) = start().await;
    let report = run_commits(&commits(config, 1, 4)).await.unwrap();
    let catalog = catalog.lock().unwrap();
    assert_eq!(
        report.load.operations + report.load.conflicts,
        200,
        "{report}"
    );
    assert_eq!(report.load.conflicts, catalog.refused);
    assert!(report.load.operations > 0 && catalog.faults.is_empty());
}

#[tokio::test]
async fn history_is_measured_at_each_length() {
    let (catalog, config) = start().await;
    let history = HistoryConfig {
        catalog: config,
        at: vec![5, 20],
        samples: 3,
        metrics_uri: None,
    };
    let report = run_history(&history).await.unwrap();
    let lengths: Vec<u64> = report.points.iter().map(|p| p.snapshots).collect();
    assert_eq!(lengths, [5, 20]);
    assert!(report.points[1].answer_bytes > 50);
    assert_eq!(catalog.lock().unwrap().commits, 26);
    let json = serde_json::to_value(&report).unwrap();
    assert!(json["points"][0]["transaction_ms"]["p99.9"].is_number());
}

#[tokio::test]
async fn a_wrong_token_is_an_error_that_says_so() {
    let (_, mut config) = start().await;
    config.auth = IcebergAuth::Bearer("other".into());
    let refused = run_commits(&commits(config, 1, 1)).await.unwrap_err();
    assert!(refused.to_string().contains("401"), "{refused}");
}
