//! The volume: what the data plane calls.

use crate::config::VolumeConfig;
use crate::error::{DeleteError, RaiseError, ReadError, ReclaimError, VolumeError, WriteError};
use crate::format::record_len;
use crate::index::{Change, Index};
use crate::mark::{Numbers, VolumeMark};
use crate::reader::ChunkStream;
use crate::reclaim::ReclaimReport;
use crate::recovery::{RecoveryReport, recover};
use crate::segments::{Segments, SegmentsParts};
use crate::sync::{SyncItem, SyncQueue, SyncTask};
use crate::writer::{ChunkRef, ChunkWriter, Role};
use floeberg_env::Env;
use floeberg_kv::KvError;
use floeberg_telemetry::VolumeMetrics;
use floeberg_types::ChunkId;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Chunks under one tombstone record.
pub(crate) const TOMBSTONE_CHUNKS: usize = 1024;

/// Everything the handles of a volume share.
pub(crate) struct Inner {
    pub(crate) config: VolumeConfig,
    pub(crate) env: Env,
    pub(crate) metrics: VolumeMetrics,
    volume: [u8; 16],
    numbers: Arc<Numbers>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) index: Arc<Index>,
    pub(crate) queue: SyncQueue,
    /// Deletes share it; a compacted copy holds it alone from its write to its index row, so that
    /// no crash can bring a deleted chunk back through the copy.
    pub(crate) relocation: tokio::sync::RwLock<()>,
    /// One reclaim pass at a time.
    pub(crate) reclaiming: tokio::sync::Mutex<()>,
}

/// The volume on one disk; clones are the same volume.
#[derive(Clone)]
pub struct Volume {
    inner: Arc<Inner>,
}

/// Space and chunks of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VolumeStats {
    /// Segment files.
    pub segments: u64,
    /// Segments given up after a failed write or sync.
    pub failed_segments: u64,
    /// Bytes that segment files take, preallocated space included.
    pub disk_bytes: u64,
    /// Bytes of segments that records take, dead ones included.
    pub used_bytes: u64,
    /// Live chunks.
    pub live_chunks: u64,
    /// Payload bytes of live chunks.
    pub live_bytes: u64,
    /// Payload bytes of dead records.
    pub dead_bytes: u64,
}

impl Volume {
    /// Opens the volume in `dir`, making it if the directory is new.
    ///
    /// # Errors
    /// If another process uses the directory, its contents are not a volume's, or the disk fails.
    pub async fn open(
        dir: &Path,
        config: VolumeConfig,
        env: Env,
        metrics: VolumeMetrics,
    ) -> Result<(Self, RecoveryReport), VolumeError> {
        config.check()?;
        let recovered = {
            let (dir, config) = (dir.to_path_buf(), config.clone());
            let (env, metrics) = (env.clone(), metrics.clone());
            let tasks = env.tasks.clone();
            tasks
                .spawn_blocking("volume-open", move || {
                    recover(&dir, &config, &env, &metrics)
                })
                .await
                .map_err(|_| VolumeError::Stopped)??
        };
        let (queue, receiver) = SyncQueue::new();
        let index = Arc::new(recovered.index);
        let numbers = Arc::new(recovered.numbers);
        let task = SyncTask {
            env: env.clone(),
            index: index.clone(),
            numbers: numbers.clone(),
            metrics: metrics.clone(),
            lock: recovered.lock,
        };
        env.tasks.spawn("volume-sync", task.run(receiver));
        let parts = SegmentsParts {
            dir: recovered.segments_dir,
            volume: recovered.volume,
            all: recovered.all,
            active: recovered.active,
            queue: queue.clone(),
        };
        let config = recovered.config;
        let segments = Segments::new(parts, &config, env.clone(), metrics.clone());
        let inner = Inner {
            config,
            env,
            metrics,
            volume: recovered.volume,
            numbers,
            segments: Arc::new(segments),
            index,
            queue,
            relocation: tokio::sync::RwLock::new(()),
            reclaiming: tokio::sync::Mutex::new(()),
        };
        let volume = Self {
            inner: Arc::new(inner),
        };
        Ok((volume, recovered.report))
    }

    /// Starts a chunk of unknown length.
    pub async fn begin(&self) -> ChunkWriter {
        self.writer(None)
    }

    /// Starts a chunk of exactly `len` bytes, which wastes no space when it is large.
    ///
    /// # Errors
    /// If `len` is beyond the longest chunk.
    pub async fn begin_sized(&self, len: u64) -> Result<ChunkWriter, WriteError> {
        let limit = self.inner.config.max_chunk_bytes;
        if len > limit {
            return Err(WriteError::TooLong { limit });
        }
        Ok(self.writer(Some(len)))
    }

    /// Starts a chunk whose id was drawn elsewhere, because other volumes hold it too; of exactly
    /// `len` bytes if that is known. Finished, it takes the place of a copy that is there already.
    ///
    /// # Errors
    /// If `len` is beyond the longest chunk.
    pub async fn begin_as(
        &self,
        chunk: ChunkId,
        len: Option<u64>,
    ) -> Result<ChunkWriter, WriteError> {
        let limit = self.inner.config.max_chunk_bytes;
        if len.is_some_and(|len| len > limit) {
            return Err(WriteError::TooLong { limit });
        }
        let inner = self.inner.clone();
        Ok(ChunkWriter::new(inner, chunk, len, Role::NewChunk))
    }

    fn writer(&self, announced: Option<u64>) -> ChunkWriter {
        let chunk = ChunkId::from_bytes(self.inner.env.rng.id128());
        ChunkWriter::new(self.inner.clone(), chunk, announced, Role::NewChunk)
    }

    /// The longest chunk in bytes.
    #[must_use]
    pub fn max_chunk_bytes(&self) -> u64 {
        self.inner.config.max_chunk_bytes
    }

    /// Streams `range` of a chunk; every returned byte was verified.
    ///
    /// # Errors
    /// Damage in the record's frame or the first piece is reported here, before the first byte;
    /// damage further on ends the stream.
    pub async fn read(&self, chunk: &ChunkId, range: Range<u64>) -> Result<ChunkStream, ReadError> {
        self.inner.read(*chunk, Some(range)).await
    }

    /// Streams a whole chunk.
    ///
    /// # Errors
    /// As [`Volume::read`].
    pub async fn read_all(&self, chunk: &ChunkId) -> Result<ChunkStream, ReadError> {
        self.inner.read(*chunk, None).await
    }

    /// Length of a live chunk; `None` if there is none of that id.
    ///
    /// # Errors
    /// If the index fails.
    pub fn len_of(&self, chunk: &ChunkId) -> Result<Option<u64>, KvError> {
        Ok(self.inner.index.find(chunk)?.map(|at| at.length))
    }

    /// Live chunks with their lengths in ascending order of ids, behind `after`.
    ///
    /// # Errors
    /// If the index fails.
    pub fn chunks(
        &self,
        after: Option<&ChunkId>,
        limit: usize,
    ) -> Result<Vec<(ChunkId, u64)>, KvError> {
        self.inner.index.chunks(after, limit)
    }

    /// Reads a whole record and compares every checksum, its BLAKE3 hash included.
    ///
    /// # Errors
    /// As [`Volume::read`].
    pub async fn verify(&self, chunk: &ChunkId) -> Result<ChunkRef, ReadError> {
        let (inner, chunk) = (self.inner.clone(), *chunk);
        self.inner
            .env
            .tasks
            .spawn_blocking("volume-verify", move || inner.verify(chunk))
            .await
            .map_err(|_| ReadError::Stopped)?
    }

    /// Deletes a chunk; durable when it returns. A chunk that does not exist is no error.
    ///
    /// # Errors
    /// If the tombstone cannot be made durable: the chunk may or may not exist then.
    pub async fn delete(&self, chunk: &ChunkId) -> Result<(), DeleteError> {
        self.delete_all(std::slice::from_ref(chunk)).await
    }

    /// Deletes chunks with one tombstone record per 1024 of them.
    ///
    /// # Errors
    /// As [`Volume::delete`]; the first chunks may be deleted then.
    pub async fn delete_all(&self, chunks: &[ChunkId]) -> Result<(), DeleteError> {
        let _shared = self.inner.relocation.read().await;
        let mut live = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            if self.inner.index.find(chunk)?.is_some() {
                live.push(*chunk);
            }
        }
        for chunks in live.chunks(TOMBSTONE_CHUNKS) {
            let killed = chunks.to_vec();
            self.inner
                .bury(chunks, |tombstone, _| Change::Killed {
                    chunks: killed,
                    tombstone,
                })
                .await?;
        }
        Ok(())
    }

    /// Compacts segments that are mostly dead and removes those that are wholly dead.
    ///
    /// # Errors
    /// If writing, syncing or removing fails; the pass stops there.
    pub async fn reclaim(&self) -> Result<ReclaimReport, ReclaimError> {
        self.inner.reclaim().await
    }

    /// What the volume has acknowledged up to now. As the first call after opening it says what this
    /// directory holds, and whoever kept an earlier mark can tell whether something is missing.
    #[must_use]
    pub fn mark(&self) -> VolumeMark {
        VolumeMark::new(self.inner.volume, self.inner.numbers.acknowledged())
    }

    /// Lifts the mark above `known`, durably: what the volume lacked then is made up for, or given up, and
    /// from now on `known` is the past.
    ///
    /// # Errors
    /// If the mark is another volume's, or the record that carries the new one cannot be written.
    pub async fn raise_mark(&self, known: &VolumeMark) -> Result<VolumeMark, RaiseError> {
        if known.volume() != self.inner.volume {
            return Err(RaiseError::Foreign);
        }
        self.inner.numbers.skip_beyond(known.sequence());
        self.inner.carry_mark().await?;
        Ok(self.mark())
    }

    /// Space and chunks at this moment.
    #[must_use]
    pub fn stats(&self) -> VolumeStats {
        let mut stats = VolumeStats::default();
        for segment in self.inner.segments.snapshot() {
            stats.segments += 1;
            stats.failed_segments += u64::from(segment.failure().is_some());
            stats.disk_bytes += segment.limit();
            stats.used_bytes += segment.tail();
        }
        let usage = self.inner.index.total_usage();
        stats.live_chunks = usage.live_chunks;
        stats.live_bytes = usage.live_bytes;
        stats.dead_bytes = usage.dead_bytes;
        stats
    }

    /// Whether a chunk of any length would be taken at this moment. Reads and deletes never ask.
    ///
    /// # Errors
    /// [`WriteError::DiskFull`] says how full the disk is.
    pub fn check_room(&self) -> Result<(), WriteError> {
        let longest = record_len(self.inner.config.max_chunk_bytes);
        self.inner.segments.check_room(longest)
    }

    /// Waits for everything queued and flushes the index, so that the next start scans nothing.
    ///
    /// Later writes on any clone answer [`WriteError::Closed`]; reads still work. The directory
    /// can be opened again once all clones are dropped.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        self.inner.queue.push(SyncItem::Close(done));
        // An error means that the volume was closed before.
        let _ = closed.await;
    }
}
