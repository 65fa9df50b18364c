//! Reading a chunk from whichever copy answers.
//!
//! The bytes come in pieces that end at multiples of 1 MiB. The copy that gave the last piece is
//! asked for the next one; if it takes too long a second copy is asked as well, and if it fails the
//! next one takes over where it stopped.

use crate::error::{CopyError, ReadError};
use crate::remote::Remote;
use crate::store::{Inner, Shards};
use crate::wire::{Fault, PIECE_BYTES, ShardId};
use bytes::Bytes;
use floeberg_types::{ChunkId, NodeId};
use floeberg_volume::{ChunkStream, ReadError as VolumeError};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, FuturesUnordered};
use futures::{Stream, StreamExt, TryStreamExt};
use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::task::JoinHandle;

/// The bytes of a range, in pieces of at most 1 MiB, every one verified; ends after the first error.
pub struct ShardStream {
    kind: Kind,
}

enum Kind {
    /// There is no other copy.
    Direct(ChunkStream),
    Spread(BoxStream<'static, Result<Bytes, ReadError>>),
}

impl Stream for ShardStream {
    type Item = Result<Bytes, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.kind {
            Kind::Spread(stream) => stream.poll_next_unpin(cx),
            Kind::Direct(stream) => {
                let piece = ready!(stream.poll_next_unpin(cx));
                Poll::Ready(piece.map(|piece| piece.map_err(ReadError::from)))
            }
        }
    }
}

impl Shards {
    /// Streams `range` of a chunk; every returned byte was verified.
    ///
    /// # Errors
    /// If no copy gives the first piece; what happens further on ends the stream.
    pub async fn read(&self, chunk: &ChunkId, range: Range<u64>) -> Result<ShardStream, ReadError> {
        let inner = &self.inner;
        let map = inner.map();
        let candidates = map.candidates(map.group_of(chunk));
        if candidates == [inner.node] {
            let read = inner.volume.read(chunk, range).await;
            let kind = Kind::Direct(read.map_err(|error| inner.only_copy(*chunk, error))?);
            return Ok(ShardStream { kind });
        }
        if range.start > range.end {
            let len = range.start;
            return Err(ReadError::OutOfRange { range, len });
        }
        let mut reading = Reading::new(inner.clone(), *chunk, range, candidates);
        let first = reading.next().await?;
        let rest = stream::try_unfold(reading, |mut reading| async move {
            if reading.rest.is_empty() {
                return Ok(None);
            }
            let piece = reading.next().await?;
            Ok::<_, ReadError>(Some((piece, reading)))
        });
        let first = stream::iter((!first.is_empty()).then_some(Ok(first)));
        let kind = Kind::Spread(first.chain(rest).boxed());
        Ok(ShardStream { kind })
    }
}

impl Inner {
    /// Why the only copy of a chunk was not read.
    fn only_copy(&self, chunk: ChunkId, error: VolumeError) -> ReadError {
        match error {
            VolumeError::NotFound { .. } if self.holdings.are_doubted() => {
                let error = CopyError::from(self.holdings.fault(Fault::Absent));
                let failures = vec![(self.node, error)];
                ReadError::Unavailable { chunk, failures }
            }
            other => other.into(),
        }
    }
}

/// A read that was begun before its bytes were asked for; given up when dropped.
struct Ahead {
    start: u64,
    task: JoinHandle<Result<Bytes, CopyError>>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A copy to read from.
enum Source {
    Local {
        node: NodeId,
        stream: Option<ChunkStream>,
    },
    Remote {
        node: NodeId,
        ahead: Option<Ahead>,
    },
}

impl Source {
    fn node(&self) -> NodeId {
        match self {
            Self::Local { node, .. } | Self::Remote { node, .. } => *node,
        }
    }

    /// Reads `piece`, the first of what is left up to `until`.
    async fn read(
        &mut self,
        inner: &Inner,
        chunk: ChunkId,
        piece: Range<u64>,
        until: u64,
    ) -> Result<Bytes, CopyError> {
        match self {
            Self::Local { stream, .. } => {
                let fault = |error| CopyError::from(inner.holdings.fault(Fault::from(error)));
                let mut open = match stream.take() {
                    Some(open) => open,
                    None => {
                        let read = inner.volume.read(&chunk, piece.start..until).await;
                        read.map_err(fault)?
                    }
                };
                let bytes = open.try_next().await.map_err(fault)?.unwrap_or_default();
                *stream = Some(open);
                Ok(bytes)
            }
            Self::Remote { node, ahead } => {
                if let Some(mut ahead) = ahead.take()
                    && ahead.start == piece.start
                {
                    return (&mut ahead.task)
                        .await
                        .unwrap_or_else(|e| Err(CopyError::failed(e)));
                }
                read_piece(&inner.remote, *node, chunk, piece).await
            }
        }
    }

    /// Begins to read the next piece while the caller is busy with the last one. The volume does
    /// this by itself.
    fn read_ahead(&mut self, inner: &Inner, chunk: ChunkId, piece: Range<u64>) {
        if let Self::Remote { node, ahead } = self {
            let (remote, node, start) = (inner.remote.clone(), *node, piece.start);
            let read = async move { read_piece(&remote, node, chunk, piece).await };
            let task = inner.env.tasks.spawn("shards-read", read);
            *ahead = Some(Ahead { start, task });
        }
    }
}

async fn read_piece(
    remote: &Remote,
    node: NodeId,
    chunk: ChunkId,
    piece: Range<u64>,
) -> Result<Bytes, CopyError> {
    remote.read(node, ShardId { chunk, number: 0 }, piece).await
}

/// Up to the next multiple of a piece.
fn first_piece(range: &Range<u64>) -> Range<u64> {
    let end = (range.start + 1).next_multiple_of(PIECE_BYTES as u64);
    range.start..end.min(range.end)
}

type Attempt = BoxFuture<'static, (Source, Result<Bytes, CopyError>)>;

/// A chunk being read.
pub(crate) struct Reading {
    inner: Arc<Inner>,
    chunk: ChunkId,
    whole: Range<u64>,
    pub(crate) rest: Range<u64>,
    /// Copies not known to be bad, the best one first.
    sources: VecDeque<Source>,
    failures: Vec<(NodeId, CopyError)>,
}

impl Reading {
    /// Reads from `nodes`, in this order but for this node first and suspect ones last.
    pub(crate) fn new(
        inner: Arc<Inner>,
        chunk: ChunkId,
        range: Range<u64>,
        nodes: &[NodeId],
    ) -> Self {
        let mut nodes = nodes.to_vec();
        nodes.sort_by_key(|node| (*node != inner.node, inner.health.is_suspect(*node)));
        let mut reading = Self {
            chunk,
            whole: range.clone(),
            rest: range,
            sources: VecDeque::new(),
            failures: Vec::new(),
            inner,
        };
        for node in nodes {
            reading.add(node);
        }
        reading
    }

    fn add(&mut self, node: NodeId) {
        self.sources.push_back(if node == self.inner.node {
            Source::Local { node, stream: None }
        } else {
            Source::Remote { node, ahead: None }
        });
    }

    /// The next piece; empty only if nothing is left.
    pub(crate) async fn next(&mut self) -> Result<Bytes, ReadError> {
        let piece = first_piece(&self.rest);
        let (mut source, bytes) = self.fetch(&piece).await?;
        self.rest.start = piece.end;
        if !self.rest.is_empty() {
            source.read_ahead(&self.inner, self.chunk, first_piece(&self.rest));
        }
        self.sources.push_front(source);
        self.inner.note_bad(self.chunk, &self.failures);
        self.inner.health.earn_hedge();
        Ok(bytes)
    }

    /// Asks one copy after the other, and a second one early if the first is slow.
    async fn fetch(&mut self, piece: &Range<u64>) -> Result<(Source, Bytes), ReadError> {
        let mut running = FuturesUnordered::new();
        let mut asked = VecDeque::new();
        let hedge = tokio::time::sleep(self.inner.config.hedge_after);
        tokio::pin!(hedge);
        let mut may_hedge = true;
        loop {
            if running.is_empty() {
                let Some(source) = self.sources.pop_front() else {
                    return Err(self.refusal());
                };
                asked.push_back(source.node());
                running.push(self.attempt(source, piece));
            }
            let (source, outcome) = tokio::select! {
                Some(done) = running.next() => done,
                () = &mut hedge, if may_hedge && !self.sources.is_empty() => {
                    may_hedge = false;
                    if self.inner.health.spend_hedge()
                        && let Some(source) = self.sources.pop_front()
                    {
                        asked.push_back(source.node());
                        running.push(self.attempt(source, piece));
                    }
                    continue;
                }
            };
            asked.retain(|node| *node != source.node());
            match self.judge(&source, outcome, piece) {
                Ok(bytes) => {
                    // Whoever lost the race may still serve later pieces, but is asked last.
                    for node in asked {
                        self.add(node);
                    }
                    return Ok((source, bytes));
                }
                Err(CopyError::OutOfRange { len }) => {
                    let range = self.whole.clone();
                    return Err(ReadError::OutOfRange { range, len });
                }
                Err(error) => self.failures.push((source.node(), error)),
            }
        }
    }

    fn attempt(&self, mut source: Source, piece: &Range<u64>) -> Attempt {
        let (inner, chunk) = (self.inner.clone(), self.chunk);
        let (piece, until) = (piece.clone(), self.rest.end);
        Box::pin(async move {
            let outcome = source.read(&inner, chunk, piece, until).await;
            (source, outcome)
        })
    }

    fn judge(
        &self,
        source: &Source,
        outcome: Result<Bytes, CopyError>,
        piece: &Range<u64>,
    ) -> Result<Bytes, CopyError> {
        let bytes = outcome?;
        if bytes.len() as u64 == piece.end - piece.start {
            return Ok(bytes);
        }
        let (chunk, node) = (self.chunk, source.node());
        tracing::error!(%chunk, %node, len = bytes.len(), ?piece, "a copy gave a piece of a wrong length");
        Err(CopyError::failed("it gave a piece of a wrong length"))
    }

    fn refusal(&mut self) -> ReadError {
        let (chunk, failures) = (self.chunk, std::mem::take(&mut self.failures));
        let absent = |(_, error): &(NodeId, CopyError)| *error == CopyError::Absent;
        if failures.iter().all(absent) {
            return ReadError::NotFound { chunk };
        }
        // No copy is healthy here, but the damaged ones are worth a repair once one is.
        let damaged: Vec<_> = failures.iter().filter(|f| !absent(f)).cloned().collect();
        self.inner.note_bad(chunk, &damaged);
        ReadError::Unavailable { chunk, failures }
    }
}
