//! Where the shards of a chunk belong.
//!
//! A chunk's id names its placement group; a group's nodes follow from the [`PlacementMap`] by
//! weighted rendezvous hashing, spread over failure domains. Nothing is stored per chunk or group,
//! and whoever has the same map computes the same places: all arithmetic is on integers.

mod map;
mod order;
mod profile;
mod stored;

pub use map::{
    Domain, Epoch, GroupNumber, InvalidMap, Member, Moved, NodeState, PlacementMap, UnknownNode,
};
pub use profile::{NotWritable, Profile, ShardSet};
pub use stored::MalformedMap;
