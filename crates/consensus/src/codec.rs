//! Between the library's types and the stored messages of `proto/floeberg/raft/v1`.

use crate::machine::EntryId;
use crate::raft::{
    Command, Entry, LeaderId, LogId, Membership, Payload, StoredMembership, TypeConfig, Vote,
};
use bytes::Bytes;
use floeberg_proto::floeberg::raft::v1 as pb;
use floeberg_types::NodeId;
use openraft::impls::BasicNode;
use openraft::vote::RaftLeaderId as _;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// The layout this version writes and the only one it reads.
const FORMAT: u32 = 1;

/// Stored bytes that this version cannot read. Never skipped: the node stops.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    /// Not a protobuf message.
    #[error("stored {what} is not readable")]
    Malformed {
        what: &'static str,
        #[source]
        source: prost::DecodeError,
    },
    /// Written by a newer version, or not by us.
    #[error("stored {what} has format {format}, this version knows {FORMAT}")]
    UnknownFormat { what: &'static str, format: u32 },
    /// A part that every writer sets.
    #[error("stored {what} has no {field}")]
    Missing {
        what: &'static str,
        field: &'static str,
    },
    /// No voters, or a voter that is not a member.
    #[error("stored membership is not a valid one")]
    BadMembership {
        #[source]
        source: openraft::errors::MembershipError<u64>,
    },
}

impl From<CodecError> for io::Error {
    fn from(e: CodecError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, e)
    }
}

fn decode<M: Message + Default>(what: &'static str, bytes: Bytes) -> Result<M, CodecError> {
    M::decode(bytes).map_err(|source| CodecError::Malformed { what, source })
}

fn check_format(what: &'static str, format: u32) -> Result<(), CodecError> {
    match format {
        FORMAT => Ok(()),
        format => Err(CodecError::UnknownFormat { what, format }),
    }
}

/// The public form of a log id.
pub(crate) fn entry_id(id: &LogId) -> EntryId {
    EntryId {
        term: id.leader_id.term,
        node: NodeId(id.leader_id.node_id),
        index: id.index,
    }
}

/// The library's form of an entry id.
pub(crate) fn log_id(id: &EntryId) -> LogId {
    LogId::new(LeaderId::new(id.term, id.node.0), id.index)
}

pub(crate) fn log_id_to_pb(id: &LogId) -> pb::LogId {
    pb::LogId {
        term: id.leader_id.term,
        node: id.leader_id.node_id,
        index: id.index,
    }
}

pub(crate) fn log_id_from_pb(id: &pb::LogId) -> LogId {
    LogId::new(LeaderId::new(id.term, id.node), id.index)
}

pub(crate) fn encode_entry(entry: &Entry) -> Bytes {
    let payload = match &entry.payload {
        Payload::Blank => pb::entry::Payload::Blank(pb::Blank {}),
        Payload::Normal(command) => pb::entry::Payload::Command(command.0.clone()),
        Payload::Membership(m) => pb::entry::Payload::Membership(membership_to_pb(m)),
    };
    let message = pb::Entry {
        format: FORMAT,
        term: entry.log_id.leader_id.term,
        node: entry.log_id.leader_id.node_id,
        index: entry.log_id.index,
        payload: Some(payload),
    };
    Bytes::from(message.encode_to_vec())
}

/// Shares the command's bytes with `bytes`.
pub(crate) fn decode_entry(bytes: Bytes) -> Result<Entry, CodecError> {
    const WHAT: &str = "log entry";
    let entry: pb::Entry = decode(WHAT, bytes)?;
    check_format(WHAT, entry.format)?;
    let payload = match entry.payload {
        Some(pb::entry::Payload::Blank(_)) => Payload::Blank,
        Some(pb::entry::Payload::Command(command)) => Payload::Normal(Command(command)),
        Some(pb::entry::Payload::Membership(m)) => Payload::Membership(membership_from_pb(m)?),
        None => {
            return Err(CodecError::Missing {
                what: WHAT,
                field: "payload",
            });
        }
    };
    let log_id = LogId::new(LeaderId::new(entry.term, entry.node), entry.index);
    Ok(openraft::Entry { log_id, payload })
}

pub(crate) fn vote_to_pb(vote: &Vote) -> pb::Vote {
    pb::Vote {
        format: FORMAT,
        term: vote.leader_id.term,
        node: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

pub(crate) fn vote_from_pb(vote: &pb::Vote) -> Result<Vote, CodecError> {
    check_format("vote", vote.format)?;
    Ok(openraft::Vote {
        leader_id: LeaderId::new(vote.term, vote.node),
        committed: vote.committed,
    })
}

pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    Bytes::from(vote_to_pb(vote).encode_to_vec())
}

pub(crate) fn decode_vote(bytes: Bytes) -> Result<Vote, CodecError> {
    vote_from_pb(&decode("vote", bytes)?)
}

pub(crate) fn encode_log_id(id: &LogId) -> Bytes {
    let message = pb::StoredLogId {
        format: FORMAT,
        log_id: Some(log_id_to_pb(id)),
    };
    Bytes::from(message.encode_to_vec())
}

pub(crate) fn decode_log_id(bytes: Bytes) -> Result<LogId, CodecError> {
    const WHAT: &str = "log id";
    let stored: pb::StoredLogId = decode(WHAT, bytes)?;
    check_format(WHAT, stored.format)?;
    let id = stored.log_id.ok_or(CodecError::Missing {
        what: WHAT,
        field: "log id",
    })?;
    Ok(log_id_from_pb(&id))
}

pub(crate) fn encode_membership(at: Option<&LogId>, membership: &Membership) -> Bytes {
    let message = pb::StoredMembership {
        format: FORMAT,
        log_id: at.map(log_id_to_pb),
        membership: Some(membership_to_pb(membership)),
    };
    Bytes::from(message.encode_to_vec())
}

pub(crate) fn decode_membership(bytes: Bytes) -> Result<StoredMembership, CodecError> {
    const WHAT: &str = "membership";
    let stored: pb::StoredMembership = decode(WHAT, bytes)?;
    check_format(WHAT, stored.format)?;
    let membership = stored.membership.ok_or(CodecError::Missing {
        what: WHAT,
        field: "membership",
    })?;
    let at = stored.log_id.as_ref().map(log_id_from_pb);
    Ok(openraft::alias::StoredMembershipOf::<TypeConfig>::new(
        at,
        membership_from_pb(membership)?,
    ))
}

fn membership_to_pb(membership: &Membership) -> pb::Membership {
    let configs = membership
        .get_joint_config()
        .iter()
        .map(|set| pb::VoterSet {
            nodes: set.iter().copied().collect(),
        })
        .collect();
    let members = membership
        .nodes()
        .map(|(node, info)| pb::Member {
            node: *node,
            address: info.addr.clone(),
        })
        .collect();
    pb::Membership { configs, members }
}

fn membership_from_pb(membership: pb::Membership) -> Result<Membership, CodecError> {
    let configs: Vec<BTreeSet<u64>> = membership
        .configs
        .into_iter()
        .map(|set| set.nodes.into_iter().collect())
        .collect();
    let members: BTreeMap<u64, BasicNode> = membership
        .members
        .into_iter()
        .map(|m| (m.node, BasicNode { addr: m.address }))
        .collect();
    Membership::new(configs, members).map_err(|source| CodecError::BadMembership { source })
}

#[cfg(test)]
mod tests;
