//! The bytes of a record: fixed header, table of block checksums, footer.
//!
//! Header and footer checksums also cover the volume, the segment and the offset, so bytes that
//! were copied, misdirected or left over from elsewhere never pass for a record.

use crate::segment::SegmentId;
use crc_fast::{CrcAlgorithm, Digest};
use floeberg_types::ChunkId;

/// Records start at multiples of this.
pub(crate) const ALIGNMENT: u64 = 4096;
/// Bytes of a record header.
pub(crate) const HEADER_LEN: usize = 64;
/// Bytes of a record footer.
pub(crate) const FOOTER_LEN: usize = 96;
/// Bytes under one checksum of the table.
pub(crate) const BLOCK_BYTES: u64 = 64 << 10;
/// Unit of streaming writes and reads.
pub(crate) const CELL_BYTES: u64 = 1 << 20;
/// Longest payload.
pub(crate) const MAX_CHUNK_BYTES: u64 = 64 << 20;
/// Profile id of a single copy.
pub(crate) const PROFILE_R1: u16 = 1;

const HEADER_MAGIC: [u8; 4] = *b"FLRC";
const FOOTER_MAGIC: [u8; 4] = *b"FLRF";
const VERSION: u8 = 1;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// The bytes of a chunk.
    Data,
    /// Chunk ids that are deleted, 16 bytes each.
    Tombstone,
    /// Space without meaning: a header only, its payload length spans the rest.
    Gap,
}

impl RecordKind {
    const fn id(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Tombstone => 2,
            Self::Gap => 3,
        }
    }

    const fn from_id(id: u8) -> Option<Self> {
        match id {
            1 => Some(Self::Data),
            2 => Some(Self::Tombstone),
            3 => Some(Self::Gap),
            _ => None,
        }
    }
}

/// Where a record stands; mixed into its checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) volume: [u8; 16],
    pub(crate) segment: SegmentId,
    pub(crate) offset: u64,
}

impl Place {
    fn crc32c(&self, bytes: &[u8]) -> u32 {
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        digest.update(&self.volume);
        digest.update(&self.segment.0.to_le_bytes());
        digest.update(&self.offset.to_le_bytes());
        digest.update(bytes);
        u32::try_from(digest.finalize()).expect("a 32-bit checksum fits")
    }
}

/// The first 64 bytes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: RecordKind,
    pub(crate) profile: u16,
    pub(crate) chunk: ChunkId,
    pub(crate) shard: u16,
    pub(crate) codec: u16,
    pub(crate) encryption_key: u32,
    pub(crate) payload_len: u64,
    /// Every record of the segment that starts below was durable or given up when this was
    /// written: damage there is corruption, above it may be the trace of a crash.
    pub(crate) settled: u64,
    pub(crate) stamp: Stamp,
}

/// The place of a record in the order of syncs, given to it just before the sync that makes it durable.
///
/// All zero in a record without one: a gap, or one that an older version wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Counts the records of a volume, from 1 on; 48 bits.
    pub(crate) sequence: u64,
    /// How many records of the same sync stand before it in that count.
    pub(crate) index: u16,
    /// Start of the record of this segment that was stamped before it; 0 if that is not known.
    pub(crate) previous: u64,
}

/// Sequence numbers have 48 bits.
pub(crate) const MAX_SEQUENCE: u64 = (1 << 48) - 1;

impl Stamp {
    /// Everything stamped with a lower number was durable, or will never be acknowledged, when this
    /// was written; 0 without a stamp.
    pub(crate) fn floor(&self) -> u64 {
        self.sequence.saturating_sub(u64::from(self.index))
    }

    fn encode(&self, out: &mut [u8]) {
        // A segment beyond 16 TiB keeps no trace of what stands further back.
        let page = u32::try_from(self.previous / ALIGNMENT).unwrap_or(0);
        out[..6].copy_from_slice(&self.sequence.to_le_bytes()[..6]);
        out[6..8].copy_from_slice(&self.index.to_le_bytes());
        out[8..12].copy_from_slice(&page.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Self {
        let mut sequence = [0; 8];
        sequence[..6].copy_from_slice(&bytes[..6]);
        Self {
            sequence: u64::from_le_bytes(sequence),
            index: u16_at(bytes, 6),
            previous: u64::from(u32_at(bytes, 8)) * ALIGNMENT,
        }
    }
}

impl Header {
    /// A header of the single-copy profile without encryption.
    pub(crate) fn plain(kind: RecordKind, chunk: ChunkId, payload_len: u64) -> Self {
        Self {
            kind,
            profile: PROFILE_R1,
            chunk,
            shard: 0,
            codec: 0,
            encryption_key: 0,
            payload_len,
            settled: 0,
            stamp: Stamp::default(),
        }
    }

    /// A header over `len` bytes of given-up space.
    pub(crate) fn gap(len: u64, settled: u64) -> Self {
        let payload = len - HEADER_LEN as u64;
        let none = ChunkId::from_bytes([0; 16]);
        Self {
            settled,
            ..Self::plain(RecordKind::Gap, none, payload)
        }
    }

    pub(crate) fn encode(&self, place: &Place) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0..4].copy_from_slice(&HEADER_MAGIC);
        out[4] = VERSION;
        out[5] = self.kind.id();
        out[6..8].copy_from_slice(&self.profile.to_le_bytes());
        out[8..24].copy_from_slice(self.chunk.as_bytes());
        out[24..26].copy_from_slice(&self.shard.to_le_bytes());
        out[26..28].copy_from_slice(&self.codec.to_le_bytes());
        out[28..32].copy_from_slice(&self.encryption_key.to_le_bytes());
        out[32..40].copy_from_slice(&self.payload_len.to_le_bytes());
        out[40..48].copy_from_slice(&self.settled.to_le_bytes());
        self.stamp.encode(&mut out[48..60]);
        let crc = place.crc32c(&out[..60]);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` unless the bytes are a header written for exactly this place.
    pub(crate) fn decode(bytes: &[u8], place: &Place) -> Option<Self> {
        let bytes: &[u8; HEADER_LEN] = bytes.get(..HEADER_LEN)?.try_into().ok()?;
        if bytes[0..4] != HEADER_MAGIC || bytes[4] != VERSION {
            return None;
        }
        if u32_at(bytes, 60) != place.crc32c(&bytes[..60]) {
            return None;
        }
        Some(Self {
            kind: RecordKind::from_id(bytes[5])?,
            profile: u16_at(bytes, 6),
            chunk: ChunkId::from_slice(&bytes[8..24])?,
            shard: u16_at(bytes, 24),
            codec: u16_at(bytes, 26),
            encryption_key: u32_at(bytes, 28),
            payload_len: u64_at(bytes, 32),
            settled: u64_at(bytes, 40),
            stamp: Stamp::decode(&bytes[48..60]),
        })
    }

    /// Bytes from this record's start to the next one's; `None` if the length is absurd.
    pub(crate) fn record_len(&self) -> Option<u64> {
        match self.kind {
            RecordKind::Gap => self.payload_len.checked_add(HEADER_LEN as u64),
            RecordKind::Data | RecordKind::Tombstone => {
                (self.payload_len <= MAX_CHUNK_BYTES).then(|| record_len(self.payload_len))
            }
        }
    }
}

/// The last bytes of a record's content, behind the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) chunk: ChunkId,
    pub(crate) payload_len: u64,
    pub(crate) blake3: [u8; 32],
    pub(crate) payload_crc: u64,
    pub(crate) table_crc: u64,
}

impl Footer {
    pub(crate) fn encode(&self, place: &Place) -> [u8; FOOTER_LEN] {
        let mut out = [0; FOOTER_LEN];
        out[0..4].copy_from_slice(&FOOTER_MAGIC);
        out[8..24].copy_from_slice(self.chunk.as_bytes());
        out[24..32].copy_from_slice(&self.payload_len.to_le_bytes());
        out[32..64].copy_from_slice(&self.blake3);
        out[64..72].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[72..80].copy_from_slice(&self.table_crc.to_le_bytes());
        let crc = place.crc32c(&out[..92]);
        out[92..96].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` unless the bytes are a footer written for the record at exactly this place.
    pub(crate) fn decode(bytes: &[u8], place: &Place) -> Option<Self> {
        let bytes: &[u8; FOOTER_LEN] = bytes.get(..FOOTER_LEN)?.try_into().ok()?;
        if bytes[0..4] != FOOTER_MAGIC || u32_at(bytes, 92) != place.crc32c(&bytes[..92]) {
            return None;
        }
        Some(Self {
            chunk: ChunkId::from_slice(&bytes[8..24])?,
            payload_len: u64_at(bytes, 24),
            blake3: bytes[32..64].try_into().ok()?,
            payload_crc: u64_at(bytes, 64),
            table_crc: u64_at(bytes, 72),
        })
    }
}

/// Bytes of the checksum table of a payload.
pub(crate) const fn table_len(payload_len: u64) -> u64 {
    payload_len.div_ceil(BLOCK_BYTES) * 8
}

/// Bytes that the record of a payload takes in its segment.
pub(crate) const fn record_len(payload_len: u64) -> u64 {
    let content = HEADER_LEN as u64 + payload_len + table_len(payload_len) + FOOTER_LEN as u64;
    content.next_multiple_of(ALIGNMENT)
}

/// CRC-64/NVME.
pub(crate) fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(out)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}

#[cfg(test)]
mod tests;
