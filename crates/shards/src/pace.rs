//! How fast repairs may copy.

use tokio::sync::Mutex;
use tokio::time::{Duration, Instant, sleep_until};

/// Lets bytes through at a rate; whoever comes too early waits.
pub(crate) struct Pace {
    bytes_per_second: u64,
    /// When everything let through so far is paid for.
    paid: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            paid: Mutex::new(None),
        }
    }

    /// Returns when `bytes` more may be copied.
    pub(crate) async fn admit(&self, bytes: usize) {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let start = {
            let mut paid = self.paid.lock().await;
            let now = Instant::now();
            let start = paid.map_or(now, |at| at.max(now));
            *paid = Some(start + cost);
            start
        };
        sleep_until(start).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_take_their_time() {
        let pace = Pace::new(1000);
        let begun = Instant::now();
        for _ in 0..10 {
            pace.admit(500).await;
        }
        assert_eq!(begun.elapsed().as_millis(), 4500);
    }
}
