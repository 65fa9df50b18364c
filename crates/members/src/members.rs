//! The use cases: each reads the rows, asks the planner whether the wish may be granted, and changes
//! a row. What follows from the row is the keeper's work.

use crate::agreement::{Disagreement, disagreements};
use crate::alarm::{Alarm, Alarms};
use crate::desk::{JoinReply, JoinRequest};
use crate::error::ChangeError;
use crate::keys;
use crate::model::{Departure, FeatureLevels, Member, MemberState};
use crate::plan::{self, GroupView, Refused, Roster, Rules, Waiting};
use crate::ports::{Authority, DataHome, Groups, GroupsError};
use crate::rows::{self, ClusterRow, MemberRow};
use crate::witnesses::Witnesses;
use bytes::Bytes;
use floeberg_consensus::Standing;
use floeberg_env::Env;
use floeberg_metastore::{Cx, Rows, Store, Txn};
use floeberg_types::{AccountId, ClusterId, GroupId, NodeId, Region, TimestampMs};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

mod joining;

/// What the use cases are made of.
pub struct MembersParts {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub me: NodeId,
    /// The account that the cluster's own commands are booked on.
    pub account: AccountId,
    /// The region that this node answers for.
    pub region: Region,
    /// Rows of group 0.
    pub store: Store,
    /// The Raft groups.
    pub groups: Arc<dyn Groups>,
    /// The data that members hold.
    pub data: Arc<dyn DataHome>,
    /// The cluster's certificate authority.
    pub authority: Arc<dyn Authority>,
    /// Clock and random bytes.
    pub env: Env,
    /// What is known of the others' acknowledgements.
    pub witnesses: Arc<Witnesses>,
    /// Whether this node takes part.
    pub standing: Standing,
    /// What is wrong with this node.
    pub alarms: Alarms,
    /// What the planner goes by.
    pub rules: Rules,
}

/// The members of the cluster; clones are handles to the same.
#[derive(Clone)]
pub struct Members {
    pub(crate) parts: Arc<MembersParts>,
}

/// What a node says of itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Who.
    pub node: NodeId,
    /// Host and port where the others reach it.
    pub address: String,
    /// What fails together with it.
    pub labels: BTreeMap<String, String>,
    /// What its binary can work at.
    pub features: FeatureLevels,
    /// The version of its binary.
    pub version: String,
    /// Which start of it this is, see [`Start::number`](crate::Start).
    pub start: u64,
    /// What every member must be configured with alike, by name: in words, or a digest that tells values
    /// apart and does not give them away.
    pub settings: BTreeMap<String, String>,
}

/// What is known of the cluster from here; nothing may be decided on it.
#[derive(Clone, Debug)]
pub struct ClusterStatus {
    /// The cluster.
    pub cluster: ClusterId,
    /// The feature level in force; 0 before the first node has announced itself.
    pub feature_level: u32,
    /// Everyone, gone ones included, ascending.
    pub members: Vec<Member>,
    /// Each group as its leader sees it, or why that is not known.
    pub groups: Vec<(GroupId, Result<GroupView, GroupsError>)>,
    /// What the groups wait for.
    pub waiting: Vec<(GroupId, Waiting)>,
    /// Nodes that take no part, and why: each said so to this one, or is this one.
    pub taking_no_part: BTreeMap<NodeId, String>,
    /// What is wrong with this node, and with others as they have said of late.
    pub alarms: Vec<(NodeId, Alarm)>,
    /// What members should have alike and do not.
    pub disagreements: Vec<Disagreement>,
}

impl Members {
    /// The use cases over these parts.
    #[must_use]
    pub fn new(parts: MembersParts) -> Self {
        Self {
            parts: Arc::new(parts),
        }
    }

    /// For commands that no client asked for.
    pub(crate) fn own_cx(&self) -> Cx {
        Cx::own(self.parts.account.clone(), &self.parts.env)
    }

    pub(crate) fn now(&self) -> TimestampMs {
        self.parts.env.clock.now()
    }

    /// Every group as its leader sees it.
    pub(crate) async fn views(&self) -> Result<Vec<GroupView>, GroupsError> {
        let mut views = Vec::new();
        for group in self.parts.groups.all() {
            views.push(self.parts.groups.view(group).await?);
        }
        Ok(views)
    }

    /// Everyone, as of now.
    pub(crate) async fn roster(&self) -> Result<Roster, ChangeError> {
        self.parts.store.read(rows::all).await?
    }

    /// Everyone, as applied here; may be old, needs no majority.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub fn local_roster(&self) -> Result<Roster, ChangeError> {
        rows::all(&self.parts.store.local())
    }

    /// What members should have alike and do not, as of now.
    ///
    /// # Errors
    /// No majority can be reached.
    pub async fn disagreements(&self) -> Result<Vec<Disagreement>, ChangeError> {
        Ok(disagreements(self.roster().await?.values()))
    }

    /// The rows as applied here.
    pub(crate) fn local_rows(&self) -> Result<Vec<MemberRow>, ChangeError> {
        rows::member_rows(&self.parts.store.local())
    }

    /// The feature level in force, as applied here; 0 before the first node has announced itself.
    pub(crate) fn local_level(&self) -> Result<u32, ChangeError> {
        let cluster = self
            .parts
            .store
            .local()
            .get::<ClusterRow>(&keys::cluster())?;
        Ok(cluster.map_or(0, |row| row.feature_level))
    }

    /// Shards still to be copied away, by leaving member.
    pub(crate) async fn owed(&self, roster: &Roster) -> BTreeMap<NodeId, u64> {
        let mut owed = BTreeMap::new();
        let draining = MemberState::Leaving(Departure::Drained);
        for member in roster.values().filter(|m| m.state == draining) {
            if let Some(shards) = self.parts.data.owed(member.id).await {
                owed.insert(member.id, shards);
            }
        }
        owed
    }

    /// A node that has started says where it is and what its binary can do. The first one founds
    /// the cluster's rows.
    ///
    /// # Errors
    /// The node is gone, unknown, or its binary does not fit the cluster.
    pub async fn announce(&self, me: &Announcement) -> Result<Member, ChangeError> {
        let cx = self.own_cx();
        let (account, region) = (&self.parts.account, &self.parts.region);
        let agree = |txn: &mut Txn<'_>| announce(txn, me, account, region);
        let done = self.parts.store.transact(&cx, agree);
        Ok(done.await?.value)
    }

    /// A token that lets nodes join until `ttl` has passed.
    ///
    /// # Errors
    /// This node cannot make one.
    pub async fn token(&self, ttl: Duration) -> Result<String, ChangeError> {
        let token = self.parts.authority.token(ttl).await;
        token.map_err(|reason| Refused::Malformed { reason }.into())
    }

    /// Lets a node join; see [`JoinRequest`]. Repeating a request is safe.
    ///
    /// # Errors
    /// The token, the binary or the address do not fit, or no majority can be reached.
    pub async fn join(&self, request: &JoinRequest) -> Result<JoinReply, ChangeError> {
        joining::join(self, request).await
    }

    /// Begins to remove a member. Answers once that is decided; the keeper does the rest.
    ///
    /// # Errors
    /// It would cost the majority or break another rule.
    pub async fn remove(
        &self,
        cx: &Cx,
        node: NodeId,
        departure: Departure,
    ) -> Result<Member, ChangeError> {
        let views = self.views().await?;
        let rules = self.parts.rules;
        let done = self.parts.store.transact(cx, |txn| {
            let roster = rows::all(txn)?;
            plan::may_depart(&roster, &views, node, departure, &rules)?;
            change(txn, node, |row, now| {
                rows::set_state(row, MemberState::Leaving(departure), now);
            })
        });
        Ok(done.await?.value)
    }

    /// Begins to put `new` in the place of `old`, which leaves: with its data copied away if it
    /// answers, as dead if not.
    ///
    /// # Errors
    /// It would cost the majority or break another rule.
    pub async fn replace(&self, cx: &Cx, old: NodeId, new: NodeId) -> Result<Member, ChangeError> {
        let views = self.views().await?;
        let rules = self.parts.rules;
        let done = self.parts.store.transact(cx, |txn| {
            let roster = rows::all(txn)?;
            plan::may_replace(&roster, &views, old, new, &rules)?;
            let departure = plan::departure_of(&views, old);
            change(txn, old, |row, now| {
                row.replaced_by = new.0;
                rows::set_state(row, MemberState::Leaving(departure), now);
            })
        });
        Ok(done.await?.value)
    }

    /// Hands the leadership of a group, or of all, to a member. Answers once it leads; returns the
    /// groups it leads now.
    ///
    /// # Errors
    /// It cannot lead, or the outcome is unknown.
    pub async fn transfer_leader(
        &self,
        group: Option<GroupId>,
        to: NodeId,
    ) -> Result<Vec<GroupId>, ChangeError> {
        let groups = match group {
            Some(group) if !self.parts.groups.all().contains(&group) => {
                return Err(Refused::NoGroup { group }.into());
            }
            Some(group) => vec![group],
            None => self.parts.groups.all(),
        };
        let roster = self.roster().await?;
        let mut views = Vec::new();
        for group in &groups {
            let view = self.parts.groups.view(*group).await?;
            plan::may_transfer(&roster, &view, to)?;
            views.push(view);
        }
        for view in views.iter().filter(|view| view.leader != to) {
            self.parts.groups.transfer_leader(view.group, to).await?;
        }
        Ok(groups)
    }

    /// What is known of the cluster from here; answers also without a majority.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub async fn status(&self) -> Result<ClusterStatus, ChangeError> {
        let roster = self.local_roster()?;
        let owed = self.owed(&roster).await;
        let mut groups = Vec::new();
        let mut waiting = Vec::new();
        for group in self.parts.groups.all() {
            let view = self.parts.groups.view(group).await;
            if let Ok(view) = &view
                && let plan::Next::Wait(reason) =
                    plan::next(&roster, view, &owed, &self.parts.rules)
            {
                waiting.push((group, reason));
            }
            groups.push((group, view));
        }
        Ok(ClusterStatus {
            disagreements: disagreements(roster.values()),
            cluster: self.parts.cluster,
            feature_level: self.local_level()?,
            members: roster.into_values().collect(),
            groups,
            waiting,
            taking_no_part: self.taking_no_part(),
            alarms: self.alarms(),
        })
    }

    fn alarms(&self) -> Vec<(NodeId, Alarm)> {
        let me = self.parts.me;
        let own = self.parts.alarms.all().into_iter().map(|alarm| (me, alarm));
        let others = self.parts.witnesses.alarms(self.parts.env.clock.now());
        own.chain(others).collect()
    }

    /// Who takes no part and why: by their own word, and this node's.
    fn taking_no_part(&self) -> BTreeMap<NodeId, String> {
        let mut nodes = self.parts.witnesses.refused();
        if let Some(why) = self.parts.standing.barred() {
            nodes.insert(self.parts.me, why.to_string());
        }
        nodes
    }

    /// Writes what the planner says a member has reached.
    pub(crate) async fn reach(&self, node: NodeId, state: MemberState) -> Result<(), ChangeError> {
        let cx = self.own_cx();
        let done = self.parts.store.transact(&cx, |txn| {
            change(txn, node, |row, now| rows::set_state(row, state, now))
        });
        done.await?;
        Ok(())
    }

    /// Raises the feature level to what every member can work at; returns the new one.
    pub(crate) async fn raise_features(&self) -> Result<Option<u32>, ChangeError> {
        let cx = self.own_cx();
        let done = self.parts.store.transact(&cx, |txn| {
            let Some(found) = txn.get::<ClusterRow>(&keys::cluster())? else {
                return Ok(None);
            };
            let mut row = found.value;
            let level = plan::feature_level(&rows::all(txn)?, row.feature_level);
            if let Some(level) = level {
                row.feature_level = level;
                txn.put(keys::cluster(), &row);
            }
            Ok::<_, ChangeError>(level)
        });
        Ok(done.await?.value)
    }
}

/// Changes the row of a member that is there.
fn change(
    txn: &mut Txn<'_>,
    node: NodeId,
    edit: impl FnOnce(&mut MemberRow, TimestampMs),
) -> Result<Member, ChangeError> {
    let found = txn.get::<MemberRow>(&keys::member(node))?;
    let mut row = found.ok_or(Refused::Unknown { node })?.value;
    edit(&mut row, txn.now());
    txn.put(keys::member(node), &row);
    Ok(rows::member_from_row(&row)?)
}

/// A new member's row.
pub(crate) fn new_row(
    me: &Announcement,
    state: MemberState,
    now: TimestampMs,
    csr: Bytes,
) -> MemberRow {
    let mut row = MemberRow {
        node_id: me.node.0,
        address: me.address.clone(),
        labels: me.labels.clone(),
        joined_at_ms: now.0,
        features: Some(rows::features_to_row(me.features)),
        version: me.version.clone(),
        start: me.start,
        settings: me.settings.clone(),
        csr_hash: csr,
        ..MemberRow::default()
    };
    rows::set_state(&mut row, state, now);
    row
}

/// What every node must say alike, because ARNs and signatures are made of it: what differs here.
fn differs(cluster: &ClusterRow, account: &str, region: &str) -> Option<Refused> {
    let pairs = [
        ("cluster.account", account, &cluster.account),
        ("cluster.region", region, &cluster.region),
    ];
    let unlike = |(_, ours, theirs): &(&str, &str, &String)| {
        !ours.is_empty() && !theirs.is_empty() && ours != theirs
    };
    let (key, ours, theirs) = pairs.into_iter().find(unlike)?;
    let (ours, theirs) = (ours.to_owned(), theirs.clone());
    Some(Refused::Settings { key, ours, theirs })
}

/// Clusters founded before account and region were kept take them from the first node that starts.
fn agree(
    txn: &mut Txn<'_>,
    mut cluster: ClusterRow,
    account: &AccountId,
    region: &Region,
) -> Result<(), ChangeError> {
    let (account, region) = (account.as_str(), region.as_str());
    if let Some(refused) = differs(&cluster, account, region) {
        return Err(refused.into());
    }
    if cluster.account.is_empty() {
        cluster.account = account.to_owned();
        cluster.region = region.to_owned();
        txn.put(keys::cluster(), &cluster);
    }
    Ok(())
}

fn announce(
    txn: &mut Txn<'_>,
    me: &Announcement,
    account: &AccountId,
    region: &Region,
) -> Result<Member, ChangeError> {
    let (node, features) = (me.node, me.features);
    let now = txn.now();
    let Some(cluster) = txn.get::<ClusterRow>(&keys::cluster())? else {
        let cluster = ClusterRow {
            next_node_id: node.0 + 1,
            feature_level: features.high,
            founded_at_ms: now.0,
            account: account.as_str().to_owned(),
            region: region.as_str().to_owned(),
        };
        let row = new_row(me, MemberState::Active, now, Bytes::new());
        txn.put(keys::cluster(), &cluster);
        txn.put(keys::member(node), &row);
        return Ok(rows::member_from_row(&row)?);
    };
    let found = txn.get::<MemberRow>(&keys::member(node))?;
    let mut row = found.ok_or(Refused::Unknown { node })?.value;
    if rows::member_from_row(&row)?.state == MemberState::Gone {
        return Err(Refused::Gone { node }.into());
    }
    let level = cluster.value.feature_level;
    if !features.include(level) {
        return Err(Refused::Features { level, features }.into());
    }
    if me.start < row.start {
        let (start, known) = (me.start, row.start);
        return Err(Refused::Superseded { node, start, known }.into());
    }
    agree(txn, cluster.value, account, region)?;
    let before = row.clone();
    row.start = me.start;
    row.address.clone_from(&me.address);
    row.labels.clone_from(&me.labels);
    row.version.clone_from(&me.version);
    row.settings.clone_from(&me.settings);
    row.features = Some(rows::features_to_row(features));
    if row != before {
        txn.put(keys::member(node), &row);
    }
    Ok(rows::member_from_row(&row)?)
}

#[cfg(test)]
mod tests;
