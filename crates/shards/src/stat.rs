//! What nodes store: the state of one copy, and listings.

use crate::error::{CopyError, StatError};
use crate::repair::Depth;
use crate::store::Shards;
use crate::wire::{Fault, ShardId};
use crate::{local, wire};
use floeberg_proto::floeberg::rpc::v1 as pb;
use floeberg_types::{ChunkId, NodeId};

/// One node's copy of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyState {
    /// There is none.
    Absent,
    /// It is on its way.
    Writing,
    /// It is durable.
    Stored {
        /// Length of the chunk.
        len: u64,
        /// CRC-64/NVME of its bytes, if every byte was read.
        crc64: Option<u64>,
    },
    /// Its bytes are not what was written.
    Damaged,
}

/// A stored chunk in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its id.
    pub chunk: ChunkId,
    /// Its length in bytes.
    pub len: u64,
}

impl CopyState {
    pub(crate) fn encode(self, chunk: ChunkId) -> pb::ShardState {
        let (state, length, crc64) = match self {
            Self::Absent => (1, 0, None),
            Self::Writing => (2, 0, None),
            Self::Stored { len, crc64 } => (3, len, crc64),
            Self::Damaged => (4, 0, None),
        };
        pb::ShardState {
            shard: Some(ShardId { chunk, number: 0 }.encode()),
            state,
            length,
            crc64,
        }
    }

    pub(crate) fn decode(message: &pb::ShardState) -> Option<Self> {
        match message.state {
            1 => Some(Self::Absent),
            2 => Some(Self::Writing),
            3 => Some(Self::Stored {
                len: message.length,
                crc64: message.crc64,
            }),
            4 => Some(Self::Damaged),
            _ => None,
        }
    }
}

impl Shards {
    /// What a node says of its copy of a chunk.
    ///
    /// # Errors
    /// If it does not answer, or its disk fails.
    pub async fn state_on(
        &self,
        node: NodeId,
        chunk: ChunkId,
        depth: Depth,
    ) -> Result<CopyState, CopyError> {
        if node != self.inner.node {
            return self.inner.remote.state(node, chunk, depth).await;
        }
        let volume = &self.inner.volume;
        let state = match depth {
            Depth::Presence => local::known(volume, &chunk),
            Depth::Content => local::verified(volume, &chunk).await,
        };
        let state = state.map(|state| self.inner.holdings.state(state));
        state.map_err(CopyError::from)
    }

    /// Chunks that a node stores, in ascending order of ids behind `after`; fewer than `limit`
    /// means that there are no more. A peer lists at most 1024 at a time.
    ///
    /// # Errors
    /// If it does not answer, or its index fails.
    pub async fn list_on(
        &self,
        node: NodeId,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StatError> {
        let limit = limit.clamp(1, wire::IDS_MAX);
        if node == self.inner.node {
            let found = list(&self.inner.volume, &self.inner.env, after, limit).await;
            let failed = |fault: Fault| StatError {
                node,
                error: fault.into(),
            };
            return found.map_err(failed);
        }
        let found = self.inner.remote.list(node, after, limit).await;
        found.map_err(|error| StatError { node, error })
    }
}

/// A listing of this node's volume; the index may have to be read from disk.
pub(crate) async fn list(
    volume: &floeberg_volume::Volume,
    env: &floeberg_env::Env,
    after: Option<ChunkId>,
    limit: usize,
) -> Result<Vec<Listed>, Fault> {
    let volume = volume.clone();
    let work = move || volume.chunks(after.as_ref(), limit);
    let found = env.tasks.spawn_blocking("shards-list", work).await;
    let found = found.map_err(|e| Fault::Failed(e.to_string()))?;
    let found = found.map_err(|e| Fault::Failed(e.to_string()))?;
    let listed = |(chunk, len)| Listed { chunk, len };
    Ok(found.into_iter().map(listed).collect())
}
