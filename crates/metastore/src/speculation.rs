//! The rows of proposals in flight, which the next decision builds on.
//!
//! Each row keeps the versions of all proposals in flight, oldest first. If a proposal is lost,
//! exactly what was built on its rows goes with it: leaving any of that would make every later
//! decision on a busy row miss, one after the other and without end; dropping more would make
//! decisions miss that had nothing to do with it.

use crate::admission::Admissions;
use crate::turns::Turns;
use bytes::Bytes;
use floeberg_consensus::Term;
use floeberg_types::{CommitId, TimestampMs};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
#[derive(Debug)]
pub(crate) struct Proposal {
    /// Place in the order of submission, which is the order of the log.
    number: u64,
    fate: AtomicU8,
    settled: Notify,
}

impl Proposal {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

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

/// A row as a proposal in flight leaves it.
#[derive(Debug, Clone)]
pub(crate) struct InFlightRow {
    pub(crate) commit_id: CommitId,
    /// `None`: deleted.
    pub(crate) payload: Option<Bytes>,
    pub(crate) proposal: Arc<Proposal>,
}

/// What has to be undone or forgotten when a proposal lands.
#[derive(Debug)]
struct Footprint {
    proposal: Arc<Proposal>,
    keys: Vec<Bytes>,
    /// Numbers of the proposals whose rows it read. Should one be lost, it is bound to miss.
    built_on: Vec<u64>,
}

/// The speculative rows of one term.
#[derive(Debug, Default)]
pub(crate) struct Speculation {
    term: Term,
    next_number: u64,
    rows: BTreeMap<Bytes, VecDeque<InFlightRow>>,
    in_flight: BTreeMap<u64, Footprint>,
    log_time: TimestampMs,
    /// Index of the last entry whose rows were taken out because they are applied.
    landed: u64,
    /// Commands of other nodes that came in this term.
    pub(crate) admissions: Admissions,
    /// Rows that are kept for other nodes.
    pub(crate) turns: Turns,
}

impl Speculation {
    /// Makes `term` current, forgetting what earlier terms had in flight: once the leader of a term
    /// is ready, all of that is either applied or gone. False if the term may not decide.
    pub(crate) fn enter(&mut self, term: Term) -> bool {
        if term > self.term {
            self.rows.clear();
            self.in_flight.clear();
            self.admissions = Admissions::default();
            self.turns = Turns::default();
            self.term = term;
        }
        term == self.term
    }

    /// The rows beneath must have come so far, or some would be seen nowhere.
    pub(crate) fn landed(&self) -> u64 {
        self.landed
    }

    /// The log time of the next command: the clock, but never before what was given or applied.
    pub(crate) fn next_log_time(&self, clock: TimestampMs, applied: TimestampMs) -> TimestampMs {
        clock.max(self.log_time).max(applied)
    }

    /// The newest version of a row in flight.
    pub(crate) fn row(&self, key: &[u8]) -> Option<&InFlightRow> {
        self.rows.get(key).and_then(VecDeque::back)
    }

    /// The newest versions of the rows in flight in `[start, end)`.
    pub(crate) fn range<'a>(
        &'a self,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a Bytes, &'a InFlightRow)> {
        let end = end.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.rows.range::<[u8], _>((Bound::Included(start), end));
        range.filter_map(|(key, versions)| versions.back().map(|row| (key, row)))
    }

    /// Lays the rows of a new proposal, made at `log_time`, over everything in flight.
    pub(crate) fn launch(
        &mut self,
        commit_id: CommitId,
        log_time: TimestampMs,
        writes: BTreeMap<Bytes, Option<Bytes>>,
        built_on: Vec<u64>,
    ) -> Arc<Proposal> {
        let number = self.next_number;
        self.next_number += 1;
        self.log_time = log_time;
        let fate = AtomicU8::new(PENDING);
        let proposal = Arc::new(Proposal {
            number,
            fate,
            settled: Notify::new(),
        });
        let mut keys = Vec::with_capacity(writes.len());
        for (key, payload) in writes {
            keys.push(key.clone());
            let proposal = Arc::clone(&proposal);
            let row = InFlightRow {
                commit_id,
                payload,
                proposal,
            };
            self.rows.entry(key).or_default().push_back(row);
        }
        let footprint = Footprint {
            proposal: Arc::clone(&proposal),
            keys,
            built_on,
        };
        self.in_flight.insert(number, footprint);
        proposal
    }

    /// Forgets the rows of an applied proposal, and every older version of them: those came before
    /// it in the log and must not hide what is applied now at `index`.
    pub(crate) fn applied(&mut self, proposal: &Proposal, index: u64) {
        self.landed = self.landed.max(index);
        let Some(footprint) = self.in_flight.remove(&proposal.number) else {
            return;
        };
        for key in &footprint.keys {
            self.keep_versions(key, |number| number > proposal.number);
        }
    }

    /// Takes back a lost proposal and everything built on its rows, all of which is lost too.
    pub(crate) fn lost(&mut self, proposal: &Proposal) {
        if !self.in_flight.contains_key(&proposal.number) {
            return;
        }
        let mut lost = BTreeSet::from([proposal.number]);
        for (number, footprint) in self.in_flight.range(proposal.number..) {
            if footprint.built_on.iter().any(|base| lost.contains(base)) {
                lost.insert(*number);
            }
        }
        for number in lost {
            let Some(footprint) = self.in_flight.remove(&number) else {
                continue;
            };
            for key in &footprint.keys {
                self.keep_versions(key, |version| version != number);
            }
            footprint.proposal.settle(Fate::Lost);
        }
    }

    fn keep_versions(&mut self, key: &Bytes, keep: impl Fn(u64) -> bool) {
        if let Some(versions) = self.rows.get_mut(key) {
            versions.retain(|row| keep(row.proposal.number));
            if versions.is_empty() {
                self.rows.remove(key);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests;
