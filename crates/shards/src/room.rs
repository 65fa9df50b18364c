//! For whom there is room: on this node's disk, and on those of the others.

use floeberg_types::NodeId;
use parking_lot::RwLock;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

type Check = dyn Fn() -> Result<(), String> + Send + Sync;

/// What is kept free on this node's disk for more than chunks: its log and its rows may lie there, too.
#[derive(Clone, Default)]
pub struct Reserve(Option<Arc<Check>>);

impl Reserve {
    /// Asks `check` before every copy that another node or a repair brings.
    pub fn new(check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(check)))
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        self.0.as_ref().map_or(Ok(()), |check| check())
    }
}

impl fmt::Debug for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reserve").field(&self.check()).finish()
    }
}

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
