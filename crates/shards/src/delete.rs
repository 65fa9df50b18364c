//! Deleting chunks wherever a copy may be.

use crate::error::{CopyError, DeleteError};
use crate::store::Shards;
use floeberg_placement::NodeState;
use floeberg_types::{ChunkId, NodeId};
use futures::future::join_all;

/// How far a deletion came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Nodes that may still have copies: each finds them as orphans when it compares its volume with
    /// the object index, or the deletion is repeated, which does no harm.
    pub unconfirmed: Vec<(NodeId, CopyError)>,
}

impl Shards {
    /// Deletes every copy of a chunk. A chunk that does not exist is no error.
    ///
    /// # Errors
    /// As [`Shards::delete_all`].
    pub async fn delete(&self, chunk: &ChunkId) -> Result<Deleted, DeleteError> {
        self.delete_all(std::slice::from_ref(chunk)).await
    }

    /// Deletes every copy of the chunks, durably on this node and on every node that answers. Copies
    /// can be on any node, because the map may have changed since they were written.
    ///
    /// # Errors
    /// If this node's volume fails: the chunks may or may not exist then.
    pub async fn delete_all(&self, chunks: &[ChunkId]) -> Result<Deleted, DeleteError> {
        let inner = &self.inner;
        if chunks.is_empty() {
            return Ok(Deleted::default());
        }
        let map = inner.map();
        let others = map.members().iter().filter_map(|(node, member)| {
            let asked = *node != inner.node && member.state != NodeState::Dead;
            asked.then_some(*node)
        });
        let asked = others.map(|node| async move {
            let deleted = inner.remote.delete(node, chunks).await;
            deleted.err().map(|error| (node, error))
        });
        let (local, remote) = futures::join!(inner.volume.delete_all(chunks), join_all(asked));
        local?;
        Ok(Deleted {
            unconfirmed: remote.into_iter().flatten().collect(),
        })
    }
}
