//! Reading every row of a group as of one moment.

use super::Store;
use crate::error::{StoreError, Unavailable};
use crate::rows::{Key, decode_raw};
use floeberg_state::{Applied, RawRow};
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A row, why it cannot be read, or the end of the rows.
type Found = Option<Result<(Key, RawRow), StoreError>>;

impl Store {
    /// Hands rows to `take` in the order of their keys, as they were at one moment after the call, so
    /// that everything acknowledged before it is among them; returns as soon as that moment is
    /// fixed. It runs on a thread that may block, goes on until `take` breaks, a row cannot be read,
    /// or the rows end, which is a last `None`; old rows stay on disk until then. `wanted` tells by
    /// the key which rows are read at all.
    ///
    /// # Errors
    /// No leader could prove that it still leads.
    pub async fn dump(
        &self,
        wanted: impl Fn(&[u8]) -> bool + Send + 'static,
        mut take: impl FnMut(Found) -> ControlFlow<()> + Send + 'static,
    ) -> Result<Applied, Unavailable> {
        let inner = Arc::clone(&self.inner);
        inner.barrier(Instant::now() + inner.leader_wait).await?;
        let (fixed, point) = oneshot::channel();
        let walk = move || {
            // For as long as it takes: a copy of everything that is not of one moment is none.
            let moment = inner.shared.newest.get();
            if fixed.send(moment.applied.clone()).is_err() {
                return;
            }
            for row in moment.rows.scan(&[], None) {
                let row = match row {
                    Ok((key, _)) if !wanted(&key) => continue,
                    Ok((key, value)) => decode_raw(&key, value).map(|row| (key, row)),
                    Err(error) => Err(error.into()),
                };
                let failed = row.is_err();
                if take(Some(row)).is_break() || failed {
                    return;
                }
            }
            let _ = take(None);
        };
        // Nobody waits for its end: `take` is told of it.
        drop(self.inner.tasks().spawn_blocking("state-dump", walk));
        point.await.map_err(|_| Unavailable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Medium, Node, add, cx, key};
    use crate::{Txn, UsageRow};
    use floeberg_env::Env;
    use prost::Message as _;
    use std::sync::mpsc;

    async fn add_to_all(store: &Store, rows: std::ops::Range<usize>) {
        let all = |txn: &mut Txn<'_>| {
            let mut each = rows.clone();
            each.try_for_each(|n| add(txn, &format!("{n:03}"), 1).map(drop))
        };
        store.transact(&cx(), all).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn rows_are_as_they_were_when_the_moment_was_fixed() {
        for medium in [Medium::mem(), Medium::rocks()] {
            let env = Env::real();
            let node = Node::start(&env, &medium).await;
            add_to_all(&node.store, 0..100).await;
            let (go, wait) = mpsc::channel::<()>();
            let (found_to, found) = mpsc::channel();
            let take = move |row: Found| {
                let Some(row) = row else {
                    found_to.send(None).unwrap();
                    return ControlFlow::Break(());
                };
                wait.recv().unwrap_or_default();
                let (key, raw) = row.unwrap();
                let row = UsageRow::decode(raw.payload).unwrap();
                found_to.send(Some((key, row.bytes))).unwrap();
                ControlFlow::Continue(())
            };
            let (first, last) = (key("000"), key("099"));
            let applied = node
                .store
                .dump(move |key| (&first[..]..=&last[..]).contains(&key), take)
                .await
                .unwrap();
            assert!(applied.last.is_some());
            add_to_all(&node.store, 0..200).await;
            drop(go);
            for n in 0..100 {
                let row = found.recv().unwrap();
                assert_eq!(row, Some((key(&format!("{n:03}")), 1)));
            }
            assert_eq!(found.recv().unwrap(), None);
            node.store.shutdown().await.unwrap();
        }
    }
}
