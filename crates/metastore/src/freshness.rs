//! How old the rows of this node may be, shown by what was proven last and never by what was heard.
//!
//! A ReadIndex that this node asked for at some moment shows, once it is applied here, that nothing is
//! missing which was acknowledged before that moment. So the rows applied here are never older than the
//! last such moment. Only this node's own monotonic clock is asked, and no leader's word is taken for a
//! time to come.

use crate::error::Unavailable;
use crate::inner::Inner;
use crate::rows::ReadView;
use crate::store::Store;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What was proven last.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    /// When the newest proof was asked for that came, on the monotonic clock.
    asked: Mutex<Option<Duration>>,
    renewing: AtomicBool,
}

impl Freshness {
    /// Notes that everything acknowledged before `asked` is applied here.
    pub(crate) fn proven(&self, asked: Duration) {
        let mut newest = self.asked.lock();
        *newest = (*newest).max(Some(asked));
    }

    /// How old the rows are at most.
    fn age(&self, now: Duration) -> Option<Duration> {
        let asked = *self.asked.lock();
        asked.map(|asked| now.saturating_sub(asked))
    }
}

impl Store {
    /// Rows of one moment, on any node, in which everything is seen that was acknowledged longer than
    /// `age` ago. As long as somebody asks, a proof is renewed in good time, so that nobody waits for one
    /// and a group without a leader is read until its rows are too old.
    ///
    /// # Errors
    /// The rows are too old, and no leader could prove that it still leads.
    pub async fn view_within(&self, age: Duration) -> Result<ReadView, Unavailable> {
        let inner = &self.inner;
        match inner.freshness.age(inner.env.clock.monotonic()) {
            Some(old) if old <= age / 2 => {}
            Some(old) if old <= age => inner.renew(),
            Some(_) | None => return self.view().await,
        }
        Ok(self.local())
    }
}

impl Inner {
    /// Asks for a new proof beside whoever wants one; one at a time.
    fn renew(self: &Arc<Self>) {
        if self.freshness.renewing.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = Arc::clone(self);
        let renewal = async move {
            // Without a leader the next reader tries again.
            let _ = inner.barrier(Instant::now() + inner.leader_wait).await;
            inner.freshness.renewing.store(false, Ordering::Release);
        };
        drop(self.tasks().spawn("renew-proof", renewal));
    }
}

#[cfg(test)]
mod tests {
    use crate::Txn;
    use crate::testing::cluster::{Cluster, NODES, cx_within};
    use crate::testing::{add, value};
    use std::time::Duration;

    const AGE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn rows_are_read_without_a_leader_until_they_are_too_old() {
        let cluster = Cluster::start(71).await;
        let leader = cluster.leader().await;
        let other = NODES.into_iter().find(|node| *node != leader).unwrap();
        let store = cluster.store(other);
        let cx = cx_within(Duration::from_secs(5));
        let add_one = |txn: &mut Txn<'_>| add(txn, "n", 1);
        cluster.store(leader).transact(&cx, add_one).await.unwrap();
        // Nothing was proven here yet, so this asks.
        let view = store.view_within(AGE).await.unwrap();
        assert_eq!(value(&view, "n").unwrap(), Some(1));
        for node in NODES.into_iter().filter(|node| *node != other) {
            cluster.network.cut(node, other);
            cluster.network.cut(other, node);
        }
        // What the others acknowledge from now on is missing here.
        let next = cluster.leader_among(other).await;
        let cx = cx_within(Duration::from_secs(30));
        cluster.store(next).transact(&cx, add_one).await.unwrap();
        let cut = tokio::time::Instant::now();
        let (mut read, mut refused) = (0, 0);
        while refused == 0 {
            match store.view_within(AGE).await {
                Ok(view) => {
                    assert_eq!(value(&view, "n").unwrap(), Some(1));
                    assert!(cut.elapsed() <= AGE, "rows of {:?} ago", cut.elapsed());
                    read += 1;
                }
                Err(_) => refused += 1,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(read > 10, "{read} reads without a leader");
        cluster.network.heal();
        let view = loop {
            match store.view_within(AGE).await {
                Ok(view) => break view,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        assert_eq!(value(&view, "n").unwrap(), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn many_readers_ask_few_times() {
        let cluster = Cluster::start(72).await;
        let leader = cluster.leader().await;
        let other = NODES.into_iter().find(|node| *node != leader).unwrap();
        let store = cluster.store(other);
        store.view_within(AGE).await.unwrap();
        let before = cluster.read_rounds(other);
        for _ in 0..1_000 {
            store.view_within(AGE).await.unwrap();
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        // Thirty seconds, and one proof for every five.
        let asked = cluster.read_rounds(other) - before;
        assert!((4..=7).contains(&asked), "asked {asked} times");
    }
}
