//! What a disk keeps free for whatever must still be written there.

use std::fmt;
use std::sync::Arc;

type Check = dyn Fn() -> Result<(), String> + Send + Sync;

/// Asked before something is taken from another node: a copy of a chunk, entries of a log, a snapshot.
/// Clones ask the same. By default there is always room.
#[derive(Clone, Default)]
pub struct Reserve(Option<Arc<Check>>);

impl Reserve {
    /// `check` says why there is no room. It is called where the work is taken, so it has to be quick.
    pub fn new(check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(check)))
    }

    /// Whether there is room.
    ///
    /// # Errors
    /// Why there is none.
    pub fn check(&self) -> Result<(), String> {
        self.0.as_ref().map_or(Ok(()), |check| check())
    }
}

impl fmt::Debug for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserve").finish_non_exhaustive()
    }
}
