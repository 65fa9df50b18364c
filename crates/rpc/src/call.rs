//! A call between nodes, and the ways it ends.

use async_trait::async_trait;
use bytes::Bytes;
use floeberg_types::{GroupId, NodeId};
use std::time::Duration;

/// Which of the streams to a peer carries a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Small and urgent: elections, heartbeats, read indexes, membership.
    Votes,
    /// Log entries.
    Log,
    /// Commands on their way to a leader.
    Proposals,
    /// Files and data.
    Bulk,
}

/// What a call asks for. The numbers are on the wire and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum Method {
    /// A vote of a group (Raft `RequestVote`).
    Vote = 1,
    /// Whether a vote would be granted.
    PreVote = 2,
    /// Log entries of a group (Raft `AppendEntries`).
    Append = 3,
    /// Leadership is handed to the peer.
    TransferLeader = 4,
    /// A snapshot is offered.
    SnapshotBegin = 5,
    /// A piece of a snapshot's file.
    SnapshotChunk = 6,
    /// A snapshot is complete and takes the place of the state.
    SnapshotInstall = 7,
    /// The index a linearizable read has to wait for.
    ReadIndex = 16,
    /// A command for the group's log.
    Propose = 17,
    /// Takes a command back, or says that it is on its way.
    Withdraw = 18,
    /// A shard of a chunk to be stored.
    ShardWrite = 32,
    /// A range of a stored shard.
    ShardRead = 33,
    /// Shards that are garbage.
    ShardDelete = 34,
    /// Which shards are stored.
    ShardStat = 35,
    /// What a node knows of itself.
    Status = 48,
    /// A node asks to become a member.
    Join = 49,
    /// The members of the cluster.
    Members = 50,
    /// The key of the cluster's next authority, for members only.
    Authority = 51,
    /// What two members know of each other's acknowledgements; asked before a node takes part.
    Marks = 52,
    /// An append without entries: a leader shows that it leads, and must not wait behind entries.
    Heartbeat = 53,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 20] = [
        Self::Vote,
        Self::PreVote,
        Self::Append,
        Self::TransferLeader,
        Self::SnapshotBegin,
        Self::SnapshotChunk,
        Self::SnapshotInstall,
        Self::ReadIndex,
        Self::Propose,
        Self::Withdraw,
        Self::ShardWrite,
        Self::ShardRead,
        Self::ShardDelete,
        Self::ShardStat,
        Self::Status,
        Self::Join,
        Self::Members,
        Self::Authority,
        Self::Marks,
        Self::Heartbeat,
    ];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vote => "vote",
            Self::PreVote => "pre-vote",
            Self::Append => "append",
            Self::TransferLeader => "transfer-leader",
            Self::SnapshotBegin => "snapshot-begin",
            Self::SnapshotChunk => "snapshot-chunk",
            Self::SnapshotInstall => "snapshot-install",
            Self::ReadIndex => "read-index",
            Self::Propose => "propose",
            Self::Withdraw => "withdraw",
            Self::ShardWrite => "shard-write",
            Self::ShardRead => "shard-read",
            Self::ShardDelete => "shard-delete",
            Self::ShardStat => "shard-stat",
            Self::Status => "status",
            Self::Join => "join",
            Self::Members => "members",
            Self::Authority => "authority",
            Self::Marks => "marks",
            Self::Heartbeat => "heartbeat",
        }
    }

    /// The stream that carries it.
    #[must_use]
    pub const fn lane(self) -> Lane {
        match self {
            Self::Vote
            | Self::PreVote
            | Self::TransferLeader
            | Self::ReadIndex
            | Self::Status
            | Self::Join
            | Self::Members
            | Self::Authority
            | Self::Heartbeat
            | Self::Marks => Lane::Votes,
            Self::Append => Lane::Log,
            Self::Propose | Self::Withdraw => Lane::Proposals,
            Self::SnapshotBegin
            | Self::SnapshotChunk
            | Self::SnapshotInstall
            | Self::ShardWrite
            | Self::ShardRead
            | Self::ShardDelete
            | Self::ShardStat => Lane::Bulk,
        }
    }
}

/// Whose threads serve a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crew {
    /// Those of consensus: the call is short, and must be answered whatever clients do.
    Consensus,
    /// Those of requests: a client decides how much there is to do.
    Requests,
}

impl Method {
    pub(crate) const fn crew(self) -> Crew {
        match self {
            Self::Append
            | Self::Heartbeat
            | Self::Vote
            | Self::PreVote
            | Self::TransferLeader
            | Self::ReadIndex
            | Self::Marks
            | Self::Status
            | Self::SnapshotBegin
            | Self::SnapshotChunk
            | Self::SnapshotInstall => Crew::Consensus,
            Self::Propose
            | Self::Withdraw
            | Self::Join
            | Self::Members
            | Self::Authority
            | Self::ShardWrite
            | Self::ShardRead
            | Self::ShardDelete
            | Self::ShardStat => Crew::Requests,
        }
    }
}

impl Lane {
    /// Who reads what comes on the lane and writes the answers. Where that is not who serves the calls,
    /// it hands them over.
    pub(crate) const fn crew(self) -> Crew {
        match self {
            Self::Votes | Self::Log | Self::Bulk => Crew::Consensus,
            // The order of its calls counts, so they are read where they are served.
            Self::Proposals => Crew::Requests,
        }
    }
}

/// A call to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub method: Method,
    /// The group it is about; the catalog's where no group is meant.
    pub group: GroupId,
    /// The message of the method.
    pub body: Bytes,
}

/// Why a peer did not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// It does not serve this group or method at the moment.
    NotServing,
    /// It belongs to another cluster.
    WrongCluster,
    /// It is not the node that was meant, or does not take the caller for who it says it is.
    WrongNode,
    /// The caller may not ask this.
    Unauthorised,
    /// The body is not the message of the method.
    Malformed,
    /// It does not know the method.
    UnknownMethod,
    /// It has too much to do.
    Busy,
    /// It tried and failed.
    Failed,
    /// The caller was removed from the cluster.
    Removed,
    /// A later start of the caller is known.
    Superseded,
    /// The node that was called has lost what it had acknowledged, and takes no part.
    Forgot,
}

/// A peer's answer that it did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why, for programs.
    pub code: RefusalCode,
    /// Why, for people.
    pub message: String,
}

impl Refusal {
    /// A refusal with its reason.
    #[must_use]
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The peer has not seen the call and never will.
    #[error("the call was not sent: {reason}")]
    NotSent {
        /// What stood in the way.
        reason: String,
    },
    /// The call was sent, and whether the peer did it is unknown.
    #[error("the call was sent, and no answer came: {reason}")]
    Lost {
        /// What happened to the answer.
        reason: String,
    },
    /// The peer did not do it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl CallError {
    /// The peer has not seen the call and never will.
    #[must_use]
    pub fn not_sent(reason: impl Into<String>) -> Self {
        Self::NotSent {
            reason: reason.into(),
        }
    }

    /// The call was sent, and whether the peer did it is unknown.
    #[must_use]
    pub fn lost(reason: impl Into<String>) -> Self {
        Self::Lost {
            reason: reason.into(),
        }
    }
}

/// The way to the other nodes.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Calls `to` and waits at most `patience` for the answer.
    ///
    /// # Errors
    /// See [`CallError`]: which of them say that nothing happened is part of the contract.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answer, not the call.
    async fn call(
        &self,
        to: NodeId,
        request: Request,
        patience: Duration,
    ) -> Result<Bytes, CallError>;
}

/// Serves calls of peers.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Answers a call of `from`, whose identity is proven.
    ///
    /// # Errors
    /// The call was not done, and will not be.
    async fn handle(&self, from: NodeId, request: Request) -> Result<Bytes, Refusal>;
}
