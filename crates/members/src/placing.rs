//! The placement map as a row of group 0: it follows the members, and every node follows it.

use crate::error::ChangeError;
use crate::keys;
use crate::model::Member;
use crate::ports::GroupsError;
use floeberg_env::Env;
use floeberg_metastore::{Cx, Rows, Store, Txn};
use floeberg_placement::{Domain, Epoch, Member as Holder, NodeState, PlacementMap};
use floeberg_proto::floeberg::placement::v1 as pb;
use floeberg_types::{AccountId, GroupId, NodeId};
use prost::Message as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Every member's share of the data: nodes are expected to be alike.
const WEIGHT: u32 = 100;

/// The map of a cluster in which nobody holds data yet.
#[must_use]
pub fn no_data() -> PlacementMap {
    PlacementMap::new(PlacementMap::GROUPS, BTreeMap::new()).expect("256 is a power of two")
}

/// The row of the placement map.
#[derive(Clone)]
pub struct Placing {
    store: Store,
    account: AccountId,
    env: Env,
}

fn holder(member: &Member) -> Holder {
    let label = |name: &str| member.labels.get(name).cloned().unwrap_or_default();
    Holder {
        weight: WEIGHT,
        domain: Domain {
            zone: label("zone"),
            rack: label("rack"),
            host: label("host"),
        },
        state: NodeState::Active,
        max_chunk_bytes: None,
    }
}

pub(crate) fn read(rows: &impl Rows) -> Result<PlacementMap, ChangeError> {
    match rows.get::<pb::PlacementMap>(&keys::placement())? {
        Some(row) => decode(&row.value),
        None => Ok(no_data()),
    }
}

fn decode(row: &pb::PlacementMap) -> Result<PlacementMap, ChangeError> {
    PlacementMap::decode(&row.encode_to_vec())
        .map_err(|error| GroupsError::Refused {
            group: GroupId::CATALOG,
            reason: format!("the placement map cannot be read: {error}"),
        })
        .map_err(ChangeError::from)
}

pub(crate) fn write(txn: &mut Txn<'_>, map: &PlacementMap) {
    let row = pb::PlacementMap::decode(&map.encode()[..]);
    txn.put(
        keys::placement(),
        &row.expect("a map encodes as its message"),
    );
}

impl Placing {
    /// The row in group 0; its commands are booked on `account`.
    #[must_use]
    pub fn new(store: Store, account: AccountId, env: Env) -> Self {
        Self {
            store,
            account,
            env,
        }
    }

    /// The map as applied here.
    ///
    /// # Errors
    /// The row cannot be read.
    pub fn local(&self) -> Result<PlacementMap, ChangeError> {
        read(&self.store.local())
    }

    /// `member` takes data from now on.
    ///
    /// # Errors
    /// No majority, or the row cannot be read.
    pub async fn admit(&self, member: &Member) -> Result<(), ChangeError> {
        let wanted = holder(member);
        self.edit(|map| {
            let present = map.members().get(&member.id) == Some(&wanted);
            (!present).then(|| map.with(member.id, wanted.clone()))
        })
        .await
    }

    /// `node` takes no data any more, or is lost with what it has.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub async fn set_state(&self, node: NodeId, state: NodeState) -> Result<(), ChangeError> {
        self.edit(|map| {
            let known = map.members().get(&node)?;
            if known.state == state {
                return None;
            }
            map.with_state(node, state).ok()
        })
        .await
    }

    async fn edit(
        &self,
        next: impl Fn(&PlacementMap) -> Option<PlacementMap> + Send + Sync,
    ) -> Result<(), ChangeError> {
        if next(&self.local()?).is_none() {
            // What is applied here says so already, and only this node's group leader edits.
            return Ok(());
        }
        let cx = Cx::own(self.account.clone(), &self.env);
        let done = self.store.transact(&cx, |txn| {
            if let Some(map) = next(&read(txn)?) {
                write(txn, &map);
            }
            Ok::<_, ChangeError>(())
        });
        done.await?;
        Ok(())
    }

    /// The map as applied here, if it is later than `known`. Asked after every command, so only a later one
    /// is put together: that orders all nodes for each of its groups.
    fn later(&self, known: Epoch) -> Result<Option<PlacementMap>, ChangeError> {
        let row = self.store.local().get(&keys::placement())?;
        let row = row.map(|row| row.value);
        let later = row.filter(|row: &pb::PlacementMap| Epoch(row.epoch) > known);
        later.as_ref().map(decode).transpose()
    }

    /// Passes the map on whenever it has changed here, until the group stops.
    pub async fn follow(self, to: watch::Sender<Arc<PlacementMap>>) {
        let mut applied = self.store.group().applied();
        loop {
            let known = to.borrow().epoch();
            match self.later(known) {
                Ok(None) => {}
                Ok(Some(map)) => {
                    tracing::info!(epoch = %map.epoch(), "the placement map has changed");
                    to.send_replace(Arc::new(map));
                }
                Err(error) => tracing::error!(%error, "the placement map stays as it was"),
            }
            if applied.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FeatureLevels, MemberState};
    use crate::testing::Lab;
    use expect_test::expect;
    use floeberg_types::TimestampMs;

    fn member(node: u64) -> Member {
        Member {
            id: NodeId(node),
            address: "n:1".to_owned(),
            labels: [("zone".to_owned(), "z".to_owned())].into(),
            state: MemberState::Active,
            replaced_by: None,
            joined_at: TimestampMs(1),
            changed_at: TimestampMs(1),
            features: FeatureLevels { low: 1, high: 1 },
            version: "0.1.0".to_owned(),
            start: 1,
            settings: [].into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_map_follows_the_members_and_repeats_change_nothing() {
        let lab = Lab::new().await;
        let placing = lab.placing();
        assert_eq!(placing.local().unwrap(), no_data());
        let (sender, mut seen) = watch::channel(Arc::new(no_data()));
        let following = tokio::spawn(placing.clone().follow(sender));
        for node in [1, 2, 1] {
            placing.admit(&member(node)).await.unwrap();
        }
        let map = seen
            .wait_for(|map| map.takers() == 2)
            .await
            .unwrap()
            .clone();
        assert_eq!(map.epoch(), Epoch(3));
        assert_eq!(map.members()[&NodeId(2)].domain.zone, "z");
        for state in [NodeState::Draining, NodeState::Dead, NodeState::Dead] {
            placing.set_state(NodeId(2), state).await.unwrap();
            placing.set_state(NodeId(9), state).await.unwrap();
        }
        let map = seen
            .wait_for(|map| map.takers() == 1)
            .await
            .unwrap()
            .clone();
        assert!(map.epoch() >= Epoch(4));
        assert_eq!(placing.local().unwrap().epoch(), Epoch(5));
        following.abort();
    }

    #[test]
    fn golden_key() {
        expect!["82"].assert_eq(&hex::encode(keys::placement()));
    }
}
