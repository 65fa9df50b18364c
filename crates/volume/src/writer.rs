//! Writing one chunk: cells stream into reserved space, the footer goes in at the end, the header at the sync.

use crate::error::WriteError;
use crate::format::{CELL_BYTES, HEADER_LEN, Header, RecordKind, record_len};
use crate::index::{Change, Location};
use crate::record::RecordHasher;
use crate::room::Purpose;
use crate::segments::Reservation;
use crate::sync::{SyncItem, Written};
use crate::volume::Inner;
use bytes::Bytes;
use floeberg_types::ChunkId;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A chunk that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkRef {
    /// Its id.
    pub chunk: ChunkId,
    /// Its length in bytes.
    pub len: u64,
    /// CRC-64/NVME of its bytes.
    pub crc64: u64,
}

/// What the record becomes once it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    NewChunk,
    CompactedCopy,
}

/// A flushed cell in progress; gives the hash state back.
type Flush = JoinHandle<Result<Box<RecordHasher>, WriteError>>;

/// Writes one chunk. Dropped unfinished, it leaves nothing but space for compaction.
///
/// Up to 2 MiB are held in memory: one cell fills while the previous one is written.
pub struct ChunkWriter {
    inner: Arc<Inner>,
    chunk: ChunkId,
    announced: Option<u64>,
    role: Role,
    received: u64,
    /// The cell that fills; the first one starts with room for the header.
    cell: Vec<u8>,
    hasher: Option<Box<RecordHasher>>,
    flush: Option<Flush>,
    /// Promised space, once the first cell was full.
    reservation: Option<Reservation>,
}

impl ChunkWriter {
    pub(crate) fn new(
        inner: Arc<Inner>,
        chunk: ChunkId,
        announced: Option<u64>,
        role: Role,
    ) -> Self {
        Self {
            inner,
            chunk,
            announced,
            role,
            received: 0,
            cell: vec![0; HEADER_LEN],
            hasher: Some(Box::new(RecordHasher::new())),
            flush: None,
            reservation: None,
        }
    }

    /// The id the chunk will have.
    #[must_use]
    pub fn chunk(&self) -> ChunkId {
        self.chunk
    }

    /// Bytes appended so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.received
    }

    /// Whether nothing was appended yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.received == 0
    }

    fn limit(&self) -> u64 {
        self.announced.unwrap_or(self.inner.config.max_chunk_bytes)
    }

    /// Adds bytes at the end of the chunk.
    ///
    /// # Errors
    /// If the chunk grows too long, the disk is full or failed. The writer is then of no more use.
    pub async fn append(&mut self, mut bytes: Bytes) -> Result<(), WriteError> {
        let limit = self.limit();
        if self.received + bytes.len() as u64 > limit {
            return Err(WriteError::TooLong { limit });
        }
        self.received += bytes.len() as u64;
        while !bytes.is_empty() {
            let prefix = self.prefix();
            let cell_bytes = usize::try_from(CELL_BYTES).expect("a cell is 1 MiB") + prefix;
            let piece = bytes.split_to((cell_bytes - self.cell.len()).min(bytes.len()));
            self.cell.extend_from_slice(&piece);
            if self.cell.len() == cell_bytes {
                self.flush_cell(prefix).await?;
            }
        }
        Ok(())
    }

    /// Room for the header in the current cell.
    fn prefix(&self) -> usize {
        if self.reservation.is_none() {
            HEADER_LEN
        } else {
            0
        }
    }

    /// Waits for the cell in flight, if any, and takes the hash state.
    async fn settle_flush(&mut self) -> Result<Box<RecordHasher>, WriteError> {
        if let Some(flush) = self.flush.take() {
            return flush.await.map_err(|_| WriteError::Closed)?;
        }
        self.hasher.take().ok_or(WriteError::Closed)
    }

    /// Hands the full cell to the disk and starts the next one.
    async fn flush_cell(&mut self, prefix: usize) -> Result<(), WriteError> {
        let mut hasher = self.settle_flush().await?;
        if self.reservation.is_none() {
            // Without an announced length the whole of a chunk is promised and later trimmed.
            let len = record_len(self.limit());
            self.reservation = Some(self.inner.segments.reserve(len, self.purpose()).await?);
        }
        let reservation = self.reservation.as_ref().ok_or(WriteError::Closed)?;
        let segment = reservation.segment.clone();
        let at = reservation.offset + HEADER_LEN as u64 + hasher.len();
        let next = Vec::with_capacity(self.cell.len() - prefix);
        let cell = std::mem::replace(&mut self.cell, next);
        self.flush = Some(
            self.inner
                .env
                .tasks
                .spawn_blocking("volume-write", move || {
                    let payload = &cell[prefix..];
                    hasher.update(payload);
                    segment
                        .file
                        .write_at(payload, at)
                        .map_err(|error| segment.fail(&error))?;
                    Ok(hasher)
                }),
        );
        Ok(())
    }

    fn purpose(&self) -> Purpose {
        match self.role {
            Role::NewChunk => Purpose::Data,
            Role::CompactedCopy => Purpose::Housekeeping,
        }
    }

    /// Completes the record; when this returns the chunk is durable and readable.
    ///
    /// Dropping the future does not undo it: the chunk may or may not exist then.
    ///
    /// # Errors
    /// If the announced length was not reached, or the disk is full or failed.
    pub async fn finish(mut self) -> Result<ChunkRef, WriteError> {
        if let Some(announced) = self.announced
            && announced != self.received
        {
            return Err(WriteError::TooShort {
                announced,
                received: self.received,
            });
        }
        let hasher = self.settle_flush().await?;
        let prefix = self.prefix();
        let reservation = match self.reservation.take() {
            Some(reservation) => reservation,
            None => {
                let len = record_len(self.received);
                self.inner.segments.reserve(len, self.purpose()).await?
            }
        };
        let ending = Ending {
            kind: RecordKind::Data,
            chunk: self.chunk,
            payload_len: self.received,
            cell: std::mem::take(&mut self.cell),
            prefix,
            hasher,
            reservation,
        };
        let role = self.role;
        let (chunk, length) = (self.chunk, self.received);
        let change = move |segment, offset| {
            let at = Location {
                segment,
                offset,
                length,
            };
            match role {
                Role::NewChunk => Change::Stored { chunk, at },
                Role::CompactedCopy => Change::Moved { chunk, to: at },
            }
        };
        let crc64 = self.inner.complete(ending, change).await?;
        self.inner.metrics.bytes_written.inc_by(self.received);
        Ok(ChunkRef {
            chunk: self.chunk,
            len: self.received,
            crc64,
        })
    }
}

/// The rest of a record: its last cell and what completes it.
pub(crate) struct Ending {
    kind: RecordKind,
    chunk: ChunkId,
    payload_len: u64,
    cell: Vec<u8>,
    prefix: usize,
    hasher: Box<RecordHasher>,
    reservation: Reservation,
}

impl Ending {
    /// Writes the last payload bytes, table and footer. The header follows just before the sync, so
    /// that an unfinished record is never taken for one. Returns the reservation, cut to size, the
    /// header, and the CRC.
    fn write(self) -> Result<(Reservation, Header, u64), WriteError> {
        let Self {
            mut cell,
            mut hasher,
            mut reservation,
            ..
        } = self;
        let segment = reservation.segment.clone();
        let place = segment.place(reservation.offset);
        let at = reservation.offset + HEADER_LEN as u64 + hasher.len();
        hasher.update(&cell[self.prefix..]);
        let trailer = hasher.finish(self.chunk, &place);
        cell.extend_from_slice(&trailer.bytes);
        segment
            .file
            .write_at(&cell[self.prefix..], at)
            .and_then(|()| reservation.trim(record_len(self.payload_len)))
            .map_err(|error| segment.fail(&error))?;
        let header = Header::plain(self.kind, self.chunk, self.payload_len);
        Ok((reservation, header, trailer.payload_crc))
    }
}

impl Inner {
    /// Writes a record's end, waits for the sync that covers it and for its index rows.
    async fn complete(
        &self,
        ending: Ending,
        change: impl FnOnce(crate::SegmentId, u64) -> Change + Send + 'static,
    ) -> Result<u64, WriteError> {
        let (done, durable) = oneshot::channel();
        let queue = self.queue.clone();
        let write = self.env.tasks.spawn_blocking("volume-write", move || {
            let (reservation, header, crc) = ending.write()?;
            let change = change(reservation.segment.id, reservation.offset);
            // Queued from here, so that a caller who stops waiting cannot split write and sync.
            queue.push(SyncItem::Written(Written {
                reservation,
                header,
                change,
                done,
            }));
            Ok::<_, WriteError>(crc)
        });
        let crc = write.await.map_err(|_| WriteError::Closed)??;
        durable.await.map_err(|_| WriteError::Closed)??;
        Ok(crc)
    }

    /// Writes a record without chunks, which has the highest number when this returns.
    pub(crate) async fn carry_mark(&self) -> Result<(), WriteError> {
        self.bury(&[], |tombstone, _| Change::Killed {
            chunks: Vec::new(),
            tombstone,
        })
        .await
    }

    /// Writes a durable tombstone record for up to a record's worth of chunks.
    pub(crate) async fn bury(
        &self,
        chunks: &[ChunkId],
        change: impl FnOnce(crate::SegmentId, u64) -> Change + Send + 'static,
    ) -> Result<(), WriteError> {
        let mut cell = vec![0; HEADER_LEN];
        for chunk in chunks {
            cell.extend_from_slice(chunk.as_bytes());
        }
        let payload_len = (cell.len() - HEADER_LEN) as u64;
        let len = record_len(payload_len);
        let ending = Ending {
            kind: RecordKind::Tombstone,
            chunk: ChunkId::from_bytes([0; 16]),
            payload_len,
            cell,
            prefix: HEADER_LEN,
            hasher: Box::new(RecordHasher::new()),
            reservation: self.segments.reserve(len, Purpose::Housekeeping).await?,
        };
        self.complete(ending, change).await.map(|_| ())
    }
}
