//! Who waits for the outcome of a command, told from what is applied here.
//!
//! A command is pinned to the term it was evaluated in. Terms in a log never fall, so once an entry
//! of a later term is applied, a command that was not seen before it is absent for good.

use crate::moment::KvView;
use bytes::Bytes;
use floeberg_consensus::Term;
use floeberg_kv::Kv;
use floeberg_state::{Applied, Command, Outcome, RawRow, Receipt, RowChange, View};
use floeberg_types::CommitId;
use parking_lot::Mutex;
use prost::Message as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Applied at this log index, or by a snapshot that ends there.
    Applied {
        /// The index.
        index: u64,
    },
    /// In the log without effect.
    Missed {
        /// The row that had changed.
        key: Bytes,
    },
    /// Not in the log, and never will be.
    Absent,
    /// Nobody here will know.
    Unknown,
}

#[derive(Debug)]
struct Waiter {
    term: Term,
    /// To look for its rows in a snapshot that jumps over its place in the log.
    command: Bytes,
    tell: oneshot::Sender<Settled>,
}

#[derive(Debug, Default)]
struct Waiters {
    /// Ordered, so that waiters wake in the same order in every run of a seed.
    by_id: BTreeMap<CommitId, Waiter>,
    /// Term of the last entry applied.
    reached: Term,
    closed: bool,
}

impl Waiters {
    fn settle(&mut self, id: &CommitId, settled: Settled) {
        if let Some(waiter) = self.by_id.remove(id) {
            // Whoever waited may have given up.
            let _ = waiter.tell.send(settled);
        }
    }

    /// Commands of earlier terms that were not seen by now are absent.
    fn reach(&mut self, term: Term) {
        if term <= self.reached {
            return;
        }
        self.reached = term;
        for (_, waiter) in self.by_id.extract_if(.., |_, waiter| waiter.term < term) {
            let _ = waiter.tell.send(Settled::Absent);
        }
    }
}

/// The commands of this node whose outcome is awaited.
#[derive(Debug, Default)]
pub(crate) struct Outcomes(Mutex<Waiters>);

impl Outcomes {
    /// Starts after what is applied already.
    pub(crate) fn new(applied: &Applied) -> Self {
        let waiters = Waiters {
            reached: applied.last.map_or(0, |last| last.term),
            ..Waiters::default()
        };
        Self(Mutex::new(waiters))
    }

    /// Registers a command; has to happen before anybody else can know it.
    pub(crate) fn await_command(
        self: &Arc<Self>,
        id: CommitId,
        term: Term,
        command: Bytes,
    ) -> Ticket {
        let (tell, told) = oneshot::channel();
        let waiter = Waiter {
            term,
            command,
            tell,
        };
        let mut waiters = self.0.lock();
        if waiters.closed {
            // The sender goes unused, which reads as an unknown outcome.
            drop(waiter);
        } else if term < waiters.reached {
            let _ = waiter.tell.send(Settled::Absent);
        } else {
            waiters.by_id.insert(id, waiter);
        }
        drop(waiters);
        Ticket {
            outcomes: Arc::clone(self),
            id,
            told,
        }
    }

    /// Tells of a run of entries; called once its rows are visible.
    pub(crate) fn applied(&self, receipts: impl IntoIterator<Item = (Receipt, u64)>, term: Term) {
        let mut waiters = self.0.lock();
        for (receipt, index) in receipts {
            let settled = match receipt.outcome {
                Outcome::Applied => Settled::Applied { index },
                Outcome::Missed { key } => Settled::Missed { key },
            };
            waiters.settle(&receipt.commit_id, settled);
        }
        waiters.reach(term);
    }

    /// Tells of a snapshot that took the place of the rows, and so may have jumped over commands.
    pub(crate) fn installed(&self, kv: &dyn Kv, applied: &Applied) {
        let Some(last) = applied.last else {
            return;
        };
        let mut waiters = self.0.lock();
        let mut found = Vec::new();
        for (id, waiter) in &waiters.by_id {
            match trace(kv, *id, &waiter.command) {
                Trace::Written => found.push((*id, Settled::Applied { index: last.index })),
                // It may still come; the term tells.
                Trace::Unwritten => {}
                Trace::Covered => found.push((*id, Settled::Unknown)),
            }
        }
        for (id, settled) in found {
            waiters.settle(&id, settled);
        }
        waiters.reach(last.term);
    }

    /// The group has stopped: nobody here will learn anything more.
    pub(crate) fn close(&self) {
        let mut waiters = self.0.lock();
        waiters.closed = true;
        waiters.by_id.clear();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.lock().by_id.len()
    }
}

/// What the rows say about a command that may have been applied.
enum Trace {
    /// A row carries its id.
    Written,
    /// A row that it would have replaced stands as it was read.
    Unwritten,
    /// Its rows were changed by others since, or it wrote none.
    Covered,
}

fn trace(kv: &dyn Kv, id: CommitId, command: &Bytes) -> Trace {
    let Ok(command) = Command::decode(command.clone()) else {
        return Trace::Covered;
    };
    let mut verdict = Trace::Covered;
    for row in &command.ops {
        let Ok(stored) = KvView(kv).get(&row.key) else {
            return Trace::Covered;
        };
        let writer = stored.and_then(|value| RawRow::decode(value).ok());
        let writer = writer.map(|row| row.commit_id);
        let puts = matches!(row.op, Some(RowChange::Put(_)));
        if puts && writer == Some(id) {
            return Trace::Written;
        }
        // An absence can come about in many ways, a commit id cannot.
        let mut reads = command.reads.iter().filter(|read| read.key == row.key);
        let stands =
            |writer: CommitId| reads.any(|read| read.commit_id[..] == writer.as_bytes()[..]);
        if writer.is_some_and(stands) {
            verdict = Trace::Unwritten;
        }
    }
    verdict
}

/// The outcome to come of one command. Dropping it gives up on it.
#[derive(Debug)]
pub(crate) struct Ticket {
    outcomes: Arc<Outcomes>,
    id: CommitId,
    told: oneshot::Receiver<Settled>,
}

impl Ticket {
    /// Waits for the outcome.
    ///
    /// # Cancel safety
    /// Nothing is lost; it may be awaited again until it has answered.
    pub(crate) async fn settled(&mut self) -> Settled {
        (&mut self.told).await.unwrap_or(Settled::Unknown)
    }

    /// Whether it has answered already.
    pub(crate) fn is_answered(&self) -> bool {
        self.told.is_terminated()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // A terminated channel was answered or closed, and its waiter is gone.
        if !self.told.is_terminated() {
            self.outcomes.0.lock().by_id.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests;
