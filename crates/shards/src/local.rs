//! Shards on this node's own volume: checked writes, collected reads, states.

use crate::stat::CopyState;
use crate::wire::{End, Fault, Piece, RunningCrc};
use bytes::{Bytes, BytesMut};
use floeberg_types::ChunkId;
use floeberg_volume::{ChunkWriter, ReadError, Volume};
use futures::TryStreamExt;
use std::ops::Range;

/// A copy that is being written to this node's volume. Dropped unfinished, it leaves nothing.
pub(crate) struct LocalWrite {
    volume: Volume,
    chunk: ChunkId,
    writer: ChunkWriter,
    crc: RunningCrc,
}

impl LocalWrite {
    pub(crate) async fn begin(
        volume: Volume,
        chunk: ChunkId,
        announced: Option<u64>,
    ) -> Result<Self, Fault> {
        let writer = volume.begin_as(chunk, announced).await?;
        Ok(Self {
            volume,
            chunk,
            writer,
            crc: RunningCrc::new(),
        })
    }

    pub(crate) async fn append(&mut self, piece: &Piece) -> Result<(), Fault> {
        self.crc.update(&piece.data);
        Ok(self.writer.append(piece.data.clone()).await?)
    }

    /// Makes the copy durable if it is what the writer meant. A copy that is there already stays if
    /// it is the same, is replaced if it is damaged, and is never exchanged for other bytes.
    pub(crate) async fn finish(self, end: End) -> Result<(), Fault> {
        let got = End {
            len: self.writer.len(),
            crc64: self.crc.value(),
        };
        if got != end {
            let message = format!("{got:?} arrived instead of {end:?}");
            return Err(Fault::Failed(message));
        }
        let known = self.volume.len_of(&self.chunk);
        if known.map_err(|e| Fault::Failed(e.to_string()))?.is_some() {
            match self.volume.verify(&self.chunk).await {
                Ok(there) if there.len == end.len && there.crc64 == end.crc64 => return Ok(()),
                Ok(_) => return Err(Fault::Conflict),
                Err(ReadError::Corrupt(_) | ReadError::SegmentMissing { .. }) => {}
                Err(ReadError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.writer.finish().await?;
        Ok(())
    }
}

/// A range of a copy, at most one piece long.
pub(crate) async fn read(
    volume: &Volume,
    chunk: &ChunkId,
    range: Range<u64>,
) -> Result<Bytes, Fault> {
    let mut stream = volume.read(chunk, range).await?;
    let Some(first) = stream.try_next().await? else {
        return Ok(Bytes::new());
    };
    let Some(second) = stream.try_next().await? else {
        return Ok(first);
    };
    let mut all = BytesMut::from(&first[..]);
    all.extend_from_slice(&second);
    while let Some(more) = stream.try_next().await? {
        all.extend_from_slice(&more);
    }
    Ok(all.freeze())
}

/// What the index says of a copy.
pub(crate) fn known(volume: &Volume, chunk: &ChunkId) -> Result<CopyState, Fault> {
    match volume.len_of(chunk) {
        Ok(Some(len)) => Ok(CopyState::Stored { len, crc64: None }),
        Ok(None) => Ok(CopyState::Absent),
        Err(error) => Err(Fault::Failed(error.to_string())),
    }
}

/// What reading every byte of a copy says of it.
pub(crate) async fn verified(volume: &Volume, chunk: &ChunkId) -> Result<CopyState, Fault> {
    match volume.verify(chunk).await {
        Ok(found) => Ok(CopyState::Stored {
            len: found.len,
            crc64: Some(found.crc64),
        }),
        Err(error) => match Fault::from(error) {
            Fault::Absent => Ok(CopyState::Absent),
            Fault::Damaged(_) => Ok(CopyState::Damaged),
            other => Err(other),
        },
    }
}
