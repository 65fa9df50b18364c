//! The set of segments of a volume: which one takes appends, and how many the disk may hold.

use crate::config::VolumeConfig;
use crate::error::{DiskFull, WriteError};
use crate::segment::{Segment, SegmentId};
use crate::sync::{SyncItem, SyncQueue};
use floeberg_env::Env;
use floeberg_proto::floeberg::volume::v1::SegmentHead;
use floeberg_telemetry::VolumeMetrics;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// For what space is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// New chunks: refused at 95 % of the capacity.
    Data,
    /// Tombstones and compaction, which free space: may use all of it.
    Housekeeping,
}

/// What chunks leave free in a segment for tombstones, so that a full disk can still be emptied.
pub(crate) const fn housekeeping_bytes(segment_bytes: u64) -> u64 {
    segment_bytes / 256
}

/// All segments of a volume.
pub(crate) struct Segments {
    dir: PathBuf,
    volume: [u8; 16],
    segment_bytes: u64,
    capacity_bytes: Option<u64>,
    env: Env,
    metrics: VolumeMetrics,
    queue: SyncQueue,
    all: Mutex<BTreeMap<SegmentId, Arc<Segment>>>,
    active: tokio::sync::Mutex<Active>,
}

/// The segment that takes appends, and the number of the next one.
pub(crate) struct Active {
    pub(crate) segment: Option<Arc<Segment>>,
    pub(crate) next: SegmentId,
}

/// What a volume's segments are made from.
pub(crate) struct SegmentsParts {
    pub(crate) dir: PathBuf,
    pub(crate) volume: [u8; 16],
    pub(crate) all: BTreeMap<SegmentId, Arc<Segment>>,
    pub(crate) active: Active,
    pub(crate) queue: SyncQueue,
}

impl Segments {
    pub(crate) fn new(
        parts: SegmentsParts,
        config: &VolumeConfig,
        env: Env,
        metrics: VolumeMetrics,
    ) -> Self {
        let segments = Self {
            dir: parts.dir,
            volume: parts.volume,
            segment_bytes: config.segment_bytes,
            capacity_bytes: config.capacity_bytes,
            env,
            metrics,
            queue: parts.queue,
            all: Mutex::new(parts.all),
            active: tokio::sync::Mutex::new(parts.active),
        };
        segments.count();
        segments
    }

    fn count(&self) {
        let len = i64::try_from(self.all.lock().len()).unwrap_or(i64::MAX);
        self.metrics.segments.set(len);
    }

    pub(crate) fn get(&self, id: SegmentId) -> Option<Arc<Segment>> {
        self.all.lock().get(&id).cloned()
    }

    pub(crate) fn snapshot(&self) -> Vec<Arc<Segment>> {
        self.all.lock().values().cloned().collect()
    }

    /// Promises `len` bytes, opening a new segment if the active one has no room.
    pub(crate) async fn reserve(
        &self,
        len: u64,
        purpose: Purpose,
    ) -> Result<Reservation, WriteError> {
        let mut active = self.active.lock().await;
        let keep_free = match purpose {
            Purpose::Data => housekeeping_bytes(self.segment_bytes),
            Purpose::Housekeeping => 0,
        };
        if let Some(segment) = &active.segment
            && let Some(offset) = segment.reserve(len, keep_free)
        {
            return Ok(self.reservation(segment.clone(), offset, len));
        }
        let segment = self.create(active.next, purpose).await?;
        // Sealed only now: on a full disk the rest of the old one still takes tombstones.
        if let Some(full) = active.segment.take() {
            full.seal();
            self.queue.push(SyncItem::Sealed(full));
        }
        active.next = SegmentId(active.next.0 + 1);
        active.segment = Some(segment.clone());
        let offset = segment.reserve(len, keep_free).ok_or(WriteError::TooLong {
            limit: self.segment_bytes,
        })?;
        Ok(self.reservation(segment, offset, len))
    }

    fn reservation(&self, segment: Arc<Segment>, offset: u64, len: u64) -> Reservation {
        Reservation {
            segment,
            offset,
            len,
            queue: self.queue.clone(),
            settled: false,
        }
    }

    async fn create(&self, id: SegmentId, purpose: Purpose) -> Result<Arc<Segment>, WriteError> {
        let used_bytes = self.all.lock().len() as u64 * self.segment_bytes;
        let full = DiskFull { used_bytes };
        let limit = match (self.capacity_bytes, purpose) {
            (None, _) => u64::MAX,
            (Some(capacity), Purpose::Data) => capacity / 100 * 95,
            (Some(capacity), Purpose::Housekeeping) => capacity,
        };
        if used_bytes.saturating_add(self.segment_bytes) > limit {
            return Err(full.into());
        }
        let head = SegmentHead {
            format: 1,
            volume_id: self.volume.to_vec().into(),
            segment: id.0,
            segment_bytes: self.segment_bytes,
            created_ms: self.env.clock.now().0,
        };
        let (disk, dir, volume) = (self.env.disk.clone(), self.dir.clone(), self.volume);
        let created = self
            .env
            .tasks
            .spawn_blocking("volume-segment", move || {
                Segment::create(disk.as_ref(), &dir, &head, volume)
            })
            .await
            .map_err(|_| WriteError::Closed)?;
        let segment = match created {
            Ok(segment) => Arc::new(segment),
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(full.into()),
            Err(error) => return Err(error.into()),
        };
        self.all.lock().insert(id, segment.clone());
        self.count();
        Ok(segment)
    }

    /// Forgets a segment and unlinks its file; readers that hold it finish on the open file.
    pub(crate) fn remove(&self, id: SegmentId) -> io::Result<()> {
        let Some(segment) = self.get(id) else {
            return Ok(());
        };
        self.env.disk.remove_file(&segment.path)?;
        self.env.disk.sync_dir(&self.dir)?;
        self.all.lock().remove(&id);
        self.count();
        Ok(())
    }
}

/// Space promised to one record. Dropped unsettled, it becomes a gap.
pub(crate) struct Reservation {
    pub(crate) segment: Arc<Segment>,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    queue: SyncQueue,
    settled: bool,
}

impl Reservation {
    /// Gives back what the record did not need: cut off at the tail, else marked as a gap.
    pub(crate) fn trim(&mut self, needed: u64) -> io::Result<()> {
        let end = self.offset + self.len;
        let used = self.offset + needed;
        if used < end && !self.segment.shrink(end, used) {
            self.segment.write_gap(used, end - used)?;
        }
        self.len = needed;
        Ok(())
    }

    /// The record is durable, or its segment failed: nothing remains to be done.
    pub(crate) fn settle(mut self) {
        self.settled = true;
        self.segment.settle(self.offset);
    }

    /// The segment failed with this record unsettled; it stays so for ever.
    pub(crate) fn forsake(mut self) {
        self.settled = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.settled {
            self.queue.push(SyncItem::Abandoned {
                segment: self.segment.clone(),
                offset: self.offset,
                len: self.len,
            });
        }
    }
}
