//! Keys and values of the index rows.

use super::{KnownRecord, Location};
use crate::segment::SegmentId;
use bytes::Bytes;
use floeberg_kv::{Batch, Kv, KvError, Rows, prefix_end};
use floeberg_proto::floeberg::volume::v1::{
    ChunkRow, IndexHead, RecordPlace, RecordRow, SegmentRow,
};
use floeberg_types::ChunkId;
use prost::Message;
use std::collections::BTreeMap;

const HEAD_KEY: &[u8] = b"v";
const FORMAT: u32 = 1;

pub(super) fn chunk_key(chunk: &ChunkId) -> Vec<u8> {
    [b"c", chunk.as_bytes().as_slice()].concat()
}

pub(super) fn record_key(segment: SegmentId, offset: u64) -> Vec<u8> {
    let mut key = record_prefix(Some(segment));
    key.extend_from_slice(&offset.to_be_bytes());
    key
}

pub(super) fn record_prefix(segment: Option<SegmentId>) -> Vec<u8> {
    let mut key = b"r".to_vec();
    if let Some(segment) = segment {
        key.extend_from_slice(&segment.0.to_be_bytes());
    }
    key
}

pub(super) fn segment_key(segment: SegmentId) -> Vec<u8> {
    [b"s".as_slice(), &segment.0.to_be_bytes()].concat()
}

pub(super) fn put(batch: &mut Batch, key: Vec<u8>, row: &impl Message) {
    batch.put(key, row.encode_to_vec());
}

/// A row that does not decode counts as absent: the index is a cache, and the scan of the segments
/// is what decides.
pub(super) fn get<M: Message + Default>(kv: &dyn Kv, key: &[u8]) -> Result<Option<M>, KvError> {
    Ok(kv.get(key)?.and_then(|value| M::decode(value).ok()))
}

pub(super) fn scan<'a>(kv: &'a dyn Kv, prefix: &[u8]) -> Rows<'a> {
    kv.scan(prefix, prefix_end(prefix).as_deref())
}

pub(super) fn location(row: &ChunkRow) -> Location {
    Location {
        segment: SegmentId(row.segment),
        offset: row.offset,
        length: row.length,
    }
}

pub(super) fn chunk_row(at: Location, superseded: Vec<RecordPlace>) -> ChunkRow {
    ChunkRow {
        segment: at.segment.0,
        offset: at.offset,
        length: at.length,
        superseded,
    }
}

pub(super) fn known_record(key: &[u8], value: &Bytes) -> Option<KnownRecord> {
    let row = RecordRow::decode(value.clone()).ok()?;
    Some(KnownRecord {
        chunk: ChunkId::from_slice(&row.chunk)?,
        at: Location {
            segment: SegmentId(u64::from_be_bytes(key.get(1..9)?.try_into().ok()?)),
            offset: u64::from_be_bytes(key.get(9..17)?.try_into().ok()?),
            length: row.length,
        },
        dead: row.dead,
        tombstone: SegmentId(row.tombstone_segment),
    })
}

pub(super) fn chunks(
    kv: &dyn Kv,
    after: Option<&ChunkId>,
    limit: usize,
) -> Result<Vec<(ChunkId, u64)>, KvError> {
    let start = match after {
        None => b"c".to_vec(),
        // The smallest key behind a key is the key with a zero byte appended.
        Some(chunk) => [chunk_key(chunk), vec![0]].concat(),
    };
    let mut found = Vec::new();
    for row in kv.scan(&start, prefix_end(b"c").as_deref()).take(limit) {
        let (key, value) = row?;
        if let (Some(chunk), Ok(row)) = (ChunkId::from_slice(&key[1..]), ChunkRow::decode(value)) {
            found.push((chunk, row.length));
        }
    }
    Ok(found)
}

pub(super) fn segments(kv: &dyn Kv) -> Result<BTreeMap<SegmentId, SegmentRow>, KvError> {
    let mut found = BTreeMap::new();
    for row in scan(kv, b"s") {
        let (key, value) = row?;
        let id: Option<[u8; 8]> = key.get(1..9).and_then(|b| b.try_into().ok());
        if let (Some(id), Ok(row)) = (id, SegmentRow::decode(value)) {
            found.insert(SegmentId(u64::from_be_bytes(id)), row);
        }
    }
    Ok(found)
}

/// Empties the store unless its head names this volume and format.
pub(super) fn adopt(kv: &dyn Kv, volume: &[u8; 16]) -> Result<(), KvError> {
    let head = get::<IndexHead>(kv, HEAD_KEY)?;
    if head.is_some_and(|h| h.format == FORMAT && h.volume_id[..] == volume[..]) {
        return Ok(());
    }
    let mut batch = Batch::default();
    for row in kv.scan(b"", None) {
        batch.delete(row?.0);
        if batch.len() >= 10_000 {
            kv.write(std::mem::take(&mut batch))?;
        }
    }
    let head = IndexHead {
        format: FORMAT,
        volume_id: volume.to_vec().into(),
    };
    put(&mut batch, HEAD_KEY.to_vec(), &head);
    kv.write(batch)
}
