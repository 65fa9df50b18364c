//! Random bytes, from the operating system or from a seed.

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng, TryRngCore};

/// A source of random bytes.
pub trait Rng: Send + Sync {
    /// Fills `buf` with random bytes.
    fn fill(&self, buf: &mut [u8]);
}

impl dyn Rng + '_ {
    /// A uniformly random integer.
    pub fn next_u64(&self) -> u64 {
        let mut buf = [0; 8];
        self.fill(&mut buf);
        u64::from_le_bytes(buf)
    }

    /// A random 128-bit id.
    pub fn id128(&self) -> [u8; 16] {
        let mut id = [0; 16];
        self.fill(&mut id);
        id
    }

    /// An integer in `0..bound`; 0 if `bound` is 0. The bias is below 2^-32 for bounds below 2^32.
    pub fn below(&self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }
}

/// The operating system's cryptographic source.
#[derive(Clone, Copy, Debug)]
pub struct OsRng;

impl Rng for OsRng {
    fn fill(&self, buf: &mut [u8]) {
        rand::rngs::OsRng
            .try_fill_bytes(buf)
            .expect("the kernel's random source is available");
    }
}

/// A reproducible stream of bytes; the simulator's source, never a real node's.
#[derive(Debug)]
pub struct SeededRng {
    stream: Mutex<StdRng>,
}

impl SeededRng {
    /// The stream that belongs to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            stream: Mutex::new(StdRng::seed_from_u64(seed)),
        }
    }
}

impl Rng for SeededRng {
    fn fill(&self, buf: &mut [u8]) {
        self.stream.lock().fill_bytes(buf);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_streams() {
        let draw = |seed| {
            let rng = SeededRng::new(seed);
            let rng: &dyn Rng = &rng;
            (rng.next_u64(), rng.id128(), rng.below(10))
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7).1, draw(8).1);
    }

    #[test]
    fn bounds_hold() {
        let rng: &dyn Rng = &OsRng;
        assert_eq!(rng.below(0), 0);
        assert!((0..100).all(|_| rng.below(3) < 3));
        assert_ne!(rng.id128(), rng.id128());
    }
}
