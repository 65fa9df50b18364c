//! A catalog in memory behind real routers: what the tests of the protocols share.

use axum::body::Body;
use bytes::Bytes;
use floeberg_auth::sigv4::{RegionRule, ScopeRules};
use floeberg_auth::{Keyring, RootKey};
use floeberg_catalog::{
    Catalog, CatalogConfig, FoundFile, MetadataReader, Outage, ReadMetadataError,
};
use floeberg_consensus::{CommandBudget, Footing, GroupHooks, NoPeers};
use floeberg_env::{Env, Reserve};
use floeberg_http::{Door, Limits, Room, Shell};
use floeberg_kv::{MemKv, MemKvStore};
use floeberg_metastore::{Store, StoreConfig, StoreParts};
use floeberg_raftlog::{MemLog, MemLogStore};
use floeberg_telemetry::{CatalogMetrics, ConsensusMetrics, MetastoreMetrics, NodeMetrics};
use floeberg_types::{AccountId, BucketId, ClusterId, GroupId, NodeId, Region};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tower::ServiceExt;

#[allow(dead_code)]
pub const ID: &str = "AKIAEXAMPLE";
#[allow(dead_code)]
pub const SECRET: &str = "secretkey/example";
#[allow(dead_code)]
pub const ARN: &str = "arn:aws:s3tables:us-east-1:000000000000:bucket/lake";
#[allow(dead_code)]
pub const ARN_SEGMENT: &str = "arn%3Aaws%3As3tables%3Aus-east-1%3A000000000000%3Abucket%2Flake";

/// Metadata files that clients wrote, by key.
#[derive(Clone, Default)]
pub struct Files(Arc<Mutex<HashMap<String, Option<Bytes>>>>);

impl Files {
    #[allow(dead_code)]
    pub fn put(&self, key: &str, body: impl Into<Bytes>) {
        let body = Some(body.into());
        self.0.lock().unwrap().insert(key.to_owned(), body);
    }

    /// The file cannot be reached until it is put again.
    #[allow(dead_code)]
    pub fn fail(&self, key: &str) {
        self.0.lock().unwrap().insert(key.to_owned(), None);
    }
}

#[async_trait::async_trait]
impl MetadataReader for Files {
    async fn find(&self, _: BucketId, key: &str) -> Result<FoundFile, ReadMetadataError> {
        let files = self.0.lock().unwrap();
        let found = files.get(key).ok_or(ReadMetadataError::NotFound)?;
        let bytes = found.clone().ok_or(Outage::Unavailable)?;
        Ok(FoundFile {
            len: bytes.len() as u64,
            bytes: Box::pin(async { Ok(bytes) }),
        })
    }
}

/// One node's catalog and what a router needs beside it.
pub struct Parts {
    pub shell: Shell,
    pub catalog: Catalog,
    pub keys: Arc<Keyring>,
    pub region: Region,
    pub account: AccountId,
    pub files: Files,
    /// Where the group would stage copies of its state.
    pub _copies: tempfile::TempDir,
}

#[allow(dead_code)]
pub async fn parts() -> Parts {
    parts_on(Env::real()).await
}

pub async fn parts_on(env: Env) -> Parts {
    let cluster = ClusterId::from_bytes([1; 16]);
    let account: AccountId = "000000000000".parse().unwrap();
    let region: Region = "us-east-1".parse().unwrap();
    let keys = RootKey::new(ID, SECRET).unwrap();
    let keys = Arc::new(Keyring::new(keys, account.clone(), cluster));
    let hooks = GroupHooks {
        on_fatal: Arc::new(|_, cause| panic!("the group failed: {cause}")),
        metrics: ConsensusMetrics::default(),
    };
    let copies = tempfile::tempdir().unwrap();
    let store_parts = StoreParts {
        budget: CommandBudget::default(),
        room: Reserve::default(),
        kv: Arc::new(MemKv::open(&MemKvStore::new())),
        log: Arc::new(MemLog::open(&MemLogStore::new(), &env)),
        transport: Arc::new(NoPeers),
        snapshots: copies.path().join("snapshots"),
        footing: Footing::alone(),
        hooks,
        metrics: MetastoreMetrics::default(),
    };
    let config = StoreConfig::new(cluster, GroupId::CATALOG, NodeId(1));
    let store = Store::open(&config, &env, store_parts).await.unwrap();
    let files = Files::default();
    let catalog = Catalog::new(
        store,
        env.clone(),
        &CatalogConfig::default(),
        Arc::new(files.clone()),
        CatalogMetrics::default(),
    );
    let rules = ScopeRules {
        region: RegionRule::Exactly(region.clone()),
        services: ScopeRules::CATALOG_SERVICES,
    };
    let metrics = NodeMetrics::new().http;
    let limits = Limits::default();
    let shell = Shell {
        env,
        keys: keys.clone(),
        rules,
        metrics,
        limits,
        room: Room::unlimited(),
        door: Door::new(Limits::default().body_bytes),
    };
    Parts {
        shell,
        catalog,
        keys,
        region,
        account,
        files,
        _copies: copies,
    }
}

/// An answer, its body as text and, if it is, as JSON.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
    pub json: Value,
}

impl Reply {
    /// The status and the exception's name.
    #[allow(dead_code)]
    pub fn error(&self) -> (u16, &str) {
        let kind = self.json["error"]["type"].as_str();
        let kind = kind.or_else(|| self.headers.get("x-amzn-errortype")?.to_str().ok());
        (self.status.as_u16(), kind.unwrap_or(""))
    }
}

/// A client that holds the root key's bearer token.
pub struct Client {
    pub app: axum::Router,
    pub token: String,
    #[allow(dead_code)]
    pub files: Files,
}

impl Client {
    pub async fn raw(&self, request: Request<Body>) -> Reply {
        let answer = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Reply {
            status: parts.status,
            headers: parts.headers,
            text,
            json,
        }
    }

    #[allow(dead_code)]
    pub async fn with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("authorization", format!("Bearer {}", self.token));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.raw(request.body(body.into()).unwrap()).await
    }

    #[allow(dead_code)]
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Reply {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.with(method, path, &[], body).await
    }
}
