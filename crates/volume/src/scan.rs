//! Walking the records of a segment file, over damage and the traces of crashes.

use crate::format::{ALIGNMENT, CELL_BYTES, HEADER_LEN, Header, RecordKind, Stamp};
use crate::record::{RecordHasher, VerifiedRecord};
use crate::segment::Segment;
use crate::{ReadError, VolumeError};
use floeberg_types::ChunkId;
use std::collections::BTreeMap;
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

/// The readable headers of a segment, in file order.
pub(crate) struct Headers {
    /// Below this the caller knows everything.
    from: u64,
    /// Offset, header and record length.
    found: Vec<(u64, Header, u64)>,
    /// Space between them.
    unreadable: Vec<Range<u64>>,
    /// Behind this there is none.
    end: u64,
}

impl Headers {
    /// Reads what stands at or behind `from`.
    pub(crate) fn read(segment: &Segment, from: u64) -> Result<Self, VolumeError> {
        let len = segment.file.len()?;
        let mut headers = Self {
            from,
            found: Vec::new(),
            unreadable: Vec::new(),
            end: from,
        };
        loop {
            let at = headers.end;
            if let Some((header, record)) = header_at(segment, at, len)? {
                headers.found.push((at, header, record));
                headers.end += record;
            } else if let Some(next) = next_header(segment, at + ALIGNMENT, len)? {
                headers.unreadable.push(at..next);
                headers.end = next;
            } else {
                return Ok(headers);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(crate) fn stamps(&self) -> impl Iterator<Item = &Stamp> {
        self.found.iter().map(|(_, header, _)| &header.stamp)
    }

    /// Tells damage from the traces of a crash. `known` are the records that the index has: their
    /// starts and ends.
    ///
    /// Records finish in another order than they stand in, so that one is known says nothing of those
    /// in front of it.
    pub(crate) fn judge(
        self,
        segment: &Segment,
        known: BTreeMap<u64, u64>,
    ) -> Result<Walk, VolumeError> {
        let durable = Durable::new(&self.found, known, segment.limit());
        let mut walk = Walk {
            tail: self.from,
            ..Walk::default()
        };
        for space in &self.unreadable {
            durable.split(space.clone(), &mut walk);
        }
        if let Some(end) = durable.end_beyond(self.end) {
            durable.split(self.end..end, &mut walk);
            walk.tail = end;
        }
        for (offset, header, len) in self.found {
            let state = judge(segment, offset, &header, durable.has(offset, &header))?;
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
}

/// What is known to have been durable before the crash, whatever can be read of it now.
struct Durable {
    /// Every record that starts below, as a later header says.
    settled: u64,
    /// Every record with a lower number: those of one segment fail together or not at all, and a failed
    /// segment gets no further numbers.
    floor: u64,
    /// Single records by their start; where they end, or where the segment does.
    known: BTreeMap<u64, u64>,
}

impl Durable {
    /// `known` are records of the index, `limit` is the end of the segment.
    fn new(found: &[(u64, Header, u64)], known: BTreeMap<u64, u64>, limit: u64) -> Self {
        let headers = || found.iter().map(|(_, header, _)| header);
        let mut durable = Self {
            settled: headers().map(|h| h.settled).max().unwrap_or(0),
            floor: headers().map(|h| h.stamp.floor()).max().unwrap_or(0),
            known,
        };
        // The first record of a sync names one that was durable before; a durable one names another. So
        // those can be told that stand behind a long one which was still being written.
        let mut numbered: Vec<_> = found.iter().filter(|f| f.1.stamp.previous > 0).collect();
        numbered.sort_unstable_by_key(|(_, header, _)| std::cmp::Reverse(header.stamp.sequence));
        for (offset, header, _) in numbered {
            if header.stamp.index == 0 || durable.has(*offset, header) {
                let previous = header.stamp.previous;
                durable.known.entry(previous).or_insert(limit);
            }
        }
        durable
    }

    fn has(&self, start: u64, header: &Header) -> bool {
        let sequence = header.stamp.sequence;
        let numbered = sequence > 0 && sequence < self.floor;
        start < self.settled || numbered || self.known.contains_key(&start)
    }

    /// The end of the last record known to start at or behind `from`, where no header can be read.
    fn end_beyond(&self, from: u64) -> Option<u64> {
        self.known.range(from..).map(|(_, end)| *end).max()
    }

    /// Sorts the parts of a space that starts where a record did and has no readable header.
    fn split(&self, space: Range<u64>, walk: &mut Walk) {
        let mut at = space.start;
        let settled = self.settled.min(space.end);
        if at < settled {
            walk.damaged.push(at..settled);
            at = settled;
        }
        let mut inside = self.known.range(at..space.end).peekable();
        while let Some((start, end)) = inside.next() {
            if at < *start {
                walk.torn.push(at..*start);
            }
            let next = inside.peek().map_or(space.end, |(next, _)| **next);
            at = (*end).min(next);
            walk.damaged.push(*start..at);
        }
        if at < space.end {
            walk.torn.push(at..space.end);
        }
    }
}

fn judge(
    segment: &Segment,
    offset: u64,
    header: &Header,
    durable: bool,
) -> Result<Integrity, VolumeError> {
    if header.kind == RecordKind::Gap {
        return Ok(Integrity::Intact);
    }
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
