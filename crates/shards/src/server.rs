//! Answers the other nodes' calls about shards on this node's volume.

use crate::config::ShardsConfig;
use crate::holdings::Holdings;
use crate::local;
use crate::repair::Depth;
use crate::staging::{Rejected, Staging};
use crate::stat::{self, CopyState};
use crate::wire::{
    self, FORMAT, Fault, IDS_MAX, PIECE_BYTES, ShardId, Write, WriteHead, malformed,
};
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_env::{Env, Reserve};
use floeberg_placement::PlacementMap;
use floeberg_proto::floeberg::rpc::v1 as pb;
use floeberg_rpc::{Handler, Method, Refusal, RefusalCode, Request};
use floeberg_types::{ChunkId, NodeId};
use floeberg_volume::Volume;
use prost::Message;
use std::sync::Arc;
use tokio::sync::watch;

/// What the server is built from.
pub struct ServerParts {
    /// This node.
    pub node: NodeId,
    /// Its disk.
    pub volume: Volume,
    /// Whether the disk has what it should have.
    pub holdings: Holdings,
    /// What is kept free on it.
    pub reserve: Reserve,
    /// The placement map as this node knows it.
    pub placement: watch::Receiver<Arc<PlacementMap>>,
    /// Clock and tasks.
    pub env: Env,
    /// Limits and patience.
    pub config: ShardsConfig,
}

/// The handler of `ShardWrite`, `ShardRead`, `ShardDelete` and `ShardStat`.
pub struct ShardServer {
    node: NodeId,
    volume: Volume,
    holdings: Holdings,
    reserve: Reserve,
    placement: watch::Receiver<Arc<PlacementMap>>,
    env: Env,
    staging: Arc<Staging>,
}

impl ShardServer {
    /// A server over the volume of this node.
    #[must_use]
    pub fn new(parts: ServerParts) -> Self {
        let (limit, silence) = (parts.config.staged_writes, parts.config.staged_silence);
        Self {
            staging: Staging::new(parts.volume.clone(), parts.env.clone(), limit, silence),
            node: parts.node,
            volume: parts.volume,
            holdings: parts.holdings,
            reserve: parts.reserve,
            placement: parts.placement,
            env: parts.env,
        }
    }

    /// The methods it serves.
    pub const METHODS: [Method; 4] = [
        Method::ShardWrite,
        Method::ShardRead,
        Method::ShardDelete,
        Method::ShardStat,
    ];

    /// Writes of other nodes that are not complete yet.
    #[must_use]
    pub fn open_writes(&self) -> usize {
        self.staging.open_writes()
    }

    async fn write(&self, from: NodeId, body: Bytes) -> Result<Bytes, Refusal> {
        let write = Write::decode(body)?;
        let mut answer = pb::ShardWriteAnswer {
            format: FORMAT,
            ..pb::ShardWriteAnswer::default()
        };
        if write.abandon {
            self.staging.abandon(from, &write);
            return Ok(answer.encode_to_vec().into());
        }
        write
            .head
            .profile
            .copies()
            .map_err(|e| malformed(e.to_string()))?;
        let wanted = self.check_map(&write.head);
        let received = match wanted.and_then(|()| self.check_reserve(&write)) {
            Ok(()) => self.staging.receive(from, write).await,
            Err(fault) => Err(fault.into()),
        };
        match received {
            Ok(durable) => answer.durable = durable,
            Err(Rejected::Refusal(refusal)) => return Err(refusal),
            Err(Rejected::Fault(fault)) => answer.fault = Some(fault.encode()),
        }
        Ok(answer.encode_to_vec().into())
    }

    /// A writer with an older map must not put shards where nobody will look for them: above all not
    /// on a node that is being emptied.
    fn check_map(&self, head: &WriteHead) -> Result<(), Fault> {
        let map = self.placement.borrow().clone();
        if head.epoch >= map.epoch() {
            return Ok(());
        }
        let targets = map.targets(map.group_of(&head.shard.chunk), head.profile);
        if targets.contains(&self.node) {
            return Ok(());
        }
        Err(Fault::StaleMap(format!(
            "epoch {} is not {}, and the chunk does not belong on node {}",
            head.epoch,
            map.epoch(),
            self.node
        )))
    }

    /// A copy that was begun goes on: it is not longer than a chunk.
    fn check_reserve(&self, write: &Write) -> Result<(), Fault> {
        match write.piece.sequence {
            0 => self.reserve.check().map_err(Fault::DiskFull),
            _ => Ok(()),
        }
    }

    async fn read(&self, body: Bytes) -> Result<Bytes, Refusal> {
        let message = wire::request(body, |m: &pb::ShardRead| m.format)?;
        let shard = ShardId::decode(message.shard.as_ref())?;
        let (start, length) = (message.start, message.length);
        let end = start.checked_add(length);
        let end = end.filter(|_| length <= PIECE_BYTES as u64);
        let end = end.ok_or_else(|| malformed("a read asks for at most 1 MiB"))?;
        let mut answer = pb::ShardReadAnswer {
            format: FORMAT,
            ..pb::ShardReadAnswer::default()
        };
        match local::read(&self.volume, &shard.chunk, start..end).await {
            Ok(data) => {
                answer.data_crc64 = wire::crc64(&data);
                answer.data = data;
            }
            Err(fault) => answer.fault = Some(self.holdings.fault(fault).encode()),
        }
        Ok(answer.encode_to_vec().into())
    }

    async fn delete(&self, body: Bytes) -> Result<Bytes, Refusal> {
        let message = wire::request(body, |m: &pb::ShardDelete| m.format)?;
        let chunks = chunks(&message.shards)?;
        let deleted = self.volume.delete_all(&chunks).await;
        deleted.map_err(failed)?;
        let answer = pb::ShardDeleteAnswer { format: FORMAT };
        Ok(answer.encode_to_vec().into())
    }

    async fn stat(&self, body: Bytes) -> Result<Bytes, Refusal> {
        let message = wire::request(body, |m: &pb::ShardStat| m.format)?;
        let depth = Depth::from_code(message.depth);
        let depth = depth.ok_or_else(|| malformed("unknown depth"))?;
        let mut states = Vec::new();
        match message.question {
            None => return Err(malformed("nothing is asked")),
            Some(pb::shard_stat::Question::Shards(list)) => {
                for chunk in chunks(&list.shards)? {
                    let state = self.state(chunk, depth).await.map_err(refuse)?;
                    states.push(state.encode(chunk));
                }
            }
            Some(pb::shard_stat::Question::Listing(listing)) => {
                let limit = usize::try_from(listing.limit).unwrap_or(IDS_MAX);
                let limit = limit.clamp(1, IDS_MAX);
                let after = match &listing.after[..] {
                    [] => None,
                    id => Some(ChunkId::from_slice(id).ok_or_else(|| malformed("no chunk id"))?),
                };
                let found = stat::list(&self.volume, &self.env, after, limit).await;
                for listed in found.map_err(refuse)? {
                    let (len, crc64) = (listed.len, None);
                    states.push(CopyState::Stored { len, crc64 }.encode(listed.chunk));
                }
            }
        }
        let answer = pb::ShardStatAnswer {
            format: FORMAT,
            states,
        };
        Ok(answer.encode_to_vec().into())
    }

    async fn state(&self, chunk: ChunkId, depth: Depth) -> Result<CopyState, Fault> {
        let state = match depth {
            Depth::Presence => local::known(&self.volume, &chunk)?,
            Depth::Content => local::verified(&self.volume, &chunk).await?,
        };
        Ok(match state {
            CopyState::Absent if self.staging.is_writing(&chunk) => CopyState::Writing,
            state => self.holdings.state(state),
        })
    }
}

fn chunks(shards: &[pb::ShardId]) -> Result<Vec<ChunkId>, Refusal> {
    if shards.len() > IDS_MAX {
        return Err(malformed("at most 1024 shards at a time"));
    }
    let id = |shard| ShardId::decode(Some(shard)).map(|id| id.chunk);
    shards.iter().map(id).collect()
}

fn failed(cause: impl ToString) -> Refusal {
    Refusal {
        code: RefusalCode::Failed,
        message: cause.to_string(),
    }
}

fn refuse(fault: Fault) -> Refusal {
    failed(crate::CopyError::from(fault))
}

#[async_trait]
impl Handler for ShardServer {
    async fn handle(&self, from: NodeId, request: Request) -> Result<Bytes, Refusal> {
        match request.method {
            Method::ShardWrite => self.write(from, request.body).await,
            Method::ShardRead => self.read(request.body).await,
            Method::ShardDelete => self.delete(request.body).await,
            Method::ShardStat => self.stat(request.body).await,
            other => Err(Refusal {
                code: RefusalCode::UnknownMethod,
                message: format!("{other:?} is not about shards"),
            }),
        }
    }
}
