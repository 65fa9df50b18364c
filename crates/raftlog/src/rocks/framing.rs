//! A check of RocksDB's log framing before RocksDB reads it.
//!
//! The write-ahead logs and the manifest are sequences of 32 KiB blocks of physical records:
//! masked CRC-32C of type and payload (4 bytes), payload length (2), type (1), all little
//! endian, then the payload; a record never crosses a block (RocksDB wiki, "Write Ahead Log File
//! Format"). RocksDB's own reader cannot be left alone with a damaged file: it skips the rest of
//! a block that starts with zeros, and one flipped bit that turns a record's type into a
//! recyclable one makes it loop for ever (11.8.1, found by flipping every bit).

use crate::record::crc32c;
use crate::{Corrupt, Damage, LogError};
use floeberg_env::{Disk, OpenMode};
use std::path::Path;

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
/// Full, first, middle and last: all that our options let RocksDB write.
const TYPES: std::ops::RangeInclusive<u8> = 1..=4;

/// Checks every write-ahead log in `database`, and the manifest that is current.
pub(super) fn check(disk: &dyn Disk, database: &Path) -> Result<(), LogError> {
    let io = |error: std::io::Error| LogError::engine(&error);
    let current = database.join("CURRENT");
    let mut name = [0; 64];
    let file = disk.open(&current, OpenMode::Read).map_err(io)?;
    let len = file.read_at(&mut name, 0).map_err(io)?;
    let manifest = std::str::from_utf8(&name[..len])
        .map(str::trim_end)
        .unwrap_or_default();
    for name in disk.list(database).map_err(io)? {
        let is_log = name
            .strip_suffix(".log")
            .is_some_and(|n| n.parse::<u64>().is_ok());
        if is_log || name == manifest {
            check_file(disk, &database.join(&name))?;
        }
    }
    Ok(())
}

fn check_file(disk: &dyn Disk, path: &Path) -> Result<(), LogError> {
    let io = |error: std::io::Error| LogError::engine(&error);
    let damaged = |offset: u64| {
        let file = path.display().to_string();
        LogError::from(Corrupt::store(Damage::Journal { file, offset }))
    };
    let file = disk.open(path, OpenMode::Read).map_err(io)?;
    let mut block = vec![0; BLOCK_BYTES];
    let mut start = 0;
    let mut zeros_from = None;
    loop {
        let len = file.read_at(&mut block, start).map_err(io)?;
        match (check_block(&block[..len]), zeros_from) {
            // Preallocated zeros may end a file, but nothing may follow them.
            (_, Some(zeros)) if block[..len].iter().any(|byte| *byte != 0) => {
                return Err(damaged(zeros));
            }
            (Block::Damaged(at), None) => return Err(damaged(start + at as u64)),
            (Block::ZerosFrom(at), None) => zeros_from = Some(start + at as u64),
            (Block::Whole, None) | (_, Some(_)) => {}
        }
        if len < BLOCK_BYTES {
            return Ok(());
        }
        start += len as u64;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Block {
    /// Intact records, perhaps with one cut short by the end of the file.
    Whole,
    /// Intact records, then only zeros.
    ZerosFrom(usize),
    Damaged(usize),
}

/// Checks one block, or the part of the last block that the file has.
fn check_block(block: &[u8]) -> Block {
    let mut at = 0;
    // A block's last bytes stay unused if no header fits.
    while at + HEADER_BYTES <= block.len() {
        let header = &block[at..at + HEADER_BYTES];
        let len = usize::from(u16::from_le_bytes([header[4], header[5]]));
        let end = at + HEADER_BYTES + len;
        if header.iter().all(|byte| *byte == 0) {
            let clean = block[at..].iter().all(|byte| *byte == 0);
            return if clean {
                Block::ZerosFrom(at)
            } else {
                Block::Damaged(at)
            };
        }
        if end > BLOCK_BYTES {
            return Block::Damaged(at);
        }
        if end > block.len() {
            // Cut short by the end of the file; the sync marker knows whether it was durable.
            return Block::Whole;
        }
        let stored = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let intact = stored == masked(crc32c(&[&block[at + 6..end]]));
        if !intact || !TYPES.contains(&header[6]) {
            return Block::Damaged(at);
        }
        at = end;
    }
    Block::Whole
}

/// RocksDB masks stored checksums, so that a checksum of bytes with checksums in them is sound.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use floeberg_env::MemDisk;

    fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = masked(crc32c(&[&[kind], payload])).to_le_bytes().to_vec();
        out.extend_from_slice(&u16::try_from(payload.len()).expect("short").to_le_bytes());
        out.push(kind);
        out.extend_from_slice(payload);
        out
    }

    fn check_bytes(bytes: &[u8]) -> Option<u64> {
        let (disk, path) = (MemDisk::new(), Path::new("/000001.log"));
        disk.open(path, OpenMode::Create)
            .expect("created")
            .write_at(bytes, 0)
            .expect("written");
        match check_file(&disk, path) {
            Ok(()) => None,
            Err(LogError::Corrupt(Corrupt {
                damage: Damage::Journal { offset, .. },
                ..
            })) => Some(offset),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_cut_tail_or_trailing_zeros_are_no_damage() {
        let mut log = record(1, b"whole");
        let first = log.len();
        log.extend(record(1, b"cut"));
        for len in first..=log.len() {
            assert_eq!(check_bytes(&log[..len]), None, "{len} bytes");
        }
        log.resize(3 * BLOCK_BYTES + 5, 0);
        assert_eq!(check_bytes(&log), None);
        log[2 * BLOCK_BYTES + 9] = 1;
        assert_eq!(
            check_bytes(&log),
            Some(2 * first as u64 - 2),
            "data behind zeros"
        );
    }

    #[test]
    fn every_flipped_bit_before_the_last_record_is_found() {
        let mut log = record(1, b"first");
        log.extend(record(1, b"second"));
        let checked = log.len() * 8;
        // Enough behind it that no flipped length reaches past the end of the file.
        log.extend(record(2, &vec![7; BLOCK_BYTES - log.len() - HEADER_BYTES]));
        log.extend(record(4, b"in the next block"));
        assert_eq!(check_bytes(&log), None);
        for bit in 0..checked {
            log[bit / 8] ^= 1 << (bit % 8);
            assert!(check_bytes(&log).is_some(), "bit {bit}");
            log[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_type_that_our_options_never_write_is_damage() {
        assert_eq!(check_bytes(&record(5, b"recyclable")), Some(0));
    }
}
