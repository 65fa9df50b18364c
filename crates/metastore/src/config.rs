//! Settings of a store and what it is made of.

use floeberg_consensus::{Begin, CommandBudget, Footing, GroupConfig, GroupHooks};
use floeberg_env::Reserve;
use floeberg_kv::Kv;
use floeberg_raftlog::LogStore;
use floeberg_rpc::Transport;
use floeberg_telemetry::MetastoreMetrics;
use floeberg_types::{ClusterId, GroupId, NodeId};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// When applied rows become durable. What is not is replayed from the log after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlushPolicy {
    /// Flush after this many bytes of rows.
    pub bytes: u64,
    /// Flush after this time if anything was written.
    pub interval: Duration,
}

impl Default for FlushPolicy {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            interval: Duration::from_secs(30),
        }
    }
}

/// Settings of one group's store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The cluster; a state of another one is refused.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// This node.
    pub node: NodeId,
    /// How the group begins if nothing of it is stored here.
    pub begin: Begin,
    /// Consensus settings.
    pub raft: GroupConfig,
    /// When rows become durable.
    pub flush: FlushPolicy,
    /// How long a request waits for a leader before it is told to come back.
    pub leader_wait: Duration,
    /// How long a transaction may take when its caller sets no deadline.
    pub deadline_default: Duration,
}

impl StoreConfig {
    /// Default settings.
    #[must_use]
    pub fn new(cluster: ClusterId, group: GroupId, node: NodeId) -> Self {
        Self {
            cluster,
            group,
            node,
            begin: Begin::Alone,
            raft: GroupConfig::default(),
            flush: FlushPolicy::default(),
            leader_wait: Duration::from_secs(5),
            deadline_default: Duration::from_secs(60),
        }
    }
}

/// What a store is built on.
#[derive(Clone)]
pub struct StoreParts {
    /// The rows of this group alone.
    pub kv: Arc<dyn Kv>,
    /// The log of all groups of the node.
    pub log: Arc<dyn LogStore>,
    /// The way to the other nodes.
    pub transport: Arc<dyn Transport>,
    /// A directory of this group alone for copies of the state on their way, on the file system
    /// of the rows.
    pub snapshots: PathBuf,
    /// Whether this node takes part, and what it knows of the others.
    pub footing: Footing,
    /// What commands may take on this node, shared by its groups.
    pub budget: CommandBudget,
    /// Whether what others send still fits on the disk.
    pub room: Reserve,
    /// Where consensus reports to; a failed flush is reported as fatal, too.
    pub hooks: GroupHooks,
    /// Counters of this store.
    pub metrics: MetastoreMetrics,
}
