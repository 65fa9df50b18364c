//! What every Raft group counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// One Raft group.
#[derive(Clone, Debug, Default)]
pub struct ConsensusMetrics {
    /// Commands submitted to the log.
    pub proposals: Counter,
    /// Entries applied.
    pub applied: Counter,
    /// Linearizable read rounds.
    pub read_barriers: Counter,
    /// The newest term seen.
    pub term: Gauge,
    /// 1 on the leader, 0 elsewhere.
    pub leads: Gauge,
}

/// Transactions over the replicated state.
#[derive(Clone, Debug, Default)]
pub struct MetastoreMetrics {
    /// Transactions that committed a command.
    pub commits: Counter,
    /// Commands that apply turned down because a row had changed; they are evaluated again.
    pub misses: Counter,
    /// Transactions whose outcome stayed unknown.
    pub indefinite: Counter,
    /// Stored rows looked at by decisions while others waited for them to be made.
    pub rows_decided_on: Counter,
    /// Nodes whose rows differ from this node's.
    pub diverged: Gauge,
}

/// The label of what a Raft group has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupLabels {
    group: &'static str,
}

/// What every group has: one family each, because a page may describe a family only once.
#[derive(Default)]
pub(super) struct GroupFamilies {
    proposals: Family<GroupLabels, Counter>,
    applied: Family<GroupLabels, Counter>,
    read_barriers: Family<GroupLabels, Counter>,
    term: Family<GroupLabels, Gauge>,
    leads: Family<GroupLabels, Gauge>,
    commits: Family<GroupLabels, Counter>,
    misses: Family<GroupLabels, Counter>,
    indefinite: Family<GroupLabels, Counter>,
    rows_decided_on: Family<GroupLabels, Counter>,
    diverged: Family<GroupLabels, Gauge>,
}

impl GroupFamilies {
    pub(super) fn of(&self, group: &'static str) -> (ConsensusMetrics, MetastoreMetrics) {
        let label = GroupLabels { group };
        let raft = ConsensusMetrics {
            proposals: self.proposals.get_or_create_owned(&label),
            applied: self.applied.get_or_create_owned(&label),
            read_barriers: self.read_barriers.get_or_create_owned(&label),
            term: self.term.get_or_create_owned(&label),
            leads: self.leads.get_or_create_owned(&label),
        };
        let store = MetastoreMetrics {
            commits: self.commits.get_or_create_owned(&label),
            misses: self.misses.get_or_create_owned(&label),
            indefinite: self.indefinite.get_or_create_owned(&label),
            rows_decided_on: self.rows_decided_on.get_or_create_owned(&label),
            diverged: self.diverged.get_or_create_owned(&label),
        };
        (raft, store)
    }

    pub(super) fn register(self, registry: &mut Registry) {
        for (name, help, family) in [
            (
                "raft_proposals",
                "Commands submitted to the log",
                self.proposals,
            ),
            ("raft_applied", "Log entries applied", self.applied),
            (
                "raft_read_barriers",
                "Linearizable read rounds",
                self.read_barriers,
            ),
            (
                "store_commits",
                "Transactions that committed a command",
                self.commits,
            ),
            (
                "store_misses",
                "Commands evaluated again after a miss",
                self.misses,
            ),
            (
                "store_indefinite",
                "Transactions of unknown outcome",
                self.indefinite,
            ),
            (
                "store_rows_decided_on",
                "Rows read by decisions one after the other",
                self.rows_decided_on,
            ),
        ] {
            registry.register(name, help, family);
        }
        for (name, help, family) in [
            ("raft_term", "The newest term seen", self.term),
            ("raft_leads", "1 on the leader, 0 elsewhere", self.leads),
            (
                "store_diverged_nodes",
                "Nodes whose rows differ from this node's: must be 0",
                self.diverged,
            ),
        ] {
            registry.register(name, help, family);
        }
    }
}
