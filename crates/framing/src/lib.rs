//! A check of RocksDB's log framing before RocksDB reads it.
//!
//! The write-ahead logs and the manifest are sequences of 32 KiB blocks of physical records:
//! masked CRC-32C of type and payload (4 bytes), payload length (2), type (1), all little
//! endian, then the payload; a record never crosses a block (RocksDB wiki, "Write Ahead Log File
//! Format"). RocksDB's own reader cannot be left alone with a damaged file: it skips the rest of
//! a block that starts with zeros, and one flipped bit that turns a record's type into a
//! recyclable one makes it loop for ever (11.8.1, found by flipping every bit).

use crc_fast::{CrcAlgorithm, checksum};
use std::io;

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
/// Full, first, middle and last: all that our options let RocksDB write.
const TYPES: std::ops::RangeInclusive<u8> = 1..=4;

/// Fills a buffer from an offset of a file, and says how much of it the file has.
pub type ReadAt = Box<dyn FnMut(&mut [u8], u64) -> io::Result<usize>>;

/// The first damaged record of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The name of its file.
    pub file: String,
    /// Where it starts.
    pub offset: u64,
}

/// Checks every write-ahead log among the files of a database, and the manifest that is current.
///
/// A record that the end of a file cuts short is no damage: what was written last may be lost. In
/// a manifest it is, if a shorter length would make it whole: then the length was damaged, and
/// RocksDB would drop this record and all behind it. For the write-ahead log that is the caller's
/// to find, who knows what was durable.
///
/// # Errors
/// If a file cannot be read.
pub fn first_damage(
    names: &[String],
    open: &dyn Fn(&str) -> io::Result<ReadAt>,
) -> io::Result<Option<Damage>> {
    let mut current = [0; 64];
    let len = open("CURRENT")?(&mut current, 0)?;
    let manifest = std::str::from_utf8(&current[..len])
        .map(str::trim_end)
        .unwrap_or_default();
    for name in names {
        let is_log = name
            .strip_suffix(".log")
            .is_some_and(|number| number.parse::<u64>().is_ok());
        let kind = match name {
            name if name == manifest => Kind::Manifest,
            _ if is_log => Kind::Log,
            _ => continue,
        };
        if let Some(offset) = damaged_at(&mut open(name)?, kind)? {
            let file = name.clone();
            return Ok(Some(Damage { file, offset }));
        }
    }
    Ok(None)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Log,
    Manifest,
}

/// Where the first damaged record of a file starts.
fn damaged_at(read: &mut ReadAt, kind: Kind) -> io::Result<Option<u64>> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut start = 0;
    let mut zeros_from = None;
    loop {
        let len = read(&mut block, start)?;
        match (check_block(&block[..len]), zeros_from) {
            // Preallocated zeros may end a file, but nothing may follow them.
            (_, Some(zeros)) if block[..len].iter().any(|byte| *byte != 0) => {
                return Ok(Some(zeros));
            }
            (Block::Damaged(at), None) => return Ok(Some(start + at as u64)),
            (Block::CutAt(at), None) if kind == Kind::Manifest && is_too_long(&block[at..len]) => {
                return Ok(Some(start + at as u64));
            }
            (Block::ZerosFrom(at), None) => zeros_from = Some(start + at as u64),
            (Block::Whole | Block::CutAt(_), None) | (_, Some(_)) => {}
        }
        if len < BLOCK_BYTES {
            return Ok(None);
        }
        start += len as u64;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Block {
    /// Intact records, perhaps with a header cut short by the end of the file.
    Whole,
    /// Intact records, then one that announces more than the file has.
    CutAt(usize),
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
            return Block::CutAt(at);
        }
        if !matches_checksum(&block[at..end]) || !TYPES.contains(&header[6]) {
            return Block::Damaged(at);
        }
        at = end;
    }
    Block::Whole
}

/// Whether the record's checksum is right for its first bytes, so that only its length is wrong.
fn is_too_long(record: &[u8]) -> bool {
    (HEADER_BYTES..=record.len()).any(|end| matches_checksum(&record[..end]))
}

fn matches_checksum(record: &[u8]) -> bool {
    let stored = u32::from_le_bytes([record[0], record[1], record[2], record[3]]);
    stored == masked_crc(&record[6..])
}

/// RocksDB masks stored checksums, so that a checksum of bytes with checksums in them is sound.
fn masked_crc(bytes: &[u8]) -> u32 {
    let crc = checksum(CrcAlgorithm::Crc32Iscsi, bytes);
    let crc = u32::try_from(crc).expect("a CRC-32 has 32 bits");
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let typed = [&[kind], payload].concat();
        let mut out = masked_crc(&typed).to_le_bytes().to_vec();
        out.extend_from_slice(&u16::try_from(payload.len()).expect("short").to_le_bytes());
        out.extend(typed);
        out
    }

    fn reader(bytes: Vec<u8>) -> ReadAt {
        Box::new(move |out, from| {
            let from = usize::try_from(from).expect("small").min(bytes.len());
            let len = out.len().min(bytes.len() - from);
            out[..len].copy_from_slice(&bytes[from..from + len]);
            Ok(len)
        })
    }

    fn check_as(kind: Kind, bytes: &[u8]) -> Option<u64> {
        damaged_at(&mut reader(bytes.to_vec()), kind).expect("memory can be read")
    }

    fn check(bytes: &[u8]) -> Option<u64> {
        check_as(Kind::Log, bytes)
    }

    #[test]
    fn a_cut_tail_or_trailing_zeros_are_no_damage() {
        let mut log = record(1, b"whole");
        let first = log.len();
        log.extend(record(1, b"cut"));
        for len in first..=log.len() {
            for kind in [Kind::Log, Kind::Manifest] {
                assert_eq!(
                    check_as(kind, &log[..len]),
                    None,
                    "{len} bytes of a {kind:?}"
                );
            }
        }
        log.resize(3 * BLOCK_BYTES + 5, 0);
        assert_eq!(check(&log), None);
        log[2 * BLOCK_BYTES + 9] = 1;
        assert_eq!(check(&log), Some(2 * first as u64 - 2), "data behind zeros");
    }

    #[test]
    fn every_flipped_bit_before_the_last_record_is_found() {
        let mut log = record(1, b"first");
        log.extend(record(1, b"second"));
        let checked = log.len() * 8;
        // Enough behind it that no flipped length reaches past the end of the file.
        log.extend(record(2, &vec![7; BLOCK_BYTES - log.len() - HEADER_BYTES]));
        log.extend(record(4, b"in the next block"));
        assert_eq!(check(&log), None);
        for bit in 0..checked {
            log[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&log).is_some(), "bit {bit}");
            log[bit / 8] ^= 1 << (bit % 8);
        }
    }

    /// Also a length that reaches past the end of the file, which a write-ahead log may have.
    #[test]
    fn every_flipped_bit_of_a_manifest_is_found() {
        let mut manifest = record(1, b"first");
        manifest.extend(record(1, b""));
        manifest.extend(record(1, b"last"));
        assert_eq!(check_as(Kind::Manifest, &manifest), None);
        for bit in 0..manifest.len() * 8 {
            manifest[bit / 8] ^= 1 << (bit % 8);
            assert!(check_as(Kind::Manifest, &manifest).is_some(), "bit {bit}");
            manifest[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_type_that_our_options_never_write_is_damage() {
        assert_eq!(check(&record(5, b"recyclable")), Some(0));
    }

    #[test]
    fn the_checksum_is_rocksdbs() {
        // CRC-32C of "123456789" is 0xe3069283 (RFC 3720); masked as RocksDB's crc32c.h does it.
        assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
    }

    #[test]
    fn logs_and_the_current_manifest_are_checked_and_nothing_else() {
        let (whole, broken) = (record(1, b"x"), record(9, b"x"));
        let mut files = BTreeMap::from([
            ("CURRENT", b"MANIFEST-000005\n".to_vec()),
            ("MANIFEST-000001", broken.clone()),
            ("MANIFEST-000005", whole.clone()),
            ("LOG", broken.clone()),
            ("000003.sst", broken.clone()),
            ("000004.log", whole),
        ]);
        let run = |files: &BTreeMap<&str, Vec<u8>>| {
            let names: Vec<String> = files.keys().map(|name| (*name).to_owned()).collect();
            let open = |name: &str| Ok(reader(files[name].clone()));
            first_damage(&names, &open).expect("memory can be read")
        };
        assert_eq!(run(&files), None);
        for file in ["000004.log", "MANIFEST-000005"] {
            let good = files.insert(file, broken.clone()).expect("was there");
            let damage = Damage {
                file: file.to_owned(),
                offset: 0,
            };
            assert_eq!(run(&files), Some(damage));
            files.insert(file, good);
        }
    }
}
