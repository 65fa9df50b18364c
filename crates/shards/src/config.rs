//! Limits and patience of the replicated chunk store.

use std::time::Duration;

/// Limits and patience.
#[derive(Clone, Debug)]
pub struct ShardsConfig {
    /// How long a peer may take to answer one call.
    pub patience: Duration,
    /// How often a piece is sent that gets no answer before its copy counts as failed.
    pub attempts: u32,
    /// Calls to one peer that are under way at a time; fewer than a peer serves, so that a busy
    /// node waits instead of being refused.
    pub calls_per_peer: usize,
    /// Pieces of 1 MiB that a copy may lag behind before it is given up; bounds a writer's memory.
    pub window: usize,
    /// How long a finished write waits for the copies that the ack rule does not need, so that most
    /// chunks owe nothing. A node that was late is not waited for as long as it is under suspicion.
    pub linger: Duration,
    /// Copies that may still be under way after their writers were answered.
    pub late_copies: usize,
    /// How long a read waits for a node before it asks a second one.
    pub hedge_after: Duration,
    /// Second reads per hundred pieces read.
    pub hedge_percent: u32,
    /// How long a node that failed or was late is not waited for if others suffice.
    pub suspicion: Duration,
    /// Bytes per second that repairs copy.
    pub repair_bytes_per_second: u64,
    /// Writes of other nodes that may be open on this one; each may hold 2 MiB.
    pub staged_writes: usize,
    /// How long an open write of another node may be silent before it is dropped.
    pub staged_silence: Duration,
}

impl Default for ShardsConfig {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(5),
            attempts: 3,
            calls_per_peer: 48,
            window: 16,
            linger: Duration::from_millis(3),
            late_copies: 32,
            hedge_after: Duration::from_millis(20),
            hedge_percent: 5,
            suspicion: Duration::from_secs(2),
            repair_bytes_per_second: 64 << 20,
            staged_writes: 128,
            staged_silence: Duration::from_secs(30),
        }
    }
}
