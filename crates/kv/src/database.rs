//! One database of a store, its snapshots, and the end of its files.

use crate::generation::{self, Generation};
use crate::rocks::{RocksKvConfig, options};
use crate::{Damage, KvError, KvRead, Rows, framing};
use bytes::Bytes;
use floeberg_env::RealDisk;
use rocksdb::{DB, DBIteratorWithThreadMode, IteratorMode, ReadOptions};
use self_cell::self_cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the store has stopped; shared with everything that reads it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stopped(Arc<AtomicBool>);

impl Stopped {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn check(&self) -> Result<(), KvError> {
        if self.0.load(Ordering::Acquire) {
            Err(KvError::Stopped)
        } else {
            Ok(())
        }
    }
}

/// A database that is open. Once it is replaced, the last one to let go of it closes it and removes
/// its files.
pub(crate) struct Database {
    /// Closed before the files are removed: fields are dropped in this order.
    pub(crate) db: DB,
    files: Files,
}

/// The files of one generation.
struct Files {
    store: PathBuf,
    generation: Generation,
    replaced: AtomicBool,
}

impl Drop for Files {
    fn drop(&mut self) {
        if !*self.replaced.get_mut() {
            return;
        }
        if let Err(error) = generation::discard(&RealDisk, &self.store, self.generation) {
            // They are removed when the store opens again.
            tracing::warn!(path = %self.store.display(), %error, "replaced rows are still on disk");
        }
    }
}

impl Database {
    /// Its manifest is checked first, because one flipped bit in it can make RocksDB loop for ever.
    pub(crate) fn open(
        store: &Path,
        generation: Generation,
        config: &RocksKvConfig,
    ) -> Result<Arc<Self>, KvError> {
        let dir = generation.dir(store);
        framing::check(&RealDisk, &dir)?;
        Ok(Arc::new(Self {
            db: DB::open(&options(config), dir)?,
            files: Files {
                store: store.to_owned(),
                generation,
                replaced: AtomicBool::new(false),
            },
        }))
    }

    pub(crate) fn generation(&self) -> Generation {
        self.files.generation
    }

    /// Says that a newer generation is current on disk.
    pub(crate) fn replaced(&self) {
        self.files.replaced.store(true, Ordering::Release);
        self.db.cancel_all_background_work(true);
    }
}

type At<'a> = rocksdb::Snapshot<'a>;
type Walk<'a> = DBIteratorWithThreadMode<'a, DB>;

self_cell!(
    /// RocksDB's snapshot together with the database that it borrows.
    struct Pinned {
        owner: Arc<Database>,
        #[covariant]
        dependent: At,
    }
);

self_cell!(
    /// RocksDB's iterator together with the database that it borrows.
    struct Walking {
        owner: Arc<Database>,
        #[covariant]
        dependent: Walk,
    }
);

impl Iterator for Walking {
    type Item = Result<RawRow, rocksdb::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.with_dependent_mut(|_, rows| rows.next())
    }
}

type RawRow = (Box<[u8]>, Box<[u8]>);

/// Rows as they are read; damage is counted.
fn counted<'a>(
    rows: impl Iterator<Item = Result<RawRow, rocksdb::Error>> + Send + 'a,
    damage: &Damage,
) -> Rows<'a> {
    let damage = damage.clone();
    Box::new(rows.map(move |found| {
        let (key, value) = damage.note(found)?;
        Ok((Bytes::from(key), Bytes::from(value)))
    }))
}

fn failed(error: KvError) -> Rows<'static> {
    Box::new(std::iter::once(Err(error)))
}

/// The options of a walk over `[start, end)`; `None` if no key lies between.
fn within(start: &[u8], end: Option<&[u8]>) -> Option<ReadOptions> {
    if end.is_some_and(|end| start >= end) {
        return None;
    }
    let mut read = ReadOptions::default();
    if !start.is_empty() {
        read.set_iterate_lower_bound(start);
    }
    if let Some(end) = end {
        read.set_iterate_upper_bound(end);
    }
    Some(read)
}

/// The rows of a database as of now. They keep it open.
pub(crate) fn walk(
    database: Arc<Database>,
    damage: &Damage,
    (start, end): (&[u8], Option<&[u8]>),
    mode: IteratorMode<'_>,
) -> Rows<'static> {
    let Some(read) = within(start, end) else {
        return Box::new(std::iter::empty());
    };
    let rows = Walking::new(database, |database| database.db.iterator_opt(mode, read));
    counted(rows, damage)
}

/// The rows of one moment.
pub(crate) struct RocksSnapshot {
    pinned: Pinned,
    stopped: Stopped,
    damage: Damage,
}

impl RocksSnapshot {
    pub(crate) fn new(database: Arc<Database>, stopped: Stopped, damage: Damage) -> Self {
        Self {
            pinned: Pinned::new(database, |database| database.db.snapshot()),
            stopped,
            damage,
        }
    }

    fn rows<'a>(&'a self, start: &[u8], end: Option<&[u8]>, mode: IteratorMode<'_>) -> Rows<'a> {
        if let Err(error) = self.stopped.check() {
            return failed(error);
        }
        let Some(read) = within(start, end) else {
            return Box::new(std::iter::empty());
        };
        let rows = self.pinned.borrow_dependent().iterator_opt(mode, read);
        counted(rows, &self.damage)
    }
}

impl KvRead for RocksSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.stopped.check()?;
        let found = self.damage.note(self.pinned.borrow_dependent().get(key))?;
        Ok(found.map(Bytes::from))
    }

    fn scan<'a>(&'a self, start: &[u8], end: Option<&[u8]>) -> Rows<'a> {
        self.rows(start, end, IteratorMode::Start)
    }

    fn scan_reverse<'a>(&'a self, start: &[u8], end: Option<&[u8]>) -> Rows<'a> {
        self.rows(start, end, IteratorMode::End)
    }
}
