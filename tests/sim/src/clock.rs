//! A machine's clocks: the simulation's time, and whatever a jump has added to the wall clock.

use floeberg_env::Clock;
use floeberg_types::TimestampMs;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Where simulated time starts: 2026-01-01T00:00:00Z.
const EPOCH_MS: i64 = 1_767_225_600_000;

/// The clock of one machine, across all lives of its node.
#[derive(Clone)]
pub(crate) struct MachineClock {
    started: Instant,
    skew_ms: Arc<AtomicI64>,
    /// Where monotonic time stands still.
    stopped: Arc<Mutex<Option<Duration>>>,
}

impl MachineClock {
    /// Reads the epoch at `started`.
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            started,
            skew_ms: Arc::default(),
            stopped: Arc::default(),
        }
    }

    /// Steps wall time; monotonic time is unaffected.
    pub(crate) fn jump(&self, delta_ms: i64) {
        self.skew_ms.fetch_add(delta_ms, Ordering::Relaxed);
    }

    /// Monotonic time stands still, until it is let go; wall time does not.
    pub(crate) fn stop(&self, stops: bool) {
        *self.stopped.lock() = stops.then(|| self.started.elapsed());
    }
}

impl Clock for MachineClock {
    fn now(&self) -> TimestampMs {
        let ms = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        TimestampMs(EPOCH_MS)
            .plus_ms(ms)
            .plus_ms(self.skew_ms.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.stopped
            .lock()
            .unwrap_or_else(|| self.started.elapsed())
    }
}
