//! The placement map: members, epoch, and the order of nodes of every group.

use crate::order::order;
use crate::profile::Profile;
use floeberg_types::{ChunkId, NodeId};
use std::collections::BTreeMap;
use std::fmt;

/// Grows by one with every change of the map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A placement group: the chunks that share their nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupNumber(pub u16);

/// What fails together with a node, from the largest unit to the smallest. An empty name is a
/// domain like any other, so nodes without labels are spread by weight alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain {
    /// Building or availability zone.
    pub zone: String,
    /// Rack within the zone.
    pub rack: String,
    /// Machine within the rack.
    pub host: String,
}

/// Whether a node takes and serves shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeState {
    /// Takes new shards and serves those it has.
    Active,
    /// Serves what it has until others have it.
    Draining,
    /// Gone with everything on it.
    Dead,
}

/// A node of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its share of the data in relation to other members; 0 takes none.
    pub weight: u32,
    /// What fails together with it.
    pub domain: Domain,
    /// Whether it takes and serves shards.
    pub state: NodeState,
    /// Longest chunk that its disk takes, if that is less than others take.
    pub max_chunk_bytes: Option<u64>,
}

impl Member {
    fn takes_shards(&self) -> bool {
        self.state == NodeState::Active && self.weight > 0
    }
}

/// The number of placement groups is not a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{groups} placement groups: the number must be a power of two from 1 to 32768")]
pub struct InvalidMap {
    /// The number.
    pub groups: u16,
}

/// The node is not in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node {node} is not in the placement map")]
pub struct UnknownNode {
    /// The node.
    pub node: NodeId,
}

/// The nodes of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Order {
    /// Those that take shards, in the group's order, and then the others that serve them.
    nodes: Vec<NodeId>,
    /// How many of them take shards.
    takers: usize,
}

/// Which nodes hold data. Immutable: a change makes a new map with the next epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementMap {
    epoch: Epoch,
    members: BTreeMap<NodeId, Member>,
    orders: Vec<Order>,
}

/// What a change of the map means for one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The group.
    pub group: GroupNumber,
    /// Nodes that have to get its shards.
    pub joined: Vec<NodeId>,
    /// Nodes that need not hold its shards any more.
    pub left: Vec<NodeId>,
}

impl PlacementMap {
    /// The number of placement groups of a new cluster.
    pub const GROUPS: u16 = 256;

    /// The first map of a cluster.
    ///
    /// # Errors
    /// If `groups` is not a power of two.
    pub fn new(groups: u16, members: BTreeMap<NodeId, Member>) -> Result<Self, InvalidMap> {
        Self::at_epoch(Epoch(1), groups, members)
    }

    pub(crate) fn at_epoch(
        epoch: Epoch,
        groups: u16,
        members: BTreeMap<NodeId, Member>,
    ) -> Result<Self, InvalidMap> {
        if !groups.is_power_of_two() {
            return Err(InvalidMap { groups });
        }
        let orders = (0..groups)
            .map(|group| order_of(GroupNumber(group), &members))
            .collect();
        Ok(Self {
            epoch,
            members,
            orders,
        })
    }

    fn next(&self, members: BTreeMap<NodeId, Member>) -> Self {
        Self::at_epoch(Epoch(self.epoch.0 + 1), self.groups(), members)
            .expect("the number of groups was checked before")
    }

    /// The next map, with this member added or changed.
    #[must_use]
    pub fn with(&self, node: NodeId, member: Member) -> Self {
        let mut members = self.members.clone();
        members.insert(node, member);
        self.next(members)
    }

    /// The next map, with a member in another state.
    ///
    /// # Errors
    /// If the node is not a member.
    pub fn with_state(&self, node: NodeId, state: NodeState) -> Result<Self, UnknownNode> {
        let member = self.members.get(&node).ok_or(UnknownNode { node })?;
        let member = Member {
            state,
            ..member.clone()
        };
        Ok(self.with(node, member))
    }

    /// The next map, without this member.
    ///
    /// # Errors
    /// If the node is not a member.
    pub fn without(&self, node: NodeId) -> Result<Self, UnknownNode> {
        let mut members = self.members.clone();
        members.remove(&node).ok_or(UnknownNode { node })?;
        Ok(self.next(members))
    }

    /// How often the map has changed.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The number of placement groups.
    #[must_use]
    pub fn groups(&self) -> u16 {
        u16::try_from(self.orders.len()).expect("there are at most 32768 groups")
    }

    /// The nodes, whatever their state.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    /// How many nodes take new shards.
    #[must_use]
    pub fn takers(&self) -> usize {
        self.members.values().filter(|m| m.takes_shards()).count()
    }

    /// The longest chunk that every node takes; `None` if no node has a limit of its own. A small
    /// disk in the cluster makes the chunks of all nodes shorter, because any of them may get one.
    #[must_use]
    pub fn max_chunk_bytes(&self) -> Option<u64> {
        let takers = self.members.values().filter(|m| m.takes_shards());
        takers.filter_map(|m| m.max_chunk_bytes).min()
    }

    /// The group of a chunk: the first bytes of its id, which are random.
    #[must_use]
    pub fn group_of(&self, chunk: &ChunkId) -> GroupNumber {
        let [high, low, ..] = *chunk.as_bytes();
        GroupNumber(u16::from_be_bytes([high, low]) % self.groups())
    }

    /// Where the shards of the group's chunks belong, shard 0 first. Shorter than the profile's
    /// shards if too few nodes take any.
    ///
    /// # Panics
    /// If the group is not one of this map.
    #[must_use]
    pub fn targets(&self, group: GroupNumber, profile: Profile) -> &[NodeId] {
        let order = &self.orders[usize::from(group.0)];
        &order.nodes[..order.takers.min(profile.shards())]
    }

    /// Every node that may hold a shard of the group's chunks, the most likely ones first: after a
    /// change of the map, shards stay where they were until they are moved.
    ///
    /// # Panics
    /// If the group is not one of this map.
    #[must_use]
    pub fn candidates(&self, group: GroupNumber) -> &[NodeId] {
        &self.orders[usize::from(group.0)].nodes
    }

    /// The groups whose shards belong elsewhere under `next`, which has as many groups.
    #[must_use]
    pub fn moved(&self, next: &Self, profile: Profile) -> Vec<Moved> {
        let groups = (0..self.groups().min(next.groups())).map(GroupNumber);
        let difference = |a: &[NodeId], b: &[NodeId]| -> Vec<NodeId> {
            a.iter().filter(|node| !b.contains(node)).copied().collect()
        };
        groups
            .map(|group| {
                let before = self.targets(group, profile);
                let after = next.targets(group, profile);
                Moved {
                    group,
                    joined: difference(after, before),
                    left: difference(before, after),
                }
            })
            .filter(|moved| !moved.joined.is_empty() || !moved.left.is_empty())
            .collect()
    }
}

fn order_of(group: GroupNumber, members: &BTreeMap<NodeId, Member>) -> Order {
    let all = || members.iter().map(|(node, member)| (*node, member));
    let mut nodes = order(group, all().filter(|(_, m)| m.takes_shards()));
    let takers = nodes.len();
    let serves = |m: &Member| !m.takes_shards() && m.state != NodeState::Dead;
    nodes.extend(order(group, all().filter(|(_, m)| serves(m))));
    Order { nodes, takers }
}
