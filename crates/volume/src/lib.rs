//! The volume engine of one disk: append-only segments of checksummed records.
//!
//! A chunk is written once, durable when [`ChunkWriter::finish`] returns, and read with every byte
//! verified. The index is a cache that a scan of the segments rebuilds; deletes are records in the
//! log, so a rebuilt index never resurrects data. Layout: `docs/formats/volume.md`.

mod config;
mod error;
mod format;
mod index;
mod mark;
mod reader;
mod reclaim;
mod record;
mod recovery;
mod room;
mod scan;
mod segment;
mod segments;
mod sync;
mod volume;
mod writer;

pub use config::{IndexStore, InvalidConfig, VolumeConfig};
pub use error::{
    CorruptRecord, DeleteError, DiskFull, InvalidMark, RaiseError, ReadError, ReclaimError,
    RecordPart, SegmentFailed, VolumeError, WriteError,
};
pub use mark::VolumeMark;
pub use reader::ChunkStream;
pub use reclaim::ReclaimReport;
pub use recovery::{Damage, RecoveryReport};
pub use segment::SegmentId;
pub use volume::{Volume, VolumeStats};
pub use writer::{ChunkRef, ChunkWriter};
