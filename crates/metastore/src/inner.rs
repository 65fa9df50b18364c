//! What a store's handles share: where to decide, and deciding on the leader.

use crate::cx::Cx;
use crate::error::{Crowded, StoreError, Unavailable};
use crate::flight::{Flight, Origin, Wake};
use crate::flush::Flusher;
use crate::freshness::Freshness;
use crate::machine::AppliedState;
use crate::moment::Moment;
use crate::outcomes::{Outcomes, Settled};
use crate::speculation::{Fate, Proposal, Speculation, all_settled};
use crate::turns::Taken;
use crate::txn::{Basis, Decided, Txn};
use floeberg_consensus::{
    CommandTooLarge, Leader, Leadership, Permit, RaftGroup, ReadPoint, SizedCommand, Term,
};
use floeberg_env::{Env, Tasks};
use floeberg_rpc::Transport;
use floeberg_state::{Command, Identity};
use floeberg_telemetry::MetastoreMetrics;
use floeberg_types::{CommitId, NodeId, TimestampMs};
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// Called under the evaluation lock with every command of another node that is on its way.
pub(crate) type OnLaunch = Box<dyn Fn(CommitId, &Command) + Send + Sync>;

/// How long to wait before a node that could not be asked is asked again.
pub(crate) const RETRY: Duration = Duration::from_millis(25);

pub(crate) struct Inner {
    pub(crate) identity: Identity,
    pub(crate) node: NodeId,
    pub(crate) env: Env,
    pub(crate) raft: RaftGroup,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) leader: watch::Receiver<Option<Leader>>,
    pub(crate) leader_wait: Duration,
    pub(crate) deadline_default: Duration,
    pub(crate) shared: Arc<AppliedState>,
    /// Also the evaluation lock: the leader decides one command after the other, in log order.
    pub(crate) speculation: Mutex<Speculation>,
    /// Told of commands of other nodes that enter the speculative view.
    pub(crate) on_launch: OnceLock<OnLaunch>,
    pub(crate) outcomes: Arc<Outcomes>,
    pub(crate) freshness: Freshness,
    pub(crate) flusher: Arc<Flusher>,
    pub(crate) flush_task: JoinHandle<()>,
    pub(crate) metrics: MetastoreMetrics,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.flush_task.abort();
    }
}

/// Where a decision is made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On this node, which leads the term.
    Here(Term),
    /// On this node, for a leader elsewhere.
    For(Leader),
}

/// One evaluation of a decision on the leader.
pub(crate) enum Attempt<T, E> {
    /// The term cannot decide any more.
    NotLeading,
    /// Rows it read are kept for another node for a moment.
    Kept(Taken),
    /// The state could not be read.
    Failed(StoreError),
    /// What it wrote does not fit into one entry of the log.
    TooLarge(CommandTooLarge),
    /// There is no room at the moment for a command of so many bytes.
    Crowded { bytes: usize },
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
pub(crate) struct Made {
    pub(crate) commit_id: CommitId,
    pub(crate) now: TimestampMs,
    flight: Flight,
    seen: Vec<Arc<Proposal>>,
}

impl Inner {
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.env.tasks
    }

    fn place_now(&self) -> Option<Place> {
        let leadership = *self.leadership.borrow();
        if leadership.is_leader {
            // Nothing is decided before what earlier leaders acknowledged is applied.
            return leadership.ready.then_some(Place::Here(leadership.term));
        }
        let leader = (*self.leader.borrow()).filter(|leader| leader.node != self.node);
        leader.map(Place::For)
    }

    /// Waits a moment for somebody to lead.
    pub(crate) async fn place(&self, deadline: Instant) -> Result<Place, Unavailable> {
        // A decision that is evaluated again and again must come to an end here.
        if Instant::now() >= deadline {
            return Err(Unavailable);
        }
        if let Some(place) = self.place_now() {
            return Ok(place);
        }
        let patience = deadline.min(Instant::now() + self.leader_wait);
        let (mut leadership, mut leader) = (self.leadership.clone(), self.leader.clone());
        loop {
            leadership.mark_unchanged();
            leader.mark_unchanged();
            if let Some(place) = self.place_now() {
                return Ok(place);
            }
            let changed = async {
                tokio::select! {
                    biased;
                    changed = leadership.changed() => changed,
                    changed = leader.changed() => changed,
                }
            };
            match timeout_at(patience, changed).await {
                Ok(Ok(())) => {}
                // The group has stopped, or nobody leads in time.
                Ok(Err(_)) | Err(_) => return Err(Unavailable),
            }
        }
    }

    /// Waits until another node leads, or a moment where nothing was heard of one.
    pub(crate) async fn pause(&self, deadline: Instant) -> Result<(), Unavailable> {
        let mut leader = self.leader.clone();
        leader.mark_unchanged();
        let until = deadline.min(Instant::now() + RETRY);
        match timeout_at(until, leader.changed()).await {
            Ok(Err(_)) => Err(Unavailable),
            _ if Instant::now() >= deadline => Err(Unavailable),
            _ => Ok(()),
        }
    }

    /// Waits until everything acknowledged before the call is applied here.
    pub(crate) async fn barrier(&self, deadline: Instant) -> Result<ReadPoint, Unavailable> {
        loop {
            let asked = self.env.clock.monotonic();
            match timeout_at(deadline, self.raft.read_barrier()).await {
                Ok(Ok(point)) => {
                    self.freshness.proven(asked);
                    return Ok(point);
                }
                Ok(Err(_)) => self.pause(deadline).await?,
                Err(_) => return Err(Unavailable),
            }
        }
    }

    /// Waits a moment for room for a command of `bytes`.
    pub(crate) async fn reserve(&self, bytes: usize, deadline: Instant) -> Result<Permit, Crowded> {
        let patience = deadline.min(Instant::now() + self.leader_wait);
        let reserved = timeout_at(patience, self.raft.reserve(bytes)).await;
        reserved.map_err(|_| Crowded)
    }

    /// Runs the decision once and submits what it wrote, under the evaluation lock.
    pub(crate) fn evaluate<T, E>(
        self: &Arc<Self>,
        cx: &Cx,
        term: Term,
        mut permit: Permit,
        decide: &mut (impl FnMut(&mut Txn<'_>) -> Result<T, E> + Send),
    ) -> Attempt<T, E> {
        let mut speculation = self.speculation.lock();
        if !speculation.enter(term) {
            return Attempt::NotLeading;
        }
        let moment = self.moment_beneath(&speculation);
        let log_time = moment.applied.log_time;
        let now = speculation.next_log_time(self.env.clock.now(), log_time);
        let basis = Basis {
            moment: &moment,
            speculation: &speculation,
            rng: &*self.env.rng,
            now,
        };
        let mut txn = Txn::new(basis, CommitId::from_bytes(self.env.rng.id128()));
        let result = decide(&mut txn);
        let mut decided = txn.finish();
        self.metrics.rows_decided_on.inc_by(decided.seen.looked_up);
        if let Some(failure) = decided.seen.failure.take() {
            return Attempt::Failed(failure);
        }
        match result {
            Ok(value) if !decided.is_answer() => {
                if let Some(kept) = kept_for_another(&mut speculation, &decided) {
                    return Attempt::Kept(kept);
                }
                // Before anything builds on its rows: what is not queued must not be seen.
                let command = match decided.sized_command(self.identity, cx) {
                    Ok(command) => command,
                    Err(error) => return Attempt::TooLarge(error),
                };
                let bytes = command.bytes().len();
                if permit.resize(bytes).is_err() {
                    return Attempt::Crowded { bytes };
                }
                let permit = Arc::new(permit);
                let made = self.propose(&mut speculation, term, permit, decided, command);
                Attempt::Proposed { value, made }
            }
            result => Attempt::Answer {
                result,
                now,
                seen: decided.seen.proposals(),
            },
        }
    }

    /// The rows that the speculative ones lie over. Whoever holds the evaluation lock has all that
    /// landed in them: a proposal's rows are taken out of the speculation once they are applied.
    pub(crate) fn moment_beneath(&self, speculation: &Speculation) -> Arc<Moment> {
        let moment = self.shared.newest.get();
        let (has, needs) = (moment.index(), speculation.landed());
        assert!(
            has >= needs,
            "rows of entry {has} beneath those behind {needs}"
        );
        moment
    }

    /// Submits a command and lays its rows over the speculative state.
    fn propose(
        self: &Arc<Self>,
        speculation: &mut Speculation,
        term: Term,
        permit: Arc<Permit>,
        decided: Decided,
        command: SizedCommand,
    ) -> Made {
        let Decided {
            commit_id,
            now,
            seen,
            writes,
            ..
        } = decided;
        let built_on = seen.built_on.iter().copied().collect();
        let proposal = speculation.launch(commit_id, now, writes, built_on);
        Made {
            flight: self.submit(term, permit, commit_id, command, proposal, Origin::Here),
            commit_id,
            now,
            seen: seen.proposals(),
        }
    }

    /// Hands a launched command to the log; called under the evaluation lock, which keeps the order.
    pub(crate) fn submit(
        self: &Arc<Self>,
        term: Term,
        permit: Arc<Permit>,
        commit_id: CommitId,
        command: SizedCommand,
        proposal: Arc<Proposal>,
        origin: Origin,
    ) -> Flight {
        let ticket = self
            .outcomes
            .await_command(commit_id, term, command.bytes().clone());
        let pending = self.raft.submit(permit.clone(), term, command);
        let wake = Wake {
            store: Arc::clone(self),
            proposal,
            origin,
            _permit: permit,
        };
        Flight::new(pending, ticket, wake)
    }

    /// Waits for the outcome of a command, at most until the deadline.
    pub(crate) async fn land(&self, made: Made, deadline: Instant) -> Settled {
        let settled = timeout_at(deadline, made.flight.landing()).await;
        let settled = settled.unwrap_or(Settled::Unknown);
        if matches!(settled, Settled::Missed { .. }) {
            // What it built on stood before it in the log; once that is settled, the next
            // evaluation no longer sees rows that were lost.
            let _ = timeout_at(deadline, all_settled(&made.seen)).await;
        }
        self.count(&settled);
        settled
    }

    pub(crate) fn count(&self, settled: &Settled) {
        match settled {
            Settled::Applied { .. } => {
                self.metrics.commits.inc();
            }
            Settled::Missed { key } => {
                tracing::debug!(group = %self.identity.group, ?key, "command missed");
                self.metrics.misses.inc();
            }
            Settled::Absent => {}
            Settled::Unknown => {
                self.metrics.indefinite.inc();
            }
        }
    }

    /// Whether an answer made from `seen` in `term` may be given: all of it is applied, and this
    /// node still led the term after the request arrived. Otherwise it is to be evaluated again.
    pub(crate) async fn answerable(
        &self,
        term: Term,
        seen: &[Arc<Proposal>],
        deadline: Instant,
    ) -> Result<bool, Unavailable> {
        let both = async { tokio::join!(self.raft.read_barrier(), all_settled(seen)) };
        let (barrier, fate) = timeout_at(deadline, both).await.map_err(|_| Unavailable)?;
        let Ok(point) = barrier else {
            // Leadership has moved; let its watcher see that before the next evaluation.
            self.pause(deadline).await?;
            return Ok(false);
        };
        Ok(fate == Fate::Applied && point.term == term)
    }
}

/// The turn of another node on a row that was read, if there is one.
fn kept_for_another(speculation: &mut Speculation, decided: &Decided) -> Option<Taken> {
    if speculation.turns.is_empty() {
        return None;
    }
    let reads = decided.seen.reads.iter().map(|(key, _)| key);
    speculation.turns.taken(Instant::now(), None, reads)
}
