//! Lengths, shared syncs, and readers that outlast the segment they read.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use bytes::Bytes;
use floeberg_env::UnsyncedData;
use floeberg_types::ChunkId;
use floeberg_volume::{ReadError, WriteError};
use futures::StreamExt;
use support::{Bench, collect, get, get_range, pattern, put};

#[tokio::test]
async fn writers_that_finish_together_share_a_sync() {
    let bench = Bench::new(1);
    let (volume, _) = bench.open().await;
    let all: Vec<Bytes> = (0..64).map(|salt| pattern(20_000, salt)).collect();
    let puts = all.iter().map(|bytes| put(&volume, bytes));
    let chunks = futures::future::try_join_all(puts).await.unwrap();
    assert!(
        bench.metrics.fsyncs.get() <= 4,
        "{}",
        bench.metrics.fsyncs.get()
    );
    for (bytes, stored) in all.iter().zip(&chunks) {
        assert!(get(&volume, &stored.chunk).await.unwrap() == *bytes);
    }
}

#[tokio::test]
async fn announced_lengths_are_kept() {
    let bench = Bench::new(2);
    let (volume, _) = bench.open().await;
    let mut writer = volume.begin_sized(10).await.unwrap();
    writer.append(Bytes::from_static(b"12345")).await.unwrap();
    let long = writer.append(Bytes::from_static(b"678901")).await;
    assert!(matches!(long, Err(WriteError::TooLong { limit: 10 })));
    let short = writer.finish().await;
    assert!(matches!(
        short,
        Err(WriteError::TooShort {
            announced: 10,
            received: 5
        })
    ));
    let limit = volume.max_chunk_bytes();
    assert!(volume.begin_sized(limit + 1).await.is_err());
    let mut writer = volume.begin_sized(limit).await.unwrap();
    let full = pattern(usize::try_from(limit).unwrap(), 1);
    writer.append(full.clone()).await.unwrap();
    let stored = writer.finish().await.unwrap();
    assert!(get(&volume, &stored.chunk).await.unwrap() == full);
    assert_eq!(volume.stats().live_chunks, 1);
}

#[tokio::test]
async fn ranges_are_checked_against_the_length() {
    let bench = Bench::new(3);
    let (volume, _) = bench.open().await;
    let chunk = put(&volume, &pattern(100, 1)).await.unwrap().chunk;
    assert_eq!(get_range(&volume, &chunk, 100..100).await.unwrap(), b"");
    assert_eq!(get_range(&volume, &chunk, 99..100).await.unwrap().len(), 1);
    for range in [0..101, 101..101] {
        let outside = get_range(&volume, &chunk, range).await;
        assert!(matches!(
            outside,
            Err(ReadError::OutOfRange { len: 100, .. })
        ));
    }
}

#[tokio::test]
async fn a_reader_finishes_although_its_segment_is_reclaimed() {
    let bench = Bench::new(4);
    let (volume, _) = bench.open().await;
    let bytes = pattern(2_500_000, 1);
    let chunk = put(&volume, &bytes).await.unwrap().chunk;
    let mut stream = volume.read_all(&chunk).await.unwrap();
    let mut read = stream.next().await.unwrap().unwrap().to_vec();
    volume.delete(&chunk).await.unwrap();
    // A chunk that does not fit any more seals the first segment.
    let kept = put(&volume, &pattern(2_500_000, 2)).await.unwrap().chunk;
    assert_eq!(volume.reclaim().await.unwrap().removed_segments, 1);
    read.extend(collect(stream).await.unwrap());
    assert!(read == bytes);
    assert!(get(&volume, &kept).await.is_ok());
    let gone = volume.read_all(&chunk).await.map(|_| ());
    assert!(matches!(gone, Err(ReadError::NotFound { .. })));
}

#[tokio::test]
async fn compaction_moves_what_lives_and_frees_the_rest() {
    let bench = Bench::new(5);
    let (volume, _) = bench.open().await;
    let mut chunks = Vec::new();
    for salt in 0..24 {
        chunks.push(put(&volume, &pattern(600_000, salt)).await.unwrap().chunk);
    }
    let before = volume.stats();
    for (salt, chunk) in chunks.iter().enumerate() {
        if salt % 6 != 0 {
            volume.delete(chunk).await.unwrap();
        }
    }
    let report = volume.reclaim().await.unwrap();
    let after = volume.stats();
    assert!(report.moved_chunks >= 3, "{report:?}");
    assert!(
        after.segments <= before.segments / 2,
        "{before:?} {after:?}"
    );
    assert_eq!(after.live_bytes, 4 * 600_000);
    for (salt, chunk) in (0..24).zip(&chunks).step_by(6) {
        assert!(get(&volume, chunk).await.unwrap() == pattern(600_000, salt));
    }
}

#[tokio::test]
async fn a_later_copy_of_a_chunk_takes_the_place_of_the_earlier_one() {
    let mut bench = Bench::new(9);
    let (volume, _) = bench.open().await;
    let id = ChunkId::from_bytes([7; 16]);
    for salt in 1..=2 {
        let bytes = pattern(70_000, salt);
        let mut writer = volume.begin_as(id, Some(70_000)).await.unwrap();
        writer.append(bytes.clone()).await.unwrap();
        assert_eq!(writer.finish().await.unwrap().chunk, id);
        assert!(get(&volume, &id).await.unwrap() == bytes);
    }
    let stats = volume.stats();
    assert_eq!((stats.live_chunks, stats.live_bytes), (1, 70_000));
    assert_eq!(stats.dead_bytes, 70_000);
    drop(volume);
    bench.crash(UnsyncedData::Lost);
    bench.lose_index();
    let (volume, _) = bench.open().await;
    assert!(get(&volume, &id).await.unwrap() == pattern(70_000, 2));
    volume.delete(&id).await.unwrap();
    drop(volume);
    bench.crash(UnsyncedData::Lost);
    bench.lose_index();
    let (volume, _) = bench.open().await;
    let gone = get(&volume, &id).await;
    assert!(
        matches!(gone, Err(ReadError::NotFound { .. })),
        "both copies are gone"
    );
}
