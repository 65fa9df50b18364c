//! One evaluation of a use case: reads with their commit ids, and the rows it decides to write.

use crate::cx::Cx;
use crate::error::StoreError;
use crate::moment::Moment;
use crate::rows::{Key, Rows, decode_raw, scan_range};
use crate::speculation::{InFlightRow, Proposal, Speculation};
use bytes::Bytes;
use floeberg_consensus::{CommandTooLarge, SizedCommand};
use floeberg_env::Rng;
use floeberg_state::keys::prefix_end;
use floeberg_state::{
    COMMAND_FORMAT, Command, Event, Identity, RangeEmpty, RawRow, Read, RowChange, RowMessage,
    RowOp, UsageDelta, UsageKey,
};
use floeberg_types::{CommitId, TimestampMs};
use prost::Message as _;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

/// Payloads to put, or `None` to delete.
pub(crate) type Writes = BTreeMap<Bytes, Option<Bytes>>;

/// Whether a range had rows when [`Txn::require_empty`] looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a range with rows is not refused by the transaction itself"]
pub enum RangeState {
    /// No rows; apply checks that it still is so.
    Empty,
    /// At least one row.
    Occupied,
}

/// What a decision has looked at.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) reads: Vec<(Bytes, Option<CommitId>)>,
    empty: Vec<RangeEmpty>,
    /// Proposals whose rows, deleted ones included, it has looked at, by number.
    in_flight: BTreeMap<u64, Arc<Proposal>>,
    /// Numbers of those whose rows it has read as present: it stands and falls with them. An
    /// absence that a proposal leaves can also come about otherwise.
    pub(crate) built_on: BTreeSet<u64>,
    pub(crate) failure: Option<StoreError>,
    /// Rows that were looked for beneath those in flight.
    pub(crate) looked_up: u64,
}

impl Seen {
    fn observe(&mut self, row: &InFlightRow) {
        let (number, proposal) = (row.proposal.number(), &row.proposal);
        // Numbers are unique among what is in flight at once.
        self.in_flight
            .entry(number)
            .or_insert_with(|| Arc::clone(proposal));
        if row.payload.is_some() {
            self.built_on.insert(number);
        }
    }

    /// The proposals whose rows it has looked at.
    pub(crate) fn proposals(self) -> Vec<Arc<Proposal>> {
        self.in_flight.into_values().collect()
    }
}

/// What a decision is made on.
#[derive(Clone, Copy)]
pub(crate) struct Basis<'a> {
    pub(crate) moment: &'a Moment,
    /// What is in flight beyond the moment.
    pub(crate) speculation: &'a Speculation,
    pub(crate) rng: &'a dyn Rng,
    /// Log time of the decision.
    pub(crate) now: TimestampMs,
}

/// A decision in progress. It sees applied rows, rows of proposals in flight and its own writes.
///
/// It may run several times: time, ids and randomness must come from here, and nothing outside
/// may be changed.
pub struct Txn<'a> {
    basis: Basis<'a>,
    commit_id: CommitId,
    seen: RefCell<Seen>,
    writes: Writes,
    usage: Vec<(UsageKey, UsageDelta)>,
    event: Option<Event>,
    raise: u32,
}

/// A row found by a scan, by where it comes from.
enum Found<'a> {
    Own(Option<&'a Bytes>),
    InFlight(&'a InFlightRow),
    Applied(Bytes),
}

impl<'a> Txn<'a> {
    pub(crate) fn new(basis: Basis<'a>, commit_id: CommitId) -> Self {
        Self {
            basis,
            commit_id,
            seen: RefCell::default(),
            writes: Writes::new(),
            usage: Vec::new(),
            event: None,
            raise: 0,
        }
    }

    /// The log time of this transaction; it does not move while the transaction runs.
    #[must_use]
    pub fn now(&self) -> TimestampMs {
        self.basis.now
    }

    /// What the rows written here may rely on: every node of the group knows this level.
    #[must_use]
    pub fn feature_level(&self) -> u32 {
        self.basis.moment.applied.feature_level
    }

    /// Raises the group's level for all later transactions.
    pub(crate) fn raise_feature_level(&mut self, level: u32) {
        self.raise = level;
    }

    /// The id that every row written here will carry.
    #[must_use]
    pub fn commit_id(&self) -> CommitId {
        self.commit_id
    }

    /// A new random id; another one in every evaluation.
    #[must_use]
    pub fn new_id(&self) -> [u8; 16] {
        self.basis.rng.id128()
    }

    /// Writes a row.
    pub fn put<M: RowMessage>(&mut self, key: Key, row: &M) {
        self.put_raw(key, row.encode_to_vec().into());
    }

    /// Writes a row whose payload is already encoded.
    pub fn put_raw(&mut self, key: Key, payload: Bytes) {
        self.writes.insert(key, Some(payload));
    }

    /// Removes a row; one that is absent stays so.
    pub fn delete(&mut self, key: Key) {
        self.writes.insert(key, None);
    }

    /// Whether any row starts with `prefix`, this transaction's own writes not counted. If there is
    /// none, the command says so, and a row that appears before it is applied makes it miss.
    ///
    /// # Errors
    /// The store failed.
    pub fn require_empty(&mut self, prefix: &[u8]) -> Result<RangeState, StoreError> {
        let mut state = RangeState::Empty;
        let (start, end) = scan_range(prefix, None);
        if self.first_in(&start, end.as_deref())?.is_some() {
            state = RangeState::Occupied;
        }
        if state == RangeState::Empty {
            // No key starts with 0xff, so a prefix of those only never occurs.
            let end = prefix_end(prefix).unwrap_or_else(|| Bytes::from_static(&[u8::MAX; 32]));
            let start = Bytes::copy_from_slice(prefix);
            self.seen.borrow_mut().empty.push(RangeEmpty { start, end });
        }
        Ok(state)
    }

    /// Lists a row as it was read before, from a view: apply compares it like any other, and the
    /// command misses if it has changed. Nothing is looked up here, so that a decision over thousands
    /// of rows holds up nobody; it is up to the caller to read them anew once it is made again.
    pub fn expect(&mut self, key: Key, commit_id: CommitId) {
        let reads = &mut self.seen.get_mut().reads;
        reads.push((key, Some(commit_id)));
    }

    /// The first row of the group in `[start, end)`, own writes not counted.
    fn first_in(&self, start: &[u8], end: Option<&[u8]>) -> Result<Option<Key>, StoreError> {
        let mut first = None;
        self.visit(start, end, &Writes::new(), |key, found| {
            if self.record(&key, found)?.is_none() {
                return Ok(ControlFlow::Continue(()));
            }
            first = Some(key);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(first)
    }

    /// The first row or range that is not as `command`, decided elsewhere, saw it.
    pub(crate) fn first_mismatch(&self, command: &Command) -> Result<Option<Key>, StoreError> {
        for read in &command.reads {
            let stored = self.find(&read.key)?;
            let stands = match &stored {
                Some(row) => row.commit_id.as_bytes()[..] == read.commit_id[..],
                None => read.commit_id.is_empty(),
            };
            if !stands {
                return Ok(Some(read.key.clone()));
            }
        }
        for range in &command.ranges_empty {
            if let Some(key) = self.first_in(&range.start, Some(&range.end))? {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// Moves usage counters. Their rows are kept by apply and never conflict.
    pub fn usage(&mut self, key: UsageKey, delta: UsageDelta) {
        self.usage.push((key, delta));
    }

    /// The event of this transaction; a later one replaces it.
    pub fn event(&mut self, event: Event) {
        self.event = Some(event);
    }

    /// Notes a row of the group as read and returns it.
    fn record(&self, key: &Bytes, found: Found<'_>) -> Result<Option<RawRow>, StoreError> {
        let row = match found {
            Found::Own(payload) => {
                return Ok(payload.map(|payload| RawRow {
                    commit_id: self.commit_id,
                    payload: payload.clone(),
                }));
            }
            Found::InFlight(row) => {
                self.seen.borrow_mut().observe(row);
                row.payload.clone().map(|payload| RawRow {
                    commit_id: row.commit_id,
                    payload,
                })
            }
            Found::Applied(value) => {
                self.seen.borrow_mut().looked_up += 1;
                Some(decode_raw(key, value)?)
            }
        };
        let commit_id = row.as_ref().map(|row| row.commit_id);
        self.seen.borrow_mut().reads.push((key.clone(), commit_id));
        Ok(row)
    }

    fn find(&self, key: &[u8]) -> Result<Option<RawRow>, StoreError> {
        if let Some(own) = self.writes.get(key) {
            return self.record(&Bytes::new(), Found::Own(own.as_ref()));
        }
        let key = Bytes::copy_from_slice(key);
        if let Some(row) = self.basis.speculation.row(&key) {
            return self.record(&key, Found::InFlight(row));
        }
        match self.basis.moment.rows.get(&key)? {
            Some(value) => self.record(&key, Found::Applied(value)),
            None => {
                let mut seen = self.seen.borrow_mut();
                seen.looked_up += 1;
                seen.reads.push((key, None));
                Ok(None)
            }
        }
    }

    /// Walks the rows of `[start, end)` in key order; `own` writes hide rows in flight, and those
    /// hide applied ones.
    fn visit(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        own: &Writes,
        mut visit: impl FnMut(Bytes, Found<'_>) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        if end.is_some_and(|end| start >= end) {
            return Ok(());
        }
        let bound = end.map_or(Bound::Unbounded, Bound::Excluded);
        let mut own = own
            .range::<[u8], _>((Bound::Included(start), bound))
            .peekable();
        let mut in_flight = self.basis.speculation.range(start, end).peekable();
        let mut applied = self.basis.moment.rows.scan(start, end).peekable();
        loop {
            let applied_key = match applied.peek() {
                Some(Ok((key, _))) => Some(key),
                Some(Err(error)) => return Err(error.clone().into()),
                None => None,
            };
            let keys = [
                own.peek().map(|(key, _)| *key),
                in_flight.peek().map(|(key, _)| *key),
            ];
            let Some(key) = keys
                .into_iter()
                .chain([applied_key])
                .flatten()
                .min()
                .cloned()
            else {
                return Ok(());
            };
            let found_own = own.next_if(|(own, _)| **own == key);
            let found_in_flight = in_flight.next_if(|(in_flight, _)| **in_flight == key);
            let found_applied = applied.next_if(|row| row.as_ref().is_ok_and(|(k, _)| *k == key));
            let found = match (found_own, found_in_flight, found_applied) {
                (Some((_, payload)), _, _) => Found::Own(payload.as_ref()),
                (None, Some((_, row)), _) => Found::InFlight(row),
                (None, None, Some(Ok((_, value)))) => Found::Applied(value),
                (None, None, _) => return Ok(()),
            };
            if visit(key, found)?.is_break() {
                return Ok(());
            }
        }
    }

    /// Remembers a failure, so that the engine reports it whatever the decision makes of it.
    fn noting<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            self.seen.borrow_mut().failure = Some(error.clone());
        }
        result
    }

    pub(crate) fn finish(self) -> Decided {
        Decided {
            now: self.basis.now,
            feature_level: self.feature_level().max(self.raise),
            raise: self.raise,
            commit_id: self.commit_id,
            seen: self.seen.into_inner(),
            writes: self.writes,
            usage: self.usage,
            event: self.event,
        }
    }
}

impl Rows for Txn<'_> {
    fn get_raw(&self, key: &[u8]) -> Result<Option<RawRow>, StoreError> {
        self.noting(self.find(key))
    }

    /// The rows found are read; a row that appears later in the range is not noticed. Where that
    /// matters, use [`Txn::require_empty`] or read a row that every writer of the range writes.
    fn scan_prefix(
        &self,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key, RawRow)>, StoreError> {
        let mut rows = Vec::new();
        if limit == 0 {
            return Ok(rows);
        }
        let (start, end) = scan_range(prefix, start_after);
        let visited = self.visit(&start, end.as_deref(), &self.writes, |key, found| {
            if let Some(row) = self.record(&key, found)? {
                rows.push((key, row));
            }
            let full = rows.len() >= limit;
            Ok(if full {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        });
        self.noting(visited).map(|()| rows)
    }
}

/// What a decision looked at and wants written.
pub(crate) struct Decided {
    pub(crate) now: TimestampMs,
    pub(crate) commit_id: CommitId,
    pub(crate) seen: Seen,
    pub(crate) writes: Writes,
    feature_level: u32,
    raise: u32,
    usage: Vec<(UsageKey, UsageDelta)>,
    event: Option<Event>,
}

impl Decided {
    /// Whether there is nothing to propose.
    pub(crate) fn is_answer(&self) -> bool {
        let rows = self.writes.is_empty() && self.usage.is_empty();
        rows && self.event.is_none() && self.raise == 0
    }

    /// The command to propose, if it fits into one entry of the log.
    ///
    /// # Errors
    /// It is too large.
    pub(crate) fn sized_command(
        &mut self,
        identity: Identity,
        cx: &Cx,
    ) -> Result<SizedCommand, CommandTooLarge> {
        SizedCommand::new(self.command(identity, cx).encode_to_vec())
    }

    fn command(&mut self, identity: Identity, cx: &Cx) -> Command {
        let mut reads = std::mem::take(&mut self.seen.reads);
        // A row read twice is compared once.
        reads.sort_unstable();
        reads.dedup();
        let id = |id: CommitId| Bytes::copy_from_slice(id.as_bytes());
        let op = |payload: &Option<Bytes>| match payload {
            Some(payload) => RowChange::Put(payload.clone()),
            None => RowChange::Delete(true),
        };
        Command {
            format: COMMAND_FORMAT,
            feature_level: self.feature_level,
            cluster_id: Bytes::copy_from_slice(identity.cluster.as_bytes()),
            group: identity.group.0,
            account: cx.account.as_str().to_owned(),
            principal: (*cx.principal).to_owned(),
            request_id: Bytes::copy_from_slice(cx.request_id.as_bytes()),
            log_time_ms: self.now.0,
            commit_id: id(self.commit_id),
            reads: reads
                .into_iter()
                .map(|(key, commit_id)| Read {
                    key,
                    commit_id: commit_id.map(id).unwrap_or_default(),
                })
                .collect(),
            ranges_empty: std::mem::take(&mut self.seen.empty),
            ops: self
                .writes
                .iter()
                .map(|(key, payload)| RowOp {
                    key: key.clone(),
                    op: Some(op(payload)),
                })
                .collect(),
            usage: self
                .usage
                .iter()
                .map(|(key, delta)| delta.into_message(*key))
                .collect(),
            event: self.event.take(),
            raise_feature_level: self.raise,
        }
    }
}

#[cfg(test)]
mod tests;
