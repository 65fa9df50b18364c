//! A member of the cluster, as use cases and the planner see it.

use floeberg_state::{FEATURE_LEVEL, FEATURE_LEVEL_SEVERAL_NODES};
use floeberg_types::{NodeId, TimestampMs};
use std::collections::BTreeMap;

/// Why a member leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Others take over its data first.
    Drained,
    /// It and its data are lost.
    Dead,
}

/// How far a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It has its id and certificate and is not a full part of every group yet.
    Joining,
    /// It is.
    Active,
    /// It will be gone.
    Leaving(Departure),
    /// It will be gone, and others have its data. Only the leader of group 0 sees when that is so, and
    /// the leaders of the other groups wait for it.
    Drained,
    /// It is no member any more and never will be again.
    Gone,
}

impl MemberState {
    /// Whether it is to be a part of every group.
    #[must_use]
    pub const fn stays(self) -> bool {
        matches!(self, Self::Joining | Self::Active)
    }

    /// Whether it was a member like the others and is on its way out.
    #[must_use]
    pub const fn leaves(self) -> bool {
        matches!(self, Self::Leaving(_) | Self::Drained)
    }

    /// In words, for people and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Active => "active",
            Self::Leaving(Departure::Drained) => "draining",
            Self::Leaving(Departure::Dead) => "dead",
            Self::Drained => "drained",
            Self::Gone => "gone",
        }
    }
}

/// The feature levels a binary can work at, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureLevels {
    /// The lowest.
    pub low: u32,
    /// The highest.
    pub high: u32,
}

impl FeatureLevels {
    /// What this binary can work at.
    pub const OF_THIS_BINARY: Self = Self {
        low: FEATURE_LEVEL_SEVERAL_NODES,
        high: FEATURE_LEVEL,
    };

    /// Whether the binary can work at `level`.
    #[must_use]
    pub const fn include(self, level: u32) -> bool {
        self.low <= level && level <= self.high
    }
}

/// A member of the cluster, present or gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number; never reused.
    pub id: NodeId,
    /// Host and port of its node-to-node port.
    pub address: String,
    /// What fails together with it: `zone`, `rack`, `host`.
    pub labels: BTreeMap<String, String>,
    /// How far it is.
    pub state: MemberState,
    /// The member that takes its place.
    pub replaced_by: Option<NodeId>,
    /// When it got its id.
    pub joined_at: TimestampMs,
    /// When its state changed last.
    pub changed_at: TimestampMs,
    /// What its binary can work at.
    pub features: FeatureLevels,
    /// The version of its binary.
    pub version: String,
    /// Which start of it was heard of last, see [`Start::number`](crate::Start); 0: none.
    pub start: u64,
    /// What every member must be configured with alike, by name, as it last said.
    pub settings: BTreeMap<String, String>,
}
