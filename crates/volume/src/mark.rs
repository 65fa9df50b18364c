//! How much a volume has acknowledged: the count of its records in the order of their syncs, kept in
//! their headers, so that it costs no sync of its own.
//!
//! Each record is numbered just before the sync that makes it durable. A mark is the number of the last
//! one acknowledged; a start finds it again as the end of the unbroken run of numbers on the disk. What
//! lacks a record that was acknowledged therefore has a lower mark.

use crate::error::{InvalidMark, VolumeError};
use crate::format::{ALIGNMENT, MAX_SEQUENCE, Stamp};
use floeberg_env::{Env, OpenMode, replace_file};
use floeberg_proto::floeberg::volume::v1 as proto;
use prost::Message;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// The layout of an encoded mark and of the file with the first number.
const FORMAT: u32 = 1;

/// A start skips so many numbers: more than one sync can give out, and than the syncs that failed before
/// it, so that records which a crash took away never share a number with later ones.
const SKIPPED_AT_START: u64 = 1 << 16;

/// Higher numbers are refused from outside: a volume could never count so far by itself.
const HIGHEST_KNOWN: u64 = MAX_SEQUENCE / 2;

/// What a volume has acknowledged so far, puts, deletes and compacted copies alike.
///
/// A mark given out is never above the one that the volume has after a crash. Of one volume, an older
/// copy that lacks something acknowledged has a lower mark. Marks of different volumes say nothing of each
/// other; their order is arbitrary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeMark {
    volume: [u8; 16],
    sequence: u64,
}

impl VolumeMark {
    pub(crate) fn new(volume: [u8; 16], sequence: u64) -> Self {
        Self { volume, sequence }
    }

    /// The random id of the volume.
    #[must_use]
    pub fn volume(&self) -> [u8; 16] {
        self.volume
    }

    /// The number of the last record that was acknowledged; 0 before the first.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether a volume with this mark lacks something that `known` says it acknowledged.
    #[must_use]
    pub fn lacks(&self, known: &Self) -> bool {
        self.volume == known.volume && self.sequence < known.sequence
    }

    /// As a message that others keep.
    #[must_use]
    pub fn to_message(&self) -> proto::VolumeMark {
        proto::VolumeMark {
            format: FORMAT,
            volume_id: self.volume.to_vec().into(),
            sequence: self.sequence,
        }
    }

    /// The mark that a message holds.
    ///
    /// # Errors
    /// If its format is not known or its parts are not a mark's.
    pub fn from_message(message: &proto::VolumeMark) -> Result<Self, InvalidMark> {
        if message.format != FORMAT {
            return Err(InvalidMark::Format(message.format));
        }
        let volume = message.volume_id[..].try_into();
        let volume = volume.map_err(|_| InvalidMark::Volume(message.volume_id.len()))?;
        if message.sequence > HIGHEST_KNOWN {
            return Err(InvalidMark::Sequence(message.sequence));
        }
        Ok(Self::new(volume, message.sequence))
    }
}

/// The numbers of a volume that is open.
pub(crate) struct Numbers {
    next: AtomicU64,
    acknowledged: AtomicU64,
}

impl Numbers {
    /// Takes `count` numbers; the first of them.
    pub(crate) fn take(&self, count: u64) -> u64 {
        self.next.fetch_add(count, Ordering::Relaxed)
    }

    /// Everything up to `sequence` is durable or will never be acknowledged.
    pub(crate) fn acknowledge(&self, sequence: u64) {
        self.acknowledged.fetch_max(sequence, Ordering::Release);
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Later numbers are above `sequence`.
    pub(crate) fn skip_beyond(&self, sequence: u64) {
        self.next.fetch_max(sequence + 1, Ordering::Relaxed);
    }
}

/// What the records on the disk say about their order.
#[derive(Debug)]
pub(crate) struct Found {
    /// Everything numbered below was durable or was never acknowledged.
    floor: u64,
    /// The highest number of any header.
    seen: u64,
    /// Numbers at or above the floor whose records are whole: those of one sync, as a rule.
    whole: BTreeSet<u64>,
}

impl Found {
    /// Begins with the highest number of which the index knows.
    pub(crate) fn new(indexed: u64) -> Self {
        Self {
            floor: indexed + 1,
            seen: indexed,
            whole: BTreeSet::new(),
        }
    }

    /// A header that can be read, whatever became of its record.
    pub(crate) fn header(&mut self, stamp: &Stamp) {
        self.seen = self.seen.max(stamp.sequence);
        if stamp.floor() > self.floor {
            self.floor = stamp.floor();
            self.whole = self.whole.split_off(&self.floor);
        }
    }

    /// A record that is as it was written.
    pub(crate) fn whole(&mut self, stamp: &Stamp) {
        if stamp.sequence >= self.floor {
            self.whole.insert(stamp.sequence);
        }
    }

    /// The end of the unbroken run.
    fn acknowledged(&self) -> u64 {
        let run = (self.floor..).take_while(|number| self.whole.contains(number));
        run.last().unwrap_or(self.floor - 1)
    }

    /// Goes on in a new life of the volume in `dir`. The first number is kept durably, because a copy made
    /// in a life that ended without an acknowledgement may hold records of it.
    pub(crate) fn begin_life(&self, env: &Env, dir: &Path) -> Result<Numbers, VolumeError> {
        let path = dir.join("NUMBERS");
        let first = self.seen.max(kept(env, &path)?) + SKIPPED_AT_START;
        let file = proto::NumbersFile {
            format: FORMAT,
            first,
        };
        let bytes = file.encode_to_vec();
        match replace_file(&*env.disk, &path, &bytes, OpenMode::CreateNew) {
            Ok(()) => {}
            // A full disk must not keep what is stored from being read and deleted.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::info!(path = %path.display(), "not kept, because the disk is full");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Numbers {
            next: AtomicU64::new(first),
            acknowledged: AtomicU64::new(self.acknowledged()),
        })
    }
}

/// The first number of the last life; 0 if there is none that can be read.
fn kept(env: &Env, path: &Path) -> Result<u64, VolumeError> {
    if !env.disk.exists(path) {
        return Ok(0);
    }
    let file = env.disk.open(path, OpenMode::Read)?;
    let mut bytes = vec![0; usize::try_from(file.len()?.min(ALIGNMENT)).unwrap_or(0)];
    file.read_at(&mut bytes, 0)?;
    let file = proto::NumbersFile::decode(&bytes[..]).unwrap_or_default();
    Ok(file.first.min(MAX_SEQUENCE / 2))
}

#[cfg(test)]
mod tests;
