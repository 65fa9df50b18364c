//! Balance, spread and movement of placement, against what a naive model says must hold.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use floeberg_placement::{
    Domain, Epoch, GroupNumber, InvalidMap, Member, NodeState, PlacementMap, Profile,
};
use floeberg_types::{ChunkId, NodeId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn member(weight: u32, zone: &str, rack: &str, host: &str) -> Member {
    Member {
        weight,
        domain: Domain {
            zone: zone.into(),
            rack: rack.into(),
            host: host.into(),
        },
        state: NodeState::Active,
        max_chunk_bytes: None,
    }
}

fn plain(weights: &[u32]) -> PlacementMap {
    grouped(4096, weights)
}

fn grouped(groups: u16, weights: &[u32]) -> PlacementMap {
    let members = (1..)
        .zip(weights)
        .map(|(id, weight)| (NodeId(id), member(*weight, "", "", "")));
    PlacementMap::new(groups, members.collect()).unwrap()
}

fn groups(map: &PlacementMap) -> impl Iterator<Item = GroupNumber> + use<> {
    (0..map.groups()).map(GroupNumber)
}

fn set(nodes: &[NodeId]) -> BTreeSet<NodeId> {
    nodes.iter().copied().collect()
}

/// Shards per node, counted one by one.
fn load(map: &PlacementMap, profile: Profile) -> BTreeMap<NodeId, usize> {
    let mut load: BTreeMap<_, _> = map.members().keys().map(|node| (*node, 0)).collect();
    for group in groups(map) {
        for node in map.targets(group, profile) {
            *load.get_mut(node).unwrap() += 1;
        }
    }
    load
}

#[test]
fn a_single_copy_follows_the_weights() {
    let weights = [100, 200, 300, 100, 50, 250];
    let map = plain(&weights);
    let total: u32 = weights.iter().sum();
    for ((node, got), weight) in load(&map, Profile::R1).iter().zip(weights) {
        let expected = 4096.0 * f64::from(weight) / f64::from(total);
        let deviation = (expected * (1.0 - expected / 4096.0)).sqrt();
        let off = (*got as f64 - expected).abs();
        assert!(off < 4.0 * deviation, "{node}: {got} of {expected}");
    }
}

#[test]
fn equal_nodes_hold_equal_shares() {
    for nodes in 3..=16 {
        let map = plain(&vec![10; nodes]);
        for profile in [Profile::R1, Profile::R3] {
            let expected = 4096.0 * profile.shards() as f64 / nodes as f64;
            for (node, got) in load(&map, profile) {
                let off = (got as f64 - expected).abs() / expected;
                assert!(
                    off < 0.20,
                    "{profile} on {nodes}: {node} has {got} of {expected}"
                );
            }
        }
    }
}

#[test]
fn a_node_that_does_not_take_shards_is_asked_last_or_not_at_all() {
    let map = plain(&[1, 1, 1, 0, 1]);
    let map = map.with_state(NodeId(2), NodeState::Draining).unwrap();
    let map = map.with_state(NodeId(3), NodeState::Dead).unwrap();
    assert_eq!((map.epoch(), map.takers()), (Epoch(3), 2));
    for group in groups(&map) {
        let takers = [NodeId(1), NodeId(5)];
        assert_eq!(set(map.targets(group, Profile::R3)), set(&takers));
        let asked = map.candidates(group);
        assert_eq!(set(&asked[..2]), set(&takers));
        assert_eq!(set(&asked[2..]), set(&[NodeId(2), NodeId(4)]));
    }
}

#[test]
fn groups_come_from_the_id_and_are_checked() {
    let map = plain(&[1]);
    let mut id = [0xff; 16];
    id[..2].copy_from_slice(&[0x12, 0x34]);
    assert_eq!(map.group_of(&ChunkId::from_bytes(id)), GroupNumber(0x234));
    for groups in [0, 3, 255] {
        let refused = PlacementMap::new(groups, BTreeMap::new());
        assert_eq!(refused, Err(InvalidMap { groups }));
    }
    let empty = PlacementMap::new(1, BTreeMap::new()).unwrap();
    assert!(empty.targets(GroupNumber(0), Profile::R3).is_empty());
    assert!(empty.without(NodeId(1)).is_err());
}

#[test]
fn the_smallest_disk_that_takes_shards_limits_the_chunks_of_all() {
    let map = plain(&[1, 1, 0]);
    assert_eq!(map.max_chunk_bytes(), None);
    let limited = |weight, bytes| Member {
        max_chunk_bytes: Some(bytes),
        ..member(weight, "", "", "")
    };
    let map = map.with(NodeId(1), limited(1, 500));
    let map = map.with(NodeId(2), limited(1, 400));
    let map = map.with(NodeId(3), limited(0, 300));
    assert_eq!(map.max_chunk_bytes(), Some(400));
}

/// Up to 16 nodes with labels of few values, some of them not taking shards.
fn maps() -> impl Strategy<Value = PlacementMap> {
    let state = prop_oneof![
        8 => Just(NodeState::Active),
        1 => Just(NodeState::Draining),
        1 => Just(NodeState::Dead),
    ];
    let labels = (0..3_u8, 0..3_u8, 0..2_u8);
    let one = (0..4_u32, labels, state, prop::option::of(1..u64::MAX));
    let one = one.prop_map(|(weight, (z, r, h), state, limit)| {
        let mut member = member(weight, &format!("z{z}"), &format!("r{r}"), &format!("h{h}"));
        member.state = state;
        member.max_chunk_bytes = limit;
        member
    });
    prop::collection::btree_map((1..200_u64).prop_map(NodeId), one, 1..16)
        .prop_map(|members| PlacementMap::new(64, members).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Equal members give equal places, whatever was in the map before.
    #[test]
    fn places_follow_from_the_members_alone(map in maps(), other in maps()) {
        let mut detour = other;
        for (node, member) in map.members() {
            detour = detour.with(*node, member.clone());
        }
        for node in detour.members().keys().copied().collect::<Vec<_>>() {
            if !map.members().contains_key(&node) {
                detour = detour.without(node).unwrap();
            }
        }
        for group in groups(&map) {
            prop_assert_eq!(map.candidates(group), detour.candidates(group));
        }
    }

    /// Shards share a domain only if there are fewer domains than shards.
    #[test]
    fn shards_are_in_as_many_domains_as_possible(map in maps()) {
        let takers: Vec<&Member> = map.members().values()
            .filter(|m| m.state == NodeState::Active && m.weight > 0).collect();
        let count = |members: &[&Member], level: usize| {
            members.iter().map(|m| {
                let d = &m.domain;
                [&d.zone, &d.rack, &d.host][..level].to_vec()
            }).collect::<BTreeSet<_>>().len()
        };
        for group in groups(&map) {
            let targets = map.targets(group, Profile::R3);
            prop_assert_eq!(targets.len(), takers.len().min(3));
            prop_assert_eq!(set(targets).len(), targets.len());
            let chosen: Vec<&Member> = targets.iter().map(|n| &map.members()[n]).collect();
            prop_assert_eq!(count(&chosen, 1), count(&takers, 1).min(chosen.len()));
        }
    }

    /// Without labels a change moves nothing but what the changed node gains or loses.
    #[test]
    fn without_domains_only_the_changed_node_moves(
        weights in prop::collection::vec(1..100_u32, 2..16), pick in any::<prop::sample::Index>(),
    ) {
        let map = grouped(256, &weights);
        let node = NodeId(1 + pick.index(weights.len()) as u64);
        let gone = map.without(node).unwrap();
        for moved in map.moved(&gone, Profile::R3) {
            prop_assert_eq!(&moved.left, &vec![node]);
            prop_assert!(moved.joined.len() <= 1);
        }
        let touched = map.moved(&gone, Profile::R3).len();
        prop_assert_eq!(touched, load(&map, Profile::R3)[&node]);
        prop_assert_eq!(gone.moved(&map, Profile::R3).len(), touched);
        prop_assert_eq!(gone.epoch(), Epoch(2));
    }

    /// With labels, a node that goes takes no more than one other shard of a group with it.
    #[test]
    fn with_domains_a_change_stays_small(map in maps(), pick in any::<prop::sample::Index>()) {
        let nodes: Vec<NodeId> = map.members().keys().copied().collect();
        let node = *pick.get(&nodes);
        let gone = map.without(node).unwrap();
        for moved in map.moved(&gone, Profile::R3) {
            prop_assert!(moved.left.contains(&node), "{moved:?}");
            prop_assert!(moved.left.len() <= 2 && moved.joined.len() <= 2, "{moved:?}");
        }
    }

    #[test]
    fn a_stored_map_is_the_map(map in maps()) {
        prop_assert_eq!(PlacementMap::decode(&map.encode()).unwrap(), map);
    }
}
