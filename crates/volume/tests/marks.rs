//! The mark of a volume: never lower after a crash than one that was given out, and lower on an older copy
//! that lacks something acknowledged.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use bytes::Bytes;
use floeberg_env::{OpenMode, UnsyncedData};
use floeberg_kv::{Kv, MemKv};
use floeberg_types::ChunkId;
use floeberg_volume::{RaiseError, Volume, VolumeMark};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::Path;
use support::{Bench, SEGMENT, get, pattern, put};
use tokio::task::JoinHandle;

#[derive(Clone, Debug)]
enum Step {
    Put {
        len: usize,
    },
    Delete {
        pick: usize,
    },
    Turns {
        count: usize,
    },
    Drain,
    FlushIndex,
    Reclaim,
    FailSync,
    Close,
    Crash {
        fate: UnsyncedData,
        index_lost: bool,
    },
}

fn fate() -> impl Strategy<Value = UnsyncedData> {
    prop_oneof![Just(UnsyncedData::Lost), Just(UnsyncedData::Torn)]
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![4 => 1..100_000usize, 1 => (1 << 20)..(5 << 19) + 1usize];
    prop_oneof![
        12 => len.prop_map(|len| Step::Put { len }),
        5 => any::<usize>().prop_map(|pick| Step::Delete { pick }),
        5 => (1..9usize).prop_map(|count| Step::Turns { count }),
        1 => Just(Step::Drain),
        2 => Just(Step::FlushIndex),
        1 => Just(Step::Reclaim),
        1 => Just(Step::FailSync),
        1 => Just(Step::Close),
        2 => (fate(), prop::bool::weighted(0.3))
            .prop_map(|(fate, index_lost)| Step::Crash { fate, index_lost }),
    ]
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    Put(ChunkId),
    Delete(ChunkId),
}

/// A volume, and what it acknowledged. The same seed and steps give the same bytes on the disk.
struct Run {
    bench: Bench,
    volume: Volume,
    flying: Vec<(Asked, JoinHandle<bool>)>,
    live: BTreeSet<ChunkId>,
    acknowledged: BTreeSet<Asked>,
    /// The highest mark that was given out.
    given: VolumeMark,
    puts: u64,
}

impl Run {
    async fn new(seed: u64) -> Self {
        let bench = Bench::new(seed);
        let (volume, _) = bench.open().await;
        let given = volume.mark();
        Self {
            bench,
            volume,
            flying: Vec::new(),
            live: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            given,
            puts: 0,
        }
    }

    async fn put(&mut self, len: usize) {
        self.puts += 1;
        let bytes: Bytes = pattern(len, self.puts);
        let mut writer = self.volume.begin_sized(len as u64).await.unwrap();
        let chunk = writer.chunk();
        let task = tokio::spawn(async move {
            writer.append(bytes).await.is_ok() && writer.finish().await.is_ok()
        });
        self.flying.push((Asked::Put(chunk), task));
    }

    fn delete(&mut self, pick: usize) {
        if let Some(at) = pick.checked_rem(self.live.len()) {
            let chunk = *self.live.iter().nth(at).unwrap();
            self.live.remove(&chunk);
            let volume = self.volume.clone();
            let task = tokio::spawn(async move { volume.delete(&chunk).await.is_ok() });
            self.flying.push((Asked::Delete(chunk), task));
        }
    }

    async fn collect(&mut self, all: bool) {
        for (asked, task) in std::mem::take(&mut self.flying) {
            if !all && !task.is_finished() {
                self.flying.push((asked, task));
            } else if task.await.unwrap() {
                self.acknowledged.insert(asked);
                if let Asked::Put(chunk) = asked {
                    self.live.insert(chunk);
                }
            }
        }
        self.note_mark();
    }

    fn note_mark(&mut self) {
        let mark = self.volume.mark();
        assert!(mark >= self.given, "{mark:?} {:?}", self.given);
        self.given = mark;
    }

    /// A sync that is still to fail must not fail in the next start.
    fn disarm(&self) {
        let disk = self.bench.env.disk.as_ref();
        if let Ok(segment) = disk.open(Path::new(SEGMENT), OpenMode::ReadWrite) {
            let _ = segment.sync_data();
        }
    }

    async fn reopen(&mut self) {
        self.disarm();
        self.flying.drain(..).for_each(|(_, task)| task.abort());
        let (volume, report) = self.bench.open().await;
        assert!(report.damage.is_empty(), "{report:?}");
        self.volume = volume;
        self.note_mark();
        let listed = self.volume.chunks(None, usize::MAX).unwrap();
        self.live = listed.into_iter().map(|(chunk, _)| chunk).collect();
    }

    async fn crash(&mut self, fate: UnsyncedData, index_lost: bool) {
        self.bench.crash(fate);
        if index_lost {
            self.bench.lose_index();
        }
        self.reopen().await;
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Put { len } => self.put(*len).await,
            Step::Delete { pick } => self.delete(*pick),
            Step::Turns { count } => {
                for _ in 0..*count {
                    tokio::task::yield_now().await;
                }
            }
            Step::Drain => self.collect(true).await,
            Step::FlushIndex => MemKv::open(&self.bench.store).flush().unwrap(),
            Step::Reclaim => {
                // A sync that fails ends the pass.
                let _ = self.volume.reclaim().await;
            }
            Step::FailSync => self.bench.control.disk().fail_next_sync(Path::new(SEGMENT)),
            Step::Close => {
                self.collect(true).await;
                self.volume.close().await;
                // What a failed sync left in the cache is not on the disk, which only the end of the
                // machine shows.
                if self.volume.stats().failed_segments > 0 {
                    self.bench.crash(UnsyncedData::Lost);
                }
                self.reopen().await;
            }
            Step::Crash { fate, index_lost } => self.crash(*fate, *index_lost).await,
        }
        self.collect(false).await;
    }

    fn lacks(&self, asked: Asked) -> bool {
        let has = |chunk| self.volume.len_of(&chunk).unwrap().is_some();
        match asked {
            Asked::Put(chunk) => !has(chunk),
            Asked::Delete(chunk) => has(chunk),
        }
    }
}

/// A copy of the disk after `at` steps, with any of the unsynced data lost, against the volume that went on.
async fn compare(seed: u64, steps: &[Step], at: usize, fate: UnsyncedData, index_lost: bool) {
    let mut copy = Run::new(seed).await;
    for step in &steps[..at] {
        copy.step(step).await;
    }
    let before = copy.acknowledged.clone();
    copy.crash(fate, index_lost).await;
    let mut run = Run::new(seed).await;
    for (number, step) in steps.iter().enumerate() {
        run.step(step).await;
        if number + 1 == at {
            assert_eq!(run.acknowledged, before, "one seed, one run");
        }
        let later = run.acknowledged.difference(&before);
        if number + 1 > at && later.copied().any(|asked| copy.lacks(asked)) {
            assert!(
                copy.volume.mark().lacks(&run.given),
                "{:?} {:?}",
                copy.volume.mark(),
                run.given
            );
        }
    }
    run.crash(UnsyncedData::Torn, true).await;
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 120, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn marks_survive_crashes_and_tell_older_copies(
        seed: u64,
        steps in prop::collection::vec(step(), 1..60),
        copied: usize,
        fate in fate(),
        index_lost: bool,
    ) {
        let at = copied % (steps.len() + 1);
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(compare(seed, &steps, at, fate, index_lost));
    }
}

#[tokio::test]
async fn reclaiming_everything_does_not_lower_the_mark() {
    let mut bench = Bench::new(1);
    let (volume, _) = bench.open().await;
    let mut chunks = Vec::new();
    for salt in 0..4 {
        chunks.push(put(&volume, &pattern(2_000_000, salt)).await.unwrap().chunk);
    }
    volume.delete_all(&chunks).await.unwrap();
    // The segment with the tombstone is full, and what sealed it is given up.
    let mut writer = volume.begin_sized(5 << 19).await.unwrap();
    writer.append(pattern(2_000_000, 9)).await.unwrap();
    drop(writer);
    let given = volume.mark();
    volume.reclaim().await.unwrap();
    volume.reclaim().await.unwrap();
    assert!(volume.stats().segments <= 1, "{:?}", volume.stats());
    let after = volume.mark();
    assert!(after >= given);
    drop(volume);
    bench.crash(UnsyncedData::Lost);
    bench.lose_index();
    let (volume, _) = bench.open().await;
    assert!(volume.mark() >= after, "{:?} {after:?}", volume.mark());
}

#[tokio::test]
async fn a_mark_can_be_lifted_above_what_others_know() {
    let bench = Bench::new(2);
    let (volume, _) = bench.open().await;
    put(&volume, &pattern(10, 1)).await.unwrap();
    let known = VolumeMark::from_message(&floeberg_proto::floeberg::volume::v1::VolumeMark {
        sequence: volume.mark().sequence() + 1_000_000,
        ..volume.mark().to_message()
    })
    .unwrap();
    let raised = volume.raise_mark(&known).await.unwrap();
    assert!(known.lacks(&raised) && volume.mark() == raised);
    drop(volume);
    bench.crash(UnsyncedData::Lost);
    let (volume, _) = bench.open().await;
    assert_eq!(volume.mark(), raised);
    let foreign = Bench::new(3).open().await.0.mark();
    let refused = volume.raise_mark(&foreign).await;
    assert!(matches!(refused, Err(RaiseError::Foreign)));
}

/// Records of an earlier version have no numbers: they are read, and say nothing.
#[tokio::test]
async fn a_volume_without_numbers_has_the_lowest_mark() {
    let bench = Bench::new(4);
    let (volume, _) = bench.open().await;
    assert_eq!(volume.mark().sequence(), 0);
    let chunk = put(&volume, &pattern(10, 1)).await.unwrap().chunk;
    assert!(volume.mark().sequence() > 0);
    assert_eq!(get(&volume, &chunk).await.unwrap(), pattern(10, 1));
}
