//! Deciding on a node that does not lead: evaluate on rows applied here, send the command to the
//! leader, learn the outcome from what is applied here.
//!
//! The leader's answer only brings early refusals. An outcome is never guessed: a command is absent
//! only if the leader of its term has barred it, or if an entry of a later term is applied here.

use crate::error::{NotForwarded, StoreError, Unavailable};
use crate::inner::{Inner, RETRY};
use crate::outcomes::{Settled, Ticket};
use crate::speculation::Speculation;
use crate::txn::{Basis, Decided, Txn};
use crate::wire::{Propose, Reason, Reply, Withdraw};
use bytes::Bytes;
use floeberg_consensus::{Leader, SizedCommand};
use floeberg_rpc::{CallError, Method, Request};
use floeberg_types::{CommitId, TimestampMs};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long one call to a leader may take. A leader answers at once, or within its own patience.
const CALL: Duration = Duration::from_secs(5);

/// The longest pause between two attempts to withdraw a command.
const PAUSE_MAX: Duration = Duration::from_millis(400);

/// How long a command that a leader has taken may stay out of sight before it is asked again, at first and
/// at most. A leader whose lease has run out proposes nothing more and may lead on, so that no entry of a
/// later term tells.
pub(crate) const TAKEN: Duration = Duration::from_millis(500);
const TAKEN_MAX: Duration = Duration::from_secs(4);

/// What a request remembers from one evaluation to the next.
pub(crate) struct Progress {
    pub(crate) deadline: Instant,
    /// How often a row was not as it was read.
    misses: u32,
    /// Everything acknowledged before the request is applied here up to this entry, once that is
    /// known.
    caught_up: Option<u64>,
    /// The time that a leader asked to decide at.
    time: Option<TimestampMs>,
    /// Since when the leader could not be reached.
    out_of_touch: Option<Instant>,
    /// Since when the leader has had no room.
    crowded: Option<Instant>,
    /// What its command is expected to take.
    pub(crate) bytes: usize,
}

/// Room for a command of which nothing is known yet: that of a commit to one table.
const USUAL_BYTES: usize = 2 << 10;

impl Progress {
    pub(crate) fn new(deadline: Instant) -> Self {
        Self {
            deadline,
            misses: 0,
            caught_up: None,
            time: None,
            out_of_touch: None,
            crowded: None,
            bytes: USUAL_BYTES,
        }
    }
}

/// One evaluation of a decision on applied rows.
pub(crate) enum Draft<T, E> {
    /// The state could not be read.
    Failed(StoreError),
    /// Nothing to propose; an answer if everything was applied that has to be.
    Answer {
        result: Result<T, E>,
        now: TimestampMs,
    },
    /// A command for the leader.
    Command { value: T, decided: Box<Decided> },
}

impl Inner {
    /// Runs the decision once on rows of one moment.
    pub(crate) fn draft<T, E>(
        &self,
        progress: &mut Progress,
        decide: &mut (impl FnMut(&mut Txn<'_>) -> Result<T, E> + Send),
    ) -> Draft<T, E> {
        let moment = self.shared.newest.get();
        let (has, needs) = (moment.index(), progress.caught_up.unwrap_or(0));
        assert!(has >= needs, "rows of entry {has} to decide on at {needs}");
        let clock = progress.time.take();
        let clock = clock.unwrap_or_else(|| self.env.clock.now());
        let now = clock.max(moment.applied.log_time);
        let nothing_in_flight = Speculation::default();
        let basis = Basis {
            moment: &moment,
            speculation: &nothing_in_flight,
            rng: &*self.env.rng,
            now,
        };
        let mut txn = Txn::new(basis, CommitId::from_bytes(self.env.rng.id128()));
        let result = decide(&mut txn);
        let mut decided = txn.finish();
        if let Some(failure) = decided.seen.failure.take() {
            return Draft::Failed(failure);
        }
        match result {
            Ok(value) if !decided.is_answer() => Draft::Command {
                value,
                decided: Box::new(decided),
            },
            result => Draft::Answer { result, now },
        }
    }

    /// Whether an answer drafted now may be given. If not, it may once it is drafted again.
    pub(crate) async fn caught_up(&self, progress: &mut Progress) -> Result<bool, Unavailable> {
        if progress.caught_up.is_some() {
            return Ok(true);
        }
        let patience = progress.deadline.min(Instant::now() + self.leader_wait);
        progress.caught_up = Some(self.barrier(patience).await?.index);
        Ok(false)
    }

    /// Sends a command to the leader and waits for its outcome, at most until the deadline.
    pub(crate) async fn forward(
        &self,
        leader: Leader,
        draft: Drafted,
        progress: &mut Progress,
    ) -> Result<Settled, NotForwarded> {
        let Drafted { id, now, command } = draft;
        let command = command.bytes().clone();
        let ticket = self
            .outcomes
            .await_command(id, leader.term, command.clone());
        let body = Propose {
            term: leader.term,
            command,
            earlier_misses: progress.misses,
        };
        let mut forwarding = Forwarding {
            inner: self,
            leader,
            id,
            decided: now,
            ticket,
            deadline: progress.deadline,
        };
        let end = forwarding.run(body.encode()).await;
        let settled = match end {
            End::Settled(Settled::Absent) => {
                // What follows the leader may trail what is applied.
                self.pause(progress.deadline).await?;
                Settled::Absent
            }
            End::Settled(settled) => settled,
            End::Refused(reason) => {
                progress.out_of_touch = None;
                self.learn(progress, reason).await?
            }
            End::NotTaken => {
                let since = *progress.out_of_touch.get_or_insert_with(Instant::now);
                if since.elapsed() >= self.leader_wait {
                    return Err(NotForwarded::Unavailable);
                }
                self.pause(progress.deadline).await?;
                Settled::Absent
            }
        };
        if matches!(settled, Settled::Missed { .. }) {
            progress.misses += 1;
        }
        self.count(&settled);
        Ok(settled)
    }

    /// What a refusal means for the next evaluation.
    async fn learn(
        &self,
        progress: &mut Progress,
        reason: Reason,
    ) -> Result<Settled, NotForwarded> {
        if reason != Reason::Busy {
            progress.crowded = None;
        }
        match reason {
            Reason::Missed(key) => return Ok(Settled::Missed { key }),
            Reason::EvaluateAt(time) => progress.time = Some(time),
            Reason::Barred => {}
            Reason::Busy => {
                let since = *progress.crowded.get_or_insert_with(Instant::now);
                if since.elapsed() >= self.leader_wait {
                    return Err(NotForwarded::Crowded);
                }
                self.pause(progress.deadline).await?;
            }
            // It would refuse the same change again.
            Reason::TooLarge(large) => return Err(NotForwarded::TooLarge(large)),
        }
        Ok(Settled::Absent)
    }
}

/// A command on its way to a leader, measured before it leaves.
pub(crate) struct Drafted {
    pub(crate) id: CommitId,
    pub(crate) now: TimestampMs,
    pub(crate) command: SizedCommand,
}

/// How forwarding a command ended.
enum End {
    Settled(Settled),
    /// The leader refused it, and what led to that is applied here.
    Refused(Reason),
    /// The leader never had it.
    NotTaken,
}

/// A command that may be anywhere between this node and the log.
struct Forwarding<'a> {
    inner: &'a Inner,
    leader: Leader,
    id: CommitId,
    decided: TimestampMs,
    ticket: Ticket,
    deadline: Instant,
}

impl Forwarding<'_> {
    async fn run(&mut self, body: Bytes) -> End {
        let mut method = Method::Propose;
        let mut body = body;
        let (mut pause, mut taken) = (RETRY, TAKEN);
        loop {
            let request = Request {
                method,
                group: self.inner.identity.group,
                body: body.clone(),
            };
            let transport = &self.inner.transport;
            let answer = tokio::select! {
                biased;
                settled = self.ticket.settled() => return End::Settled(settled),
                answer = transport.call(self.leader.node, request, CALL) => answer,
                () = sleep_until(self.deadline) => return End::Settled(Settled::Unknown),
            };
            let patience = match answer.map(Reply::decode) {
                Ok(Ok(Reply::InFlight)) => {
                    let patience = taken;
                    taken = (taken * 2).min(TAKEN_MAX);
                    patience
                }
                Ok(Ok(Reply::Refused { settled, reason })) => {
                    return self.refused(settled, reason).await;
                }
                // Both say that this call did nothing; of an earlier one they know nothing.
                Err(CallError::NotSent { .. } | CallError::Refused(_))
                    if method == Method::Propose =>
                {
                    return End::NotTaken;
                }
                other => {
                    tracing::debug!(id = %self.id, ?method, ?other, "a command's way is unclear");
                    let patience = pause;
                    pause = (pause * 2).min(PAUSE_MAX);
                    patience
                }
            };
            let until = self.deadline.min(Instant::now() + patience);
            match self.outcome(until).await {
                Settled::Unknown if until < self.deadline && !self.stopped() => {}
                settled => return End::Settled(settled),
            }
            method = Method::Withdraw;
            body = self.withdrawal();
        }
    }

    fn withdrawal(&self) -> Bytes {
        let withdraw = Withdraw {
            term: self.leader.term,
            commit_id: self.id,
            decided: self.decided,
        };
        withdraw.encode()
    }

    fn stopped(&self) -> bool {
        self.ticket.is_answered()
    }

    /// The outcome, if it is applied here in time.
    async fn outcome(&mut self, until: Instant) -> Settled {
        let settled = timeout_at(until, self.ticket.settled()).await;
        settled.unwrap_or(Settled::Unknown)
    }

    /// The leader has barred the command: it is in the log up to `index` or nowhere.
    async fn refused(&mut self, index: u64, reason: Reason) -> End {
        let mut applied = self.inner.raft.applied();
        let reached = applied.wait_for(|last| last.is_some_and(|id| id.index >= index));
        tokio::select! {
            biased;
            settled = self.ticket.settled() => End::Settled(settled),
            reached = reached => match reached {
                Ok(_) => End::Refused(reason),
                Err(_) => End::Settled(Settled::Unknown),
            },
            () = sleep_until(self.deadline) => End::Settled(Settled::Unknown),
        }
    }
}
