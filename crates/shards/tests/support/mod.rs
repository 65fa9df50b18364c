//! Nodes in one process: simulated disks, the in-memory network, and taps that make a node slow.
#![allow(dead_code, reason = "each test file uses its part")]

use async_trait::async_trait;
use bytes::Bytes;
use floeberg_env::{Env, Reserve, SimControl, UnsyncedData};
use floeberg_kv::MemKvStore;
use floeberg_placement::{Domain, Member, NodeState, PlacementMap, Profile};
use floeberg_rpc::memory::MemNetwork;
use floeberg_rpc::{Handler, Refusal, Request, Routes};
use floeberg_shards::{
    ChunkRef, CopyState, Depth, FullNodes, Holdings, ReadError, ServerParts, ShardServer, Shards,
    ShardsConfig, ShardsParts, WriteError,
};
use floeberg_telemetry::VolumeMetrics;
use floeberg_telemetry::testing::CapturedLog;
use floeberg_types::{ChunkId, NodeId};
use floeberg_volume::{IndexStore, Volume, VolumeConfig};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

pub const MIB: usize = 1 << 20;
pub const SEGMENT: &str = "/disk/volume/segments/0000000000000001.seg";

/// A member without labels.
pub fn member(state: NodeState, max_chunk_bytes: Option<u64>) -> Member {
    Member {
        weight: 100,
        domain: Domain::default(),
        state,
        max_chunk_bytes,
    }
}

pub fn map_of(nodes: u64) -> PlacementMap {
    let members = (1..=nodes).map(|id| (NodeId(id), member(NodeState::Active, None)));
    PlacementMap::new(16, members.collect()).unwrap()
}

/// Passes calls on, late if it is told to.
pub struct Tap {
    server: Arc<ShardServer>,
    delay_ms: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
}

#[async_trait]
impl Handler for Tap {
    async fn handle(&self, from: NodeId, request: Request) -> Result<Bytes, Refusal> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let delay = self.delay_ms.load(Ordering::Relaxed);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        self.server.handle(from, request).await
    }
}

/// A node, and its disk that outlives it.
pub struct Machine {
    pub id: NodeId,
    pub env: Env,
    pub control: SimControl,
    pub store: MemKvStore,
    pub holdings: Holdings,
    /// Whether the disk is down to its reserve.
    pub tight: Arc<AtomicBool>,
    pub full: FullNodes,
    pub metrics: VolumeMetrics,
    pub capacity: Option<u64>,
    pub delay_ms: Arc<AtomicU64>,
    pub calls: Arc<AtomicU64>,
    pub placement: watch::Sender<Arc<PlacementMap>>,
    pub running: Option<Running>,
}

impl Machine {
    fn reserve(&self) -> Reserve {
        let tight = self.tight.clone();
        Reserve::new(move || match tight.load(Ordering::Relaxed) {
            true => Err("it is down to its reserve".to_owned()),
            false => Ok(()),
        })
    }
}

pub struct Running {
    pub shards: Shards,
    pub server: Arc<ShardServer>,
}

pub struct Cluster {
    pub net: MemNetwork,
    pub nodes: BTreeMap<u64, Machine>,
    pub config: ShardsConfig,
    log: CapturedLog,
    /// Words of log lines that the test provokes.
    expected: Vec<&'static str>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let expected = |line: &String| self.expected.iter().any(|word| line.contains(word));
        let lines: Vec<_> = self.log.lines();
        let surprises: Vec<_> = lines.iter().filter(|line| !expected(line)).collect();
        assert!(surprises.is_empty(), "unexpected log lines: {surprises:#?}");
    }
}

impl Cluster {
    pub async fn new(nodes: u64, seed: u64) -> Self {
        Self::with(nodes, seed, ShardsConfig::default()).await
    }

    pub async fn with(nodes: u64, seed: u64, config: ShardsConfig) -> Self {
        let log = CapturedLog::start("warn");
        let (env, _) = Env::simulated(seed);
        let map = Arc::new(map_of(nodes));
        let mut cluster = Self {
            net: MemNetwork::new(&env, seed),
            nodes: BTreeMap::new(),
            config,
            log,
            expected: Vec::new(),
        };
        for id in 1..=nodes {
            let (env, control) = Env::simulated(seed * 1000 + id);
            let machine = Machine {
                id: NodeId(id),
                env,
                control,
                store: MemKvStore::new(),
                holdings: Holdings::default(),
                tight: Arc::default(),
                full: FullNodes::default(),
                metrics: VolumeMetrics::default(),
                capacity: None,
                delay_ms: Arc::default(),
                calls: Arc::default(),
                placement: watch::channel(map.clone()).0,
                running: None,
            };
            cluster.nodes.insert(id, machine);
            cluster.start(id).await;
        }
        cluster
    }

    pub fn expect_log(&mut self, word: &'static str) {
        self.expected.push(word);
    }

    pub fn machine(&self, id: u64) -> &Machine {
        &self.nodes[&id]
    }

    pub fn shards(&self, id: u64) -> Shards {
        self.running(id).shards.clone()
    }

    pub fn running(&self, id: u64) -> &Running {
        self.nodes[&id].running.as_ref().expect("the node runs")
    }

    pub async fn start(&mut self, id: u64) {
        let machine = self.nodes.get_mut(&id).unwrap();
        let mut config = VolumeConfig::new(IndexStore::Memory(machine.store.clone()));
        config.segment_bytes = 64 << 20;
        config.max_chunk_bytes = 12 << 20;
        config.capacity_bytes = machine.capacity;
        let (env, metrics) = (machine.env.clone(), machine.metrics.clone());
        let dir = Path::new("/disk/volume");
        let (volume, _) = Volume::open(dir, config, env, metrics).await.unwrap();
        let server = Arc::new(ShardServer::new(ServerParts {
            node: machine.id,
            volume: volume.clone(),
            holdings: machine.holdings.clone(),
            reserve: machine.reserve(),
            placement: machine.placement.subscribe(),
            env: machine.env.clone(),
            config: self.config.clone(),
        }));
        let tap = Arc::new(Tap {
            server: server.clone(),
            delay_ms: machine.delay_ms.clone(),
            calls: machine.calls.clone(),
        });
        let routes = Routes::new();
        for method in ShardServer::METHODS {
            routes.add(method, tap.clone());
        }
        let shards = Shards::new(ShardsParts {
            node: machine.id,
            volume,
            holdings: machine.holdings.clone(),
            reserve: machine.reserve(),
            full: machine.full.clone(),
            placement: machine.placement.subscribe(),
            transport: self.net.node(machine.id, routes),
            env: machine.env.clone(),
            config: self.config.clone(),
        });
        machine.running = Some(Running { shards, server });
    }

    /// Ends a node in order; its disk stays.
    pub async fn stop(&mut self, id: u64) {
        self.net.down(NodeId(id));
        let running = self.nodes.get_mut(&id).unwrap().running.take().unwrap();
        running.shards.local().close().await;
        drop(running);
        self.settle().await;
    }

    /// Power loss: what was not synced is gone.
    pub async fn crash(&mut self, id: u64) {
        self.net.down(NodeId(id));
        let machine = self.nodes.get_mut(&id).unwrap();
        machine.control.crash_disk(UnsyncedData::Lost);
        machine.store.crash();
        machine.running = None;
        self.settle().await;
    }

    /// Lets tasks of a stopped node end.
    pub async fn settle(&self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    /// Replaces a node's disk by an empty one.
    pub fn replace_disk(&mut self, id: u64, seed: u64) {
        let machine = self.nodes.get_mut(&id).unwrap();
        (machine.env, machine.control) = Env::simulated(seed);
        machine.store = MemKvStore::new();
    }

    pub fn slow(&self, id: u64, delay: Duration) {
        let ms = u64::try_from(delay.as_millis()).unwrap();
        self.nodes[&id].delay_ms.store(ms, Ordering::Relaxed);
    }

    /// Gives a node another placement map.
    pub fn place(&self, id: u64, map: PlacementMap) {
        self.nodes[&id].placement.send_replace(Arc::new(map));
    }

    pub fn calls(&self, id: u64) -> u64 {
        self.nodes[&id].calls.load(Ordering::Relaxed)
    }

    pub async fn put(&self, id: u64, bytes: &Bytes) -> Result<ChunkRef, WriteError> {
        put(&self.shards(id), bytes).await
    }

    pub async fn get(&self, id: u64, chunk: &ChunkRef) -> Result<Vec<u8>, ReadError> {
        get(&self.shards(id), chunk.chunk, 0..chunk.len).await
    }

    /// What a node says of its copy, every byte read.
    pub async fn copy(&self, id: u64, chunk: ChunkId) -> CopyState {
        let shards = self.shards(id);
        let state = shards.state_on(NodeId(id), chunk, Depth::Content).await;
        state.unwrap()
    }

    /// The shard number of a node's copy.
    pub fn shard_of(&self, id: u64, chunk: ChunkId) -> usize {
        let map = self.nodes[&id].placement.borrow().clone();
        let targets = map.targets(map.group_of(&chunk), Profile::R3);
        let at = targets.iter().position(|node| node.0 == id);
        at.expect("the chunk belongs there")
    }

    /// Flips a bit of the first bytes of `payload` on a node's disk.
    pub fn corrupt(&self, id: u64, payload: &[u8]) {
        let machine = self.machine(id);
        let path = Path::new(SEGMENT);
        let file = machine.env.disk.open(path, floeberg_env::OpenMode::Read);
        let file = file.unwrap();
        let mut all = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        let read = file.read_at(&mut all, 0).unwrap();
        let at = all[..read].windows(64).position(|w| w == &payload[..64]);
        let at = at.expect("the copy is there") as u64;
        machine.control.disk().flip_bit(path, at, 3).unwrap();
    }
}

pub fn stored(bytes: &Bytes, chunk: &ChunkRef) -> CopyState {
    CopyState::Stored {
        len: bytes.len() as u64,
        crc64: Some(chunk.crc64),
    }
}

/// Bytes that differ in every position class.
pub fn pattern(len: usize, salt: u64) -> Bytes {
    let mut state = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(byte).collect()
}

pub async fn put(shards: &Shards, bytes: &Bytes) -> Result<ChunkRef, WriteError> {
    let mut writer = shards.begin_sized(bytes.len() as u64).await?;
    for piece in bytes.chunks(300_000) {
        writer.append(Bytes::copy_from_slice(piece)).await?;
    }
    writer.finish().await
}

pub async fn get(shards: &Shards, chunk: ChunkId, range: Range<u64>) -> Result<Vec<u8>, ReadError> {
    let mut stream = shards.read(&chunk, range).await?;
    let mut out = Vec::new();
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        assert!(!piece.is_empty() && piece.len() <= MIB);
        out.extend_from_slice(&piece);
    }
    Ok(out)
}
