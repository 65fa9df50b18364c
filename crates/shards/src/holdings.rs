//! Whether this node's volume still has all that it acknowledged.
//!
//! A volume that was put back to an older copy lacks chunks without knowing which. As long as it is
//! doubted, a chunk that is not in it counts as damaged there, never as absent: absence would let others
//! take the chunk for deleted.

use crate::stat::CopyState;
use crate::wire::Fault;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is said of a chunk that may have been lost.
const PERHAPS_LOST: &str = "it is not in the volume, which was put back to an older copy";

/// What is thought of this node's volume; clones are the same. It is trusted at first.
#[derive(Clone, Debug, Default)]
pub struct Holdings(Arc<AtomicBool>);

impl Holdings {
    /// The volume lacks something that it acknowledged.
    pub fn doubt(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// It has everything again.
    pub fn trust(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// Whether it may lack what it acknowledged.
    #[must_use]
    pub fn are_doubted(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn fault(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Absent if self.are_doubted() => Fault::Damaged(PERHAPS_LOST.to_owned()),
            other => other,
        }
    }

    pub(crate) fn state(&self, state: CopyState) -> CopyState {
        match state {
            CopyState::Absent if self.are_doubted() => CopyState::Damaged,
            other => other,
        }
    }
}
