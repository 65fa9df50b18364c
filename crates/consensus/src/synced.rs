//! Which entries of the log are durable here, so that nothing is applied before.
//!
//! The library commits an entry once a quorum has synced it, and this node need not be part of
//! that quorum: a follower that lags, or a leader whose disk is slow, would apply what its own log
//! may still lose. State that was flushed meanwhile would then be ahead of the log after a crash,
//! and nothing could tell that from a log that lost acknowledged entries.

use std::collections::VecDeque;
use std::io;
use tokio::sync::watch;

/// Appends whose sync has not ended, and whether one of them never will.
#[derive(Debug, Default)]
struct Unsynced {
    /// Index of the first entry of each append, by ticket; syncs end in the order of the tickets.
    appends: VecDeque<(u64, u64)>,
    next_ticket: u64,
    failed: bool,
}

impl Unsynced {
    /// A truncated append counts until its sync ends, which is at worst too careful.
    fn covers(&self, index: u64) -> bool {
        self.appends.iter().any(|(_, first)| *first <= index)
    }
}

/// Follows the syncs of a group's log; clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Synced(watch::Sender<Unsynced>);

/// Held by the callback of one append. Dropped without [`done`](Self::done), the append is lost.
#[derive(Debug)]
pub(crate) struct Ticket {
    synced: Synced,
    number: u64,
    finished: bool,
}

impl Synced {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::default())
    }

    /// Notes an append of entries from `first` on.
    pub(crate) fn begin(&self, first: u64) -> Ticket {
        let mut number = 0;
        // Nobody waits for an append to begin.
        self.0.send_if_modified(|unsynced| {
            number = unsynced.next_ticket;
            unsynced.next_ticket += 1;
            unsynced.appends.push_back((number, first));
            false
        });
        Ticket {
            synced: self.clone(),
            number,
            finished: false,
        }
    }

    /// Waits until every entry up to `index` that was appended so far is durable.
    pub(crate) async fn wait(&self, index: u64) -> io::Result<()> {
        let mut unsynced = self.0.subscribe();
        // The sender is `self`, so waiting ends only with an answer.
        let failed = unsynced
            .wait_for(|u| u.failed || !u.covers(index))
            .await
            .is_ok_and(|u| u.failed);
        if failed {
            return Err(io::Error::other("the log stopped before it was synced"));
        }
        Ok(())
    }

    fn end(&self, number: u64, failed: bool) {
        self.0.send_modify(|unsynced| {
            unsynced.failed |= failed;
            unsynced.appends.retain(|(ticket, _)| *ticket != number);
        });
    }
}

impl Ticket {
    /// The append is durable, or its log has stopped.
    pub(crate) fn done(mut self, result: &io::Result<()>) {
        self.finished = true;
        self.synced.end(self.number, result.is_err());
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.finished {
            self.synced.end(self.number, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn an_entry_waits_for_the_appends_that_hold_it_and_no_others() {
        let synced = Synced::new();
        let (first, second) = (synced.begin(3), synced.begin(7));
        assert!(synced.wait(2).now_or_never().is_some());
        let (mut inside, mut behind) = (Box::pin(synced.wait(6)), Box::pin(synced.wait(7)));
        assert!(inside.as_mut().now_or_never().is_none());
        first.done(&Ok(()));
        inside.await.unwrap();
        assert!(behind.as_mut().now_or_never().is_none());
        second.done(&Ok(()));
        behind.await.unwrap();
    }

    #[tokio::test]
    async fn a_lost_or_failed_append_ends_the_wait_with_an_error() {
        for outcome in [None, Some(Err(io::Error::other("sync")))] {
            let synced = Synced::new();
            let ticket = synced.begin(0);
            match outcome {
                None => drop(ticket),
                Some(result) => ticket.done(&result),
            }
            assert!(synced.wait(0).await.is_err());
        }
    }
}
