//! The set of segments of a volume: which one takes appends, and how many the disk may hold.

use crate::config::VolumeConfig;
use crate::error::WriteError;
use crate::room::{Purpose, Room};
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

/// What chunks leave free in a segment for tombstones, so that a full disk can still be emptied.
pub(crate) const fn housekeeping_bytes(segment_bytes: u64) -> u64 {
    segment_bytes / 256
}

/// What a record of this purpose must leave free behind it.
fn keep_free(segment: &Segment, purpose: Purpose) -> u64 {
    match purpose {
        Purpose::Data => housekeeping_bytes(segment.limit()),
        Purpose::Housekeeping => 0,
    }
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
        self: &Arc<Self>,
        len: u64,
        purpose: Purpose,
    ) -> Result<Reservation, WriteError> {
        let mut active = self.active.lock().await;
        if let Some(segment) = &active.segment
            && let Some(offset) = segment.reserve(len, keep_free(segment, purpose))
        {
            return Ok(self.reservation(segment.clone(), offset, len));
        }
        let segment = self.create(active.next, len, purpose).await?;
        // Sealed only now: on a full disk the rest of the old one still takes tombstones.
        if let Some(full) = active.segment.take() {
            full.seal();
            self.queue.push(SyncItem::Sealed(full));
        }
        active.next = SegmentId(active.next.0 + 1);
        active.segment = Some(segment.clone());
        let offset =
            segment
                .reserve(len, keep_free(&segment, purpose))
                .ok_or(WriteError::TooLong {
                    limit: segment.limit(),
                })?;
        Ok(self.reservation(segment, offset, len))
    }

    /// Whether a record of `len` bytes would find a place.
    pub(crate) fn check_room(&self, len: u64) -> Result<(), WriteError> {
        let fits = |s: &Arc<Segment>| s.has_room(len, keep_free(s, Purpose::Data));
        if self.all.lock().values().any(fits) {
            return Ok(());
        }
        self.room()?
            .segment_bytes(len, Purpose::Data, self.segment_bytes)?;
        Ok(())
    }

    fn room(&self) -> io::Result<Room> {
        let space = self.env.disk.space(&self.dir)?;
        let taken = self.all.lock().values().map(|s| s.limit()).sum();
        Ok(Room::new(space, taken, self.capacity_bytes))
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

    async fn create(
        self: &Arc<Self>,
        id: SegmentId,
        record: u64,
        purpose: Purpose,
    ) -> Result<Arc<Segment>, WriteError> {
        let segments = self.clone();
        let segment = self
            .env
            .tasks
            .spawn_blocking("volume-segment", move || segments.make(id, record, purpose))
            .await
            .map_err(|_| WriteError::Closed)?
            .inspect_err(|error| {
                if matches!(error, WriteError::DiskFull(_)) {
                    self.metrics.refused_for_room.inc();
                }
            })?;
        self.all.lock().insert(id, segment.clone());
        self.count();
        Ok(segment)
    }

    /// Makes the file of a new segment. Blocking.
    fn make(
        &self,
        id: SegmentId,
        record: u64,
        purpose: Purpose,
    ) -> Result<Arc<Segment>, WriteError> {
        let room = self.room()?;
        let segment_bytes = room.segment_bytes(record, purpose, self.segment_bytes)?;
        let head = SegmentHead {
            format: 1,
            volume_id: self.volume.to_vec().into(),
            segment: id.0,
            segment_bytes,
            created_ms: self.env.clock.now().0,
        };
        let disk = self.env.disk.as_ref();
        match Segment::create(disk, &self.dir, &head, self.volume) {
            Ok(segment) => Ok(Arc::new(segment)),
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Err(room.full().into()),
            Err(error) => Err(error.into()),
        }
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
