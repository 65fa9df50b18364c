//! Request bodies: the stream, what the client says about it, and how it can go wrong.

use bytes::Bytes;
use floeberg_types::{Checksum, ChecksumAlgorithm};
use futures::stream::BoxStream;
use std::fmt;
use thiserror::Error;

/// How a body ended before its end. Nothing that carried such a body is ever published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BodyError {
    /// Fewer or more bytes than announced.
    #[error("the body does not have the announced length")]
    Length,
    /// The SHA-256 in the signed `x-amz-content-sha256` is not that of the bytes.
    #[error("the SHA-256 of the body is not the signed one")]
    Sha256Mismatch,
    /// A chunk or trailer signature is wrong.
    #[error("a chunk or trailer signature does not match")]
    ChunkSignature,
    /// The chunked framing is malformed or a chunk is too large.
    #[error("the chunked framing of the body is malformed")]
    Framing,
    /// The connection broke.
    #[error("the connection broke while the body was read")]
    Disconnected,
    /// The object that is copied could not be read to its end.
    #[error("the copy source could not be read")]
    Source,
}

/// The bytes of a body in order.
pub type BodyStream = BoxStream<'static, Result<Bytes, BodyError>>;

/// Reads a trailer once the stream has ended: the base64 text of the announced checksum.
pub type TrailerReader = Box<dyn FnOnce() -> Option<String> + Send>;

/// Which checksum came or will come with a body.
pub enum SentChecksum {
    /// None; CRC-64/NVME is computed and stored.
    None,
    /// None, but this algorithm is to be stored.
    Algorithm(ChecksumAlgorithm),
    /// In a header.
    Value(Checksum),
    /// In a trailer behind the body.
    Trailer(ChecksumAlgorithm, TrailerReader),
}

impl SentChecksum {
    /// The algorithm the client named.
    #[must_use]
    pub fn algorithm(&self) -> Option<ChecksumAlgorithm> {
        match self {
            Self::None => None,
            Self::Algorithm(algorithm) | Self::Trailer(algorithm, _) => Some(*algorithm),
            Self::Value(checksum) => Some(checksum.algorithm()),
        }
    }
}

impl fmt::Debug for SentChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Algorithm(algorithm) => write!(f, "Algorithm({algorithm})"),
            Self::Value(checksum) => write!(f, "Value({checksum:?})"),
            Self::Trailer(algorithm, _) => write!(f, "Trailer({algorithm})"),
        }
    }
}

/// A body with everything the client says about it.
pub struct Body {
    /// The bytes.
    pub stream: BodyStream,
    /// How many bytes must come, if announced.
    pub len: Option<u64>,
    /// `Content-MD5`.
    pub content_md5: Option<[u8; 16]>,
    /// The flexible checksum.
    pub checksum: SentChecksum,
}

impl Body {
    /// A body held in memory, with nothing said about it.
    #[must_use]
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self {
            len: Some(bytes.len() as u64),
            stream: Box::pin(futures::stream::once(async move { Ok(bytes) })),
            content_md5: None,
            checksum: SentChecksum::None,
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("len", &self.len)
            .field("checksum", &self.checksum)
            .finish_non_exhaustive()
    }
}
