//! Brings the groups that this node leads to what the members' rows say, one step at a time, and
//! keeps this node's address book.

use crate::error::ChangeError;
use crate::members::Members;
use crate::model::{Departure, MemberState};
use crate::plan::{self, Next, Roster, Step};
use crate::ports::GroupsError;
use floeberg_rpc::Peers;
use floeberg_types::{GroupId, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How the keeper works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeeperConfig {
    /// How often it looks when nothing happens.
    pub every: Duration,
}

impl Default for KeeperConfig {
    fn default() -> Self {
        Self {
            every: Duration::from_millis(500),
        }
    }
}

/// One per node. It decides on rows and views alone, so a crash or a change of leader at any
/// moment leaves the rest to another node's keeper.
pub struct Keeper {
    members: Members,
    me: NodeId,
    peers: Arc<Peers>,
    config: KeeperConfig,
    /// What the data has been told of each member since this node leads group 0.
    told: BTreeMap<NodeId, MemberState>,
}

/// Whether a turn changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Changed,
    Quiet,
}

impl Keeper {
    /// The keeper of the node `me`, with the address book of its transport.
    #[must_use]
    pub fn new(members: Members, me: NodeId, peers: Arc<Peers>, config: KeeperConfig) -> Self {
        Self {
            members,
            me,
            peers,
            config,
            told: BTreeMap::new(),
        }
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        loop {
            match self.turn().await {
                Ok(Turn::Changed) => tokio::task::yield_now().await,
                Ok(Turn::Quiet) => tokio::time::sleep(self.config.every).await,
                Err(error) => {
                    // Leaders come and go; whoever leads next looks at the same rows.
                    tracing::info!(%error, "the membership is looked at again later");
                    tokio::time::sleep(self.config.every).await;
                }
            }
        }
    }

    /// Looks once at everything this node is responsible for.
    pub(crate) async fn turn(&mut self) -> Result<Turn, ChangeError> {
        self.keep_addresses()?;
        let led = self.members.parts.groups.led();
        if !led.contains(&GroupId::CATALOG) {
            self.told.clear();
        }
        if led.is_empty() {
            return Ok(Turn::Quiet);
        }
        let roster = self.members.roster().await?;
        let owed = self.members.owed(&roster).await;
        let level = self.members.local_level()?;
        let mut turn = Turn::Quiet;
        for group in &led {
            if self.raise(*group, level).await? == Turn::Changed
                || self.advance(*group, &roster, &owed).await? == Turn::Changed
            {
                turn = Turn::Changed;
            }
        }
        if led.contains(&GroupId::CATALOG) && self.settle(&roster, &owed).await? == Turn::Changed {
            turn = Turn::Changed;
        }
        Ok(turn)
    }

    fn keep_addresses(&self) -> Result<(), ChangeError> {
        for member in self.members.local_roster()?.values() {
            if member.id == self.me {
                continue;
            }
            if member.state == MemberState::Gone {
                self.peers.remove(member.id);
            } else {
                let address = member.address.clone();
                self.peers.keep(member.id, address, member.start);
            }
        }
        Ok(())
    }

    /// The groups follow the level that every member has reached.
    async fn raise(&self, group: GroupId, level: u32) -> Result<Turn, GroupsError> {
        let groups = &self.members.parts.groups;
        if groups.feature_level(group) >= level {
            return Ok(Turn::Quiet);
        }
        let cx = self.members.own_cx();
        groups.raise_feature_level(group, level, &cx).await?;
        tracing::info!(%group, level, "the group's commands need a higher feature level");
        Ok(Turn::Changed)
    }

    /// One step of one group.
    async fn advance(
        &self,
        group: GroupId,
        roster: &Roster,
        owed: &BTreeMap<NodeId, u64>,
    ) -> Result<Turn, ChangeError> {
        let parts = &self.members.parts;
        let view = parts.groups.view(group).await?;
        let step = match plan::next(roster, &view, owed, &parts.rules) {
            Next::Do(step) => step,
            Next::Wait(reason) => {
                tracing::debug!(%group, ?reason, "the membership waits");
                return Ok(Turn::Quiet);
            }
            Next::Done => return Ok(Turn::Quiet),
        };
        if let Step::RemoveLearner { node } = step
            && group == GroupId::CATALOG
            && self.is_elsewhere(node).await?
        {
            tracing::debug!(%node, "it leaves this group last");
            return Ok(Turn::Quiet);
        }
        tracing::info!(%group, ?step, "the membership changes");
        self.perform(group, &view, step).await?;
        Ok(Turn::Changed)
    }

    /// Whether `node` is part of another group. It may lead that one, back from the dead, and has to
    /// read the rows of group 0 to learn that it must hand it over.
    async fn is_elsewhere(&self, node: NodeId) -> Result<bool, GroupsError> {
        let groups = &self.members.parts.groups;
        for other in groups.all() {
            if other != GroupId::CATALOG && groups.view(other).await?.includes(node) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn perform(
        &self,
        group: GroupId,
        view: &plan::GroupView,
        step: Step,
    ) -> Result<(), GroupsError> {
        let groups = &self.members.parts.groups;
        let mut voters = view.voters.clone();
        match step {
            Step::AddLearner { node, address } => groups.add_learner(group, node, &address).await,
            Step::Promote { node, in_place_of } => {
                voters.insert(node);
                in_place_of.map(|old| voters.remove(&old));
                groups.set_voters(group, voters).await
            }
            Step::Demote { node } => {
                voters.remove(&node);
                groups.set_voters(group, voters).await
            }
            Step::RemoveLearner { node } => groups.remove_learner(group, node).await,
            Step::TransferLeadership { to } => groups.transfer_leader(group, to).await,
        }
    }

    /// What only the leader of group 0 does: tells the data, and writes what has been reached.
    async fn settle(
        &mut self,
        roster: &Roster,
        owed: &BTreeMap<NodeId, u64>,
    ) -> Result<Turn, ChangeError> {
        self.tell_data(roster).await?;
        if let Some(phase) = self.members.advance_rotation().await? {
            tracing::info!(phase = phase.word(), "the change of the authority goes on");
            return Ok(Turn::Changed);
        }
        if let Some(level) = self.members.raise_features().await? {
            tracing::info!(level, "every member supports a higher feature level");
            return Ok(Turn::Changed);
        }
        if roster
            .values()
            .all(|m| m.state == MemberState::Active || m.state == MemberState::Gone)
        {
            return Ok(Turn::Quiet);
        }
        let views = self.members.views().await?;
        let rules = &self.members.parts.rules;
        let Some((node, state)) = plan::settle(roster, &views, owed, rules) else {
            return Ok(Turn::Quiet);
        };
        self.members.reach(node, state).await?;
        tracing::info!(%node, state = state.word(), "a member has changed");
        Ok(Turn::Changed)
    }

    async fn tell_data(&mut self, roster: &Roster) -> Result<(), ChangeError> {
        let data = &self.members.parts.data;
        for member in roster.values() {
            if self.told.get(&member.id) == Some(&member.state) {
                continue;
            }
            match member.state {
                MemberState::Joining => continue,
                MemberState::Active => data.admit(member).await?,
                MemberState::Leaving(Departure::Drained) | MemberState::Drained => {
                    data.drain(member.id).await?;
                }
                MemberState::Leaving(Departure::Dead) | MemberState::Gone => {
                    data.declare_dead(member.id).await?;
                }
            }
            self.told.insert(member.id, member.state);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
