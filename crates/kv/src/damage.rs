//! How often rows could not be read because their bytes are not what was written.

use crate::KvError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Reads of one store that met damage; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Damage(Arc<AtomicU64>);

impl Damage {
    /// How many reads have met damage since the store was opened.
    #[must_use]
    pub fn met(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn note<T>(&self, read: Result<T, rocksdb::Error>) -> Result<T, KvError> {
        let read = read.map_err(KvError::from);
        if let Err(KvError::Corrupt(_)) = &read {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        read
    }
}
