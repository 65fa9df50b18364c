//! Copies of this node's state for other nodes.

use super::files::{self, FileInfo};
use super::staging::Staging;
use crate::machine::{Applied, Copier, EntryId};
use floeberg_env::{Env, Rng, Tasks};
use floeberg_types::NodeId;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

/// How much of a snapshot a node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotProgress {
    /// Bytes that the node has.
    pub sent: u64,
    /// Bytes of the whole snapshot.
    pub total: u64,
}

/// A copy that is offered to other nodes.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) id: [u8; 16],
    pub(crate) dir: PathBuf,
    pub(crate) applied: Applied,
    pub(crate) files: Vec<FileInfo>,
}

/// Makes copies, and shares one among the nodes that need it; clones share everything.
#[derive(Clone)]
pub(crate) struct Outgoing(Arc<Inner>);

struct Inner {
    copier: Copier,
    staging: Staging,
    tasks: Tasks,
    rng: Arc<dyn Rng>,
    copies: AtomicU64,
    /// The newest copy, while somebody needs it.
    current: Mutex<Option<Arc<Offer>>>,
    progress: watch::Sender<BTreeMap<NodeId, SnapshotProgress>>,
    pace: Pace,
}

/// Spreads what is sent over time.
struct Pace {
    bytes_per_second: Option<u64>,
    next: parking_lot::Mutex<Option<Instant>>,
}

impl Pace {
    /// Waits until `bytes` more may be sent; the bytes before them have their share of time first.
    async fn wait(&self, bytes: u64) {
        let Some(rate) = self.bytes_per_second else {
            return;
        };
        let start = {
            let mut next = self.next.lock();
            let now = Instant::now();
            let start = next.map_or(now, |next| next.max(now));
            let micros = bytes.saturating_mul(1_000_000) / rate.max(1);
            *next = Some(start + Duration::from_micros(micros));
            start
        };
        tokio::time::sleep_until(start).await;
    }
}

impl Outgoing {
    pub(crate) fn new(
        copier: Copier,
        staging: Staging,
        env: &Env,
        bytes_per_second: Option<u64>,
    ) -> Self {
        let pace = Pace {
            bytes_per_second,
            next: parking_lot::Mutex::default(),
        };
        Self(Arc::new(Inner {
            copier,
            staging,
            tasks: env.consensus.clone(),
            rng: Arc::clone(&env.rng),
            copies: AtomicU64::new(0),
            current: Mutex::default(),
            progress: watch::Sender::default(),
            pace,
        }))
    }

    pub(crate) fn staging(&self) -> &Staging {
        &self.0.staging
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    /// What the copy that somebody is being sent has applied.
    pub(crate) fn offered(&self) -> Option<Applied> {
        let current = self.0.current.try_lock().ok()?;
        current.as_ref().map(|offer| offer.applied.clone())
    }

    /// A copy that has applied at least `at_least`; the caller gives it back with `release`.
    pub(crate) async fn obtain(&self, at_least: Option<EntryId>) -> io::Result<Arc<Offer>> {
        let mut current = self.0.current.lock().await;
        if let Some(offer) = current.as_ref().filter(|o| o.applied.last >= at_least) {
            return Ok(Arc::clone(offer));
        }
        if let Some(old) = current.take() {
            self.drop_copy(old).await;
        }
        let offer = Arc::new(self.make().await?);
        *current = Some(Arc::clone(&offer));
        Ok(offer)
    }

    async fn make(&self) -> io::Result<Offer> {
        let inner = Arc::clone(&self.0);
        let number = inner.copies.fetch_add(1, Ordering::Relaxed);
        let copying = move || {
            let dir = inner.staging.outgoing(number);
            let applied = (inner.copier)(&dir).map_err(io::Error::other)?;
            let files = files::list(&*inner.staging.disk, &dir)?;
            let id = inner.rng.id128();
            Ok(Offer {
                id,
                dir,
                applied,
                files,
            })
        };
        self.0
            .tasks
            .spawn_blocking("snapshot-copy", copying)
            .await
            .map_err(io::Error::other)?
    }

    /// Gives a copy back; the last one who does removes it.
    pub(crate) async fn release(&self, offer: Arc<Offer>) {
        let mut current = self.0.current.lock().await;
        let is_current = current.as_ref().is_some_and(|c| Arc::ptr_eq(c, &offer));
        if is_current && Arc::strong_count(&offer) == 2 {
            *current = None;
        }
        self.drop_copy(offer).await;
    }

    /// Removes the newest copy unless somebody is being sent it.
    pub(crate) async fn abandon(&self) {
        let mut current = self.0.current.lock().await;
        if let Some(offer) = current.take() {
            self.drop_copy(offer).await;
        }
    }

    /// Called under the lock, so that of several owners exactly one is the last.
    async fn drop_copy(&self, offer: Arc<Offer>) {
        let Some(offer) = Arc::into_inner(offer) else {
            return;
        };
        let staging = self.0.staging.clone();
        let removing = move || staging.remove(&offer.dir);
        let removed = self
            .0
            .tasks
            .spawn_blocking("snapshot-remove", removing)
            .await;
        if let Ok(Err(e)) = removed {
            // The next start removes it.
            tracing::warn!(error = %e, "a copy of the state could not be removed");
        }
    }

    /// Waits until `bytes` more may be sent.
    pub(crate) async fn pace(&self, bytes: u64) {
        self.0.pace.wait(bytes).await;
    }

    /// Follows what the nodes that receive a snapshot have.
    pub(crate) fn progress(&self) -> watch::Receiver<BTreeMap<NodeId, SnapshotProgress>> {
        self.0.progress.subscribe()
    }

    pub(crate) fn report(&self, node: NodeId, progress: Option<SnapshotProgress>) {
        self.0.progress.send_modify(|all| match progress {
            Some(progress) => {
                all.insert(node, progress);
            }
            None => {
                all.remove(&node);
            }
        });
    }
}
