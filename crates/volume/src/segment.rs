//! One preallocated file, and which of its space is promised, written or settled.

use crate::error::SegmentFailed;
use crate::format::{ALIGNMENT, Header, Place};
use floeberg_env::{Disk, DiskFile, OpenMode};
use floeberg_proto::floeberg::volume::v1::SegmentHead;
use parking_lot::Mutex;
use prost::Message;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const HEAD_MAGIC: [u8; 8] = *b"FLOESEG1";

/// Number of a segment; never reused on a volume, 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl SegmentId {
    pub(crate) fn file_name(self) -> String {
        format!("{self}.seg")
    }

    pub(crate) fn from_file_name(name: &str) -> Option<Self> {
        let digits = name.strip_suffix(".seg")?;
        let id = u64::from_str_radix(digits, 16).ok().map(Self)?;
        (id.file_name() == name).then_some(id)
    }
}

/// Whether a segment takes more records.
#[derive(Clone, Debug)]
enum Phase {
    Open,
    Sealed,
    Failed(String),
}

#[derive(Debug)]
struct State {
    tail: u64,
    /// Starts of records that are promised or written but not known to be durable.
    pending: BTreeSet<u64>,
    /// The highest number of a record that is durable; 0 without one.
    last_sequence: u64,
    /// Start of the record that was numbered last since the volume was opened; 0 without one.
    last_start: u64,
    phase: Phase,
}

/// The last record of a batch that was synced.
pub(crate) struct Synced {
    pub(crate) sequence: u64,
    pub(crate) start: u64,
}

/// An open segment.
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    volume: [u8; 16],
    limit: u64,
    state: Mutex<State>,
}

/// What a segment's file says about itself.
pub(crate) enum HeadCheck {
    Valid { segment_bytes: u64 },
    Foreign,
    Unreadable,
}

impl Segment {
    /// Creates, preallocates and syncs a new file; its name is synced too.
    pub(crate) fn create(
        disk: &dyn Disk,
        dir: &Path,
        head: &SegmentHead,
        volume: [u8; 16],
    ) -> io::Result<Self> {
        let id = SegmentId(head.segment);
        let path = dir.join(id.file_name());
        let file = disk.open(&path, OpenMode::CreateNew)?;
        let prepared = file
            .allocate(head.segment_bytes)
            .and_then(|()| file.write_at(&encode_head(head), 0))
            .and_then(|()| file.sync_data())
            .and_then(|()| disk.sync_dir(dir));
        if let Err(error) = prepared {
            // A file without a valid head holds nothing; recovery removes it if this fails too.
            let _ = disk.remove_file(&path);
            return Err(error);
        }
        Ok(Self::new(id, path, file, volume, head.segment_bytes))
    }

    /// A segment whose records start behind its head. Records end at `limit`.
    pub(crate) fn new(
        id: SegmentId,
        path: PathBuf,
        file: Arc<dyn DiskFile>,
        volume: [u8; 16],
        limit: u64,
    ) -> Self {
        Self {
            id,
            path,
            file,
            volume,
            limit,
            state: Mutex::new(State {
                tail: ALIGNMENT,
                pending: BTreeSet::new(),
                last_sequence: 0,
                last_start: 0,
                phase: Phase::Open,
            }),
        }
    }

    /// Reads the head block of a file.
    pub(crate) fn check_head(
        file: &dyn DiskFile,
        id: SegmentId,
        volume: &[u8; 16],
    ) -> io::Result<HeadCheck> {
        let mut block = vec![0; usize::try_from(ALIGNMENT).expect("a page fits")];
        let read = file.read_at(&mut block, 0)?;
        Ok(match decode_head(&block[..read]) {
            None => HeadCheck::Unreadable,
            Some(head) if head.volume_id[..] == volume[..] && head.segment == id.0 => {
                HeadCheck::Valid {
                    segment_bytes: head.segment_bytes,
                }
            }
            Some(_) => HeadCheck::Foreign,
        })
    }

    pub(crate) fn place(&self, offset: u64) -> Place {
        Place {
            volume: self.volume,
            segment: self.id,
            offset,
        }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Promises `len` bytes to a record, leaving `keep_free` bytes behind it; `None` if the segment
    /// takes no more or is too full.
    pub(crate) fn reserve(&self, len: u64, keep_free: u64) -> Option<u64> {
        let mut state = self.state.lock();
        let end = state.tail.checked_add(len)?;
        let needed = end.checked_add(keep_free)?;
        if !matches!(state.phase, Phase::Open) || needed > self.limit {
            return None;
        }
        let offset = state.tail;
        state.tail = end;
        state.pending.insert(offset);
        Some(offset)
    }

    /// Whether [`Self::reserve`] would promise as much.
    pub(crate) fn has_room(&self, len: u64, keep_free: u64) -> bool {
        let state = self.state.lock();
        let needed = state.tail.saturating_add(len).saturating_add(keep_free);
        matches!(state.phase, Phase::Open) && needed <= self.limit
    }

    /// Takes back the end of the last promise; `false` if something was promised behind it.
    pub(crate) fn shrink(&self, promised_end: u64, actual_end: u64) -> bool {
        let mut state = self.state.lock();
        let last = state.tail == promised_end;
        if last {
            state.tail = actual_end;
        }
        last
    }

    /// Notes that the record at `offset` is durable or given up.
    pub(crate) fn settle(&self, offset: u64) {
        self.state.lock().pending.remove(&offset);
    }

    /// Every record that starts below is durable or given up.
    pub(crate) fn settled(&self) -> u64 {
        let state = self.state.lock();
        state.pending.first().copied().unwrap_or(state.tail)
    }

    /// Notes the last of the records that a sync has made durable.
    pub(crate) fn synced(&self, last: &Synced) {
        let mut state = self.state.lock();
        state.last_sequence = last.sequence;
        state.last_start = last.start;
    }

    pub(crate) fn last_sequence(&self) -> u64 {
        self.state.lock().last_sequence
    }

    pub(crate) fn last_start(&self) -> u64 {
        self.state.lock().last_start
    }

    pub(crate) fn tail(&self) -> u64 {
        self.state.lock().tail
    }

    /// Continues behind `tail`, as found by a scan, with numbers above `last_sequence`.
    pub(crate) fn resume_at(&self, tail: u64, last_sequence: u64) {
        let mut state = self.state.lock();
        state.tail = tail;
        state.last_sequence = last_sequence;
    }

    /// Ends appending; promises made before still count.
    pub(crate) fn seal(&self) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Open) {
            state.phase = Phase::Sealed;
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Open)
    }

    /// Sealed, with every promise settled; or failed.
    pub(crate) fn is_quiet(&self) -> bool {
        let state = self.state.lock();
        match state.phase {
            Phase::Open => false,
            Phase::Sealed | Phase::Failed(_) => state.pending.is_empty(),
        }
    }

    /// Gives the segment up for writing after a failed write or sync. The first cause is kept.
    pub(crate) fn fail(&self, cause: &io::Error) -> SegmentFailed {
        let mut state = self.state.lock();
        let cause = match &state.phase {
            Phase::Failed(first) => first.clone(),
            Phase::Open | Phase::Sealed => {
                let cause = cause.to_string();
                tracing::error!(segment = %self.id, %cause, "segment failed, no more writes to it");
                state.phase = Phase::Failed(cause.clone());
                cause
            }
        };
        SegmentFailed {
            segment: self.id,
            cause,
        }
    }

    /// The failure of this segment, if it failed.
    pub(crate) fn failure(&self) -> Option<SegmentFailed> {
        match &self.state.lock().phase {
            Phase::Failed(cause) => Some(SegmentFailed {
                segment: self.id,
                cause: cause.clone(),
            }),
            Phase::Open | Phase::Sealed => None,
        }
    }

    /// Declares `len` bytes from `offset` meaningless, so that scans pass over them.
    pub(crate) fn write_gap(&self, offset: u64, len: u64) -> io::Result<()> {
        let header = Header::gap(len, self.settled()).encode(&self.place(offset));
        self.file.write_at(&header, offset)
    }
}

fn encode_head(head: &SegmentHead) -> Vec<u8> {
    let body = head.encode_to_vec();
    let mut out = Vec::with_capacity(16 + body.len());
    out.extend_from_slice(&HEAD_MAGIC);
    let len = u32::try_from(body.len()).expect("a segment head is a few dozen bytes");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&crc_fast::crc32_iscsi(&body).to_le_bytes());
    out.extend_from_slice(&body);
    out
}

fn decode_head(block: &[u8]) -> Option<SegmentHead> {
    let fixed = block.get(..16)?;
    let len = u32::from_le_bytes(fixed[8..12].try_into().ok()?);
    let crc = u32::from_le_bytes(fixed[12..16].try_into().ok()?);
    let body = block.get(16..16 + usize::try_from(len).ok()?)?;
    let intact = fixed[..8] == HEAD_MAGIC && crc_fast::crc32_iscsi(body) == crc;
    intact.then(|| SegmentHead::decode(body).ok()).flatten()
}
