//! The copies of one chunk under way.
//!
//! Every copy has its own task and a queue of pieces that share their bytes. The pace is that of the
//! nodes the ack rule needs: a copy that lags by more than its queue holds is given up and owed.

use crate::copy;
use crate::error::{CopyError, WriteError};
use crate::store::Inner;
use crate::wire::{Piece, ShardId, WriteHead};
use floeberg_placement::ShardSet;
use floeberg_types::NodeId;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use std::future::Future;
use std::sync::Arc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

type Outcome = Result<(), CopyError>;

/// A copy under way.
struct Copy {
    node: NodeId,
    /// The node failed a moment ago: its copy counts if it is in time, and nobody waits for it.
    spare: bool,
    /// `None` once it gets no more pieces.
    queue: Option<mpsc::Sender<Piece>>,
    /// Gives it up.
    stop: Option<oneshot::Sender<()>>,
    /// `None` if it was never begun, or its outcome is waited for elsewhere.
    task: Option<JoinHandle<Outcome>>,
    failure: Option<CopyError>,
}

impl Copy {
    /// A copy for which the node has said that it has no room.
    fn refused(node: NodeId) -> Self {
        let message = "it said so a moment ago".to_owned();
        Self {
            node,
            spare: true,
            queue: None,
            stop: None,
            task: None,
            failure: Some(CopyError::DiskFull { message }),
        }
    }

    fn give_up(&mut self, failure: CopyError) {
        self.queue = None;
        self.failure.get_or_insert(failure);
        if let Some(stop) = self.stop.take() {
            // An error means that the copy has ended.
            let _ = stop.send(());
        }
    }
}

/// The copies of a chunk, in the order of their shard numbers.
pub(crate) struct Copies {
    inner: Arc<Inner>,
    needed: usize,
    all: Vec<Copy>,
}

impl Drop for Copies {
    fn drop(&mut self) {
        for copy in &mut self.all {
            copy.give_up(CopyError::GivenUp);
        }
    }
}

impl Copies {
    /// Begins a copy on every target. Those on suspect nodes are spare if the others suffice, and those
    /// on full ones are not even begun then.
    pub(crate) fn begin(
        inner: Arc<Inner>,
        head: WriteHead,
        targets: &[NodeId],
    ) -> Result<Self, WriteError> {
        let needed = head.profile.acks();
        if targets.len() < needed {
            return Err(WriteError::NotEnough {
                acked: 0,
                needed,
                failures: Vec::new(),
            });
        }
        let suspect = |node: &NodeId| inner.health.is_suspect(*node);
        let sound = targets.iter().filter(|node| !inner.is_unfit(**node));
        let enough = sound.count() >= needed;
        let copy = |(number, node): (u32, &NodeId)| {
            if enough && inner.full.has(*node) {
                return Copy::refused(*node);
            }
            let chunk = head.shard.chunk;
            let shard = ShardId { chunk, number };
            let destination = inner.destination(*node, WriteHead { shard, ..head });
            let (queue, pieces) = mpsc::channel(inner.config.window.max(1));
            let (stop, stopped) = oneshot::channel();
            let run = copy::run(destination, pieces, stopped);
            Copy {
                node: *node,
                spare: enough && suspect(node),
                queue: Some(queue),
                stop: Some(stop),
                task: Some(inner.env.tasks.spawn("shards-copy", run)),
                failure: None,
            }
        };
        Ok(Self {
            all: (0..).zip(targets).map(copy).collect(),
            needed,
            inner,
        })
    }

    /// Queues a piece for every copy that keeps up, waiting only for as many as the ack rule needs.
    pub(crate) async fn offer(&mut self, piece: &Piece) -> Result<(), WriteError> {
        let mut taken = ShardSet::default();
        let mut waiting = FuturesUnordered::new();
        for (number, copy) in self.all.iter_mut().enumerate() {
            let Some(queue) = &copy.queue else { continue };
            match queue.try_send(piece.clone()) {
                Ok(()) => taken.insert(number),
                Err(TrySendError::Closed(_)) => copy.queue = None,
                Err(TrySendError::Full(piece)) => {
                    let queue = queue.clone();
                    waiting.push(async move { (number, queue.send(piece).await.is_ok()) });
                }
            }
        }
        loop {
            let next = if (taken.len() as usize) < self.needed {
                waiting.next().await
            } else {
                // Whoever has room by now keeps up; nobody is waited for.
                waiting.next().now_or_never().flatten()
            };
            match next {
                Some((number, true)) => taken.insert(number),
                Some((number, false)) => self.all[number].queue = None,
                None => break,
            }
        }
        drop(waiting);
        if (taken.len() as usize) < self.needed {
            return Err(self.not_enough(ShardSet::default()).await);
        }
        for (number, copy) in self.all.iter_mut().enumerate() {
            if copy.queue.is_some() && !taken.contains(number) {
                tracing::debug!(node = %copy.node, "a copy fell behind and is given up");
                self.inner.health.was_late(copy.node);
                copy.give_up(CopyError::FellBehind);
            }
        }
        Ok(())
    }

    /// After the last piece: waits until enough copies are durable, and a little for the others.
    /// Returns the durable ones.
    pub(crate) async fn settle(&mut self) -> Result<ShardSet, WriteError> {
        let mut acked = ShardSet::default();
        let mut pending = FuturesUnordered::new();
        let mut open = ShardSet::default();
        for (number, copy) in self.all.iter_mut().enumerate() {
            copy.queue = None;
            if let (None, Some(task)) = (&copy.failure, copy.task.take()) {
                open.insert(number);
                pending.push(async move { (number, joined(task.await)) });
            }
        }
        let mut linger = None;
        while !open.is_empty() {
            let next = if (acked.len() as usize) < self.needed {
                if ((acked.len() + open.len()) as usize) < self.needed {
                    break;
                }
                pending.next().await
            } else {
                let until = *linger.get_or_insert(Instant::now() + self.inner.config.linger);
                self.next_in_time(&mut pending, open, until).await
            };
            let Some((number, outcome)) = next else { break };
            open.remove(number);
            let copy = &mut self.all[number];
            copy.stop = None;
            match outcome {
                Ok(()) => {
                    acked.insert(number);
                    self.inner.health.was_in_time(copy.node);
                }
                Err(error) => copy.failure = Some(error),
            }
        }
        if (acked.len() as usize) < self.needed {
            return Err(self.not_enough(acked).await);
        }
        self.leave(open, pending);
        Ok(acked)
    }

    /// The next outcome before `until`, as long as a node is open that is worth waiting for.
    async fn next_in_time<T>(
        &self,
        pending: &mut FuturesUnordered<impl Future<Output = T>>,
        open: ShardSet,
        until: Instant,
    ) -> Option<T> {
        let health = &self.inner.health;
        let unwanted = |copy: &Copy| copy.spare || health.is_tardy(copy.node);
        if open.iter().all(|number| unwanted(&self.all[number])) {
            return pending.next().now_or_never().flatten();
        }
        let next = tokio::time::timeout_at(until, pending.next()).await;
        next.ok().flatten()
    }

    /// Lets copies that are still open arrive later, if there are not too many of them already.
    fn leave<F>(&mut self, open: ShardSet, mut pending: FuturesUnordered<F>)
    where
        F: Future<Output = (usize, Outcome)> + Send + 'static,
    {
        let mut late = open;
        for number in open.iter() {
            let copy = &mut self.all[number];
            if copy.spare {
                copy.give_up(CopyError::Suspect);
                late.remove(number);
            } else {
                self.inner.health.was_late(copy.node);
            }
        }
        let Ok(permits) = self.inner.late.clone().try_acquire_many_owned(late.len()) else {
            // Dropping `self` gives them up.
            return;
        };
        if late.is_empty() {
            return;
        }
        for number in late.iter() {
            self.all[number].stop = None;
        }
        let late = async move {
            while let Some((shard, outcome)) = pending.next().await {
                tracing::debug!(shard, ?outcome, "a late copy ended");
            }
            drop(permits);
        };
        self.inner.env.tasks.spawn("shards-late", late);
    }

    /// What happened to every copy, for the caller; those under way are given up.
    async fn not_enough(&mut self, acked: ShardSet) -> WriteError {
        let mut failures = Vec::new();
        for (number, copy) in self.all.iter_mut().enumerate() {
            if acked.contains(number) {
                continue;
            }
            // A closed queue means that the task has ended, so its outcome is there.
            if copy.failure.is_none()
                && copy.queue.is_none()
                && let Some(task) = copy.task.take()
                && let Err(error) = joined(task.await)
            {
                copy.failure = Some(error);
            }
            copy.give_up(CopyError::GivenUp);
            let failure = copy.failure.clone().unwrap_or(CopyError::GivenUp);
            failures.push((copy.node, failure));
        }
        WriteError::NotEnough {
            acked: acked.len() as usize,
            needed: self.needed,
            failures,
        }
    }
}

fn joined(ended: Result<Outcome, tokio::task::JoinError>) -> Outcome {
    ended.unwrap_or_else(|error| Err(CopyError::failed(error)))
}
