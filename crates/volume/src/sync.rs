//! Group sync: one task makes all finished records of a disk durable, many per `fdatasync`, and numbers
//! them in that order.

use crate::error::WriteError;
use crate::format::{Header, Stamp};
use crate::index::{Change, Index};
use crate::mark::Numbers;
use crate::segment::{Segment, SegmentId, Synced};
use crate::segments::Reservation;
use floeberg_env::{DiskFile, Env};
use floeberg_proto::floeberg::volume::v1::SegmentRow;
use floeberg_telemetry::VolumeMetrics;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};

/// Record bytes after which the index is flushed, so that a recovery scan stays short.
const FLUSH_INDEX_EVERY: u64 = 64 << 20;

/// Records that share a sync, at most; their place among them has 16 bits.
const GROUP_MAX: usize = 4096;

/// A record whose bytes are in the file, except for its header, but not yet durable.
pub(crate) struct Written {
    pub(crate) reservation: Reservation,
    /// Settled mark and stamp are filled in at the sync.
    pub(crate) header: Header,
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
    pub(crate) numbers: Arc<Numbers>,
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
            while group.written.len() < GROUP_MAX
                && let Ok(item) = queue.try_recv()
            {
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
        let run = SyncRun {
            env: self.env.clone(),
            index: self.index.clone(),
            numbers: self.numbers.clone(),
            metrics: self.metrics.clone(),
        };
        let work = move || run.group(group);
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

/// One sync, of one group.
struct SyncRun {
    env: Env,
    index: Arc<Index>,
    numbers: Arc<Numbers>,
    metrics: VolumeMetrics,
}

/// The records of a group that are in one segment; they become durable, or fail, together.
struct Batch {
    segment: Arc<Segment>,
    written: Vec<Written>,
}

impl SyncRun {
    /// Numbers and syncs the records of every touched segment, one after the other, then publishes all
    /// in one index batch.
    fn group(&self, group: Group) {
        let count = u32::try_from(group.written.len()).unwrap_or(u32::MAX);
        if count > 0 {
            self.metrics.batch_chunks.observe(f64::from(count));
        }
        let mut batches = BTreeMap::<SegmentId, Batch>::new();
        for (segment, offset, len) in &group.abandoned {
            if segment.failure().is_none()
                && let Err(error) = segment.write_gap(*offset, *len)
            {
                segment.fail(&error);
            }
            batch_of(&mut batches, segment);
        }
        for written in group.written {
            let segment = written.reservation.segment.clone();
            batch_of(&mut batches, &segment).written.push(written);
        }
        for batch in batches.values() {
            self.sync(batch);
        }
        for (segment, offset, _) in group.abandoned {
            if segment.failure().is_none() {
                segment.settle(offset);
            }
        }
        for segment in group.sealed {
            batch_of(&mut batches, &segment);
        }
        self.publish(batches);
    }

    fn sync(&self, batch: &Batch) {
        let segment = &batch.segment;
        if segment.failure().is_some() {
            return;
        }
        let last = match self.number(batch) {
            Ok(last) => last,
            Err(error) => {
                segment.fail(&error);
                return;
            }
        };
        let started = self.env.clock.monotonic();
        let synced = segment.file.sync_data();
        let took = self.env.clock.monotonic().saturating_sub(started);
        self.metrics.fsyncs.inc();
        self.metrics.fsync_seconds.observe(took.as_secs_f64());
        match (synced, last) {
            (Err(error), _) => {
                segment.fail(&error);
            }
            (Ok(()), Some(last)) => segment.synced(&last),
            (Ok(()), None) => {}
        }
    }

    /// Writes the headers. The numbers of a batch that then fails belong to no record that is ever
    /// acknowledged, and the batches behind it say so by where they begin.
    fn number(&self, batch: &Batch) -> io::Result<Option<Synced>> {
        let segment = &batch.segment;
        let first = self.numbers.take(batch.written.len() as u64);
        let mut last = None;
        let mut previous = segment.last_start();
        for (index, written) in (0_u16..).zip(&batch.written) {
            let sequence = first + u64::from(index);
            let start = written.reservation.offset;
            let header = Header {
                settled: segment.settled(),
                stamp: Stamp {
                    sequence,
                    index,
                    previous,
                },
                ..written.header.clone()
            };
            let bytes = header.encode(&segment.place(start));
            segment.file.write_at(&bytes, start)?;
            last = Some(Synced { sequence, start });
            previous = start;
        }
        Ok(last)
    }

    fn publish(&self, batches: BTreeMap<SegmentId, Batch>) {
        let mut changes = Vec::new();
        let mut durable = Vec::new();
        let mut marks = Vec::with_capacity(batches.len());
        let mut acknowledged = 0;
        for Batch { segment, written } in batches.into_values() {
            match segment.failure() {
                Some(failure) => {
                    for item in written {
                        item.reservation.forsake();
                        let _ = item.done.send(Err(failure.clone().into()));
                    }
                }
                None => {
                    acknowledged = acknowledged.max(segment.last_sequence());
                    for item in written {
                        item.reservation.settle();
                        changes.push(item.change);
                        durable.push(item.done);
                    }
                }
            }
            marks.push((segment.id, mark(&segment)));
        }
        let applied = self.index.apply(&changes, &marks);
        self.numbers.acknowledge(acknowledged);
        for done in durable {
            let _ = done.send(applied.clone().map_err(WriteError::from));
        }
    }
}

fn batch_of<'a>(
    batches: &'a mut BTreeMap<SegmentId, Batch>,
    segment: &Arc<Segment>,
) -> &'a mut Batch {
    batches.entry(segment.id).or_insert_with(|| Batch {
        segment: segment.clone(),
        written: Vec::new(),
    })
}

/// The row that says how far the index follows a segment.
pub(crate) fn mark(segment: &Segment) -> SegmentRow {
    SegmentRow {
        settled: segment.settled(),
        sealed: segment.is_quiet(),
        last_sequence: segment.last_sequence(),
    }
}
