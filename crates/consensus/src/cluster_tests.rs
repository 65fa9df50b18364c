//! Groups of several nodes under faults, in virtual time.

mod durability;
mod elections;
mod full;
mod membership;
mod reads;
mod snapshots;
mod survivor;

use crate::GroupConfig;

/// Small enough to see purges and snapshots in a test.
fn small() -> GroupConfig {
    GroupConfig {
        checkpoint_entries: 20,
        log_entries_kept: 10,
        learner_lag_max: 5,
        ..GroupConfig::default()
    }
}
