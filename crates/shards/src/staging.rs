//! Writes of other nodes that are not complete yet.
//!
//! A write is known by its sender and its random id, so pieces of two attempts never mix. One that
//! is silent for too long is dropped: its sender went away or lost its connection.

use crate::local::LocalWrite;
use crate::wire::{Fault, ShardId, Write, malformed};
use floeberg_env::Env;
use floeberg_rpc::{Refusal, RefusalCode};
use floeberg_types::{ChunkId, NodeId};
use floeberg_volume::Volume;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

type Key = (NodeId, [u8; 16]);

enum Phase {
    /// Waits for its next piece.
    Open(Box<LocalWrite>),
    /// A piece is being stored.
    Working,
    /// Durable; remembered for a while, because its last piece may be sent again.
    Done,
}

struct Slot {
    shard: ShardId,
    phase: Phase,
    /// Sequence of the next piece.
    next: u64,
    /// Checksum of the piece before.
    last_crc64: u64,
    /// Monotonic time of the last sign of life.
    heard: Duration,
}

#[derive(Default)]
struct Slots {
    by_key: HashMap<Key, Slot>,
    /// Whether the task that drops silent writes runs.
    watched: bool,
}

impl Slots {
    fn open(&self) -> usize {
        let open = |slot: &&Slot| !matches!(slot.phase, Phase::Done);
        self.by_key.values().filter(open).count()
    }
}

/// How receiving a piece can fail: refusals can be asked again, faults end the write.
pub(crate) enum Rejected {
    Refusal(Refusal),
    Fault(Fault),
}

impl From<Fault> for Rejected {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn busy(message: &str) -> Rejected {
    Rejected::Refusal(Refusal {
        code: RefusalCode::Busy,
        message: message.into(),
    })
}

/// The open writes of other nodes.
pub(crate) struct Staging {
    volume: Volume,
    env: Env,
    limit: usize,
    silence: Duration,
    slots: Mutex<Slots>,
}

/// What a piece finds when it arrives.
enum Found {
    /// It is the next piece of this write.
    Next(Box<LocalWrite>),
    /// It begins a write.
    First,
    /// It was stored before.
    Again { durable: bool },
}

/// Gives the slot up unless the piece was stored: also if the caller went away in between.
struct Claim<'a> {
    staging: &'a Staging,
    key: Key,
    stored: bool,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.stored {
            self.staging.slots.lock().by_key.remove(&self.key);
        }
    }
}

impl Staging {
    pub(crate) fn new(volume: Volume, env: Env, limit: usize, silence: Duration) -> Arc<Self> {
        Arc::new(Self {
            volume,
            env,
            limit,
            silence,
            slots: Mutex::default(),
        })
    }

    /// Whether a copy of this chunk is on its way.
    pub(crate) fn is_writing(&self, chunk: &ChunkId) -> bool {
        let slots = self.slots.lock();
        let writes = |slot: &Slot| !matches!(slot.phase, Phase::Done) && slot.shard.chunk == *chunk;
        slots.by_key.values().any(writes)
    }

    pub(crate) fn open_writes(&self) -> usize {
        self.slots.lock().open()
    }

    pub(crate) fn abandon(&self, from: NodeId, write: &Write) {
        let key = (from, write.head.write);
        self.slots.lock().by_key.remove(&key);
    }

    /// Stores a piece; `true` once the shard is durable.
    pub(crate) async fn receive(
        self: &Arc<Self>,
        from: NodeId,
        write: Write,
    ) -> Result<bool, Rejected> {
        let key = (from, write.head.write);
        let found = self.find(key, &write)?;
        let mut claim = Claim {
            staging: self,
            key,
            stored: false,
        };
        let mut local = match found {
            Found::Again { durable } => {
                claim.stored = true;
                return Ok(durable);
            }
            Found::Next(local) => local,
            Found::First => {
                let (chunk, announced) = (write.head.shard.chunk, write.head.announced);
                Box::new(LocalWrite::begin(self.volume.clone(), chunk, announced).await?)
            }
        };
        local.append(&write.piece).await?;
        let phase = match write.piece.end {
            None => Phase::Open(local),
            Some(end) => {
                local.finish(end).await?;
                Phase::Done
            }
        };
        let mut slots = self.slots.lock();
        // Abandoned in between: a durable copy stays, an open one goes.
        if let Some(slot) = slots.by_key.get_mut(&key) {
            slot.phase = phase;
            slot.next = write.piece.sequence + 1;
            slot.last_crc64 = write.piece.crc64;
            slot.heard = self.env.clock.monotonic();
        }
        claim.stored = true;
        Ok(write.piece.end.is_some())
    }

    fn find(self: &Arc<Self>, key: Key, write: &Write) -> Result<Found, Rejected> {
        let now = self.env.clock.monotonic();
        let mut slots = self.slots.lock();
        let sequence = write.piece.sequence;
        let Some(slot) = slots.by_key.get_mut(&key) else {
            if sequence != 0 {
                return Err(Fault::NoSuchWrite.into());
            }
            if slots.open() >= self.limit {
                return Err(busy(
                    "too many shards are being written here: wait and retry",
                ));
            }
            let slot = Slot {
                shard: write.head.shard,
                phase: Phase::Working,
                next: 0,
                last_crc64: 0,
                heard: now,
            };
            slots.by_key.insert(key, slot);
            self.watch(&mut slots);
            return Ok(Found::First);
        };
        if slot.shard != write.head.shard {
            return Err(Rejected::Refusal(malformed("a write is about one shard")));
        }
        let again = sequence + 1 == slot.next && slot.last_crc64 == write.piece.crc64;
        match (&slot.phase, again) {
            (Phase::Working, _) => Err(busy("the piece is being stored: ask again")),
            (Phase::Open(_), true) => Ok(Found::Again { durable: false }),
            (Phase::Done, true) => Ok(Found::Again { durable: true }),
            (Phase::Open(_), false) if sequence == slot.next => {
                slot.heard = now;
                match std::mem::replace(&mut slot.phase, Phase::Working) {
                    Phase::Open(local) => Ok(Found::Next(local)),
                    Phase::Working | Phase::Done => Err(Fault::NoSuchWrite.into()),
                }
            }
            (Phase::Open(_) | Phase::Done, false) => {
                let message = "a piece is missing, or came twice with other bytes";
                Err(Rejected::Refusal(malformed(message)))
            }
        }
    }

    /// Starts the task that drops silent writes, which ends when there are none.
    fn watch(self: &Arc<Self>, slots: &mut Slots) {
        if std::mem::replace(&mut slots.watched, true) {
            return;
        }
        let (weak, silence) = (Arc::downgrade(self), self.silence);
        let watch = async move {
            loop {
                tokio::time::sleep(silence / 2).await;
                match weak.upgrade() {
                    Some(staging) if staging.drop_silent() => {}
                    _ => return,
                }
            }
        };
        self.env.tasks.spawn("shards-silence", watch);
    }

    /// Returns whether there is anything left to watch.
    fn drop_silent(&self) -> bool {
        let now = self.env.clock.monotonic();
        let mut slots = self.slots.lock();
        slots.by_key.retain(|(from, _), slot| {
            let silent = now.saturating_sub(slot.heard) >= self.silence;
            // A piece being stored is a sign of life; whoever stores it settles the slot.
            let keep = !silent || matches!(slot.phase, Phase::Working);
            if !keep && matches!(slot.phase, Phase::Open(_)) {
                let chunk = slot.shard.chunk;
                tracing::info!(%from, %chunk, "dropped a write that fell silent");
            }
            keep
        });
        slots.watched = !slots.by_key.is_empty();
        slots.watched
    }
}
