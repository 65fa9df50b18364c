//! Ordered key-value store without a write-ahead log: RocksDB and in-memory.
//!
//! Writes are atomic batches in memory; [`Kv::flush`] makes everything written so far durable at
//! once. The state machine above stores its last applied position in the same batch as the rows
//! and replays the Raft log from there, so the store needs no log of its own.

mod batch;
mod damage;
mod database;
mod error;
mod framing;
mod generation;
mod mem;
mod rocks;
pub mod testing;

use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;

pub use batch::{Batch, Op};
pub use damage::Damage;
pub use error::{EngineError, KvError};
pub use mem::{KvImage, MemKv, MemKvStore};
pub use rocks::{KvMemory, RocksKv, RocksKvConfig};

/// Rows in key order, or the failure that ended the scan.
pub type Rows<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), KvError>> + Send + 'a>;

/// Reading rows: those of a [`Kv`] as they are at each call, or those of one moment.
pub trait KvRead: Send + Sync + 'static {
    /// The value of `key`.
    ///
    /// # Errors
    /// If the engine fails or finds corrupt data.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError>;

    /// Rows with keys in `[start, end)`, ascending; without `end` to the last key. The view is as
    /// of the call: later writes are not seen. Rows are read as the iterator advances; after an
    /// error it ends.
    fn scan<'a>(&'a self, start: &[u8], end: Option<&[u8]>) -> Rows<'a>;

    /// The rows of [`KvRead::scan`], descending.
    fn scan_reverse<'a>(&'a self, start: &[u8], end: Option<&[u8]>) -> Rows<'a>;
}

/// All rows as of one moment. It holds up neither writes nor an install, and keeps the database it
/// was taken of, with its files, for as long as it lives: who holds one for long pays in disk.
pub type Snapshot = Arc<dyn KvRead>;

/// An ordered map from byte keys to byte values.
///
/// After a crash the store holds the writes of some prefix of the batches, never part of a batch,
/// and at least everything up to the last successful [`Kv::flush`].
pub trait Kv: KvRead {
    /// The rows as they are now, all of one moment. It goes on to answer after later writes and
    /// after an install, until the store stops.
    ///
    /// # Errors
    /// If the store is stopped.
    fn snapshot(&self) -> Result<Snapshot, KvError>;

    /// Applies the operations in order, all or none; readers see them when the call returns. Not
    /// durable until [`Kv::flush`].
    ///
    /// # Errors
    /// If the engine refuses; the store is then failed and answers every later call with an error.
    fn write(&self, batch: Batch) -> Result<(), KvError>;

    /// Makes all writes so far durable, atomically.
    ///
    /// # Errors
    /// If a sync fails. It is never tried again: the store is failed from then on.
    fn flush(&self) -> Result<(), KvError>;

    /// Flushes and makes a consistent, durable copy in the new directory `dir`.
    ///
    /// # Errors
    /// If `dir` exists or the copy cannot be made durable. The store itself stays usable unless
    /// the flush failed.
    fn checkpoint(&self, dir: &Path) -> Result<(), KvError>;

    /// The value of `key` in the copy in `dir`, which stays as it is.
    ///
    /// # Errors
    /// If there is no readable copy.
    fn get_in_copy(&self, dir: &Path, key: &[u8]) -> Result<Option<Bytes>, KvError>;

    /// Replaces everything by the copy in `dir`, which is moved away and must be on the file system
    /// of the store. Durable when it returns; a crash before leaves the old rows or the new ones,
    /// never both. Scans and snapshots that were begun before go on over the old rows; their files go
    /// with the last of them. Must not run beside a write.
    ///
    /// # Errors
    /// If the copy cannot be read or put in place. Unless the error says otherwise, the store is
    /// stopped: only a restart shows which rows are durable.
    fn install(&self, dir: &Path) -> Result<(), KvError>;
}

/// The smallest key that is greater than every key starting with `prefix`; `None` if there is
/// none (an empty prefix, or only 0xff bytes). The `end` of a prefix scan.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let kept = prefix.iter().rposition(|b| *b != u8::MAX)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_just_past_it() {
        assert_eq!(prefix_end(b"ab").as_deref(), Some(&b"ac"[..]));
        assert_eq!(prefix_end(b"a\xff\xff").as_deref(), Some(&b"b"[..]));
        assert_eq!(prefix_end(b"\xff\xff"), None);
        assert_eq!(prefix_end(b""), None);
    }
}
