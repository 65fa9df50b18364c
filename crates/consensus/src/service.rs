//! Serves the calls of other nodes.

use crate::RaftGroup;
use crate::barrier;
use crate::mark::{AckMark, Acks};
use crate::raft::Raft;
use crate::reach::Reach;
use crate::skew::Clocks;
use crate::standing::{Barred, Standing};
use crate::transfer::incoming::{Incoming, ReceiveError};
use crate::wire::{self, Informed, WireError};
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_env::{Reserve, Tasks};
use floeberg_proto::floeberg::rpc::v1 as pb;
use floeberg_rpc::{Handler, Method, Refusal, RefusalCode, Request};
use floeberg_types::{GroupId, NodeId};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The calls of one group.
pub(crate) struct GroupHandler {
    pub(crate) group: GroupId,
    pub(crate) raft: Raft,
    pub(crate) incoming: Arc<Incoming>,
    pub(crate) clocks: Clocks,
    pub(crate) reach: Reach,
    pub(crate) acks: Acks,
    pub(crate) standing: Standing,
    pub(crate) room: Reserve,
    /// Entries come before a snapshot is installed or after it, never beside it: the library
    /// panics if it finds entries to apply that the snapshot has already covered.
    pub(crate) installing: Arc<tokio::sync::RwLock<()>>,
    pub(crate) tasks: Tasks,
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        Refusal::new(RefusalCode::Malformed, error.to_string())
    }
}

impl From<ReceiveError> for Refusal {
    fn from(error: ReceiveError) -> Self {
        let code = match &error {
            ReceiveError::Wire(_) => RefusalCode::Malformed,
            ReceiveError::Stopped => RefusalCode::NotServing,
            ReceiveError::UnknownTransfer | ReceiveError::OutOfStep(_) | ReceiveError::Disk(_) => {
                RefusalCode::Failed
            }
        };
        Refusal::new(code, error.to_string())
    }
}

fn stopped<E>(_: E) -> Refusal {
    Refusal::new(RefusalCode::NotServing, "the group has stopped here")
}

impl GroupHandler {
    /// Nobody votes or leads in another node's name.
    fn check_sender(from: NodeId, claimed: u64) -> Result<(), Refusal> {
        if from.0 == claimed {
            return Ok(());
        }
        let text = format!("node {from} speaks for node {claimed}");
        Err(Refusal::new(RefusalCode::Unauthorised, text))
    }

    /// Only who has all that it ever acknowledged may acknowledge more.
    fn check_standing(&self) -> Result<(), Refusal> {
        if self.standing.is_cleared() {
            return Ok(());
        }
        Err(match self.standing.barred() {
            Some(why @ Barred::Forgot(_)) => Refusal::new(RefusalCode::Forgot, why.to_string()),
            Some(why) => Refusal::new(RefusalCode::NotServing, why.to_string()),
            None => {
                let text = "this node has not been compared with the others since it started";
                Refusal::new(RefusalCode::NotServing, text)
            }
        })
    }

    /// `from` says what it knows of this node: more than there is here is the end.
    fn check_known(&self, from: NodeId, known: Option<AckMark>) -> Result<(), Refusal> {
        if let Some(known) = known {
            let here = self.acks.mark();
            self.standing.compare(self.group, from, known, here);
        }
        self.check_standing()
    }

    /// A heartbeat needs no room, so a node without any still follows.
    fn check_room(&self) -> Result<(), Refusal> {
        let refused = |why| Refusal::new(RefusalCode::NotServing, why);
        self.room.check().map_err(refused)
    }

    async fn append(&self, from: NodeId, body: Bytes) -> Result<Bytes, Refusal> {
        let Informed { request, known } = wire::read_append(body)?;
        self.check_known(from, known)?;
        Self::check_sender(from, request.vote.leader_id.node_id)?;
        let leader = NodeId(request.vote.leader_id.node_id);
        // A heartbeat keeps the followers quiet while a snapshot is installed.
        let _entries = match request.entries.is_empty() {
            true => None,
            false => {
                self.check_room()?;
                Some(self.installing.read().await)
            }
        };
        let response = self.raft.append_entries(request).await.map_err(stopped)?;
        let unreached = self.reach.unreached(leader);
        let response = wire::append_response(&response, self.clocks.now_ms(), unreached);
        Ok(wire::write(&response))
    }

    async fn vote(&self, from: NodeId, method: Method, body: Bytes) -> Result<Bytes, Refusal> {
        let Informed { request, known } = wire::read_vote(body)?;
        self.check_known(from, known)?;
        Self::check_sender(from, request.vote.leader_id.node_id)?;
        let response = match method {
            Method::PreVote => self.raft.pre_vote(request).await,
            _ => self.raft.vote(request).await,
        };
        Ok(wire::write(&wire::vote_response(
            &response.map_err(stopped)?,
        )))
    }

    async fn transfer_leader(&self, from: NodeId, body: Bytes) -> Result<Bytes, Refusal> {
        let request = wire::read_transfer(body)?;
        Self::check_sender(from, request.from_leader().leader_id.node_id)?;
        let response = self.raft.handle_transfer_leader(request).await;
        Ok(wire::write(&wire::transfer_response(
            &response.map_err(stopped)?,
        )))
    }

    async fn read_index(&self, body: Bytes) -> Result<Bytes, Refusal> {
        let asked: pb::ReadIndexRequest = wire::read(body)?;
        if asked.probe {
            let (format, at) = (wire::FORMAT, None);
            return Ok(wire::write(&pb::ReadIndexResponse { format, at }));
        }
        let Some(at) = barrier::confirm(&self.raft).await else {
            let text = "this node cannot prove that it leads the group";
            return Err(Refusal::new(RefusalCode::NotServing, text));
        };
        Ok(wire::write(&pb::ReadIndexResponse {
            format: wire::FORMAT,
            at: wire::log_id_out(Some(&at)),
        }))
    }

    async fn install(&self, body: Bytes) -> Result<Bytes, Refusal> {
        let (raft, incoming) = (self.raft.clone(), Arc::clone(&self.incoming));
        let installing = Arc::clone(&self.installing);
        // A task of its own: a caller that gives up must not leave the swap to itself.
        let task = async move {
            let _alone = installing.write().await;
            incoming.install(&raft, body).await
        };
        let installed = self.tasks.spawn("snapshot-install", task).await;
        Ok(installed.map_err(stopped)??)
    }
}

#[async_trait]
impl Handler for GroupHandler {
    async fn handle(&self, from: NodeId, request: Request) -> Result<Bytes, Refusal> {
        let Request {
            method,
            group,
            body,
        } = request;
        if group != self.group {
            return Err(not_here(group));
        }
        self.check_standing()?;
        match method {
            Method::Append | Method::Heartbeat => self.append(from, body).await,
            Method::Vote | Method::PreVote => self.vote(from, method, body).await,
            Method::TransferLeader => self.transfer_leader(from, body).await,
            Method::ReadIndex => self.read_index(body).await,
            Method::SnapshotBegin => {
                self.check_room()?;
                Ok(self.incoming.begin(&self.raft, body).await?)
            }
            Method::SnapshotChunk => Ok(self.incoming.chunk(body).await?),
            Method::SnapshotInstall => self.install(body).await,
            _ => Err(Refusal::new(
                RefusalCode::UnknownMethod,
                format!("{method:?} is not a method of a Raft group"),
            )),
        }
    }
}

fn not_here(group: GroupId) -> Refusal {
    let text = format!("group {group} is not served by this node, or not yet");
    Refusal::new(RefusalCode::NotServing, text)
}

/// Serves the groups of a node; register it for [`RaftService::METHODS`].
#[derive(Default)]
pub struct RaftService {
    groups: RwLock<BTreeMap<GroupId, Arc<dyn Handler>>>,
}

impl RaftService {
    /// The methods it serves.
    pub const METHODS: [Method; 9] = [
        Method::Vote,
        Method::PreVote,
        Method::Append,
        Method::Heartbeat,
        Method::TransferLeader,
        Method::SnapshotBegin,
        Method::SnapshotChunk,
        Method::SnapshotInstall,
        Method::ReadIndex,
    ];

    /// A service of no groups: until they are added, callers are told to come back.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Serves a group from now on.
    pub fn add(&self, group: &RaftGroup) {
        let handler = group.handler();
        self.groups.write().insert(group.group(), handler);
    }

    /// Stops serving a group.
    pub fn remove(&self, group: GroupId) {
        self.groups.write().remove(&group);
    }
}

#[async_trait]
impl Handler for RaftService {
    async fn handle(&self, from: NodeId, request: Request) -> Result<Bytes, Refusal> {
        let handler = self.groups.read().get(&request.group).cloned();
        match handler {
            Some(handler) => handler.handle(from, request).await,
            None => Err(not_here(request.group)),
        }
    }
}
