//! The in-memory store: loses on a crash what was not flushed.

use crate::{Batch, EngineError, Kv, KvError, KvRead, Op, Rows, Snapshot};
use bytes::Bytes;
use floeberg_env::{Disk, MemDisk, OpenMode};
use imbl::OrdMap;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

type Map = OrdMap<Bytes, Bytes>;

#[derive(Debug, Default)]
struct Inner {
    current: Map,
    flushed: Map,
    /// Crashes so far; handles opened before one are stopped.
    crashes: u64,
    failing_flush: bool,
    failed: bool,
    /// Rows whose keys begin so are not kept.
    losing: Option<Bytes>,
    ageing: Option<Ageing>,
}

/// Snapshots show what was there some writes ago, but for one row.
#[derive(Debug)]
struct Ageing {
    /// The row that is always new.
    but: Bytes,
    /// The rows before each of the last writes, oldest first.
    before: VecDeque<Map>,
    /// Snapshots so far; every other one is old.
    taken: u64,
}

/// Writes by which an old snapshot is behind.
const AGED_BY: usize = 4;

impl Ageing {
    fn note(&mut self, rows: &Map) {
        self.before.push_back(rows.clone());
        if self.before.len() > AGED_BY {
            self.before.pop_front();
        }
    }

    fn snapshot(&mut self, current: &Map) -> Map {
        self.taken += 1;
        let old = self.before.front().filter(|_| self.taken.is_multiple_of(2));
        let Some(mut rows) = old.cloned() else {
            return current.clone();
        };
        if let Some(value) = current.get(&self.but) {
            rows.insert(self.but.clone(), value.clone());
        }
        rows
    }
}

/// The medium below [`MemKv`]: survives a crash of the node that has it open.
#[derive(Clone)]
pub struct MemKvStore {
    inner: Arc<Mutex<Inner>>,
    /// Where copies are.
    disk: Arc<dyn Disk>,
}

/// The rows of a [`MemKvStore`] that were durable at some time.
#[derive(Clone, Debug)]
pub struct KvImage(Map);

impl Default for MemKvStore {
    fn default() -> Self {
        Self::with_copies_on(Arc::new(MemDisk::new()))
    }
}

impl fmt::Debug for MemKvStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl MemKvStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store whose copies are files of `disk`, from where they can be carried to another
    /// store; the rows themselves are not on it.
    #[must_use]
    pub fn with_copies_on(disk: Arc<dyn Disk>) -> Self {
        Self {
            inner: Arc::default(),
            disk,
        }
    }

    /// Back to the last flush; every open handle stops.
    pub fn crash(&self) {
        let mut inner = self.inner.lock();
        inner.current = inner.flushed.clone();
        inner.crashes += 1;
        inner.failing_flush = false;
        inner.failed = false;
        if let Some(ageing) = &mut inner.ageing {
            ageing.before.clear();
        }
    }

    /// What a crash now would leave; it stays as it is.
    #[must_use]
    pub fn image(&self) -> KvImage {
        KvImage(self.inner.lock().flushed.clone())
    }

    /// Back to what it was; every open handle stops.
    pub fn put_back(&self, image: &KvImage) {
        self.inner.lock().flushed = image.0.clone();
        self.crash();
    }

    /// Lets the next flush fail; the store is stopped until the next crash.
    pub fn fail_next_flush(&self) {
        self.inner.lock().failing_flush = true;
    }

    /// From now on rows whose keys begin with `prefix` are written and not there afterwards. Tests
    /// show with it that the loss is found.
    pub fn lose_rows(&self, prefix: &[u8]) {
        self.inner.lock().losing = Some(Bytes::copy_from_slice(prefix));
    }

    /// From now on every other snapshot shows what was there a few writes ago, but for the row `but`,
    /// which by that looks as new as it should be. Tests show with it that this is found.
    pub fn age_snapshots(&self, but: &[u8]) {
        self.inner.lock().ageing = Some(Ageing {
            but: Bytes::copy_from_slice(but),
            before: VecDeque::new(),
            taken: 0,
        });
    }

    /// The store that a checkpoint in `dir` made.
    #[must_use]
    pub fn checkpoint(&self, dir: &Path) -> Option<Self> {
        let map = read_copy(&*self.disk, dir).ok()?;
        let inner = Inner {
            current: map.clone(),
            flushed: map,
            ..Inner::default()
        };
        Some(Self {
            inner: Arc::new(Mutex::new(inner)),
            disk: Arc::clone(&self.disk),
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

    fn snapshot_of(&self, rows: Map) -> MemSnapshot {
        MemSnapshot {
            store: MemKv {
                store: self.store.clone(),
                life: self.life,
            },
            rows,
        }
    }

    /// The rows as they are, for one scan.
    fn rows(&self, start: &[u8], end: Option<&[u8]>, order: Order) -> Rows<'static> {
        match self.with(|inner| Ok(inner.current.clone())) {
            Ok(map) => scan(map, start, end, order),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }
}

/// The rows of one moment, as long as the handle they were taken of is alive.
#[derive(Debug)]
struct MemSnapshot {
    store: MemKv,
    rows: Map,
}

impl MemSnapshot {
    fn walk(&self, start: &[u8], end: Option<&[u8]>, order: Order) -> Rows<'static> {
        match self.store.with(|_| Ok(())) {
            Ok(()) => scan(self.rows.clone(), start, end, order),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }
}

impl KvRead for MemSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.store.with(|_| Ok(()))?;
        Ok(self.rows.get(key).cloned())
    }

    fn scan<'a>(&'a self, start: &[u8], end: Option<&[u8]>) -> Rows<'a> {
        self.walk(start, end, Order::Ascending)
    }

    fn scan_reverse<'a>(&'a self, start: &[u8], end: Option<&[u8]>) -> Rows<'a> {
        self.walk(start, end, Order::Descending)
    }
}

fn scan(map: Map, start: &[u8], end: Option<&[u8]>, order: Order) -> Rows<'static> {
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

impl KvRead for MemKv {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.with(|inner| Ok(inner.current.get(key).cloned()))
    }

    fn scan<'a>(&'a self, start: &[u8], end: Option<&[u8]>) -> Rows<'a> {
        self.rows(start, end, Order::Ascending)
    }

    fn scan_reverse<'a>(&'a self, start: &[u8], end: Option<&[u8]>) -> Rows<'a> {
        self.rows(start, end, Order::Descending)
    }
}

impl Kv for MemKv {
    fn snapshot(&self) -> Result<Snapshot, KvError> {
        let rows = self.with(|inner| {
            let Inner {
                ageing, current, ..
            } = inner;
            Ok(match ageing {
                Some(ageing) => ageing.snapshot(current),
                None => current.clone(),
            })
        })?;
        Ok(Arc::new(self.snapshot_of(rows)))
    }

    fn write(&self, batch: Batch) -> Result<(), KvError> {
        self.with(|inner| {
            if let Some(ageing) = &mut inner.ageing {
                ageing.note(&inner.current);
            }
            for op in batch.ops {
                match op {
                    Op::Put { key, .. }
                        if inner.losing.as_ref().is_some_and(|p| key.starts_with(p)) => {}
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
        let disk = &*self.store.disk;
        let refused = |detail| KvError::CheckpointRefused {
            dir: dir.into(),
            reason: EngineError { detail },
        };
        if disk.exists(dir) {
            return Err(refused("the directory exists".into()));
        }
        let rows = self.with(|inner| {
            flush(inner)?;
            Ok(inner.flushed.clone())
        })?;
        write_copy(disk, dir, &rows).map_err(|error| refused(error.to_string()))
    }

    fn get_in_copy(&self, dir: &Path, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let rows = read_copy(&*self.store.disk, dir).map_err(|e| engine(&e))?;
        Ok(rows.get(key).cloned())
    }

    fn install(&self, dir: &Path) -> Result<(), KvError> {
        let disk = &*self.store.disk;
        self.with(|inner| {
            let rows = read_copy(disk, dir).and_then(|rows| {
                disk.remove_dir_all(dir)?;
                Ok(rows)
            });
            let rows = rows.map_err(|error| {
                inner.failed = true;
                engine(&error)
            })?;
            inner.current = rows.clone();
            inner.flushed = rows;
            Ok(())
        })
    }
}

/// The one file of a copy: for each row the lengths of key and value, then both.
const COPY: &str = "rows";

fn write_copy(disk: &dyn Disk, dir: &Path, rows: &Map) -> io::Result<()> {
    let mut bytes = Vec::new();
    for (key, value) in rows {
        for part in [key, value] {
            let len = u32::try_from(part.len()).map_err(io::Error::other)?;
            bytes.extend_from_slice(&len.to_be_bytes());
        }
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
    }
    disk.create_dir_all(dir)?;
    let file = disk.open(&dir.join(COPY), OpenMode::CreateNew)?;
    file.write_at(&bytes, 0)?;
    file.sync_data()?;
    disk.sync_dir(dir)?;
    dir.parent().map_or(Ok(()), |parent| disk.sync_dir(parent))
}

fn read_copy(disk: &dyn Disk, dir: &Path) -> io::Result<Map> {
    let file = disk.open(&dir.join(COPY), OpenMode::Read)?;
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    if file.read_at(&mut bytes, 0)? < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (mut rest, mut rows) = (Bytes::from(bytes), Map::new());
    while !rest.is_empty() {
        let mut lens = [0; 2];
        for len in &mut lens {
            let (head, tail) = rest
                .split_first_chunk()
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            *len = u32::from_be_bytes(*head) as usize;
            rest = rest.slice_ref(tail);
        }
        if rest.len() < lens[0] + lens[1] {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (key, value) = (rest.split_to(lens[0]), rest.split_to(lens[1]));
        rows.insert(key, value);
    }
    Ok(rows)
}

fn engine(error: &io::Error) -> KvError {
    KvError::Engine(EngineError {
        detail: error.to_string(),
    })
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
