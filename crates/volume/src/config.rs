//! Settings of one volume, checked before anything is opened.

use crate::format;
use crate::room;
use crate::segments::housekeeping_bytes;
use floeberg_kv::{MemKvStore, RocksKvConfig};

/// Where the index lives.
#[derive(Clone, Debug)]
pub enum IndexStore {
    /// In the directory `index` of the volume.
    Rocks(RocksKvConfig),
    /// In memory, for the simulator.
    Memory(MemKvStore),
}

/// Settings of one volume.
#[derive(Clone, Debug)]
pub struct VolumeConfig {
    /// Length of a preallocated segment file in bytes; a multiple of 4096. On a small disk, or one
    /// that is nearly full, segments are shorter.
    pub segment_bytes: u64,
    /// Longest chunk in bytes, at most 64 MiB; its record must fit into an empty segment. Shorter
    /// if the disk makes segments shorter.
    pub max_chunk_bytes: u64,
    /// Bytes of the disk that segments may take; `None`: until the file system is full.
    ///
    /// New chunks are refused at 95 % of it and of the file system; deletes and compaction may use the rest.
    pub capacity_bytes: Option<u64>,
    /// Sealed segments of which less than this percentage is live are compacted.
    pub compact_below_percent: u64,
    /// Where the index lives.
    pub index: IndexStore,
}

impl VolumeConfig {
    /// 1 GiB segments, 64 MiB chunks, compaction below 60 % live.
    #[must_use]
    pub fn new(index: IndexStore) -> Self {
        Self {
            segment_bytes: 1 << 30,
            max_chunk_bytes: format::MAX_CHUNK_BYTES,
            capacity_bytes: None,
            compact_below_percent: 60,
            index,
        }
    }

    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        let record = format::record_len(self.max_chunk_bytes);
        let fixed = format::ALIGNMENT + housekeeping_bytes(self.segment_bytes);
        let fits = record + fixed <= self.segment_bytes;
        let aligned = self.segment_bytes.is_multiple_of(format::ALIGNMENT);
        if !fits || !aligned || self.max_chunk_bytes > format::MAX_CHUNK_BYTES {
            return Err(InvalidConfig {
                segment_bytes: self.segment_bytes,
                max_chunk_bytes: self.max_chunk_bytes,
            });
        }
        Ok(())
    }
}

impl VolumeConfig {
    /// These settings on a disk of `disk_bytes`.
    pub(crate) fn on_disk(&self, disk_bytes: u64) -> Self {
        let mut fitted = self.clone();
        let bytes = self.capacity_bytes.unwrap_or(u64::MAX).min(disk_bytes);
        fitted.segment_bytes = room::suited(bytes, self.segment_bytes);
        if fitted.segment_bytes < self.segment_bytes {
            // A chunk reserves its longest length first, which must not eat up a small disk.
            fitted.max_chunk_bytes = self.max_chunk_bytes.min(fitted.segment_bytes / 4);
        }
        fitted
    }
}

/// Sizes that do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "segments of {segment_bytes} bytes cannot hold chunks of {max_chunk_bytes} bytes: segments \
     are multiples of 4096, chunks at most 64 MiB, and a record must fit into an empty segment"
)]
pub struct InvalidConfig {
    /// Configured segment length.
    pub segment_bytes: u64,
    /// Configured chunk length.
    pub max_chunk_bytes: u64,
}
