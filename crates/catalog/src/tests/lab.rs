//! What the tests share: a catalog on a one-node group whose media outlive it, and changes that a
//! client would send.

use crate::*;
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_auth::{Action, Authorized, Authorizer, Principal, PrincipalKind, Resource};
use floeberg_consensus::{CommandBudget, Footing, GroupHooks, NoPeers};
use floeberg_env::{Attendance, Peer, Reserve, SimControl, UnsyncedData};
use floeberg_iceberg::{RawJson, TableMetadata, TableRequirement, TableUpdate};
use floeberg_kv::{MemKv, MemKvStore};
use floeberg_metastore::{Cx, Idempotency, Rows, StoreConfig, StoreParts};
use floeberg_raftlog::{MemLog, MemLogStore};
use floeberg_telemetry::{CatalogMetrics, ConsensusMetrics, MetastoreMetrics};
use floeberg_types::{
    BucketId, BucketName, ClusterId, GroupId, Namespace, NodeId, RequestId, TableIdent,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};

/// Objects that clients wrote, by key.
#[derive(Default)]
pub(crate) struct Objects(pub Mutex<BTreeMap<String, Bytes>>);

#[async_trait]
impl MetadataReader for Objects {
    async fn find(&self, _: BucketId, key: &str) -> Result<FoundFile, ReadMetadataError> {
        let found = self.0.lock().get(key).cloned();
        let bytes = found.ok_or(ReadMetadataError::NotFound)?;
        Ok(FoundFile {
            len: bytes.len() as u64,
            bytes: Box::pin(async { Ok(bytes) }),
        })
    }
}

pub(crate) struct Lab {
    pub env: Env,
    pub control: SimControl,
    pub catalog: Catalog,
    pub store: Store,
    pub metrics: CatalogMetrics,
    pub objects: Arc<Objects>,
    config: CatalogConfig,
    kv: MemKvStore,
    log: MemLogStore,
}

async fn open(env: &Env, kv: &MemKvStore, log: &MemLogStore) -> Store {
    let hooks = GroupHooks {
        on_fatal: Arc::new(|_, cause| panic!("{cause}")),
        metrics: ConsensusMetrics::default(),
    };
    let parts = StoreParts {
        budget: CommandBudget::default(),
        room: Reserve::default(),
        kv: Arc::new(MemKv::open(kv)),
        log: Arc::new(MemLog::open(log, env)),
        transport: Arc::new(NoPeers),
        snapshots: "/snapshots".into(),
        footing: Footing::alone(),
        hooks,
        metrics: MetastoreMetrics::default(),
    };
    let cluster = ClusterId::from_bytes([0xc1; 16]);
    let config = StoreConfig::new(cluster, GroupId::CATALOG, NodeId(1));
    Store::open(&config, env, parts).await.unwrap()
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let (env, control) = Env::simulated(7);
        let (kv, log) = (MemKvStore::new(), MemLogStore::new());
        let store = open(&env, &kv, &log).await;
        let (metrics, objects) = (CatalogMetrics::default(), Arc::new(Objects::default()));
        let config = CatalogConfig::default();
        let catalog = catalog_over(&store, &env, &objects, &metrics, &config);
        Self {
            config,
            env,
            control,
            catalog,
            store,
            metrics,
            objects,
            kv,
            log,
        }
    }

    /// A lab with the bucket `lake` and the namespace `ns`.
    pub(crate) async fn with_namespace() -> Self {
        let lab = Self::new().await;
        lab.create_bucket("lake").await.unwrap();
        lab.create_namespace(&["ns"]).await.unwrap();
        lab
    }

    /// A lab whose nodes know pieces, with `ns` and pieces of a size.
    pub(crate) async fn with_pieces(pieces: PieceSizes) -> Self {
        let mut lab = Self::with_namespace().await;
        let level = floeberg_state::FEATURE_LEVEL_PIECES;
        lab.store.raise_feature_level(&cx(), level).await.unwrap();
        lab.config.pieces = pieces;
        lab.reopen();
        lab
    }

    /// The same catalog with nothing in memory, and a cache that holds one table at most.
    pub(crate) fn forgetful(&self) -> Catalog {
        let config = CatalogConfig {
            head_cache_bytes: 0,
            ..self.config.clone()
        };
        catalog_over(
            &self.store,
            &self.env,
            &self.objects,
            &self.metrics,
            &config,
        )
    }

    /// Power loss and a start on what had been synced.
    pub(crate) async fn crash(&mut self) {
        self.kv.crash();
        self.log.crash(&**self.control.faults(), UnsyncedData::Lost);
        self.store = open(&self.env, &self.kv, &self.log).await;
        self.reopen();
    }

    fn reopen(&mut self) {
        self.catalog = catalog_over(
            &self.store,
            &self.env,
            &self.objects,
            &self.metrics,
            &self.config,
        );
    }

    pub(crate) async fn create_bucket(&self, name: &str) -> Result<BucketInfo, CreateBucketError> {
        let request = CreateTableBucket {
            name: name.to_owned(),
            properties: BTreeMap::new(),
        };
        self.catalog
            .create_table_bucket(&allowed(), &cx(), request)
            .await
    }

    pub(crate) async fn create_namespace(
        &self,
        levels: &[&str],
    ) -> Result<NamespaceInfo, CreateNamespaceError> {
        let request = CreateNamespace {
            bucket: lake(),
            namespace: ns(levels),
            properties: BTreeMap::new(),
        };
        self.catalog
            .create_namespace(&allowed(), &cx(), &request)
            .await
    }

    pub(crate) async fn create(&self, name: &str) -> Result<Arc<TableHead>, CreateTableError> {
        self.create_with(&new_table(name)).await
    }

    pub(crate) async fn create_with(
        &self,
        request: &CreateTable,
    ) -> Result<Arc<TableHead>, CreateTableError> {
        self.catalog.create_table(&allowed(), &cx(), request).await
    }

    pub(crate) async fn load(&self, name: &str) -> Result<Arc<TableHead>, LoadTableError> {
        self.catalog
            .load_table(&allowed(), &cx(), &lake(), &ident(name))
            .await
    }

    pub(crate) async fn commit(&self, change: &TableChange) -> Result<CommittedTable, CommitError> {
        self.catalog
            .commit_table(&allowed(), &cx(), &lake(), change.clone())
            .await
    }

    pub(crate) async fn transaction(
        &self,
        changes: &[TableChange],
    ) -> Result<Vec<CommittedTable>, CommitError> {
        self.catalog
            .commit_transaction(&allowed(), &cx(), &lake(), changes.to_vec())
            .await
    }

    pub(crate) async fn drop(&self, name: &str) -> Result<(), DropTableError> {
        let request = DropTable {
            bucket: lake(),
            ident: ident(name),
            purge: Purge::Keep,
            version_token: None,
        };
        self.catalog.drop_table(&allowed(), &cx(), &request).await
    }

    pub(crate) async fn bucket_id(&self) -> BucketId {
        self.catalog.find_bucket(&lake()).await.unwrap().unwrap().id
    }

    /// A metadata file that the catalog serves, by its URI.
    pub(crate) async fn described(&self, uri: &str) -> Option<MetadataFile> {
        let key = uri.strip_prefix("s3://lake/").unwrap();
        let bucket = self.bucket_id().await;
        self.catalog.metadata_file(bucket, key).await.unwrap()
    }

    /// The bytes of a metadata file by its URI, as the object service would serve it.
    pub(crate) async fn file(&self, uri: &str) -> Option<Bytes> {
        let file = self.described(uri).await?;
        let bytes = self.catalog.render_metadata_file(Peer::INSIDE, &file);
        let bytes = bytes.await.unwrap();
        assert_eq!(bytes.len() as u64, file.entry.len);
        Some(bytes)
    }

    /// Every row of the catalog: key and writer.
    pub(crate) fn rows(&self) -> BTreeSet<(Bytes, floeberg_types::CommitId)> {
        let mut out = BTreeSet::new();
        for tag in 0x10..=0x1e {
            let rows = self
                .store
                .local()
                .scan_prefix(&[tag], None, usize::MAX)
                .unwrap();
            out.extend(rows.into_iter().map(|(key, row)| (key, row.commit_id)));
        }
        out
    }
}

pub(crate) fn catalog_over(
    store: &Store,
    env: &Env,
    objects: &Arc<Objects>,
    metrics: &CatalogMetrics,
    config: &CatalogConfig,
) -> Catalog {
    let files = Arc::clone(objects) as Arc<dyn MetadataReader>;
    Catalog::new(store.clone(), env.clone(), config, files, metrics.clone())
}

pub(crate) fn allowed<A: Action>() -> Authorized<A> {
    let root = Principal {
        id: "root".into(),
        account: "000000000000".parse().unwrap(),
        kind: PrincipalKind::Root,
    };
    Authorizer.authorize::<A>(&root, Resource::Cluster).unwrap()
}

pub(crate) fn cx() -> Cx {
    Cx {
        request_id: RequestId::from_bytes([7; 16]),
        account: "000000000000".parse().unwrap(),
        principal: "root".into(),
        deadline: None,
        attendance: Attendance::default(),
        caller: Peer::INSIDE,
        idempotency: None,
    }
}

/// The context of a request that comes under a key.
pub(crate) fn once(id: u8, fingerprint: u8) -> Cx {
    Cx {
        idempotency: Some(Idempotency {
            id: [id; 32],
            fingerprint: [fingerprint; 32],
        }),
        ..cx()
    }
}

pub(crate) fn lake() -> BucketName {
    BucketName::for_tables("lake").unwrap()
}

pub(crate) fn ns(levels: &[&str]) -> Namespace {
    Namespace::new(levels.iter().map(|l| (*l).to_owned()).collect()).unwrap()
}

/// A table of the namespace `ns`.
pub(crate) fn ident(name: &str) -> TableIdent {
    TableIdent {
        namespace: ns(&["ns"]),
        name: name.parse().unwrap(),
    }
}

pub(crate) fn new_table(name: &str) -> CreateTable {
    let schema =
        r#"{"type":"struct","fields":[{"id":1,"name":"x","required":false,"type":"long"}]}"#;
    CreateTable {
        bucket: lake(),
        ident: ident(name),
        location: None,
        schema: RawJson::parse(schema).unwrap(),
        partition_spec: None,
        sort_order: None,
        properties: Vec::new(),
    }
}

/// Appends a snapshot to the branch `main` of `base`, as engines do.
pub(crate) fn append(name: &str, base: &TableMetadata, snapshot_id: i64) -> TableChange {
    let parent = base.current_snapshot().map(|snapshot| snapshot.snapshot_id);
    let mut updates = vec![add_snapshot(base, snapshot_id)];
    updates.push(update(&format!(
        r#"{{"action":"set-snapshot-ref","ref-name":"main","type":"branch","snapshot-id":{snapshot_id}}}"#
    )));
    TableChange {
        ident: ident(name),
        requirements: vec![TableRequirement::AssertRefSnapshotId {
            name: "main".into(),
            snapshot_id: parent,
        }],
        updates,
    }
}

pub(crate) fn add_snapshot(base: &TableMetadata, snapshot_id: i64) -> TableUpdate {
    let parent = base.current_snapshot().map(|snapshot| snapshot.snapshot_id);
    snapshot(base, snapshot_id, parent)
}

/// A snapshot that replaces the table; any number of them fit into one commit.
pub(crate) fn add_root(base: &TableMetadata, snapshot_id: i64) -> TableUpdate {
    snapshot(base, snapshot_id, None)
}

fn snapshot(base: &TableMetadata, snapshot_id: i64, parent: Option<i64>) -> TableUpdate {
    let parent = parent.map_or(String::new(), |id| format!(r#""parent-snapshot-id":{id},"#));
    let sequence = base.last_sequence_number() + 1;
    let location = base.location();
    let timestamp = base.last_updated_ms();
    update(&format!(
        r#"{{"action":"add-snapshot","snapshot":{{"snapshot-id":{snapshot_id},{parent}"sequence-number":{sequence},"timestamp-ms":{timestamp},"manifest-list":"{location}/metadata/snap-{snapshot_id}.avro","summary":{{"operation":"append"}},"schema-id":0}}}}"#
    ))
}

pub(crate) fn update(json: &str) -> TableUpdate {
    serde_json::from_str(json).unwrap()
}

pub(crate) fn set_property(name: &str, key: &str, value: &str) -> TableChange {
    TableChange {
        ident: ident(name),
        requirements: Vec::new(),
        updates: vec![update(&format!(
            r#"{{"action":"set-properties","updates":{{"{key}":"{value}"}}}}"#
        ))],
    }
}
