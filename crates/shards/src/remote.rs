//! Calls to the shards of other nodes.

use crate::error::CopyError;
use crate::health::Health;
use crate::repair::Depth;
use crate::stat::{CopyState, Listed};
use crate::wire::{self, FORMAT, Fault, IDS_MAX, Piece, ShardId, WriteHead};
use bytes::Bytes;
use floeberg_proto::floeberg::rpc::v1 as pb;
use floeberg_rpc::{CallError, Method, RefusalCode, Request, Transport};
use floeberg_types::{ChunkId, GroupId, NodeId};
use parking_lot::Mutex;
use prost::Message;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// The first pause before a call is made again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(160);

/// Bounds the calls to each peer.
pub(crate) struct Gates {
    limit: usize,
    by_peer: Mutex<HashMap<NodeId, Arc<Semaphore>>>,
}

impl Gates {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            by_peer: Mutex::default(),
        }
    }

    fn of(&self, peer: NodeId) -> Arc<Semaphore> {
        let mut gates = self.by_peer.lock();
        let gate = gates.entry(peer);
        gate.or_insert_with(|| Arc::new(Semaphore::new(self.limit)))
            .clone()
    }
}

/// The way to the shards of other nodes.
#[derive(Clone)]
pub(crate) struct Remote {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) health: Arc<Health>,
    pub(crate) patience: Duration,
    pub(crate) attempts: u32,
    pub(crate) gates: Arc<Gates>,
}

impl Remote {
    async fn call(&self, to: NodeId, method: Method, body: Bytes) -> Result<Bytes, CallError> {
        let gate = self.gates.of(to);
        let Ok(Ok(_turn)) = timeout(self.patience, gate.acquire_owned()).await else {
            let reason = "too many calls to this node are under way".into();
            return Err(CallError::NotSent { reason });
        };
        let request = Request {
            method,
            group: GroupId::CATALOG,
            body,
        };
        let answer = self.transport.call(to, request, self.patience).await;
        match &answer {
            Ok(_) | Err(CallError::Refused(_)) => self.health.answered(to),
            Err(CallError::NotSent { .. } | CallError::Lost { .. }) => self.health.failed(to),
        }
        answer
    }

    async fn ask(&self, to: NodeId, method: Method, body: Vec<u8>) -> Result<Bytes, CopyError> {
        let answer = self.call(to, method, body.into()).await;
        answer.map_err(unanswered)
    }

    /// Sends a piece, again if need be: the receiver knows pieces it has. Returns whether the shard
    /// is durable now.
    pub(crate) async fn write(
        &self,
        to: NodeId,
        head: &WriteHead,
        piece: &Piece,
    ) -> Result<bool, CopyError> {
        let body = head.piece(piece);
        let deadline = Instant::now() + self.patience;
        let mut pause = FIRST_PAUSE;
        let mut unheard = 0;
        loop {
            let error = match self.call(to, Method::ShardWrite, body.clone()).await {
                Ok(body) => return durable(body),
                Err(error) => error,
            };
            let again = match &error {
                CallError::NotSent { .. } | CallError::Lost { .. } => {
                    unheard += 1;
                    unheard < self.attempts
                }
                // A busy node is well, so it gets the time that a silent one gets.
                CallError::Refused(refusal) => {
                    refusal.code == RefusalCode::Busy && Instant::now() < deadline
                }
            };
            if !again {
                return Err(unanswered(error));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Tells a node to drop a write; if it does not hear it, silence tells it.
    pub(crate) async fn abandon(&self, to: NodeId, head: &WriteHead) {
        let called = self.call(to, Method::ShardWrite, head.abandonment()).await;
        if let Err(error) = called {
            tracing::debug!(node = %to, %error, "a node did not hear that a write was given up");
        }
    }

    pub(crate) async fn read(
        &self,
        to: NodeId,
        shard: ShardId,
        range: Range<u64>,
    ) -> Result<Bytes, CopyError> {
        let length = range.end - range.start;
        let message = pb::ShardRead {
            format: FORMAT,
            shard: Some(shard.encode()),
            start: range.start,
            length,
        };
        let body = self.ask(to, Method::ShardRead, message.encode_to_vec());
        let answer = wire::answer(body.await?, |m: &pb::ShardReadAnswer| m.format)?;
        if let Some(fault) = &answer.fault {
            return Err(Fault::decode(fault).into());
        }
        let whole = answer.data.len() as u64 == length;
        if !whole || wire::crc64(&answer.data) != answer.data_crc64 {
            return Err(CopyError::Unreachable {
                reason: "the bytes were damaged on their way".into(),
            });
        }
        Ok(answer.data)
    }

    pub(crate) async fn delete(&self, to: NodeId, chunks: &[ChunkId]) -> Result<(), CopyError> {
        for chunks in chunks.chunks(IDS_MAX) {
            let message = pb::ShardDelete {
                format: FORMAT,
                shards: whole(chunks),
            };
            let body = self.ask(to, Method::ShardDelete, message.encode_to_vec());
            wire::answer(body.await?, |m: &pb::ShardDeleteAnswer| m.format)?;
        }
        Ok(())
    }

    pub(crate) async fn state(
        &self,
        to: NodeId,
        chunk: ChunkId,
        depth: Depth,
    ) -> Result<CopyState, CopyError> {
        let shards = whole(&[chunk]);
        let question = pb::shard_stat::Question::Shards(pb::ShardList { shards });
        let states = self.stat(to, question, depth).await?;
        let state = states.first().ok_or_else(nonsense)?;
        CopyState::decode(state).ok_or_else(nonsense)
    }

    pub(crate) async fn list(
        &self,
        to: NodeId,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<Listed>, CopyError> {
        let listing = pb::ShardListing {
            after: after.map_or_else(Bytes::new, |c| c.as_bytes().to_vec().into()),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
        };
        let question = pb::shard_stat::Question::Listing(listing);
        let states = self.stat(to, question, Depth::Presence).await?;
        let listed = |state: &pb::ShardState| {
            let id = ShardId::decode(state.shard.as_ref()).ok()?;
            Some(Listed {
                chunk: id.chunk,
                len: state.length,
            })
        };
        let all: Option<Vec<Listed>> = states.iter().map(listed).collect();
        all.ok_or_else(nonsense)
    }

    async fn stat(
        &self,
        to: NodeId,
        question: pb::shard_stat::Question,
        depth: Depth,
    ) -> Result<Vec<pb::ShardState>, CopyError> {
        let message = pb::ShardStat {
            format: FORMAT,
            depth: depth.code(),
            question: Some(question),
        };
        let body = self.ask(to, Method::ShardStat, message.encode_to_vec());
        Ok(wire::answer(body.await?, |m: &pb::ShardStatAnswer| m.format)?.states)
    }
}

/// The shards of replicated chunks are whole copies, so the first number stands for all.
fn whole(chunks: &[ChunkId]) -> Vec<pb::ShardId> {
    let id = |chunk: &ChunkId| ShardId {
        chunk: *chunk,
        number: 0,
    };
    chunks.iter().map(|chunk| id(chunk).encode()).collect()
}

fn durable(body: Bytes) -> Result<bool, CopyError> {
    let answer = wire::answer(body, |m: &pb::ShardWriteAnswer| m.format)?;
    match &answer.fault {
        Some(fault) => Err(Fault::decode(fault).into()),
        None => Ok(answer.durable),
    }
}

fn unanswered(error: CallError) -> CopyError {
    match error {
        CallError::Refused(refusal) => CopyError::failed(refusal),
        lost => CopyError::Unreachable {
            reason: lost.to_string(),
        },
    }
}

fn nonsense() -> CopyError {
    CopyError::Unreachable {
        reason: "the answer makes no sense: is the node of another version?".into(),
    }
}
