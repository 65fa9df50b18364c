//! What apply reads from and writes to: a view of rows, and changes laid over it.

use crate::keys::successor;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;

/// The store below a view could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the state could not be read: {0}")]
pub struct ViewError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Rows as they are before a command.
pub trait View {
    /// The stored value under `key`, header included.
    ///
    /// # Errors
    /// The store failed.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ViewError>;

    /// The first key in `[start, end)`.
    ///
    /// # Errors
    /// The store failed.
    fn first_key(&self, start: &[u8], end: &[u8]) -> Result<Option<Bytes>, ViewError>;
}

/// Changes to rows, at most one per key: stored value, or deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    changes: BTreeMap<Bytes, Option<Bytes>>,
}

impl Batch {
    /// Stores `value` (with its header) under `key`.
    pub fn put(&mut self, key: Bytes, value: Bytes) {
        self.changes.insert(key, Some(value));
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: Bytes) {
        self.changes.insert(key, None);
    }

    /// What this batch makes of `key`; `None` if it leaves it alone.
    #[must_use]
    pub fn change(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        self.changes.get(key)
    }

    /// Number of keys changed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Adds the changes of a later batch.
    pub fn extend(&mut self, later: Self) {
        self.changes.extend(later.changes);
    }
}

impl IntoIterator for Batch {
    type Item = (Bytes, Option<Bytes>);
    type IntoIter = std::collections::btree_map::IntoIter<Bytes, Option<Bytes>>;

    /// Keys in order, with the value to store or `None` to delete.
    fn into_iter(self) -> Self::IntoIter {
        self.changes.into_iter()
    }
}

/// A view with the changes of commands that are applied but not yet written.
pub struct Overlay<'a> {
    base: &'a dyn View,
    changes: Batch,
}

impl<'a> Overlay<'a> {
    /// Nothing changed yet.
    #[must_use]
    pub fn new(base: &'a dyn View) -> Self {
        Self {
            base,
            changes: Batch::default(),
        }
    }

    /// Lays `batch` over everything so far.
    pub fn absorb(&mut self, batch: Batch) {
        self.changes.extend(batch);
    }

    /// All changes so far.
    #[must_use]
    pub fn into_changes(self) -> Batch {
        self.changes
    }

    /// The first key of the base in the range that is not deleted here.
    fn first_in_base(&self, start: &[u8], end: &[u8]) -> Result<Option<Bytes>, ViewError> {
        let mut from = Bytes::copy_from_slice(start);
        while let Some(key) = self.base.first_key(&from, end)? {
            if self.changes.change(&key) != Some(&None) {
                return Ok(Some(key));
            }
            from = successor(&key);
        }
        Ok(None)
    }
}

impl View for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        match self.changes.change(key) {
            Some(change) => Ok(change.clone()),
            None => self.base.get(key),
        }
    }

    fn first_key(&self, start: &[u8], end: &[u8]) -> Result<Option<Bytes>, ViewError> {
        if start >= end {
            return Ok(None);
        }
        let range = (Bound::Included(start), Bound::Excluded(end));
        let put = self
            .changes
            .changes
            .range::<[u8], _>(range)
            .find(|(_, value)| value.is_some());
        let put = put.map(|(key, _)| key.clone());
        let base = self.first_in_base(start, end)?;
        Ok(match (put, base) {
            (Some(put), Some(base)) => Some(put.min(base)),
            (put, base) => put.or(base),
        })
    }
}

impl View for BTreeMap<Bytes, Bytes> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        Ok(BTreeMap::get(self, key).cloned())
    }

    fn first_key(&self, start: &[u8], end: &[u8]) -> Result<Option<Bytes>, ViewError> {
        if start >= end {
            return Ok(None);
        }
        let range = (Bound::Included(start), Bound::Excluded(end));
        Ok(self
            .range::<[u8], _>(range)
            .next()
            .map(|(key, _)| key.clone()))
    }
}
