//! Whether the disk has room for what other nodes send.
//!
//! A log that cannot write stops for good. So a node says no before that happens: the leader goes on with
//! the others, asks again after its pause, and the node catches up once there is room.

use std::fmt;
use std::sync::Arc;

type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Asked before entries and snapshots of other nodes are taken; clones ask the same. By default there
/// always is room.
#[derive(Clone, Default)]
pub struct LogRoom(Option<Check>);

impl LogRoom {
    /// `check` says why there is no room; it is called for every append with entries, where consensus runs.
    #[must_use]
    pub fn new(check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(check)))
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        self.0.as_ref().map_or(Ok(()), |check| check())
    }
}

impl fmt::Debug for LogRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogRoom").field(&self.check()).finish()
    }
}
