//! Walking the records of a segment file, over damage and the traces of crashes.

use crate::format::{ALIGNMENT, CELL_BYTES, HEADER_LEN, Header, RecordKind};
use crate::record::{RecordHasher, VerifiedRecord};
use crate::segment::Segment;
use crate::{ReadError, VolumeError};
use floeberg_types::ChunkId;
use std::io;
use std::ops::Range;

/// A record with a valid header.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) offset: u64,
    pub(crate) header: Header,
    /// Bytes up to the next record.
    pub(crate) len: u64,
    pub(crate) state: Integrity,
}

/// How much of a found record is as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Integrity {
    /// Verified: the whole record at the end of the log, header and footer further back.
    Intact,
    /// It was durable once and is not what was written.
    Damaged,
    /// It was never acknowledged: a crash interrupted it.
    Torn,
}

/// What a walk found, in file order.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    pub(crate) records: Vec<Found>,
    /// Space without a readable header between records, known to have been durable.
    pub(crate) damaged: Vec<Range<u64>>,
    /// Space of interrupted records.
    pub(crate) torn: Vec<Range<u64>>,
    /// Where the next record goes.
    pub(crate) tail: u64,
}

/// Walks from `from`, below which the caller knows everything.
///
/// Records that start below `known` are in the index, hence were durable.
pub(crate) fn walk(segment: &Segment, from: u64, known: u64) -> Result<Walk, VolumeError> {
    let end = segment.file.len()?;
    let mut headers = Vec::new();
    let mut unreadable = Vec::new();
    let mut at = from;
    loop {
        if let Some((header, len)) = header_at(segment, at, end)? {
            headers.push((at, header, len));
            at += len;
        } else if let Some(next) = next_header(segment, at + ALIGNMENT, end)? {
            unreadable.push(at..next);
            at = next;
        } else {
            break;
        }
    }
    // Later headers tell up to where everything was settled when they were written.
    let settled = headers.iter().map(|(_, h, _)| h.settled).max().unwrap_or(0);
    let mark = settled.max(known);
    let mut walk = Walk {
        tail: from.max(known),
        ..Walk::default()
    };
    if at < known {
        unreadable.push(at..known);
    }
    for space in unreadable {
        if space.start < mark {
            walk.damaged.push(space);
        } else {
            walk.torn.push(space);
        }
    }
    for (offset, header, len) in headers {
        let state = judge(segment, offset, &header, mark)?;
        if state == Integrity::Torn {
            walk.torn.push(offset..offset + len);
        } else {
            walk.tail = walk.tail.max(offset + len);
            walk.records.push(Found {
                offset,
                header,
                len,
                state,
            });
        }
    }
    Ok(walk)
}

fn judge(
    segment: &Segment,
    offset: u64,
    header: &Header,
    mark: u64,
) -> Result<Integrity, VolumeError> {
    if header.kind == RecordKind::Gap {
        return Ok(Integrity::Intact);
    }
    let durable = offset < mark;
    // A data record that was durable is verified when it is read or scrubbed; a tombstone is
    // needed now.
    let deep = !durable || header.kind == RecordKind::Tombstone;
    let broken = if durable {
        Integrity::Damaged
    } else {
        Integrity::Torn
    };
    match check(segment, offset, header, deep) {
        Ok(true) => Ok(Integrity::Intact),
        Ok(false) | Err(ReadError::Corrupt(_)) => Ok(broken),
        Err(ReadError::Io(error)) => Err(error.into()),
        Err(other) => Err(VolumeError::Io(io::Error::other(other))),
    }
}

fn check(segment: &Segment, offset: u64, header: &Header, deep: bool) -> Result<bool, ReadError> {
    let file = segment.file.as_ref();
    let (place, len) = (segment.place(offset), header.payload_len);
    let record = VerifiedRecord::open(file, place, header.chunk, len)?;
    if !deep {
        return Ok(true);
    }
    let mut hasher = RecordHasher::new();
    let mut at = 0;
    while at < len {
        let end = (at + CELL_BYTES).min(len);
        hasher.update(&record.read(file, at..end)?);
        at = end;
    }
    Ok(hasher.matches(&record.footer))
}

/// The chunk ids of a tombstone record.
pub(crate) fn tombstone(segment: &Segment, found: &Found) -> Result<Vec<ChunkId>, ReadError> {
    let file = segment.file.as_ref();
    let (place, len) = (segment.place(found.offset), found.header.payload_len);
    let record = VerifiedRecord::open(file, place, found.header.chunk, len)?;
    let ids = record.read(file, 0..len)?;
    Ok(ids
        .chunks_exact(16)
        .filter_map(ChunkId::from_slice)
        .collect())
}

/// The header at `at` and the length of its record, if they are valid and fit into the file.
fn header_at(segment: &Segment, at: u64, end: u64) -> Result<Option<(Header, u64)>, VolumeError> {
    let mut buf = [0; HEADER_LEN];
    let read = segment.file.read_at(&mut buf, at)?;
    Ok(decode(segment, &buf[..read], at, end))
}

fn decode(segment: &Segment, bytes: &[u8], at: u64, end: u64) -> Option<(Header, u64)> {
    let header = Header::decode(bytes, &segment.place(at))?;
    let len = header.record_len().filter(|len| *len % ALIGNMENT == 0)?;
    // A record is never longer than what remains, even if its payload was lost.
    (at.checked_add(len)? <= end.max(segment.limit())).then_some((header, len))
}

/// The first valid header at or behind `from`.
fn next_header(segment: &Segment, from: u64, end: u64) -> Result<Option<u64>, VolumeError> {
    let window = usize::try_from(CELL_BYTES).expect("a cell is 1 MiB");
    let page = usize::try_from(ALIGNMENT).expect("a page is small");
    let mut buf = vec![0; window];
    let mut at = from;
    while at < end {
        let read = segment.file.read_at(&mut buf, at)?;
        for (offset, bytes) in (at..).step_by(page).zip(buf[..read].chunks(page)) {
            if decode(segment, bytes, offset, end).is_some() {
                return Ok(Some(offset));
            }
        }
        at += CELL_BYTES;
    }
    Ok(None)
}
