//! The group's log as the consensus library sees it, over a [`LogStore`] shared by all groups.

use crate::codec;
use crate::mark::Acks;
use crate::raft::{Entry, LogId, TypeConfig, Vote};
use crate::retention::Weights;
use crate::ring::{Ring, weight};
use crate::synced::Synced;
use floeberg_raftlog::{LogRecord, LogStore};
use floeberg_types::GroupId;
use futures::Stream;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::error::Error;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use tokio::sync::oneshot;

/// One read for replication or apply; larger ranges take several.
const READ_BYTES_MAX: usize = floeberg_types::limits::APPEND_BYTES;
/// Decoded entries kept per group.
const RING_ENTRIES_MAX: usize = 65_536;

/// Writer and reader of one group's log; clones share everything.
#[derive(Clone)]
pub(crate) struct GroupLog {
    group: GroupId,
    store: Arc<dyn LogStore>,
    ring: Arc<Mutex<Ring>>,
    synced: Synced,
    weights: Weights,
    acks: Acks,
}

fn storage_error(e: impl Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(e)
}

/// `[from, to)` of any range form; an open end reaches past every index.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(i) => *i,
        Bound::Excluded(i) => i.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(i) => i.saturating_add(1),
        Bound::Excluded(i) => *i,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl GroupLog {
    /// `acks`: what the log has acknowledged so far.
    pub(crate) fn new(
        group: GroupId,
        store: Arc<dyn LogStore>,
        acks: Acks,
        ring_bytes: usize,
    ) -> Self {
        let ring = Arc::new(Mutex::new(Ring::new(RING_ENTRIES_MAX, ring_bytes)));
        Self {
            group,
            store,
            ring,
            synced: Synced::new(),
            weights: Weights::default(),
            acks,
        }
    }

    /// What is durable here, as far as marks need it.
    pub(crate) fn acks(&self) -> Acks {
        self.acks.clone()
    }

    /// Which entries are durable.
    pub(crate) fn synced(&self) -> Synced {
        self.synced.clone()
    }

    /// What the entries weigh.
    pub(crate) fn weights(&self) -> Weights {
        self.weights.clone()
    }

    /// Entries in `[from, to)` that the log has: at least one, then up to `bytes_max`.
    fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        if from >= to {
            return Ok(Vec::new());
        }
        let (ring_first, cached) = {
            let ring = self.ring.lock();
            let first = ring.first().unwrap_or(u64::MAX);
            (first, ring.range(from.max(first), to, bytes_max))
        };
        let head_to = to.min(ring_first);
        if from >= head_to {
            return Ok(cached);
        }
        let mut entries = self.read_stored(from, head_to, bytes_max)?;
        let Some(last) = entries.last() else {
            return Ok(cached);
        };
        if last.log_id.index + 1 < head_to {
            return Ok(entries);
        }
        let mut bytes: usize = entries.iter().map(weight).sum();
        for entry in cached {
            bytes = bytes.saturating_add(weight(&entry));
            if bytes > bytes_max {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    fn read_stored(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let records = self
            .store
            .read(self.group, from, to, bytes_max)
            .map_err(storage_error)?;
        records
            .into_iter()
            .map(|r| Ok(codec::decode_entry(r.bytes)?))
            .collect()
    }

    fn stored_vote(&self) -> io::Result<Option<Vote>> {
        let bytes = self.store.read_vote(self.group).map_err(storage_error)?;
        bytes.map(|b| Ok(codec::decode_vote(b)?)).transpose()
    }
}

/// Reads a long range piece by piece, so that replaying a long log holds little of it in memory.
struct Entries {
    log: GroupLog,
    next: u64,
    end: u64,
    piece: VecDeque<Entry>,
    /// Whether an entry was read: only what lies before the first may be missing, being purged.
    started: bool,
}

impl Entries {
    fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        if self.piece.is_empty() {
            self.piece = self.log.read(self.next, self.end, READ_BYTES_MAX)?.into();
        }
        let Some(entry) = self.piece.pop_front() else {
            return self.check_end().map(|()| None);
        };
        if self.started && entry.log_id.index != self.next {
            return Err(missing(self.next));
        }
        self.started = true;
        self.next = entry.log_id.index + 1;
        Ok(Some(entry))
    }

    /// The range may reach past the log, but an entry the log has must have been returned: this
    /// is what committed entries are applied from, and none may be lost silently.
    fn check_end(&self) -> io::Result<()> {
        let state = self
            .log
            .store
            .state(self.log.group)
            .map_err(storage_error)?;
        match state.last {
            Some(last) if self.next < self.end && self.next <= last.index => {
                Err(missing(self.next))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What the record appended last takes.
fn bytes_of(records: &[LogRecord]) -> u64 {
    records.last().map_or(0, |record| record.bytes.len() as u64)
}

fn missing(index: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("log entry {index} is missing"),
    )
}

impl Iterator for Entries {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry()
            .inspect_err(|_| {
                // The stream ends after its error.
                self.end = self.next;
                self.piece.clear();
            })
            .transpose()
    }
}

impl RaftLogReader<TypeConfig> for GroupLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (from, to) = bounds(&range);
        self.read(from, to, usize::MAX)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (next, end) = bounds(&range);
        let log = self.clone();
        futures::stream::iter(Entries {
            log,
            next,
            end,
            piece: VecDeque::new(),
            started: false,
        })
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.stored_vote()
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, READ_BYTES_MAX)
    }
}

impl RaftLogStorage<TypeConfig> for GroupLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.store.state(self.group).map_err(storage_error)?;
        let purged = state
            .purged
            .map(|(_, bytes)| codec::decode_log_id(bytes))
            .transpose()?;
        let last = state
            .last
            .map(|record| codec::decode_entry(record.bytes))
            .transpose()?;
        let last = last.map(|entry| entry.log_id).or(purged);
        Ok(LogState {
            last_purged_log_id: purged,
            last_log_id: last,
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, synced) = oneshot::channel();
        let callback = Box::new(move |result| {
            // The library may have been dropped while the sync ran; nobody is told then.
            let _ = done.send(result);
        });
        self.store
            .save_vote(self.group, codec::encode_vote(vote), callback);
        let closed = |_| io::Error::other("the log closed before the vote was durable");
        synced.await.map_err(closed)??;
        self.acks.voted(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let Some(committed) = committed else {
            return Ok(());
        };
        let bytes = codec::encode_log_id(&committed);
        self.store
            .save_committed(self.group, bytes)
            .map_err(storage_error)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let bytes = self
            .store
            .read_committed(self.group)
            .map_err(storage_error)?;
        bytes.map(|b| Ok(codec::decode_log_id(b)?)).transpose()
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter();
        let mut records = Vec::with_capacity(entries.size_hint().0);
        let mut last = None;
        {
            let mut ring = self.ring.lock();
            for entry in entries {
                let bytes = codec::encode_entry(&entry);
                records.push(LogRecord {
                    index: entry.log_id.index,
                    bytes,
                });
                self.weights.add(entry.log_id.index, bytes_of(&records));
                last = Some(entry.log_id);
                ring.push(entry);
            }
        }
        let first = records.first().map_or(u64::MAX, |record| record.index);
        let ticket = self.synced.begin(first);
        let acks = self.acks.clone();
        let done = Box::new(move |result: io::Result<()>| {
            // Before anybody is told: an answer that goes out has to be covered by the mark.
            if let (Ok(()), Some(last)) = (&result, last) {
                acks.appended(last);
            }
            ticket.done(&result);
            callback.io_completed(result);
        });
        self.store.append(self.group, records, done);
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let index = last_log_id.map(|id| id.index);
        self.ring.lock().truncate_after(index);
        self.store
            .truncate_after(self.group, index)
            .map_err(storage_error)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.ring.lock().purge(log_id.index);
        let bytes = codec::encode_log_id(&log_id);
        self.store
            .purge(self.group, log_id.index, bytes)
            .map_err(storage_error)
    }
}

#[cfg(test)]
mod tests;
