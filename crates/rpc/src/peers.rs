//! The address book of a node: where the others are, and which were removed.

use crate::{Refusal, RefusalCode, STRANGER};
use floeberg_types::NodeId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;

/// The address book of a node, shared by all who change it and by the transport.
///
/// A removed node stays known as such: its certificate outlives its membership, so its streams are
/// refused until somebody sets an address for it again.
#[derive(Debug, Default)]
pub struct Peers {
    book: Mutex<BTreeMap<NodeId, Entry>>,
}

#[derive(Debug)]
struct Entry {
    /// `None`: never told where it is, or removed.
    way: Option<Way>,
    /// It is no member any more.
    removed: bool,
    /// The latest start of it that is known.
    start: u64,
    /// Cancelled once it is removed or a later start is known.
    current: CancellationToken,
}

/// Why a node is not listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwanted {
    Removed,
    /// The start that is known.
    Superseded(u64),
}

impl Unwanted {
    pub(crate) fn refusal(self, node: NodeId, start: u64) -> Refusal {
        match self {
            Self::Removed => {
                let message = format!("node {node} was removed from the cluster");
                Refusal::new(RefusalCode::Removed, message)
            }
            Self::Superseded(known) => {
                let (this, known) = (start >> 32, known >> 32);
                let message = format!(
                    "this is start {this} of node {node}, and start {known} of another process of it is \
                     known: two use copies of one data directory, or an older copy was put back"
                );
                Refusal::new(RefusalCode::Superseded, message)
            }
        }
    }
}

/// How a node is reached.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) address: String,
    /// Cancelled once the node is removed or has another address.
    pub(crate) stale: CancellationToken,
}

impl Peers {
    /// An empty book.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `node` is reached at `address` (`host:port`). Streams to another address of it are closed.
    /// The id 0 belongs to nobody and is ignored.
    pub fn set(&self, node: NodeId, address: impl Into<String>) {
        if node == STRANGER {
            return;
        }
        let mut book = self.book.lock();
        let entry = book.entry(node).or_insert_with(Entry::absent);
        entry.take_back();
        entry.move_to(address.into());
    }

    /// By its row `node` was reached at `address` when it started for the `start`th time. A row may be
    /// older than what `node` has said itself since; it changes nothing then.
    pub fn keep(&self, node: NodeId, address: impl Into<String>, start: u64) {
        if node == STRANGER {
            return;
        }
        let mut book = self.book.lock();
        let entry = book.entry(node).or_insert_with(Entry::absent);
        entry.take_back();
        if start >= entry.start {
            entry.hear(start);
            entry.move_to(address.into());
        }
    }

    /// `node` is no member any more: its streams, of either direction, are closed and refused.
    pub fn remove(&self, node: NodeId) {
        let mut book = self.book.lock();
        let entry = book.entry(node).or_insert_with(Entry::absent);
        entry.removed = true;
        entry.current.cancel();
        if let Some(way) = entry.way.take() {
            way.stale.cancel();
        }
    }

    /// Where `node` is.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<String> {
        self.way(node).map(|way| way.address)
    }

    /// Everyone with an address, by node id.
    #[must_use]
    pub fn all(&self) -> Vec<(NodeId, String)> {
        let book = self.book.lock();
        let with_address = |(node, entry): (&NodeId, &Entry)| {
            entry.way.as_ref().map(|way| (*node, way.address.clone()))
        };
        book.iter().filter_map(with_address).collect()
    }

    /// What is cancelled once a stream of this start of `node` must end. It says to be reached at
    /// `address`, if that is not empty; from then on it is called there.
    pub(crate) fn admit(
        &self,
        node: NodeId,
        start: u64,
        address: &str,
    ) -> Result<CancellationToken, Unwanted> {
        let mut book = self.book.lock();
        let entry = book.entry(node).or_insert_with(Entry::absent);
        if entry.removed {
            return Err(Unwanted::Removed);
        }
        entry.hear(start);
        if start < entry.start {
            return Err(Unwanted::Superseded(entry.start));
        }
        // Without a number it may be older than the address that is known.
        if start > 0 && !address.is_empty() {
            entry.move_to(address.to_owned());
        }
        Ok(entry.current.clone())
    }

    /// The same for a start of `node` that has not been compared yet: it may ask, and changes nothing.
    pub(crate) fn admit_asking(&self, node: NodeId) -> Result<CancellationToken, Unwanted> {
        let mut book = self.book.lock();
        let entry = book.entry(node).or_insert_with(Entry::absent);
        match entry.removed {
            true => Err(Unwanted::Removed),
            // Not the token of the start that counts: that one may end while this one asks.
            false => Ok(CancellationToken::new()),
        }
    }

    pub(crate) fn way(&self, node: NodeId) -> Option<Way> {
        self.book.lock().get(&node).and_then(|e| e.way.clone())
    }

    /// Whether `node` was removed.
    pub(crate) fn is_removed(&self, node: NodeId) -> bool {
        self.book.lock().get(&node).is_some_and(|e| e.removed)
    }
}

impl Entry {
    fn absent() -> Self {
        Self {
            way: None,
            removed: false,
            start: 0,
            current: CancellationToken::new(),
        }
    }

    /// A removed node was let in again.
    fn take_back(&mut self) {
        if self.removed {
            *self = Self::absent();
        }
    }

    fn move_to(&mut self, address: String) {
        if let Some(way) = &self.way {
            if way.address == address {
                return;
            }
            way.stale.cancel();
        }
        self.way = Some(Way {
            address,
            stale: CancellationToken::new(),
        });
    }

    fn hear(&mut self, start: u64) {
        if start > self.start {
            self.start = start;
            let before = std::mem::take(&mut self.current);
            before.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEVEN: NodeId = NodeId(7);

    #[test]
    fn a_new_address_makes_the_old_way_stale() {
        let peers = Peers::new();
        peers.set(SEVEN, "a:1");
        let way = peers.way(SEVEN).expect("known");
        peers.set(SEVEN, "a:1");
        assert!(!way.stale.is_cancelled(), "nothing changed");
        peers.set(SEVEN, "b:1");
        assert!(way.stale.is_cancelled());
        assert_eq!(peers.all(), [(SEVEN, "b:1".to_owned())]);
    }

    #[test]
    fn a_removed_node_is_known_as_removed_until_it_is_set_again() {
        let peers = Peers::new();
        let before = peers
            .admit(SEVEN, 0, "")
            .expect("nothing is known against it");
        peers.set(SEVEN, "a:1");
        peers.remove(SEVEN);
        assert!(before.is_cancelled());
        assert!(peers.is_removed(SEVEN));
        assert_eq!(peers.get(SEVEN), None);
        peers.set(SEVEN, "a:1");
        assert!(!peers.is_removed(SEVEN));
        peers.remove(NodeId(8));
        assert!(peers.is_removed(NodeId(8)), "also one never seen");
    }

    #[test]
    fn a_later_start_ends_the_streams_of_an_earlier_one() {
        let peers = Peers::new();
        let first = peers
            .admit(SEVEN, 1, "")
            .expect("nothing is known against it");
        assert!(
            peers.admit(SEVEN, 1, "").is_ok(),
            "of several streams of one start"
        );
        let second = peers.admit(SEVEN, 2, "").expect("it started again");
        assert!(first.is_cancelled() && !second.is_cancelled());
        assert_eq!(
            peers.admit(SEVEN, 1, "").err(),
            Some(Unwanted::Superseded(2))
        );
        peers.keep(SEVEN, "a:1", 5);
        assert!(second.is_cancelled());
        let third = peers
            .admit(SEVEN, 5, "")
            .expect("the one that was heard of");
        peers.remove(SEVEN);
        assert!(third.is_cancelled());
        assert_eq!(peers.admit(SEVEN, 6, "").err(), Some(Unwanted::Removed));
    }

    #[test]
    fn what_a_later_start_says_of_its_address_counts_more_than_an_older_row() {
        let peers = Peers::new();
        peers.keep(SEVEN, "a:1", 4);
        assert!(peers.admit(SEVEN, 5, "b:1").is_ok());
        peers.keep(SEVEN, "a:1", 4);
        assert_eq!(peers.get(SEVEN).as_deref(), Some("b:1"));
        assert!(peers.admit(SEVEN, 4, "a:1").is_err());
        assert_eq!(peers.get(SEVEN).as_deref(), Some("b:1"));
        peers.keep(SEVEN, "c:1", 6);
        assert!(peers.admit(SEVEN, 6, "").is_ok(), "of an older version");
        assert_eq!(peers.get(SEVEN).as_deref(), Some("c:1"));
        peers.remove(SEVEN);
        assert!(peers.admit(SEVEN, 7, "d:1").is_err());
        assert_eq!(peers.get(SEVEN), None);
    }

    #[test]
    fn a_start_that_only_asks_supersedes_nobody() {
        let peers = Peers::new();
        peers.keep(SEVEN, "a:1", 4);
        let running = peers.admit(SEVEN, 4, "a:1").expect("it is known");
        assert!(peers.admit_asking(SEVEN).is_ok());
        assert!(!running.is_cancelled());
        assert!(peers.admit(SEVEN, 4, "").is_ok());
        peers.remove(SEVEN);
        assert_eq!(peers.admit_asking(SEVEN).err(), Some(Unwanted::Removed));
    }

    #[test]
    fn nobody_has_the_id_of_a_stranger() {
        let peers = Peers::new();
        peers.set(STRANGER, "a:1");
        assert!(peers.all().is_empty());
    }
}
