//! Whether the disk has room for what a request writes.
//!
//! The log and the rows share the disk with the data. A store that cannot write ends the process, so
//! changes are refused while there still is room for what is on its way, and deletes a little later.

use floeberg_auth::Effect;
use std::fmt;
use std::sync::Arc;

/// There is too little room for a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// The disk of this node is too full.
    #[error(
        "the disk is nearly full: {} MiB are free and the node keeps {} MiB for its log; delete what is \
         not needed or give the data directory a larger disk, then send the request again",
        free_bytes >> 20,
        reserve_bytes >> 20
    )]
    Here {
        /// Bytes that are free.
        free_bytes: u64,
        /// Bytes that the change may not take.
        reserve_bytes: u64,
    },
    /// What a majority has to store has no room on a majority.
    #[error(
        "the disks of nodes {nodes} are nearly full, and the others are too few to store a change; delete \
         what is not needed or give these nodes larger disks, then send the request again"
    )]
    TooFew {
        /// Their ids.
        nodes: String,
    },
}

type Check = Arc<dyn Fn() -> Result<(), NoRoom> + Send + Sync>;

/// Asked before every request that writes.
#[derive(Clone)]
pub struct Room {
    changes: Check,
    deletes: Check,
}

impl Room {
    /// Asks `changes` before each change that needs room, and `deletes` before each that frees some.
    pub fn new(
        changes: impl Fn() -> Result<(), NoRoom> + Send + Sync + 'static,
        deletes: impl Fn() -> Result<(), NoRoom> + Send + Sync + 'static,
    ) -> Self {
        Self {
            changes: Arc::new(changes),
            deletes: Arc::new(deletes),
        }
    }

    /// Room without end.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(|| Ok(()), || Ok(()))
    }

    /// Whether a change that needs room may be made.
    ///
    /// # Errors
    /// The disk is too full.
    pub fn check(&self) -> Result<(), NoRoom> {
        (self.changes)()
    }

    /// Whether a request with this effect may go on.
    ///
    /// # Errors
    /// The disk is too full for it.
    pub fn admit(&self, effect: Effect) -> Result<(), NoRoom> {
        match effect {
            Effect::Needs => self.check(),
            Effect::Frees => (self.deletes)(),
            Effect::Reads => Ok(()),
        }
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Room").field(&self.check()).finish()
    }
}
