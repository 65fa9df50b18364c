//! What a cluster's status says about who leads and who lacks something.

use crate::fleet::leader_of;
use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;

/// Groups of every cluster: the catalog and the object index.
const GROUPS: usize = 2;

/// Who leads each group, and since which election.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Leader and term, by group.
    pub groups: Vec<(u64, u64)>,
}

impl Standing {
    /// Reads a status.
    ///
    /// # Errors
    /// If a group has no leader.
    pub fn of(status: &Value) -> anyhow::Result<Self> {
        let group = |group: usize| {
            let leader = leader_of(status, group)?;
            Some((leader, status["groups"][group]["term"].as_u64()?))
        };
        let groups: Option<Vec<_>> = (0..GROUPS).map(group).collect();
        let groups = groups.with_context(|| format!("a group has no leader: {status}"))?;
        Ok(Self { groups })
    }

    /// Who leads the catalog.
    #[must_use]
    pub fn leader(&self) -> u64 {
        self.groups[0].0
    }
}

/// Whether a node lacks nothing, by its leaders.
#[must_use]
pub fn caught_up(status: &Value, node: u64) -> bool {
    let group = |group: &Value| {
        let progress = group["progress"].as_array().map_or(&[][..], Vec::as_slice);
        progress
            .iter()
            .any(|p| p["node"] == node && p["behind"] == 0)
    };
    let groups = status["groups"].as_array().map_or(&[][..], Vec::as_slice);
    groups.len() == GROUPS && groups.iter().all(group)
}
