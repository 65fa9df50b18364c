//! The leader's side of commands that were decided elsewhere: check, stamp, launch, submit.
//!
//! Under the evaluation lock every row and range that a command read is compared with the
//! speculative view, exactly as apply will compare it with the log. What the rows mean plays no
//! part. A command that is refused is barred for the rest of the term, because the node that sent
//! it decides anew.

use crate::admission::Standing;
use crate::flight::Origin;
use crate::inner::Inner;
use crate::speculation::{Proposal, Speculation, all_settled};
use crate::store::Store;
use crate::turns::{MISSES_BEFORE, Taken};
use crate::txn::{Basis, Txn};
use crate::wire::{Propose, Reason, Reply, Withdraw, malformed};
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_consensus::{CommandTooLarge, Permit, SizedCommand, Term};
use floeberg_rpc::{Handler, Method, Refusal, RefusalCode, Request};
use floeberg_state::{Command, RowChange, check_command};
use floeberg_types::{CommitId, GroupId, NodeId, TimestampMs};
use parking_lot::Mutex;
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a call is kept while it could still be answered better: an election that is about to
/// end, a row that is about to be settled, room in the queue.
const HOLD: Duration = Duration::from_secs(1);

/// Bytes of a time in a command, at most.
const STAMP_BYTES: usize = 11;

/// How far ahead of the leader's clock a command may be decided.
const AHEAD_MS: i64 = 1000;

/// Serves commands of other nodes for all groups of a node.
///
/// It does not keep the stores open.
#[derive(Default)]
pub struct ProposalService {
    groups: Mutex<BTreeMap<GroupId, Weak<Inner>>>,
}

impl ProposalService {
    /// The methods it serves.
    pub const METHODS: [Method; 2] = [Method::Propose, Method::Withdraw];

    /// Serves no group yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Serves the group of `store` from now on.
    pub fn add(&self, store: &Store) {
        let group = store.inner.identity.group;
        let store = Arc::downgrade(&store.inner);
        self.groups.lock().insert(group, store);
    }

    /// Serves `group` no more.
    pub fn remove(&self, group: GroupId) {
        self.groups.lock().remove(&group);
    }

    fn find(&self, group: GroupId) -> Result<Arc<Inner>, Refusal> {
        let found = self.groups.lock().get(&group).and_then(Weak::upgrade);
        found.ok_or_else(|| Refusal {
            code: RefusalCode::NotServing,
            message: format!("this node does not serve group {group} at the moment"),
        })
    }
}

#[async_trait]
impl Handler for ProposalService {
    async fn handle(&self, from: NodeId, request: Request) -> Result<Bytes, Refusal> {
        let store = self.find(request.group)?;
        let reply = match request.method {
            Method::Propose => store.take(from, Propose::decode(request.body)?).await?,
            Method::Withdraw => store.withdraw(Withdraw::decode(request.body)?).await,
            other => {
                return Err(Refusal {
                    code: RefusalCode::UnknownMethod,
                    message: format!("{other:?} is not served here"),
                });
            }
        };
        Ok(reply.encode())
    }
}

/// A command as it came.
struct Incoming {
    from: NodeId,
    term: Term,
    commit_id: CommitId,
    decided: TimestampMs,
    earlier_misses: u32,
    command: Command,
}

/// What the evaluation lock made of a command.
enum Considered {
    Said(Reply),
    /// A row is not as it was read; these may be what hides it.
    Missed {
        key: Bytes,
        hidden_by: Vec<Arc<Proposal>>,
    },
    /// A row is kept for another node.
    Kept {
        key: Bytes,
        taken: Taken,
    },
}

impl Inner {
    /// Takes a command for the log, or says why not.
    async fn take(self: &Arc<Self>, from: NodeId, message: Propose) -> Result<Reply, Refusal> {
        // An older or damaged node may send what it should not. There is nothing to bar: no copy of
        // the command is ever taken in this term.
        let sized = SizedCommand::new(message.command);
        let sized = match sized {
            Ok(sized) => sized.bytes().clone(),
            Err(large) => return Ok(self.refusal(Reason::TooLarge(large))),
        };
        // What the leader stamps may take a few bytes more.
        let bytes = sized.len() + STAMP_BYTES;
        let command = Command::decode(sized).map_err(|_| malformed("damaged command"))?;
        let commit_id = check_command(self.identity, &command)
            .map_err(|error| malformed(&error.to_string()))?;
        let incoming = Incoming {
            from,
            term: message.term,
            commit_id,
            decided: TimestampMs(command.log_time_ms),
            earlier_misses: message.earlier_misses,
            command,
        };
        if let Err(reply) = self.leads(incoming.term).await {
            return Ok(reply);
        }
        // Where there is room, this does not wait: calls of one node keep their order.
        let Ok(permit) = timeout(HOLD, self.raft.reserve(bytes)).await else {
            let (term, id, decided) = (incoming.term, incoming.commit_id, incoming.decided);
            return Ok(self.bar(term, id, decided, Reason::Busy));
        };
        match self.consider(permit, incoming)? {
            Considered::Said(reply) => Ok(reply),
            Considered::Missed { key, hidden_by } => {
                // Evaluated again before that is settled, it would miss again.
                let _ = timeout(HOLD, all_settled(&hidden_by)).await;
                Ok(self.refusal(Reason::Missed(key)))
            }
            Considered::Kept { key, taken } => {
                taken.ended().await;
                Ok(self.refusal(Reason::Missed(key)))
            }
        }
    }

    /// Bars a command unless it is on its way.
    async fn withdraw(&self, message: Withdraw) -> Reply {
        match self.leads(message.term).await {
            Ok(()) => self.bar(
                message.term,
                message.commit_id,
                message.decided,
                Reason::Barred,
            ),
            Err(reply) => reply,
        }
    }

    /// Waits a moment until this node leads `term`, if that can still come.
    async fn leads(&self, term: Term) -> Result<(), Reply> {
        let until = Instant::now() + HOLD;
        let mut leadership = self.leadership.clone();
        loop {
            let now = *leadership.borrow_and_update();
            if now.is_leader && now.ready && now.term == term {
                return Ok(());
            }
            let not_leading = Reply::NotLeading { term: now.term };
            if now.term > term {
                return Err(not_leading);
            }
            match timeout_at(until, leadership.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(not_leading),
            }
        }
    }

    /// The last entry applied is behind everything that can have led to a refusal by now.
    fn refusal(&self, reason: Reason) -> Reply {
        Reply::Refused {
            settled: self.shared.newest.get().index(),
            reason,
        }
    }

    fn bar(&self, term: Term, id: CommitId, decided: TimestampMs, reason: Reason) -> Reply {
        let mut speculation = self.speculation.lock();
        if !speculation.enter(term) {
            return Reply::NotLeading { term };
        }
        match speculation.admissions.standing(id, decided) {
            Standing::InFlight => return Reply::InFlight,
            Standing::Settled | Standing::Forgotten => return self.refusal(Reason::Barred),
            Standing::New => speculation.admissions.bar(id, decided),
        }
        self.refusal(reason)
    }

    /// Compares the command with the speculative view and launches it if it fits.
    fn consider(
        self: &Arc<Self>,
        permit: Permit,
        incoming: Incoming,
    ) -> Result<Considered, Refusal> {
        let mut speculation = self.speculation.lock();
        let Incoming { term, from, .. } = incoming;
        if !speculation.enter(term) {
            return Ok(Considered::Said(Reply::NotLeading { term }));
        }
        let moment = self.moment_beneath(&speculation);
        let clock = self.env.clock.now();
        let now = speculation.next_log_time(clock, moment.applied.log_time);
        if let Some(reply) = self.known_or_untimely(&mut speculation, &incoming, clock, now) {
            return Ok(Considered::Said(reply));
        }
        if let Some(kept) = kept_for_another(&mut speculation, &incoming) {
            let (id, decided) = (incoming.commit_id, incoming.decided);
            speculation.admissions.bar(id, decided);
            return Ok(kept);
        }
        let basis = Basis {
            moment: &moment,
            speculation: &speculation,
            rng: &*self.env.rng,
            now,
        };
        let comparing = Txn::new(basis, incoming.commit_id);
        let mismatch = comparing.first_mismatch(&incoming.command);
        let seen = comparing.finish().seen;
        self.metrics.rows_decided_on.inc_by(seen.looked_up);
        match mismatch {
            Ok(None) => {
                let built_on = seen.built_on.into_iter().collect();
                let launched = self.launch(&mut speculation, permit, incoming, now, built_on);
                Ok(Considered::Said(match launched {
                    Ok(()) => Reply::InFlight,
                    Err(large) => self.refusal(Reason::TooLarge(large)),
                }))
            }
            Ok(Some(key)) => {
                let (id, decided) = (incoming.commit_id, incoming.decided);
                speculation.admissions.bar(id, decided);
                if incoming.earlier_misses >= MISSES_BEFORE {
                    let keys = contended(&incoming.command, &key);
                    speculation.turns.give(Instant::now(), from, keys);
                }
                let hidden_by = seen.proposals();
                Ok(Considered::Missed { key, hidden_by })
            }
            Err(error) => {
                let (id, decided) = (incoming.commit_id, incoming.decided);
                speculation.admissions.bar(id, decided);
                Err(Refusal {
                    code: RefusalCode::Failed,
                    message: format!("the leader could not read its rows: {error}"),
                })
            }
        }
    }

    /// The answer to a command that came before, or whose time does not fit.
    fn known_or_untimely(
        &self,
        speculation: &mut Speculation,
        incoming: &Incoming,
        clock: TimestampMs,
        now: TimestampMs,
    ) -> Option<Reply> {
        let (id, decided) = (incoming.commit_id, incoming.decided);
        let again = Reason::EvaluateAt(now.max(speculation.admissions.earliest()));
        match speculation.admissions.standing(id, decided) {
            Standing::New => {}
            Standing::InFlight => return Some(Reply::InFlight),
            Standing::Settled => return Some(self.refusal(Reason::Barred)),
            Standing::Forgotten => return Some(self.refusal(again)),
        }
        // Log time itself may be ahead of this clock; what is not ahead of both is harmless.
        let latest = clock.plus_ms(AHEAD_MS).max(now);
        if decided > latest {
            speculation.admissions.bar(id, decided);
            return Some(self.refusal(again));
        }
        None
    }

    fn launch(
        self: &Arc<Self>,
        speculation: &mut Speculation,
        permit: Permit,
        incoming: Incoming,
        now: TimestampMs,
        built_on: Vec<u64>,
    ) -> Result<(), CommandTooLarge> {
        let Incoming {
            from,
            term,
            commit_id,
            decided,
            mut command,
            ..
        } = incoming;
        // No row may carry a time that the log has not reached.
        let log_time = now.max(decided);
        command.log_time_ms = log_time.0;
        // The time may take a byte more than the one it came with.
        let sized = SizedCommand::new(command.encode_to_vec())?;
        if let Some(told) = self.on_launch.get() {
            told(commit_id, &command);
        }
        if !speculation.turns.is_empty() {
            for key in read_keys(&command) {
                speculation.turns.end(from, key);
            }
        }
        let writes = command.ops.into_iter().map(|row| {
            let payload = match row.op {
                Some(RowChange::Put(payload)) => Some(payload),
                Some(RowChange::Delete(_)) | None => None,
            };
            (row.key, payload)
        });
        let proposal = speculation.launch(commit_id, log_time, writes.collect(), built_on);
        speculation.admissions.admit(commit_id, decided);
        let origin = Origin::Elsewhere(commit_id);
        let flight = self.submit(term, Arc::new(permit), commit_id, sized, proposal, origin);
        // It lands in a task of its own: nobody waits for it here.
        drop(flight);
        Ok(())
    }
}

/// The rows that a command has to find as they were and that change: those it writes, like everybody
/// who competes with it, and the one that had changed. The bucket and the namespace of a table are
/// read by all commits to all of its neighbours, which have no reason to wait.
fn contended(command: &Command, changed: &Bytes) -> BTreeSet<Bytes> {
    let written = command.ops.iter().map(|row| &row.key);
    written.chain([changed]).cloned().collect()
}

fn read_keys(command: &Command) -> impl Iterator<Item = &Bytes> {
    command.reads.iter().map(|read| &read.key)
}

fn kept_for_another(speculation: &mut Speculation, incoming: &Incoming) -> Option<Considered> {
    if speculation.turns.is_empty() {
        return None;
    }
    let key = read_keys(&incoming.command).next()?.clone();
    let reads = read_keys(&incoming.command);
    let taken = speculation
        .turns
        .taken(Instant::now(), Some(incoming.from), reads)?;
    Some(Considered::Kept { key, taken })
}

#[cfg(test)]
mod tests {
    use super::*;
    use floeberg_state::{Read, RowOp};

    #[test]
    fn a_turn_keeps_what_a_command_writes_and_what_it_missed_and_not_what_everybody_reads() {
        let key = Bytes::from_static;
        let read = |name| Read {
            key: key(name),
            commit_id: Bytes::new(),
        };
        let put = |name| RowOp {
            key: key(name),
            op: Some(RowChange::Put(Bytes::new())),
        };
        let command = Command {
            reads: [&b"bucket"[..], b"namespace", b"other", b"head"]
                .map(read)
                .into(),
            ops: [&b"head"[..], b"version"].map(put).into(),
            ..Command::default()
        };
        let kept = |changed| contended(&command, &key(changed));
        let own = [&b"head"[..], b"version"].map(key);
        assert_eq!(kept(b"head"), BTreeSet::from(own.clone()));
        let with_other = own.into_iter().chain([key(b"other")]).collect();
        assert_eq!(kept(b"other"), with_other);
    }
}
