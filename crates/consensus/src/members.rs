//! Who belongs to a group, and changing that, one change at a time.
//!
//! Every change names the membership it was decided on and the leadership it was decided under;
//! if either has changed meanwhile, nothing happens. So two administrators cannot interleave.

use crate::catch_up::CatchUp;
use crate::codec;
use crate::group::RaftGroup;
use crate::leadership::Leadership;
use crate::machine::EntryId;
use crate::raft::{LeaderId, Metrics, Raft, TypeConfig};
use floeberg_types::{GroupId, NodeId};
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::impls::BasicNode;
use openraft::raft::Precondition;
use openraft::vote::RaftLeaderId as _;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::watch;

type ChangeMembers = openraft::ChangeMembers<u64, BasicNode>;

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Counts for the quorum.
    Voter,
    /// Receives the log only.
    Learner,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which node.
    pub node: NodeId,
    /// Where its peers reach it.
    pub address: String,
    /// What it does; a voter that is being removed is still one.
    pub role: Role,
    /// The last entry known to be in its log; only the leader knows.
    pub matched: Option<u64>,
}

/// The members of a group as this node knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The entry that made them members.
    pub at: Option<EntryId>,
    /// Whether a change has begun and not ended.
    pub changing: bool,
    /// In the order of their ids.
    pub members: Vec<Member>,
}

impl Members {
    /// The member that is this node.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == node)
    }

    fn voters(&self) -> usize {
        let voters = self.members.iter().filter(|m| m.role == Role::Voter);
        voters.count()
    }

    fn known(&self, node: NodeId) -> Result<&Member, ChangeError> {
        self.get(node).ok_or(ChangeError::UnknownNode(node))
    }
}

/// Why the members or the leader were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Only the leader changes members.
    #[error("this node does not lead group {group}: ask {}", leader_text(.leader))]
    NotLeader {
        /// The group.
        group: GroupId,
        /// Who leads it, if that is known.
        leader: Option<NodeId>,
    },
    /// Another change has begun and not ended.
    #[error("another change of the members is under way: wait until it is done, then try again")]
    InProgress,
    /// The members, or the leader, changed while this change was decided on; nothing was done.
    #[error("the members were changed meanwhile: look at them again before you change more")]
    Overtaken,
    /// The node is no member.
    #[error("node {0} is not a member: add it first")]
    UnknownNode(NodeId),
    /// The node is a member already.
    #[error("node {0} is a member already")]
    AlreadyMember(NodeId),
    /// The node votes already.
    #[error("node {0} is a voter already")]
    NotLearner(NodeId),
    /// The node has no vote.
    #[error("node {0} is not a voter: only a voter can be replaced or lead")]
    NotVoter(NodeId),
    /// The node lacks so much of the log that the group could stall on it.
    #[error("node {node} lacks {behind} entries: wait until it has caught up")]
    NotCaughtUp {
        /// The node.
        node: NodeId,
        /// Entries that it lacks.
        behind: u64,
    },
    /// Nobody would be left to vote.
    #[error("node {0} is the last voter: add another one before you remove it")]
    LastVoter(NodeId),
    /// Another node took the lead, or none.
    #[error("node {to} did not take the lead: see that it runs and is reachable, then try again")]
    NotTaken {
        /// The node that was to lead.
        to: NodeId,
    },
    /// Whether the change happened is open: its leader lost the lead meanwhile.
    #[error("whether the change took place is unknown: look at the members before you try again")]
    Indefinite,
    /// The group has stopped on this node.
    #[error("the group has stopped on this node")]
    Stopped,
}

fn leader_text(leader: &Option<NodeId>) -> String {
    match leader {
        Some(leader) => format!("node {leader}, its leader"),
        None => "again once it has a leader".to_owned(),
    }
}

/// Pause between two looks for a change that is not ended.
const SETTLE: Duration = Duration::from_secs(1);

/// What changing members needs.
pub(crate) struct Administration {
    /// Held through a change.
    changing: tokio::sync::Mutex<()>,
    pub(crate) lag_max: u64,
    /// How long a successor may take.
    pub(crate) patience: Duration,
}

impl Administration {
    pub(crate) fn new(lag_max: u64, patience: Duration) -> Self {
        Self {
            changing: tokio::sync::Mutex::default(),
            lag_max,
            patience,
        }
    }
}

/// The members that the metrics tell of.
pub(crate) fn members(metrics: &Metrics) -> Members {
    let stored = &metrics.membership_config;
    let membership = stored.membership();
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let members = membership.nodes().map(|(id, node)| {
        let own = (*id == metrics.id)
            .then_some(metrics.last_log_index)
            .flatten();
        let replication = metrics.replication.as_ref();
        let replicated = replication.and_then(|all| all.get(id).copied().flatten());
        let matched = replicated.map(|log_id| log_id.index).or(own);
        Member {
            node: NodeId(*id),
            address: node.addr.clone(),
            role: match voters.contains(id) {
                true => Role::Voter,
                false => Role::Learner,
            },
            matched: matched.filter(|_| replication.is_some()),
        }
    });
    let is_joint = membership.get_joint_config().len() > 1;
    let is_committed = stored.log_id() == metrics.committed_membership_config.log_id();
    Members {
        at: stored.log_id().as_ref().map(codec::entry_id),
        changing: is_joint || !is_committed,
        members: members.collect(),
    }
}

/// Entries that a node lacks, as the leader knows it.
pub(crate) fn lag(metrics: &Metrics, matched: Option<u64>) -> u64 {
    let next = |index: Option<u64>| index.map_or(0, |index| index + 1);
    next(metrics.last_log_index).saturating_sub(next(matched))
}

fn change_error(
    group: GroupId,
    error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>,
) -> ChangeError {
    let error = match error {
        RaftError::APIError(error) => error,
        RaftError::Fatal(_) => return ChangeError::Stopped,
    };
    match error {
        ClientWriteError::ForwardToLeader(forward) => ChangeError::NotLeader {
            group,
            leader: forward.leader_id.map(NodeId),
        },
        ClientWriteError::LogEntryDiscarded(_) => ChangeError::Indefinite,
        ClientWriteError::PreconditionFailed(_) => ChangeError::Overtaken,
        ClientWriteError::ChangeMembershipError(error) => match error {
            ChangeMembershipError::LearnerNotFound(unknown) => {
                ChangeError::UnknownNode(NodeId(unknown.node_id))
            }
            ChangeMembershipError::InProgress(_)
            | ChangeMembershipError::EmptyMembership(_)
            | ChangeMembershipError::UnsupportedMembershipTransition(_)
            | ChangeMembershipError::UncommittedLeaderLog(_)
            | ChangeMembershipError::NodeMetadataChanged(_) => ChangeError::InProgress,
        },
    }
}

/// What a change is decided on.
struct Decided {
    change: ChangeMembers,
    /// A node that must not lack much.
    caught_up: Option<NodeId>,
    /// Who loses its vote stays as a learner.
    retain: bool,
}

impl Decided {
    fn of(change: ChangeMembers) -> Self {
        Self {
            change,
            caught_up: None,
            retain: false,
        }
    }
}

impl RaftGroup {
    /// The members, learners included, as this node knows them.
    pub fn members(&self) -> Members {
        members(&self.inner.raft.metrics().borrow_watched())
    }

    /// The sets of voters of which each needs a majority, as this node knows them: none before it heard
    /// of any, two while a change of voters is under way.
    pub fn electorates(&self) -> Vec<BTreeSet<NodeId>> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let sets = metrics.membership_config.membership().get_joint_config();
        let sets = sets.iter().filter(|set| !set.is_empty());
        sets.map(|set| set.iter().copied().map(NodeId).collect())
            .collect()
    }

    /// Adds a member without a vote, which is sent the log from now on. Returns once that is
    /// committed; follow the [`CatchUp`] before you [`promote`](Self::promote) it.
    ///
    /// # Errors
    /// See [`ChangeError`]; only [`ChangeError::Indefinite`] may have changed anything.
    pub async fn add_learner(&self, node: NodeId, address: &str) -> Result<CatchUp, ChangeError> {
        self.change(|members| {
            if members.get(node).is_some() {
                return Err(ChangeError::AlreadyMember(node));
            }
            let learner = BTreeMap::from([(node.0, BasicNode::new(address))]);
            Ok(Decided::of(ChangeMembers::AddNodes(learner)))
        })
        .await?;
        Ok(self.catch_up(node))
    }

    /// Follows how a member catches up with the log.
    pub fn catch_up(&self, node: NodeId) -> CatchUp {
        CatchUp::new(
            self.inner.group,
            node,
            self.inner.members.lag_max,
            self.inner.raft.metrics(),
            self.inner.outgoing.progress(),
        )
    }

    /// Gives a learner a vote.
    ///
    /// # Errors
    /// See [`ChangeError`]; only [`ChangeError::Indefinite`] may have changed anything.
    pub async fn promote(&self, node: NodeId) -> Result<(), ChangeError> {
        self.change(|members| match members.known(node)?.role {
            Role::Voter => Err(ChangeError::NotLearner(node)),
            Role::Learner => Ok(Decided {
                change: ChangeMembers::AddVoterIds(BTreeSet::from([node.0])),
                caught_up: Some(node),
                retain: false,
            }),
        })
        .await
    }

    /// Takes the vote of a member, which goes on to receive the log.
    ///
    /// # Errors
    /// See [`ChangeError`]; only [`ChangeError::Indefinite`] may have changed anything.
    pub async fn demote(&self, node: NodeId) -> Result<(), ChangeError> {
        self.change(|members| match members.known(node)?.role {
            Role::Learner => Err(ChangeError::NotVoter(node)),
            Role::Voter if members.voters() == 1 => Err(ChangeError::LastVoter(node)),
            Role::Voter => Ok(Decided {
                retain: true,
                ..Decided::of(ChangeMembers::RemoveVoters([node.0].into()))
            }),
        })
        .await
    }

    /// Removes a member. A leader that removes itself hands over first.
    ///
    /// # Errors
    /// See [`ChangeError`]; only [`ChangeError::Indefinite`] may have changed anything.
    pub async fn remove(&self, node: NodeId) -> Result<(), ChangeError> {
        self.change(|members| match members.known(node)?.role {
            Role::Voter if members.voters() == 1 => Err(ChangeError::LastVoter(node)),
            Role::Voter => {
                let gone = BTreeSet::from([node.0]);
                Ok(Decided::of(ChangeMembers::RemoveVoters(gone)))
            }
            Role::Learner => {
                let gone = BTreeSet::from([node.0]);
                Ok(Decided::of(ChangeMembers::RemoveNodes(gone)))
            }
        })
        .await
    }

    /// Gives the vote of `old` to the learner `new`, in one change: the quorum is never smaller than
    /// before. `old` goes on to receive the log.
    ///
    /// # Errors
    /// See [`ChangeError`]; only [`ChangeError::Indefinite`] may have changed anything.
    pub async fn replace(&self, old: NodeId, new: NodeId) -> Result<(), ChangeError> {
        self.change(|members| {
            if members.known(old)?.role != Role::Voter {
                return Err(ChangeError::NotVoter(old));
            }
            if members.known(new)?.role != Role::Learner {
                return Err(ChangeError::NotLearner(new));
            }
            Ok(Decided {
                change: ChangeMembers::Batch(vec![
                    ChangeMembers::AddVoterIds(BTreeSet::from([new.0])),
                    ChangeMembers::RemoveVoters(BTreeSet::from([old.0])),
                ]),
                caught_up: Some(new),
                retain: true,
            })
        })
        .await
    }

    /// Lets another voter lead; returns once it does.
    ///
    /// # Errors
    /// See [`ChangeError`]. After [`ChangeError::NotTaken`] the group elects somebody by itself.
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), ChangeError> {
        let term = self.leading()?;
        let members = self.members();
        if members.known(to)?.role != Role::Voter {
            return Err(ChangeError::NotVoter(to));
        }
        if to == self.inner.node {
            return Ok(());
        }
        self.check_caught_up(&members, to)?;
        let trigger = self.inner.raft.trigger().transfer_leader(to.0).await;
        trigger.map_err(|_| ChangeError::Stopped)?;
        let mut leader = self.leader_watch();
        let follows = leader.wait_for(|l| l.is_some_and(|l| l.term > term));
        match tokio::time::timeout(self.inner.members.patience, follows).await {
            Ok(Ok(leader)) if leader.is_some_and(|l| l.node == to) => Ok(()),
            Ok(Ok(_)) | Err(_) => Err(ChangeError::NotTaken { to }),
            Ok(Err(_)) => Err(ChangeError::Stopped),
        }
    }

    /// The term that this node leads.
    fn leading(&self) -> Result<u64, ChangeError> {
        let leadership: Leadership = *self.inner.leadership.borrow();
        if leadership.ready {
            return Ok(leadership.term);
        }
        let leader = self.leader().map(|leader| leader.node);
        Err(ChangeError::NotLeader {
            group: self.inner.group,
            leader: leader.filter(|leader| *leader != self.inner.node),
        })
    }

    fn check_caught_up(&self, members: &Members, node: NodeId) -> Result<(), ChangeError> {
        let metrics = self.inner.raft.metrics();
        let matched = members.get(node).and_then(|member| member.matched);
        let behind = lag(&metrics.borrow_watched(), matched);
        if behind > self.inner.members.lag_max {
            return Err(ChangeError::NotCaughtUp { node, behind });
        }
        Ok(())
    }

    async fn change(
        &self,
        decide: impl FnOnce(&Members) -> Result<Decided, ChangeError>,
    ) -> Result<(), ChangeError> {
        let term = self.leading()?;
        let alone = self.inner.members.changing.try_lock();
        let _alone = alone.map_err(|_| ChangeError::InProgress)?;
        let members = self.members();
        let decided = decide(&members)?;
        if members.changing {
            return Err(ChangeError::InProgress);
        }
        if let Some(node) = decided.caught_up {
            self.check_caught_up(&members, node)?;
        }
        self.commit_change(decided, term, members.at).await
    }

    async fn commit_change(
        &self,
        decided: Decided,
        term: u64,
        at: Option<EntryId>,
    ) -> Result<(), ChangeError> {
        let preconditions = [
            Precondition::CommittedLeaderId {
                committed_leader_id: LeaderId::new(term, self.inner.node.0),
            },
            Precondition::LastMembershipLogId {
                last_membership_log_id: at.as_ref().map(codec::log_id),
            },
        ];
        let raft: &Raft = &self.inner.raft;
        let changed = raft
            .change_membership_if(decided.change, decided.retain, preconditions)
            .await;
        let group = self.inner.group;
        changed.map(|_| ()).map_err(|e| change_error(group, e))
    }

    /// Ends a change whose second half was never committed, because an earlier leader began it or this
    /// one had no quorum for a while: the group needs two quorums until then.
    async fn settle(&self) {
        let Ok(_alone) = self.inner.members.changing.try_lock() else {
            return;
        };
        let Ok(term) = self.leading() else {
            return;
        };
        let (is_joint, at) = {
            let metrics = self.inner.raft.metrics();
            let metrics = metrics.borrow_watched();
            let stored = &metrics.membership_config;
            let is_joint = stored.membership().get_joint_config().len() > 1;
            (is_joint, stored.log_id().as_ref().map(codec::entry_id))
        };
        if !is_joint {
            return;
        }
        // Adding nobody turns the two sets of voters into the second. Whether who loses its vote was
        // to stay is not known any more; a learner too many can be removed, one too few is lost.
        let end = Decided {
            retain: true,
            ..Decided::of(ChangeMembers::AddVoterIds(BTreeSet::new()))
        };
        if let Err(e) = self.commit_change(end, term, at).await {
            tracing::warn!(group = %self.inner.group, error = %e, "a change of the members is not ended yet");
        }
    }

    /// Settles what was left whenever this node begins to lead and now and then while it does, until
    /// the group stops.
    pub(crate) async fn settle_always(
        group: std::sync::Weak<crate::group::Inner>,
        mut leadership: watch::Receiver<Leadership>,
    ) {
        while leadership.wait_for(|l| l.ready).await.is_ok() {
            let Some(inner) = group.upgrade() else {
                return;
            };
            Self { inner }.settle().await;
            // Biased, so that a seed replays exactly.
            tokio::select! {
                biased;
                changed = leadership.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(SETTLE) => {}
            }
        }
    }
}
