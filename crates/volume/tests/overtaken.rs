//! Damage behind a long record that was still being written when the process ended: what was
//! acknowledged is told from what was interrupted.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use floeberg_env::UnsyncedData;
use floeberg_kv::{Kv, MemKv};
use floeberg_types::ChunkId;
use floeberg_volume::{ReadError, RecoveryReport, Volume};
use std::path::Path;
use support::{Bench, SEGMENT, get, pattern, put};

const HEADER: u64 = 64;
/// Payload of the short records, and what they take.
const SHORT: u64 = 30_000;
const SHORT_RECORD: u64 = 32_768;
/// Start of the long record, and of the first short one.
const LONG: u64 = 4096;
const FIRST: u64 = LONG + 2_625_536;

/// A disk on which a long record is unfinished and four short ones behind it were acknowledged, each by
/// a sync of its own.
async fn overtaken(index: Index) -> (Bench, Vec<ChunkId>) {
    let mut bench = Bench::new(1);
    let (volume, _) = bench.open().await;
    let mut long = volume.begin_sized(5 << 19).await.unwrap();
    long.append(pattern(2_200_000, 9)).await.unwrap();
    let mut shorts = Vec::new();
    for salt in 0..4 {
        let bytes = pattern(usize::try_from(SHORT).unwrap(), salt);
        shorts.push(put(&volume, &bytes).await.unwrap().chunk);
    }
    if index == Index::Flushed {
        MemKv::open(&bench.store).flush().unwrap();
    }
    bench.crash(UnsyncedData::Lost);
    if index == Index::Lost {
        bench.lose_index();
    }
    (bench, shorts)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Index {
    Flushed,
    Unflushed,
    Lost,
}

const INDEXES: [Index; 3] = [Index::Flushed, Index::Unflushed, Index::Lost];

/// Start of short record `number`. A put of unknown length leaves nothing behind its record.
fn start(number: u64) -> u64 {
    FIRST + number * SHORT_RECORD
}

async fn check_others(volume: &Volume, shorts: &[ChunkId], damaged: &[u64]) {
    for (number, chunk) in (0..).zip(shorts) {
        if !damaged.contains(&number) {
            let bytes = pattern(usize::try_from(SHORT).unwrap(), number);
            assert!(get(volume, chunk).await.unwrap() == bytes);
        }
    }
}

fn damaged_starts(report: &RecoveryReport) -> Vec<u64> {
    report.damage.iter().map(|d| d.range.start).collect()
}

#[tokio::test]
async fn without_damage_nothing_is_reported() {
    for index in INDEXES {
        let (bench, shorts) = overtaken(index).await;
        let (volume, report) = bench.open().await;
        assert_eq!((damaged_starts(&report), report.torn_records), (vec![], 1));
        check_others(&volume, &shorts, &[]).await;
        assert_eq!(volume.stats().live_chunks, 4);
    }
}

#[tokio::test]
async fn a_damaged_header_is_told_from_the_interrupted_one_beside_it() {
    for index in INDEXES {
        for number in 0..3 {
            let (bench, shorts) = overtaken(index).await;
            let disk = bench.control.disk();
            disk.flip_bit(Path::new(SEGMENT), start(number) + 9, 2)
                .unwrap();
            let (volume, report) = bench.open().await;
            assert_eq!(damaged_starts(&report), [start(number)], "{index:?}");
            let chunk = &shorts[usize::try_from(number).unwrap()];
            let read = get(&volume, chunk).await;
            match index {
                Index::Flushed => assert!(matches!(read, Err(ReadError::Corrupt(_)))),
                Index::Unflushed | Index::Lost => {
                    assert!(matches!(read, Err(ReadError::NotFound { .. })));
                }
            }
            check_others(&volume, &shorts, &[number]).await;
        }
    }
}

#[tokio::test]
async fn a_damaged_frame_is_reported_and_a_damaged_payload_is_found_by_reading() {
    for index in INDEXES {
        for number in 0..3 {
            for (at, reported) in [(HEADER + SHORT + 8 + 20, true), (HEADER + 77, false)] {
                let (bench, shorts) = overtaken(index).await;
                let disk = bench.control.disk();
                disk.flip_bit(Path::new(SEGMENT), start(number) + at, 2)
                    .unwrap();
                let (volume, report) = bench.open().await;
                let expected = if reported {
                    vec![start(number)]
                } else {
                    vec![]
                };
                assert_eq!(damaged_starts(&report), expected, "{index:?}");
                let read = get(&volume, &shorts[usize::try_from(number).unwrap()]).await;
                assert!(matches!(read, Err(ReadError::Corrupt(_))), "{read:?}");
                check_others(&volume, &shorts, &[number]).await;
            }
        }
    }
}

/// Of the last record nothing behind it tells that it was acknowledged; the index may, and the mark does.
#[tokio::test]
async fn damage_at_the_very_end_lowers_the_mark() {
    for index in INDEXES {
        let (bench, shorts) = overtaken(index).await;
        let (volume, report) = bench.open().await;
        let whole = volume.mark();
        assert!(report.damage.is_empty());
        drop((volume, bench));
        let (bench, again) = overtaken(index).await;
        assert_eq!(shorts, again);
        let disk = bench.control.disk();
        disk.flip_bit(Path::new(SEGMENT), start(3) + 9, 2).unwrap();
        let (volume, report) = bench.open().await;
        if index == Index::Flushed {
            assert_eq!(damaged_starts(&report), [start(3)]);
        } else {
            assert!(volume.mark().lacks(&whole), "{index:?}");
        }
        check_others(&volume, &shorts, &[3]).await;
    }
}

#[tokio::test]
async fn what_was_interrupted_is_given_back() {
    let (bench, shorts) = overtaken(Index::Flushed).await;
    let (volume, _) = bench.open().await;
    // Seals the first segment, of which the hole is the larger part.
    let longer = pattern(2_500_000, 10);
    let more = put(&volume, &longer).await.unwrap().chunk;
    assert_eq!(volume.stats().segments, 2);
    let report = volume.reclaim().await.unwrap();
    assert_eq!((report.moved_chunks, report.removed_segments), (4, 1));
    check_others(&volume, &shorts, &[]).await;
    assert!(get(&volume, &more).await.unwrap() == longer);
    let again = volume.reclaim().await.unwrap();
    assert_eq!((again.moved_chunks, again.removed_segments), (0, 0));
}
