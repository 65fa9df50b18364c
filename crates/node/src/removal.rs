//! Notices that this node was removed from the cluster. Nobody sends it the log any more, so it cannot
//! read that in the rows: the others say so when it calls them.

use crate::status_wire::Ask;
use floeberg_metastore::Store;
use floeberg_rpc::{CallError, Peers, RefusalCode, Transport};
use floeberg_types::{GroupId, NodeId};
use futures::future::join_all;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Pause between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// How long a peer may take to answer, and a read to be confirmed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether this node was removed; shared with the readiness probe.
#[derive(Clone, Default)]
pub(crate) struct Removal(Arc<AtomicBool>);

impl Removal {
    /// What there is to say about it.
    pub(crate) fn notice(&self) -> Option<String> {
        self.0.load(Ordering::Relaxed).then(|| {
            "nothing: this node was removed from the cluster; stop it, and if the machine is to be \
             used again, wipe its data directory and let it join as a new node"
                .to_owned()
        })
    }

    /// Whether that is news.
    fn set(&self, removed: bool) -> bool {
        self.0.swap(removed, Ordering::Relaxed) != removed
    }
}

/// Asks the others.
pub(crate) struct Watch {
    pub(crate) me: NodeId,
    pub(crate) catalog: Store,
    pub(crate) peers: Arc<Peers>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) removal: Removal,
}

/// What the others say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Member,
    Removed,
    Nothing,
}

impl Watch {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        loop {
            tokio::time::sleep(EVERY).await;
            let removed = match verdict(&self.ask().await) {
                Word::Member => false,
                Word::Nothing => continue,
                // A node that went on alone says so of everybody; who can still decide without it is
                // not the one that has left.
                Word::Removed => !self.works().await,
            };
            if self.removal.set(removed) && removed {
                tracing::error!(
                    node = %self.me,
                    "this node was removed from the cluster, the other members refuse it: stop it. If \
                     the machine is to be used again, wipe its data directory and let it join as a new \
                     node (`floeberg cluster join`)"
                );
            }
        }
    }

    async fn ask(&self) -> Vec<Word> {
        let peers = self.peers.all().into_iter().map(|(node, _)| node);
        let asked = peers.filter(|node| *node != self.me).map(|node| {
            let request = Ask::Alive.request(GroupId::CATALOG);
            self.transport.call(node, request, PATIENCE)
        });
        let answers = join_all(asked).await.into_iter();
        let word = |answer| match answer {
            Ok(_) => Word::Member,
            Err(CallError::Refused(refusal)) if refusal.code == RefusalCode::Removed => {
                Word::Removed
            }
            Err(_) => Word::Nothing,
        };
        answers.map(word).collect()
    }

    async fn works(&self) -> bool {
        let read = self.catalog.group().read_barrier();
        matches!(tokio::time::timeout(PATIENCE, read).await, Ok(Ok(_)))
    }
}

/// A member that has not heard of the removal yet will; until then nothing is certain.
fn verdict(words: &[Word]) -> Word {
    if words.contains(&Word::Member) {
        Word::Member
    } else if words.contains(&Word::Removed) {
        Word::Removed
    } else {
        Word::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_still_takes_it_outweighs_those_who_do_not() {
        use Word::{Member, Nothing, Removed};
        assert_eq!(verdict(&[]), Nothing);
        assert_eq!(verdict(&[Nothing, Nothing]), Nothing);
        assert_eq!(verdict(&[Nothing, Removed]), Removed);
        assert_eq!(verdict(&[Removed, Member, Nothing]), Member);
    }

    #[test]
    fn a_notice_is_news_once() {
        let removal = Removal::default();
        assert_eq!(removal.notice(), None);
        assert!(!removal.set(false));
        assert!(removal.set(true));
        assert!(!removal.set(true));
        assert!(removal.notice().unwrap().contains("was removed"));
        assert!(removal.set(false));
        assert_eq!(removal.notice(), None);
    }
}
