//! Makes applied rows durable now and then, so that recovery replays little of the log.

use crate::config::FlushPolicy;
use floeberg_consensus::OnFatal;
use floeberg_env::Tasks;
use floeberg_kv::{Kv, KvError};
use floeberg_types::GroupId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// A replay of more than this many bytes of rows is flushed at once.
const REPLAY_BYTES_MAX: u64 = 1 << 20;

/// Counts what is written since the last flush.
pub(crate) struct Flusher {
    kv: Arc<dyn Kv>,
    policy: FlushPolicy,
    unflushed: AtomicU64,
    enough: Notify,
}

impl Flusher {
    pub(crate) fn new(kv: Arc<dyn Kv>, policy: FlushPolicy) -> Self {
        Self {
            kv,
            policy,
            unflushed: AtomicU64::new(0),
            enough: Notify::new(),
        }
    }

    /// Notes rows written to the store.
    pub(crate) fn written(&self, bytes: u64) {
        let before = self.unflushed.fetch_add(bytes, Ordering::Release);
        if before + bytes >= self.policy.bytes {
            self.enough.notify_one();
        }
    }

    /// Called once the log is replayed. A node that never lives long enough for the policy would
    /// otherwise replay more at every start.
    pub(crate) fn replayed(&self) {
        if self.unflushed.load(Ordering::Acquire) > REPLAY_BYTES_MAX {
            self.enough.notify_one();
        }
    }

    /// Flushes if anything is unflushed; blocks on the disk.
    pub(crate) fn flush(&self) -> Result<(), KvError> {
        // What is written meanwhile may be covered or not, so it stays counted.
        let covered = self.unflushed.load(Ordering::Acquire);
        if covered > 0 {
            self.kv.flush()?;
            self.unflushed.fetch_sub(covered, Ordering::Release);
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn unflushed_bytes(&self) -> u64 {
        self.unflushed.load(Ordering::Acquire)
    }

    /// Flushes by the policy until the task is aborted or a flush fails. A failed flush is never
    /// tried again: what is on disk is unknown, so the process has to recover.
    pub(crate) async fn run(self: Arc<Self>, tasks: Tasks, group: GroupId, on_fatal: OnFatal) {
        loop {
            // Which of the two comes first does not matter: both lead to a flush.
            let _ = tokio::time::timeout(self.policy.interval, self.enough.notified()).await;
            let flusher = Arc::clone(&self);
            let flushed = tasks
                .spawn_blocking("state-flush", move || flusher.flush())
                .await;
            match flushed {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return on_fatal(group, &format!("state flush failed: {error}")),
                Err(error) => return on_fatal(group, &format!("state flush ended: {error}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use floeberg_env::Env;
    use floeberg_kv::{MemKv, MemKvStore};
    use std::time::Duration;

    #[tokio::test]
    async fn a_long_replay_is_flushed_without_waiting_for_the_policy() {
        let policy = FlushPolicy {
            bytes: u64::MAX,
            interval: Duration::from_secs(3600),
        };
        let kv = Arc::new(MemKv::open(&MemKvStore::new()));
        let flusher = Arc::new(Flusher::new(kv, policy));
        flusher.written(REPLAY_BYTES_MAX + 1);
        flusher.replayed();
        let running = Arc::clone(&flusher).run(
            Env::real().tasks,
            GroupId::CATALOG,
            Arc::new(|_, cause| panic!("{cause}")),
        );
        let running = tokio::spawn(running);
        while flusher.unflushed_bytes() > 0 {
            tokio::task::yield_now().await;
        }
        running.abort();
    }
}
