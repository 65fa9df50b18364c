//! The RocksDB store: no write-ahead log, atomic flushes, checkpoints by hard link.

use crate::database::{Database, RocksSnapshot, Stopped, walk};
use crate::generation;
use crate::{Batch, Damage, EngineError, Kv, KvError, KvRead, Op, Rows, Snapshot, framing};
use bytes::Bytes;
use floeberg_env::{Disk, OpenMode, RealDisk};
use parking_lot::{Mutex, RwLock};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, FlushOptions, IteratorMode, Options,
    WriteBatch, WriteBufferManager, WriteOptions, checkpoint::Checkpoint,
};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Block cache and write-buffer budget that all stores of a node share.
#[derive(Clone)]
pub struct KvMemory {
    block_cache: Cache,
    write_buffers: WriteBufferManager,
}

impl KvMemory {
    /// A cache for blocks read and a budget for rows not yet flushed, in bytes.
    #[must_use]
    pub fn new(block_cache_bytes: usize, write_buffer_bytes: usize) -> Self {
        Self {
            block_cache: Cache::new_lru_cache(block_cache_bytes),
            // Going over the budget starts a flush; it never stalls the writers.
            write_buffers: WriteBufferManager::new_write_buffer_manager(write_buffer_bytes, false),
        }
    }
}

impl Default for KvMemory {
    /// 256 MiB of blocks and 128 MiB of unflushed rows: fits a machine of 4 GiB.
    fn default() -> Self {
        Self::new(256 << 20, 128 << 20)
    }
}

impl fmt::Debug for KvMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvMemory")
            .field("write_buffer_bytes", &self.write_buffers.get_buffer_size())
            .finish_non_exhaustive()
    }
}

/// Settings of one store.
#[derive(Clone, Debug)]
pub struct RocksKvConfig {
    /// Shared with the other stores of the node.
    pub memory: KvMemory,
    /// Unflushed bytes of this store that start a background flush.
    pub write_buffer_bytes: usize,
    /// Threads for flushes and compactions.
    pub background_jobs: u16,
    /// Counts the reads of this store that meet damage.
    pub damage: Damage,
}

impl Default for RocksKvConfig {
    fn default() -> Self {
        Self {
            memory: KvMemory::default(),
            write_buffer_bytes: 64 << 20,
            background_jobs: 2,
            damage: Damage::default(),
        }
    }
}

/// A store in its own RocksDB instance.
pub struct RocksKv {
    /// Locked only to take or to change the reference.
    current: RwLock<Arc<Database>>,
    path: PathBuf,
    config: RocksKvConfig,
    stopped: Stopped,
    /// Held while files are made or replaced as a whole.
    files: Mutex<()>,
}

impl fmt::Debug for RocksKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksKv")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

pub(crate) fn options(config: &RocksKvConfig) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&config.memory.block_cache);
    table.set_bloom_filter(10.0, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(5);

    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_atomic_flush(true);
    options.set_paranoid_checks(true);
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_manager(&config.memory.write_buffers);
    options.set_write_buffer_size(config.write_buffer_bytes);
    options.set_max_write_buffer_number(4);
    options.set_max_background_jobs(i32::from(config.background_jobs).max(2));
    // Level 0 is rewritten soon and read often: compressing it only costs.
    let lz4 = DBCompressionType::Lz4;
    options.set_compression_per_level(&[DBCompressionType::None, lz4, lz4, lz4, lz4, lz4, lz4]);
    options.set_level_compaction_dynamic_level_bytes(true);
    // Spreads write-back, so that a flush's sync does not stall the log's on the same disk.
    options.set_bytes_per_sync(1 << 20);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(8 << 20);
    options
}

impl RocksKv {
    /// Opens the store in `path`, creating it if absent.
    ///
    /// # Errors
    /// If another process has it open, the disk fails, or its files are corrupt.
    pub fn open(path: &Path, config: &RocksKvConfig) -> Result<Self, KvError> {
        RealDisk.create_dir_all(path).map_err(|e| engine(&e))?;
        let active = generation::active(&RealDisk, path).map_err(|e| engine(&e))?;
        let current = Database::open(path, active, config)?;
        // Only now does nobody else have the store open.
        generation::clean(&RealDisk, path, active).map_err(|e| engine(&e))?;
        Ok(Self {
            current: RwLock::new(current),
            path: path.into(),
            config: config.clone(),
            stopped: Stopped::default(),
            files: Mutex::new(()),
        })
    }

    fn current(&self) -> Arc<Database> {
        Arc::clone(&self.current.read())
    }

    /// The caller holds the lock of the files.
    fn flush_locked(&self) -> Result<(), KvError> {
        self.stopped.check()?;
        let mut wait = FlushOptions::default();
        wait.set_wait(true);
        self.stop_on_error(self.current().db.flush_opt(&wait))
    }

    /// The caller holds the lock of the files. Readers of the old rows are not waited for.
    fn replace(&self, copy: &Path) -> Result<(), KvError> {
        // Takes the old rows out of memory, where they would stay as long as they are read.
        self.flush_locked()?;
        let old = self.current();
        let next = old.generation().next();
        generation::stage(&RealDisk, &self.path, next, copy).map_err(|e| engine(&e))?;
        let database = Database::open(&self.path, next, &self.config)?;
        generation::activate(&RealDisk, &self.path, next).map_err(|e| engine(&e))?;
        *self.current.write() = database;
        old.replaced();
        Ok(())
    }

    /// After a failed write or sync nobody knows what the disk holds: nothing may follow.
    fn stop_on_error<T>(&self, result: Result<T, rocksdb::Error>) -> Result<T, KvError> {
        result.map_err(|error| {
            self.stopped.set();
            tracing::error!(path = %self.path.display(), %error, "key-value store failed");
            error.into()
        })
    }

    fn rows(&self, start: &[u8], end: Option<&[u8]>, mode: IteratorMode<'_>) -> Rows<'static> {
        match self.stopped.check() {
            Ok(()) => walk(self.current(), &self.config.damage, (start, end), mode),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }
}

impl KvRead for RocksKv {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.stopped.check()?;
        let found = self.config.damage.note(self.current().db.get(key))?;
        Ok(found.map(Bytes::from))
    }

    fn scan<'a>(&'a self, start: &[u8], end: Option<&[u8]>) -> Rows<'a> {
        self.rows(start, end, IteratorMode::Start)
    }

    fn scan_reverse<'a>(&'a self, start: &[u8], end: Option<&[u8]>) -> Rows<'a> {
        self.rows(start, end, IteratorMode::End)
    }
}

impl Kv for RocksKv {
    fn snapshot(&self) -> Result<Snapshot, KvError> {
        self.stopped.check()?;
        let snapshot = RocksSnapshot::new(
            self.current(),
            self.stopped.clone(),
            self.config.damage.clone(),
        );
        Ok(Arc::new(snapshot))
    }

    fn write(&self, batch: Batch) -> Result<(), KvError> {
        self.stopped.check()?;
        let mut writes = WriteBatch::default();
        for op in &batch.ops {
            match op {
                Op::Put { key, value } => writes.put(key, value),
                Op::Delete { key } => writes.delete(key),
            }
        }
        let mut memory_only = WriteOptions::default();
        memory_only.disable_wal(true);
        self.stop_on_error(self.current().db.write_opt(writes, &memory_only))
    }

    fn flush(&self) -> Result<(), KvError> {
        let _files = self.files.lock();
        self.flush_locked()
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), KvError> {
        let refused = |detail| KvError::CheckpointRefused {
            dir: dir.into(),
            reason: EngineError { detail },
        };
        if RealDisk.exists(dir) {
            return Err(refused("the directory exists".into()));
        }
        let _files = self.files.lock();
        self.flush_locked()?;
        let made = Checkpoint::new(&self.current().db).and_then(|copy| copy.create_checkpoint(dir));
        made.map_err(|error| refused(error.into_string()))?;
        // The table files were synced when they were written; the copied manifest was not.
        sync_tree(dir).map_err(|error| refused(error.to_string()))
    }

    fn get_in_copy(&self, dir: &Path, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        // RocksDB makes the directory even when it only reads.
        if !RealDisk.exists(&dir.join("CURRENT")) {
            let detail = format!("`{}` holds no copy", dir.display());
            return Err(KvError::Engine(EngineError { detail }));
        }
        framing::check(&RealDisk, dir)?;
        let copy = DB::open_for_read_only(&options(&self.config), dir, false)?;
        let value = copy.get(key)?.map(Bytes::from);
        drop(copy);
        // Even a reader leaves a log file, which is no part of the copy.
        remove_logs(dir).map_err(|e| engine(&e))?;
        Ok(value)
    }

    fn install(&self, dir: &Path) -> Result<(), KvError> {
        let _files = self.files.lock();
        self.stopped.check()?;
        self.replace(dir).inspect_err(|error| {
            self.stopped.set();
            tracing::error!(path = %self.path.display(), %error, "a copy was not installed");
        })
    }
}

fn remove_logs(dir: &Path) -> io::Result<()> {
    for name in RealDisk.list(dir)? {
        if name == "LOG" || name.starts_with("LOG.") {
            RealDisk.remove_file(&dir.join(name))?;
        }
    }
    RealDisk.sync_dir(dir)
}

fn sync_tree(dir: &Path) -> io::Result<()> {
    for name in RealDisk.list(dir)? {
        RealDisk
            .open(&dir.join(name), OpenMode::Read)?
            .sync_data()?;
    }
    RealDisk.sync_dir(dir)?;
    dir.parent()
        .map_or(Ok(()), |parent| RealDisk.sync_dir(parent))
}

fn engine(error: &io::Error) -> KvError {
    KvError::Engine(EngineError {
        detail: error.to_string(),
    })
}
