//! What a metadata file takes in memory, held before it does.
//!
//! The text is there up to four times while it is taken apart (as it was read, as members of the
//! document, as items of its lists, as parts of the table), and each value costs something beside its
//! text: a file of tiny members becomes thirty times as large.

use floeberg_env::{ByteBudget, Shares};
use floeberg_types::limits::{
    METADATA_FILE_BYTES, METADATA_FILE_COPIES, METADATA_FILE_VALUE_BYTES, METADATA_FILE_VALUES,
    METADATA_FILES_HELD_BYTES,
};
use std::io::Read as _;

/// What the largest file with the most values takes.
const LARGEST: u64 = weight(METADATA_FILE_BYTES as u64, METADATA_FILE_VALUES as u64);

/// Bytes of a value in a document as engines write them, separator and member name included. A file
/// with fewer takes more than was expected of it, and waits a second time.
const USUAL_VALUE: u64 = 32;

/// Bytes that are looked at in one go while a packed file is measured.
const BLOCK: usize = 64 << 10;

const fn weight(bytes: u64, values: u64) -> u64 {
    bytes * METADATA_FILE_COPIES as u64 + values * METADATA_FILE_VALUE_BYTES as u64
}

/// What a node has for metadata files that are read for clients.
pub(crate) fn budget() -> ByteBudget {
    ByteBudget::new(Shares::of(METADATA_FILES_HELD_BYTES as u64, LARGEST))
}

/// What a file of `len` bytes takes as far as anybody can say who has not read it.
pub(super) fn expected(len: u64) -> u64 {
    weight(len, len / USUAL_VALUE).min(LARGEST)
}

/// What a file consists of, unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) bytes: usize,
    values: usize,
}

impl Measured {
    /// Measures a file without keeping anything of it.
    pub(super) fn of(file: &[u8], is_packed: bool) -> Result<Self, String> {
        let mut measured = Self::default();
        if !is_packed {
            measured.count(file)?;
            return Ok(measured);
        }
        let mut reader = flate2::read::GzDecoder::new(file);
        let mut block = vec![0; BLOCK];
        loop {
            let read = reader.read(&mut block);
            match read.map_err(|e| format!("not a gzip file: {e}"))? {
                0 => return Ok(measured),
                read => measured.count(&block[..read])?,
            }
        }
    }

    fn count(&mut self, text: &[u8]) -> Result<(), String> {
        self.bytes += text.len();
        if self.bytes > METADATA_FILE_BYTES {
            return Err(format!(
                "it unpacks to more than {METADATA_FILE_BYTES} bytes; expire snapshots or remove old \
                 schemas first"
            ));
        }
        self.values += text.iter().filter(|byte| **byte == b',').count();
        if self.values > METADATA_FILE_VALUES {
            return Err(format!(
                "it has more than {METADATA_FILE_VALUES} values; expire snapshots or remove old \
                 schemas first"
            ));
        }
        Ok(())
    }

    pub(super) fn weight(self) -> u64 {
        weight(self.bytes as u64, self.values as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut packing = GzEncoder::new(Vec::new(), Compression::fast());
        packing.write_all(text).unwrap();
        packing.finish().unwrap()
    }

    #[test]
    fn a_packed_file_counts_as_what_it_unpacks_to() {
        let text = "{},".repeat(100_000).into_bytes();
        let plain = Measured::of(&text, false).unwrap();
        assert_eq!((plain.bytes, plain.values), (300_000, 100_000));
        assert_eq!(Measured::of(&packed(&text), true).unwrap(), plain);
        assert_eq!(plain.weight(), 4 * 300_000 + 100_000 * 320);
        let long = vec![b' '; METADATA_FILE_BYTES + 1];
        let refused = Measured::of(&packed(&long), true).unwrap_err();
        assert!(refused.contains("33554432"), "{refused}");
        Measured::of(b"{}", true).unwrap_err();
    }

    #[test]
    fn the_largest_file_is_expected_to_fit_and_does() {
        let largest = METADATA_FILE_BYTES as u64;
        assert_eq!(expected(largest), LARGEST);
        assert_eq!(expected(0), 0);
        let shares = budget().shares();
        assert!(LARGEST <= shares.connection && LARGEST <= shares.network);
        assert!(LARGEST <= shares.total - shares.reserve);
    }
}
