//! Persistent ordered collections of document parts: cheap clones, running byte counts.

use std::borrow::Borrow;
use std::sync::Arc;

use imbl::OrdMap;

/// Something that is one part of a document.
pub(crate) trait Fragment: Clone {
    /// The text of the part.
    fn json(&self) -> &Arc<str>;
}

/// A fragment that is found by a key, unique in its section.
pub(crate) trait Keyed: Fragment {
    type Key: Ord + Clone;
    fn key(&self) -> Self::Key;
}

impl<T: Fragment> Fragment for Arc<T> {
    fn json(&self) -> &Arc<str> {
        self.as_ref().json()
    }
}

impl<T: Keyed> Keyed for Arc<T> {
    type Key = T::Key;
    fn key(&self) -> T::Key {
        self.as_ref().key()
    }
}

/// Parts in ordinal order. A new part goes behind the highest live ordinal, so the state depends
/// only on the parts that are there and not on the history of removals.
#[derive(Clone)]
pub(crate) struct Sequence<T: Fragment> {
    items: OrdMap<u64, T>,
    bytes: u64,
}

impl<T: Fragment> Default for Sequence<T> {
    fn default() -> Self {
        Self {
            items: OrdMap::new(),
            bytes: 0,
        }
    }
}

impl<T: Fragment> Sequence<T> {
    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Total length of the parts' text.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn get(&self, ordinal: u64) -> Option<&T> {
        self.items.get(&ordinal)
    }

    pub fn first(&self) -> Option<(u64, &T)> {
        self.items.get_min().map(|(ordinal, item)| (*ordinal, item))
    }

    pub fn last(&self) -> Option<(u64, &T)> {
        self.items.get_max().map(|(ordinal, item)| (*ordinal, item))
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.items.iter().map(|(ordinal, item)| (*ordinal, item))
    }

    pub fn push(&mut self, item: T) -> u64 {
        let ordinal = self.items.get_max().map_or(0, |(last, _)| last + 1);
        self.put(ordinal, item);
        ordinal
    }

    pub fn put(&mut self, ordinal: u64, item: T) {
        self.bytes += item.json().len() as u64;
        if let Some(old) = self.items.insert(ordinal, item) {
            self.bytes -= old.json().len() as u64;
        }
    }

    pub fn remove(&mut self, ordinal: u64) -> Option<T> {
        let old = self.items.remove(&ordinal)?;
        self.bytes -= old.json().len() as u64;
        Some(old)
    }
}

/// A [`Sequence`] with an index by key.
#[derive(Clone)]
pub(crate) struct Index<T: Keyed> {
    sequence: Sequence<T>,
    ordinals: OrdMap<T::Key, u64>,
}

impl<T: Keyed> Default for Index<T> {
    fn default() -> Self {
        Self {
            sequence: Sequence::default(),
            ordinals: OrdMap::new(),
        }
    }
}

impl<T: Keyed> Index<T> {
    pub fn sequence(&self) -> &Sequence<T> {
        &self.sequence
    }

    pub fn len(&self) -> usize {
        self.sequence.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sequence.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.sequence.iter().map(|(_, item)| item)
    }

    /// The highest key.
    pub fn last_key(&self) -> Option<T::Key> {
        self.ordinals.get_max().map(|(key, _)| key.clone())
    }

    pub fn ordinal<Q: Ord + ?Sized>(&self, key: &Q) -> Option<u64>
    where
        T::Key: Borrow<Q>,
    {
        self.ordinals.get(key).copied()
    }

    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&T>
    where
        T::Key: Borrow<Q>,
    {
        self.sequence.get(self.ordinal(key)?)
    }

    pub fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        T::Key: Borrow<Q>,
    {
        self.ordinals.contains_key(key)
    }

    /// Puts an item at its key's ordinal, or behind the last one; returns the ordinal.
    pub fn upsert(&mut self, item: T) -> u64 {
        let key = item.key();
        match self.ordinals.get(&key).copied() {
            Some(ordinal) => {
                self.sequence.put(ordinal, item);
                ordinal
            }
            None => {
                let ordinal = self.sequence.push(item);
                self.ordinals.insert(key, ordinal);
                ordinal
            }
        }
    }

    /// Puts an item of a new key at a given ordinal; false when key or ordinal is taken.
    #[must_use]
    pub fn place(&mut self, ordinal: u64, item: T) -> bool {
        let key = item.key();
        if self.sequence.get(ordinal).is_some() || self.ordinals.contains_key(&key) {
            return false;
        }
        self.sequence.put(ordinal, item);
        self.ordinals.insert(key, ordinal);
        true
    }

    /// Removes the item at an ordinal, if there is one.
    pub fn remove_at(&mut self, ordinal: u64) {
        if let Some(item) = self.sequence.remove(ordinal) {
            self.ordinals.remove(&item.key());
        }
    }

    /// Removes the item of a key; returns its ordinal.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<u64>
    where
        T::Key: Borrow<Q>,
    {
        let ordinal = self.ordinals.remove(key)?;
        self.sequence.remove(ordinal);
        Some(ordinal)
    }
}
