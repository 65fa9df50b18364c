//! The replicated chunk store: what the data plane calls.

use crate::config::ShardsConfig;
use crate::copy::Destination;
use crate::error::{CopyError, WriteError};
use crate::health::Health;
use crate::holdings::Holdings;
use crate::pace::Pace;
use crate::remote::{Gates, Remote};
use crate::room::FullNodes;
use crate::wire::{ShardId, WriteHead};
use crate::writer::{ChunkWriter, Spread};
use floeberg_env::{Env, Reserve};
use floeberg_placement::{PlacementMap, Profile};
use floeberg_rpc::Transport;
use floeberg_types::{ChunkId, NodeId};
use floeberg_volume::Volume;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

/// Ids drawn for a chunk in search of a group whose nodes all answer.
const DRAWS: usize = 8;
/// Copies noted for repair; more are found again when they are read again.
const BAD_COPIES_MAX: usize = 65_536;

/// What the store is built from.
pub struct ShardsParts {
    /// This node.
    pub node: NodeId,
    /// Its disk.
    pub volume: Volume,
    /// Whether the disk has what it should have.
    pub holdings: Holdings,
    /// What is kept free on it.
    pub reserve: Reserve,
    /// Whose disks are full.
    pub full: FullNodes,
    /// The placement map, as it changes.
    pub placement: watch::Receiver<Arc<PlacementMap>>,
    /// The way to the other nodes.
    pub transport: Arc<dyn Transport>,
    /// Clock, randomness and tasks.
    pub env: Env,
    /// Limits and patience.
    pub config: ShardsConfig,
}

pub(crate) struct Inner {
    pub(crate) node: NodeId,
    pub(crate) volume: Volume,
    pub(crate) holdings: Holdings,
    pub(crate) reserve: Reserve,
    pub(crate) full: FullNodes,
    pub(crate) placement: watch::Receiver<Arc<PlacementMap>>,
    pub(crate) remote: Remote,
    pub(crate) health: Arc<Health>,
    pub(crate) env: Env,
    pub(crate) config: ShardsConfig,
    pub(crate) late: Arc<Semaphore>,
    pub(crate) pace: Pace,
    bad: Mutex<BTreeMap<(ChunkId, NodeId), Flaw>>,
}

/// What is wrong with a copy that should be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// There is none.
    Absent,
    /// Its bytes are not what was written.
    Damaged,
}

/// A copy that a read passed over, to be repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BadCopy {
    /// The chunk.
    pub chunk: ChunkId,
    /// The node whose copy it is.
    pub node: NodeId,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// Chunks over the volumes of several nodes; clones are the same store.
#[derive(Clone)]
pub struct Shards {
    pub(crate) inner: Arc<Inner>,
}

impl Shards {
    /// Builds the store. Nothing runs in the background but what its calls start.
    #[must_use]
    pub fn new(parts: ShardsParts) -> Self {
        let config = parts.config;
        let health = Health::new(parts.env.clone(), config.suspicion, config.hedge_percent);
        let health = Arc::new(health);
        let remote = Remote {
            transport: parts.transport,
            health: health.clone(),
            patience: config.patience,
            attempts: config.attempts,
            gates: Arc::new(Gates::new(config.calls_per_peer)),
        };
        let inner = Inner {
            node: parts.node,
            volume: parts.volume,
            holdings: parts.holdings,
            reserve: parts.reserve,
            full: parts.full,
            placement: parts.placement,
            remote,
            health,
            env: parts.env,
            late: Arc::new(Semaphore::new(config.late_copies)),
            pace: Pace::new(config.repair_bytes_per_second),
            config,
            bad: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// This node's own volume: its space, its compaction, its chunks.
    #[must_use]
    pub fn local(&self) -> &Volume {
        &self.inner.volume
    }

    /// The placement map as this node knows it.
    #[must_use]
    pub fn map(&self) -> Arc<PlacementMap> {
        self.inner.map()
    }

    /// Copies still under way after their writers were answered.
    #[must_use]
    pub fn late_copies(&self) -> usize {
        let free = self.inner.late.available_permits();
        self.inner.config.late_copies.saturating_sub(free)
    }

    /// The longest chunk in bytes that every node takes.
    #[must_use]
    pub fn max_chunk_bytes(&self) -> u64 {
        self.inner.max_chunk_bytes(&self.map())
    }

    /// Starts a chunk of unknown length.
    ///
    /// # Errors
    /// If the map names too few nodes.
    pub async fn begin(&self) -> Result<ChunkWriter, WriteError> {
        self.writer(None).await
    }

    /// Starts a chunk of exactly `len` bytes, which wastes no space when it is large.
    ///
    /// # Errors
    /// As [`Shards::begin`], or if `len` is beyond the longest chunk.
    pub async fn begin_sized(&self, len: u64) -> Result<ChunkWriter, WriteError> {
        let limit = self.max_chunk_bytes();
        if len > limit {
            return Err(WriteError::TooLong { limit });
        }
        self.writer(Some(len)).await
    }

    async fn writer(&self, announced: Option<u64>) -> Result<ChunkWriter, WriteError> {
        let inner = &self.inner;
        let map = inner.map();
        let profile = Profile::copies_for_nodes(map.takers());
        let (chunk, targets) = inner.draw(&map, profile);
        if profile == Profile::R1 && targets == [inner.node] {
            let writer = inner.volume.begin_as(chunk, announced).await?;
            return Ok(ChunkWriter::direct(writer, map.epoch()));
        }
        let head = WriteHead {
            shard: ShardId { chunk, number: 0 },
            write: inner.env.rng.id128(),
            epoch: map.epoch(),
            profile,
            announced,
        };
        let limit = announced.unwrap_or_else(|| inner.max_chunk_bytes(&map));
        Ok(Spread::begin(inner, head, &targets, limit)?.into())
    }

    /// Takes the copies that reads had to pass over since the last call.
    #[must_use]
    pub fn take_bad_copies(&self) -> Vec<BadCopy> {
        let bad = std::mem::take(&mut *self.inner.bad.lock());
        let copy = |((chunk, node), flaw)| BadCopy { chunk, node, flaw };
        bad.into_iter().map(copy).collect()
    }
}

impl Inner {
    pub(crate) fn map(&self) -> Arc<PlacementMap> {
        self.placement.borrow().clone()
    }

    pub(crate) fn max_chunk_bytes(&self, map: &PlacementMap) -> u64 {
        let own = self.volume.max_chunk_bytes();
        map.max_chunk_bytes().map_or(own, |limit| limit.min(own))
    }

    /// Whether a node is likely not to take a copy now.
    pub(crate) fn is_unfit(&self, node: NodeId) -> bool {
        self.full.has(node) || self.health.is_suspect(node)
    }

    /// An id for a new chunk, of a group with as few suspect or full nodes as a few draws find.
    fn draw(&self, map: &PlacementMap, profile: Profile) -> (ChunkId, Vec<NodeId>) {
        let one = || {
            let chunk = ChunkId::from_bytes(self.env.rng.id128());
            let targets = map.targets(map.group_of(&chunk), profile);
            (chunk, targets)
        };
        let unfit = |targets: &[NodeId]| {
            let unfit = |node: &&NodeId| self.is_unfit(**node);
            targets.iter().filter(unfit).count()
        };
        let mut best = one();
        // With no more nodes than copies every group has the same ones.
        let choice = map.takers() > profile.shards();
        for _ in 1..DRAWS {
            if !choice || unfit(best.1) == 0 {
                break;
            }
            let other = one();
            if unfit(other.1) < unfit(best.1) {
                best = other;
            }
        }
        (best.0, best.1.to_vec())
    }

    pub(crate) fn destination(&self, node: NodeId, head: WriteHead) -> Destination {
        if node == self.node {
            return Destination::local(self.volume.clone(), head);
        }
        Destination::Remote {
            remote: self.remote.clone(),
            to: node,
            head,
        }
    }

    /// Notes copies that were passed over, if they should be there.
    pub(crate) fn note_bad(&self, chunk: ChunkId, failures: &[(NodeId, CopyError)]) {
        let map = self.map();
        // Whatever the chunk's profile is, none has more copies than this one.
        let targets = map.targets(map.group_of(&chunk), Profile::R3);
        for (node, error) in failures {
            let flaw = match error {
                CopyError::Damaged { .. } => Flaw::Damaged,
                CopyError::Absent if targets.contains(node) => Flaw::Absent,
                _ => continue,
            };
            let mut bad = self.bad.lock();
            if bad.len() < BAD_COPIES_MAX && bad.insert((chunk, *node), flaw).is_none() {
                tracing::info!(%chunk, %node, ?flaw, "a copy has to be repaired");
            }
        }
    }
}
