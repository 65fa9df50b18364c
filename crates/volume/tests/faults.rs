//! Planted faults: flipped bits, failing syncs, full disks, second processes.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use bytes::Bytes;
use floeberg_env::{Disk, UnsyncedData};
use floeberg_volume::{ChunkRef, ReadError, RecordPart, Volume, VolumeError, WriteError};
use futures::StreamExt;
use std::path::Path;
use support::{Bench, DIR, SEGMENT, get, get_range, pattern, put};

const RECORD: u64 = 4096;
const HEADER: u64 = 64;
const LEN: u64 = 200_000;

async fn part_reported(flip_at: u64) -> RecordPart {
    let bench = Bench::new(1);
    let (volume, _) = bench.open().await;
    let bytes = pattern(usize::try_from(LEN).unwrap(), 1);
    let chunk = put(&volume, &bytes).await.unwrap().chunk;
    let disk = bench.control.disk();
    disk.flip_bit(Path::new(SEGMENT), RECORD + flip_at, 3)
        .unwrap();
    let part = match get(&volume, &chunk).await {
        Err(ReadError::Corrupt(damage)) => damage.part,
        other => panic!("byte {flip_at}: {:?}", other.map(|b| b.len())),
    };
    assert_eq!(bench.metrics.corrupt_blocks.get(), 1);
    assert!(volume.verify(&chunk).await.is_err());
    disk.flip_bit(Path::new(SEGMENT), RECORD + flip_at, 3)
        .unwrap();
    assert!(get(&volume, &chunk).await.unwrap() == bytes);
    part
}

#[tokio::test]
async fn a_flipped_bit_is_an_error_wherever_it_is() {
    for at in 0..HEADER {
        assert_eq!(part_reported(at).await, RecordPart::Header, "byte {at}");
    }
    for (at, block) in [(0, 0), (65_535, 0), (65_536, 1), (LEN - 1, 3)] {
        assert_eq!(
            part_reported(HEADER + at).await,
            RecordPart::Payload { block }
        );
    }
    let table = HEADER + LEN;
    for at in 0..32 {
        assert_eq!(
            part_reported(table + at).await,
            RecordPart::Table,
            "byte {at}"
        );
    }
    for at in 0..96 {
        assert_eq!(
            part_reported(table + 32 + at).await,
            RecordPart::Footer,
            "byte {at}"
        );
    }
}

#[tokio::test]
async fn blocks_beside_a_damaged_one_stay_readable() {
    let bench = Bench::new(2);
    let (volume, _) = bench.open().await;
    let bytes = pattern(2_000_000, 2);
    let chunk = put(&volume, &bytes).await.unwrap().chunk;
    let damaged_byte = 20 * 65_536 + 17;
    let at = RECORD + HEADER + damaged_byte;
    bench
        .control
        .disk()
        .flip_bit(Path::new(SEGMENT), at, 0)
        .unwrap();
    for range in [0..20 * 65_536, 21 * 65_536..2_000_000] {
        let from = usize::try_from(range.start).unwrap();
        let to = usize::try_from(range.end).unwrap();
        assert!(get_range(&volume, &chunk, range).await.unwrap() == bytes[from..to]);
    }
    let touched = get_range(&volume, &chunk, damaged_byte + 1..damaged_byte + 2).await;
    assert!(matches!(touched, Err(ReadError::Corrupt(_))));
    // The damage is in a later piece: the stream must end with the error, not with bytes.
    let mut stream = volume.read_all(&chunk).await.unwrap();
    let first = stream.next().await.unwrap().unwrap();
    assert!(first == bytes[..1 << 20]);
    assert!(matches!(
        stream.next().await,
        Some(Err(ReadError::Corrupt(_)))
    ));
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn damage_in_front_of_the_tail_is_reported_and_cuts_nothing_off() {
    let mut bench = Bench::new(3);
    let (volume, _) = bench.open().await;
    let mut chunks = Vec::new();
    for salt in 0..4 {
        chunks.push(put(&volume, &pattern(50_000, salt)).await.unwrap().chunk);
    }
    volume.close().await;
    let path = Path::new(SEGMENT);
    // The header of the first record, and a byte of the second one's footer.
    let record = 53_248;
    let disk = bench.control.disk();
    disk.flip_bit(path, RECORD + 9, 0).unwrap();
    disk.flip_bit(path, RECORD + record + HEADER + 50_000 + 8 + 40, 0)
        .unwrap();
    bench.lose_index();
    let (volume, report) = bench.open().await;
    let damaged: Vec<u64> = report.damage.iter().map(|d| d.range.start).collect();
    assert_eq!(damaged, [RECORD, RECORD + record], "{report:?}");
    let first = get(&volume, &chunks[0]).await;
    assert!(matches!(first, Err(ReadError::NotFound { .. })));
    let second = get(&volume, &chunks[1]).await;
    assert!(matches!(second, Err(ReadError::Corrupt(_))));
    for (salt, chunk) in (0..).zip(&chunks).skip(2) {
        assert!(get(&volume, chunk).await.unwrap() == pattern(50_000, salt));
    }
}

#[tokio::test]
async fn an_interrupted_record_is_cut_off() {
    let mut bench = Bench::new(4);
    let (volume, _) = bench.open().await;
    let kept = put(&volume, &pattern(10_000, 1)).await.unwrap().chunk;
    let mut unfinished = volume.begin().await;
    unfinished.append(pattern(1_500_000, 2)).await.unwrap();
    let later = put(&volume, &pattern(10_000, 3)).await.unwrap().chunk;
    bench.crash(UnsyncedData::Lost);
    bench.lose_index();
    let (volume, report) = bench.open().await;
    assert_eq!(
        (report.torn_records, report.damage.len()),
        (1, 0),
        "{report:?}"
    );
    assert!(get(&volume, &kept).await.unwrap() == pattern(10_000, 1));
    assert!(get(&volume, &later).await.unwrap() == pattern(10_000, 3));
    assert_eq!(volume.stats().live_chunks, 2);
}

#[tokio::test]
async fn a_failed_sync_fails_its_chunks_and_ends_the_segment() {
    let bench = Bench::new(5);
    let (volume, _) = bench.open().await;
    let kept = put(&volume, &pattern(1000, 1)).await.unwrap().chunk;
    bench.control.disk().fail_next_sync(Path::new(SEGMENT));
    let failed = put(&volume, &pattern(1000, 2)).await;
    assert!(
        matches!(failed, Err(WriteError::SegmentFailed(_))),
        "{failed:?}"
    );
    let syncs = bench.metrics.fsyncs.get();
    let next = put(&volume, &pattern(1000, 3)).await.unwrap().chunk;
    assert_eq!(
        bench.metrics.fsyncs.get(),
        syncs + 1,
        "only the new segment is synced"
    );
    let stats = volume.stats();
    assert_eq!(
        (stats.segments, stats.failed_segments, stats.live_chunks),
        (2, 1, 2)
    );
    assert!(get(&volume, &kept).await.is_ok() && get(&volume, &next).await.is_ok());
    bench.crash(UnsyncedData::Lost);
    let (volume, _) = bench.open().await;
    assert!(get(&volume, &kept).await.is_ok() && get(&volume, &next).await.is_ok());
}

async fn put_sized(volume: &Volume, len: usize, salt: u64) -> Result<ChunkRef, WriteError> {
    let mut writer = volume.begin_sized(len as u64).await?;
    writer.append(pattern(len, salt)).await?;
    writer.finish().await
}

#[tokio::test]
async fn a_full_disk_refuses_chunks_until_space_is_reclaimed() {
    for limited_by_config in [true, false] {
        let mut bench = Bench::new(6);
        if limited_by_config {
            // The third segment of 4 MiB would go beyond 95 % of 12 MiB.
            bench.config.capacity_bytes = Some(12 << 20);
        } else {
            bench.control.disk().set_capacity(Some(9 << 20));
        }
        let (volume, _) = bench.open().await;
        let mut chunks = Vec::new();
        let refused = loop {
            match put_sized(&volume, 2_000_000, chunks.len() as u64).await {
                Ok(stored) => chunks.push(stored.chunk),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, WriteError::DiskFull(_)), "{refused:?}");
        assert_eq!(chunks.len(), 4);
        volume.delete_all(&chunks[..2]).await.unwrap();
        assert_eq!(volume.reclaim().await.unwrap().removed_segments, 1);
        put_sized(&volume, 2_000_000, 9).await.unwrap();
        assert!(get(&volume, &chunks[3]).await.unwrap() == pattern(2_000_000, 3));
    }
}

#[tokio::test]
async fn a_second_user_of_the_directory_is_turned_away() {
    let bench = Bench::new(7);
    let (volume, _) = bench.open().await;
    let second = Volume::open(
        Path::new(DIR),
        bench.config.clone(),
        bench.env.clone(),
        bench.metrics.clone(),
    );
    assert!(matches!(second.await, Err(VolumeError::InUse { .. })));
    volume.close().await;
    let late = put(&volume, &Bytes::from_static(b"late")).await;
    assert!(matches!(late, Err(WriteError::Closed)), "{late:?}");
    bench.open().await;
}

#[tokio::test]
async fn a_foreign_segment_is_refused() {
    let bench = Bench::new(8);
    let (volume, _) = bench.open().await;
    put(&volume, &pattern(10, 1)).await.unwrap();
    volume.close().await;
    let disk = bench.control.disk();
    disk.remove_file(&Path::new(DIR).join("VOLUME")).unwrap();
    let opened = Volume::open(
        Path::new(DIR),
        bench.config.clone(),
        bench.env.clone(),
        bench.metrics.clone(),
    );
    assert!(matches!(
        opened.await,
        Err(VolumeError::ForeignSegment { .. })
    ));
}
