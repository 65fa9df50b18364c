//! The handle of a group: start, propose, read, follow leadership, stop.

use crate::apply::Machine;
use crate::barrier::{self, Reader};
use crate::codec;
use crate::config::{ConfigInvalid, GroupConfig};
use crate::leadership::{Follower, Leadership};
use crate::log::GroupLog;
use crate::machine::{EntryId, StateMachine};
use crate::network::NoPeers;
use crate::raft::{Raft, Runtime, TypeConfig};
use crate::snapshot::{self, Schedule};
use crate::submit::{self, Pending, Permit, SubmitQueue};
use crate::{NoLeader, Term};
use bytes::Bytes;
use floeberg_env::Env;
use floeberg_raftlog::LogStore;
use floeberg_telemetry::ConsensusMetrics;
use floeberg_types::{GroupId, NodeId};
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{Fatal, InitializeError, RaftError};
use openraft::impls::BasicNode;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

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
}

/// A running Raft group; clones are handles to the same one.
#[derive(Clone)]
pub struct RaftGroup {
    inner: Arc<Inner>,
}

struct Inner {
    group: GroupId,
    raft: Raft,
    permits: Arc<Semaphore>,
    queue: SubmitQueue,
    readers: mpsc::UnboundedSender<Reader>,
    applied: watch::Receiver<Option<EntryId>>,
    leadership: watch::Receiver<Leadership>,
    metrics: ConsensusMetrics,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    follower: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.abort_tasks();
        // It holds the library's handle, without which the core ends too.
        self.follower.abort();
    }
}

impl Inner {
    fn abort_tasks(&self) -> Vec<JoinHandle<()>> {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.iter().for_each(JoinHandle::abort);
        tasks
    }
}

/// What a node knows about a group, for people and metrics; nothing may be decided on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// The newest term seen.
    pub term: Term,
    /// Who leads it, if that is known.
    pub leader: Option<NodeId>,
    /// Index of the last entry in the log, durable or not.
    pub last_index: Option<u64>,
    /// The last entry applied.
    pub applied: Option<EntryId>,
    /// The last entry a checkpoint covers.
    pub checkpoint: Option<EntryId>,
    /// The last entry purged from the log.
    pub purged: Option<EntryId>,
}

impl RaftGroup {
    /// Recovers the group from its log and state, and starts it.
    ///
    /// Committed entries that the state lacks are applied before this returns. A group with an
    /// empty log becomes one with this node as its only voter. A single voter campaigns at once:
    /// wait for [`Leadership::ready`].
    pub async fn start(
        group: GroupId,
        node: NodeId,
        config: &GroupConfig,
        env: &Env,
        log: Arc<dyn LogStore>,
        machine: Box<dyn StateMachine>,
        hooks: GroupHooks,
    ) -> Result<Self, GroupStartError> {
        let raft_config = Arc::new(config.to_raft(group)?);
        let machine = Machine::new(machine, env.tasks.clone(), hooks.metrics.clone());
        let applied = machine.applied();
        let log = GroupLog::new(group, log);
        let build = async {
            let raft = Raft::new(node.0, raft_config, NoPeers, log, machine).await?;
            campaign_alone(&raft, node, &config.address).await?;
            Ok(raft)
        };
        // Every task of the library inherits its randomness from this scope.
        let seed = env.rng.next_u64();
        let raft = Runtime::scope(seed, build).await.map_err(|e: BootError| {
            GroupStartError::Recovery {
                group,
                source: e.into(),
            }
        })?;
        Ok(Self::assemble(
            group, node, config, env, raft, applied, hooks,
        ))
    }

    fn assemble(
        group: GroupId,
        node: NodeId,
        config: &GroupConfig,
        env: &Env,
        raft: Raft,
        applied: watch::Receiver<Option<EntryId>>,
        hooks: GroupHooks,
    ) -> Self {
        let (queue, submissions) = SubmitQueue::new();
        let (readers, asking) = mpsc::unbounded_channel();
        let (leadership_sender, leadership) = watch::channel(Leadership::default());
        let covered = raft
            .metrics()
            .borrow_watched()
            .snapshot
            .map_or(0, |id| id.index + 1);
        let schedule = Schedule {
            covered,
            entries: config.checkpoint_entries,
            interval: config.checkpoint_interval,
        };
        let follower = Follower {
            raft: raft.clone(),
            group,
            node,
            applied: applied.clone(),
            leadership: leadership_sender,
            on_fatal: hooks.on_fatal,
        };
        let metrics = hooks.metrics;
        let tasks = vec![
            env.tasks.spawn(
                "raft-submit",
                submit::forward(raft.clone(), node.0, submissions),
            ),
            env.tasks.spawn(
                "raft-read",
                barrier::serve(raft.clone(), asking, metrics.clone()),
            ),
            env.tasks.spawn(
                "raft-checkpoint",
                snapshot::run(raft.clone(), applied.clone(), schedule),
            ),
        ];
        let follower = env.tasks.spawn("raft-leadership", follower.run());
        let permits = Arc::new(Semaphore::new(config.in_flight_max));
        let tasks = Mutex::new(tasks);
        let inner = Inner {
            group,
            raft,
            permits,
            queue,
            readers,
            applied,
            leadership,
            metrics,
            tasks,
            follower,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Which group this is.
    pub fn group(&self) -> GroupId {
        self.inner.group
    }

    /// Waits until one more command may be in flight.
    pub async fn reserve(&self) -> Permit {
        let permits = Arc::clone(&self.inner.permits);
        Permit::new(
            permits
                .acquire_owned()
                .await
                .expect("the semaphore is never closed"),
        )
    }

    /// Queues a command behind all those submitted before, without waiting.
    ///
    /// It enters the log only while this node leads `term`, the term it was decided under.
    pub fn submit(&self, permit: Permit, term: Term, command: Bytes) -> Pending {
        self.inner.metrics.proposals.inc();
        self.inner.queue.push(permit, term, command)
    }

    /// Proves with a quorum that this node still leads, then waits until everything acknowledged
    /// before the call is applied here. Returns the index that was waited for.
    pub async fn read_barrier(&self) -> Result<u64, NoLeader> {
        let no_leader = NoLeader {
            group: self.inner.group,
        };
        let (reader, index) = oneshot::channel();
        self.inner.readers.send(reader).map_err(|_| no_leader)?;
        let index = index.await.map_err(|_| no_leader)?;
        let mut applied = self.inner.applied.clone();
        barrier::applied_at_least(&mut applied, index)
            .await
            .ok_or(no_leader)?;
        Ok(index)
    }

    /// Follows this node's leadership; closes when the group stops.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Follows the last applied entry; closes when the group stops.
    pub fn applied(&self) -> watch::Receiver<Option<EntryId>> {
        self.inner.applied.clone()
    }

    /// A snapshot of what this node knows about the group.
    pub fn status(&self) -> GroupStatus {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        GroupStatus {
            term: metrics.current_term,
            leader: metrics.current_leader.map(NodeId),
            last_index: metrics.last_log_index,
            applied: *self.inner.applied.borrow(),
            checkpoint: metrics.snapshot.as_ref().map(codec::entry_id),
            purged: metrics.purged.as_ref().map(codec::entry_id),
        }
    }

    /// Stops the group and waits until it no longer touches log or state. Commands without an
    /// outcome become [`ProposeError::Indefinite`](crate::ProposeError::Indefinite), later ones
    /// [`ProposeError::NotProposed`](crate::ProposeError::NotProposed).
    pub async fn shutdown(&self) {
        if let Err(e) = self.inner.raft.shutdown().await {
            tracing::warn!(group = %self.inner.group, error = %e, "consensus did not stop cleanly");
        }
        for task in self.inner.abort_tasks() {
            // Aborted, so the result says nothing; what matters is that its queue is closed.
            let _ = task.await;
        }
        // Both close when their owners are gone; the state machine is one of them.
        let (mut leadership, mut applied) = (self.leadership(), self.applied());
        while leadership.changed().await.is_ok() {}
        while applied.changed().await.is_ok() {}
    }
}

/// Why the group is not up.
#[derive(Debug, thiserror::Error)]
enum BootError {
    #[error(transparent)]
    Fatal(#[from] Fatal<TypeConfig>),
    #[error(transparent)]
    Initialize(#[from] RaftError<TypeConfig, InitializeError<TypeConfig>>),
}

/// Makes a pristine group one of this node alone, and lets a single voter lead without waiting for
/// an election timeout: nobody else could win.
async fn campaign_alone(raft: &Raft, node: NodeId, address: &str) -> Result<(), BootError> {
    if !raft.is_initialized().await? {
        let alone = BTreeMap::from([(node.0, BasicNode::new(address))]);
        raft.initialize(alone).await?;
        return Ok(());
    }
    let voters = raft
        .with_raft_state(|state| {
            state
                .membership_state
                .effective()
                .voter_ids()
                .collect::<Vec<_>>()
        })
        .await?;
    if voters == [node.0] {
        raft.trigger().elect(false).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
