//! The address book of a node: where the others are, and which were removed.

use crate::STRANGER;
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
    /// Cancelled once the node is removed.
    gone: CancellationToken,
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
        let address = address.into();
        let mut book = self.book.lock();
        let entry = book.entry(node).or_insert_with(Entry::absent);
        if entry.gone.is_cancelled() {
            *entry = Entry::absent();
        }
        if let Some(way) = &entry.way {
            if way.address == address {
                return;
            }
            way.stale.cancel();
        }
        entry.way = Some(Way {
            address,
            stale: CancellationToken::new(),
        });
    }

    /// `node` is no member any more: its streams, of either direction, are closed and refused.
    pub fn remove(&self, node: NodeId) {
        let mut book = self.book.lock();
        let entry = book.entry(node).or_insert_with(Entry::absent);
        entry.gone.cancel();
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

    pub(crate) fn way(&self, node: NodeId) -> Option<Way> {
        self.book.lock().get(&node).and_then(|e| e.way.clone())
    }

    /// What is cancelled once `node` is removed; `None` if it already was.
    pub(crate) fn membership(&self, node: NodeId) -> Option<CancellationToken> {
        let mut book = self.book.lock();
        let gone = &book.entry(node).or_insert_with(Entry::absent).gone;
        (!gone.is_cancelled()).then(|| gone.clone())
    }
}

impl Entry {
    fn absent() -> Self {
        Self {
            way: None,
            gone: CancellationToken::new(),
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
            .membership(SEVEN)
            .expect("nothing is known against it");
        peers.set(SEVEN, "a:1");
        peers.remove(SEVEN);
        assert!(before.is_cancelled());
        assert!(peers.membership(SEVEN).is_none());
        assert_eq!(peers.get(SEVEN), None);
        peers.set(SEVEN, "a:1");
        assert!(peers.membership(SEVEN).is_some());
        peers.remove(NodeId(8));
        assert!(peers.membership(NodeId(8)).is_none(), "also one never seen");
    }

    #[test]
    fn nobody_has_the_id_of_a_stranger() {
        let peers = Peers::new();
        peers.set(STRANGER, "a:1");
        assert!(peers.all().is_empty());
    }
}
