//! Group sync: one task makes all finished records of a disk durable, many per `fdatasync`.

use crate::error::{SegmentFailed, WriteError};
use crate::index::{Change, Index};
use crate::segment::{Segment, SegmentId};
use crate::segments::Reservation;
use floeberg_env::{DiskFile, Env};
use floeberg_proto::floeberg::volume::v1::SegmentRow;
use floeberg_telemetry::VolumeMetrics;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};

/// Record bytes after which the index is flushed, so that a recovery scan stays short.
const FLUSH_INDEX_EVERY: u64 = 64 << 20;

/// A record whose bytes are in the file but not yet durable.
pub(crate) struct Written {
    pub(crate) reservation: Reservation,
    pub(crate) change: Change,
    pub(crate) done: oneshot::Sender<Result<(), WriteError>>,
}

/// Work of the sync task.
pub(crate) enum SyncItem {
    Written(Written),
    /// Promised space that no record will fill.
    Abandoned {
        segment: Arc<Segment>,
        offset: u64,
        len: u64,
    },
    /// The segment takes no more records; the index notes it.
    Sealed(Arc<Segment>),
    /// Flush the index and stop.
    Close(oneshot::Sender<()>),
}

/// The way to the sync task; when the last one is dropped, the task ends.
#[derive(Clone)]
pub(crate) struct SyncQueue(mpsc::UnboundedSender<SyncItem>);

impl SyncQueue {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<SyncItem>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Queues an item. After a close it is dropped, which its waiter sees as [`WriteError::Closed`].
    pub(crate) fn push(&self, item: SyncItem) {
        // The length is bounded by the writers, each of which waits for its record.
        let _ = self.0.send(item);
    }
}

/// What the sync task works with; it also holds the directory lock until it ends.
pub(crate) struct SyncTask {
    pub(crate) env: Env,
    pub(crate) index: Arc<Index>,
    pub(crate) metrics: VolumeMetrics,
    #[expect(dead_code, reason = "held for its lock")]
    pub(crate) lock: Arc<dyn DiskFile>,
}

#[derive(Default)]
struct Group {
    written: Vec<Written>,
    abandoned: Vec<(Arc<Segment>, u64, u64)>,
    sealed: Vec<Arc<Segment>>,
    close: Option<oneshot::Sender<()>>,
}

impl Group {
    fn add(&mut self, item: SyncItem) {
        match item {
            SyncItem::Written(written) => self.written.push(written),
            SyncItem::Abandoned {
                segment,
                offset,
                len,
            } => self.abandoned.push((segment, offset, len)),
            SyncItem::Sealed(segment) => self.sealed.push(segment),
            SyncItem::Close(done) => self.close = Some(done),
        }
    }
}

impl SyncTask {
    pub(crate) async fn run(self, mut queue: mpsc::UnboundedReceiver<SyncItem>) {
        let mut unflushed = 0;
        let mut flushing: Option<JoinHandle<()>> = None;
        while let Some(first) = queue.recv().await {
            // Everything that arrived during the last sync shares the next one.
            let mut group = Group::default();
            group.add(first);
            while let Ok(item) = queue.try_recv() {
                group.add(item);
            }
            unflushed += group.written.iter().map(|w| w.reservation.len).sum::<u64>();
            let close = group.close.take();
            if self.sync(group).await.is_err() {
                // The runtime is shutting down; waiters see their channel close.
                return;
            }
            if close.is_some() || unflushed >= FLUSH_INDEX_EVERY {
                unflushed = 0;
                if let Some(previous) = flushing.take() {
                    let _ = previous.await;
                }
                flushing = Some(self.flush_index());
            }
            if let Some(done) = close {
                queue.close();
                if let Some(last) = flushing {
                    let _ = last.await;
                }
                // Released before the answer, so that the caller can open the volume again.
                drop(self);
                let _ = done.send(());
                return;
            }
        }
    }

    async fn sync(&self, group: Group) -> Result<(), JoinError> {
        let (index, metrics, env) = (self.index.clone(), self.metrics.clone(), self.env.clone());
        let work = move || sync_group(&env, &index, &metrics, group);
        self.env.tasks.spawn_blocking("volume-sync", work).await
    }

    fn flush_index(&self) -> JoinHandle<()> {
        let index = self.index.clone();
        let flush = move || {
            if let Err(error) = index.flush() {
                // Nothing is lost: the next start scans further back.
                tracing::error!(%error, "the volume index could not be flushed");
            }
        };
        self.env.tasks.spawn_blocking("volume-index-flush", flush)
    }
}

/// Syncs every touched segment once, then publishes the records in one index batch.
fn sync_group(env: &Env, index: &Index, metrics: &VolumeMetrics, group: Group) {
    let mut touched = BTreeMap::<SegmentId, Arc<Segment>>::new();
    for (segment, offset, len) in &group.abandoned {
        if segment.failure().is_none()
            && let Err(error) = segment.write_gap(*offset, *len)
        {
            segment.fail(&error);
        }
        touched.insert(segment.id, segment.clone());
    }
    for written in &group.written {
        let segment = &written.reservation.segment;
        touched.insert(segment.id, segment.clone());
    }
    for segment in touched.values() {
        sync_segment(env, metrics, segment);
    }
    for (segment, offset, _) in group.abandoned {
        if segment.failure().is_none() {
            segment.settle(offset);
        }
    }
    for segment in group.sealed {
        touched.insert(segment.id, segment);
    }
    let count = u32::try_from(group.written.len()).unwrap_or(u32::MAX);
    if count > 0 {
        metrics.batch_chunks.observe(f64::from(count));
    }
    publish(index, &touched, group.written);
}

fn sync_segment(env: &Env, metrics: &VolumeMetrics, segment: &Segment) {
    if segment.failure().is_some() {
        return;
    }
    let started = env.clock.monotonic();
    let synced = segment.file.sync_data();
    let took = env.clock.monotonic().saturating_sub(started);
    metrics.fsyncs.inc();
    metrics.fsync_seconds.observe(took.as_secs_f64());
    if let Err(error) = synced {
        segment.fail(&error);
    }
}

fn publish(index: &Index, touched: &BTreeMap<SegmentId, Arc<Segment>>, written: Vec<Written>) {
    let mut changes = Vec::with_capacity(written.len());
    let mut durable = Vec::with_capacity(written.len());
    for item in written {
        let failure: Option<SegmentFailed> = item.reservation.segment.failure();
        if let Some(failure) = failure {
            item.reservation.forsake();
            let _ = item.done.send(Err(failure.into()));
        } else {
            item.reservation.settle();
            changes.push(item.change);
            durable.push(item.done);
        }
    }
    let marks: Vec<_> = touched
        .values()
        .map(|segment| (segment.id, mark(segment)))
        .collect();
    let applied = index.apply(&changes, &marks);
    for done in durable {
        let _ = done.send(applied.clone().map_err(WriteError::from));
    }
}

/// The row that says how far the index follows a segment.
pub(crate) fn mark(segment: &Segment) -> SegmentRow {
    SegmentRow {
        settled: segment.settled(),
        sealed: segment.is_quiet(),
    }
}
