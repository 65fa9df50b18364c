//! Notices that this node was removed from the cluster, or that a copy of it took its place. Nobody sends
//! it the log any more, so it cannot read that in the rows: the others say so when it calls them.

use crate::status_wire::Ask;
use floeberg_consensus::{Barred, Standing};
use floeberg_env::Env;
use floeberg_members::{Barring, Home, RemovedMark};
use floeberg_metastore::Store;
use floeberg_rpc::{CallError, Peers, RefusalCode, Transport};
use floeberg_types::{GroupId, NodeId};
use futures::future::join_all;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Pause between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// Looks in a row that find this node removed before that is kept for good.
const REMOVED_LOOKS: u32 = 3;

/// How long a peer may take to answer, and a read to be confirmed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the others do not listen to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Removed,
    Superseded,
}

impl Cause {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Removed => {
                "this node was removed from the cluster; stop it, and if the machine is to be used \
                 again, wipe its data directory and let it join as a new node (`floeberg cluster join`)"
            }
            Self::Superseded => {
                "the cluster knows a later start of this node: another process uses a copy of this data \
                 directory, or an older copy was put back; stop this one, and if the other is the \
                 mistake, give the node up (`floeberg cluster remove --dead`) and let the machine join \
                 as a new one"
            }
        }
    }
}

/// Whether the others listen to this node; shared with the readiness probe.
#[derive(Clone, Default)]
pub(crate) struct Removal(Arc<Heard>);

#[derive(Default)]
struct Heard {
    cause: Mutex<Option<Cause>>,
    /// Why the cluster did not take this node when it started; that lasts.
    refused: watch::Sender<Option<String>>,
    /// Why this node takes no part; that lasts, too.
    barred: Mutex<Option<String>>,
    /// For whom it waits before it takes part.
    waiting: Mutex<Option<String>>,
}

impl Removal {
    /// What there is to say about it.
    pub(crate) fn notice(&self) -> Option<String> {
        let refused = self.0.refused.borrow().clone();
        let lasting = refused.or_else(|| self.0.barred.lock().clone());
        lasting.or_else(|| self.0.cause.lock().map(|cause| cause.text().to_owned()))
    }

    /// For whom the node waits before it takes part.
    pub(crate) fn waiting(&self) -> Option<String> {
        self.0.waiting.lock().clone()
    }

    /// The node waits for somebody before it takes part.
    pub(crate) fn wait_for(&self, whom: Option<String>) {
        let news = whom.clone().filter(|_| self.0.waiting.lock().is_none());
        if let Some(whom) = news {
            tracing::info!("this node waits for {whom}");
        }
        *self.0.waiting.lock() = whom;
    }

    /// The node takes no part any more; why.
    pub(crate) fn bar(&self, why: String) {
        *self.0.barred.lock() = Some(why);
    }

    /// It is certain that this node was removed: that is kept, so that it does not take part in what other
    /// removed ones might make of the old cluster.
    pub(crate) async fn keep_removed(
        &self,
        home: &Home,
        env: &Env,
        mark: RemovedMark,
        standing: &Standing,
    ) {
        let (kept, now) = (home.clone(), env.clock.now());
        let keeping = move || Barring::Removed(mark).keep(&kept, now);
        match env.tasks.spawn_blocking("keep-removed", keeping).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => tracing::error!(%error, "that this node was removed is not kept"),
        }
        standing.bar(Barred::Held(Cause::Removed.text().to_owned()));
    }

    /// Waits until the cluster has refused this node as it is; why.
    pub(crate) async fn refused(&self) -> String {
        let mut refused = self.0.refused.subscribe();
        let why = refused.wait_for(Option::is_some).await;
        why.ok().and_then(|why| why.clone()).unwrap_or_default()
    }

    /// The cluster does not take this node as it is.
    pub(crate) fn refuse(&self, why: &dyn fmt::Display) {
        self.0.refused.send_replace(Some(why.to_string()));
    }

    /// Whether that is news.
    fn set(&self, cause: Option<Cause>) -> bool {
        std::mem::replace(&mut *self.0.cause.lock(), cause) != cause
    }
}

/// Asks the others.
pub(crate) struct Watch {
    pub(crate) me: NodeId,
    pub(crate) catalog: Store,
    pub(crate) peers: Arc<Peers>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) removal: Removal,
    pub(crate) standing: Standing,
    pub(crate) home: Home,
    pub(crate) env: Env,
}

/// What the others say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Member,
    Refused(Cause),
    Nothing,
}

impl Watch {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        let mut removed_looks = 0;
        while self.standing.barred().is_none() {
            tokio::time::sleep(EVERY).await;
            let answers = self.ask().await;
            let words: Vec<Word> = answers.iter().map(|(_, word)| *word).collect();
            let cause = match verdict(&words) {
                Word::Member => None,
                Word::Nothing => continue,
                // A node that went on alone says so of everybody; who can still decide without it is
                // not the one that has left.
                Word::Refused(cause) => (!self.works().await).then_some(cause),
            };
            if self.removal.set(cause)
                && let Some(cause) = cause
            {
                tracing::error!(node = %self.me, "{}", cause.text());
            }
            removed_looks = match cause {
                Some(Cause::Removed) => removed_looks + 1,
                Some(Cause::Superseded) | None => 0,
            };
            if removed_looks >= REMOVED_LOOKS {
                self.keep(&answers).await;
            }
        }
    }

    async fn keep(&self, answers: &[(NodeId, Word)]) {
        let said = |(_, word): &&(NodeId, Word)| *word == Word::Refused(Cause::Removed);
        let mark = RemovedMark {
            said_by: answers.iter().filter(said).map(|(node, _)| *node).collect(),
            found_at: self.env.clock.now(),
        };
        let (removal, standing) = (&self.removal, &self.standing);
        removal
            .keep_removed(&self.home, &self.env, mark, standing)
            .await;
    }

    async fn ask(&self) -> Vec<(NodeId, Word)> {
        let peers = self.peers.all().into_iter().map(|(node, _)| node);
        let asked = peers.filter(|node| *node != self.me).map(|node| {
            let request = Ask::Alive.request(GroupId::CATALOG);
            let call = self.transport.call(node, request, PATIENCE);
            async move { (node, call.await) }
        });
        let answers = join_all(asked).await.into_iter();
        let word = |answer| match answer {
            Ok(_) => Word::Member,
            Err(CallError::Refused(refusal)) => match refusal.code {
                RefusalCode::Removed => Word::Refused(Cause::Removed),
                RefusalCode::Superseded => Word::Refused(Cause::Superseded),
                _ => Word::Nothing,
            },
            Err(_) => Word::Nothing,
        };
        answers.map(|(node, answer)| (node, word(answer))).collect()
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
    } else {
        let refused = |word: &&Word| matches!(word, Word::Refused(_));
        words.iter().find(refused).copied().unwrap_or(Word::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_still_takes_it_outweighs_those_who_do_not() {
        use Word::{Member, Nothing, Refused};
        let (removed, superseded) = (Refused(Cause::Removed), Refused(Cause::Superseded));
        assert_eq!(verdict(&[]), Nothing);
        assert_eq!(verdict(&[Nothing, Nothing]), Nothing);
        assert_eq!(verdict(&[Nothing, removed]), removed);
        assert_eq!(verdict(&[superseded, Nothing]), superseded);
        assert_eq!(verdict(&[removed, Member, Nothing]), Member);
    }

    #[test]
    fn a_notice_is_news_once() {
        let removal = Removal::default();
        assert_eq!(removal.notice(), None);
        assert!(!removal.set(None));
        assert!(removal.set(Some(Cause::Removed)));
        assert!(!removal.set(Some(Cause::Removed)));
        assert!(removal.notice().unwrap().contains("was removed"));
        assert!(removal.set(None));
        assert_eq!(removal.notice(), None);
    }
}
