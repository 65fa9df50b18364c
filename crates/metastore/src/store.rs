//! One group's store: transactions, linearizable reads, opening and closing.

use crate::config::{StoreConfig, StoreParts};
use crate::cx::Cx;
use crate::error::{OpenError, StoreError, TransactError, Unavailable};
use crate::flight::{Flight, Landing, Wake};
use crate::flush::Flusher;
use crate::machine::{AppliedState, GroupMachine, KvView};
use crate::rows::ReadView;
use crate::speculation::{Fate, Proposal, Speculation, all_settled};
use crate::txn::{Decided, Txn};
use bytes::Bytes;
use floeberg_consensus::{Leadership, Permit, RaftGroup, Term};
use floeberg_env::{Env, Tasks};
use floeberg_kv::{Kv, KvError};
use floeberg_raftlog::LogStore;
use floeberg_state::{Applied, Digest, Identity};
use floeberg_telemetry::MetastoreMetrics;
use floeberg_types::{CommitId, GroupId, TimestampMs};
use parking_lot::{Mutex, RwLock};
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// A transaction's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed<T> {
    /// What the decision returned.
    pub value: T,
    /// Log index of the command; `None` if the decision wrote nothing.
    pub index: Option<u64>,
    /// Id of the command; `None` if the decision wrote nothing.
    pub commit_id: Option<CommitId>,
    /// Log time the decision was made at.
    pub log_time: TimestampMs,
}

/// The rows of one group: a cheap handle, cloned freely.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    identity: Identity,
    env: Env,
    kv: Arc<dyn Kv>,
    raft: RaftGroup,
    leadership: watch::Receiver<Leadership>,
    leader_wait: Duration,
    deadline_default: Duration,
    shared: Arc<AppliedState>,
    /// Also the evaluation lock: decisions are made one after the other, in log order.
    pub(crate) speculation: Mutex<Speculation>,
    flusher: Arc<Flusher>,
    flush_task: JoinHandle<()>,
    metrics: MetastoreMetrics,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.flush_task.abort();
    }
}

/// One evaluation of a decision.
enum Attempt<T, E> {
    /// The term cannot decide any more.
    NotLeading,
    /// The state could not be read.
    Failed(StoreError),
    /// Nothing to propose: an answer from what was seen.
    Answer {
        result: Result<T, E>,
        now: TimestampMs,
        seen: Vec<Arc<Proposal>>,
    },
    /// A command is on its way.
    Proposed { value: T, made: Made },
}

/// A submitted command and what it built on.
struct Made {
    flight: Flight,
    commit_id: CommitId,
    now: TimestampMs,
    seen: Vec<Arc<Proposal>>,
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
        let StoreParts {
            kv,
            log,
            hooks,
            metrics,
        } = parts;
        let identity = Identity {
            cluster: config.cluster,
            group: config.group,
        };
        let group = config.group;
        let applied = Applied::load(&KvView(&*kv), identity)
            .map_err(|source| OpenError::State { group, source })?;
        check_log(&*log, group, &applied)?;
        let shared = Arc::new(AppliedState {
            gate: RwLock::new(()),
            applied: Mutex::new(applied.clone()),
        });
        let flusher = Arc::new(Flusher::new(Arc::clone(&kv), config.flush));
        let machine = GroupMachine {
            identity,
            kv: Arc::clone(&kv),
            applied,
            shared: Arc::clone(&shared),
            flusher: Arc::clone(&flusher),
        };
        let on_fatal = Arc::clone(&hooks.on_fatal);
        let raft = RaftGroup::start(
            group,
            config.node,
            &config.raft,
            env,
            log,
            Box::new(machine),
            hooks,
        )
        .await?;
        flusher.replayed();
        let flushing = Arc::clone(&flusher).run(env.tasks.clone(), group, on_fatal);
        let inner = Inner {
            identity,
            env: env.clone(),
            kv,
            leadership: raft.leadership(),
            raft,
            leader_wait: config.leader_wait,
            deadline_default: config.deadline_default,
            shared,
            speculation: Mutex::default(),
            flusher,
            flush_task: env.tasks.spawn("state-flusher", flushing),
            metrics,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Decides and commits. `decide` runs on the leader against the newest state, including what is
    /// in flight, possibly several times; time and ids must come from the [`Txn`].
    ///
    /// A decision that writes nothing, or refuses, is answered once everything it saw is committed
    /// and a ReadIndex has shown that it saw everything acknowledged before the call.
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
        let deadline = cx
            .deadline
            .unwrap_or_else(|| Instant::now() + inner.deadline_default);
        loop {
            let (term, permit) = inner.admitted(deadline).await?;
            match inner.evaluate(cx, term, permit, &mut decide) {
                Attempt::NotLeading => {}
                Attempt::Failed(error) => return Err(TransactError::Storage(error)),
                Attempt::Answer { result, now, seen } => {
                    if inner.answerable(term, &seen, deadline).await? {
                        return result
                            .map_err(TransactError::Refused)
                            .map(|value| Committed {
                                value,
                                index: None,
                                commit_id: None,
                                log_time: now,
                            });
                    }
                }
                Attempt::Proposed { value, made } => {
                    let (commit_id, log_time) = (made.commit_id, made.now);
                    match inner.land(made, deadline).await {
                        Landing::Applied { index } => {
                            let (index, commit_id) = (Some(index), Some(commit_id));
                            return Ok(Committed {
                                value,
                                index,
                                commit_id,
                                log_time,
                            });
                        }
                        Landing::Missed { .. } | Landing::NotProposed => {}
                        Landing::Indefinite => return Err(TransactError::Indefinite),
                    }
                }
            }
        }
    }

    /// Reads applied rows linearizably: everything acknowledged before the call is seen, and all
    /// rows belong to one moment. Nothing is applied while `f` runs, so it should only collect.
    ///
    /// # Errors
    /// No leader could prove that it still leads.
    pub async fn read<T>(&self, f: impl FnOnce(&ReadView) -> T) -> Result<T, Unavailable> {
        let inner = &self.inner;
        let deadline = Instant::now() + inner.leader_wait;
        loop {
            inner.ready_term(deadline).await?;
            match timeout_at(deadline, inner.raft.read_barrier()).await {
                Ok(Ok(_)) => break,
                // Leadership has moved; the next turn waits for a leader again.
                Ok(Err(_)) => tokio::task::yield_now().await,
                Err(_) => return Err(Unavailable),
            }
        }
        let view = self.local();
        let _reading = inner.shared.gate.read();
        Ok(f(&view))
    }

    /// Applied rows as they are here and now; each read stands for itself.
    #[must_use]
    pub fn local(&self) -> ReadView {
        ReadView::new(Arc::clone(&self.inner.kv))
    }

    /// Follows whether this node leads the group.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// What is applied here: position, log time, digest.
    #[must_use]
    pub fn applied(&self) -> Applied {
        self.inner.shared.applied.lock().clone()
    }

    /// The digest of everything applied here; equal on nodes at the same position.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.inner.shared.applied.lock().digest
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
            .tasks()
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
    pub(crate) fn raft(&self) -> &RaftGroup {
        &self.inner.raft
    }
}

/// Log and state must overlap, else one of them is not this group's present one.
fn check_log(log: &dyn LogStore, group: GroupId, applied: &Applied) -> Result<(), OpenError> {
    let state = log
        .state(group)
        .map_err(|source| OpenError::Log { group, source })?;
    let purged = state.purged.map(|(index, _)| index);
    let log_end = state.last.map(|record| record.index).max(purged);
    let applied = applied.last.map(|last| last.index);
    if let Some(applied) = applied.filter(|index| log_end.is_none_or(|end| end < *index)) {
        return Err(OpenError::StateAheadOfLog {
            group,
            applied,
            log_end,
        });
    }
    if let Some(purged) = purged.filter(|index| applied.is_none_or(|applied| applied < *index)) {
        return Err(OpenError::StateBehindLog {
            group,
            applied,
            purged,
        });
    }
    Ok(())
}

impl Inner {
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.env.tasks
    }

    /// The term that may decide here now.
    fn deciding_term(&self) -> Option<Term> {
        let leadership = *self.leadership.borrow();
        let leads = leadership.is_leader && leadership.ready;
        let term = leadership.term;
        (leads && !self.speculation.lock().is_stalled(term)).then_some(term)
    }

    /// Waits a moment for this node to lead.
    async fn ready_term(&self, deadline: Instant) -> Result<Term, Unavailable> {
        if let Some(term) = self.deciding_term() {
            return Ok(term);
        }
        let patience = deadline.min(Instant::now() + self.leader_wait);
        let mut leadership = self.leadership.clone();
        loop {
            leadership.mark_unchanged();
            if let Some(term) = self.deciding_term() {
                return Ok(term);
            }
            match timeout_at(patience, leadership.changed()).await {
                Ok(Ok(())) => {}
                // The group has stopped, or nobody leads in time.
                Ok(Err(_)) | Err(_) => return Err(Unavailable),
            }
        }
    }

    /// Waits for a leader and for room in the log's queue.
    async fn admitted(&self, deadline: Instant) -> Result<(Term, Permit), Unavailable> {
        // A decision that is evaluated again and again must come to an end here.
        if Instant::now() >= deadline {
            return Err(Unavailable);
        }
        let term = self.ready_term(deadline).await?;
        let permit = timeout_at(deadline, self.raft.reserve())
            .await
            .map_err(|_| Unavailable)?;
        Ok((term, permit))
    }

    /// Runs the decision once and submits what it wrote, under the evaluation lock.
    fn evaluate<T, E>(
        self: &Arc<Self>,
        cx: &Cx,
        term: Term,
        permit: Permit,
        decide: &mut (impl FnMut(&mut Txn<'_>) -> Result<T, E> + Send),
    ) -> Attempt<T, E> {
        let mut speculation = self.speculation.lock();
        if !speculation.enter(term) {
            return Attempt::NotLeading;
        }
        let applied = self.shared.applied.lock().log_time;
        let now = speculation.next_log_time(self.env.clock.now(), applied);
        let mut txn = Txn::new(&*self.kv, &speculation, &*self.env.rng, now);
        let result = decide(&mut txn);
        let mut decided = txn.finish();
        if let Some(failure) = decided.seen.failure.take() {
            return Attempt::Failed(failure);
        }
        match result {
            Ok(value) if !decided.is_answer() => {
                let made = self.propose(&mut speculation, cx, term, permit, decided);
                Attempt::Proposed { value, made }
            }
            result => Attempt::Answer {
                result,
                now,
                seen: decided.seen.in_flight,
            },
        }
    }

    /// Submits a command and lays its rows over the speculative state.
    fn propose(
        self: &Arc<Self>,
        speculation: &mut Speculation,
        cx: &Cx,
        term: Term,
        permit: Permit,
        mut decided: Decided,
    ) -> Made {
        let command: Bytes = decided.command(self.identity, cx).encode_to_vec().into();
        let Decided {
            commit_id,
            now,
            seen,
            writes,
            ..
        } = decided;
        let proposal = speculation.launch(commit_id, now, writes, seen.built_on);
        let pending = self.raft.submit(permit, term, command);
        let flight = Flight::new(
            pending,
            Wake {
                store: Arc::clone(self),
                term,
                proposal,
            },
        );
        Made {
            flight,
            commit_id,
            now,
            seen: seen.in_flight,
        }
    }

    /// Waits for the outcome of a command, at most until the deadline.
    async fn land(&self, made: Made, deadline: Instant) -> Landing {
        let landing = timeout_at(deadline, made.flight.landing()).await;
        let landing = landing.unwrap_or(Landing::Indefinite);
        match &landing {
            Landing::Applied { .. } => {
                self.metrics.commits.inc();
            }
            Landing::Missed { key } => {
                tracing::debug!(group = %self.identity.group, ?key, "command missed");
                self.metrics.misses.inc();
                // What it built on stood before it in the log; once that is settled, the next
                // evaluation no longer sees rows that were lost.
                let _ = timeout_at(deadline, all_settled(&made.seen)).await;
            }
            Landing::NotProposed => {}
            Landing::Indefinite => {
                self.metrics.indefinite.inc();
            }
        }
        landing
    }

    /// Whether an answer made from `seen` in `term` may be given: all of it is applied, and this
    /// node still led the term after the request arrived. Otherwise it is to be evaluated again.
    async fn answerable(
        &self,
        term: Term,
        seen: &[Arc<Proposal>],
        deadline: Instant,
    ) -> Result<bool, Unavailable> {
        let both = async { tokio::join!(self.raft.read_barrier(), all_settled(seen)) };
        let (barrier, fate) = timeout_at(deadline, both).await.map_err(|_| Unavailable)?;
        if barrier.is_err() {
            // Leadership has moved; let its watcher see that before the next evaluation.
            tokio::task::yield_now().await;
            return Ok(false);
        }
        // A later term would have applied its own first entry before the barrier passed.
        let applied = self.shared.applied.lock().last.map(|last| last.term);
        Ok(fate == Fate::Applied && applied == Some(term))
    }
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
