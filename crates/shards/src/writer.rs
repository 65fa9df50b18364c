//! Writing one chunk to all its nodes at once.
//!
//! Bytes are cut into pieces, which all copies share.

use crate::copies::Copies;
use crate::error::WriteError;
use crate::store::Inner;
use crate::wire::{End, PIECE_BYTES, Piece, RunningCrc, WriteHead, crc64};
use bytes::{Bytes, BytesMut};
use floeberg_placement::{Epoch, Profile, ShardSet};
use floeberg_types::{ChunkId, NodeId};
use std::sync::Arc;

/// A chunk that is durable on as many nodes as its profile asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkRef {
    /// Its id.
    pub chunk: ChunkId,
    /// Its length in bytes.
    pub len: u64,
    /// CRC-64/NVME of its bytes.
    pub crc64: u64,
    /// How it is spread.
    pub profile: Profile,
    /// The placement map by which its nodes were chosen.
    pub epoch: Epoch,
    /// Shards that are not known to be durable. If there are any, the chunk needs a repair row.
    pub owed: ShardSet,
}

/// Writes one chunk. Dropped unfinished, it leaves nothing but space for compaction.
pub struct ChunkWriter {
    kind: Kind,
}

enum Kind {
    /// One copy on this node: nothing stands between the caller and the volume.
    Direct {
        writer: floeberg_volume::ChunkWriter,
        epoch: Epoch,
    },
    Spread(Box<Spread>),
}

impl From<Spread> for ChunkWriter {
    fn from(spread: Spread) -> Self {
        Self {
            kind: Kind::Spread(Box::new(spread)),
        }
    }
}

impl ChunkWriter {
    pub(crate) fn direct(writer: floeberg_volume::ChunkWriter, epoch: Epoch) -> Self {
        Self {
            kind: Kind::Direct { writer, epoch },
        }
    }

    /// The id the chunk will have.
    #[must_use]
    pub fn chunk(&self) -> ChunkId {
        match &self.kind {
            Kind::Direct { writer, .. } => writer.chunk(),
            Kind::Spread(spread) => spread.head.shard.chunk,
        }
    }

    /// Bytes appended so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.kind {
            Kind::Direct { writer, .. } => writer.len(),
            Kind::Spread(spread) => spread.received,
        }
    }

    /// Whether nothing was appended yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds bytes at the end of the chunk; waits while the nodes that are needed lag behind.
    ///
    /// # Errors
    /// If the chunk grows too long, or too few nodes take it. The writer is then of no more use.
    pub async fn append(&mut self, bytes: Bytes) -> Result<(), WriteError> {
        match &mut self.kind {
            Kind::Direct { writer, .. } => Ok(writer.append(bytes).await?),
            Kind::Spread(spread) => spread.append(bytes).await,
        }
    }

    /// Completes the chunk; when this returns as many copies are durable as the profile asks for.
    ///
    /// Dropping the future does not undo it: the chunk may or may not exist then.
    ///
    /// # Errors
    /// If the announced length was not reached, or too few copies became durable: some may exist
    /// until the chunk is deleted.
    pub async fn finish(self) -> Result<ChunkRef, WriteError> {
        match self.kind {
            Kind::Spread(spread) => spread.finish().await,
            Kind::Direct { writer, epoch } => {
                let stored = writer.finish().await?;
                Ok(ChunkRef {
                    chunk: stored.chunk,
                    len: stored.len,
                    crc64: stored.crc64,
                    profile: Profile::R1,
                    epoch,
                    owed: ShardSet::default(),
                })
            }
        }
    }
}

/// A chunk on its way to several nodes.
pub(crate) struct Spread {
    head: WriteHead,
    copies: Copies,
    /// The longest it may become.
    limit: u64,
    received: u64,
    /// Less than a piece.
    buffer: BytesMut,
    sequence: u64,
    crc: RunningCrc,
}

impl Spread {
    pub(crate) fn begin(
        inner: &Arc<Inner>,
        head: WriteHead,
        targets: &[NodeId],
        limit: u64,
    ) -> Result<Self, WriteError> {
        head.profile.copies()?;
        Ok(Self {
            copies: Copies::begin(inner.clone(), head, targets)?,
            limit,
            head,
            received: 0,
            buffer: BytesMut::new(),
            sequence: 0,
            crc: RunningCrc::new(),
        })
    }

    async fn append(&mut self, mut bytes: Bytes) -> Result<(), WriteError> {
        if self.received + bytes.len() as u64 > self.limit {
            return Err(WriteError::TooLong { limit: self.limit });
        }
        self.received += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = PIECE_BYTES - self.buffer.len();
            let part = bytes.split_to(room.min(bytes.len()));
            // A whole piece needs no copying.
            if part.len() == PIECE_BYTES {
                self.offer(part, None).await?;
                continue;
            }
            let sent = self.sequence * PIECE_BYTES as u64;
            let left = usize::try_from(self.limit - sent).unwrap_or(PIECE_BYTES);
            self.buffer.reserve(room.min(left - self.buffer.len()));
            self.buffer.extend_from_slice(&part);
            if self.buffer.len() == PIECE_BYTES {
                let piece = std::mem::take(&mut self.buffer).freeze();
                self.offer(piece, None).await?;
            }
        }
        Ok(())
    }

    async fn offer(&mut self, data: Bytes, len: Option<u64>) -> Result<(), WriteError> {
        self.crc.update(&data);
        let crc = self.crc.value();
        let piece = Piece {
            sequence: self.sequence,
            crc64: crc64(&data),
            data,
            end: len.map(|len| End { len, crc64: crc }),
        };
        self.sequence += 1;
        self.copies.offer(&piece).await
    }

    async fn finish(mut self) -> Result<ChunkRef, WriteError> {
        let len = self.received;
        if let Some(announced) = self.head.announced
            && announced != len
        {
            return Err(WriteError::TooShort {
                announced,
                received: len,
            });
        }
        let last = std::mem::take(&mut self.buffer).freeze();
        self.offer(last, Some(len)).await?;
        let acked = self.copies.settle().await?;
        let mut owed = ShardSet::all(self.head.profile);
        for shard in acked.iter() {
            owed.remove(shard);
        }
        Ok(ChunkRef {
            chunk: self.head.shard.chunk,
            len,
            crc64: self.crc.value(),
            profile: self.head.profile,
            epoch: self.head.epoch,
            owed,
        })
    }
}
