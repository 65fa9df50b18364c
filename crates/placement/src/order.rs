//! The order in which a placement group takes its nodes: weighted rendezvous, spread over domains.
//!
//! Every (group, node) pair has a pseudo-random point; a node's cost is the logarithm of its point
//! over its weight, and the cheapest node comes first. A node that comes or goes therefore changes
//! only the groups it wins or held. Weights act as in Ceph's straw2 buckets.

use crate::map::{GroupNumber, Member};
use floeberg_types::NodeId;
use std::cmp::Ordering;

/// A node that may be chosen.
struct Entry<'a> {
    node: NodeId,
    member: &'a Member,
    /// Negative logarithm of the point; with the weight it is the cost.
    length: u64,
}

impl Entry<'_> {
    /// Compares `length / weight` exactly; equal costs are ordered by node.
    fn by_cost(&self, other: &Self) -> Ordering {
        let own = u128::from(self.length) * u128::from(other.member.weight);
        let their = u128::from(other.length) * u128::from(self.member.weight);
        own.cmp(&their).then(self.node.cmp(&other.node))
    }

    /// How many of the chosen share this node's zone, rack and host.
    fn crowding(&self, chosen: &[Entry<'_>]) -> [usize; 3] {
        let domain = &self.member.domain;
        let mut shared = [0; 3];
        for other in chosen.iter().map(|entry| &entry.member.domain) {
            if other.zone != domain.zone {
                continue;
            }
            shared[0] += 1;
            if other.rack != domain.rack {
                continue;
            }
            shared[1] += 1;
            shared[2] += usize::from(other.host == domain.host);
        }
        shared
    }
}

/// Orders `members` for a group: each next one is the cheapest of those in the least used domains.
pub(crate) fn order<'a>(
    group: GroupNumber,
    members: impl Iterator<Item = (NodeId, &'a Member)>,
) -> Vec<NodeId> {
    let mut rest: Vec<Entry<'a>> = members
        .map(|(node, member)| Entry {
            node,
            member,
            length: length(point(group, node)),
        })
        .collect();
    rest.sort_by(Entry::by_cost);
    let mut chosen: Vec<Entry<'a>> = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        // `min_by_key` returns the first of equals, which is the cheapest.
        let next = (0..rest.len())
            .min_by_key(|at| rest[*at].crowding(&chosen))
            .expect("the rest is not empty");
        chosen.push(rest.remove(next));
    }
    chosen.into_iter().map(|entry| entry.node).collect()
}

/// The point of a pair, uniform over 64 bits. Part of the format: it must never change.
fn point(group: GroupNumber, node: NodeId) -> u64 {
    let group = u64::from(group.0).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mix(mix(node.0.wrapping_add(0xd1b5_4a32_d192_ed03)) ^ mix(group))
}

/// The finaliser of SplitMix64.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// `64 - log2(point)` with 32 fractional bits, by repeated squaring: a library's logarithm of floats
/// may differ between machines in the last bit.
fn length(point: u64) -> u64 {
    let point = point.max(1);
    let zeros = point.leading_zeros();
    let mut log = u64::from(63 - zeros);
    // In [1, 2) with 63 fractional bits.
    let mut x = u128::from(point << zeros);
    for _ in 0..32 {
        x = (x * x) >> 63;
        log <<= 1;
        if x >> 64 != 0 {
            x >>= 1;
            log |= 1;
        }
    }
    (64 << 32) - log
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_one() {
        assert_eq!(length(0), 64 << 32);
        for power in 0..64_u64 {
            assert_eq!(length(1 << power), (64 - power) << 32);
        }
        for point in [3, 1000, 0xdead_beef, u64::MAX / 3, u64::MAX - 1] {
            let expected = (64.0 - (point as f64).log2()) * f64::from(2.0_f32).powi(32);
            let off = (length(point) as f64 - expected).abs();
            assert!(off < 4.0, "{point}: {off}");
        }
    }

    #[test]
    fn points_are_pinned() {
        assert_eq!(point(GroupNumber(0), NodeId(1)), POINT_0_1);
        assert_eq!(point(GroupNumber(255), NodeId(7)), POINT_255_7);
    }

    const POINT_0_1: u64 = 0x0893_1fbe_7122_476e;
    const POINT_255_7: u64 = 0xd1b3_2793_ab9f_3e31;
}
