//! The admin routes as a health checker, a scraper and an operator meet them.

#![allow(clippy::unwrap_used)]

use axum::body::Body;
use floeberg_api_admin::{
    AdminState, Endpoints, GroupRole, GroupStatus, NodeStatus, Probes, Readiness, router,
};
use floeberg_auth::sigv4::{RegionRule, ScopeRules};
use floeberg_auth::{Authorizer, Keyring, RootKey};
use floeberg_backup::SourceError;
use floeberg_env::Env;
use floeberg_http::{Door, Limits, Room, Shell};
use floeberg_telemetry::NodeMetrics;
use floeberg_types::{ChunkId, ClusterId, GroupId};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use std::sync::{Arc, Mutex};
use tower::ServiceExt;

/// A node that gives nothing out.
struct NoBackups;

#[async_trait::async_trait]
impl floeberg_backup::Source for NoBackups {
    async fn begin(&self) -> Result<floeberg_backup::Begun, SourceError> {
        Err(SourceError::Unavailable("nobody leads".to_owned()))
    }

    async fn page(&self, _: &str, _: GroupId, _: u64) -> Result<bytes::Bytes, SourceError> {
        Err(SourceError::Unknown)
    }

    async fn chunk(&self, _: ChunkId, len: u64) -> Result<bytes::Bytes, SourceError> {
        Ok(vec![7; usize::try_from(len).unwrap()].into())
    }
}

struct Fixture {
    app: axum::Router,
    readiness: Arc<Mutex<Readiness>>,
    token: String,
}

fn fixture() -> Fixture {
    let (env, _) = Env::simulated(1);
    let keys = Arc::new(Keyring::new(
        RootKey::new("AKIAEXAMPLE", "secretkeyexample").unwrap(),
        "000000000000".parse().unwrap(),
        ClusterId::from_bytes([1; 16]),
    ));
    let token = keys.issue_bearer(env.clock.now()).token;
    let metrics = NodeMetrics::new();
    let shell = Shell {
        env,
        keys,
        rules: ScopeRules {
            region: RegionRule::Any,
            services: ScopeRules::CATALOG_SERVICES,
        },
        metrics: metrics.http.clone(),
        limits: Limits::default(),
        room: Room::unlimited(),
        door: Door::new(Limits::default().body_bytes),
    };
    let readiness = Arc::new(Mutex::new(Readiness::NotReady {
        waiting_for: "a leader of group 0".to_owned(),
    }));
    let asked = readiness.clone();
    let probes = Probes {
        readiness: Arc::new(move || {
            let now = asked.lock().unwrap().clone();
            Box::pin(async move { now })
        }),
        status: Arc::new(|| NodeStatus {
            version: "0.1.0".to_owned(),
            cluster: "c".to_owned(),
            node: 1,
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
            started_at_ms: 5,
            groups: vec![GroupStatus {
                group: 0,
                role: GroupRole::Leader,
                term: 2,
                ready: true,
                last_term: Some(2),
                last_index: Some(9),
                applied: Some(9),
                diverged: Vec::new(),
            }],
        }),
    };
    let endpoints = Endpoints {
        iceberg: "http://localhost:8181/iceberg".to_owned(),
        s3tables: "http://localhost:8181".to_owned(),
        s3: "http://localhost:9000".to_owned(),
        region: "us-east-1".to_owned(),
        version: "0.1.0".to_owned(),
        docs: "https://docs.example".to_owned(),
    };
    let state = AdminState {
        metrics,
        probes,
        endpoints,
        authorizer: Authorizer,
        members: None,
        backups: Arc::new(NoBackups),
    };
    Fixture {
        app: router(shell, state),
        readiness,
        token,
    }
}

impl Fixture {
    async fn get(&self, path: &str, token: Option<&str>) -> (StatusCode, HeaderMap, String) {
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = self
            .app
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (
            parts.status,
            parts.headers,
            String::from_utf8(body.to_vec()).unwrap(),
        )
    }
}

#[tokio::test]
async fn readiness_follows_the_node_and_health_does_not() {
    let f = fixture();
    assert_eq!(f.get("/healthz", None).await.0, StatusCode::OK);
    let (status, headers, body) = f.get("/readyz", None).await;
    assert_eq!(
        (status, body.as_str()),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "waiting for a leader of group 0\n"
        )
    );
    assert_eq!(headers["retry-after"], "1");
    assert_eq!(
        f.get("/readyz/reads", None).await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    *f.readiness.lock().unwrap() = Readiness::Ready {
        warnings: vec!["clock: off".to_owned()],
    };
    for path in ["/readyz", "/readyz/reads"] {
        let (status, _, body) = f.get(path, None).await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains("warning: clock: off"), "{body}");
    }
}

#[tokio::test]
async fn a_node_without_room_says_so_and_is_ready_for_reads() {
    let f = fixture();
    *f.readiness.lock().unwrap() = Readiness::ReadsOnly {
        why: "the volume is full".to_owned(),
    };
    let (status, _, body) = f.get("/readyz", None).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, "no new data: the volume is full\n");
    assert_eq!(f.get("/readyz/reads", None).await.0, StatusCode::OK);
    assert_eq!(f.get("/healthz", None).await.0, StatusCode::OK);
}

#[tokio::test]
async fn metrics_count_the_requests_before_them() {
    let f = fixture();
    f.get("/healthz", None).await;
    let (status, _, page) = f.get("/metrics", None).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        page.contains(r#"api="admin",operation="healthz",status="200"} 1"#),
        "{page}"
    );
    assert!(page.ends_with("# EOF\n"), "scrapers need the end marker");
}

#[tokio::test]
async fn the_status_is_for_principals_only() {
    let f = fixture();
    assert_eq!(
        f.get("/admin/v1/status", None).await.0,
        StatusCode::UNAUTHORIZED
    );
    let (status, _, body) = f.get("/admin/v1/status", Some(&f.token)).await;
    assert_eq!(status, StatusCode::OK);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["groups"][0]["role"], "leader");
    assert_eq!(body["started-at-ms"], 5);
}

#[tokio::test]
async fn unclaimed_paths_end_in_a_clear_answer() {
    let f = fixture();
    let (status, headers, body) = f.get("/nowhere", Some(&f.token)).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["error"]["type"], "NotFoundException");
    assert_eq!(
        body["error"]["request-id"],
        headers["x-request-id"].to_str().unwrap()
    );
    assert_eq!(f.get("/nowhere", None).await.0, StatusCode::UNAUTHORIZED);
    let (status, _, page) = f.get("/", None).await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("http://localhost:8181/iceberg"));
}

#[tokio::test]
async fn backups_are_for_principals_only_and_say_what_is_wrong() {
    let f = fixture();
    let chunk = format!("chunks/{}", "07".repeat(16));
    let path = |path: &str| format!("/admin/v1/backup/{path}");
    let unsigned = f.get(&path(&format!("{chunk}/5")), None).await.0;
    assert_eq!(unsigned, StatusCode::UNAUTHORIZED);
    let (status, headers, body) = f.get(&path(&format!("{chunk}/5")), Some(&f.token)).await;
    assert_eq!(
        (status, body.as_str()),
        (StatusCode::OK, "\x07".repeat(5).as_str())
    );
    assert_eq!(headers["content-type"], "application/octet-stream");
    for (wrong, expected) in [
        ("pages/b/0/0", "NoSuchBackupException"),
        ("pages/b/x/0", "BadRequestException"),
        ("pages/b/0/x", "BadRequestException"),
        ("chunks/07/5", "BadRequestException"),
        (&format!("{chunk}/x"), "BadRequestException"),
    ] {
        let (status, _, body) = f.get(&path(wrong), Some(&f.token)).await;
        assert!(status.is_client_error(), "{wrong}: {status}");
        assert!(body.contains(expected), "{wrong}: {body}");
    }
    let (status, headers, _) = f.get("/admin/v1/backup", Some(&f.token)).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(headers["allow"], "POST");
}

#[tokio::test]
async fn a_node_without_a_cluster_says_so() {
    let f = fixture();
    let unsigned = f.get("/admin/v1/cluster", None).await.0;
    assert_eq!(unsigned, StatusCode::UNAUTHORIZED);
    let (status, _, body) = f.get("/admin/v1/cluster", Some(&f.token)).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(body.contains("belongs to no cluster"), "{body}");
    for path in ["token", "leader", "members/1/remove", "members/1/replace"] {
        let path = format!("/admin/v1/cluster/{path}");
        let (status, headers, _) = f.get(&path, Some(&f.token)).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(headers["allow"], "POST");
    }
}
