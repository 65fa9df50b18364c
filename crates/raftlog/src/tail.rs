//! What the RocksDB log keeps in memory about one group: its ends and its newest records.

use crate::record::first_link;
use crate::{LogRecord, LogState, NotContinuous};
use bytes::Bytes;
use floeberg_types::{GroupId, limits};
use std::collections::VecDeque;

/// Replication and apply read the newest records; only a follower far behind reads the disk.
const RING_RECORDS_MAX: usize = 128 << 10;
const RING_BYTES_MAX: usize = limits::LOG_TAIL_BYTES / limits::GROUPS;

/// A record and its checksum, which is the next one's link.
#[derive(Clone, Debug)]
pub(crate) struct Linked {
    pub(crate) record: LogRecord,
    pub(crate) crc: u32,
}

/// One group's ends, votes and newest records.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) purged: Option<(u64, Bytes)>,
    /// The `previous` of the first record after the purged ones.
    start_link: u32,
    /// Index of the first record; meaningful while `last` is some.
    first: u64,
    last: Option<Linked>,
    /// The newest records, without gaps, ending with `last`.
    ring: VecDeque<Linked>,
    ring_bytes: usize,
    pub(crate) vote: Option<Bytes>,
    pub(crate) votes: u64,
    pub(crate) committed: Option<Bytes>,
    /// Records below this index are deleted from the disk, not only purged.
    pub(crate) trimmed: u64,
}

impl Tail {
    pub(crate) fn new(group: GroupId) -> Self {
        Self {
            purged: None,
            start_link: first_link(group),
            first: 0,
            last: None,
            ring: VecDeque::new(),
            ring_bytes: 0,
            vote: None,
            votes: 0,
            committed: None,
            trimmed: 0,
        }
    }

    pub(crate) fn state(&self) -> LogState {
        LogState {
            purged: self.purged.clone(),
            last: self.last.as_ref().map(|last| last.record.clone()),
        }
    }

    /// The index the next record must have; `None` while any will do.
    pub(crate) fn next_index(&self) -> Option<u64> {
        match (&self.last, &self.purged) {
            (Some(last), _) => Some(last.record.index + 1),
            (None, Some((upto, _))) => Some(upto + 1),
            (None, None) => None,
        }
    }

    /// The link the next record must carry.
    pub(crate) fn next_link(&self) -> u32 {
        self.last.as_ref().map_or(self.start_link, |last| last.crc)
    }

    /// The link of the first record, which a purge of what lies right before it keeps.
    pub(crate) fn start_link(&self, group: GroupId, purged: u64) -> Result<u32, NotContinuous> {
        if purged + 1 == self.first {
            Ok(self.start_link)
        } else {
            Err(NotContinuous {
                group,
                expected: purged + 1,
                found: self.first,
            })
        }
    }

    /// Index range of the records that are there, `[first, end)`.
    pub(crate) fn range(&self) -> std::ops::Range<u64> {
        self.last
            .as_ref()
            .map_or(0..0, |last| self.first..last.record.index + 1)
    }

    /// The saturated count that entries store.
    pub(crate) fn votes_mark(&self) -> u32 {
        u32::try_from(self.votes).unwrap_or(u32::MAX)
    }

    pub(crate) fn check(&self, group: GroupId, records: &[LogRecord]) -> Result<(), NotContinuous> {
        let mut expected = self.next_index();
        for record in records {
            if let Some(expected) = expected
                && expected != record.index
            {
                return Err(NotContinuous {
                    group,
                    expected,
                    found: record.index,
                });
            }
            expected = Some(record.index + 1);
        }
        Ok(())
    }

    pub(crate) fn push(&mut self, linked: Linked) {
        if self.last.is_none() {
            self.first = linked.record.index;
        }
        self.ring_bytes += linked.record.bytes.len();
        self.last = Some(linked.clone());
        self.ring.push_back(linked);
        while self.ring.len() > RING_RECORDS_MAX
            || (self.ring_bytes > RING_BYTES_MAX && self.ring.len() > 1)
        {
            self.pop_oldest();
        }
    }

    fn pop_oldest(&mut self) {
        if let Some(oldest) = self.ring.pop_front() {
            self.ring_bytes -= oldest.record.bytes.len();
        }
    }

    /// First index that the ring holds.
    fn ring_first(&self) -> Option<u64> {
        self.ring.front().map(|linked| linked.record.index)
    }

    pub(crate) fn cached(&self, index: u64) -> Option<&Linked> {
        let offset = index.checked_sub(self.ring_first()?)?;
        self.ring.get(usize::try_from(offset).ok()?)
    }

    /// Records of `[from, to)` if the ring holds the first of them; at most `max_bytes` but at
    /// least one.
    pub(crate) fn cached_range(
        &self,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Option<Vec<LogRecord>> {
        let skip = usize::try_from(from.checked_sub(self.ring_first()?)?).ok()?;
        let mut budget = max_bytes;
        let mut records = Vec::new();
        for linked in self
            .ring
            .iter()
            .skip(skip)
            .take_while(|linked| linked.record.index < to)
        {
            match budget.checked_sub(linked.record.bytes.len()) {
                Some(rest) => budget = rest,
                None if records.is_empty() => budget = 0,
                None => break,
            }
            records.push(linked.record.clone());
        }
        Some(records)
    }

    /// Drops every record after `last`, or all of them.
    pub(crate) fn truncate(&mut self, last: Option<Linked>) {
        let end = last.as_ref().map_or(0, |last| last.record.index + 1);
        while self
            .ring
            .back()
            .is_some_and(|newest| newest.record.index >= end)
        {
            if let Some(newest) = self.ring.pop_back() {
                self.ring_bytes -= newest.record.bytes.len();
            }
        }
        self.last = last;
    }

    /// Drops every record up to `upto`; the record after it carries `link`.
    pub(crate) fn purge(&mut self, upto: u64, log_id: Bytes, link: u32) {
        while self.ring_first().is_some_and(|first| first <= upto) {
            self.pop_oldest();
        }
        self.purged = Some((upto, log_id));
        self.start_link = link;
        if self.range().end <= upto.saturating_add(1) {
            self.last = None;
        } else {
            self.first = self.first.max(upto + 1);
        }
    }
}
