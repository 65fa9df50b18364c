//! The next step of one group towards what the members' rows say.

use super::majority::{MajorityAtRisk, keeps_majority};
use super::{GroupView, Roster, Rules};
use crate::model::{Departure, MemberState};
use floeberg_types::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One change of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The node receives the log.
    AddLearner {
        /// Who.
        node: NodeId,
        /// Where it is reached.
        address: String,
    },
    /// The learner gets a vote, in the same change in which another loses its own.
    Promote {
        /// Who.
        node: NodeId,
        /// Whose place it takes.
        in_place_of: Option<NodeId>,
    },
    /// The leader, which is leaving, hands over.
    TransferLeadership {
        /// To whom.
        to: NodeId,
    },
    /// The voter becomes a learner.
    Demote {
        /// Who.
        node: NodeId,
    },
    /// The learner no longer receives the log.
    RemoveLearner {
        /// Who.
        node: NodeId,
    },
}

/// Why nothing can be done at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// A change of the voters is under way.
    Change,
    /// A learner lacks entries.
    CatchUp {
        /// Who.
        node: NodeId,
        /// How many.
        behind: u64,
    },
    /// A member that is to be a part of the group does not answer.
    Silent {
        /// Who.
        node: NodeId,
    },
    /// Data has to be copied away.
    Data {
        /// From whom.
        node: NodeId,
        /// How many shards; `None`: not known yet.
        shards: Option<u64>,
    },
    /// The step would cost the majority.
    Majority(MajorityAtRisk),
    /// Too few voters answer: nothing can be decided.
    NoMajority {
        /// How many answer.
        answering: usize,
        /// How many voters there are.
        voters: usize,
    },
    /// The leader leaves and nobody can take over.
    Successor,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change => f.write_str("a change of the voters is under way"),
            Self::CatchUp { node, behind } if *behind == u64::MAX => {
                write!(f, "node {node} has not answered with what it has yet")
            }
            Self::CatchUp { node, behind } => {
                write!(f, "node {node} still lacks {behind} log entries")
            }
            Self::Silent { node } => {
                write!(
                    f,
                    "node {node} does not answer: start it, or remove it with `--dead`"
                )
            }
            Self::Data { node, shards } => match shards {
                Some(shards) => {
                    write!(
                        f,
                        "{shards} shards are still to be copied before node {node} can go"
                    )
                }
                None => write!(f, "the data of node {node} is still being copied to others"),
            },
            Self::NoMajority { answering, voters } => write!(
                f,
                "only {answering} of {voters} voters answer: nothing can be committed until a majority \
                 is back"
            ),
            Self::Majority(risk) => write!(f, "the majority would be at risk: {risk}"),
            Self::Successor => f.write_str("the leader leaves, and no voter can take over yet"),
        }
    }
}

impl Waiting {
    /// The kind in one word, for programs.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::CatchUp { .. } => "catch-up",
            Self::Silent { .. } => "silent",
            Self::Data { .. } => "data",
            Self::Majority(_) => "majority",
            Self::NoMajority { .. } => "no-majority",
            Self::Successor => "successor",
        }
    }
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This, and then look again.
    Do(Step),
    /// Nothing, for this reason.
    Wait(Waiting),
    /// Nothing: the group is what the rows say.
    Done,
}

/// Decides the next step of a group; `owed` holds the shards still to be copied away, by member.
#[must_use]
pub fn next(
    roster: &Roster,
    view: &GroupView,
    owed: &BTreeMap<NodeId, u64>,
    rules: &Rules,
) -> Next {
    let (answering, voters) = (view.answering(), view.voters.len());
    if answering * 2 <= voters {
        return Next::Wait(Waiting::NoMajority { answering, voters });
    }
    if view.changing {
        return Next::Wait(Waiting::Change);
    }
    let planner = Planner {
        roster,
        view,
        owed,
        rules,
    };
    let mut waiting = None;
    // More voters first: a change that removes one is safest when others already vote.
    let stages = [
        Planner::promote,
        Planner::add_learner,
        Planner::retire_voter,
        Planner::retire_learner,
    ];
    for stage in stages {
        match stage(&planner) {
            Next::Do(step) => return Next::Do(step),
            Next::Wait(reason) => waiting = waiting.or(Some(reason)),
            Next::Done => {}
        }
    }
    waiting.map_or(Next::Done, Next::Wait)
}

struct Planner<'a> {
    roster: &'a Roster,
    view: &'a GroupView,
    owed: &'a BTreeMap<NodeId, u64>,
    rules: &'a Rules,
}

impl Planner<'_> {
    fn safe(&self, voters: &BTreeSet<NodeId>) -> Result<(), MajorityAtRisk> {
        let (group, reachable) = (self.view.group, &self.view.reachable);
        keeps_majority(group, &self.view.voters, reachable)?;
        keeps_majority(group, voters, reachable)
    }

    /// The leaving voter whose place `node` takes.
    fn replaces(&self, node: NodeId) -> Option<NodeId> {
        let leaving = self.roster.values().find(|member| {
            member.state.leaves()
                && member.replaced_by == Some(node)
                && self.view.voters.contains(&member.id)
        });
        leaving.map(|member| member.id)
    }

    fn promote(&self) -> Next {
        let mut waiting = Next::Done;
        let stays = |node: &NodeId| self.roster.get(node).is_some_and(|m| m.state.stays());
        let learners = self.view.learners.iter().copied().filter(stays);
        for node in learners {
            // A leader cannot be swapped out; it hands over first.
            let in_place_of = self.replaces(node).filter(|old| *old != self.view.leader);
            let room = self.view.voters.len() < self.rules.voters_max;
            if in_place_of.is_none() && !room {
                continue;
            }
            let behind = self.view.lag(node);
            if !self.view.reachable.contains(&node) {
                waiting = Next::Wait(Waiting::Silent { node });
            } else if behind > self.rules.caught_up {
                waiting = Next::Wait(Waiting::CatchUp { node, behind });
            } else {
                let mut voters = self.view.voters.clone();
                voters.insert(node);
                in_place_of.map(|old| voters.remove(&old));
                match self.safe(&voters) {
                    Ok(()) => return Next::Do(Step::Promote { node, in_place_of }),
                    Err(risk) => waiting = Next::Wait(Waiting::Majority(risk)),
                }
            }
        }
        waiting
    }

    fn add_learner(&self) -> Next {
        let missing =
            |member: &&crate::Member| member.state.stays() && !self.view.includes(member.id);
        let mut silent = None;
        for member in self.roster.values().filter(missing) {
            // A node that never came up would hold back the purging of the log.
            if self.view.reachable.contains(&member.id) {
                return Next::Do(Step::AddLearner {
                    node: member.id,
                    address: member.address.clone(),
                });
            }
            silent = silent.or(Some(member.id));
        }
        silent.map_or(Next::Done, |node| Next::Wait(Waiting::Silent { node }))
    }

    /// Members that leave or are gone and are in `nodes`.
    fn retiring<'s>(
        &'s self,
        nodes: &'s BTreeSet<NodeId>,
    ) -> impl Iterator<Item = &'s crate::Member> + 's {
        nodes
            .iter()
            .filter_map(|node| self.roster.get(node))
            .filter(|member| !member.state.stays())
    }

    fn retire_voter(&self) -> Next {
        let mut waiting = Next::Done;
        for member in self.retiring(&self.view.voters) {
            if let Some(replacement) = self.awaited(member) {
                let behind = self.view.lag(replacement);
                waiting = Next::Wait(Waiting::CatchUp {
                    node: replacement,
                    behind,
                });
                // A leader hands over while its replacement catches up.
                if member.id != self.view.leader {
                    continue;
                }
            }
            let mut voters = self.view.voters.clone();
            voters.remove(&member.id);
            if let Err(risk) = self.safe(&voters) {
                waiting = Next::Wait(Waiting::Majority(risk));
            } else if member.id == self.view.leader {
                match self.successor() {
                    Some(to) => return Next::Do(Step::TransferLeadership { to }),
                    None => waiting = Next::Wait(Waiting::Successor),
                }
            } else {
                return Next::Do(Step::Demote { node: member.id });
            }
        }
        waiting
    }

    /// The member that will take the place of `leaving` in one change, if that is still to be
    /// expected of it.
    fn awaited(&self, leaving: &crate::Member) -> Option<NodeId> {
        let node = leaving.replaced_by?;
        let stays = self.roster.get(&node).is_some_and(|m| m.state.stays());
        let answers = self.view.reachable.contains(&node);
        (stays && answers && !self.view.voters.contains(&node)).then_some(node)
    }

    fn successor(&self) -> Option<NodeId> {
        let fit = |node: &&NodeId| {
            **node != self.view.leader
                && self.view.reachable.contains(node)
                && self.roster.get(node).is_some_and(|m| m.state.stays())
        };
        let voters = self.view.voters.iter().filter(fit);
        voters
            .copied()
            .min_by_key(|node| (self.view.lag(*node), *node))
    }

    fn retire_learner(&self) -> Next {
        let mut waiting = Next::Done;
        for member in self.retiring(&self.view.learners) {
            let node = member.id;
            if member.state == MemberState::Leaving(Departure::Drained) {
                let shards = self.owed.get(&node).copied();
                waiting = Next::Wait(Waiting::Data { node, shards });
            } else {
                return Next::Do(Step::RemoveLearner { node });
            }
        }
        waiting
    }
}
