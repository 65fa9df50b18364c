//! What both client ports of a node share to keep clients from each other's throats.

use crate::{ByteBudget, Exhausted, Guesses, Peer, SHARE_PATIENCE, Shares};
use bytes::Bytes;
use floeberg_types::limits::{
    ANSWER_UNCOUNTED_BYTES, ANSWERS_HELD_BYTES, BODIES_HELD_BYTES, BODY_COPIES, BODY_VALUES,
    VALUE_BYTES,
};

/// Answers that wait for room, each already made: the next ones are given up at once.
const ANSWERS_WAITING: usize = 16;

/// Memory for bodies, and who was wrong about secrets; clones share both.
#[derive(Clone, Debug)]
pub struct Door {
    /// Bytes of bodies that are held in memory.
    pub bodies: ByteBudget,
    /// Bytes of answers that are held until clients have read them, but for documents of tables.
    pub answers: ByteBudget,
    /// Wrong secrets.
    pub guesses: Guesses,
}

impl Door {
    /// For bodies of at most `body_max` bytes.
    #[must_use]
    pub fn new(body_max: usize) -> Self {
        Self {
            bodies: ByteBudget::new(shares(body_max)),
            answers: ByteBudget::new(Shares {
                waiters: ANSWERS_WAITING,
                ..Shares::of(ANSWERS_HELD_BYTES as u64, ANSWERS_HELD_BYTES as u64 / 3)
            }),
            guesses: Guesses::default(),
        }
    }
}

impl Door {
    /// What bounds the memory of bodies and answers, by name.
    #[must_use]
    pub fn budgets(&self) -> [(&'static str, ByteBudget); 2] {
        [
            ("bodies", self.bodies.clone()),
            ("answers", self.answers.clone()),
        ]
    }

    /// Counts the body of an answer as held by `caller` until the last of its bytes is dropped. A small one
    /// is not counted, and one that is larger than a share counts as one.
    ///
    /// # Errors
    /// Others hold what there is, and do not give it back in time.
    pub async fn count(&self, caller: Peer, bytes: Bytes) -> Result<Bytes, Exhausted> {
        if bytes.len() <= ANSWER_UNCOUNTED_BYTES {
            return Ok(bytes);
        }
        let share = (bytes.len() as u64).min(self.answers.shares().connection);
        let held = self.answers.hold(caller, share, SHARE_PATIENCE).await?;
        Ok(held.of_bytes(bytes))
    }
}

/// For bodies and what becomes of them: two of the largest, of which one network has not more than
/// half, and a reserve.
fn shares(body_max: usize) -> Shares {
    let largest = (BODY_COPIES * body_max + BODY_VALUES * VALUE_BYTES) as u64;
    let total = (BODIES_HELD_BYTES as u64).max(largest.saturating_mul(2));
    Shares::of(total, largest)
}
