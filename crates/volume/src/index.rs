//! The index: where each live chunk is, and what every record on disk still means.
//!
//! A cache of the segments kept in a [`Kv`]. Rows of one change are one batch, so whatever the
//! store has flushed is consistent in itself, and a scan beyond the settled marks completes it.

mod rows;

use crate::format::record_len;
use crate::segment::SegmentId;
use floeberg_kv::{Batch, Kv, KvError};
use floeberg_proto::floeberg::volume::v1::{ChunkRow, RecordPlace, RecordRow, SegmentRow};
use floeberg_telemetry::VolumeMetrics;
use floeberg_types::ChunkId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a chunk's record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Location {
    pub(crate) segment: SegmentId,
    pub(crate) offset: u64,
    /// Payload bytes.
    pub(crate) length: u64,
}

/// What a durable record changes.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A chunk's first copy, or a newer one that takes its place.
    Stored { chunk: ChunkId, at: Location },
    /// A compacted copy that takes over from an older one.
    Moved { chunk: ChunkId, to: Location },
    /// A tombstone in `tombstone`.
    Killed {
        chunks: Vec<ChunkId>,
        tombstone: SegmentId,
    },
    /// A tombstone was written again; `records` are what it covers.
    Retargeted {
        records: Vec<(SegmentId, u64)>,
        tombstone: SegmentId,
    },
}

/// What the records of a segment hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) live_chunks: u64,
    /// Payload bytes of live chunks.
    pub(crate) live_bytes: u64,
    /// Payload bytes of dead records.
    pub(crate) dead_bytes: u64,
    /// Bytes that these records take, live and dead.
    pub(crate) record_bytes: u64,
}

impl Usage {
    /// Counts a record.
    fn add(&mut self, length: u64, dead: bool) {
        self.record_bytes += record_len(length);
        if dead {
            self.dead_bytes += length;
        } else {
            self.live_chunks += 1;
            self.live_bytes += length;
        }
    }
}

/// A record as the index knows it.
#[derive(Clone, Debug)]
pub(crate) struct KnownRecord {
    pub(crate) chunk: ChunkId,
    pub(crate) at: Location,
    pub(crate) dead: bool,
    pub(crate) tombstone: SegmentId,
}

/// The rows and the per-segment sums kept from them.
pub(crate) struct Index {
    kv: Arc<dyn Kv>,
    /// Also serialises changes, which read before they write.
    usage: Mutex<BTreeMap<SegmentId, Usage>>,
    metrics: VolumeMetrics,
}

impl Index {
    /// Opens the rows of `volume`, emptying a store that belongs to another one, and adds up the
    /// usage of every segment.
    pub(crate) fn open(
        kv: Arc<dyn Kv>,
        volume: &[u8; 16],
        metrics: VolumeMetrics,
    ) -> Result<Self, KvError> {
        rows::adopt(kv.as_ref(), volume)?;
        let index = Self {
            kv,
            usage: Mutex::new(BTreeMap::new()),
            metrics,
        };
        let mut usage = BTreeMap::<SegmentId, Usage>::new();
        index.each_record(None, |record| {
            let sums = usage.entry(record.at.segment).or_default();
            sums.add(record.at.length, record.dead);
        })?;
        *index.usage.lock() = usage;
        index.publish();
        Ok(index)
    }

    fn publish(&self) {
        let usage = self.total_usage();
        let gauge = |v| i64::try_from(v).unwrap_or(i64::MAX);
        self.metrics.live_bytes.set(gauge(usage.live_bytes));
        self.metrics.dead_bytes.set(gauge(usage.dead_bytes));
    }

    pub(crate) fn find(&self, chunk: &ChunkId) -> Result<Option<Location>, KvError> {
        let row = rows::get::<ChunkRow>(self.kv.as_ref(), &rows::chunk_key(chunk))?;
        Ok(row.map(|row| rows::location(&row)))
    }

    /// What the records of one segment hold; `None` if it has none.
    pub(crate) fn usage(&self, segment: SegmentId) -> Option<Usage> {
        self.usage.lock().get(&segment).copied()
    }

    /// Segments that have records.
    pub(crate) fn used_segments(&self) -> Vec<SegmentId> {
        self.usage.lock().keys().copied().collect()
    }

    /// The sum over all segments.
    pub(crate) fn total_usage(&self) -> Usage {
        let mut total = Usage::default();
        for usage in self.usage.lock().values() {
            total.live_chunks += usage.live_chunks;
            total.live_bytes += usage.live_bytes;
            total.dead_bytes += usage.dead_bytes;
            total.record_bytes += usage.record_bytes;
        }
        total
    }

    /// Calls `f` for every known record, of one segment or of all.
    pub(crate) fn each_record(
        &self,
        segment: Option<SegmentId>,
        mut f: impl FnMut(KnownRecord),
    ) -> Result<(), KvError> {
        let prefix = rows::record_prefix(segment);
        for row in rows::scan(self.kv.as_ref(), &prefix) {
            let (key, value) = row?;
            if let Some(record) = rows::known_record(&key, &value) {
                f(record);
            }
        }
        Ok(())
    }

    /// Live chunk ids in ascending order, behind `after`.
    pub(crate) fn chunks(
        &self,
        after: Option<&ChunkId>,
        limit: usize,
    ) -> Result<Vec<(ChunkId, u64)>, KvError> {
        rows::chunks(self.kv.as_ref(), after, limit)
    }

    pub(crate) fn segment_rows(&self) -> Result<BTreeMap<SegmentId, SegmentRow>, KvError> {
        rows::segments(self.kv.as_ref())
    }

    /// Applies changes and settled marks as one batch.
    pub(crate) fn apply(
        &self,
        changes: &[Change],
        marks: &[(SegmentId, SegmentRow)],
    ) -> Result<(), KvError> {
        let mut usage = self.usage.lock();
        let mut edit = Edit {
            kv: self.kv.as_ref(),
            chunks: BTreeMap::new(),
            records: BTreeMap::new(),
            usage: &usage,
            touched: BTreeMap::new(),
        };
        for change in changes {
            edit.apply(change)?;
        }
        let (mut batch, touched) = edit.into_batch();
        for (segment, row) in marks {
            rows::put(&mut batch, rows::segment_key(*segment), row);
        }
        self.kv.write(batch)?;
        usage.extend(touched);
        drop(usage);
        self.publish();
        Ok(())
    }

    /// Removes every row of a segment whose file is gone and which holds no live chunk.
    pub(crate) fn forget(&self, segment: SegmentId) -> Result<(), KvError> {
        let mut usage = self.usage.lock();
        let mut batch = Batch::default();
        let prefix = rows::record_prefix(Some(segment));
        for row in rows::scan(self.kv.as_ref(), &prefix) {
            batch.delete(row?.0);
        }
        batch.delete(rows::segment_key(segment));
        self.kv.write(batch)?;
        usage.remove(&segment);
        drop(usage);
        self.publish();
        Ok(())
    }

    /// Makes everything applied so far durable, which shortens the next recovery scan.
    pub(crate) fn flush(&self) -> Result<(), KvError> {
        self.kv.flush()
    }
}

/// Rows read and changed by one batch; later changes of the batch see earlier ones.
struct Edit<'a> {
    kv: &'a dyn Kv,
    chunks: BTreeMap<ChunkId, Option<ChunkRow>>,
    records: BTreeMap<(SegmentId, u64), RecordRow>,
    usage: &'a BTreeMap<SegmentId, Usage>,
    touched: BTreeMap<SegmentId, Usage>,
}

impl Edit<'_> {
    fn sums(&mut self, segment: SegmentId) -> &mut Usage {
        let before = self.usage.get(&segment).copied().unwrap_or_default();
        self.touched.entry(segment).or_insert(before)
    }

    fn apply(&mut self, change: &Change) -> Result<(), KvError> {
        match change {
            Change::Stored { chunk, at } => self.stored(*chunk, *at),
            Change::Moved { chunk, to } => self.moved(*chunk, *to),
            Change::Killed { chunks, tombstone } => {
                chunks.iter().try_for_each(|c| self.killed(*c, *tombstone))
            }
            Change::Retargeted { records, tombstone } => {
                for (segment, offset) in records {
                    self.bury(*segment, *offset, *tombstone)?;
                }
                Ok(())
            }
        }
    }

    fn chunk(&mut self, chunk: ChunkId) -> Result<Option<ChunkRow>, KvError> {
        if let Some(row) = self.chunks.get(&chunk) {
            return Ok(row.clone());
        }
        rows::get(self.kv, &rows::chunk_key(&chunk))
    }

    fn record(&mut self, segment: SegmentId, offset: u64) -> Result<Option<RecordRow>, KvError> {
        if let Some(row) = self.records.get(&(segment, offset)) {
            return Ok(Some(row.clone()));
        }
        rows::get(self.kv, &rows::record_key(segment, offset))
    }

    fn add(&mut self, chunk: ChunkId, at: Location, dead: bool) {
        self.sums(at.segment).add(at.length, dead);
        let row = RecordRow {
            chunk: chunk.as_bytes().to_vec().into(),
            length: at.length,
            dead,
            tombstone_segment: 0,
        };
        self.records.insert((at.segment, at.offset), row);
    }

    fn stored(&mut self, chunk: ChunkId, at: Location) -> Result<(), KvError> {
        if self.record(at.segment, at.offset)?.is_some() {
            return Ok(());
        }
        match self.chunk(chunk)? {
            None => {
                self.add(chunk, at, false);
                self.chunks
                    .insert(chunk, Some(rows::chunk_row(at, Vec::new())));
            }
            // The newer copy wins, because it may have been written to heal the older one.
            Some(_) => self.moved(chunk, at)?,
        }
        Ok(())
    }

    fn moved(&mut self, chunk: ChunkId, to: Location) -> Result<(), KvError> {
        let Some(old) = self.chunk(chunk)? else {
            // Deletes wait for a move to end, so only a file removed by hand leads here.
            self.add(chunk, to, true);
            return Ok(());
        };
        let from = rows::location(&old);
        self.bury(from.segment, from.offset, SegmentId(0))?;
        self.add(chunk, to, false);
        let mut superseded = old.superseded;
        superseded.push(place(from));
        self.chunks
            .insert(chunk, Some(rows::chunk_row(to, superseded)));
        Ok(())
    }

    fn killed(&mut self, chunk: ChunkId, tombstone: SegmentId) -> Result<(), KvError> {
        let Some(row) = self.chunk(chunk)? else {
            return Ok(());
        };
        let at = rows::location(&row);
        self.bury(at.segment, at.offset, tombstone)?;
        for old in &row.superseded {
            self.bury(SegmentId(old.segment), old.offset, tombstone)?;
        }
        self.chunks.insert(chunk, None);
        Ok(())
    }

    /// Marks a record dead and names the tombstone that keeps it so.
    fn bury(
        &mut self,
        segment: SegmentId,
        offset: u64,
        tombstone: SegmentId,
    ) -> Result<(), KvError> {
        let Some(mut row) = self.record(segment, offset)? else {
            return Ok(());
        };
        if !row.dead {
            let sums = self.sums(segment);
            sums.live_chunks = sums.live_chunks.saturating_sub(1);
            sums.live_bytes = sums.live_bytes.saturating_sub(row.length);
            sums.dead_bytes += row.length;
        }
        row.dead = true;
        row.tombstone_segment = tombstone.0;
        self.records.insert((segment, offset), row);
        Ok(())
    }

    fn into_batch(self) -> (Batch, BTreeMap<SegmentId, Usage>) {
        let mut batch = Batch::default();
        for (chunk, row) in &self.chunks {
            match row {
                Some(row) => rows::put(&mut batch, rows::chunk_key(chunk), row),
                None => batch.delete(rows::chunk_key(chunk)),
            }
        }
        for ((segment, offset), row) in &self.records {
            rows::put(&mut batch, rows::record_key(*segment, *offset), row);
        }
        (batch, self.touched)
    }
}

fn place(at: Location) -> RecordPlace {
    RecordPlace {
        segment: at.segment.0,
        offset: at.offset,
    }
}
