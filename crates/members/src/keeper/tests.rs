//! The keeper against groups in memory: whole joins, removals and replacements.

use super::*;
use crate::testing::{Lab, announcement};
use crate::{Departure, FeatureLevels, Groups as _};
use floeberg_types::{GroupId, NodeId};
use std::collections::BTreeSet;

fn ids(nodes: &[u64]) -> BTreeSet<NodeId> {
    nodes.iter().copied().map(NodeId).collect()
}

fn state(lab: &Lab, node: u64) -> MemberState {
    lab.members.local_roster().unwrap()[&NodeId(node)].state
}

#[tokio::test(start_paused = true)]
async fn nodes_that_join_become_voters_of_every_group_and_take_data() {
    let lab = Lab::of(3).await;
    for group in [GroupId::CATALOG, GroupId::OBJECTS] {
        assert_eq!(lab.groups.voters(group), ids(&[1, 2, 3]));
    }
    assert_eq!(state(&lab, 3), MemberState::Active);
    assert_eq!(lab.data.told(NodeId(3)), ["admit"]);
    assert_eq!(lab.peers.get(NodeId(3)).as_deref(), Some("n3:7000"));
    assert_eq!(
        lab.peers.get(NodeId(1)),
        None,
        "a node does not call itself"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_is_replaced() {
    let lab = Lab::of(3).await;
    lab.groups.down(NodeId(3));
    lab.join("n4").await;
    lab.members
        .replace(&lab.cx(), NodeId(3), NodeId(4))
        .await
        .unwrap();
    lab.settle().await;
    for group in [GroupId::CATALOG, GroupId::OBJECTS] {
        assert_eq!(lab.groups.voters(group), ids(&[1, 2, 4]));
        assert_eq!(lab.groups.learners(group), ids(&[]));
    }
    assert_eq!(state(&lab, 3), MemberState::Gone);
    assert_eq!(lab.data.told(NodeId(3)), ["admit", "dead"]);
    assert_eq!(lab.peers.get(NodeId(3)), None);
}

#[tokio::test(start_paused = true)]
async fn a_living_node_leaves_only_once_its_data_is_elsewhere() {
    let lab = Lab::of(4).await;
    lab.data.owe(NodeId(4), Some(12));
    lab.members
        .remove(&lab.cx(), NodeId(4), Departure::Drained)
        .await
        .unwrap();
    lab.settle().await;
    assert_eq!(lab.groups.voters(GroupId::CATALOG), ids(&[1, 2, 3]));
    assert_eq!(
        lab.groups.learners(GroupId::CATALOG),
        ids(&[4]),
        "it still serves what it has"
    );
    assert_eq!(state(&lab, 4), MemberState::Leaving(Departure::Drained));
    lab.data.owe(NodeId(4), Some(0));
    lab.settle().await;
    assert_eq!(lab.groups.learners(GroupId::CATALOG), ids(&[]));
    assert_eq!(state(&lab, 4), MemberState::Gone);
    assert_eq!(lab.data.told(NodeId(4)), ["admit", "drain", "dead"]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_of_one_group_only_works_on_that_group() {
    let lab = Lab::of(3).await;
    lab.groups.transfer(GroupId::OBJECTS, NodeId(2));
    lab.join("n4").await;
    lab.settle().await;
    assert_eq!(lab.groups.voters(GroupId::CATALOG), ids(&[1, 2, 3, 4]));
    assert_eq!(lab.groups.voters(GroupId::OBJECTS), ids(&[1, 2, 3]));
    assert_eq!(
        state(&lab, 4),
        MemberState::Joining,
        "not in every group yet"
    );
    lab.groups.transfer(GroupId::OBJECTS, NodeId(1));
    lab.settle().await;
    assert_eq!(state(&lab, 4), MemberState::Active);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_still_leads_another_group_leaves_group_0_last() {
    let lab = Lab::of(4).await;
    lab.groups.transfer(GroupId::OBJECTS, NodeId(4));
    lab.groups.down(NodeId(4));
    let (cx, dead) = (lab.cx(), Departure::Dead);
    lab.members.remove(&cx, NodeId(4), dead).await.unwrap();
    lab.groups.up(NodeId(4));
    lab.settle().await;
    assert_eq!(lab.groups.voters(GroupId::CATALOG), ids(&[1, 2, 3]));
    assert_eq!(
        lab.groups.learners(GroupId::CATALOG),
        ids(&[4]),
        "it must learn that it leaves"
    );
    lab.groups.transfer(GroupId::OBJECTS, NodeId(1));
    lab.settle().await;
    for group in [GroupId::CATALOG, GroupId::OBJECTS] {
        assert_eq!(lab.groups.voters(group), ids(&[1, 2, 3]));
        assert_eq!(lab.groups.learners(group), ids(&[]));
    }
    assert_eq!(state(&lab, 4), MemberState::Gone);
}

#[tokio::test(start_paused = true)]
async fn a_refusing_group_is_asked_again() {
    let lab = Lab::of(2).await;
    lab.join("n3").await;
    lab.groups.refuse_next(3);
    for _ in 0..3 {
        assert!(lab.keeper().turn().await.is_err());
    }
    lab.settle().await;
    assert_eq!(lab.groups.voters(GroupId::CATALOG), ids(&[1, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn the_feature_level_rises_with_the_last_upgrade() {
    let lab = Lab::of(3).await;
    let level = || async { lab.members.status().await.unwrap().feature_level };
    for node in [1, 2] {
        let mut upgraded = announcement(node);
        upgraded.features = FeatureLevels { low: 1, high: 2 };
        lab.members.announce(&upgraded).await.unwrap();
        lab.settle().await;
        assert_eq!(level().await, 1);
    }
    let mut upgraded = announcement(3);
    upgraded.features = FeatureLevels { low: 1, high: 2 };
    lab.members.announce(&upgraded).await.unwrap();
    assert_eq!(lab.groups.feature_level(GroupId::OBJECTS), 1);
    lab.settle().await;
    assert_eq!(level().await, 2);
    for group in [GroupId::CATALOG, GroupId::OBJECTS] {
        assert_eq!(lab.groups.feature_level(group), 2, "commands follow");
    }
    let old = lab.members.announce(&announcement(3)).await.unwrap_err();
    assert!(old.to_string().contains("use a newer floeberg"), "{old}");
}

/// The loop itself: it works without anybody calling it, and keeps going after an error.
#[tokio::test(start_paused = true)]
async fn the_loop_keeps_going() {
    let lab = Lab::of(1).await;
    let keeper = lab.keeper();
    let running = tokio::spawn(keeper.run());
    lab.groups.refuse_next(2);
    lab.join("n2").await;
    lab.groups
        .until(|groups| groups.voters(GroupId::OBJECTS) == ids(&[1, 2]))
        .await;
    running.abort();
}
