//! What both client ports of a node share to keep clients from each other's throats.

use crate::{ByteBudget, Guesses, Shares};

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
            bodies: ByteBudget::new(Shares::for_bodies(body_max)),
            guesses: Guesses::default(),
        }
    }
}
