//! How a leader or candidate reaches the other nodes of its group, over the node's [`Transport`].

use crate::codec;
use crate::mark::{AckMark, Witness};
use crate::raft::{LogId, Snapshot, TypeConfig, Vote};
use crate::reach::Reports;
use crate::skew::Clocks;
use crate::transfer::SnapshotData;
use crate::transfer::outgoing::Outgoing;
use crate::transfer::send::{Push, SendError};
use crate::unsendable::Unsendable;
use crate::wire::{self, WireError};
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_rpc::{CallError, Method, Refusal, RefusalCode, Request, Transport};
use floeberg_types::{GroupId, NodeId};
use openraft::base::OptionalSend;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::BasicNode;
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// The transport of a node that has no peers.
#[derive(Clone, Copy, Debug)]
pub struct NoPeers;

#[async_trait]
impl Transport for NoPeers {
    async fn call(
        &self,
        to: NodeId,
        _request: Request,
        _patience: Duration,
    ) -> Result<Bytes, CallError> {
        let reason = format!("this node has no peers, so there is no way to node {to}");
        Err(CallError::NotSent { reason })
    }
}

/// What all links of a group share.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) group: GroupId,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) outgoing: Outgoing,
    pub(crate) clocks: Clocks,
    /// Whether the others reach this node.
    pub(crate) reports: Reports,
    /// Every answer that acknowledges something is evidence of it.
    pub(crate) witness: Witness,
    pub(crate) unsendable: Unsendable,
    /// How long entries may take: the library sets no limit, and a slow sync is no reason to send
    /// them again.
    pub(crate) append_patience: Duration,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    // Addresses are the transport's business: its book follows the members.
    async fn new_client(&mut self, target: u64, _node: &BasicNode) -> Link {
        Link {
            network: self.clone(),
            target: NodeId(target),
            matched: None,
            lost_reported: false,
            heartbeat: Method::Heartbeat,
        }
    }
}

/// The way to one node, for one of the library's purposes.
pub(crate) struct Link {
    network: Network,
    target: NodeId,
    /// The last entry that the node acknowledged here.
    matched: Option<LogId>,
    lost_reported: bool,
    /// How an append without entries is sent: an earlier version takes it as any other append.
    heartbeat: Method,
}

/// Unreachable makes the library pause before it tries again; after a lost answer the pause has
/// been had.
fn rpc_error(error: CallError) -> RPCError<TypeConfig> {
    match error {
        CallError::Lost { reason } => RPCError::Network(NetworkError::from_string(reason)),
        CallError::NotSent { .. } | CallError::Refused(_) => {
            RPCError::Unreachable(Unreachable::from_string(error))
        }
    }
}

fn unreadable(error: WireError) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(error))
}

fn send_error(error: SendError) -> StreamingError<TypeConfig> {
    match error {
        SendError::Call(error) => rpc_error(error).into(),
        SendError::Wire(_) | SendError::Copy(_) => {
            StreamingError::Unreachable(Unreachable::from_string(error))
        }
    }
}

impl Link {
    async fn ask(
        &self,
        method: Method,
        body: Bytes,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        let request = Request {
            method,
            group: self.network.group,
            body,
        };
        let called = self.network.transport.call(self.target, request, patience);
        called.await
    }

    async fn call(
        &self,
        method: Method,
        body: Bytes,
        patience: Duration,
    ) -> Result<Bytes, RPCError<TypeConfig>> {
        self.ask(method, body, patience).await.map_err(rpc_error)
    }

    /// Tells the node who leads, beside the stream of entries: behind a large one it would come too late.
    async fn beat(
        &mut self,
        body: Bytes,
        patience: Duration,
    ) -> Result<Bytes, RPCError<TypeConfig>> {
        match self.ask(self.heartbeat, body.clone(), patience).await {
            Err(CallError::Refused(Refusal {
                code: RefusalCode::UnknownMethod,
                ..
            })) if self.heartbeat != Method::Append => {
                self.heartbeat = Method::Append;
                self.call(self.heartbeat, body, patience).await
            }
            answer => answer.map_err(rpc_error),
        }
    }

    /// The node does not have entries that it acknowledged: its disk was emptied or replaced by an
    /// old copy. The library would panic; and what it acknowledged may be committed only with it.
    fn lost_entries(&mut self) -> RPCError<TypeConfig> {
        let text = format!(
            "node {} has lost log entries that it had acknowledged: remove it from the cluster and \
             add its machine again under a new node id",
            self.target
        );
        if !std::mem::replace(&mut self.lost_reported, true) {
            tracing::error!(group = %self.network.group, "{text}");
        }
        RPCError::Unreachable(Unreachable::from_string(text))
    }
}

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let is_heartbeat = request.entries.is_empty();
        if self.network.unsendable.notice(&request.entries) {
            let text =
                "an entry of an earlier version is too large to be sent; a snapshot takes it";
            return Err(RPCError::Unreachable(Unreachable::from_string(text)));
        }
        let known = self.network.witness.known(self.target);
        let body = wire::write(&wire::append_request(&request, known));
        let asked = self.network.clocks.monotonic();
        let body = if is_heartbeat {
            self.beat(body, option.soft_ttl()).await?
        } else {
            let patience = self.network.append_patience;
            self.call(Method::Append, body, patience).await?
        };
        let answer = wire::read_append_response(body).map_err(unreadable)?;
        let (response, clock_ms) = (answer.response, answer.clock_ms);
        self.network.clocks.answered(self.target, asked, clock_ms);
        self.network.reports.hear(self.target, answer.unreached);
        let previous = request.prev_log_id;
        match response {
            AppendEntriesResponse::Success => {
                let last = request.entries.last().map(|entry| entry.log_id);
                self.matched = self.matched.max(last.or(previous));
                let mark = AckMark::of(&request.vote, self.matched.as_ref());
                self.network.witness.hear(self.target, mark);
            }
            // A heartbeat names an entry that was acknowledged, if any.
            AppendEntriesResponse::Conflict if is_heartbeat || previous <= self.matched => {
                return Err(self.lost_entries());
            }
            AppendEntriesResponse::Conflict
            | AppendEntriesResponse::PartialSuccess(_)
            | AppendEntriesResponse::HigherVote(_) => {}
        }
        Ok(response)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let known = self.network.witness.known(self.target);
        let body = wire::write(&wire::vote_request(&request, known));
        let body = self.call(Method::Vote, body, option.soft_ttl()).await?;
        let response = wire::read_vote_response(body).map_err(unreadable)?;
        if response.vote_granted {
            let mark = AckMark::of(&request.vote, None);
            self.network.witness.hear(self.target, mark);
        }
        Ok(response)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let known = self.network.witness.known(self.target);
        let body = wire::write(&wire::vote_request(&request, known));
        let body = self.call(Method::PreVote, body, option.soft_ttl()).await?;
        wire::read_vote_response(body).map_err(unreadable)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let outgoing = &self.network.outgoing;
        let at_least = snapshot.meta.last_log_id.as_ref().map(codec::entry_id);
        let offer = outgoing.obtain(at_least).await.map_err(|e| {
            tracing::warn!(group = %self.network.group, error = %e, "no copy of the state");
            send_error(e.into())
        })?;
        let push = Push {
            group: self.network.group,
            to: self.target,
            transport: &self.network.transport,
            outgoing,
            vote,
            offer: &offer,
        };
        // Biased, so that a seed replays exactly.
        let sent = tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = push.run() => sent.map_err(send_error),
        };
        outgoing.report(self.target, None);
        // After a failure the library comes back soon, and the same copy spares much work.
        let comes_back = matches!(
            sent,
            Err(StreamingError::Unreachable(_) | StreamingError::Network(_))
        );
        if comes_back {
            drop(offer);
        } else {
            outgoing.release(offer).await;
        }
        sent.map(SnapshotResponse::new)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = wire::write(&wire::transfer_request(&request));
        let body = self
            .call(Method::TransferLeader, body, option.soft_ttl())
            .await?;
        wire::read_transfer_response(body, &request).map_err(unreadable)
    }
}
