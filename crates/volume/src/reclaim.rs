//! Giving space back: copying the rest of mostly dead segments, removing dead ones.
//!
//! A tombstone must outlive every record of its chunks, else a rebuilt index would bring them
//! back. So before a segment is removed, the tombstones in it that are still needed are written
//! again; only then, with the index flushed, the file goes.

use crate::error::{ReadError, ReclaimError, WriteError};
use crate::format::ALIGNMENT;
use crate::index::{Change, KnownRecord};
use crate::segment::{Segment, SegmentId};
use crate::volume::{Inner, TOMBSTONE_CHUNKS};
use crate::writer::{ChunkWriter, Role};
use floeberg_types::ChunkId;
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What one pass freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReclaimReport {
    /// Segment files removed.
    pub removed_segments: u64,
    /// Bytes of those files.
    pub removed_bytes: u64,
    /// Chunks copied out of mostly dead segments.
    pub moved_chunks: u64,
    /// Chunks that could not be copied because they are damaged.
    pub damaged_chunks: u64,
}

impl Inner {
    pub(crate) async fn reclaim(self: &Arc<Self>) -> Result<ReclaimReport, ReclaimError> {
        let _alone = self.reclaiming.lock().await;
        let mut report = ReclaimReport::default();
        for segment in self.quiet_segments() {
            if self.is_mostly_dead(&segment) {
                self.compact(&segment, &mut report).await?;
            }
        }
        let is_dead = |id| self.index.usage(id).is_none_or(|u| u.live_chunks == 0);
        let mut dead = self.quiet_segments();
        dead.retain(|segment| is_dead(segment.id));
        self.keep_mark(&mut dead).await?;
        if dead.is_empty() {
            return Ok(report);
        }
        self.renew_tombstones(dead.iter().map(|s| s.id).collect())
            .await?;
        self.blocking(|inner| inner.index.flush().map_err(ReclaimError::from))
            .await?;
        for segment in dead {
            let (id, bytes) = (segment.id, segment.limit());
            drop(segment);
            self.blocking(move |inner| {
                inner.segments.remove(id)?;
                Ok(inner.index.forget(id)?)
            })
            .await?;
            report.removed_segments += 1;
            report.removed_bytes += bytes;
        }
        Ok(report)
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, ReclaimError> + Send + 'static,
    ) -> Result<T, ReclaimError> {
        let inner = self.clone();
        self.env
            .tasks
            .spawn_blocking("volume-reclaim", move || work(&inner))
            .await
            .map_err(|_| ReclaimError::Stopped)?
    }

    /// Segments that take no more records and have none in flight.
    fn quiet_segments(&self) -> Vec<Arc<Segment>> {
        let mut segments = self.segments.snapshot();
        segments.retain(|s| s.is_quiet());
        segments
    }

    /// The highest number must stay on the disk, or the mark would fall once the index is built anew.
    async fn keep_mark(&self, dead: &mut Vec<Arc<Segment>>) -> Result<(), ReclaimError> {
        let highest = |segments: &[Arc<Segment>]| {
            let numbers = segments.iter().map(|s| s.last_sequence());
            numbers.max().unwrap_or(0)
        };
        let dying: BTreeSet<SegmentId> = dead.iter().map(|s| s.id).collect();
        let mut kept = self.segments.snapshot();
        kept.retain(|s| !dying.contains(&s.id));
        let last = highest(dead);
        if highest(&kept) >= last {
            return Ok(());
        }
        match self.carry_mark().await {
            // Later records will have higher numbers; until then the segment stays.
            Err(WriteError::DiskFull(_)) => dead.retain(|s| s.last_sequence() < last),
            other => other?,
        }
        Ok(())
    }

    fn is_mostly_dead(&self, segment: &Segment) -> bool {
        let Some(usage) = self.index.usage(segment.id) else {
            return false;
        };
        let percent = segment.limit() / 100;
        let threshold = percent * self.config.compact_below_percent;
        // What writers gave up or a crash interrupted, and tombstones.
        let unnamed = segment
            .tail()
            .saturating_sub(ALIGNMENT + usage.record_bytes);
        let dead = usage.dead_bytes > 0 || unnamed >= segment.limit().saturating_sub(threshold);
        // Bytes never used count as dead too: a segment sealed early is worth moving.
        usage.live_chunks > 0 && dead && usage.live_bytes < threshold
    }

    async fn compact(
        self: &Arc<Self>,
        segment: &Segment,
        report: &mut ReclaimReport,
    ) -> Result<(), ReclaimError> {
        let id = segment.id;
        let records = self.blocking(move |inner| inner.live_records(id)).await?;
        for record in records {
            match self.copy(&record).await? {
                Copied::Moved => report.moved_chunks += 1,
                Copied::Deleted => {}
                Copied::Damaged => report.damaged_chunks += 1,
            }
        }
        Ok(())
    }

    fn live_records(&self, segment: SegmentId) -> Result<Vec<KnownRecord>, ReclaimError> {
        let mut live = Vec::new();
        self.index.each_record(Some(segment), |record| {
            if !record.dead {
                live.push(record);
            }
        })?;
        Ok(live)
    }

    /// Copies one chunk to the log's end and lets the index point there.
    async fn copy(self: &Arc<Self>, record: &KnownRecord) -> Result<Copied, ReclaimError> {
        let mut stream = match self.read(record.chunk, None).await {
            Ok(stream) => stream,
            Err(error) => return refused(error),
        };
        let length = Some(record.at.length);
        let mut writer = ChunkWriter::new(self.clone(), record.chunk, length, Role::CompactedCopy);
        while let Some(bytes) = stream.next().await {
            match bytes {
                Ok(bytes) => writer.append(bytes).await?,
                Err(error) => return refused(error),
            }
        }
        let _alone = self.relocation.write().await;
        if self.index.find(&record.chunk)? != Some(record.at) {
            return Ok(Copied::Deleted);
        }
        writer.finish().await?;
        Ok(Copied::Moved)
    }

    /// Writes the tombstones of `dying` segments again that records elsewhere still need.
    async fn renew_tombstones(
        self: &Arc<Self>,
        dying: BTreeSet<SegmentId>,
    ) -> Result<(), ReclaimError> {
        let needed = self.blocking(move |inner| inner.needed(&dying)).await?;
        let needed: Vec<_> = needed.into_iter().collect();
        for part in needed.chunks(TOMBSTONE_CHUNKS) {
            let chunks: Vec<ChunkId> = part.iter().map(|(chunk, _)| *chunk).collect();
            let records = part.iter().flat_map(|(_, r)| r.clone()).collect();
            self.bury(&chunks, |tombstone, _| Change::Retargeted {
                records,
                tombstone,
            })
            .await?;
        }
        Ok(())
    }

    /// Dead records outside `dying` segments whose tombstone is in one, by chunk.
    fn needed(
        &self,
        dying: &BTreeSet<SegmentId>,
    ) -> Result<BTreeMap<ChunkId, Vec<(SegmentId, u64)>>, ReclaimError> {
        let mut needed = BTreeMap::<_, Vec<_>>::new();
        self.index.each_record(None, |record| {
            if record.dead
                && dying.contains(&record.tombstone)
                && !dying.contains(&record.at.segment)
            {
                let place = (record.at.segment, record.at.offset);
                needed.entry(record.chunk).or_default().push(place);
            }
        })?;
        Ok(needed)
    }
}

/// What became of a chunk that compaction wanted to move.
enum Copied {
    Moved,
    Deleted,
    Damaged,
}

fn refused(error: ReadError) -> Result<Copied, ReclaimError> {
    match error {
        ReadError::NotFound { .. } | ReadError::OutOfRange { .. } => Ok(Copied::Deleted),
        // The damage was logged and counted where it was read; the record stays where it is.
        ReadError::Corrupt(_) | ReadError::SegmentMissing { .. } => Ok(Copied::Damaged),
        ReadError::Io(error) => Err(error.into()),
        ReadError::Index(error) => Err(error.into()),
        ReadError::Stopped => Err(ReclaimError::Stopped),
    }
}
