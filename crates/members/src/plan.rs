//! Decides, without doing anything, what comes next for a group and which wishes are refused.
//!
//! The rules: one change at a time; a node gets a vote only once it has caught up; no change may
//! leave a group without a majority of voters that answer, before, during or after; a leader that
//! leaves hands over first; data is copied away before a living node goes.

mod admit;
mod majority;
mod next;
mod rotation;
mod settle;

pub use admit::{Refused, departure_of, may_depart, may_replace, may_transfer};
pub use majority::{MajorityAtRisk, majority};
pub use next::{Next, Step, Waiting, next};
pub use rotation::{RotationPhase, next_phase, unconfirmed};
pub use settle::{feature_level, settle};

use crate::model::Member;
use floeberg_types::{GroupId, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// Members by id.
pub type Roster = BTreeMap<NodeId, Member>;

/// A group as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Which group.
    pub group: GroupId,
    /// Who leads it.
    pub leader: NodeId,
    /// The leader's term.
    pub term: u64,
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Who only receives the log.
    pub learners: BTreeSet<NodeId>,
    /// Whether a change of the voters is under way.
    pub changing: bool,
    /// Nodes that answer the leader, itself included; also such as are not part of the group.
    pub reachable: BTreeSet<NodeId>,
    /// Entries that each part of the group still lacks.
    pub behind: BTreeMap<NodeId, u64>,
}

impl GroupView {
    /// Whether `node` receives the log, with or without a vote.
    #[must_use]
    pub fn includes(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.learners.contains(&node)
    }

    /// How many voters answer.
    #[must_use]
    pub fn answering(&self) -> usize {
        self.voters.intersection(&self.reachable).count()
    }

    /// Entries that `node` lacks; a node of which nothing is known lacks all.
    #[must_use]
    pub fn lag(&self, node: NodeId) -> u64 {
        self.behind.get(&node).copied().unwrap_or(u64::MAX)
    }
}

/// What the planner goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A learner that lacks at most this many entries has caught up.
    pub caught_up: u64,
    /// Members beyond this number receive the log without a vote and stand by.
    pub voters_max: usize,
    /// Copies of the data; the cluster does not shrink below as many members.
    pub copies: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            caught_up: 1000,
            voters_max: 7,
            copies: 3,
        }
    }
}

#[cfg(test)]
mod tests;
