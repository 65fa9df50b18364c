//! Takes a body in: small ones inline, larger ones into volume chunks, with every checksum verified
//! before anything can be published.

use crate::body::{Body, BodyError, SentChecksum};
use crate::chunks::ChunkGuard;
use crate::digest::{DigestValues, Digests};
use crate::errors::{BadDigest, BadTrailer, EntityTooLarge, IngestError, Outage};
use crate::rows::{chunk_extent, inline_extent, repair_of};
use crate::service::Objects;
use bytes::{Bytes, BytesMut};
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_shards::ChunkWriter;
use floeberg_types::{Checksum, ChecksumAlgorithm, ChunkId};
use futures::StreamExt;
use std::time::Duration;

/// The most bytes one request may carry (S3 "Multipart upload limits").
pub(crate) const REQUEST_BYTES_MAX: u64 = floeberg_types::limits::PUT_BYTES as u64;

/// Where the bytes of a body are, and which copies of them are still owed.
#[derive(Default)]
pub(crate) struct Stored {
    pub(crate) extents: Vec<pb::Extent>,
    pub(crate) owed: Vec<(ChunkId, pb::RepairRow)>,
}

/// A body that is durable but belongs to no object yet.
pub(crate) struct Ingested {
    pub(crate) stored: Stored,
    pub(crate) size: u64,
    pub(crate) digests: DigestValues,
    /// In the algorithm the client named, else CRC-64/NVME.
    pub(crate) checksum: Checksum,
    pub(crate) guard: ChunkGuard,
}

/// Where the bytes of a body go while it streams.
struct Sink<'a> {
    objects: &'a Objects,
    /// Bytes that no chunk was begun for yet, if the body has an announced length.
    left: Option<u64>,
    /// Bytes not in a chunk yet; never more than may be inline.
    head: BytesMut,
    open: Option<OpenChunk>,
    stored: Stored,
    guard: ChunkGuard,
}

/// A chunk that takes bytes.
struct OpenChunk {
    writer: ChunkWriter,
    /// Its longest length, fixed when it was begun: nodes may join with smaller disks meanwhile.
    limit: u64,
}

impl<'a> Sink<'a> {
    fn new(objects: &'a Objects, announced: Option<u64>) -> Self {
        Self {
            objects,
            left: announced,
            head: BytesMut::new(),
            open: None,
            stored: Stored::default(),
            guard: objects.chunks.guard(),
        }
    }

    fn chunk_max(&self) -> u64 {
        self.objects
            .config
            .chunk_max
            .min(self.objects.shards.max_chunk_bytes())
    }

    async fn push(&mut self, bytes: Bytes) -> Result<(), Outage> {
        if self.open.is_none() && self.stored.extents.is_empty() {
            if self.head.len() + bytes.len() <= self.objects.config.inline_max {
                self.head.extend_from_slice(&bytes);
                return Ok(());
            }
            let head = std::mem::take(&mut self.head).freeze();
            self.append(head).await?;
        }
        self.append(bytes).await
    }

    async fn append(&mut self, mut bytes: Bytes) -> Result<(), Outage> {
        while !bytes.is_empty() {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => self.begin().await?,
            };
            let room = usize::try_from(open.limit - open.writer.len()).unwrap_or(usize::MAX);
            let part = bytes.split_to(room.min(bytes.len()));
            open.writer.append(part).await?;
            let full = open.writer.len() == open.limit;
            self.open = Some(open);
            if full {
                self.finish_chunk().await?;
            }
        }
        Ok(())
    }

    /// A chunk of announced length wastes no space, so a known length is passed on.
    async fn begin(&mut self) -> Result<OpenChunk, Outage> {
        let limit = self.chunk_max();
        let shards = &self.objects.shards;
        let writer = match &mut self.left {
            Some(left) => {
                let len = (*left).min(limit);
                *left -= len;
                shards.begin_sized(len).await?
            }
            None => shards.begin().await?,
        };
        self.guard.add(writer.chunk());
        Ok(OpenChunk { writer, limit })
    }

    async fn finish_chunk(&mut self) -> Result<(), Outage> {
        if let Some(open) = self.open.take() {
            let chunk = open.writer.finish().await?;
            self.stored.extents.push(chunk_extent(&chunk));
            let owed = repair_of(&chunk).map(|row| (chunk.chunk, row));
            self.stored.owed.extend(owed);
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<(Stored, ChunkGuard), Outage> {
        self.finish_chunk().await?;
        if !self.head.is_empty() {
            let inline = inline_extent(self.head.freeze());
            self.stored.extents.push(inline);
        }
        Ok((self.stored, self.guard))
    }
}

impl Objects {
    /// Streams `body` to durable storage. `also` is a second algorithm to compute. Whatever fails,
    /// the chunks written so far are given back.
    pub(crate) async fn ingest(
        &self,
        mut body: Body,
        also: Option<ChecksumAlgorithm>,
    ) -> Result<Ingested, IngestError> {
        if let Some(len) = body.len {
            check_size(len)?;
        }
        let begun = self.env.clock.monotonic();
        let sent = body.checksum.algorithm();
        let mut digests = Digests::new(sent.into_iter().chain(also));
        let mut sink = Sink::new(self, body.len);
        let mut size = 0u64;
        while let Some(bytes) = body.stream.next().await {
            let bytes = bytes?;
            self.check_age(begun)?;
            size += bytes.len() as u64;
            check_size(size)?;
            if body.len.is_some_and(|len| size > len) {
                return Err(BodyError::Length.into());
            }
            self.metrics.bytes_in.inc_by(bytes.len() as u64);
            digests.update(&bytes);
            sink.push(bytes).await?;
        }
        if body.len.is_some_and(|len| size != len) {
            return Err(BodyError::Length.into());
        }
        let digests = digests.finish();
        verify(&digests, body.content_md5, body.checksum)?;
        let (stored, guard) = sink.finish().await?;
        self.check_age(begun)?;
        let checksum = digests
            .checksum(sent.unwrap_or(ChecksumAlgorithm::Crc64Nvme))
            .expect("the sent algorithm was computed");
        Ok(Ingested {
            stored,
            size,
            digests,
            checksum,
            guard,
        })
    }

    /// Other nodes take chunks that nothing names for leftovers once no request can publish them any
    /// more, so a request must not become older than they assume.
    fn check_age(&self, begun: Duration) -> Result<(), Outage> {
        let age = self.env.clock.monotonic().saturating_sub(begun);
        if age < self.config.request_max() {
            return Ok(());
        }
        tracing::info!(
            hours = age.as_secs() / 3600,
            "a body took too long and is given up"
        );
        Err(Outage::Unavailable)
    }
}

fn check_size(size: u64) -> Result<(), EntityTooLarge> {
    if size > REQUEST_BYTES_MAX {
        Err(EntityTooLarge {
            size,
            maximum: REQUEST_BYTES_MAX,
        })
    } else {
        Ok(())
    }
}

/// Compares what the client sent with what arrived.
fn verify(
    digests: &DigestValues,
    content_md5: Option<[u8; 16]>,
    sent: SentChecksum,
) -> Result<(), IngestError> {
    if content_md5.is_some_and(|md5| md5 != digests.md5) {
        return Err(BadDigest {
            what: "Content-MD5",
        }
        .into());
    }
    let wanted = match sent {
        SentChecksum::None | SentChecksum::Algorithm(_) => return Ok(()),
        SentChecksum::Value(checksum) => checksum,
        SentChecksum::Trailer(algorithm, read) => read()
            .and_then(|text| Checksum::from_base64(algorithm, text.trim()))
            .ok_or(BadTrailer { algorithm })?,
    };
    if digests.checksum(wanted.algorithm()).as_ref() == Some(&wanted) {
        Ok(())
    } else {
        Err(BadDigest {
            what: wanted.algorithm().as_str(),
        }
        .into())
    }
}
