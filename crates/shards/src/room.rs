//! Which other nodes have room.

use floeberg_types::NodeId;
use parking_lot::RwLock;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Nodes that have said that their volume takes nothing at the moment; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct FullNodes(Arc<RwLock<BTreeSet<NodeId>>>);

impl FullNodes {
    /// These, and no others.
    pub fn are(&self, nodes: BTreeSet<NodeId>) {
        if *self.0.read() != nodes {
            tracing::info!(?nodes, "nodes without room for chunks");
            *self.0.write() = nodes;
        }
    }

    pub(crate) fn has(&self, node: NodeId) -> bool {
        self.0.read().contains(&node)
    }
}
