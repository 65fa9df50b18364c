//! What a group is started with, and why it may not start.

use crate::budget::CommandBudget;
use crate::config::ConfigInvalid;
use crate::machine::StateMachine;
use crate::standing::Footing;
use crate::transfer::staging::Staging;
use floeberg_env::{Env, Reserve};
use floeberg_raftlog::LogStore;
use floeberg_rpc::Transport;
use floeberg_telemetry::ConsensusMetrics;
use floeberg_types::GroupId;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Told once when a group stops for good, with the cause. The process should abort: only recovery
/// from what is durable brings the group back.
pub type OnFatal = Arc<dyn Fn(GroupId, &str) + Send + Sync>;

/// Where a group reports to.
#[derive(Clone)]
pub struct GroupHooks {
    /// See [`OnFatal`].
    pub on_fatal: OnFatal,
    /// Shared by all groups of a node.
    pub metrics: ConsensusMetrics,
}

/// How a group begins that has nothing stored. One that has recovers, and only a survivor changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With this node as its only voter.
    Alone,
    /// Empty: the node waits until the leader of the group adds it.
    Join,
    /// With this node as its only voter, whoever votes by what is stored: the majority is lost for
    /// good and a person has said so. The one case that changes a group which has something stored.
    Survivor,
}

/// What a group is built on.
pub struct GroupParts {
    /// The log of all groups of the node.
    pub log: Arc<dyn LogStore>,
    /// The state of this group.
    pub machine: Box<dyn StateMachine>,
    /// The way to the other nodes; [`NoPeers`](crate::NoPeers) if there are none.
    pub transport: Arc<dyn Transport>,
    /// A directory of this group alone, for snapshots being sent and received, on the file system
    /// of the state. Created if absent; what an earlier life left in it is removed.
    pub snapshots: PathBuf,
    /// Whether this node takes part, and what it knows of the others.
    pub footing: Footing,
    /// Where to report to.
    pub hooks: GroupHooks,
    /// What commands may take on this node, shared by its groups.
    pub budget: CommandBudget,
    /// Whether what others send still fits on the disk.
    pub room: Reserve,
}

impl GroupParts {
    /// Opens the directory for snapshots.
    pub(crate) async fn staging(&self, env: &Env) -> io::Result<Staging> {
        let (disk, root) = (Arc::clone(&env.disk), self.snapshots.clone());
        let opening = move || Staging::open(disk, &root);
        let opened = env.consensus.spawn_blocking("snapshot-clean", opening);
        opened.await.map_err(io::Error::other)?
    }
}

/// Why a group did not start.
#[derive(Debug, thiserror::Error)]
pub enum GroupStartError {
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigInvalid),
    /// What is stored is unreadable or inconsistent, or the disk failed.
    #[error("group {group} cannot recover")]
    Recovery {
        /// The group.
        group: GroupId,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A survivor that has never received anything of the group.
    #[error(
        "nothing of group {group} is stored here, so this node cannot go on alone with it: choose \
         another survivor"
    )]
    NothingToGoOnFrom {
        /// The group.
        group: GroupId,
    },
    /// Entries are applied that the log does not have: it lost acknowledged entries, or state and
    /// log do not belong together.
    #[error(
        "the state of group {group} has applied entry {applied}, but the log ends at {log_end:?} \
         or has another entry there: the log lost entries or belongs to another state; restore \
         both from one copy, or remove this node from the cluster and add it again"
    )]
    StateAheadOfLog {
        /// The group.
        group: GroupId,
        /// The last entry in the state.
        applied: u64,
        /// The last entry in the log; `None` if it is empty.
        log_end: Option<u64>,
    },
    /// The log was purged beyond what the state has applied, so entries between are gone.
    #[error(
        "the log of group {group} starts after entry {purged}, but the state has applied only up \
         to {applied:?}: the state is an older copy; restore both from one copy, or remove this \
         node from the cluster and add it again"
    )]
    StateBehindLog {
        /// The group.
        group: GroupId,
        /// The last entry in the state; `None` if it is empty.
        applied: Option<u64>,
        /// The last entry purged from the log.
        purged: u64,
    },
}
