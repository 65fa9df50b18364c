//! Building the checksums of a record while its payload streams by, and verifying one on disk.

use crate::error::{CorruptRecord, ReadError, RecordPart};
use crate::format::{
    BLOCK_BYTES, FOOTER_LEN, Footer, HEADER_LEN, Header, Place, RecordKind, crc64, table_len,
    u64_at,
};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use floeberg_env::DiskFile;
use floeberg_types::ChunkId;
use std::io;
use std::ops::Range;

/// Checksums of a payload that arrives in pieces.
pub(crate) struct RecordHasher {
    blake3: blake3::Hasher,
    payload: Digest,
    block: Digest,
    block_filled: u64,
    table: Vec<u8>,
    len: u64,
}

/// The end of a record: table and footer, and the checksum of the payload.
pub(crate) struct Trailer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) payload_crc: u64,
}

impl RecordHasher {
    pub(crate) fn new() -> Self {
        Self {
            blake3: blake3::Hasher::new(),
            payload: Digest::new(CrcAlgorithm::Crc64Nvme),
            block: Digest::new(CrcAlgorithm::Crc64Nvme),
            block_filled: 0,
            table: Vec::new(),
            len: 0,
        }
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        self.blake3.update(bytes);
        self.payload.update(bytes);
        self.len += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = usize::try_from(BLOCK_BYTES - self.block_filled).expect("a block is small");
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.update(now);
            self.block_filled += now.len() as u64;
            if self.block_filled == BLOCK_BYTES {
                self.close_block();
            }
            bytes = later;
        }
    }

    fn close_block(&mut self) {
        let crc = self.block.finalize_reset();
        self.table.extend_from_slice(&crc.to_le_bytes());
        self.block_filled = 0;
    }

    /// Bytes hashed so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether the payload is the one a footer was written for.
    pub(crate) fn matches(&self, footer: &Footer) -> bool {
        self.len == footer.payload_len
            && self.payload.finalize() == footer.payload_crc
            && *self.blake3.finalize().as_bytes() == footer.blake3
    }

    /// Table and footer of the record at `place`.
    pub(crate) fn finish(mut self, chunk: ChunkId, place: &Place) -> Trailer {
        if self.block_filled > 0 {
            self.close_block();
        }
        let payload_crc = self.payload.finalize();
        let footer = Footer {
            chunk,
            payload_len: self.len,
            blake3: *self.blake3.finalize().as_bytes(),
            payload_crc,
            table_crc: crc64(&self.table),
        };
        self.table.extend_from_slice(&footer.encode(place));
        Trailer {
            bytes: self.table,
            payload_crc,
        }
    }
}

/// A record on disk whose header, table and footer have been verified.
pub(crate) struct VerifiedRecord {
    pub(crate) place: Place,
    pub(crate) chunk: ChunkId,
    pub(crate) payload_len: u64,
    pub(crate) footer: Footer,
    table: Vec<u8>,
}

impl VerifiedRecord {
    /// Reads and verifies everything but the payload.
    pub(crate) fn open(
        file: &dyn DiskFile,
        place: Place,
        chunk: ChunkId,
        payload_len: u64,
    ) -> Result<Self, ReadError> {
        let corrupt = |part| corrupt(chunk, &place, part);
        let mut header = [0; HEADER_LEN];
        let read = file.read_at(&mut header, place.offset)?;
        let header = Header::decode(&header[..read], &place);
        let expected = |h: &Header| h.chunk == chunk && h.payload_len == payload_len;
        if !header.is_some_and(|h| h.kind != RecordKind::Gap && expected(&h)) {
            return Err(corrupt(RecordPart::Header).into());
        }
        let table_len = usize::try_from(table_len(payload_len)).map_err(io::Error::other)?;
        let mut table = vec![0; table_len + FOOTER_LEN];
        let at = place.offset + HEADER_LEN as u64 + payload_len;
        if file.read_at(&mut table, at)? < table.len() {
            return Err(corrupt(RecordPart::Footer).into());
        }
        let footer = Footer::decode(&table[table_len..], &place)
            .filter(|f| f.chunk == chunk && f.payload_len == payload_len)
            .ok_or_else(|| corrupt(RecordPart::Footer))?;
        table.truncate(table_len);
        if crc64(&table) != footer.table_crc {
            return Err(corrupt(RecordPart::Table).into());
        }
        Ok(Self {
            place,
            chunk,
            payload_len,
            footer,
            table,
        })
    }

    /// Reads `range` of the payload, verifying every block it touches.
    pub(crate) fn read(&self, file: &dyn DiskFile, range: Range<u64>) -> Result<Bytes, ReadError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let first = range.start / BLOCK_BYTES;
        let start = first * BLOCK_BYTES;
        let end = range
            .end
            .next_multiple_of(BLOCK_BYTES)
            .min(self.payload_len);
        let mut buf = vec![0; usize::try_from(end - start).map_err(io::Error::other)?];
        let at = self.place.offset + HEADER_LEN as u64 + start;
        let read = file.read_at(&mut buf, at)?;
        let block_bytes = usize::try_from(BLOCK_BYTES).map_err(io::Error::other)?;
        let complete = read == buf.len();
        for (block, bytes) in (first..).zip(buf.chunks(block_bytes)) {
            let entry = usize::try_from(block * 8).map_err(io::Error::other)?;
            if !complete || crc64(bytes) != u64_at(&self.table, entry) {
                return Err(corrupt(self.chunk, &self.place, RecordPart::Payload { block }).into());
            }
        }
        let skip = usize::try_from(range.start - start).map_err(io::Error::other)?;
        let len = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        Ok(Bytes::from(buf).slice(skip..skip + len))
    }
}

/// The error for a damaged part.
pub(crate) fn corrupt(chunk: ChunkId, place: &Place, part: RecordPart) -> CorruptRecord {
    CorruptRecord {
        chunk,
        segment: place.segment,
        offset: place.offset,
        part,
    }
}
