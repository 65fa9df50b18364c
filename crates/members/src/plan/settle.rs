//! Which member's state has been reached, and which feature level everybody can work at.

use super::{GroupView, Roster, Rules};
use crate::model::{Departure, MemberState};
use floeberg_types::NodeId;
use std::collections::BTreeMap;

/// A member whose row can say more than it does: the new state. `views` has every group.
#[must_use]
pub fn settle(
    roster: &Roster,
    views: &[GroupView],
    owed: &BTreeMap<NodeId, u64>,
    rules: &Rules,
) -> Option<(NodeId, MemberState)> {
    let settled = |view: &GroupView, node| {
        let stands_by = view.learners.contains(&node) && view.voters.len() >= rules.voters_max;
        view.voters.contains(&node) || stands_by
    };
    roster.values().find_map(|member| {
        let node = member.id;
        match member.state {
            MemberState::Joining => views
                .iter()
                .all(|view| settled(view, node))
                .then_some((node, MemberState::Active)),
            MemberState::Leaving(Departure::Drained) => {
                let empty = owed.get(&node) == Some(&0);
                empty.then_some((node, MemberState::Drained))
            }
            MemberState::Leaving(Departure::Dead) | MemberState::Drained => {
                let left = views.iter().all(|view| !view.includes(node));
                left.then_some((node, MemberState::Gone))
            }
            MemberState::Active | MemberState::Gone => None,
        }
    })
}

/// The highest level that every member can work at, if it is above `current`. A member that is
/// leaving counts until it is gone: it still applies commands.
#[must_use]
pub fn feature_level(roster: &Roster, current: u32) -> Option<u32> {
    let present = roster.values().filter(|m| m.state != MemberState::Gone);
    let level = present.map(|m| m.features.high).min()?;
    (level > current).then_some(level)
}
