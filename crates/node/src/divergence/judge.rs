//! Who is wrong when the rows of nodes differ: whoever disagrees with a majority.

use floeberg_metastore::{Digest, Mark};
use floeberg_types::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// What the digests of a group's nodes say about this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nobody differs from this node.
    Agreed,
    /// A majority has another digest: this node is wrong.
    Wrong {
        index: u64,
        here: Digest,
        others: Digest,
    },
    /// These nodes differ from this one, which a majority agrees with.
    OthersWrong { index: u64, nodes: Vec<NodeId> },
    /// These nodes differ from this one, and no majority agrees on anything.
    Split { index: u64, nodes: Vec<NodeId> },
}

/// Compares the marks of `me` with those of others, by node; `voters` are whose word counts.
pub(crate) fn judge(
    me: NodeId,
    voters: &BTreeSet<NodeId>,
    marks: &BTreeMap<NodeId, Vec<Mark>>,
) -> Verdict {
    let own = marks.get(&me).map_or(&[][..], Vec::as_slice);
    let at = |index: u64| {
        let found = marks.iter().filter_map(move |(node, marks)| {
            let mark = marks.iter().find(|mark| mark.index == index)?;
            Some((*node, mark.digest))
        });
        found.collect::<BTreeMap<_, _>>()
    };
    let disputed = own
        .iter()
        .map(|mark| (mark, at(mark.index)))
        .filter(|(mark, all)| all.values().any(|digest| *digest != mark.digest));
    // Where most have an opinion; the newest of those, since one that fell behind may catch up.
    let Some((own, all)) = disputed.max_by_key(|(mark, all)| (all.len(), mark.index)) else {
        return Verdict::Agreed;
    };
    let votes = |digest: Digest| {
        let agree = all.iter().filter(|(_, d)| **d == digest);
        agree.filter(|(node, _)| voters.contains(node)).count()
    };
    let majority = voters.len() / 2 + 1;
    let (index, here) = (own.index, own.digest);
    let differ = all.iter().filter(|(_, digest)| **digest != here);
    let nodes = differ.clone().map(|(node, _)| *node).collect();
    if votes(here) >= majority {
        return Verdict::OthersWrong { index, nodes };
    }
    let mut others = differ.map(|(_, digest)| *digest);
    match others.find(|digest| votes(*digest) >= majority) {
        Some(others) => Verdict::Wrong {
            index,
            here,
            others,
        },
        None => Verdict::Split { index, nodes },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(nodes: &[u64]) -> BTreeSet<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    /// One letter per mark at 1024, 2048, …; a dot is a mark that the node does not have.
    fn marks(nodes: &[(u64, &str)]) -> BTreeMap<NodeId, Vec<Mark>> {
        let of = |text: &str| {
            let letters = (1..)
                .zip(text.bytes())
                .filter(|(_, letter)| *letter != b'.');
            let mark = letters.map(|(n, letter)| Mark {
                index: n * 1024,
                digest: Digest([letter; 32]),
            });
            mark.collect()
        };
        nodes
            .iter()
            .map(|(node, text)| (NodeId(*node), of(text)))
            .collect()
    }

    fn verdicts(voters: &[u64], nodes: &[(u64, &str)]) -> Vec<Verdict> {
        let (voters, marks) = (ids(voters), marks(nodes));
        let of = |(node, _): &(u64, &str)| judge(NodeId(*node), &voters, &marks);
        nodes.iter().map(of).collect()
    }

    #[test]
    fn the_one_that_disagrees_with_the_majority_is_wrong() {
        let found = verdicts(&[1, 2, 3], &[(1, "abc"), (2, "abc"), (3, "axy")]);
        let wrong = Verdict::Wrong {
            index: 3072,
            here: Digest([b'y'; 32]),
            others: Digest([b'c'; 32]),
        };
        let others = Verdict::OthersWrong {
            index: 3072,
            nodes: vec![NodeId(3)],
        };
        assert_eq!(found, [others.clone(), others, wrong]);
    }

    #[test]
    fn a_node_that_fell_behind_is_judged_by_what_it_has() {
        let found = verdicts(&[1, 2, 3], &[(1, "abc"), (2, ".bc"), (3, "ax.")]);
        assert!(matches!(found[2], Verdict::Wrong { index: 2048, .. }));
        let found = verdicts(&[1, 2, 3], &[(1, "a.."), (2, ".b."), (3, "..c")]);
        assert_eq!(found, [Verdict::Agreed, Verdict::Agreed, Verdict::Agreed]);
    }

    #[test]
    fn without_a_majority_nobody_is_wrong() {
        for nodes in [&[1, 2][..], &[1, 2, 3]] {
            let found = verdicts(nodes, &[(1, "a"), (2, "b")]);
            for verdict in found {
                assert!(matches!(verdict, Verdict::Split { index: 1024, .. }));
            }
        }
        let found = verdicts(&[1, 2, 3], &[(1, "a"), (2, "b"), (3, "c")]);
        assert!(found.iter().all(|v| matches!(v, Verdict::Split { .. })));
    }

    #[test]
    fn who_has_no_vote_has_no_say_and_may_be_wrong() {
        let found = verdicts(&[1], &[(1, "a"), (2, "b"), (3, "b")]);
        assert!(matches!(found[0], Verdict::OthersWrong { .. }));
        assert!(matches!(found[1], Verdict::Wrong { .. }));
    }
}
