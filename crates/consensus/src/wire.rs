//! Between the library's calls and the messages of `proto/floeberg/rpc/v1/raft.proto`.

use crate::codec::{self, CodecError};
use crate::mark::AckMark;
use crate::raft::{LogId, TypeConfig, Vote};
use bytes::Bytes;
use floeberg_proto::floeberg::raft::v1 as stored;
use floeberg_proto::floeberg::rpc::v1 as pb;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use prost::Message;
use std::time::Duration;

/// The layout this version sends and the only one it reads.
pub(crate) const FORMAT: u32 = 1;

/// A message that this version cannot read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("{what} is not readable: {source}")]
    Malformed {
        what: &'static str,
        #[source]
        source: prost::DecodeError,
    },
    #[error("{what} has format {format}, this version knows {FORMAT}")]
    UnknownFormat { what: &'static str, format: u32 },
    #[error("{what} has no {field}")]
    Missing {
        what: &'static str,
        field: &'static str,
    },
    #[error("{what} makes no sense: {reason}")]
    Nonsense {
        what: &'static str,
        reason: &'static str,
    },
    #[error(transparent)]
    Part(#[from] CodecError),
}

/// A message with a format number.
pub(crate) trait Formatted: Message + Default {
    const WHAT: &'static str;
    fn format(&self) -> u32;
}

macro_rules! formatted {
    ($($message:ident: $what:literal),* $(,)?) => {$(
        impl Formatted for pb::$message {
            const WHAT: &'static str = $what;
            fn format(&self) -> u32 {
                self.format
            }
        }
    )*};
}

formatted! {
    AppendRequest: "append request",
    AppendResponse: "append response",
    VoteRequest: "vote request",
    VoteResponse: "vote response",
    TransferLeaderRequest: "leadership transfer",
    TransferLeaderResponse: "answer to a leadership transfer",
    ReadIndexRequest: "read index request",
    ReadIndexResponse: "read index response",
    SnapshotBeginRequest: "snapshot offer",
    SnapshotBeginResponse: "answer to a snapshot offer",
    SnapshotChunkRequest: "snapshot chunk",
    SnapshotChunkResponse: "answer to a snapshot chunk",
    SnapshotInstallRequest: "snapshot install request",
    SnapshotInstallResponse: "answer to a snapshot install request",
}

pub(crate) fn read<M: Formatted>(body: Bytes) -> Result<M, WireError> {
    let message = M::decode(body).map_err(|source| WireError::Malformed {
        what: M::WHAT,
        source,
    })?;
    match message.format() {
        FORMAT => Ok(message),
        format => Err(WireError::UnknownFormat {
            what: M::WHAT,
            format,
        }),
    }
}

pub(crate) fn write(message: &impl Message) -> Bytes {
    Bytes::from(message.encode_to_vec())
}

pub(crate) fn vote(what: &'static str, vote: Option<&stored::Vote>) -> Result<Vote, WireError> {
    let field = "vote";
    let vote = vote.ok_or(WireError::Missing { what, field })?;
    Ok(codec::vote_from_pb(vote)?)
}

pub(crate) fn log_id(id: Option<&stored::LogId>) -> Option<LogId> {
    id.map(codec::log_id_from_pb)
}

pub(crate) fn log_id_out(id: Option<&LogId>) -> Option<stored::LogId> {
    id.map(codec::log_id_to_pb)
}

/// `known`: what the follower is known to have acknowledged.
pub(crate) fn append_request(
    request: &AppendEntriesRequest<TypeConfig>,
    known: Option<AckMark>,
) -> pb::AppendRequest {
    pb::AppendRequest {
        format: FORMAT,
        vote: Some(codec::vote_to_pb(&request.vote)),
        previous: log_id_out(request.prev_log_id.as_ref()),
        entries: request.entries.iter().map(codec::encode_entry).collect(),
        committed: log_id_out(request.leader_commit.as_ref()),
        known: known.as_ref().map(AckMark::to_pb),
    }
}

fn known(mark: Option<&stored::AckMark>) -> Option<AckMark> {
    mark.and_then(AckMark::from_pb)
}

/// A call, with what the caller knows that this node has acknowledged.
#[derive(Debug)]
pub(crate) struct Informed<T> {
    pub(crate) request: T,
    pub(crate) known: Option<AckMark>,
}

/// The entries share the bytes of `body`.
pub(crate) fn read_append(
    body: Bytes,
) -> Result<Informed<AppendEntriesRequest<TypeConfig>>, WireError> {
    let request: pb::AppendRequest = read(body)?;
    let what = pb::AppendRequest::WHAT;
    let previous = log_id(request.previous.as_ref());
    let first = previous.map_or(0, |id| id.index + 1);
    let mut entries = Vec::with_capacity(request.entries.len());
    for (next, entry) in (first..).zip(request.entries) {
        let entry = codec::decode_entry(entry)?;
        // The library counts on it, and would panic.
        if entry.log_id.index != next {
            let reason = "its entries do not follow each other";
            return Err(WireError::Nonsense { what, reason });
        }
        entries.push(entry);
    }
    let known = known(request.known.as_ref());
    let request = AppendEntriesRequest {
        vote: vote(what, request.vote.as_ref())?,
        prev_log_id: previous,
        entries,
        leader_commit: log_id(request.committed.as_ref()),
    };
    Ok(Informed { request, known })
}

/// `unreached`: for how long calls to the leader were not answered.
pub(crate) fn append_response(
    response: &AppendEntriesResponse<TypeConfig>,
    clock_ms: i64,
    unreached: Duration,
) -> pb::AppendResponse {
    use pb::append_response::Outcome;
    let outcome = match response {
        // This side never does less than it was asked for.
        AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_) => {
            Outcome::Appended(pb::Appended {})
        }
        AppendEntriesResponse::Conflict => Outcome::PreviousMissing(pb::PreviousMissing {}),
        AppendEntriesResponse::HigherVote(vote) => Outcome::HigherVote(codec::vote_to_pb(vote)),
    };
    pb::AppendResponse {
        format: FORMAT,
        outcome: Some(outcome),
        clock_ms,
        unreached_ms: u32::try_from(unreached.as_millis()).unwrap_or(u32::MAX),
    }
}

/// What a follower says when it was sent entries.
#[derive(Debug)]
pub(crate) struct AppendAnswer {
    pub(crate) response: AppendEntriesResponse<TypeConfig>,
    /// Its wall time.
    pub(crate) clock_ms: i64,
    /// For how long its calls to the leader were not answered.
    pub(crate) unreached: Duration,
}

pub(crate) fn read_append_response(body: Bytes) -> Result<AppendAnswer, WireError> {
    use pb::append_response::Outcome;
    let response: pb::AppendResponse = read(body)?;
    let outcome = match response.outcome {
        Some(Outcome::Appended(_)) => AppendEntriesResponse::Success,
        Some(Outcome::PreviousMissing(_)) => AppendEntriesResponse::Conflict,
        Some(Outcome::HigherVote(vote)) => {
            AppendEntriesResponse::HigherVote(codec::vote_from_pb(&vote)?)
        }
        None => {
            return Err(WireError::Missing {
                what: pb::AppendResponse::WHAT,
                field: "outcome",
            });
        }
    };
    Ok(AppendAnswer {
        response: outcome,
        clock_ms: response.clock_ms,
        unreached: Duration::from_millis(response.unreached_ms.into()),
    })
}

/// `known`: what the voter is known to have acknowledged.
pub(crate) fn vote_request(
    request: &VoteRequest<TypeConfig>,
    known: Option<AckMark>,
) -> pb::VoteRequest {
    pb::VoteRequest {
        format: FORMAT,
        vote: Some(codec::vote_to_pb(&request.vote)),
        last: log_id_out(request.last_log_id.as_ref()),
        leadership_transfer: request.leadership_transfer,
        known: known.as_ref().map(AckMark::to_pb),
    }
}

pub(crate) fn read_vote(body: Bytes) -> Result<Informed<VoteRequest<TypeConfig>>, WireError> {
    let request: pb::VoteRequest = read(body)?;
    let known = known(request.known.as_ref());
    let request = VoteRequest {
        vote: vote(pb::VoteRequest::WHAT, request.vote.as_ref())?,
        last_log_id: log_id(request.last.as_ref()),
        leadership_transfer: request.leadership_transfer,
    };
    Ok(Informed { request, known })
}

pub(crate) fn vote_response(response: &VoteResponse<TypeConfig>) -> pb::VoteResponse {
    pb::VoteResponse {
        format: FORMAT,
        vote: Some(codec::vote_to_pb(&response.vote)),
        granted: response.vote_granted,
        last: log_id_out(response.last_log_id.as_ref()),
    }
}

pub(crate) fn read_vote_response(body: Bytes) -> Result<VoteResponse<TypeConfig>, WireError> {
    let response: pb::VoteResponse = read(body)?;
    Ok(VoteResponse {
        vote: vote(pb::VoteResponse::WHAT, response.vote.as_ref())?,
        vote_granted: response.granted,
        last_log_id: log_id(response.last.as_ref()),
    })
}

pub(crate) fn transfer_request(
    request: &TransferLeaderRequest<TypeConfig>,
) -> pb::TransferLeaderRequest {
    pb::TransferLeaderRequest {
        format: FORMAT,
        from: Some(codec::vote_to_pb(request.from_leader())),
        to: *request.to_node_id(),
        last: log_id_out(request.last_log_id()),
    }
}

pub(crate) fn read_transfer(body: Bytes) -> Result<TransferLeaderRequest<TypeConfig>, WireError> {
    let request: pb::TransferLeaderRequest = read(body)?;
    let from = vote(pb::TransferLeaderRequest::WHAT, request.from.as_ref())?;
    let last = log_id(request.last.as_ref());
    Ok(TransferLeaderRequest::new(from, request.to, last))
}

pub(crate) fn transfer_response(
    response: &TransferLeaderResponse<TypeConfig>,
) -> pb::TransferLeaderResponse {
    use pb::transfer_leader_response::Refused;
    let refused = match response {
        Ok(()) => None,
        Err(TransferLeaderError::VoteChanged { actual, .. }) => {
            Some(Refused::VoteChanged(codec::vote_to_pb(actual)))
        }
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
            let last = log_id_out(actual.as_ref());
            Some(Refused::LogBehind(pb::LogBehind { last }))
        }
    };
    pb::TransferLeaderResponse {
        format: FORMAT,
        refused,
    }
}

/// `request` is what was answered.
pub(crate) fn read_transfer_response(
    body: Bytes,
    request: &TransferLeaderRequest<TypeConfig>,
) -> Result<TransferLeaderResponse<TypeConfig>, WireError> {
    use pb::transfer_leader_response::Refused;
    let response: pb::TransferLeaderResponse = read(body)?;
    Ok(match response.refused {
        None => Ok(()),
        Some(Refused::VoteChanged(vote)) => Err(TransferLeaderError::VoteChanged {
            expected: *request.from_leader(),
            actual: codec::vote_from_pb(&vote)?,
        }),
        Some(Refused::LogBehind(behind)) => Err(TransferLeaderError::LogNotFlushed {
            expected: request.last_log_id().copied(),
            actual: log_id(behind.last.as_ref()),
        }),
    })
}

#[cfg(test)]
mod tests;
