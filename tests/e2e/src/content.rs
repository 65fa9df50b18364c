//! Bodies of objects: random bytes that are made again from a few numbers.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

/// What an object contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Content {
    /// Decides every byte.
    pub seed: u64,
    /// Length in bytes.
    pub len: usize,
}

impl Content {
    /// New bytes of a length from one of the size classes that are stored differently.
    pub fn random(rng: &mut StdRng) -> Self {
        let len = match rng.random_range(0..10) {
            0 => 0,
            1..=4 => rng.random_range(1..=16 * 1024),
            // Around the limit up to which objects are kept inline.
            5 => 16 * 1024 - 1 + rng.random_range(0..3),
            6..=8 => rng.random_range(16 * 1024..300 * 1024),
            _ => rng.random_range(300 * 1024..2 * 1024 * 1024),
        };
        Self::of_len(rng, len)
    }

    /// New bytes of a given length.
    pub fn of_len(rng: &mut StdRng, len: usize) -> Self {
        Self {
            seed: rng.random(),
            len,
        }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(self) -> Bytes {
        let mut bytes = vec![0; self.len];
        StdRng::seed_from_u64(self.seed).fill_bytes(&mut bytes);
        bytes.into()
    }
}
