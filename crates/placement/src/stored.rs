//! The map as the bytes of its row.

use crate::map::{Domain, Epoch, InvalidMap, Member, NodeState, PlacementMap};
use floeberg_proto::floeberg::placement::v1 as pb;
use floeberg_types::NodeId;
use prost::Message;
use std::collections::BTreeMap;

const FORMAT: u32 = 1;

/// Bytes that are not a placement map this version can use.
#[derive(Debug, thiserror::Error)]
pub enum MalformedMap {
    /// Not the message at all.
    #[error("not a placement map: {0}")]
    Message(#[from] prost::DecodeError),
    /// Written by a later version.
    #[error("placement map of format {format}: this version reads format {FORMAT}, upgrade it")]
    Format {
        /// The format.
        format: u32,
    },
    /// A member whose state or position means nothing.
    #[error("the placement map's entry of node {node} is malformed")]
    Member {
        /// The node.
        node: u64,
    },
    /// An impossible number of groups.
    #[error(transparent)]
    Groups(#[from] InvalidMap),
}

impl PlacementMap {
    /// The bytes of its row.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let members = self.members().iter().map(|(node, member)| pb::Member {
            node: node.0,
            weight: member.weight,
            zone: member.domain.zone.clone(),
            rack: member.domain.rack.clone(),
            host: member.domain.host.clone(),
            state: state_code(member.state),
            max_chunk_bytes: member.max_chunk_bytes.unwrap_or(0),
        });
        pb::PlacementMap {
            format: FORMAT,
            epoch: self.epoch().0,
            groups: u32::from(self.groups()),
            members: members.collect(),
        }
        .encode_to_vec()
    }

    /// The map of a row.
    ///
    /// # Errors
    /// If the bytes are not a map this version can use.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedMap> {
        let stored = pb::PlacementMap::decode(bytes)?;
        if stored.format != FORMAT {
            return Err(MalformedMap::Format {
                format: stored.format,
            });
        }
        let mut members = BTreeMap::new();
        for member in stored.members {
            let node = member.node;
            let malformed = MalformedMap::Member { node };
            let Some(state) = state_of(member.state) else {
                return Err(malformed);
            };
            let domain = Domain {
                zone: member.zone,
                rack: member.rack,
                host: member.host,
            };
            let member = Member {
                weight: member.weight,
                domain,
                state,
                max_chunk_bytes: Some(member.max_chunk_bytes).filter(|bytes| *bytes > 0),
            };
            if members.insert(NodeId(node), member).is_some() {
                return Err(malformed);
            }
        }
        // No number beyond 16 bits is valid, and 0 is refused.
        let groups = u16::try_from(stored.groups).unwrap_or(0);
        Ok(Self::at_epoch(Epoch(stored.epoch), groups, members)?)
    }
}

fn state_code(state: NodeState) -> u32 {
    match state {
        NodeState::Active => 1,
        NodeState::Draining => 2,
        NodeState::Dead => 3,
    }
}

fn state_of(code: u32) -> Option<NodeState> {
    match code {
        1 => Some(NodeState::Active),
        2 => Some(NodeState::Draining),
        3 => Some(NodeState::Dead),
        _ => None,
    }
}
