//! Decides which phase of a change of the authority comes next.

use super::Roster;
use crate::model::{Departure, Member, MemberState};
use floeberg_types::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// A phase of a rotation, in their order. Each begins once every member has confirmed the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RotationPhase {
    /// Members get the next authority's key, and trust both authorities.
    Trust,
    /// Members have certificates of the next one, and sign with it.
    Renew,
    /// Members trust the next one alone.
    Drop,
    /// Nothing is left to do.
    Done,
}

impl RotationPhase {
    /// In words, for people and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Renew => "renew",
            Self::Drop => "drop",
            Self::Done => "done",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Trust => Self::Renew,
            Self::Renew => Self::Drop,
            Self::Drop | Self::Done => Self::Done,
        }
    }
}

/// Who has not confirmed `phase` of rotation `number`. A member that is given up is not waited for:
/// it never comes back. One whose data is copied away still serves, and is.
#[must_use]
pub fn unconfirmed(
    roster: &Roster,
    confirmed: &BTreeMap<NodeId, (u64, RotationPhase)>,
    (number, phase): (u64, RotationPhase),
) -> BTreeSet<NodeId> {
    let counts = |member: &&Member| {
        let given_up = MemberState::Leaving(Departure::Dead);
        member.state != MemberState::Gone && member.state != given_up
    };
    let done = |node: &NodeId| {
        let step = confirmed.get(node);
        step.is_some_and(|(of, reached)| *of == number && *reached >= phase)
    };
    let ids = roster.values().filter(counts).map(|member| member.id);
    ids.filter(|node| !done(node)).collect()
}

/// The phase after `phase`, if everybody is there.
#[must_use]
pub fn next_phase(
    roster: &Roster,
    confirmed: &BTreeMap<NodeId, (u64, RotationPhase)>,
    (number, phase): (u64, RotationPhase),
) -> Option<RotationPhase> {
    let all = unconfirmed(roster, confirmed, (number, phase)).is_empty();
    (phase != RotationPhase::Done && all).then(|| phase.next())
}
