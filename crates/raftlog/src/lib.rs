//! Group-committing Raft log of all groups of a node: RocksDB and in-memory.
//!
//! One store holds the records and votes of every group, so that one sync serves all of them.
//! [`LogStore::append`] and [`LogStore::save_vote`] return at once; their callbacks run in call
//! order once the change, and everything called before it, is durable. Everything else takes
//! effect in the same order but is durable only with a later sync.

mod error;
mod mem;
mod record;
mod rocks;
mod tail;
pub mod testing;

use bytes::Bytes;
use floeberg_types::GroupId;
use std::io;

pub use error::{Corrupt, Damage, EngineFailure, LogError, NotContinuous, Stopped};
pub use mem::{LogImage, MemLog, MemLogStore};
pub use record::FORMAT;
pub use rocks::RocksLog;

/// One entry of a group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Position in the group's log.
    pub index: u64,
    /// The encoded Raft entry; opaque here.
    pub bytes: Bytes,
}

/// Called once the change is durable, or with the error that made its outcome unknown. Runs on
/// the store's own thread or task: it must not block.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Where a group's log starts and ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Last purged index and its encoded log id.
    pub purged: Option<(u64, Bytes)>,
    /// Last record after the purged ones; `None` if there is none.
    pub last: Option<LogRecord>,
}

/// The log of every group of a node.
///
/// After an error of a write or sync the store is stopped: what is durable is unknown, every
/// later call fails, and only a restart of the process finds out. No sync is ever tried again.
pub trait LogStore: Send + Sync + 'static {
    /// Appends records whose indexes continue the group's log; the first record of a log that
    /// was never purged may have any index. Readers see them when the call returns; `done` runs
    /// after the sync. A gap or overlap is refused through `done`.
    fn append(&self, group: GroupId, records: Vec<LogRecord>, done: Done);

    /// Replaces the group's vote; ordered with the appends of all groups.
    fn save_vote(&self, group: GroupId, bytes: Bytes, done: Done);

    /// The vote saved last.
    ///
    /// # Errors
    /// If the store is stopped.
    fn read_vote(&self, group: GroupId) -> Result<Option<Bytes>, LogError>;

    /// Notes how far the group has committed. Advisory: a crash may take it back.
    ///
    /// # Errors
    /// If the store is stopped or the write fails.
    fn save_committed(&self, group: GroupId, bytes: Bytes) -> Result<(), LogError>;

    /// The committed position noted last.
    ///
    /// # Errors
    /// If the store is stopped.
    fn read_committed(&self, group: GroupId) -> Result<Option<Bytes>, LogError>;

    /// Removes every record after `index`; all of them for `None`. Never brings purged ones back.
    ///
    /// # Errors
    /// If the store is stopped or the write fails.
    fn truncate_after(&self, group: GroupId, index: Option<u64>) -> Result<(), LogError>;

    /// Forgets every record up to and including `upto`, whose encoded log id is `log_id`. May lie
    /// beyond the last record: the log then continues after `upto`. An earlier position than the
    /// present one changes nothing.
    ///
    /// # Errors
    /// If the store is stopped or the write fails, or if the first record would not follow `upto`.
    fn purge(&self, group: GroupId, upto: u64, log_id: Bytes) -> Result<(), LogError>;

    /// Where the group's log starts and ends, changes that are not yet durable included.
    ///
    /// # Errors
    /// If the store is stopped.
    fn state(&self, group: GroupId) -> Result<LogState, LogError>;

    /// Records with indexes in `[from, to)`, ascending, leaving out what is purged or not there.
    /// Stops before `max_bytes` of payload are exceeded, but returns at least one record if there
    /// is any.
    ///
    /// # Errors
    /// If the store is stopped or finds a damaged record.
    fn read(
        &self,
        group: GroupId,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<LogRecord>, LogError>;
}
