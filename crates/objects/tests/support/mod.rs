//! The object service on in-memory media that survive a crash, with a small catalog beside it.
#![allow(dead_code, reason = "each test file uses its part")]

use async_trait::async_trait;
use bytes::Bytes;
use floeberg_auth::{Action, Authorized, Authorizer, Keyring, Resource, RootKey};
use floeberg_consensus::{CommandBudget, Footing, GroupHooks, NoPeers};
use floeberg_env::{Attendance, Env, Peer, Reserve, SimControl, UnsyncedData};
use floeberg_kv::{MemKv, MemKvStore};
use floeberg_metastore::{Cx, Store, StoreConfig, StoreParts};
use floeberg_objects::errors::{BucketExists, GetError, NoSuchBucket, Outage, PutError};
use floeberg_objects::{
    BeginDeleteError, Body, BucketInfo, BucketKind, Buckets, CreateBucketError, DeletionEnd,
    Headers, ListFrom, ListRequest, Listing, Location, MetadataEntry, MetadataFile, ObjectKey,
    Objects, ObjectsConfig, ObjectsParts, PutRequest, ReadConditions, ReadRequest, Selection,
    TableFiles, Tags, WriteConditions, Written,
};
use floeberg_placement::{Domain, Member, NodeState, PlacementMap};
use floeberg_raftlog::{MemLog, MemLogStore};
use floeberg_rpc::Transport;
use floeberg_shards::{FullNodes, Holdings, Shards, ShardsConfig, ShardsParts};
use floeberg_telemetry::{ConsensusMetrics, MetastoreMetrics, ObjectsMetrics, VolumeMetrics};
use floeberg_types::TimestampMs;
use floeberg_types::{AccountId, BucketId, BucketName, ClusterId, GroupId, NodeId, RequestId};
use floeberg_volume::{IndexStore, Volume, VolumeConfig};
use futures::TryStreamExt;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

pub const ACCESS_KEY: &str = "AKIAFLOEBERGTEST0001";
pub const SECRET: &str = "a secret that is long enough for a test";

/// Limits that make every path short: inline up to 64 bytes, chunks up to 256.
pub fn small_config() -> ObjectsConfig {
    ObjectsConfig {
        inline_max: 64,
        chunk_max: 256,
        part_min: 100,
        grace_general_ms: 1_000,
        grace_tables_ms: 5_000,
        orphan_grace_ms: 10_000,
        request_max_ms: 40_000,
        upload_lifetime_ms: 100_000,
        completed_memory_ms: 50_000,
        reclaim_every_ms: 1_000,
        repair_every_ms: 1_000,
    }
}

/// A step of a bucket's deletion that the catalog takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Begin,
    Abort,
    Finish,
}

/// What becomes of the next call of a step.
pub enum Fate {
    /// Its caller does not learn what happened, and nothing did.
    LostBefore,
    /// Its caller does not learn what happened, although it did.
    LostAfter,
    /// It tells that it was reached, and waits before it does anything.
    HeldBefore(oneshot::Sender<()>, oneshot::Receiver<()>),
    /// It tells that it was done, and waits before its caller learns of it.
    HeldAfter(oneshot::Sender<()>, oneshot::Receiver<()>),
}

/// Buckets and tables in memory; they survive a crash of the node, as the catalog would.
#[derive(Default)]
pub struct SmallCatalog {
    buckets: Mutex<BTreeMap<String, BucketInfo>>,
    made: Mutex<u8>,
    deletions: Mutex<BTreeMap<BucketId, u64>>,
    fates: Mutex<Vec<(Step, Fate)>>,
    locations: Mutex<Vec<(String, Location)>>,
    files: Mutex<BTreeMap<String, Bytes>>,
    /// What is known here of the buckets, if that is older than they are.
    lately: Mutex<Option<BTreeMap<String, BucketInfo>>>,
    hidden: Mutex<bool>,
}

impl SmallCatalog {
    /// From now on this node does not hear what happens to buckets, unless it asks.
    pub fn stand_still(&self) {
        *self.lately.lock() = Some(self.buckets.lock().clone());
    }

    /// The node knows everything again.
    pub fn catch_up(&self) {
        *self.lately.lock() = None;
    }

    /// From now on nobody can be asked.
    pub fn hide(&self) {
        *self.hidden.lock() = true;
    }

    pub fn add(&self, name: &str, kind: BucketKind) -> BucketInfo {
        let mut buckets = self.buckets.lock();
        let mut made = self.made.lock();
        *made += 1;
        let id = BucketId::from_bytes([*made; 16]);
        let name = BucketName::for_lookup(name).unwrap();
        let info = BucketInfo {
            id,
            name,
            kind,
            created_at: TimestampMs(1),
            deletion: None,
        };
        buckets.insert(info.name.to_string(), info.clone());
        info
    }

    pub fn set_location(&self, prefix: &str, location: Location) {
        let mut locations = self.locations.lock();
        locations.retain(|(known, _)| known != prefix);
        locations.push((prefix.to_owned(), location));
    }

    /// Lets the next call of `step` fail.
    pub fn doom(&self, step: Step, fate: Fate) {
        self.fates.lock().push((step, fate));
    }

    /// Holds the next call of `step` up before it does anything: the first channel tells when it
    /// was reached, the second lets it go on.
    pub fn hold(&self, step: Step) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (reached, was_reached) = oneshot::channel();
        let (go, released) = oneshot::channel();
        self.doom(step, Fate::HeldBefore(reached, released));
        (was_reached, go)
    }

    /// The same, after it has done what it does.
    pub fn hold_after(&self, step: Step) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (reached, was_reached) = oneshot::channel();
        let (go, released) = oneshot::channel();
        self.doom(step, Fate::HeldAfter(reached, released));
        (was_reached, go)
    }

    pub fn deletion(&self, name: &str) -> Option<u64> {
        self.buckets.lock().get(name)?.deletion
    }

    /// Takes one step as the fates will have it.
    async fn step<T>(&self, step: Step, run: impl FnOnce(&Self) -> T) -> Result<T, Outage> {
        let fate = {
            let mut fates = self.fates.lock();
            let at = fates.iter().position(|(doomed, _)| *doomed == step);
            at.map(|at| fates.remove(at).1)
        };
        match fate {
            Some(Fate::LostBefore) => return Err(Outage::Indefinite),
            Some(Fate::LostAfter) => {
                run(self);
                return Err(Outage::Indefinite);
            }
            Some(Fate::HeldBefore(reached, released)) => {
                reached.send(()).expect("the test waits");
                released.await.expect("the test goes on");
            }
            Some(Fate::HeldAfter(reached, released)) => {
                let done = run(self);
                reached.send(()).expect("the test waits");
                released.await.expect("the test goes on");
                return Ok(done);
            }
            None => {}
        }
        Ok(run(self))
    }

    pub fn info(&self, name: &str) -> BucketInfo {
        self.buckets.lock()[name].clone()
    }

    /// Ends a deletion as wanted, if it still runs.
    pub fn end(&self, bucket: &BucketInfo, deletion: u64, wanted: DeletionEnd) -> DeletionEnd {
        let mut buckets = self.buckets.lock();
        let name = bucket.name.as_str();
        let Some(found) = buckets.get_mut(name).filter(|b| b.id == bucket.id) else {
            return DeletionEnd::Removed;
        };
        if found.deletion != Some(deletion) {
            return DeletionEnd::Aborted;
        }
        match wanted {
            DeletionEnd::Removed => drop(buckets.remove(name)),
            DeletionEnd::Aborted => found.deletion = None,
        }
        wanted
    }

    pub fn add_metadata_file(&self, key: &str, body: &'static [u8]) {
        self.files
            .lock()
            .insert(key.to_owned(), Bytes::from_static(body));
    }
}

fn entry(key: &str, body: &Bytes) -> MetadataEntry {
    MetadataEntry {
        key: key.to_owned(),
        etag: "catalog-1".to_owned(),
        len: body.len() as u64,
        modified: TimestampMs(1_000),
    }
}

#[async_trait]
impl Buckets for SmallCatalog {
    async fn find(&self, name: &BucketName) -> Result<Option<BucketInfo>, Outage> {
        match *self.hidden.lock() {
            true => Err(Outage::Unavailable),
            false => Ok(self.buckets.lock().get(name.as_str()).cloned()),
        }
    }

    async fn find_lately(&self, name: &BucketName) -> Result<Option<BucketInfo>, Outage> {
        match &*self.lately.lock() {
            Some(lately) => Ok(lately.get(name.as_str()).cloned()),
            None => Ok(self.buckets.lock().get(name.as_str()).cloned()),
        }
    }

    async fn create(&self, _: &Cx, name: BucketName) -> Result<BucketInfo, CreateBucketError> {
        if self.buckets.lock().contains_key(name.as_str()) {
            return Err(BucketExists { bucket: name }.into());
        }
        Ok(self.add(name.as_str(), BucketKind::General))
    }

    async fn begin_delete(&self, _: &Cx, bucket: &BucketInfo) -> Result<u64, BeginDeleteError> {
        let begun = self.step(Step::Begin, |catalog| {
            let mut buckets = catalog.buckets.lock();
            let found = buckets.get_mut(bucket.name.as_str());
            let found = found.filter(|b| b.id == bucket.id)?;
            let mut deletions = catalog.deletions.lock();
            Some(*found.deletion.get_or_insert_with(|| {
                let last = deletions.entry(bucket.id).or_default();
                *last += 1;
                *last
            }))
        });
        let missing = || NoSuchBucket {
            bucket: bucket.name.clone(),
        };
        Ok(begun.await?.ok_or_else(missing)?)
    }

    async fn abort_delete(
        &self,
        _: &Cx,
        bucket: &BucketInfo,
        deletion: u64,
    ) -> Result<DeletionEnd, Outage> {
        let wanted = DeletionEnd::Aborted;
        self.step(Step::Abort, |catalog| catalog.end(bucket, deletion, wanted))
            .await
    }

    async fn finish_delete(
        &self,
        _: &Cx,
        bucket: &BucketInfo,
        deletion: u64,
    ) -> Result<DeletionEnd, Outage> {
        let wanted = DeletionEnd::Removed;
        self.step(Step::Finish, |catalog| {
            catalog.end(bucket, deletion, wanted)
        })
        .await
    }

    async fn list(&self) -> Result<Vec<BucketInfo>, Outage> {
        Ok(self.buckets.lock().values().cloned().collect())
    }
}

#[async_trait]
impl TableFiles for SmallCatalog {
    async fn locate(&self, _: BucketId, key: &str) -> Result<Location, Outage> {
        let locations = self.locations.lock();
        let found = locations
            .iter()
            .find(|(prefix, _)| key.starts_with(&format!("{prefix}/")));
        Ok(found.map_or(Location::Outside, |(_, location)| *location))
    }

    async fn metadata_file(&self, _: BucketId, key: &str) -> Result<Option<MetadataFile>, Outage> {
        let body = self.files.lock().get(key).cloned();
        Ok(body.map(|body| MetadataFile {
            entry: entry(key, &body),
            render: Box::new(|_| Box::pin(async move { Ok(body) })),
        }))
    }

    async fn metadata_files(
        &self,
        _: BucketId,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<MetadataEntry>, Outage> {
        let files = self.files.lock();
        Ok(files
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
            .take(limit)
            .map(|(key, body)| entry(key, body))
            .collect())
    }
}

/// The placement map of the nodes from 1 to `nodes`.
pub fn map_of(nodes: u64) -> Arc<PlacementMap> {
    let member = Member {
        weight: 100,
        domain: Domain::default(),
        state: NodeState::Active,
        max_chunk_bytes: None,
    };
    let members = (1..=nodes).map(|id| (NodeId(id), member.clone()));
    Arc::new(PlacementMap::new(16, members.collect()).unwrap())
}

pub async fn open_volume(env: &Env, index: &MemKvStore) -> Volume {
    let mut config = VolumeConfig::new(IndexStore::Memory(index.clone()));
    config.segment_bytes = 4 << 20;
    config.max_chunk_bytes = 1 << 20;
    let (dir, metrics) = (Path::new("/disk/volume"), VolumeMetrics::default());
    let opened = Volume::open(dir, config, env.clone(), metrics).await;
    opened.unwrap().0
}

/// The media of a node and its catalog; outlives the services started on it.
pub struct World {
    pub env: Env,
    pub control: SimControl,
    pub catalog: Arc<SmallCatalog>,
    pub config: ObjectsConfig,
    pub keyring: Arc<Keyring>,
    rows: MemKvStore,
    log: MemLogStore,
    index: MemKvStore,
    /// What the node thinks of its volume.
    pub holdings: Holdings,
}

/// A running service.
pub struct Node {
    pub objects: Arc<Objects>,
    pub volume: Volume,
    pub store: Store,
    pub shards: Shards,
    pub metrics: MetastoreMetrics,
}

impl World {
    /// A world with the general purpose bucket `files` and the table bucket `lake`, which has one
    /// live table below `ns/t-1`.
    pub fn new(seed: u64) -> Self {
        let (env, control) = Env::simulated(seed);
        let catalog = Arc::new(SmallCatalog::default());
        catalog.add("files", BucketKind::General);
        catalog.add("lake", BucketKind::Table);
        catalog.set_location("ns/t-1", Location::Live);
        let root = RootKey::new(ACCESS_KEY, SECRET).unwrap();
        Self {
            keyring: Arc::new(Keyring::new(
                root,
                account(),
                ClusterId::from_bytes([1; 16]),
            )),
            env,
            control,
            catalog,
            config: small_config(),
            rows: MemKvStore::new(),
            log: MemLogStore::new(),
            index: MemKvStore::new(),
            holdings: Holdings::default(),
        }
    }

    /// The only node.
    pub async fn start(&self) -> Node {
        self.start_among(1, Arc::new(NoPeers)).await
    }

    /// Node 1 of as many: it alone keeps the index, and all of them keep chunks.
    pub async fn start_among(&self, nodes: u64, transport: Arc<dyn Transport>) -> Node {
        let cluster = ClusterId::from_bytes([1; 16]);
        let config = StoreConfig::new(cluster, GroupId::OBJECTS, NodeId(1));
        let metrics = MetastoreMetrics::default();
        let parts = StoreParts {
            budget: CommandBudget::default(),
            room: Reserve::default(),
            kv: Arc::new(MemKv::open(&self.rows)),
            log: Arc::new(MemLog::open(&self.log, &self.env)),
            transport: Arc::new(NoPeers),
            snapshots: "/snapshots".into(),
            footing: Footing::alone(),
            hooks: GroupHooks {
                on_fatal: Arc::new(|_, cause| panic!("fatal: {cause}")),
                metrics: ConsensusMetrics::default(),
            },
            metrics: metrics.clone(),
        };
        let store = Store::open(&config, &self.env, parts).await.unwrap();
        let volume = open_volume(&self.env, &self.index).await;
        let shards = Shards::new(ShardsParts {
            node: NodeId(1),
            volume: volume.clone(),
            holdings: self.holdings.clone(),
            reserve: Reserve::default(),
            full: FullNodes::default(),
            placement: watch::channel(map_of(nodes)).1,
            transport,
            env: self.env.clone(),
            config: ShardsConfig::default(),
        });
        let objects = Arc::new(Objects::new(ObjectsParts {
            store: store.clone(),
            shards: shards.clone(),
            buckets: self.catalog.clone(),
            tables: self.catalog.clone(),
            env: self.env.clone(),
            metrics: ObjectsMetrics::default(),
            account: account(),
            config: self.config.clone(),
        }));
        Node {
            objects,
            volume,
            store,
            shards,
            metrics,
        }
    }

    /// Power loss while nothing of the node is running any more.
    pub fn crash(&self, fate: UnsyncedData) {
        self.control.crash_disk(fate);
        self.rows.crash();
        self.index.crash();
        self.log.crash(self.control.faults().as_ref(), fate);
    }

    /// Lets time pass, wall time and monotonic time alike.
    pub async fn pass(&self, ms: u64) {
        tokio::time::pause();
        tokio::time::advance(Duration::from_millis(ms)).await;
        tokio::time::resume();
    }

    /// Permission of the root key.
    pub fn may<A: Action>(&self) -> Authorized<A> {
        Authorizer
            .authorize(&self.keyring.root_principal(), Resource::Cluster)
            .unwrap()
    }
}

pub fn account() -> AccountId {
    "000000000000".parse().unwrap()
}

pub fn cx() -> Cx {
    Cx {
        request_id: RequestId::from_bytes([9; 16]),
        account: account(),
        principal: "tester".into(),
        deadline: None,
        attendance: Attendance::default(),
        caller: Peer::INSIDE,
        idempotency: None,
    }
}

pub fn bucket(name: &str) -> BucketName {
    BucketName::for_lookup(name).unwrap()
}

pub fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).unwrap()
}

/// Bytes that differ with their position and `salt`.
pub fn pattern(len: usize, salt: u8) -> Bytes {
    (0..len)
        .map(|at| {
            u8::try_from(at % 251)
                .unwrap()
                .wrapping_mul(31)
                .wrapping_add(salt)
        })
        .collect()
}

pub fn put_request(bucket_name: &str, object: &str, bytes: &Bytes) -> PutRequest {
    PutRequest {
        bucket: bucket(bucket_name),
        key: key(object),
        headers: Headers::default(),
        tags: Tags::new(),
        conditions: WriteConditions::default(),
        body: Body::from_bytes(bytes.clone()),
    }
}

pub fn read_request(bucket_name: &str, object: &str) -> ReadRequest {
    ReadRequest {
        bucket: bucket(bucket_name),
        key: key(object),
        version: None,
        selection: Selection::Whole,
        conditions: ReadConditions::default(),
        caller: Peer::INSIDE,
    }
}

impl Node {
    pub async fn put(
        &self,
        world: &World,
        bucket: &str,
        key: &str,
        bytes: &Bytes,
    ) -> Result<Written, PutError> {
        self.objects
            .put(&world.may(), &cx(), put_request(bucket, key, bytes))
            .await
    }

    pub async fn read(&self, world: &World, request: &ReadRequest) -> Result<Vec<u8>, GetError> {
        let opened = self.objects.get(&world.may(), request).await?;
        let pieces: Vec<Bytes> = opened.stream.try_collect().await?;
        Ok(pieces.concat())
    }

    pub async fn get(&self, world: &World, bucket: &str, key: &str) -> Result<Vec<u8>, GetError> {
        self.read(world, &read_request(bucket, key)).await
    }

    pub async fn keys(&self, world: &World, bucket_name: &str) -> Vec<String> {
        let listing = self
            .page(world, bucket_name, "", None, ListFrom::Start, 1000)
            .await;
        assert_eq!(listing.next, None);
        listing
            .objects
            .into_iter()
            .map(|object| object.key)
            .collect()
    }

    pub async fn page(
        &self,
        world: &World,
        bucket_name: &str,
        prefix: &str,
        delimiter: Option<&str>,
        from: ListFrom,
        max_keys: usize,
    ) -> Listing {
        let request = ListRequest {
            bucket: bucket(bucket_name),
            prefix: prefix.to_owned(),
            delimiter: delimiter.map(str::to_owned),
            from,
            max_keys,
        };
        self.objects.list(&world.may(), &request).await.unwrap()
    }

    /// Stops the node as a killed process stops: nothing is flushed on purpose.
    pub async fn kill(self) {
        let Node {
            objects,
            volume,
            store,
            shards,
            metrics: _,
        } = self;
        drop((objects, shards));
        volume.close().await;
        store.shutdown().await.ok();
    }
}
