//! The handle of a group: start, propose, read, follow leadership, stop.

use crate::apply::Machine;
use crate::barrier::{self, ReadPoint, Reader, Rounds};
use crate::budget::{Admission, CommandBudget, Held, Permit};
use crate::codec;
use crate::config::GroupConfig;
use crate::going::{Going, GoingError};
use crate::leadership::{Addresses, Follower, Leader, Leadership};
use crate::log::GroupLog;
use crate::machine::EntryId;
use crate::mark::{AckMark, Acks, Witness};
use crate::members::Administration;
use crate::network::Network;
use crate::raft::{Raft, Runtime};
use crate::reach::{Reach, Reaching, Reports};
use crate::service::GroupHandler;
use crate::skew::{self, Clocks};
use crate::snapshot::{self, Schedule};
use crate::standing::{Footing, Standing};
use crate::start::{Begin, GroupParts, GroupStartError, OnFatal};
use crate::submit::{self, Pending, SizedCommand, SubmitQueue};
use crate::transfer::incoming::Incoming;
use crate::transfer::outgoing::Outgoing;
use crate::unsendable::Unsendable;
use crate::{NoLeader, Term, recovery, retention, survivor};
use floeberg_env::{Env, Reserve, Tasks};
use floeberg_rpc::{Handler, Transport};
use floeberg_telemetry::ConsensusMetrics;
use floeberg_types::{GroupId, NodeId};
use openraft::async_runtime::WatchReceiver as _;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// A running Raft group; clones are handles to the same one.
#[derive(Clone)]
pub struct RaftGroup {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) group: GroupId,
    pub(crate) node: NodeId,
    pub(crate) raft: Raft,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) members: Administration,
    pub(crate) outgoing: Outgoing,
    acks: Acks,
    witness: Witness,
    standing: Standing,
    leader: watch::Receiver<Option<Leader>>,
    addresses: watch::Receiver<Addresses>,
    handler: Arc<GroupHandler>,
    admission: Admission,
    queue: SubmitQueue,
    readers: mpsc::UnboundedSender<Reader>,
    applied: watch::Receiver<Option<EntryId>>,
    metrics: ConsensusMetrics,
    running: Mutex<Vec<JoinHandle<()>>>,
    /// Everything of the group runs here.
    tasks: Tasks,
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
        let tasks = std::mem::take(&mut *self.running.lock());
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
    /// Committed entries that the state lacks are applied before this returns. Once the node may take
    /// part, a single voter campaigns at once, others after an election timeout without a leader: wait
    /// for [`Leadership::ready`], or for a [`leader`](Self::leader_watch).
    ///
    /// # Errors
    /// See [`GroupStartError`].
    pub async fn start(
        group: GroupId,
        node: NodeId,
        begin: Begin,
        config: &GroupConfig,
        env: &Env,
        parts: GroupParts,
    ) -> Result<Self, GroupStartError> {
        let failed =
            |source: Box<dyn Error + Send + Sync>| GroupStartError::Recovery { group, source };
        let raft_config = Arc::new(config.to_raft(group)?);
        let staging = parts.staging(env).await.map_err(|e| failed(e.into()))?;
        let installed = staging.installed().map_err(|e| failed(e.into()))?;
        recovery::reconcile(&*parts.log, group, parts.machine.applied().last, installed)?;
        if begin == Begin::Survivor {
            survivor::force(&*parts.log, group, node, &config.address).await?;
        }
        let acks = Acks::recovered(&*parts.log, group).map_err(|e| failed(e.into()))?;

        let Footing { standing, witness } = parts.footing;
        let hooks = parts.hooks;
        let log = GroupLog::new(group, parts.log, acks, config.ring_bytes);
        let rate = config.snapshot_bytes_per_second;
        let outgoing = Outgoing::new(parts.machine.copier(), staging, env, rate);
        let metrics = hooks.metrics.clone();
        let machine = Machine::new(parts.machine, &log, outgoing.clone(), metrics);
        let wiring = Wiring {
            group,
            node,
            transport: parts.transport,
            outgoing,
            clocks: Clocks::new(Arc::clone(&env.clock)),
            unsendable: Unsendable::new(group),
            applied: machine.applied(),
            weights: log.weights(),
            reach: Reach::new(Arc::clone(&env.clock)),
            reports: Reports::new(Arc::clone(&env.clock)),
            acks: log.acks(),
            witness,
            standing,
            on_fatal: hooks.on_fatal,
            metrics: hooks.metrics,
            budget: parts.budget,
            room: parts.room,
        };
        let (network, address) = (wiring.network(config), config.address.clone());
        let build = async move {
            let raft = Raft::new(node.0, raft_config, network, log, machine).await?;
            let going = Going {
                raft,
                node,
                begin,
                address,
            };
            if wiring.standing.is_cleared() {
                going.begin().await?;
            }
            Ok((wiring, going))
        };
        // Every task of the library inherits its randomness from this scope, and runs where it was built.
        let build = Runtime::scope(env.rng.next_u64(), build);
        let built = env.consensus.spawn("raft-build", build).await;
        let built = built.map_err(|e| failed(e.into()))?;
        let (wiring, going) = built.map_err(|e: GoingError| failed(e.into()))?;
        Ok(wiring.assemble(config, env, going))
    }

    /// What this node has acknowledged in the group, as far as it is durable now.
    #[must_use]
    pub fn mark(&self) -> AckMark {
        self.inner.acks.mark()
    }

    /// What this node knows of the others' acknowledgements.
    #[must_use]
    pub fn witness(&self) -> &Witness {
        &self.inner.witness
    }

    /// `witness` knows that this node has acknowledged `known`: if that is more than there is here, the
    /// node takes no part any more.
    pub fn compare(&self, witness: NodeId, known: AckMark) {
        let (group, here) = (self.inner.group, self.inner.acks.mark());
        self.inner.standing.compare(group, witness, known, here);
    }

    /// Which group this is.
    pub fn group(&self) -> GroupId {
        self.inner.group
    }

    /// Waits until one more command of `bytes` may be in flight, be it to this log or to a leader
    /// elsewhere.
    ///
    /// # Cancel safety
    /// Nothing is held once the future is dropped.
    pub async fn reserve(&self, bytes: usize) -> Permit {
        self.inner.admission.reserve(bytes).await
    }

    /// What is in flight now, for people and metrics.
    #[must_use]
    pub fn held(&self) -> Held {
        self.inner.admission.held()
    }

    /// Queues a command behind all those submitted before, without waiting. Its permit is held until
    /// its outcome is known, and for as long as the caller keeps it, too.
    ///
    /// It enters the log only while this node leads `term`, the term it was decided under.
    pub fn submit(&self, permit: Arc<Permit>, term: Term, command: SizedCommand) -> Pending {
        self.inner.metrics.proposals.inc();
        self.inner.queue.push(permit, term, command)
    }

    /// Waits until everything acknowledged before the call is applied here, on any node: the
    /// leader proves with a quorum that it still leads. Readers on one node share the round.
    ///
    /// # Errors
    /// No leader is known or proved itself. Wait for the [`leader`](Self::leader_watch) to change,
    /// or a moment, before asking again.
    pub async fn read_barrier(&self) -> Result<ReadPoint, NoLeader> {
        let point = self.read_index().await?;
        let mut applied = self.inner.applied.clone();
        let reached = barrier::applied_at_least(&mut applied, point.index).await;
        reached.ok_or(self.no_leader())?;
        self.inner.tasks.crossing().await;
        Ok(point)
    }

    /// The point that [`read_barrier`](Self::read_barrier) waits for, without waiting.
    ///
    /// # Errors
    /// As for [`read_barrier`](Self::read_barrier).
    pub async fn read_index(&self) -> Result<ReadPoint, NoLeader> {
        let (reader, point) = oneshot::channel();
        let asked = self.inner.readers.send(reader);
        asked.map_err(|_| self.no_leader())?;
        let point = point.await.map_err(|_| self.no_leader())?;
        self.inner.tasks.crossing().await;
        Ok(point)
    }

    fn no_leader(&self) -> NoLeader {
        let group = self.inner.group;
        NoLeader { group }
    }

    /// Who leads the group, as far as this node knows.
    pub fn leader(&self) -> Option<Leader> {
        *self.inner.leader.borrow()
    }

    /// Follows who leads the group; closes when the group stops.
    pub fn leader_watch(&self) -> watch::Receiver<Option<Leader>> {
        self.inner.leader.clone()
    }

    /// Follows the addresses of all members, learners included; closes when the group stops.
    pub fn addresses(&self) -> watch::Receiver<Arc<BTreeMap<NodeId, String>>> {
        self.inner.addresses.clone()
    }

    /// Serves the calls of other nodes to this group.
    pub fn handler(&self) -> Arc<dyn Handler> {
        Arc::clone(&self.inner.handler) as Arc<dyn Handler>
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

/// What the tasks and handles of a group are made of.
struct Wiring {
    group: GroupId,
    node: NodeId,
    transport: Arc<dyn Transport>,
    outgoing: Outgoing,
    clocks: Clocks,
    unsendable: Unsendable,
    applied: watch::Receiver<Option<EntryId>>,
    weights: retention::Weights,
    reach: Reach,
    reports: Reports,
    acks: Acks,
    witness: Witness,
    standing: Standing,
    on_fatal: OnFatal,
    metrics: ConsensusMetrics,
    budget: CommandBudget,
    room: Reserve,
}

impl Wiring {
    fn network(&self, config: &GroupConfig) -> Network {
        Network {
            group: self.group,
            transport: Arc::clone(&self.transport),
            outgoing: self.outgoing.clone(),
            clocks: self.clocks.clone(),
            reports: self.reports.clone(),
            witness: self.witness.clone(),
            unsendable: self.unsendable.clone(),
            append_patience: config.election_timeout_max * 4,
        }
    }

    fn schedule(&self, config: &GroupConfig, raft: &Raft) -> Schedule {
        let durable = raft.metrics().borrow_watched().snapshot;
        Schedule {
            covered: durable.map_or(0, |id| id.index + 1),
            entries: config.checkpoint_entries,
            interval: config.checkpoint_interval,
            bytes: config.log_bytes_kept,
            weights: self.weights.clone(),
        }
    }

    fn rounds(&self, config: &GroupConfig, raft: &Raft, leader: LeaderWatch) -> Rounds {
        Rounds {
            raft: raft.clone(),
            group: self.group,
            node: self.node,
            transport: Arc::clone(&self.transport),
            leader,
            reach: self.reach.clone(),
            patience: config.election_timeout_max,
            metrics: self.metrics.clone(),
        }
    }

    fn reaching(&self, config: &GroupConfig, raft: &Raft, leader: LeaderWatch) -> Reaching {
        Reaching {
            raft: raft.clone(),
            group: self.group,
            node: self.node,
            transport: Arc::clone(&self.transport),
            leader,
            reach: self.reach.clone(),
            reports: self.reports.clone(),
            patience: config.election_timeout_max,
        }
    }

    fn handler(&self, raft: &Raft) -> Arc<GroupHandler> {
        let staging = self.outgoing.staging().clone();
        let tasks = self.outgoing.tasks();
        Arc::new(GroupHandler {
            group: self.group,
            raft: raft.clone(),
            incoming: Arc::new(Incoming::new(staging, tasks.clone())),
            clocks: self.clocks.clone(),
            reach: self.reach.clone(),
            acks: self.acks.clone(),
            standing: self.standing.clone(),
            room: self.room.clone(),
            installing: Arc::default(),
            tasks: tasks.clone(),
        })
    }

    fn assemble(self, config: &GroupConfig, env: &Env, going: Going) -> RaftGroup {
        let raft = going.raft.clone();
        let tasks = &env.consensus;
        let (queue, submissions) = SubmitQueue::new(tasks.clone());
        let (readers, asking) = mpsc::unbounded_channel();
        let (leadership_sender, leadership) = watch::channel(Leadership::default());
        let (leader_sender, leader) = watch::channel(None);
        let (addresses_sender, addresses) = watch::channel(Addresses::default());
        let schedule = self.schedule(config, &raft);
        let rounds = self.rounds(config, &raft, leader.clone());
        let reaching = self.reaching(config, &raft, leader.clone());
        let handler = self.handler(&raft);
        let follower = Follower {
            raft: raft.clone(),
            group: self.group,
            node: self.node,
            applied: self.applied.clone(),
            leadership: leadership_sender,
            leader: leader_sender,
            addresses: addresses_sender,
            outgoing: self.outgoing.clone(),
            on_fatal: self.on_fatal,
            metrics: self.metrics.clone(),
        };
        let forwarding = submit::forward(raft.clone(), self.node.0, submissions, tasks.clone());
        let checkpoints = snapshot::run(raft.clone(), self.applied.clone(), schedule);
        let purging = retention::run(raft.clone(), self.weights, config.log_bytes_kept);
        let moving = self.unsendable.run(raft.clone(), self.applied.clone());
        let watching = skew::run(raft.clone(), self.group, self.clocks);
        let standing = going.follow(self.group, self.standing.clone());
        let mut running = vec![
            tasks.spawn("raft-submit", forwarding),
            tasks.spawn("raft-read", rounds.serve(asking)),
            tasks.spawn("raft-checkpoint", checkpoints),
            tasks.spawn("raft-purge", purging),
            tasks.spawn("raft-clock", watching),
            tasks.spawn("raft-reach", reaching.run()),
            tasks.spawn("raft-standing", standing),
            tasks.spawn("raft-unsendable", moving),
        ];
        let follower = tasks.spawn("raft-leadership", follower.run());
        let patience = config.election_timeout_max * 2;
        let inner = Arc::new_cyclic(|group| {
            let settling = RaftGroup::settle_always(group.clone(), leadership.clone());
            running.push(tasks.spawn("raft-settle", settling));
            Inner {
                group: self.group,
                node: self.node,
                raft,
                leadership,
                members: Administration::new(config.learner_lag_max, patience),
                outgoing: self.outgoing,
                acks: self.acks,
                witness: self.witness,
                standing: self.standing,
                leader,
                addresses,
                handler,
                admission: Admission::new(config.in_flight_max, self.budget),
                queue,
                readers,
                applied: self.applied,
                metrics: self.metrics,
                running: Mutex::new(running),
                tasks: tasks.clone(),
                follower,
            }
        });
        RaftGroup { inner }
    }
}

type LeaderWatch = watch::Receiver<Option<Leader>>;

#[cfg(test)]
mod tests;
