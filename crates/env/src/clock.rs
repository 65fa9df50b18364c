//! Wall time and monotonic time, real and simulated.

use floeberg_types::TimestampMs;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A source of time. Sleeping is not part of it: use `tokio::time`.
pub trait Clock: Send + Sync {
    /// Wall time; may step in either direction.
    fn now(&self) -> TimestampMs;
    /// Time since an arbitrary start; never decreases.
    fn monotonic(&self) -> Duration;
}

/// The clocks of the operating system.
#[derive(Debug)]
pub struct RealClock {
    started: std::time::Instant,
}

impl RealClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            started: std::time::Instant::now(),
        }
    }
}

impl Clock for RealClock {
    fn now(&self) -> TimestampMs {
        let ms = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            // A machine whose clock stands before 1970 still gets ordered timestamps.
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        };
        TimestampMs(ms)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Where simulated wall time starts: 2026-01-01T00:00:00Z.
const SIMULATED_EPOCH_MS: i64 = 1_767_225_600_000;

/// A fixed start plus tokio's time, so that a paused runtime also pauses the clock.
#[derive(Debug)]
pub struct SimClock {
    started: tokio::time::Instant,
    skew_ms: AtomicI64,
}

impl SimClock {
    /// A clock that reads the simulated epoch now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            started: tokio::time::Instant::now(),
            skew_ms: AtomicI64::new(0),
        }
    }

    /// Steps wall time by `delta_ms`; monotonic time is unaffected.
    pub fn jump(&self, delta_ms: i64) {
        self.skew_ms.fetch_add(delta_ms, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> TimestampMs {
        let elapsed = i64::try_from(self.monotonic().as_millis()).unwrap_or(i64::MAX);
        let skew = self.skew_ms.load(Ordering::Relaxed);
        TimestampMs(SIMULATED_EPOCH_MS)
            .plus_ms(elapsed)
            .plus_ms(skew)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_moves_wall_time_only() {
        let clock = SimClock::start();
        let before = clock.now();
        clock.jump(-3_600_000);
        assert!(clock.now() < before);
        clock.jump(7_200_000);
        assert!(clock.now().since_ms(before) >= 3_600_000);
        assert!(clock.monotonic() < Duration::from_secs(600));
    }

    #[test]
    fn real_time_is_after_the_simulated_epoch_began() {
        assert!(RealClock::start().now() > TimestampMs(1_700_000_000_000));
    }
}
