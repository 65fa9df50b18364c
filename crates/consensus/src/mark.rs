//! What a node has acknowledged in a group, as a value that only grows (docs/decisions/0008-marks.md).
//!
//! The raw end of a log is no such value: a new leader may have entries removed that an earlier one
//! wrote, and a crash between the removal and what replaces them leaves a healthy node with less. But
//! such a removal follows a promise to the new leader, so the promise comes first in the comparison.

use crate::codec::{self, CodecError};
use crate::raft::{LogId, Vote};
use floeberg_proto::floeberg::raft::v1 as pb;
use floeberg_raftlog::{LogError, LogStore};
use floeberg_types::{GroupId, NodeId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The layout this version writes and the only one it reads.
const FORMAT: u32 = 1;

/// The leadership that a node has promised itself to, and how far it has taken that leader's entries;
/// ordered field by field. While a node keeps its disk it never falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AckMark {
    /// Term of the vote.
    pub term: u64,
    /// For whom it was.
    pub node: NodeId,
    /// A quorum gave it: that node leads the term.
    pub committed: bool,
    /// Index of the last synced entry that this leader wrote; `None`: none yet.
    pub accepted: Option<u64>,
}

impl Default for AckMark {
    /// Of somebody who has promised and taken nothing.
    fn default() -> Self {
        Self {
            term: 0,
            node: NodeId(0),
            committed: false,
            accepted: None,
        }
    }
}

impl AckMark {
    /// What somebody has acknowledged whose vote is `vote` and whose log ends with `last`, both synced.
    pub(crate) fn of(vote: &Vote, last: Option<&LogId>) -> Self {
        let own = last.filter(|last| last.leader_id == vote.leader_id);
        Self {
            term: vote.leader_id.term,
            node: NodeId(vote.leader_id.node_id),
            committed: vote.committed,
            accepted: own.map(|last| last.index),
        }
    }

    /// As it is stored and sent.
    #[must_use]
    pub fn to_pb(&self) -> pb::AckMark {
        pb::AckMark {
            format: FORMAT,
            term: self.term,
            node: self.node.0,
            committed: self.committed,
            accepted: self.accepted,
        }
    }

    /// One that was stored or sent; `None` if a later version made it, of which nothing is known here.
    #[must_use]
    pub fn from_pb(mark: &pb::AckMark) -> Option<Self> {
        (mark.format == FORMAT).then_some(Self {
            term: mark.term,
            node: NodeId(mark.node),
            committed: mark.committed,
            accepted: mark.accepted,
        })
    }
}

impl fmt::Display for AckMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { term, node, .. } = self;
        match self.accepted {
            Some(index) => write!(f, "entry {index} of term {term} led by node {node}"),
            None if self.committed => write!(f, "the lead of node {node} in term {term}"),
            None if *term == 0 => f.write_str("nothing"),
            None => write!(f, "a vote for node {node} in term {term}"),
        }
    }
}

/// What of a group's log is durable here, as far as marks need it. Clones share everything.
#[derive(Clone, Default)]
pub(crate) struct Acks(Arc<Mutex<Durable>>);

#[derive(Default)]
struct Durable {
    vote: Option<Vote>,
    last: Option<LogId>,
}

/// Why a log does not say what it has acknowledged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcksError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl Acks {
    /// What a log that was just opened has acknowledged; everything in it is durable.
    pub(crate) fn recovered(log: &dyn LogStore, group: GroupId) -> Result<Self, AcksError> {
        let vote = log.read_vote(group)?.map(codec::decode_vote).transpose()?;
        let state = log.state(group)?;
        let purged = state.purged.map(|(_, bytes)| codec::decode_log_id(bytes));
        let last = state.last.map(|record| codec::decode_entry(record.bytes));
        let last = last.transpose()?.map(|entry| entry.log_id);
        let last = last.or(purged.transpose()?);
        Ok(Self(Arc::new(Mutex::new(Durable { vote, last }))))
    }

    /// A vote is durable.
    pub(crate) fn voted(&self, vote: Vote) {
        self.0.lock().vote = Some(vote);
    }

    /// Entries up to `last` are durable, or a snapshot that holds them. What was so before and is removed
    /// meanwhile was not written by the leader of the vote, so it does not matter that it is remembered.
    pub(crate) fn appended(&self, last: LogId) {
        let mut durable = self.0.lock();
        durable.last = durable.last.max(Some(last));
    }

    /// The mark of what is durable now.
    pub(crate) fn mark(&self) -> AckMark {
        let durable = self.0.lock();
        let vote = durable.vote.as_ref();
        vote.map_or_else(AckMark::default, |v| AckMark::of(v, durable.last.as_ref()))
    }
}

/// What this node has heard of the others' acknowledgements in one group: the highest mark of each.
/// Clones share everything. As many marks as the group ever had members.
#[derive(Clone, Debug, Default)]
pub struct Witness(Arc<Mutex<BTreeMap<NodeId, AckMark>>>);

impl Witness {
    /// `node` has said, or shown by an answer, that it has acknowledged `mark`.
    pub fn hear(&self, node: NodeId, mark: AckMark) {
        let mut heard = self.0.lock();
        let known = heard.entry(node).or_default();
        *known = mark.max(*known);
    }

    /// What `node` is known to have acknowledged.
    #[must_use]
    pub fn known(&self, node: NodeId) -> Option<AckMark> {
        self.0.lock().get(&node).copied()
    }

    /// Everything heard, ascending by node.
    #[must_use]
    pub fn all(&self) -> BTreeMap<NodeId, AckMark> {
        self.0.lock().clone()
    }

    /// Forgets a node that is no member any more; its id is never given out again.
    pub fn dismiss(&self, node: NodeId) {
        self.0.lock().remove(&node);
    }
}

#[cfg(test)]
mod tests;
