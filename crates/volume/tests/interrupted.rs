//! Crashes with several records in flight that finish out of order: what was acknowledged is there, what
//! was interrupted is neither live nor called damage, and planted damage is still told from it.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use bytes::Bytes;
use floeberg_env::UnsyncedData;
use floeberg_kv::{Kv, MemKv};
use floeberg_types::ChunkId;
use floeberg_volume::{ChunkRef, ChunkWriter, DeleteError, ReadError, Volume, WriteError};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use support::{Bench, get, pattern, put};
use tokio::task::JoinHandle;

/// Writers at one time.
const SLOTS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Begin {
        slot: usize,
        len: usize,
        sized: bool,
    },
    Append {
        slot: usize,
        bytes: usize,
    },
    /// Starts to finish; nobody waits for it.
    Finish {
        slot: usize,
    },
    Abandon {
        slot: usize,
    },
    Delete {
        pick: usize,
    },
    /// Lets every task go on a little.
    Turns {
        count: usize,
    },
    /// Waits for everything that was started.
    Drain,
    /// The index writes what it has in memory, as its store may at any time.
    FlushIndex,
    Reclaim,
    Crash {
        fate: UnsyncedData,
        index_lost: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![
        1..5_000usize,
        60_000..140_000usize,
        (1 << 20)..(5 << 19) + 1usize
    ];
    let fate = prop_oneof![Just(UnsyncedData::Lost), Just(UnsyncedData::Torn)];
    prop_oneof![
        6 => (0..SLOTS, len, any::<bool>())
            .prop_map(|(slot, len, sized)| Step::Begin { slot, len, sized }),
        6 => (0..SLOTS, 1..2_000_000usize).prop_map(|(slot, bytes)| Step::Append { slot, bytes }),
        8 => (0..SLOTS).prop_map(|slot| Step::Finish { slot }),
        1 => (0..SLOTS).prop_map(|slot| Step::Abandon { slot }),
        2 => any::<usize>().prop_map(|pick| Step::Delete { pick }),
        4 => (1..6usize).prop_map(|count| Step::Turns { count }),
        1 => Just(Step::Drain),
        3 => Just(Step::FlushIndex),
        1 => Just(Step::Reclaim),
        3 => (fate, prop::bool::weighted(0.3))
            .prop_map(|(fate, index_lost)| Step::Crash { fate, index_lost }),
    ]
}

/// A chunk that is being written.
struct Open {
    writer: ChunkWriter,
    rest: Bytes,
}

/// A chunk whose end was sent and not yet answered.
struct Finishing {
    chunk: ChunkId,
    task: JoinHandle<Result<ChunkRef, WriteError>>,
}

/// A delete that was sent and not yet answered.
struct Deleting {
    chunk: ChunkId,
    task: JoinHandle<Result<(), DeleteError>>,
}

/// A volume, what was asked of it and what it acknowledged.
struct Run {
    bench: Bench,
    volume: Volume,
    bytes: BTreeMap<ChunkId, Bytes>,
    open: BTreeMap<usize, Open>,
    finishing: Vec<Finishing>,
    deleting: Vec<Deleting>,
    live: BTreeSet<ChunkId>,
    deleted: BTreeSet<ChunkId>,
    puts: u64,
}

impl Run {
    async fn new(seed: u64) -> Self {
        let bench = Bench::new(seed);
        let (volume, _) = bench.open().await;
        Self {
            bench,
            volume,
            bytes: BTreeMap::new(),
            open: BTreeMap::new(),
            finishing: Vec::new(),
            deleting: Vec::new(),
            live: BTreeSet::new(),
            deleted: BTreeSet::new(),
            puts: 0,
        }
    }

    async fn begin(&mut self, slot: usize, len: usize, sized: bool) {
        self.puts += 1;
        let rest = pattern(len, self.puts);
        let writer = if sized {
            self.volume.begin_sized(len as u64).await.unwrap()
        } else {
            self.volume.begin().await
        };
        self.bytes.insert(writer.chunk(), rest.clone());
        self.open.insert(slot, Open { writer, rest });
    }

    async fn append(&mut self, slot: usize, bytes: usize) {
        if let Some(open) = self.open.get_mut(&slot) {
            let piece = open.rest.split_to(bytes.min(open.rest.len()));
            open.writer.append(piece).await.unwrap();
        }
    }

    async fn finish(&mut self, slot: usize) {
        self.append(slot, usize::MAX).await;
        if let Some(open) = self.open.remove(&slot) {
            let chunk = open.writer.chunk();
            let task = tokio::spawn(open.writer.finish());
            self.finishing.push(Finishing { chunk, task });
        }
    }

    fn delete(&mut self, pick: usize) {
        let Some(at) = pick.checked_rem(self.live.len()) else {
            return;
        };
        let chunk = *self.live.iter().nth(at).unwrap();
        self.live.remove(&chunk);
        let volume = self.volume.clone();
        let task = tokio::spawn(async move { volume.delete(&chunk).await });
        self.deleting.push(Deleting { chunk, task });
    }

    /// Notes what has been answered; with `all`, waits for the rest.
    async fn collect(&mut self, all: bool) {
        for finishing in std::mem::take(&mut self.finishing) {
            if all || finishing.task.is_finished() {
                let stored = finishing.task.await.unwrap().unwrap();
                self.live.insert(stored.chunk);
            } else {
                self.finishing.push(finishing);
            }
        }
        for deleting in std::mem::take(&mut self.deleting) {
            if all || deleting.task.is_finished() {
                deleting.task.await.unwrap().unwrap();
                self.deleted.insert(deleting.chunk);
            } else {
                self.deleting.push(deleting);
            }
        }
    }

    fn flush_index(&self) {
        MemKv::open(&self.bench.store).flush().unwrap();
    }

    async fn crash(&mut self, fate: UnsyncedData, index_lost: bool) {
        self.collect(false).await;
        self.bench.crash(fate);
        self.open.clear();
        // Whether these exist is open until the volume says so.
        let mut undecided: BTreeSet<ChunkId> = BTreeSet::new();
        for finishing in self.finishing.drain(..) {
            finishing.task.abort();
            undecided.insert(finishing.chunk);
        }
        for deleting in self.deleting.drain(..) {
            deleting.task.abort();
            undecided.insert(deleting.chunk);
        }
        if index_lost {
            self.bench.lose_index();
        }
        self.reopen().await;
        for chunk in undecided {
            if self.volume.len_of(&chunk).unwrap().is_some() {
                self.live.insert(chunk);
            }
        }
        self.check().await;
        // An index that is built anew sees every segment from its start.
        self.bench.crash(UnsyncedData::Lost);
        self.bench.lose_index();
        self.reopen().await;
        self.check().await;
    }

    async fn reopen(&mut self) {
        let (volume, report) = self.bench.open().await;
        assert!(report.damage.is_empty(), "{report:?}");
        assert_eq!(report.lost_chunks, 0);
        self.volume = volume;
    }

    /// What was acknowledged is there, whatever else is there is whole, and nothing deleted is.
    async fn check(&self) {
        let listed = self.volume.chunks(None, usize::MAX).unwrap();
        let listed: BTreeSet<ChunkId> = listed.into_iter().map(|(chunk, _)| chunk).collect();
        assert!(listed == self.live, "{} chunks", listed.len());
        for chunk in &listed {
            assert!(get(&self.volume, chunk).await.unwrap() == self.bytes[chunk]);
            self.volume.verify(chunk).await.unwrap();
        }
        for chunk in &self.deleted {
            let gone = get(&self.volume, chunk).await;
            assert!(matches!(gone, Err(ReadError::NotFound { .. })), "{gone:?}");
        }
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Begin { slot, len, sized } => self.begin(*slot, *len, *sized).await,
            Step::Append { slot, bytes } => self.append(*slot, *bytes).await,
            Step::Finish { slot } => self.finish(*slot).await,
            Step::Abandon { slot } => drop(self.open.remove(slot)),
            Step::Delete { pick } => self.delete(*pick),
            Step::Turns { count } => turns(*count).await,
            Step::Drain => self.collect(true).await,
            Step::FlushIndex => self.flush_index(),
            Step::Reclaim => {
                let report = self.volume.reclaim().await.unwrap();
                assert_eq!(report.damaged_chunks, 0);
            }
            Step::Crash { fate, index_lost } => self.crash(*fate, *index_lost).await,
        }
        self.collect(false).await;
    }
}

async fn turns(count: usize) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(work);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 80, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn interrupted_records_are_neither_live_nor_damage(
        seed: u64,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        block_on(async {
            let mut run = Run::new(seed).await;
            for step in &steps {
                run.step(step).await;
            }
            run.crash(UnsyncedData::Torn, false).await;
        });
    }
}

/// A long record is being written while short ones behind it are acknowledged and indexed; the crash
/// comes `after` turns of the tasks that complete the long one.
async fn overtaken(after: usize, fate: UnsyncedData, index_lost: bool) {
    let mut run = Run::new(after as u64).await;
    run.begin(0, 5 << 19, true).await;
    run.append(0, 2_000_000).await;
    for slot in 1..SLOTS {
        run.begin(slot, 20_000 * slot, true).await;
        run.finish(slot).await;
        run.collect(true).await;
    }
    run.flush_index();
    run.finish(0).await;
    turns(after).await;
    run.crash(fate, index_lost).await;
    assert!(run.live.len() >= SLOTS - 1);
}

#[test]
fn a_record_that_others_overtook_is_interrupted_at_every_step() {
    for after in 0..12 {
        for fate in [UnsyncedData::Lost, UnsyncedData::Torn] {
            for index_lost in [false, true] {
                block_on(overtaken(after, fate, index_lost));
            }
        }
    }
}

/// Only the process dies: what it had written stays, what it had not is a hole in the middle.
#[tokio::test]
async fn a_hole_that_a_killed_process_left_is_no_damage() {
    let mut bench = Bench::new(1);
    let (volume, _) = bench.open().await;
    let mut long = volume.begin_sized(5 << 19).await.unwrap();
    long.append(pattern(2_200_000, 1)).await.unwrap();
    let short = put(&volume, &pattern(30_000, 2)).await.unwrap().chunk;
    MemKv::open(&bench.store).flush().unwrap();
    let next = put(&volume, &pattern(30_000, 3)).await.unwrap().chunk;
    bench.crash(UnsyncedData::Lost);
    for _ in 0..2 {
        let (volume, report) = bench.open().await;
        assert!(report.damage.is_empty(), "{report:?}");
        assert!(get(&volume, &short).await.unwrap() == pattern(30_000, 2));
        assert!(get(&volume, &next).await.unwrap() == pattern(30_000, 3));
        volume.close().await;
        drop(volume);
        bench.lose_index();
    }
}
