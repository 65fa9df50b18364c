//! Simulated wall time that goes on across crashes: a base plus the current runtime's paused time.

use floeberg_env::Clock;
use floeberg_types::TimestampMs;
use std::time::Duration;

/// Where simulated time starts: 2026-01-01T00:00:00Z.
const EPOCH_MS: i64 = 1_767_225_600_000;

/// The clock of one incarnation of the node. Make it inside that incarnation's runtime.
pub(crate) struct IncarnationClock {
    before: Duration,
    started: tokio::time::Instant,
}

impl IncarnationClock {
    /// Goes on from `before`, the simulated time that earlier incarnations have used up.
    pub(crate) fn starting_at(before: Duration) -> Self {
        Self {
            before,
            started: tokio::time::Instant::now(),
        }
    }
}

impl Clock for IncarnationClock {
    fn now(&self) -> TimestampMs {
        let ms = i64::try_from(self.monotonic().as_millis()).unwrap_or(i64::MAX);
        TimestampMs(EPOCH_MS).plus_ms(ms)
    }

    fn monotonic(&self) -> Duration {
        self.before + self.started.elapsed()
    }
}
