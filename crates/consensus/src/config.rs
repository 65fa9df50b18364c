//! Settings of a group, and the library settings they become.

use floeberg_types::{GroupId, limits};
use openraft::{Config, SnapshotPolicy};
use std::time::Duration;

/// Settings of one group.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// Host and port where peers reach this node; empty while it has no peers.
    pub address: String,
    /// How often a leader confirms itself.
    pub heartbeat: Duration,
    /// Silence after which a follower campaigns; each time a random point between these two. It is
    /// never below half of the maximum and some heartbeats, whatever the minimum.
    pub election_timeout_min: Duration,
    /// Upper end of the election timeout; also how long a write may run without a quorum.
    pub election_timeout_max: Duration,
    /// A checkpoint is made once this many entries were applied since the last.
    pub checkpoint_entries: u64,
    /// A checkpoint is made after this time if anything was applied since the last.
    pub checkpoint_interval: Duration,
    /// Entries kept in the log behind a checkpoint, for peers that lag.
    pub log_entries_kept: u64,
    /// Bytes kept in the log behind a checkpoint; reached before the entries if they are large. Also
    /// what makes a checkpoint due.
    pub log_bytes_kept: u64,
    /// What a snapshot for another node may take of the network; `None` is all it can.
    pub snapshot_bytes_per_second: Option<u64>,
    /// Entries a learner may lack when it becomes a voter.
    pub learner_lag_max: u64,
    /// Commands between [`reserve`](crate::RaftGroup::reserve) and their outcome. Their bytes are
    /// bounded by the node's [`CommandBudget`](crate::CommandBudget).
    pub in_flight_max: usize,
    /// Bytes of decoded entries that are kept in memory; the groups of a node share what it has.
    pub ring_bytes: usize,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            heartbeat: Duration::from_millis(100),
            election_timeout_min: Duration::from_millis(500),
            election_timeout_max: Duration::from_millis(1000),
            checkpoint_entries: 250_000,
            checkpoint_interval: Duration::from_secs(600),
            log_entries_kept: 200_000,
            log_bytes_kept: 4 << 30,
            snapshot_bytes_per_second: None,
            learner_lag_max: 1000,
            in_flight_max: 8192,
            ring_bytes: limits::DECODED_ENTRIES_BYTES / limits::GROUPS,
        }
    }
}

/// Settings that contradict each other.
#[derive(Debug, thiserror::Error)]
#[error("group settings are not usable")]
pub struct ConfigInvalid {
    /// Which ones.
    #[source]
    source: openraft::ConfigError,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What the library calls election timeouts, in milliseconds. It begins to count them only when a
/// lease is over that is as long as the longer of them: a follower campaigns after the lease and a
/// random time between the two. Reads do not rely on the lease (see `barrier`).
struct Timeouts {
    heartbeat_min_interval: u64,
    min: u64,
    lease_and_max: u64,
}

impl Timeouts {
    fn of(config: &GroupConfig) -> Self {
        let heartbeat = millis(config.heartbeat);
        let heartbeat_min_interval = heartbeat / 2;
        // The longest pause between two heartbeats of a leader that is well, with its timer's grain.
        let quiet = heartbeat + heartbeat_min_interval + heartbeat / 4 + 1;
        let lease_and_max = millis(config.election_timeout_max) / 2;
        let min = millis(config.election_timeout_min).saturating_sub(lease_and_max);
        Self {
            heartbeat_min_interval,
            min: min.max(quiet),
            lease_and_max,
        }
    }
}

impl GroupConfig {
    pub(crate) fn to_raft(&self, group: GroupId) -> Result<Config, ConfigInvalid> {
        let timeouts = Timeouts::of(self);
        let config = Config {
            cluster_name: format!("group-{group}"),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: timeouts.min,
            election_timeout_max: timeouts.lease_and_max,
            heartbeat_min_interval: Some(timeouts.heartbeat_min_interval),
            enable_pre_vote: Some(true),
            // A leader that hears nobody falls silent now and then: followers that still hear it
            // would otherwise wait for it for ever.
            quorum_loss_probe_interval: Some(millis(self.election_timeout_max).saturating_mul(2)),
            max_payload_entries: 1024,
            // Gathering by waiting costs latency; the log's sync thread gathers while it syncs.
            api_batch_linger_ms: 0,
            // Checkpoints follow entries and time, which the library's policy cannot express.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: self.log_entries_kept,
            // Never give up on a follower for a checkpoint while its entries are still kept.
            replication_lag_threshold: self.log_entries_kept.saturating_mul(5) / 2,
            purge_batch_size: self.log_entries_kept.clamp(1, 10_000),
            state_machine_channel_size: Some(1024),
            // A restarted leader may have lost entries of its term that it had not synced, and
            // would number new ones like them. A new term keeps every entry id unique, and makes
            // commands decided before the restart refusable.
            enable_leader_restore: Some(false),
            // Until the node may take part: see `going`.
            enable_elect: false,
            ..Config::default()
        };
        config.validate().map_err(|source| ConfigInvalid { source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_usable_and_contradictions_are_not() {
        let config = GroupConfig::default();
        let raft = config.to_raft(GroupId::CATALOG).unwrap();
        assert_eq!(raft.replication_lag_threshold, 500_000);
        assert_eq!(raft.purge_batch_size, 10_000);
        let slow = GroupConfig {
            heartbeat: Duration::from_secs(5),
            ..config
        };
        assert!(slow.to_raft(GroupId::CATALOG).is_err());
    }

    #[test]
    fn the_shortest_timing_that_settings_allow_is_usable() {
        let heartbeat = Duration::from_millis(100);
        let config = GroupConfig {
            heartbeat,
            election_timeout_min: heartbeat * 3,
            election_timeout_max: heartbeat * 9 / 2,
            ..GroupConfig::default()
        };
        config.to_raft(GroupId::CATALOG).unwrap();
    }
}
