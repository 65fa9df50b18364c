//! The log in a RocksDB instance of its own, with one sync for everything written meanwhile.
//!
//! Writes go to the memtable and to RocksDB's write-ahead-log buffer under one lock, so that the
//! order of the calls, of the log and of the callbacks is the same. One thread syncs.
//!
//! What is checked when the store opens, because RocksDB alone would let it pass:
//!
//! | damage | what RocksDB does | found by |
//! |---|---|---|
//! | flipped bit in a table file | reports it when the block is read | reading everything; our checksum per record |
//! | flipped bit in a write-ahead log or the manifest | reports most, loops for ever on some | the framing check, before RocksDB reads the file |
//! | flipped length in the last block of the write-ahead log | takes the rest for a torn tail and drops it | the sync marker: the store must reach the sequence number that was synced |
//! | zeroed page in the write-ahead log | skips the rest of the block and goes on | the framing check; index continuity, links from record to record, and the vote counts in entries and marker |
//! | lost or resurrected table file | may open | index continuity and links |
//! | files copied back from an old backup beside a newer marker | opens | the sync marker |
//!
//! A tail that was never synced may be missing or cut short: nobody was told that it is there.
//! The check runs on a read-only view, so that a damaged store is left as it was found. That
//! the state machine is not ahead of the log is for the layer above to check.

mod framing;
mod journal;
mod marker;
mod recover;
mod sync;

use crate::record::{Header, Key, Kind, Stored, purged_link};
use crate::tail::{Linked, Tail};
use crate::{Corrupt, Damage, Done, LogError, LogRecord, LogState, LogStore};
use bytes::Bytes;
use floeberg_env::Env;
use floeberg_telemetry::RaftLogMetrics;
use floeberg_types::GroupId;
use journal::RocksJournal;
use parking_lot::Mutex;
use recover::Found;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRecoveryMode, Options, ReadOptions,
    WriteBatch,
};
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use sync::{Queue, Task};

/// Purged records are deleted from the disk in runs of this many: each run is one range
/// tombstone, and many small ones would slow every scan.
const TRIM_RECORDS: u64 = 4096;

/// The log of all groups of a node. Dropping it syncs what is queued and stops its thread.
pub struct RocksLog {
    shared: Arc<Shared>,
    syncer: Option<JoinHandle<()>>,
}

struct Shared {
    db: DB,
    groups: Mutex<Groups>,
    queue: Queue,
    /// Votes saved by all groups together.
    votes: AtomicU64,
}

#[derive(Default)]
struct Groups {
    tails: HashMap<GroupId, Tail>,
    stopped: Option<Arc<str>>,
}

impl fmt::Debug for RocksLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksLog")
            .field("path", &self.shared.db.path())
            .finish_non_exhaustive()
    }
}

fn options() -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(16 << 20));
    table.set_format_version(5);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_paranoid_checks(true);
    options.set_manual_wal_flush(true);
    // Recycled files hold old records where a cut tail would be; see the recovery mode.
    options.set_recycle_log_file_num(0);
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_write_buffer_size(64 << 20);
    options.set_max_write_buffer_number(4);
    // Appends must not stall behind compaction of records that will soon be purged.
    options.set_level_zero_slowdown_writes_trigger(64);
    options.set_level_zero_stop_writes_trigger(128);
    let (plain, lz4) = (DBCompressionType::None, DBCompressionType::Lz4);
    options.set_compression_per_level(&[plain, plain, lz4, lz4, lz4, lz4, lz4]);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(8 << 20);
    options
}

impl RocksLog {
    /// Opens the log in `path`, creating it if absent, after checking every record in it.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] if acknowledged data is damaged or gone: the node must halt.
    /// [`LogError::Engine`] if the disk fails or another process has the log open.
    pub fn open(path: &Path, env: &Env, metrics: RaftLogMetrics) -> Result<Self, LogError> {
        let (db, marker, found) = recover::open(path, env)?;
        let Found { tails, votes } = found;
        let shared = Arc::new(Shared {
            db,
            groups: Mutex::new(Groups {
                tails,
                stopped: None,
            }),
            queue: Queue::default(),
            votes: AtomicU64::new(votes),
        });
        let mut journal = RocksJournal::new(shared.clone(), marker);
        let clock = env.clock.clone();
        let syncer = env
            .tasks
            .spawn_thread("raftlog-sync", move || {
                let shared = journal.shared().clone();
                sync::run(&shared.queue, &mut journal, &metrics, clock.as_ref());
            })
            .map_err(|error| LogError::engine(&error))?;
        Ok(Self {
            shared,
            syncer: Some(syncer),
        })
    }
}

impl Drop for RocksLog {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(syncer) = self.syncer.take() {
            // A callback may drop the last handle; the thread cannot wait for itself.
            if syncer.thread().id() != std::thread::current().id() && syncer.join().is_err() {
                tracing::error!("sync thread of the raft log panicked");
            }
        }
    }
}

impl Groups {
    fn tail(&mut self, group: GroupId) -> &mut Tail {
        self.tails.entry(group).or_insert_with(|| Tail::new(group))
    }

    fn running(&self) -> Result<(), LogError> {
        self.stopped
            .as_ref()
            .map_or(Ok(()), |cause| Err(LogError::stopped(cause)))
    }
}

impl Shared {
    /// Writes a batch; a failure stops the store, since the memtable and the log may now differ.
    fn write(&self, groups: &mut Groups, batch: WriteBatch) -> Result<(), LogError> {
        self.db.write(batch).map_err(|error| {
            let error = LogError::from(error);
            groups.stopped = Some(error.to_string().into());
            error
        })
    }

    fn load(&self, group: GroupId, index: u64) -> Result<Linked, LogError> {
        let key = Key::Entry { group, index };
        match self.db.get(key.encode())? {
            Some(bytes) => {
                let stored = Stored::decode(key, bytes.into())?;
                let record = LogRecord {
                    index,
                    bytes: stored.payload,
                };
                Ok(Linked {
                    record,
                    crc: stored.crc,
                })
            }
            None => Err(Corrupt::record(group, index, Damage::Gap { found: index + 1 }).into()),
        }
    }

    /// The record at `index`, which is within the log, from memory or disk.
    fn linked(&self, tail: &Tail, group: GroupId, index: u64) -> Result<Linked, LogError> {
        tail.cached(index)
            .map_or_else(|| self.load(group, index), |linked| Ok(linked.clone()))
    }

    fn try_append(&self, group: GroupId, records: Vec<LogRecord>, done: Done) -> Refused {
        let mut groups = self.groups.lock();
        let checked = groups.running().and_then(|()| {
            let tail = groups.tail(group);
            tail.check(group, &records)?;
            let mut batch = WriteBatch::default();
            let mut link = tail.next_link();
            let mut linked = Vec::with_capacity(records.len());
            for record in records {
                let header = Header {
                    kind: Kind::Entry,
                    group,
                    number: record.index,
                    previous: link,
                    votes: tail.votes_mark(),
                };
                let (bytes, crc) = header.encode(&record.bytes);
                batch.put(
                    Key::Entry {
                        group,
                        index: record.index,
                    }
                    .encode(),
                    bytes,
                );
                link = crc;
                linked.push(Linked { record, crc });
            }
            Ok((batch, linked))
        });
        let written = checked.and_then(|(batch, linked)| {
            self.write(&mut groups, batch)?;
            Ok(linked)
        });
        match written {
            Ok(linked) => {
                let count = linked.len();
                let tail = groups.tail(group);
                for record in linked {
                    tail.push(record);
                }
                // Still under the lock: callbacks keep the order of the writes.
                self.queue.push(Task::Complete {
                    done,
                    records: count,
                });
                None
            }
            Err(error) => Some((done, error)),
        }
    }

    fn try_save_vote(&self, group: GroupId, bytes: Bytes, done: Done) -> Refused {
        let mut groups = self.groups.lock();
        let votes = groups.tail(group).votes + 1;
        let batch = meta(group, Kind::Vote, votes, 0, &bytes);
        let written = groups
            .running()
            .and_then(|()| self.write(&mut groups, batch));
        match written {
            Ok(()) => {
                let tail = groups.tail(group);
                tail.vote = Some(bytes);
                tail.votes = votes;
                self.votes.fetch_add(1, Ordering::SeqCst);
                self.queue.push(Task::Complete { done, records: 1 });
                None
            }
            Err(error) => Some((done, error)),
        }
    }

    fn try_truncate(&self, group: GroupId, index: Option<u64>) -> Result<(), LogError> {
        let mut groups = self.groups.lock();
        groups.running()?;
        let tail = groups.tail(group);
        let range = tail.range();
        let from = index.map_or(range.start, |index| (index + 1).max(range.start));
        if from >= range.end {
            return Ok(());
        }
        let last = match from.checked_sub(1).filter(|last| range.contains(last)) {
            Some(last) => Some(self.linked(tail, group, last)?),
            None => None,
        };
        let mut batch = WriteBatch::default();
        delete_range(&mut batch, group, from, range.end);
        self.write(&mut groups, batch)?;
        groups.tail(group).truncate(last);
        Ok(())
    }

    fn try_purge(&self, group: GroupId, upto: u64, log_id: Bytes) -> Result<(), LogError> {
        let mut groups = self.groups.lock();
        groups.running()?;
        let tail = groups.tail(group);
        if tail
            .purged
            .as_ref()
            .is_some_and(|(purged, _)| *purged >= upto)
        {
            return Ok(());
        }
        let range = tail.range();
        let link = if range.contains(&upto) {
            self.linked(tail, group, upto)?.crc
        } else if upto < range.start {
            tail.start_link(group, upto)?
        } else {
            purged_link(group, upto, &log_id)
        };
        let mut batch = meta(group, Kind::Purged, upto, link, &log_id);
        // Records below the range were deleted or never written.
        let trim_to = (upto + 1).min(range.end);
        let trim_from = tail.trimmed;
        let trim = trim_to.saturating_sub(trim_from.max(1)) >= TRIM_RECORDS;
        if trim {
            delete_range(&mut batch, group, trim_from, trim_to);
        }
        self.write(&mut groups, batch)?;
        let tail = groups.tail(group);
        tail.purge(upto, log_id, link);
        if trim {
            tail.trimmed = trim_to;
            // Whole table files may go only once the purge itself is durable.
            let from = Key::Entry {
                group,
                index: trim_from,
            }
            .encode();
            let to = Key::Entry {
                group,
                index: trim_to,
            }
            .encode();
            self.queue.push(Task::Trim { from, to });
        }
        Ok(())
    }

    fn try_read(
        &self,
        group: GroupId,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<LogRecord>, LogError> {
        let (range, mut rows) = {
            let mut groups = self.groups.lock();
            groups.running()?;
            let tail = groups.tail(group);
            let range = from.max(tail.range().start)..to.min(tail.range().end);
            if range.is_empty() {
                return Ok(Vec::new());
            }
            if let Some(records) = tail.cached_range(range.start, range.end, max_bytes) {
                return Ok(records);
            }
            // Made under the lock, so that the view is that of `range`.
            (
                range.clone(),
                recover::entries(&self.db, group, range.start, Some(range.end)),
            )
        };
        let mut budget = max_bytes;
        let mut records = Vec::new();
        for index in range {
            let stored = recover::next_entry(&mut rows, group, index)?;
            match budget.checked_sub(stored.payload.len()) {
                Some(rest) => budget = rest,
                None if records.is_empty() => budget = 0,
                None => break,
            }
            records.push(LogRecord {
                index,
                bytes: stored.payload,
            });
        }
        Ok(records)
    }
}

/// A callback that must be told why its change was refused, outside the lock.
type Refused = Option<(Done, LogError)>;

fn refuse(refused: Refused) {
    if let Some((done, error)) = refused {
        done(Err(error.into_io()));
    }
}

fn meta(group: GroupId, kind: Kind, number: u64, previous: u32, payload: &[u8]) -> WriteBatch {
    let header = Header {
        kind,
        group,
        number,
        previous,
        votes: 0,
    };
    let mut batch = WriteBatch::default();
    batch.put(Key::Meta { group, kind }.encode(), header.encode(payload).0);
    batch
}

fn delete_range(batch: &mut WriteBatch, group: GroupId, from: u64, to: u64) {
    let key = |index| Key::Entry { group, index }.encode();
    batch.delete_range(key(from), key(to));
}

impl LogStore for RocksLog {
    fn append(&self, group: GroupId, records: Vec<LogRecord>, done: Done) {
        refuse(self.shared.try_append(group, records, done));
    }

    fn save_vote(&self, group: GroupId, bytes: Bytes, done: Done) {
        refuse(self.shared.try_save_vote(group, bytes, done));
    }

    fn read_vote(&self, group: GroupId) -> Result<Option<Bytes>, LogError> {
        let mut groups = self.shared.groups.lock();
        groups.running()?;
        Ok(groups.tail(group).vote.clone())
    }

    fn save_committed(&self, group: GroupId, bytes: Bytes) -> Result<(), LogError> {
        let mut groups = self.shared.groups.lock();
        groups.running()?;
        let batch = meta(group, Kind::Committed, 0, 0, &bytes);
        self.shared.write(&mut groups, batch)?;
        groups.tail(group).committed = Some(bytes);
        Ok(())
    }

    fn read_committed(&self, group: GroupId) -> Result<Option<Bytes>, LogError> {
        let mut groups = self.shared.groups.lock();
        groups.running()?;
        Ok(groups.tail(group).committed.clone())
    }

    fn truncate_after(&self, group: GroupId, index: Option<u64>) -> Result<(), LogError> {
        self.shared.try_truncate(group, index)
    }

    fn purge(&self, group: GroupId, upto: u64, log_id: Bytes) -> Result<(), LogError> {
        self.shared.try_purge(group, upto, log_id)
    }

    fn state(&self, group: GroupId) -> Result<LogState, LogError> {
        let mut groups = self.shared.groups.lock();
        groups.running()?;
        Ok(groups.tail(group).state())
    }

    fn read(
        &self,
        group: GroupId,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<LogRecord>, LogError> {
        self.shared.try_read(group, from, to, max_bytes)
    }
}

fn scan_options() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_verify_checksums(true);
    options.set_readahead_size(2 << 20);
    options
}
