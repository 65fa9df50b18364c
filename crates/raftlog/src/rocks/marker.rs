//! The sync marker: a small file beside the database that says how far it was synced.
//!
//! Written after every sync of the database and before anyone is told, so whatever it says is
//! true; at worst it lags. A killed process leaves it exact. It is synced itself now and then
//! and on idle, so that after a power loss it is at most a few batches old. Two slots are
//! written in turn: a write torn by a power loss leaves the other one.

use crate::record::crc32c;
use floeberg_env::{Disk, DiskFile, OpenMode};
use std::io;
use std::path::Path;
use std::sync::Arc;

const MAGIC: [u8; 4] = *b"FBSM";
const FORMAT: u32 = 1;
const SLOT_BYTES: usize = 36;
/// The slots lie in different blocks of the disk.
const SLOT_STRIDE: u64 = 4096;
/// Syncs of the database between two of the marker: below 2 % of extra syncs.
const RECORDS_PER_SYNC: u32 = 64;

/// How far the database is known to be durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// RocksDB's sequence number.
    pub(super) sequence: u64,
    /// Votes saved by all groups together.
    pub(super) votes: u64,
}

/// The open marker file.
pub(super) struct SyncMarker {
    file: Arc<dyn DiskFile>,
    generation: u64,
    unsynced: u32,
}

fn encode(generation: u64, position: Position) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..4].copy_from_slice(&MAGIC);
    slot[4..8].copy_from_slice(&FORMAT.to_be_bytes());
    slot[8..16].copy_from_slice(&generation.to_be_bytes());
    slot[16..24].copy_from_slice(&position.sequence.to_be_bytes());
    slot[24..32].copy_from_slice(&position.votes.to_be_bytes());
    let crc = crc32c(&[&slot[..32]]);
    slot[32..].copy_from_slice(&crc.to_be_bytes());
    slot
}

fn decode(slot: &[u8; SLOT_BYTES]) -> Option<(u64, Position)> {
    let long = |at: usize| slot[at..at + 8].try_into().map(u64::from_be_bytes).ok();
    let (generation, sequence, votes) = (long(8)?, long(16)?, long(24)?);
    let position = Position { sequence, votes };
    // Encoding again compares magic, format and checksum at once.
    (encode(generation, position) == *slot).then_some((generation, position))
}

impl SyncMarker {
    /// A durable marker at position zero.
    pub(super) fn create(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let file = disk.open(path, OpenMode::CreateNew)?;
        file.allocate(2 * SLOT_STRIDE)?;
        let mut marker = Self {
            file,
            generation: 0,
            unsynced: 0,
        };
        marker.record(Position::default())?;
        marker.record(Position::default())?;
        marker.sync()?;
        disk.sync_dir(path.parent().unwrap_or(Path::new("/")))?;
        Ok(marker)
    }

    /// Opens the marker; `None` if neither slot can be trusted.
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> io::Result<Option<(Self, Position)>> {
        let file = disk.open(path, OpenMode::ReadWrite)?;
        let mut newest: Option<(u64, Position)> = None;
        for offset in [0, SLOT_STRIDE] {
            let mut slot = [0; SLOT_BYTES];
            file.read_at(&mut slot, offset)?;
            newest = newest.max_by_generation(decode(&slot));
        }
        Ok(newest.map(|(generation, position)| {
            (
                Self {
                    file,
                    generation,
                    unsynced: 0,
                },
                position,
            )
        }))
    }

    /// Notes that the database is durable up to `position`.
    pub(super) fn record(&mut self, position: Position) -> io::Result<()> {
        self.generation += 1;
        let offset = (self.generation % 2) * SLOT_STRIDE;
        self.file
            .write_at(&encode(self.generation, position), offset)?;
        self.unsynced += 1;
        if self.unsynced >= RECORDS_PER_SYNC {
            self.sync()
        } else {
            Ok(())
        }
    }

    /// Makes the marker itself durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.unsynced > 0 {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }
}

trait Newest {
    fn max_by_generation(self, other: Self) -> Self;
}

impl Newest for Option<(u64, Position)> {
    fn max_by_generation(self, other: Self) -> Self {
        match (self, other) {
            (Some(a), Some(b)) => Some(if b.0 > a.0 { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use floeberg_env::MemDisk;

    fn position(n: u64) -> Position {
        Position {
            sequence: n,
            votes: n / 2,
        }
    }

    #[test]
    fn a_damaged_slot_leaves_the_one_before() {
        let (disk, path) = (MemDisk::new(), Path::new("/synced"));
        let mut marker = SyncMarker::create(&disk, path).expect("created");
        for n in 1..=5 {
            marker.record(position(n)).expect("recorded");
        }
        let reopen = || {
            SyncMarker::open(&disk, path)
                .expect("read")
                .map(|(_, at)| at)
        };
        assert_eq!(reopen(), Some(position(5)));
        // Generation 7 holds position 5: two records were written at creation.
        disk.flip_bit(path, SLOT_STRIDE + 20, 3).expect("flipped");
        assert_eq!(reopen(), Some(position(4)));
        disk.flip_bit(path, 20, 3).expect("flipped");
        assert_eq!(reopen(), None);
    }

    #[test]
    fn a_new_marker_survives_a_power_loss() {
        let (env, control) = floeberg_env::Env::simulated(1);
        let path = Path::new("/synced");
        let mut marker = SyncMarker::create(env.disk.as_ref(), path).expect("created");
        marker.record(position(3)).expect("recorded");
        control.crash_disk(floeberg_env::UnsyncedData::Lost);
        let (_, at) = SyncMarker::open(env.disk.as_ref(), path)
            .expect("read")
            .expect("valid");
        assert_eq!(at, Position::default());
    }
}
