//! Messages between nodes: what is put into them and what is accepted.

use crate::error::CopyError;
use bytes::Bytes;
use floeberg_placement::{Epoch, Profile, ShardSet};
use floeberg_proto::floeberg::rpc::v1 as pb;
use floeberg_rpc::{Refusal, RefusalCode};
use floeberg_types::ChunkId;
use floeberg_volume::{ReadError, WriteError};
use prost::Message;

/// Format of every message here.
pub(crate) const FORMAT: u32 = 1;
/// Most payload bytes of one message.
pub(crate) const PIECE_BYTES: usize = 1 << 20;
/// Most shards named in one message.
pub(crate) const IDS_MAX: usize = 1024;

/// A shard of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ShardId {
    pub(crate) chunk: ChunkId,
    pub(crate) number: u32,
}

impl ShardId {
    pub(crate) fn encode(self) -> pb::ShardId {
        pb::ShardId {
            chunk: self.chunk.as_bytes().to_vec().into(),
            number: self.number,
        }
    }

    pub(crate) fn decode(id: Option<&pb::ShardId>) -> Result<Self, Refusal> {
        let id = id.ok_or_else(|| malformed("no shard is named"))?;
        let chunk = ChunkId::from_slice(&id.chunk);
        let chunk = chunk.ok_or_else(|| malformed("a chunk id has 16 bytes"))?;
        if id.number >= ShardSet::LIMIT {
            return Err(malformed("a shard number is below 32"));
        }
        Ok(Self {
            chunk,
            number: id.number,
        })
    }
}

pub(crate) fn malformed(what: impl Into<String>) -> Refusal {
    Refusal {
        code: RefusalCode::Malformed,
        message: what.into(),
    }
}

/// Decodes a request and checks its format.
pub(crate) fn request<M: Message + Default>(
    body: Bytes,
    format: impl Fn(&M) -> u32,
) -> Result<M, Refusal> {
    let message = M::decode(body).map_err(|e| malformed(e.to_string()))?;
    match format(&message) {
        FORMAT => Ok(message),
        other => Err(malformed(format!(
            "message of format {other}: this version knows format {FORMAT}, upgrade it"
        ))),
    }
}

/// Decodes an answer and checks its format.
pub(crate) fn answer<M: Message + Default>(
    body: Bytes,
    format: impl Fn(&M) -> u32,
) -> Result<M, CopyError> {
    let unreachable = |reason| CopyError::Unreachable { reason };
    request(body, format).map_err(|refusal| unreachable(refusal.message))
}

/// What all pieces of a shard together must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) len: u64,
    pub(crate) crc64: u64,
}

/// A piece of a shard on its way to storage. Clones share the bytes.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) sequence: u64,
    pub(crate) data: Bytes,
    pub(crate) crc64: u64,
    pub(crate) end: Option<End>,
}

/// The write a piece belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WriteHead {
    pub(crate) shard: ShardId,
    pub(crate) write: [u8; 16],
    pub(crate) epoch: Epoch,
    pub(crate) profile: Profile,
    pub(crate) announced: Option<u64>,
}

/// A received call of `ShardWrite`.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) head: WriteHead,
    pub(crate) piece: Piece,
    pub(crate) abandon: bool,
}

impl WriteHead {
    fn message(&self) -> pb::ShardWrite {
        pb::ShardWrite {
            format: FORMAT,
            shard: Some(self.shard.encode()),
            write: self.write.to_vec().into(),
            epoch: self.epoch.0,
            profile: u32::from(self.profile.code()),
            announced: self.announced,
            ..pb::ShardWrite::default()
        }
    }

    pub(crate) fn piece(&self, piece: &Piece) -> Bytes {
        let message = pb::ShardWrite {
            sequence: piece.sequence,
            data: piece.data.clone(),
            data_crc64: piece.crc64,
            end: piece.end.map(|end| pb::ShardEnd {
                length: end.len,
                crc64: end.crc64,
            }),
            ..self.message()
        };
        message.encode_to_vec().into()
    }

    pub(crate) fn abandonment(&self) -> Bytes {
        let message = pb::ShardWrite {
            abandon: true,
            ..self.message()
        };
        message.encode_to_vec().into()
    }
}

impl Write {
    pub(crate) fn decode(body: Bytes) -> Result<Self, Refusal> {
        let message = request(body, |m: &pb::ShardWrite| m.format)?;
        let code = u16::try_from(message.profile).ok();
        let profile = code.and_then(Profile::from_code);
        let head = WriteHead {
            shard: ShardId::decode(message.shard.as_ref())?,
            write: message.write[..]
                .try_into()
                .map_err(|_| malformed("a write id has 16 bytes"))?,
            epoch: Epoch(message.epoch),
            profile: profile.ok_or_else(|| malformed("unknown profile: upgrade this node"))?,
            announced: message.announced,
        };
        if message.data.len() > PIECE_BYTES {
            return Err(malformed("a piece has at most 1 MiB"));
        }
        if !message.abandon && crc64(&message.data) != message.data_crc64 {
            return Err(malformed("the piece was damaged on its way"));
        }
        let piece = Piece {
            sequence: message.sequence,
            data: message.data,
            crc64: message.data_crc64,
            end: message.end.map(|end| End {
                len: end.length,
                crc64: end.crc64,
            }),
        };
        Ok(Self {
            head,
            piece,
            abandon: message.abandon,
        })
    }
}

const ABSENT: u32 = 1;
const DAMAGED: u32 = 2;
const OUT_OF_RANGE: u32 = 3;
const DISK_FULL: u32 = 4;
const STALE_MAP: u32 = 5;
const CONFLICT: u32 = 6;
const NO_SUCH_WRITE: u32 = 7;
const FAILED: u32 = 8;

/// Why this node did not do what a peer asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Absent,
    Damaged(String),
    OutOfRange(u64),
    DiskFull(String),
    StaleMap(String),
    Conflict,
    NoSuchWrite,
    Failed(String),
}

impl Fault {
    pub(crate) fn encode(&self) -> pb::ShardFault {
        let (code, message, length) = match self {
            Self::Absent => (ABSENT, String::new(), 0),
            Self::Damaged(message) => (DAMAGED, message.clone(), 0),
            Self::OutOfRange(len) => (OUT_OF_RANGE, String::new(), *len),
            Self::DiskFull(message) => (DISK_FULL, message.clone(), 0),
            Self::StaleMap(message) => (STALE_MAP, message.clone(), 0),
            Self::Conflict => (CONFLICT, String::new(), 0),
            Self::NoSuchWrite => (NO_SUCH_WRITE, String::new(), 0),
            Self::Failed(message) => (FAILED, message.clone(), 0),
        };
        pb::ShardFault {
            code,
            message,
            length,
        }
    }

    pub(crate) fn decode(fault: &pb::ShardFault) -> Self {
        let message = fault.message.clone();
        match fault.code {
            ABSENT => Self::Absent,
            DAMAGED => Self::Damaged(message),
            OUT_OF_RANGE => Self::OutOfRange(fault.length),
            DISK_FULL => Self::DiskFull(message),
            STALE_MAP => Self::StaleMap(message),
            CONFLICT => Self::Conflict,
            NO_SUCH_WRITE => Self::NoSuchWrite,
            FAILED => Self::Failed(message),
            other => Self::Failed(format!("unknown fault {other}: {message}")),
        }
    }
}

impl From<Fault> for CopyError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Absent => Self::Absent,
            Fault::Damaged(message) => Self::Damaged { message },
            Fault::OutOfRange(len) => Self::OutOfRange { len },
            Fault::DiskFull(message) => Self::DiskFull { message },
            Fault::StaleMap(message) => Self::StaleMap { message },
            Fault::Conflict => Self::failed("another chunk of this id is stored there"),
            Fault::NoSuchWrite => Self::failed("the write was dropped after a silence"),
            Fault::Failed(message) => Self::Failed { message },
        }
    }
}

impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::DiskFull(full) => Self::DiskFull(full.to_string()),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotFound { .. } => Self::Absent,
            ReadError::OutOfRange { len, .. } => Self::OutOfRange(len),
            ReadError::Corrupt(damage) => Self::Damaged(damage.to_string()),
            lost @ ReadError::SegmentMissing { .. } => Self::Damaged(lost.to_string()),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// CRC-64/NVME.
pub(crate) fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes)
}

/// The CRC-64/NVME of bytes that come in pieces.
pub(crate) struct RunningCrc(crc_fast::Digest);

impl RunningCrc {
    pub(crate) fn new() -> Self {
        Self(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.finalize()
    }
}

#[cfg(test)]
mod tests;
