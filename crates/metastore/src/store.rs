//! One group's store: transactions, linearizable reads, opening and closing.

use crate::config::{StoreConfig, StoreParts};
use crate::cx::Cx;
use crate::error::{FeatureLevelUnknown, OpenError, TransactError, Unavailable};
use crate::flush::Flusher;
use crate::freshness::Freshness;
use crate::front::{Draft, Drafted, Progress};
use crate::inner::{Attempt, Inner, Place};
use crate::machine::{AppliedState, GroupMachine};
use crate::moment::{Moment, Newest};
use crate::outcomes::{Outcomes, Settled};
use crate::rows::ReadView;
use crate::serve::ProposalService;
use crate::txn::Txn;
use floeberg_consensus::{GroupParts, Leader, Leadership, RaftGroup, Term};
use floeberg_env::Env;
use floeberg_kv::KvError;
use floeberg_rpc::Handler;
use floeberg_state::{Applied, Command, Digest, FEATURE_LEVEL, Identity, Mark, Marks};
use floeberg_types::{CommitId, TimestampMs};
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;
use tokio::time::Instant;

/// A transaction's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed<T> {
    /// What the decision returned.
    pub value: T,
    /// Log index of the command, or of a snapshot that holds it; `None` if the decision wrote
    /// nothing.
    pub index: Option<u64>,
    /// Id of the command; `None` if the decision wrote nothing.
    pub commit_id: Option<CommitId>,
    /// Log time the decision was made at.
    pub log_time: TimestampMs,
}

/// The rows of one group: a cheap handle, cloned freely.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

/// What one turn of a transaction came to.
enum Turn<T, E> {
    Done(Result<Committed<T>, TransactError<E>>),
    /// Nothing of it is or will be applied.
    Again,
}

fn answer<T, E>(result: Result<T, E>, log_time: TimestampMs) -> Turn<T, E> {
    let committed = |value| Committed {
        value,
        index: None,
        commit_id: None,
        log_time,
    };
    Turn::Done(result.map(committed).map_err(TransactError::Refused))
}

fn end<T, E>(settled: Settled, value: T, id: CommitId, log_time: TimestampMs) -> Turn<T, E> {
    match settled {
        Settled::Applied { index } => Turn::Done(Ok(Committed {
            value,
            index: Some(index),
            commit_id: Some(id),
            log_time,
        })),
        Settled::Missed { .. } | Settled::Absent => Turn::Again,
        Settled::Unknown => Turn::Done(Err(TransactError::Indefinite)),
    }
}

impl Store {
    /// Takes over the group's rows and log, and starts consensus.
    ///
    /// Everything committed before a crash is applied when this returns, or soon after on the
    /// leader; transactions and reads wait for it by themselves.
    ///
    /// # Errors
    /// State and log are damaged or do not belong together; see [`OpenError`].
    pub async fn open(
        config: &StoreConfig,
        env: &Env,
        parts: StoreParts,
    ) -> Result<Self, OpenError> {
        let identity = Identity {
            cluster: config.cluster,
            group: config.group,
        };
        let group = config.group;
        let kv = parts.kv;
        let moment =
            Moment::take(&kv, identity).map_err(|source| OpenError::State { group, source })?;
        let applied = moment.applied.clone();
        let outcomes = Arc::new(Outcomes::new(&applied));
        let shared = Arc::new(AppliedState {
            newest: Newest::new(moment),
            marks: Mutex::new(Marks::default()),
        });
        let flusher = Arc::new(Flusher::new(Arc::clone(&kv), config.flush));
        let machine = GroupMachine {
            identity,
            kv: Arc::clone(&kv),
            applied,
            shared: Arc::clone(&shared),
            flusher: Arc::clone(&flusher),
            outcomes: Arc::clone(&outcomes),
        };
        let on_fatal = Arc::clone(&parts.hooks.on_fatal);
        let group_parts = GroupParts {
            log: parts.log,
            machine: Box::new(machine),
            transport: Arc::clone(&parts.transport),
            snapshots: parts.snapshots,
            footing: parts.footing,
            hooks: parts.hooks,
            budget: parts.budget,
            room: parts.room,
        };
        let (node, begin, raft) = (config.node, config.begin, &config.raft);
        let raft = RaftGroup::start(group, node, begin, raft, env, group_parts).await?;
        flusher.replayed();
        let flushing = Arc::clone(&flusher).run(env.consensus.clone(), group, on_fatal);
        let inner = Inner {
            identity,
            node,
            env: env.clone(),
            transport: parts.transport,
            leadership: raft.leadership(),
            leader: raft.leader_watch(),
            raft,
            leader_wait: config.leader_wait,
            deadline_default: config.deadline_default,
            shared,
            speculation: Mutex::default(),
            on_launch: OnceLock::new(),
            outcomes,
            freshness: Freshness::default(),
            flusher,
            flush_task: env.consensus.spawn("state-flusher", flushing),
            metrics: parts.metrics,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Decides and commits, on whichever node this is. `decide` runs against the newest state here,
    /// on the leader including what is in flight, possibly several times; time and ids must come
    /// from the [`Txn`]. On another node its command is sent to the leader.
    ///
    /// A decision that writes nothing, or refuses, is answered once everything it saw is committed
    /// and a ReadIndex has shown that it saw everything acknowledged before the call. When this
    /// returns, the rows are applied on this node.
    ///
    /// # Errors
    /// See [`TransactError`]: which of them say that nothing happened is part of the contract.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown to the caller; the group is unharmed.
    pub async fn transact<T, E>(
        &self,
        cx: &Cx,
        mut decide: impl FnMut(&mut Txn<'_>) -> Result<T, E> + Send,
    ) -> Result<Committed<T>, TransactError<E>> {
        let inner = &self.inner;
        let deadline = cx.deadline;
        let deadline = deadline.unwrap_or_else(|| Instant::now() + inner.deadline_default);
        let mut progress = Progress::new(deadline);
        loop {
            let turn = match inner.place(deadline).await? {
                Place::Here(term) => {
                    self.decide_here(cx, term, &mut progress, &mut decide)
                        .await?
                }
                Place::For(leader) => {
                    self.decide_for(cx, leader, &mut progress, &mut decide)
                        .await?
                }
            };
            if let Turn::Done(result) = turn {
                return result;
            }
        }
    }

    /// One turn on the leader.
    async fn decide_here<T, E>(
        &self,
        cx: &Cx,
        term: Term,
        progress: &mut Progress,
        decide: &mut (impl FnMut(&mut Txn<'_>) -> Result<T, E> + Send),
    ) -> Result<Turn<T, E>, TransactError<E>> {
        let (inner, deadline) = (&self.inner, progress.deadline);
        let permit = inner.reserve(progress.bytes, deadline).await?;
        Ok(match inner.evaluate(cx, term, permit, decide) {
            Attempt::NotLeading => Turn::Again,
            Attempt::Failed(error) => Turn::Done(Err(TransactError::Storage(error))),
            Attempt::TooLarge(error) => Turn::Done(Err(TransactError::TooLarge(error))),
            Attempt::Crowded { bytes } => {
                progress.bytes = bytes;
                Turn::Again
            }
            Attempt::Kept(taken) => {
                taken.ended().await;
                Turn::Again
            }
            Attempt::Answer { result, now, seen } => {
                if inner.answerable(term, &seen, deadline).await? {
                    answer(result, now)
                } else {
                    Turn::Again
                }
            }
            Attempt::Proposed { value, made } => {
                let (id, now) = (made.commit_id, made.now);
                let settled = inner.land(made, deadline).await;
                if settled == Settled::Absent {
                    // A leader that hands over takes nothing, and does not know yet who follows.
                    inner.pause(deadline).await?;
                }
                end(settled, value, id, now)
            }
        })
    }

    /// One turn on another node.
    async fn decide_for<T, E>(
        &self,
        cx: &Cx,
        leader: Leader,
        progress: &mut Progress,
        decide: &mut (impl FnMut(&mut Txn<'_>) -> Result<T, E> + Send),
    ) -> Result<Turn<T, E>, TransactError<E>> {
        let inner = &self.inner;
        Ok(match inner.draft(progress, decide) {
            Draft::Failed(error) => Turn::Done(Err(TransactError::Storage(error))),
            Draft::Answer { result, now } => {
                if inner.caught_up(progress).await? {
                    answer(result, now)
                } else {
                    Turn::Again
                }
            }
            Draft::Command { value, mut decided } => {
                let (id, now) = (decided.commit_id, decided.now);
                let command = decided.sized_command(inner.identity, cx)?;
                // Held until the outcome is known here: the command is kept for as long.
                let _permit = inner
                    .reserve(command.bytes().len(), progress.deadline)
                    .await?;
                let draft = Drafted { id, now, command };
                let settled = inner.forward(leader, draft, progress).await?;
                end(settled, value, id, now)
            }
        })
    }

    /// Rows of one moment, on any node, in which everything acknowledged before the call is seen.
    ///
    /// # Errors
    /// No leader could prove that it still leads.
    ///
    /// # Panics
    /// If rows are older than the group says is applied: what they would tell is not true.
    pub async fn view(&self) -> Result<ReadView, Unavailable> {
        let inner = &self.inner;
        let point = inner.barrier(Instant::now() + inner.leader_wait).await?;
        let view = self.local();
        let (has, needs) = (view.index(), point.index);
        assert!(has >= needs, "rows of entry {has} to read at {needs}");
        Ok(view)
    }

    /// Reads a few rows linearizably; `f` runs on the thread of the caller. For many, take a
    /// [`Self::view`] and read it in [`Self::step`]s.
    ///
    /// # Errors
    /// No leader could prove that it still leads.
    pub async fn read<T>(&self, f: impl FnOnce(&ReadView) -> T) -> Result<T, Unavailable> {
        let view = self.view().await?;
        Ok(f(&view))
    }

    /// The rows applied here by now, of one moment.
    #[must_use]
    pub fn local(&self) -> ReadView {
        ReadView::new(self.inner.shared.newest.get())
    }

    /// Does a bounded piece of work over many rows apart from everything that must not wait; see
    /// [`floeberg_env::Tasks::step`].
    ///
    /// # Errors
    /// The process is ending.
    pub async fn step<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unavailable> {
        stepped(self.inner.tasks().step("rows", work).await)
    }

    /// The same over many rows, as for a listing: it stands behind all else; see
    /// [`floeberg_env::Tasks::step_behind`].
    ///
    /// # Errors
    /// The process is ending.
    pub async fn step_behind<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unavailable> {
        stepped(self.inner.tasks().step_behind("many rows", work).await)
    }

    /// Follows whether this node leads the group.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// What is applied here: position, log time, digest.
    #[must_use]
    pub fn applied(&self) -> Applied {
        self.inner.shared.newest.get().applied.clone()
    }

    /// The digest of everything applied here; equal on nodes at the same position.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.inner.shared.newest.get().applied.digest
    }

    /// The digest of everything applied up to `index`, if that is one of the last positions
    /// remembered: multiples of [`floeberg_state::MARK_EVERY`].
    #[must_use]
    pub fn digest_at(&self, index: u64) -> Option<Digest> {
        self.inner.shared.marks.lock().at(index)
    }

    /// All digests remembered, oldest first; [`floeberg_state::compare_marks`] compares those of
    /// two nodes. A node that has diverged must stop.
    #[must_use]
    pub fn digest_marks(&self) -> Vec<Mark> {
        self.inner.shared.marks.lock().all()
    }

    /// What commands of this group may rely on, as far as it is applied here.
    #[must_use]
    pub fn feature_level(&self) -> u32 {
        self.inner.shared.newest.get().applied.feature_level
    }

    /// Raises the group's feature level for all later transactions; it never falls. Nodes that do
    /// not know `level` halt, so the caller has made sure that all of them do.
    ///
    /// # Errors
    /// This version does not know the level, or see [`TransactError`].
    pub async fn raise_feature_level(
        &self,
        cx: &Cx,
        level: u32,
    ) -> Result<(), TransactError<FeatureLevelUnknown>> {
        if level > FEATURE_LEVEL {
            return Err(TransactError::Refused(FeatureLevelUnknown { level }));
        }
        let raise = |txn: &mut Txn<'_>| {
            if txn.feature_level() < level {
                txn.raise_feature_level(level);
            }
            Ok(())
        };
        self.transact(cx, raise).await.map(|_| ())
    }

    /// Serves the commands of this group that other nodes decided. A node with several groups
    /// registers one [`ProposalService`] for all of them instead.
    #[must_use]
    pub fn proposals(&self) -> Arc<dyn Handler> {
        let service = ProposalService::new();
        service.add(self);
        service
    }

    /// From now on `told` hears of every command of another node that enters the speculative view of this
    /// leader. It may still be refused by the log, and is called while nothing else can be decided, so
    /// its work has to be little and bounded. Only the first call counts.
    pub fn on_launch(&self, told: impl Fn(CommitId, &Command) + Send + Sync + 'static) {
        // A second one would be another catalog over the same rows, in a test.
        let _ = self.inner.on_launch.set(Box::new(told));
    }

    /// Consensus of this group: members, elections, its own calls.
    #[must_use]
    pub fn group(&self) -> &RaftGroup {
        &self.inner.raft
    }

    /// Stops the group and makes its rows durable, so that the next start replays nothing.
    ///
    /// # Errors
    /// The flush failed; what is not durable is replayed from the log.
    pub async fn shutdown(&self) -> Result<(), KvError> {
        self.inner.raft.shutdown().await;
        self.inner.flush_task.abort();
        let flusher = Arc::clone(&self.inner.flusher);
        let flushed = self
            .inner
            .env
            .consensus
            .spawn_blocking("state-flush", move || flusher.flush());
        flushed.await.unwrap_or(Err(KvError::Stopped))
    }

    #[cfg(test)]
    pub(crate) fn in_flight_rows(&self) -> usize {
        self.inner.speculation.lock().len()
    }

    #[cfg(test)]
    pub(crate) fn unflushed_bytes(&self) -> u64 {
        self.inner.flusher.unflushed_bytes()
    }

    #[cfg(test)]
    pub(crate) fn outcomes_awaited(&self) -> usize {
        self.inner.outcomes.len()
    }
}

/// What a step came to; its panic is the caller's.
fn stepped<T>(done: Result<T, tokio::task::JoinError>) -> Result<T, Unavailable> {
    done.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Unavailable,
    })
}

mod dump;

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod read_tests;
#[cfg(test)]
mod room_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod view_tests;
