//! How much of a disk a volume may take, and how long its next segment is.
//!
//! A segment is preallocated, so on a small or nearly full disk a short one is made. Chunks are
//! refused at 95 % of the configured capacity and of the file system: the rest belongs to what frees
//! space again, and to the log and the rows that share the disk.

use crate::error::DiskFull;
use crate::format::ALIGNMENT;
use crate::segments::housekeeping_bytes;
use floeberg_env::DiskSpace;

/// For what space is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// New chunks: refused at 95 % of the room.
    Data,
    /// Tombstones and compaction, which free space: may use all of it.
    Housekeeping,
}

/// A new segment takes at most one part in so many of what is left.
const SHARE: u64 = 8;

/// Shorter segments are not worth their file, unless nothing longer is configured.
const DATA_MIN: u64 = 16 << 20;

/// On a disk that is full for chunks, deletes still need a place for their tombstones.
const HOUSEKEEPING_MIN: u64 = 1 << 20;

/// The longest segment that suits a disk of `bytes`; the configured length if that is shorter.
pub(crate) fn suited(bytes: u64, configured: u64) -> u64 {
    aligned_down(bytes / SHARE).max(DATA_MIN).min(configured)
}

/// What is left for new segments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    taken: u64,
    free: u64,
    data: u64,
    housekeeping: u64,
}

impl Room {
    /// `taken` bytes are segments already; they may grow to `capacity`, if there is one.
    pub(crate) fn new(space: DiskSpace, taken: u64, capacity: Option<u64>) -> Self {
        let below = |limit: u64| limit.saturating_sub(taken);
        let capacity = capacity.unwrap_or(u64::MAX);
        Self {
            taken,
            free: space.free,
            data: below(capacity / 100 * 95).min(space.free.saturating_sub(space.total / 20)),
            housekeeping: below(capacity).min(space.free),
        }
    }

    /// What is said if it is not enough.
    pub(crate) fn full(&self) -> DiskFull {
        DiskFull {
            used_bytes: self.taken,
            free_bytes: self.free,
        }
    }

    /// Length of a new segment whose first record has `record` bytes.
    pub(crate) fn segment_bytes(
        &self,
        record: u64,
        purpose: Purpose,
        longest: u64,
    ) -> Result<u64, DiskFull> {
        let (left, shortest) = match purpose {
            Purpose::Data => (self.data, DATA_MIN),
            Purpose::Housekeeping => (self.housekeeping, HOUSEKEEPING_MIN),
        };
        let least = holding(record).max(shortest.min(longest));
        if least > left {
            return Err(self.full());
        }
        Ok(aligned_down(left / SHARE).min(longest).max(least))
    }
}

/// The shortest segment that holds a record beside its head and what is kept for tombstones.
fn holding(record: u64) -> u64 {
    let needed = ALIGNMENT + record;
    let kept = housekeeping_bytes(needed + housekeeping_bytes(needed) + ALIGNMENT);
    (needed + kept).next_multiple_of(ALIGNMENT)
}

fn aligned_down(bytes: u64) -> u64 {
    bytes - bytes % ALIGNMENT
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn room(total: u64, free: u64) -> Room {
        Room::new(DiskSpace { total, free }, 0, None)
    }

    #[test]
    fn segments_are_shorter_where_less_is_left() {
        let len = |room: Room| room.segment_bytes(4096, Purpose::Data, GIB).unwrap();
        assert_eq!(len(room(1000 * GIB, 900 * GIB)), GIB);
        let left = 4000 * MIB - 200 * MIB;
        assert_eq!(len(room(4000 * MIB, 4000 * MIB)), left / 8);
        assert_eq!(len(room(100 * MIB, 60 * MIB)), 16 * MIB);
    }

    #[test]
    fn chunks_are_refused_at_95_percent_and_tombstones_at_100() {
        let (total, record) = (1000 * MIB, 4096);
        for (free, data, housekeeping) in [
            (66 * MIB, true, true),
            (65 * MIB, false, true),
            (MIB, false, true),
            (MIB - 1, false, false),
        ] {
            let allowed = |purpose| {
                let len = room(total, free).segment_bytes(record, purpose, GIB);
                assert!(len.as_ref().is_ok_and(|len| *len <= free) || len.is_err());
                len.is_ok()
            };
            assert_eq!(allowed(Purpose::Data), data, "{free} bytes free");
            assert_eq!(
                allowed(Purpose::Housekeeping),
                housekeeping,
                "{free} bytes free"
            );
        }
    }

    #[test]
    fn the_smaller_of_capacity_and_file_system_counts() {
        let space = DiskSpace {
            total: 1000 * GIB,
            free: 1000 * GIB,
        };
        let len = |taken, capacity| {
            let room = Room::new(space, taken, Some(capacity));
            room.segment_bytes(4096, Purpose::Data, GIB).ok()
        };
        assert_eq!(len(0, 100 * GIB), Some(GIB));
        assert_eq!(len(94 * GIB, 100 * GIB), Some(GIB / 8));
        assert_eq!(len(95 * GIB, 100 * GIB), None);
    }

    #[test]
    fn a_record_always_fits_into_the_segment_made_for_it() {
        for record in (1..20_000).map(|pages| pages * ALIGNMENT) {
            let len = holding(record);
            assert!(
                ALIGNMENT + record + housekeeping_bytes(len) <= len,
                "{record}"
            );
            assert_eq!(len % ALIGNMENT, 0);
        }
        let long = 64 * MIB;
        let len = room(200 * MIB, 200 * MIB).segment_bytes(long, Purpose::Data, GIB);
        assert_eq!(len.unwrap(), holding(long));
    }

    #[test]
    fn a_disk_decides_how_long_its_segments_are_at_most() {
        assert_eq!(suited(u64::MAX / 2, GIB), GIB);
        assert_eq!(suited(GIB, GIB), 128 * MIB);
        assert_eq!(suited(10 * MIB, GIB), 16 * MIB);
        assert_eq!(suited(10 * MIB, 4 * MIB), 4 * MIB);
    }
}
