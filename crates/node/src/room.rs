//! How much of the disk is kept for the log and the rows.

use floeberg_env::{DiskSpace, Env};
use floeberg_http::{NoRoom, Room};
use std::path::PathBuf;

/// Changes stop at 98 % of the file system.
const SHARE: u64 = 50;

/// What the log and the rows may still have to write down for what is acknowledged: their write
/// buffers, and the log once more when it is replayed at a start.
const LEAST: u64 = 192 << 20;

/// Of a small disk, the reserve is at most this part.
const MOST_SHARE: u64 = 4;

/// Bytes of a file system that changes may not take.
const fn reserve(total: u64) -> u64 {
    let share = total / SHARE;
    let least = if LEAST < total / MOST_SHARE {
        LEAST
    } else {
        total / MOST_SHARE
    };
    if share > least { share } else { least }
}

fn check(space: DiskSpace) -> Result<(), NoRoom> {
    let reserve_bytes = reserve(space.total);
    if space.free >= reserve_bytes {
        return Ok(());
    }
    Err(NoRoom {
        free_bytes: space.free,
        reserve_bytes,
    })
}

/// The room of the file systems that hold `dirs`. One that cannot be asked is taken to have some: the
/// write itself will tell.
pub(crate) fn of(dirs: Vec<PathBuf>, env: &Env) -> Room {
    let disk = env.disk.clone();
    Room::new(move || {
        let mut spaces = dirs.iter().map(|dir| disk.space(dir));
        spaces.try_for_each(|space| space.map_or(Ok(()), check))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn small_disks_keep_a_quarter_and_large_ones_a_fiftieth() {
        assert_eq!(reserve(200 * MIB), 50 * MIB);
        assert_eq!(reserve(4096 * MIB), 192 * MIB);
        assert_eq!(reserve(100 * 1024 * MIB), 2048 * MIB);
    }

    #[test]
    fn changes_stop_when_the_reserve_is_touched() {
        let total = 4096 * MIB;
        let at = |free| check(DiskSpace { total, free });
        assert_eq!(at(192 * MIB), Ok(()));
        let full = at(192 * MIB - 1).expect_err("the reserve is touched");
        assert!(full.to_string().contains("191 MiB are free"), "{full}");
    }
}
