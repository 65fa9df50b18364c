//! What can go wrong, one enum per operation.

use crate::config::InvalidConfig;
use crate::segment::SegmentId;
use floeberg_kv::KvError;
use floeberg_types::ChunkId;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// Why a volume did not open.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// Another process holds the directory.
    #[error("the volume directory {} is in use by another process", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory does not hold a volume this version can read.
    #[error("{} is not a volume descriptor of a known format", path.display())]
    Descriptor {
        /// The file.
        path: PathBuf,
    },
    /// A segment belongs to another volume.
    #[error("segment {segment} belongs to another volume")]
    ForeignSegment {
        /// The segment.
        segment: SegmentId,
    },
    /// The disk failed.
    #[error("disk error while opening the volume: {0}")]
    Io(#[from] io::Error),
    /// The index failed.
    #[error("index error while opening the volume: {0}")]
    Index(#[from] KvError),
    /// The runtime shut down underneath.
    #[error("the runtime stopped while the volume was opening")]
    Stopped,
}

/// The disk has no room for more chunks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the volume is full: its segments take {} MiB, {} MiB of the file system are free and the last \
     5 % are kept for deletes: delete objects, raise `limits.volume_capacity` if that is what it has reached, or \
     give the volume a larger disk",
    used_bytes >> 20,
    free_bytes >> 20
)]
pub struct DiskFull {
    /// Bytes that segments take.
    pub used_bytes: u64,
    /// Bytes of the file system that are free.
    pub free_bytes: u64,
}

/// A segment whose write or sync failed; it takes no more records and is never synced again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("segment {segment} failed: {cause}")]
pub struct SegmentFailed {
    /// The segment.
    pub segment: SegmentId,
    /// The error of the first failed operation.
    pub cause: String,
}

/// Why a chunk was not stored. The chunk is not readable afterwards.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// More bytes than announced or than a chunk may hold.
    #[error("the chunk grew beyond {limit} bytes")]
    TooLong {
        /// The limit.
        limit: u64,
    },
    /// Fewer bytes than announced.
    #[error("the chunk has {received} bytes instead of the announced {announced}")]
    TooShort {
        /// Announced length.
        announced: u64,
        /// Received length.
        received: u64,
    },
    /// No room.
    #[error(transparent)]
    DiskFull(#[from] DiskFull),
    /// Writing or syncing failed: after a restart the chunk may or may not exist.
    #[error(transparent)]
    SegmentFailed(#[from] SegmentFailed),
    /// The disk failed before anything of the chunk was stored.
    #[error("disk error: {0}")]
    Io(#[from] io::Error),
    /// The index failed after the chunk became durable.
    #[error("index error: {0}")]
    Index(#[from] KvError),
    /// The volume was closed.
    #[error("the volume is closed")]
    Closed,
}

/// Why a message is not the mark of a volume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMark {
    /// Written by something newer.
    #[error("the mark of a volume has format {0}, this version knows format 1")]
    Format(u32),
    /// No id of a volume.
    #[error("the mark of a volume names a volume of {0} bytes instead of 16")]
    Volume(usize),
    /// No volume counts so far.
    #[error("the mark of a volume has the number {0}, which no volume reaches")]
    Sequence(u64),
}

/// Why a volume's mark was not raised.
#[derive(Debug, thiserror::Error)]
pub enum RaiseError {
    /// The mark is another volume's.
    #[error("the mark belongs to another volume")]
    Foreign,
    /// The record that carries it was not written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Which part of a record is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordPart {
    /// The fixed header.
    Header,
    /// A 64 KiB block of the payload.
    Payload {
        /// Number of the block in the chunk.
        block: u64,
    },
    /// The table of block checksums.
    Table,
    /// The footer.
    Footer,
}

impl fmt::Display for RecordPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("header"),
            Self::Payload { block } => write!(f, "payload block {block}"),
            Self::Table => f.write_str("checksum table"),
            Self::Footer => f.write_str("footer"),
        }
    }
}

/// Stored bytes that are not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("chunk {chunk} is damaged on disk: {part} at segment {segment}, offset {offset}")]
pub struct CorruptRecord {
    /// The chunk.
    pub chunk: ChunkId,
    /// Its segment.
    pub segment: SegmentId,
    /// Offset of the record in the segment.
    pub offset: u64,
    /// Where the damage is.
    pub part: RecordPart,
}

/// Why bytes were not read. No byte of a damaged block is ever returned.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Never written, or deleted.
    #[error("chunk {chunk} does not exist")]
    NotFound {
        /// The chunk.
        chunk: ChunkId,
    },
    /// The range ends beyond the chunk.
    #[error("range {range:?} lies outside the chunk of {len} bytes")]
    OutOfRange {
        /// Requested range.
        range: Range<u64>,
        /// Length of the chunk.
        len: u64,
    },
    /// A checksum did not match.
    #[error(transparent)]
    Corrupt(#[from] CorruptRecord),
    /// The file of the chunk's segment is gone.
    #[error("chunk {chunk} is lost: the file of segment {segment} is missing")]
    SegmentMissing {
        /// The chunk.
        chunk: ChunkId,
        /// Its segment.
        segment: SegmentId,
    },
    /// The disk failed.
    #[error("disk error: {0}")]
    Io(#[from] io::Error),
    /// The index failed.
    #[error("index error: {0}")]
    Index(#[from] KvError),
    /// The runtime shut down underneath.
    #[error("the runtime stopped while reading")]
    Stopped,
}

/// Why a delete did not become durable.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The tombstone was not written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The index failed.
    #[error("index error: {0}")]
    Index(#[from] KvError),
}

/// Why a reclaim pass stopped; what it freed before stays freed.
#[derive(Debug, thiserror::Error)]
pub enum ReclaimError {
    /// A copy or tombstone was not written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The index failed.
    #[error("index error: {0}")]
    Index(#[from] KvError),
    /// Removing a file failed.
    #[error("disk error: {0}")]
    Io(#[from] io::Error),
    /// The runtime shut down underneath.
    #[error("the runtime stopped while reclaiming")]
    Stopped,
}
