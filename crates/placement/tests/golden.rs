//! The stored map and the places that follow from it stay what they were.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use floeberg_placement::{
    Domain, GroupNumber, MalformedMap, Member, NodeState, PlacementMap, Profile,
};
use floeberg_types::NodeId;
use std::fmt::Write;

fn map() -> PlacementMap {
    let nodes = [
        (1, 100, "a", NodeState::Active),
        (2, 200, "a", NodeState::Active),
        (3, 100, "b", NodeState::Active),
        (4, 100, "b", NodeState::Draining),
        (7, 300, "c", NodeState::Active),
        (300, 100, "c", NodeState::Dead),
    ];
    let mut map = PlacementMap::new(PlacementMap::GROUPS, [].into()).unwrap();
    for (node, weight, zone, state) in nodes {
        let domain = Domain {
            zone: zone.into(),
            rack: format!("rack-{node}"),
            host: String::new(),
        };
        let member = Member {
            weight,
            domain,
            state,
            max_chunk_bytes: (node == 3).then_some(4 << 20),
        };
        map = map.with(NodeId(node), member);
    }
    map
}

fn hex(bytes: &[u8]) -> String {
    let line = |l: &[u8]| l.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n";
    bytes.chunks(16).map(line).collect()
}

#[test]
fn the_row_is_stored_as_it_always_was() {
    let dump = hex(&map().encode());
    assert_eq!(dump, include_str!("golden/map-v1.txt"), "{dump}");
}

#[test]
fn chunks_belong_where_they_always_belonged() {
    let map = map();
    let mut dump = String::new();
    for group in (0..map.groups()).map(GroupNumber) {
        let ids = |nodes: &[NodeId]| {
            let ids: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
            ids.join(" ")
        };
        let (targets, all) = (map.targets(group, Profile::R3), map.candidates(group));
        writeln!(dump, "{}: {} | {}", group.0, ids(targets), ids(all)).unwrap();
    }
    assert_eq!(dump, include_str!("golden/places-v1.txt"), "{dump}");
}

#[test]
fn other_bytes_are_refused() {
    let good = map().encode();
    let mut later = good.clone();
    later[1] = 2;
    let refused = PlacementMap::decode(&later);
    assert!(matches!(refused, Err(MalformedMap::Format { format: 2 })));
    let refused = PlacementMap::decode(&good[..good.len() - 1]);
    assert!(matches!(refused, Err(MalformedMap::Message(_))));
    let mut stateless = good.clone();
    *stateless.last_mut().unwrap() = 9;
    let refused = PlacementMap::decode(&stateless);
    assert!(matches!(refused, Err(MalformedMap::Member { node: 300 })));
}
