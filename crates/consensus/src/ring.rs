//! The newest decoded entries of a group's log, so that applying and replicating decode nothing.

use crate::raft::{Entry, Payload};
use std::collections::VecDeque;

/// What an entry costs beside its command: the entry itself and its slot.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// Always a suffix of the log: appends extend it, truncation cuts it, the oldest fall out.
#[derive(Debug)]
pub(crate) struct Ring {
    entries: VecDeque<Entry>,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
}

/// What reading an entry counts against a byte limit.
pub(crate) fn weight(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        Payload::Normal(command) => command.0.len(),
        Payload::Blank | Payload::Membership(_) => 0,
    };
    payload + ENTRY_OVERHEAD_BYTES
}

impl Ring {
    pub(crate) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            entries_max,
            bytes_max,
        }
    }

    /// Index of the oldest entry held.
    pub(crate) fn first(&self) -> Option<u64> {
        self.entries.front().map(|e| e.log_id.index)
    }

    fn next(&self) -> Option<u64> {
        self.entries.back().map(|e| e.log_id.index + 1)
    }

    /// Adds an entry that was just appended to the log.
    pub(crate) fn push(&mut self, entry: Entry) {
        if self.next().is_some_and(|next| next != entry.log_id.index) {
            // The log restarted elsewhere, as after a snapshot: what is held is no suffix any more.
            self.entries.clear();
            self.bytes = 0;
        }
        self.bytes += weight(&entry);
        self.entries.push_back(entry);
        while self.entries.len() > self.entries_max
            || (self.bytes > self.bytes_max && self.entries.len() > 1)
        {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= weight(&entry);
        }
    }

    /// Drops every entry after `index`, or all of them.
    pub(crate) fn truncate_after(&mut self, index: Option<u64>) {
        while self
            .entries
            .back()
            .is_some_and(|e| index.is_none_or(|i| e.log_id.index > i))
        {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes -= weight(&entry);
            }
        }
    }

    /// Drops every entry up to and including `index`.
    pub(crate) fn purge(&mut self, index: u64) {
        while self.first().is_some_and(|first| first <= index) {
            self.pop_front();
        }
    }

    /// The held entries in `[from, to)`, at least one if there is any, then up to `bytes_max`.
    pub(crate) fn range(&self, from: u64, to: u64, bytes_max: usize) -> Vec<Entry> {
        let Some(first) = self.first() else {
            return Vec::new();
        };
        let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut bytes = 0usize;
        self.entries
            .iter()
            .skip(skip)
            .take_while(|e| e.log_id.index < to)
            .take_while(|e| {
                let fits = bytes == 0 || bytes + weight(e) <= bytes_max;
                bytes += weight(e);
                fits
            })
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::{Command, LeaderId, LogId};
    use bytes::Bytes;

    fn entry(index: u64, len: usize) -> Entry {
        let log_id = LogId::new(
            LeaderId {
                term: 1,
                node_id: 1,
            },
            index,
        );
        let payload = Payload::Normal(Command(Bytes::from(vec![0; len])));
        openraft::Entry { log_id, payload }
    }

    fn indexes(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|e| e.log_id.index).collect()
    }

    #[test]
    fn keeps_the_newest_within_both_limits() {
        let mut ring = Ring::new(3, 10 * ENTRY_OVERHEAD_BYTES);
        (0..5).for_each(|i| ring.push(entry(i, 0)));
        assert_eq!(indexes(&ring.range(0, 9, usize::MAX)), [2, 3, 4]);
        ring.push(entry(5, 100 * ENTRY_OVERHEAD_BYTES));
        assert_eq!(
            indexes(&ring.range(0, 9, usize::MAX)),
            [5],
            "too big, but the newest stays"
        );
    }

    #[test]
    fn a_range_is_cut_by_bytes_but_never_empty() {
        let mut ring = Ring::new(10, usize::MAX);
        (7..12).for_each(|i| ring.push(entry(i, 1000)));
        assert_eq!(indexes(&ring.range(8, 11, 1)), [8]);
        assert_eq!(
            indexes(&ring.range(8, 11, 2 * (1000 + ENTRY_OVERHEAD_BYTES))),
            [8, 9]
        );
        assert_eq!(indexes(&ring.range(8, 11, usize::MAX)), [8, 9, 10]);
        assert!(ring.range(12, 20, usize::MAX).is_empty());
    }

    #[test]
    fn truncation_purge_and_gaps_keep_it_a_suffix() {
        let mut ring = Ring::new(10, usize::MAX);
        (0..6).for_each(|i| ring.push(entry(i, 1)));
        ring.truncate_after(Some(3));
        ring.purge(1);
        assert_eq!(indexes(&ring.range(0, 9, usize::MAX)), [2, 3]);
        ring.push(entry(8, 1));
        assert_eq!(ring.first(), Some(8));
        ring.truncate_after(None);
        assert_eq!((ring.first(), ring.bytes), (None, 0));
    }
}
