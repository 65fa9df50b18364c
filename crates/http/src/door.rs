//! What both client ports of a node share to keep clients from each other's throats.

use crate::{ByteBudget, Guesses, Shares};
use floeberg_types::limits::{BODIES_HELD_BYTES, BODY_VALUES, VALUE_BYTES};

/// Memory for bodies, and who was wrong about secrets; clones share both.
#[derive(Clone, Debug)]
pub struct Door {
    /// Bytes of bodies that are held in memory.
    pub bodies: ByteBudget,
    /// Wrong secrets.
    pub guesses: Guesses,
}

impl Door {
    /// For bodies of at most `body_max` bytes.
    #[must_use]
    pub fn new(body_max: usize) -> Self {
        Self {
            bodies: ByteBudget::new(shares(body_max)),
            guesses: Guesses::default(),
        }
    }
}

/// For bodies and what becomes of them: three of the largest, of which one network has not more than
/// half, and a reserve.
fn shares(body_max: usize) -> Shares {
    let largest = (body_max + BODY_VALUES * VALUE_BYTES) as u64;
    let total = (BODIES_HELD_BYTES as u64).max(largest.saturating_mul(3));
    Shares::of(total, largest)
}
