//! How much of the log is kept behind a checkpoint: so many entries, and so many bytes.
//!
//! The library counts entries. Bytes are counted here, roughly and since the start of the group:
//! large entries would otherwise fill the disk long before they are many.

use crate::raft::Raft;
use openraft::async_runtime::WatchReceiver as _;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// Entries between two marks; the accuracy of what is kept.
const MARK_EVERY: u64 = 256;

#[derive(Debug, Default)]
struct Marks {
    /// Some indexes, ascending, with the bytes appended before each.
    marks: VecDeque<(u64, u64)>,
    appended: u64,
}

/// The bytes of a group's log, by index; clones share everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weights(Arc<Mutex<Marks>>);

impl Weights {
    /// Notes an entry that is appended. What replaces truncated entries counts on top of them.
    pub(crate) fn add(&self, index: u64, bytes: u64) {
        let mut inner = self.0.lock();
        while inner.marks.back().is_some_and(|(mark, _)| *mark >= index) {
            inner.marks.pop_back();
        }
        let last = inner.marks.back().map(|(mark, _)| *mark);
        if last.is_none_or(|mark| index - mark >= MARK_EVERY) {
            let appended = inner.appended;
            inner.marks.push_back((index, appended));
        }
        inner.appended += bytes;
    }

    /// Every byte appended since the group started.
    pub(crate) fn appended(&self) -> u64 {
        self.0.lock().appended
    }

    /// The last index that can go so that at least `kept` bytes stay; marks before it are dropped.
    fn release(&self, kept: u64) -> Option<u64> {
        let mut inner = self.0.lock();
        let mut release = None;
        while let Some((mark, before)) = inner.marks.get(1).copied() {
            if inner.appended - before < kept {
                break;
            }
            inner.marks.pop_front();
            release = mark.checked_sub(1);
        }
        release
    }
}

/// Purges what is more than `kept` bytes behind, after every checkpoint, until the group stops.
pub(crate) async fn run(raft: Raft, weights: Weights, kept: u64) {
    let mut metrics = raft.metrics();
    let mut covered = None;
    while metrics.changed().await.is_ok() {
        let now = metrics
            .borrow_watched()
            .snapshot
            .as_ref()
            .map(|id| id.index);
        if now <= covered {
            continue;
        }
        covered = now;
        // The library never purges beyond the checkpoint.
        if let Some(upto) = weights.release(kept)
            && raft.trigger().purge_log(upto).await.is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_released_leaves_the_bytes_to_keep() {
        let weights = Weights::default();
        (0..1000).for_each(|index| weights.add(index, 10));
        assert_eq!(weights.appended(), 10_000);
        assert_eq!(weights.release(10_000), None);
        assert_eq!(weights.release(4_000), Some(511));
        assert_eq!(weights.release(4_000), None);
    }

    #[test]
    fn a_truncated_tail_counts_until_it_is_released() {
        let weights = Weights::default();
        (0..600).for_each(|index| weights.add(index, 10));
        (300..600).for_each(|index| weights.add(index, 10));
        assert_eq!(weights.appended(), 9_000);
        assert_eq!(weights.release(3_000), Some(255));
    }
}
