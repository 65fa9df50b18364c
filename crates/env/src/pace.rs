//! What a simulation takes for the time that threads take: until one sees what another has left for
//! it, and until blocking work has begun and ended.
//!
//! On a machine nobody waits for that on purpose: a channel wakes a task on another runtime whenever
//! that has time for it. In a simulation everything else would happen in between exactly never.

use crate::Rng;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Sleep;

/// Draws such times; by default none.
#[derive(Clone, Default)]
pub(crate) struct Pace(Option<Arc<dyn Rng>>);

impl Pace {
    pub(crate) fn drawn(rng: Arc<dyn Rng>) -> Self {
        Self(Some(rng))
    }

    pub(crate) fn crossing(&self) -> Crossing {
        let takes = self.0.as_deref().map_or(Duration::ZERO, draw);
        Crossing((!takes.is_zero()).then(|| Box::pin(tokio::time::sleep(takes))))
    }
}

/// Mostly none, as when a thread is idle; at times as long as one that is busy.
fn draw(rng: &dyn Rng) -> Duration {
    Duration::from_millis(match rng.below(64) {
        0 => 1 + rng.below(40),
        1..=8 => 1 + rng.below(3),
        _ => 0,
    })
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pace").field(&self.0.is_some()).finish()
    }
}

/// One such time.
#[derive(Debug)]
#[must_use = "it passes only while it is awaited"]
pub struct Crossing(Option<Pin<Box<Sleep>>>);

impl Future for Crossing {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.0 {
            ready!(sleep.as_mut().poll(cx));
            self.0 = None;
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{SeededRng, Tasks};
    use std::sync::Arc;
    use tokio::time::Instant;

    async fn took(tasks: &Tasks) -> Vec<u128> {
        let mut all = Vec::new();
        for _ in 0..500 {
            let begun = Instant::now();
            tasks.crossing().await;
            let done = tasks.spawn_blocking("work", || 7).await;
            assert_eq!(done.expect("joined"), 7);
            all.push(begun.elapsed().as_millis());
        }
        all
    }

    #[tokio::test(start_paused = true)]
    async fn crossings_take_what_the_seed_says_and_nothing_without_one() {
        let paced = |seed| Tasks::simulated().paced(Arc::new(SeededRng::new(seed)));
        let first = took(&paced(1)).await;
        assert!(first.contains(&0) && first.iter().any(|ms| *ms > 3));
        assert_eq!(took(&paced(1)).await, first);
        assert_ne!(took(&paced(2)).await, first);
        assert_eq!(took(&Tasks::simulated()).await, vec![0; 500]);
    }
}
