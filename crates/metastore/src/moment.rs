//! The rows of one moment, which readers and decisions see: published after every run of entries.
//!
//! A moment says itself how far it has come, by the applied row among its rows. So nothing has to be
//! kept in step with anything else, and nobody who reads holds up what is applied.

use bytes::Bytes;
use floeberg_kv::{Kv, KvRead, Snapshot};
use floeberg_state::{Applied, AppliedRowError, Identity, View, ViewError};
use parking_lot::RwLock;
use std::sync::Arc;

/// Stored rows, as `state` looks at them.
pub(crate) struct KvView<'a, R: KvRead + ?Sized>(pub(crate) &'a R);

impl<R: KvRead + ?Sized> View for KvView<'_, R> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        self.0.get(key).map_err(|error| ViewError(Box::new(error)))
    }

    fn first_key(&self, start: &[u8], end: &[u8]) -> Result<Option<Bytes>, ViewError> {
        if start >= end {
            return Ok(None);
        }
        match self.0.scan(start, Some(end)).next() {
            Some(Ok((key, _))) => Ok(Some(key)),
            Some(Err(error)) => Err(ViewError(Box::new(error))),
            None => Ok(None),
        }
    }
}

/// All rows as of one moment, and how far they have come.
pub(crate) struct Moment {
    pub(crate) rows: Snapshot,
    pub(crate) applied: Applied,
    /// Whoever waits until nobody has the store open waits for its readers, too.
    _open: Arc<dyn Kv>,
}

impl Moment {
    /// The rows as they are now.
    pub(crate) fn take(kv: &Arc<dyn Kv>, identity: Identity) -> Result<Arc<Self>, AppliedRowError> {
        let rows = kv.snapshot().map_err(|error| ViewError(Box::new(error)))?;
        let applied = Applied::load(&KvView(&*rows), identity)?;
        let _open = Arc::clone(kv);
        Ok(Arc::new(Self {
            rows,
            applied,
            _open,
        }))
    }

    /// Index of the last entry that is in it; 0 in a new group.
    pub(crate) fn index(&self) -> u64 {
        self.applied.last.map_or(0, |last| last.index)
    }
}

/// The newest moment.
pub(crate) struct Newest(RwLock<Arc<Moment>>);

impl Newest {
    pub(crate) fn new(moment: Arc<Moment>) -> Self {
        Self(RwLock::new(moment))
    }

    /// Held for the length of a copy.
    pub(crate) fn get(&self) -> Arc<Moment> {
        Arc::clone(&self.0.read())
    }

    pub(crate) fn publish(&self, moment: Arc<Moment>) {
        let before = std::mem::replace(&mut *self.0.write(), moment);
        // The last one to let go of a replaced database closes it; not under the lock.
        drop(before);
    }
}
