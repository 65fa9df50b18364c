//! Whether a group keeps a majority of voters that answer.

use floeberg_types::{GroupId, NodeId};
use std::collections::BTreeSet;
use std::fmt;

/// How many of `voters` voters make a majority.
#[must_use]
pub const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// A group that would be left without a majority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MajorityAtRisk {
    /// The group.
    pub group: GroupId,
    /// Who would vote.
    pub voters: BTreeSet<NodeId>,
    /// Who of them does not answer.
    pub silent: BTreeSet<NodeId>,
}

fn list(nodes: &BTreeSet<NodeId>) -> String {
    let names: Vec<_> = nodes.iter().map(NodeId::to_string).collect();
    names.join(", ")
}

impl fmt::Display for MajorityAtRisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.voters.is_empty() {
            return write!(f, "group {} would have no voter left", self.group);
        }
        write!(
            f,
            "group {} would have the voters {}, of which {} must answer, but {} does not",
            self.group,
            list(&self.voters),
            majority(self.voters.len()),
            list(&self.silent)
        )
    }
}

/// Checks that a majority of `voters` is among `reachable`.
pub(crate) fn keeps_majority(
    group: GroupId,
    voters: &BTreeSet<NodeId>,
    reachable: &BTreeSet<NodeId>,
) -> Result<(), MajorityAtRisk> {
    let silent: BTreeSet<_> = voters.difference(reachable).copied().collect();
    if !voters.is_empty() && voters.len() - silent.len() >= majority(voters.len()) {
        return Ok(());
    }
    Err(MajorityAtRisk {
        group,
        voters: voters.clone(),
        silent,
    })
}
