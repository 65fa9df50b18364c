//! The rows of proposals in flight, which the next decision builds on.

use bytes::Bytes;
use floeberg_consensus::Term;
use floeberg_types::{CommitId, TimestampMs};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::Notify;

/// What became of a proposal, for those who read its rows before they were applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its rows are applied.
    Applied,
    /// Its rows may not be built on: they are not applied, or nobody knows.
    Lost,
}

const PENDING: u8 = 0;
const APPLIED: u8 = 1;
const LOST: u8 = 2;

/// A proposal whose fate others may wait for.
#[derive(Debug, Default)]
pub(crate) struct Proposal {
    fate: AtomicU8,
    settled: Notify,
}

impl Proposal {
    pub(crate) fn settle(&self, fate: Fate) {
        let code = match fate {
            Fate::Applied => APPLIED,
            Fate::Lost => LOST,
        };
        self.fate.store(code, Ordering::Release);
        self.settled.notify_waiters();
    }

    fn fate(&self) -> Option<Fate> {
        match self.fate.load(Ordering::Acquire) {
            PENDING => None,
            APPLIED => Some(Fate::Applied),
            _ => Some(Fate::Lost),
        }
    }

    /// Waits until the fate is known.
    pub(crate) async fn settled(&self) -> Fate {
        loop {
            // Registered before the check, so that a settle in between wakes this waiter.
            let settled = self.settled.notified();
            if let Some(fate) = self.fate() {
                return fate;
            }
            settled.await;
        }
    }
}

/// Waits for all of `proposals`; lost if any is.
pub(crate) async fn all_settled(proposals: &[Arc<Proposal>]) -> Fate {
    let mut fate = Fate::Applied;
    for proposal in proposals {
        if proposal.settled().await == Fate::Lost {
            fate = Fate::Lost;
        }
    }
    fate
}

/// A row as the newest proposal in flight leaves it.
#[derive(Debug, Clone)]
pub(crate) struct InFlightRow {
    pub(crate) commit_id: CommitId,
    /// `None`: deleted.
    pub(crate) payload: Option<Bytes>,
    pub(crate) proposal: Arc<Proposal>,
}

/// The speculative rows of one term.
#[derive(Debug, Default)]
pub(crate) struct Speculation {
    term: Term,
    /// Set when the outcome of a proposal of this term is unknown; only a later term, whose first
    /// entry settles everything before it, may decide again.
    stalled: bool,
    rows: BTreeMap<Bytes, InFlightRow>,
    log_time: TimestampMs,
}

impl Speculation {
    /// Makes `term` current, forgetting what earlier terms had in flight: once the leader of a term
    /// is ready, all of that is either applied or gone. False if the term may not decide.
    pub(crate) fn enter(&mut self, term: Term) -> bool {
        if term > self.term {
            self.rows.clear();
            self.term = term;
            self.stalled = false;
        }
        term == self.term && !self.stalled
    }

    /// The log time of the next command: the clock, but never before what was given or applied.
    pub(crate) fn next_log_time(&self, clock: TimestampMs, applied: TimestampMs) -> TimestampMs {
        clock.max(self.log_time).max(applied)
    }

    pub(crate) fn row(&self, key: &[u8]) -> Option<&InFlightRow> {
        self.rows.get(key)
    }

    /// Rows in flight in `[start, end)`.
    pub(crate) fn range<'a>(
        &'a self,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a Bytes, &'a InFlightRow)> {
        let end = end.map_or(Bound::Unbounded, Bound::Excluded);
        self.rows.range::<[u8], _>((Bound::Included(start), end))
    }

    /// Lays a proposal's rows over everything in flight.
    pub(crate) fn insert(&mut self, key: Bytes, row: InFlightRow) {
        self.rows.insert(key, row);
    }

    pub(crate) fn give_log_time(&mut self, log_time: TimestampMs) {
        self.log_time = log_time;
    }

    /// Forgets a proposal's rows, except those that a later proposal has replaced.
    pub(crate) fn remove(&mut self, keys: &[Bytes], commit_id: CommitId) {
        for key in keys {
            if self
                .rows
                .get(key)
                .is_some_and(|row| row.commit_id == commit_id)
            {
                self.rows.remove(key);
            }
        }
    }

    /// Stops deciding in `term`: one of its proposals has an unknown outcome.
    pub(crate) fn stall(&mut self, term: Term) {
        if self.term == term {
            self.stalled = true;
        }
    }

    /// Whether decisions in `term` are stopped.
    pub(crate) fn is_stalled(&self, term: Term) -> bool {
        self.term == term && self.stalled
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}
