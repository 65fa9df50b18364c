//! The in-memory store: loses on a crash what was not flushed.

use crate::{Batch, EngineError, Kv, KvError, Op, Rows};
use bytes::Bytes;
use imbl::OrdMap;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Map = OrdMap<Bytes, Bytes>;

#[derive(Debug, Default)]
struct Inner {
    current: Map,
    flushed: Map,
    checkpoints: BTreeMap<PathBuf, Map>,
    /// Crashes so far; handles opened before one are stopped.
    crashes: u64,
    failing_flush: bool,
    failed: bool,
}

/// The medium below [`MemKv`]: survives a crash of the node that has it open.
#[derive(Clone, Debug, Default)]
pub struct MemKvStore {
    inner: Arc<Mutex<Inner>>,
}

impl MemKvStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Back to the last flush; every open handle stops.
    pub fn crash(&self) {
        let mut inner = self.inner.lock();
        inner.current = inner.flushed.clone();
        inner.crashes += 1;
        inner.failing_flush = false;
        inner.failed = false;
    }

    /// Lets the next flush fail; the store is stopped until the next crash.
    pub fn fail_next_flush(&self) {
        self.inner.lock().failing_flush = true;
    }

    /// The store that a checkpoint in `dir` made.
    #[must_use]
    pub fn checkpoint(&self, dir: &Path) -> Option<Self> {
        let map = self.inner.lock().checkpoints.get(dir).cloned()?;
        let inner = Inner {
            current: map.clone(),
            flushed: map,
            ..Inner::default()
        };
        Some(Self {
            inner: Arc::new(Mutex::new(inner)),
        })
    }
}

/// A handle on a [`MemKvStore`].
#[derive(Debug)]
pub struct MemKv {
    store: MemKvStore,
    life: u64,
}

impl MemKv {
    /// Opens the store as its last flush, or clean close, left it.
    #[must_use]
    pub fn open(store: &MemKvStore) -> Self {
        let life = store.inner.lock().crashes;
        Self {
            store: store.clone(),
            life,
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> Result<T, KvError>) -> Result<T, KvError> {
        let mut inner = self.store.inner.lock();
        if inner.failed || inner.crashes != self.life {
            return Err(KvError::Stopped);
        }
        f(&mut inner)
    }

    fn rows(&self, start: &[u8], end: Option<&[u8]>, order: Order) -> Rows<'static> {
        let map = match self.with(|inner| Ok(inner.current.clone())) {
            Ok(map) => map,
            Err(error) => return Box::new(std::iter::once(Err(error))),
        };
        let start = Bound::Included(Bytes::copy_from_slice(start));
        let end = end.map_or(Bound::Unbounded, |end| {
            Bound::Excluded(Bytes::copy_from_slice(end))
        });
        Box::new(Scan {
            map,
            start,
            end,
            order,
        })
    }
}

fn flush(inner: &mut Inner) -> Result<(), KvError> {
    if std::mem::take(&mut inner.failing_flush) {
        inner.failed = true;
        return Err(KvError::Engine(EngineError {
            detail: "injected failure of a flush".into(),
        }));
    }
    inner.flushed = inner.current.clone();
    Ok(())
}

impl Kv for MemKv {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.with(|inner| Ok(inner.current.get(key).cloned()))
    }

    fn scan<'a>(&'a self, start: &[u8], end: Option<&[u8]>) -> Rows<'a> {
        self.rows(start, end, Order::Ascending)
    }

    fn scan_reverse<'a>(&'a self, start: &[u8], end: Option<&[u8]>) -> Rows<'a> {
        self.rows(start, end, Order::Descending)
    }

    fn write(&self, batch: Batch) -> Result<(), KvError> {
        self.with(|inner| {
            for op in batch.ops {
                match op {
                    Op::Put { key, value } => {
                        inner.current.insert(key, value);
                    }
                    Op::Delete { key } => {
                        inner.current.remove(&key);
                    }
                }
            }
            Ok(())
        })
    }

    fn flush(&self) -> Result<(), KvError> {
        self.with(flush)
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), KvError> {
        self.with(|inner| {
            if inner.checkpoints.contains_key(dir) {
                let reason = EngineError {
                    detail: "the directory exists".into(),
                };
                return Err(KvError::CheckpointRefused {
                    dir: dir.into(),
                    reason,
                });
            }
            flush(inner)?;
            inner.checkpoints.insert(dir.into(), inner.flushed.clone());
            Ok(())
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Ascending,
    Descending,
}

/// Walks a private version of the map, so that later writes are not seen.
#[derive(Debug)]
struct Scan {
    map: Map,
    start: Bound<Bytes>,
    end: Bound<Bytes>,
    order: Order,
}

impl Scan {
    /// A range whose start is not below its end would panic in the map.
    fn is_done(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (
                Bound::Included(start) | Bound::Excluded(start),
                Bound::Included(end) | Bound::Excluded(end),
            ) => start >= end,
        }
    }
}

impl Iterator for Scan {
    type Item = Result<(Bytes, Bytes), KvError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done() {
            return None;
        }
        let mut range = self.map.range((self.start.clone(), self.end.clone()));
        let row = match self.order {
            Order::Ascending => range.next(),
            Order::Descending => range.next_back(),
        };
        let (key, value) = row.map(|(key, value)| (key.clone(), value.clone()))?;
        match self.order {
            Order::Ascending => self.start = Bound::Excluded(key.clone()),
            Order::Descending => self.end = Bound::Excluded(key.clone()),
        }
        Some(Ok((key, value)))
    }
}
