//! Random operations, crashes and restarts against a map from chunk ids to bytes.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use bytes::Bytes;
use floeberg_env::{Env, UnsyncedData};
use floeberg_kv::RocksKvConfig;
use floeberg_telemetry::VolumeMetrics;
use floeberg_types::ChunkId;
use floeberg_volume::{IndexStore, ReadError, Volume, VolumeConfig};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use support::{Bench, get, get_range, pattern, put};

#[derive(Clone, Debug)]
enum Step {
    Put {
        len: usize,
    },
    PutSized {
        len: usize,
    },
    PutTogether {
        lens: Vec<usize>,
    },
    Abandon {
        len: usize,
    },
    Get {
        pick: usize,
    },
    Range {
        pick: usize,
        from: u16,
        to: u16,
    },
    Delete {
        pick: usize,
    },
    DeleteHalf,
    Reclaim,
    Reopen,
    Crash {
        fate: UnsyncedData,
        index: IndexFate,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IndexFate {
    AsFlushed,
    Lost,
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![
        Just(0),
        1..200usize,
        Just(64 << 10),
        60_000..140_000usize,
        (1 << 20)..(5 << 19) + 1usize,
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![Just(UnsyncedData::Lost), Just(UnsyncedData::Torn)];
    let index = prop_oneof![2 => Just(IndexFate::AsFlushed), 1 => Just(IndexFate::Lost)];
    prop_oneof![
        4 => len().prop_map(|len| Step::Put { len }),
        3 => len().prop_map(|len| Step::PutSized { len }),
        2 => prop::collection::vec(len(), 2..6).prop_map(|lens| Step::PutTogether { lens }),
        2 => len().prop_map(|len| Step::Abandon { len }),
        3 => any::<usize>().prop_map(|pick| Step::Get { pick }),
        3 => any::<(usize, u16, u16)>().prop_map(|(pick, from, to)| Step::Range { pick, from, to }),
        5 => any::<usize>().prop_map(|pick| Step::Delete { pick }),
        1 => Just(Step::DeleteHalf),
        3 => Just(Step::Reclaim),
        1 => Just(Step::Reopen),
        3 => (fate, index).prop_map(|(fate, index)| Step::Crash { fate, index }),
    ]
}

/// What the volume must hold.
#[derive(Default)]
struct Model {
    live: BTreeMap<ChunkId, Bytes>,
    deleted: BTreeSet<ChunkId>,
    puts: u64,
}

impl Model {
    fn next(&mut self, len: usize) -> Bytes {
        self.puts += 1;
        pattern(len, self.puts)
    }

    fn pick(&self, pick: usize) -> Option<(ChunkId, Bytes)> {
        let index = pick.checked_rem(self.live.len())?;
        let (chunk, bytes) = self.live.iter().nth(index)?;
        Some((*chunk, bytes.clone()))
    }

    async fn run(&mut self, volume: &Volume, step: &Step) {
        match step {
            Step::Put { len } => {
                let bytes = self.next(*len);
                let stored = put(volume, &bytes).await.unwrap();
                assert_eq!(stored.len, bytes.len() as u64);
                self.live.insert(stored.chunk, bytes);
            }
            Step::PutSized { len } => {
                let bytes = self.next(*len);
                let mut writer = volume.begin_sized(*len as u64).await.unwrap();
                writer.append(bytes.clone()).await.unwrap();
                let stored = writer.finish().await.unwrap();
                assert_eq!(stored.crc64, crc_fast::crc64_nvme(&bytes));
                self.live.insert(stored.chunk, bytes);
            }
            Step::PutTogether { lens } => {
                let all: Vec<Bytes> = lens.iter().map(|len| self.next(*len)).collect();
                let puts = all.iter().map(|bytes| put(volume, bytes));
                let stored = futures::future::try_join_all(puts).await.unwrap();
                let chunks = stored.iter().map(|s| s.chunk);
                self.live.extend(chunks.zip(all));
            }
            Step::Abandon { len } => {
                let bytes = self.next(*len);
                let mut writer = volume.begin().await;
                writer.append(bytes).await.unwrap();
                self.deleted.insert(writer.chunk());
            }
            Step::Get { pick } => {
                if let Some((chunk, bytes)) = self.pick(*pick) {
                    assert!(get(volume, &chunk).await.unwrap() == bytes, "{chunk}");
                }
            }
            Step::Range { pick, from, to } => self.range(volume, *pick, *from, *to).await,
            Step::Delete { pick } => {
                if let Some((chunk, _)) = self.pick(*pick) {
                    volume.delete(&chunk).await.unwrap();
                    self.live.remove(&chunk);
                    self.deleted.insert(chunk);
                }
            }
            Step::DeleteHalf => {
                let half: Vec<ChunkId> = self.live.keys().step_by(2).copied().collect();
                volume.delete_all(&half).await.unwrap();
                self.live.retain(|chunk, _| !half.contains(chunk));
                self.deleted.extend(half);
            }
            Step::Reclaim => {
                let report = volume.reclaim().await.unwrap();
                assert_eq!(report.damaged_chunks, 0);
            }
            Step::Reopen | Step::Crash { .. } => {}
        }
    }

    async fn range(&self, volume: &Volume, pick: usize, from: u16, to: u16) {
        let Some((chunk, bytes)) = self.pick(pick) else {
            return;
        };
        let at = |share: u16| bytes.len() * usize::from(share) / usize::from(u16::MAX);
        let (from, to) = (at(from.min(to)), at(from.max(to)));
        let read = get_range(volume, &chunk, from as u64..to as u64).await;
        assert!(read.unwrap() == bytes[from..to], "{chunk} {from}..{to}");
    }

    /// Every finished chunk is there, every deleted one is not, and the sums agree.
    async fn check(&self, volume: &Volume) {
        for (chunk, bytes) in &self.live {
            assert!(get(volume, chunk).await.unwrap() == *bytes, "{chunk}");
            assert_eq!(volume.verify(chunk).await.unwrap().len, bytes.len() as u64);
        }
        for chunk in &self.deleted {
            let gone = get(volume, chunk).await;
            assert!(matches!(gone, Err(ReadError::NotFound { .. })), "{gone:?}");
        }
        let stats = volume.stats();
        assert_eq!(stats.live_chunks, self.live.len() as u64);
        let bytes: usize = self.live.values().map(Bytes::len).sum();
        assert_eq!(stats.live_bytes, bytes as u64);
        let listed = volume.chunks(None, usize::MAX).unwrap();
        assert!(listed.iter().map(|(c, _)| c).eq(self.live.keys()));
    }
}

async fn simulate(seed: u64, steps: &[Step]) {
    let mut bench = Bench::new(seed);
    let (mut volume, _) = bench.open().await;
    let mut model = Model::default();
    for step in steps {
        model.run(&volume, step).await;
        match step {
            Step::Reopen => {
                volume.close().await;
                let (reopened, report) = bench.open().await;
                assert_eq!(
                    report.scanned_records, 0,
                    "a clean stop leaves nothing to scan"
                );
                volume = reopened;
            }
            Step::Crash { fate, index } => {
                bench.crash(*fate);
                if *index == IndexFate::Lost {
                    bench.lose_index();
                }
                let (reopened, report) = bench.open().await;
                assert!(report.damage.is_empty(), "{report:?}");
                assert_eq!(report.lost_chunks, 0);
                volume = reopened;
                model.check(&volume).await;
            }
            _ => {}
        }
    }
    model.check(&volume).await;
}

async fn on_machine(steps: &[Step]) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = VolumeConfig::new(IndexStore::Rocks(RocksKvConfig::default()));
    config.segment_bytes = 4 << 20;
    config.max_chunk_bytes = 5 << 19;
    let path = dir.path().join("volume");
    let metrics = VolumeMetrics::default();
    let open = || Volume::open(&path, config.clone(), Env::real(), metrics.clone());
    let (mut volume, _) = open().await.unwrap();
    let mut model = Model::default();
    for step in steps {
        model.run(&volume, step).await;
        if let Step::Reopen | Step::Crash { .. } = step {
            volume.close().await;
            drop(volume);
            if let Step::Crash {
                index: IndexFate::Lost,
                ..
            } = step
            {
                std::fs::remove_dir_all(path.join("index")).unwrap();
            }
            let (reopened, report) = open().await.unwrap();
            assert!(report.damage.is_empty(), "{report:?}");
            volume = reopened;
            model.check(&volume).await;
        }
    }
    model.check(&volume).await;
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn finished_chunks_survive_crashes_and_deleted_ones_stay_deleted(
        seed: u64,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(simulate(seed, &steps));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn the_same_holds_on_the_machines_disk(steps in prop::collection::vec(step(), 1..30)) {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .unwrap()
            .block_on(on_machine(&steps));
    }
}
