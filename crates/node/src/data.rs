//! The members' data: the placement map follows the members, and chunks follow the map.
//!
//! What a write still owes is repaired by the object service. What a change of the map displaces is
//! found here, by comparing what the nodes have, and copied by the leader of group 0.

use crate::{ClusterPart, NodeConfig};
use async_trait::async_trait;
use floeberg_members::{ChangeError, DataHome, GroupsError, Identity, Member, Placing, no_data};
use floeberg_metastore::Store;
use floeberg_placement::{Domain, Epoch, Member as Holder, NodeState, PlacementMap, Profile};
use floeberg_shards::{Depth, RepairError, Shards};
use floeberg_types::{ChunkId, GroupId, NodeId};
use futures::StreamExt as _;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Pause between two looks at the map.
const LOOK: Duration = Duration::from_secs(1);

/// Pause before chunks that could not be copied are tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Chunks compared at a time.
const PAGE: usize = 1024;

/// Chunks copied at a time.
const PARALLEL: usize = 8;

/// What the last pass over all chunks left, under the map it was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pass {
    epoch: Epoch,
    left: u64,
}

/// The data as `members` sees it.
pub(crate) struct ClusterData {
    placing: Placing,
    shards: Shards,
    last: Arc<Mutex<Option<Pass>>>,
}

/// Copies chunks to where a new map wants them, while this node leads group 0.
pub(crate) struct Mover {
    store: Store,
    shards: Shards,
    last: Arc<Mutex<Option<Pass>>>,
}

/// A single node holds all data; a member learns from the rows who does.
pub(crate) fn first_map(config: &NodeConfig, identity: Identity) -> PlacementMap {
    match config.cluster {
        ClusterPart::Single => {
            let holder = Holder {
                weight: 1,
                domain: Domain::default(),
                state: NodeState::Active,
                max_chunk_bytes: None,
            };
            no_data().with(identity.node, holder)
        }
        ClusterPart::Member(_) => no_data(),
    }
}

fn to_groups(error: ChangeError) -> GroupsError {
    let group = GroupId::CATALOG;
    match error {
        ChangeError::Unavailable | ChangeError::Crowded(_) => GroupsError::NoLeader { group },
        ChangeError::Indefinite => GroupsError::Unknown { group },
        ChangeError::Groups(error) => error,
        other => GroupsError::Refused {
            group,
            reason: other.to_string(),
        },
    }
}

/// The two halves over the same data.
pub(crate) fn new(placing: Placing, store: Store, shards: Shards) -> (ClusterData, Mover) {
    let last = Arc::new(Mutex::new(None));
    let data = ClusterData {
        placing,
        shards: shards.clone(),
        last: last.clone(),
    };
    let mover = Mover {
        store,
        shards,
        last,
    };
    (data, mover)
}

#[async_trait]
impl DataHome for ClusterData {
    async fn admit(&self, member: &Member) -> Result<(), GroupsError> {
        self.placing.admit(member).await.map_err(to_groups)
    }

    async fn drain(&self, node: NodeId) -> Result<(), GroupsError> {
        let set = self.placing.set_state(node, NodeState::Draining).await;
        set.map_err(to_groups)
    }

    async fn declare_dead(&self, node: NodeId) -> Result<(), GroupsError> {
        let set = self.placing.set_state(node, NodeState::Dead).await;
        set.map_err(to_groups)
    }

    async fn owed(&self, node: NodeId) -> Option<u64> {
        let map = self.shards.map();
        let draining = map.members().get(&node).map(|m| m.state);
        if draining == Some(NodeState::Active) {
            return None;
        }
        let last = *self.last.lock();
        last.filter(|pass| pass.epoch == map.epoch())
            .map(|pass| pass.left)
    }
}

impl Mover {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        loop {
            let map = self.shards.map();
            let leads = self.store.leadership().borrow().ready;
            let last = *self.last.lock();
            let done = last.is_some_and(|p| p.epoch == map.epoch() && p.left == 0);
            if !leads || done || map.takers() == 0 {
                if !leads {
                    *self.last.lock() = None;
                }
                tokio::time::sleep(LOOK).await;
                continue;
            }
            let left = self.pass(&map).await;
            *self.last.lock() = Some(Pass {
                epoch: map.epoch(),
                left,
            });
            if left > 0 {
                tracing::info!(epoch = %map.epoch(), left, "copies are not where they belong yet");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// Copies what every node lacks; returns how much is left, at least 1 if that is not known.
    async fn pass(&self, map: &PlacementMap) -> u64 {
        let profile = Profile::copies_for_nodes(map.takers());
        let takers = map
            .members()
            .iter()
            .filter(|(_, member)| member.state == NodeState::Active && member.weight > 0);
        let mut left = 0;
        for (node, _) in takers {
            left += self.fill(*node, profile).await;
        }
        left
    }

    async fn fill(&self, node: NodeId, profile: Profile) -> u64 {
        let mut left = 0;
        let mut after = None;
        loop {
            let page = match self.shards.missing_on(node, profile, after, PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::debug!(%node, %error, "what a node lacks is not known");
                    return left + 1;
                }
            };
            let copies = page
                .missing
                .into_iter()
                .map(|chunk| self.copy(chunk, profile));
            let mut copies = futures::stream::iter(copies).buffer_unordered(PARALLEL);
            while let Some(copied) = copies.next().await {
                left += u64::from(!copied);
            }
            // Chunks that only a silent node has are in no listing.
            left += page.skipped.len() as u64;
            after = page.next;
            if after.is_none() {
                return left;
            }
        }
    }

    async fn copy(&self, chunk: ChunkId, profile: Profile) -> bool {
        match self.shards.repair(chunk, profile, Depth::Presence).await {
            Ok(report) => report.failed.is_empty() && report.pending.is_empty(),
            // Deleted since it was listed.
            Err(RepairError::NotFound { .. }) => true,
            Err(error) => {
                tracing::info!(%chunk, %error, "a chunk was not copied");
                false
            }
        }
    }
}
