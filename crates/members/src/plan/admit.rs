//! Which wishes are granted; the others are refused with the reason and what to do instead.

use super::majority::{MajorityAtRisk, keeps_majority};
use super::rotation::RotationPhase;
use super::{GroupView, Roster, Rules};
use crate::model::{Departure, FeatureLevels, Member, MemberState};
use floeberg_types::{GroupId, NodeId};

/// A change that is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody has that id.
    #[error("there is no member {node}; `floeberg cluster status` lists them")]
    Unknown {
        /// The id.
        node: NodeId,
    },
    /// It has left.
    #[error(
        "node {node} is gone and its id is never used again; let its machine join as a new node"
    )]
    Gone {
        /// The id.
        node: NodeId,
    },
    /// The authority is changing already.
    #[error(
        "the authority is changing already (phase {}); `floeberg cluster status` shows who is \
         waited for",
        phase.word()
    )]
    Rotating {
        /// How far it is.
        phase: RotationPhase,
    },
    /// It is leaving already.
    #[error("node {node} is already leaving; `floeberg cluster status` shows how far it is")]
    AlreadyLeaving {
        /// The id.
        node: NodeId,
    },
    /// One change at a time.
    #[error("node {node} is still {state}; one member changes at a time, wait until it is done")]
    Busy {
        /// Who is changing.
        node: NodeId,
        /// In words.
        state: &'static str,
    },
    /// Too few members would remain.
    #[error(
        "{left} active members that answer would remain, and {copies} copies of the data need {copies} \
         (one that is still joining does not count): bring silent ones back, or let another node join \
         first and use `floeberg cluster replace`"
    )]
    TooFew {
        /// How many.
        left: usize,
        /// How many copies there are.
        copies: usize,
    },
    /// The last one cannot go.
    #[error("node {node} is the last member; stop it instead")]
    Last {
        /// The id.
        node: NodeId,
    },
    /// It does not answer, so its data cannot be copied away.
    #[error(
        "node {node} does not answer, so its data cannot be copied away: bring it back, or give \
         it up with `--dead` if it will never return"
    )]
    Silent {
        /// The id.
        node: NodeId,
    },
    /// It answers, so it is not dead.
    #[error(
        "node {node} answers: leave `--dead` out to copy its data away first, or stop it if it is \
         to be given up"
    )]
    Alive {
        /// The id.
        node: NodeId,
    },
    /// A majority would be lost.
    #[error("the majority would be lost: {0}; bring those nodes back first")]
    Majority(MajorityAtRisk),
    /// A node cannot replace itself.
    #[error("node {node} cannot replace itself")]
    Itself {
        /// The id.
        node: NodeId,
    },
    /// The replacement is not there.
    #[error("node {node}, which is to take over, does not answer; start it first")]
    SilentReplacement {
        /// The id.
        node: NodeId,
    },
    /// It has no vote.
    #[error("node {node} has no vote in group {group}, so it cannot lead it")]
    NoVote {
        /// The id.
        node: NodeId,
        /// The group.
        group: GroupId,
    },
    /// It cannot lead.
    #[error("node {node} does not answer, so it cannot lead")]
    CannotLead {
        /// The id.
        node: NodeId,
    },
    /// There is no such group.
    #[error("there is no group {group}")]
    NoGroup {
        /// The group.
        group: GroupId,
    },
    /// Its binary is of another time.
    #[error(
        "the cluster works at feature level {level}, this binary at {} to {}: {}",
        features.low, features.high,
        if features.high < *level { "use a newer floeberg" } else { "upgrade the cluster first" }
    )]
    Features {
        /// The cluster's level.
        level: u32,
        /// The binary's.
        features: FeatureLevels,
    },
    /// It is set up for another cluster.
    #[error(
        "{key} is `{ours}` here and `{theirs}` in the cluster: correct the configuration of this node \
         and start it again"
    )]
    Settings {
        /// The key.
        key: &'static str,
        /// What this node has.
        ours: String,
        /// What the others have.
        theirs: String,
    },
    /// A process with a copy of its data directory was there before it.
    #[error(
        "the cluster knows start {} of node {node}, and this is start {} of a copy of its data \
         directory, or of an older one that was put back. Stop this one; if the other is the mistake, \
         give the node up (`floeberg cluster remove {node} --dead`) and let the machine join as a new one",
        known >> 32, start >> 32
    )]
    Superseded {
        /// The id.
        node: NodeId,
        /// Which start this is: the count in the upper 32 bits.
        start: u64,
        /// The latest that is known.
        known: u64,
    },
    /// Another member has that address.
    #[error(
        "node {node} is already reached at {address}: give this node its own peer.advertise, or \
         remove the old member first"
    )]
    AddressTaken {
        /// Whose it is.
        node: NodeId,
        /// The address.
        address: String,
    },
    /// The request itself is not usable.
    #[error("{reason}")]
    Malformed {
        /// What is wrong and what to do.
        reason: String,
    },
}

/// The member, if it is neither gone nor leaving.
fn staying(roster: &Roster, node: NodeId) -> Result<&Member, Refused> {
    let member = roster.get(&node).ok_or(Refused::Unknown { node })?;
    match member.state {
        MemberState::Gone => Err(Refused::Gone { node }),
        MemberState::Leaving(_) | MemberState::Drained => Err(Refused::AlreadyLeaving { node }),
        MemberState::Joining | MemberState::Active => Ok(member),
    }
}

fn idle(roster: &Roster) -> Result<(), Refused> {
    match roster.values().find(|member| member.state.leaves()) {
        Some(member) => Err(Refused::Busy {
            node: member.id,
            state: member.state.word(),
        }),
        None => Ok(()),
    }
}

fn answers(views: &[GroupView], node: NodeId) -> bool {
    views.iter().any(|view| view.reachable.contains(&node))
}

/// Active members beside `node` that answer: who is still joining may never come up, and nothing can be
/// copied to who is silent.
fn others(roster: &Roster, views: &[GroupView], node: NodeId) -> usize {
    let counts =
        |m: &&Member| m.state == MemberState::Active && m.id != node && answers(views, m.id);
    roster.values().filter(counts).count()
}

/// That `left` active members are enough, and that every group could still decide without `node`.
fn enough_remain(
    views: &[GroupView],
    node: NodeId,
    left: usize,
    needed: usize,
    rules: &Rules,
) -> Result<(), Refused> {
    if left == 0 {
        return Err(Refused::Last { node });
    }
    for view in views {
        let mut voters = view.voters.clone();
        if voters.remove(&node) {
            keeps_majority(view.group, &voters, &view.reachable).map_err(Refused::Majority)?;
        }
    }
    if left < needed {
        let copies = rules.copies;
        return Err(Refused::TooFew { left, copies });
    }
    Ok(())
}

/// Whether `node` may leave. One member is drained at a time; a dead one may always be given up, because
/// what is drained may be waiting for it.
///
/// # Errors
/// Why not.
pub fn may_depart(
    roster: &Roster,
    views: &[GroupView],
    node: NodeId,
    departure: Departure,
    rules: &Rules,
) -> Result<(), Refused> {
    if is_lost_while_drained(roster, views, node) && departure == Departure::Dead {
        return Ok(());
    }
    let member = staying(roster, node)?;
    if departure == Departure::Drained {
        idle(roster)?;
    }
    match (departure, answers(views, node)) {
        (Departure::Drained, false) => return Err(Refused::Silent { node }),
        (Departure::Dead, true) => return Err(Refused::Alive { node }),
        (Departure::Drained, true) | (Departure::Dead, false) => {}
    }
    let needed = match member.state {
        MemberState::Active => rules.copies,
        // It holds nothing yet, so nothing shrinks.
        _ => 0,
    };
    enough_remain(views, node, others(roster, views, node), needed, rules)
}

/// Whether a member whose data is being copied away has fallen silent. Giving it up asks for no more
/// than its departure did: the others have to be enough without it either way.
fn is_lost_while_drained(roster: &Roster, views: &[GroupView], node: NodeId) -> bool {
    let draining = MemberState::Leaving(Departure::Drained);
    let member = roster.get(&node);
    member.is_some_and(|member| member.state == draining) && !answers(views, node)
}

/// How a member that is replaced leaves: a living one has its data copied away first.
#[must_use]
pub fn departure_of(views: &[GroupView], node: NodeId) -> Departure {
    if answers(views, node) {
        Departure::Drained
    } else {
        Departure::Dead
    }
}

/// Whether `new` may take the place of `old`.
///
/// # Errors
/// Why not.
pub fn may_replace(
    roster: &Roster,
    views: &[GroupView],
    old: NodeId,
    new: NodeId,
    rules: &Rules,
) -> Result<(), Refused> {
    if old == new {
        return Err(Refused::Itself { node: old });
    }
    let leaves = staying(roster, old)?.state;
    let comes = staying(roster, new)?.state;
    if answers(views, old) {
        idle(roster)?;
    }
    if !answers(views, new) {
        return Err(Refused::SilentReplacement { node: new });
    }
    // The new one gets its vote in the change that takes it from the old one.
    let stay = others(roster, views, old);
    let before = stay + usize::from(leaves == MemberState::Active);
    let left = stay + usize::from(comes == MemberState::Joining);
    enough_remain(views, old, left, rules.copies.min(before), rules)
}

/// Whether `to` may be asked to lead the group.
///
/// # Errors
/// Why not.
pub fn may_transfer(roster: &Roster, view: &GroupView, to: NodeId) -> Result<(), Refused> {
    staying(roster, to)?;
    if !view.voters.contains(&to) {
        let group = view.group;
        return Err(Refused::NoVote { node: to, group });
    }
    if !view.reachable.contains(&to) {
        return Err(Refused::CannotLead { node: to });
    }
    Ok(())
}
