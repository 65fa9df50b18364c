//! What this node remembers of its peers' behaviour, and the budget of second reads.

use floeberg_env::Env;
use floeberg_types::NodeId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    /// Monotonic time until which the node is left aside.
    suspect_until: Duration,
    /// Monotonic time until which it is not waited for, because its copy was late.
    tardy_until: Duration,
}

/// Recent behaviour of nodes.
pub(crate) struct Health {
    env: Env,
    suspicion: Duration,
    nodes: Mutex<HashMap<NodeId, Memory>>,
    /// Hundredths of second reads that may still be made.
    hedges: Mutex<u32>,
    hedge_percent: u32,
}

/// Second reads that may be saved up, in hundredths.
const HEDGES_SAVED: u32 = 1000;

impl Health {
    pub(crate) fn new(env: Env, suspicion: Duration, hedge_percent: u32) -> Self {
        Self {
            env,
            suspicion,
            nodes: Mutex::default(),
            hedges: Mutex::new(HEDGES_SAVED),
            hedge_percent,
        }
    }

    pub(crate) fn is_suspect(&self, node: NodeId) -> bool {
        let now = self.env.clock.monotonic();
        let nodes = self.nodes.lock();
        nodes.get(&node).is_some_and(|m| m.suspect_until > now)
    }

    pub(crate) fn failed(&self, node: NodeId) {
        let until = self.env.clock.monotonic() + self.suspicion;
        self.nodes.lock().entry(node).or_default().suspect_until = until;
    }

    pub(crate) fn answered(&self, node: NodeId) {
        if let Some(memory) = self.nodes.lock().get_mut(&node) {
            memory.suspect_until = Duration::ZERO;
        }
    }

    pub(crate) fn is_tardy(&self, node: NodeId) -> bool {
        let now = self.env.clock.monotonic();
        let nodes = self.nodes.lock();
        nodes.get(&node).is_some_and(|m| m.tardy_until > now)
    }

    pub(crate) fn was_late(&self, node: NodeId) {
        let until = self.env.clock.monotonic() + self.suspicion;
        self.nodes.lock().entry(node).or_default().tardy_until = until;
    }

    pub(crate) fn was_in_time(&self, node: NodeId) {
        if let Some(memory) = self.nodes.lock().get_mut(&node) {
            memory.tardy_until = Duration::ZERO;
        }
    }

    /// Every piece read earns a part of a second read.
    pub(crate) fn earn_hedge(&self) {
        let mut hedges = self.hedges.lock();
        *hedges = (*hedges + self.hedge_percent).min(HEDGES_SAVED);
    }

    /// Whether a second read may be made now; it is paid for then.
    pub(crate) fn spend_hedge(&self) -> bool {
        let mut hedges = self.hedges.lock();
        let left = hedges.checked_sub(100);
        *hedges = left.unwrap_or(*hedges);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn suspicion_ends_with_time_or_an_answer() {
        let (env, _) = Env::simulated(1);
        let health = Health::new(env, Duration::from_secs(2), 5);
        let (one, two) = (NodeId(1), NodeId(2));
        health.failed(one);
        health.failed(two);
        health.answered(two);
        assert!(health.is_suspect(one) && !health.is_suspect(two));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!health.is_suspect(one));
    }

    #[tokio::test]
    async fn second_reads_are_a_share_of_all_reads() {
        let (env, _) = Env::simulated(1);
        let health = Health::new(env, Duration::ZERO, 5);
        let spent = |times: usize| (0..times).filter(|_| health.spend_hedge()).count();
        assert_eq!(spent(100), 10, "what is saved at the start");
        for _ in 0..100 {
            health.earn_hedge();
        }
        assert_eq!(spent(100), 5);
    }
}
