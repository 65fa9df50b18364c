//! Slows whoever tries one wrong secret after the other.
//!
//! Only the answers that say no are held back, so a client with the right secret never waits, not even
//! behind one address with a guesser.

use crate::limits::{GUESS_DELAY_MAX, GUESS_MEMORY, GUESSERS_MAX, GUESSES_FREE};
use crate::{Network, Peer};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Wrong secrets by network; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Guesses(Arc<Mutex<HashMap<Network, Tally>>>);

#[derive(Clone, Copy, Debug)]
struct Tally {
    wrong: u32,
    last: Instant,
}

impl Guesses {
    /// Counts a wrong secret of `peer`, and holds its answer back if there were many.
    pub async fn slow(&self, peer: Peer) {
        // Callers in this process are no guessers.
        if peer == Peer::INSIDE {
            return;
        }
        let delay = self.count(peer.network, Instant::now());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    fn count(&self, network: Network, now: Instant) -> Duration {
        let mut tallies = self.0.lock();
        if tallies.len() >= GUESSERS_MAX && !tallies.contains_key(&network) {
            tallies.retain(|_, tally| now.duration_since(tally.last) < GUESS_MEMORY);
            // All of them at work at once: forgetting lets them guess a little faster, no more.
            if tallies.len() >= GUESSERS_MAX {
                tallies.clear();
            }
        }
        let tally = tallies.entry(network).or_insert(Tally {
            wrong: 0,
            last: now,
        });
        if now.duration_since(tally.last) >= GUESS_MEMORY {
            tally.wrong = 0;
        }
        tally.wrong = tally.wrong.saturating_add(1);
        tally.last = now;
        let beyond = tally.wrong.saturating_sub(GUESSES_FREE);
        (Duration::from_millis(100) * beyond).min(GUESS_DELAY_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn network(number: u32) -> Network {
        Network::of(IpAddr::V4(Ipv4Addr::from(number)))
    }

    #[tokio::test(start_paused = true)]
    async fn many_wrong_secrets_are_slowed_and_forgotten() {
        let guesses = Guesses::default();
        let now = Instant::now();
        for _ in 0..GUESSES_FREE {
            assert_eq!(guesses.count(network(1), now), Duration::ZERO);
        }
        assert_eq!(guesses.count(network(1), now), Duration::from_millis(100));
        for _ in 0..100 {
            guesses.count(network(1), now);
        }
        assert_eq!(guesses.count(network(1), now), GUESS_DELAY_MAX);
        assert_eq!(guesses.count(network(2), now), Duration::ZERO);
        let later = now + GUESS_MEMORY;
        assert_eq!(guesses.count(network(1), later), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        for number in 0..3 * GUESSERS_MAX {
            guesses.count(network(u32::try_from(number).unwrap()), now);
            assert!(guesses.0.lock().len() <= GUESSERS_MAX);
        }
    }
}
