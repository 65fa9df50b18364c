//! Reading a chunk: only the blocks a range needs, every one of them verified.

use crate::error::{CorruptRecord, ReadError, RecordPart};
use crate::format::CELL_BYTES;
use crate::index::Location;
use crate::record::{RecordHasher, VerifiedRecord, corrupt};
use crate::segment::Segment;
use crate::volume::Inner;
use crate::writer::ChunkRef;
use bytes::Bytes;
use floeberg_env::Tasks;
use floeberg_telemetry::VolumeMetrics;
use floeberg_types::ChunkId;
use futures::Stream;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::task::JoinHandle;

/// A verified record and the segment that keeps it on disk while it is read.
struct Source {
    segment: Arc<Segment>,
    record: VerifiedRecord,
    metrics: VolumeMetrics,
}

impl Source {
    fn read(&self, range: Range<u64>) -> Result<Bytes, ReadError> {
        let bytes = self.record.read(self.segment.file.as_ref(), range);
        note_damage(&self.metrics, &bytes);
        let bytes = bytes?;
        self.metrics.bytes_read.inc_by(bytes.len() as u64);
        Ok(bytes)
    }
}

fn note_damage<T>(metrics: &VolumeMetrics, result: &Result<T, ReadError>) {
    if let Err(ReadError::Corrupt(damage)) = result {
        metrics.corrupt_blocks.inc();
        log_damage(damage);
    }
}

fn log_damage(damage: &CorruptRecord) {
    tracing::error!(
        chunk = %damage.chunk, segment = %damage.segment, offset = damage.offset,
        part = %damage.part, "damaged record"
    );
}

/// The bytes of a range, in pieces of at most 1 MiB; ends after the first error.
///
/// The piece behind the one just returned is read ahead.
pub struct ChunkStream {
    source: Arc<Source>,
    tasks: Tasks,
    ready: Option<Bytes>,
    flight: Option<JoinHandle<Result<Bytes, ReadError>>>,
    rest: Range<u64>,
}

impl ChunkStream {
    /// Bytes not yet returned.
    fn take_piece(&mut self) -> Range<u64> {
        let piece = first_piece(&self.rest);
        self.rest.start = piece.end;
        piece
    }

    fn read_ahead(&mut self) {
        if self.flight.is_none() && !self.rest.is_empty() {
            let (source, piece) = (self.source.clone(), self.take_piece());
            self.flight = Some(
                self.tasks
                    .spawn_blocking("volume-read", move || source.read(piece)),
            );
        }
    }
}

/// Up to the next multiple of a cell, so that later pieces start on block boundaries.
fn first_piece(range: &Range<u64>) -> Range<u64> {
    let end = (range.start + 1).next_multiple_of(CELL_BYTES);
    range.start..end.min(range.end)
}

impl Stream for ChunkStream {
    type Item = Result<Bytes, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(bytes) = self.ready.take() {
            self.read_ahead();
            return Poll::Ready(Some(Ok(bytes)));
        }
        let Some(flight) = self.flight.as_mut() else {
            return Poll::Ready(None);
        };
        let read = ready!(Pin::new(flight).poll(cx)).unwrap_or(Err(ReadError::Stopped));
        self.flight = None;
        if read.is_ok() {
            self.read_ahead();
        }
        Poll::Ready(Some(read))
    }
}

impl Inner {
    /// Finds a live chunk and pins its segment.
    pub(crate) fn locate(
        &self,
        chunk: &ChunkId,
    ) -> Result<(Location, Option<Arc<Segment>>), ReadError> {
        loop {
            let found = self.index.find(chunk)?;
            let at = found.ok_or(ReadError::NotFound { chunk: *chunk })?;
            let segment = self.segments.get(at.segment);
            // Compaction may have moved the chunk and removed the segment in between.
            if segment.is_some() || self.index.find(chunk)? == found {
                return Ok((at, segment));
            }
        }
    }

    /// Opens a chunk, verifies its header, table and footer, and reads the first piece.
    fn open_range(
        &self,
        chunk: ChunkId,
        range: Option<Range<u64>>,
    ) -> Result<(Arc<Source>, Bytes, Range<u64>), ReadError> {
        let (at, segment) = self.locate(&chunk)?;
        let range = range.unwrap_or(0..at.length);
        if range.start > range.end || range.end > at.length {
            return Err(ReadError::OutOfRange {
                range,
                len: at.length,
            });
        }
        let segment = segment.ok_or(ReadError::SegmentMissing {
            chunk,
            segment: at.segment,
        })?;
        let place = segment.place(at.offset);
        let record = VerifiedRecord::open(segment.file.as_ref(), place, chunk, at.length);
        note_damage(&self.metrics, &record);
        let source = Arc::new(Source {
            segment,
            record: record?,
            metrics: self.metrics.clone(),
        });
        let piece = first_piece(&range);
        let bytes = source.read(piece.clone())?;
        Ok((source, bytes, piece.end.min(range.end)..range.end))
    }

    pub(crate) async fn read(
        self: &Arc<Self>,
        chunk: ChunkId,
        range: Option<Range<u64>>,
    ) -> Result<ChunkStream, ReadError> {
        let inner = self.clone();
        let (source, bytes, rest) = self
            .env
            .tasks
            .spawn_blocking("volume-read", move || inner.open_range(chunk, range))
            .await
            .map_err(|_| ReadError::Stopped)??;
        Ok(ChunkStream {
            source,
            tasks: self.env.tasks.clone(),
            ready: (!bytes.is_empty()).then_some(bytes),
            flight: None,
            rest,
        })
    }

    /// Verifies a whole record, its BLAKE3 hash included.
    pub(crate) fn verify(&self, chunk: ChunkId) -> Result<ChunkRef, ReadError> {
        let (source, first, mut rest) = self.open_range(chunk, None)?;
        let mut hasher = RecordHasher::new();
        hasher.update(&first);
        while !rest.is_empty() {
            let piece = first_piece(&rest);
            rest.start = piece.end;
            hasher.update(&source.read(piece)?);
        }
        let record = &source.record;
        if !hasher.matches(&record.footer) {
            let damage = corrupt(chunk, &record.place, RecordPart::Footer);
            self.metrics.corrupt_blocks.inc();
            log_damage(&damage);
            return Err(damage.into());
        }
        Ok(ChunkRef {
            chunk,
            len: record.payload_len,
            crc64: record.footer.payload_crc,
        })
    }
}
