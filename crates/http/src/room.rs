//! Whether the disk has room for what a change writes.
//!
//! The log and the rows share the disk with the data. A store that cannot write ends the process, so
//! changes are refused while there still is room for what is on its way.

use std::fmt;
use std::sync::Arc;

/// The disk is too full for changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk is nearly full: {} MiB are free and the node keeps {} MiB for its log; delete what is \
     not needed or give the data directory a larger disk, then send the request again",
    free_bytes >> 20,
    reserve_bytes >> 20
)]
pub struct NoRoom {
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes that changes may not take.
    pub reserve_bytes: u64,
}

/// Asked before every change that does not free space.
#[derive(Clone)]
pub struct Room(Arc<dyn Fn() -> Result<(), NoRoom> + Send + Sync>);

impl Room {
    /// Asks `check` each time.
    pub fn new(check: impl Fn() -> Result<(), NoRoom> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }

    /// Room without end.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(|| Ok(()))
    }

    /// Whether a change may be made.
    ///
    /// # Errors
    /// The disk is too full.
    pub fn check(&self) -> Result<(), NoRoom> {
        (self.0)()
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Room").field(&self.check()).finish()
    }
}
