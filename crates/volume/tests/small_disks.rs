//! Disks that are small, nearly full, or filled by somebody else.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use floeberg_env::OpenMode;
use floeberg_types::ChunkId;
use floeberg_volume::{DeleteError, IndexStore, Volume, VolumeConfig, WriteError};
use std::path::Path;
use support::{Bench, get, pattern, put};

const MIB: u64 = 1 << 20;

/// A disk of `bytes`, and a volume with the settings of production.
fn bench(bytes: u64) -> Bench {
    let mut bench = Bench::new(1);
    bench.config = VolumeConfig::new(IndexStore::Memory(bench.store.clone()));
    bench.control.disk().set_capacity(Some(bytes));
    bench
}

/// Stores chunks of 3 MB until the disk is full.
async fn fill(volume: &Volume) -> Vec<ChunkId> {
    let mut chunks = Vec::new();
    loop {
        match put(volume, &pattern(3_000_000, chunks.len() as u64)).await {
            Ok(stored) => chunks.push(stored.chunk),
            Err(WriteError::DiskFull(_)) => return chunks,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_small_disk_takes_chunks_until_it_is_full() {
    let bench = bench(40 * MIB);
    let (volume, _) = bench.open().await;
    assert_eq!(volume.max_chunk_bytes(), 4 * MIB);
    volume.check_room().unwrap();
    let chunks = fill(&volume).await;
    assert!(chunks.len() >= 8, "{} chunks", chunks.len());
    assert_eq!(volume.stats().disk_bytes, 32 * MIB);
    let full = volume.check_room().unwrap_err();
    assert!(full.to_string().contains("delete objects"), "{full}");
    assert_eq!(bench.metrics.refused_for_room.get(), 1);
    for (salt, chunk) in (0..).zip(&chunks) {
        assert!(get(&volume, chunk).await.unwrap() == pattern(3_000_000, salt));
    }
    // One by one: a tombstone each.
    for chunk in &chunks[..4] {
        volume.delete(chunk).await.unwrap();
    }
    volume.reclaim().await.unwrap();
    volume.check_room().unwrap();
    put(&volume, &pattern(3_000_000, 99)).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_others_fill_takes_deletes_but_no_chunks() {
    let bench = bench(200 * MIB);
    let (volume, _) = bench.open().await;
    let chunk = put(&volume, &pattern(1000, 1)).await.unwrap().chunk;
    let segment = volume.stats().disk_bytes;
    assert!((23 * MIB..24 * MIB).contains(&segment), "{segment}");
    let others = bench
        .env
        .disk
        .open(Path::new("/disk/others"), OpenMode::Create)
        .unwrap();
    others.allocate(200 * MIB - segment - 9 * MIB).unwrap();
    // The rest of the segment is the volume's already.
    let more = fill(&volume).await;
    assert!(more.len() >= 6, "{} chunks", more.len());
    assert_eq!(volume.stats().disk_bytes, segment);
    let full = volume.check_room().unwrap_err();
    assert!(
        full.to_string()
            .contains(" 8 MiB of the file system are free"),
        "{full}"
    );
    assert!(get(&volume, &chunk).await.is_ok());
    for chunk in &more {
        volume.delete(chunk).await.unwrap();
    }
    others.set_len(0).unwrap();
    volume.check_room().unwrap();
    put(&volume, &pattern(3_000_000, 9)).await.unwrap();
}

#[tokio::test]
async fn segments_keep_their_length_when_the_disk_or_the_setting_changes() {
    let mut bench = bench(40 * MIB);
    let (volume, _) = bench.open().await;
    let first = put(&volume, &pattern(3_000_000, 1)).await.unwrap().chunk;
    volume.close().await;
    drop(volume);
    bench.control.disk().set_capacity(None);
    let (volume, _) = bench.open().await;
    assert_eq!(volume.stats().disk_bytes, 16 * MIB);
    let long = pattern(usize::try_from(20 * MIB).unwrap(), 2);
    let second = put(&volume, &long).await.unwrap().chunk;
    assert_eq!(volume.stats().disk_bytes, 16 * MIB + (1 << 30));
    volume.close().await;
    drop(volume);
    bench.config.segment_bytes = 4 * MIB;
    bench.config.max_chunk_bytes = MIB;
    let (volume, report) = bench.open().await;
    assert!(report.damage.is_empty(), "{report:?}");
    assert_eq!(volume.stats().disk_bytes, 16 * MIB + (1 << 30));
    assert!(get(&volume, &first).await.is_ok());
    assert!(get(&volume, &second).await.unwrap() == long);
}

#[tokio::test]
async fn a_volume_opens_on_a_disk_that_has_become_full() {
    let bench = bench(40 * MIB);
    let (volume, _) = bench.open().await;
    let chunk = put(&volume, &pattern(3_000_000, 1)).await.unwrap().chunk;
    volume.close().await;
    drop(volume);
    // What the open segment had reserved is not there any more.
    bench.control.disk().set_capacity(Some(5 * MIB));
    let (volume, _) = bench.open().await;
    assert!(get(&volume, &chunk).await.is_ok());
    assert!(matches!(
        put(&volume, &pattern(100_000, 2)).await,
        Err(WriteError::DiskFull(_))
    ));
    volume.delete(&chunk).await.unwrap();
    volume.reclaim().await.unwrap();
    assert_eq!(volume.stats().live_chunks, 0);
}

#[tokio::test]
async fn a_disk_without_any_room_opens_and_takes_deletes_from_the_reserve() {
    let bench = bench(40 * MIB);
    let (volume, _) = bench.open().await;
    let long = fill(&volume).await;
    // Every place for a chunk is taken.
    let mut small = Vec::new();
    while let Ok(stored) = put(&volume, &pattern(1000, small.len() as u64)).await {
        small.push(stored.chunk);
    }
    let disk = bench.env.disk.clone();
    let others = disk
        .open(Path::new("/disk/others"), OpenMode::Create)
        .unwrap();
    let free = || disk.space(Path::new("/disk")).unwrap().free;
    others.allocate(free()).unwrap();
    volume.close().await;
    drop(volume);
    let (volume, report) = bench.open().await;
    assert_eq!(free(), 0);
    assert_eq!((report.scanned_records, report.damage.len()), (0, 0));
    for (salt, chunk) in (0..).zip(&long) {
        assert!(get(&volume, chunk).await.unwrap() == pattern(3_000_000, salt));
    }
    let taken = put(&volume, &pattern(1000, 1)).await;
    assert!(matches!(taken, Err(WriteError::DiskFull(_))), "{taken:?}");
    // One record takes many deletes.
    volume
        .delete_all(&small[..small.len() - 100])
        .await
        .unwrap();
    let mut rest = small.split_off(small.len() - 100);
    let refused = loop {
        let chunk = rest.pop().unwrap();
        if let Err(error) = volume.delete(&chunk).await {
            rest.push(chunk);
            break error;
        }
    };
    let full = matches!(refused, DeleteError::Write(WriteError::DiskFull(_)));
    assert!(full, "{refused}");
    assert!(rest.len() <= 95, "the reserve is 1/256 of a segment");
    assert!(get(&volume, &rest[0]).await.is_ok());
    // Nothing is wholly dead, and copies have no place.
    assert_eq!(volume.reclaim().await.unwrap().removed_segments, 0);
    others.set_len(others.len().unwrap() - MIB - 4096).unwrap();
    volume.delete_all(&long).await.unwrap();
    volume.delete_all(&rest).await.unwrap();
    volume.reclaim().await.unwrap();
    assert_eq!(volume.stats().live_chunks, 0);
    volume.check_room().unwrap();
}
