//! A volume that a version without numbered records wrote, and left when it was killed.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use floeberg_env::{DiskFile, OpenMode, UnsyncedData};
use floeberg_volume::ReadError;
use std::path::Path;
use std::sync::Arc;
use support::{Bench, DIR, SEGMENT, get, pattern, put};

/// Its files: name and length, then 32 bytes to a line; lines of zeros are left out. Never changed.
const WRITTEN: &str = include_str!("golden/volume-unnumbered.txt");

/// The record of 1.3 million bytes.
const LONG: u64 = 0x6000;

fn restore(bench: &Bench) {
    let disk = &bench.env.disk;
    let dir = Path::new(DIR);
    disk.create_dir_all(&dir.join("segments")).unwrap();
    let mut file: Option<Arc<dyn DiskFile>> = None;
    for line in WRITTEN.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["file", name, len] = words[..] {
            let next = disk.open(&dir.join(name), OpenMode::CreateNew).unwrap();
            next.set_len(len.parse().unwrap()).unwrap();
            file = Some(next);
        } else {
            let at = u64::from_str_radix(words[0], 16).unwrap();
            let byte = |i: usize| u8::from_str_radix(&words[1][i..i + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..words[1].len()).step_by(2).map(byte).collect();
            let file = file.as_ref().unwrap();
            file.write_at(&bytes, at).unwrap();
            file.sync_data().unwrap();
        }
    }
    for synced in ["/", "/disk", DIR, "/disk/volume/segments"] {
        disk.sync_dir(Path::new(synced)).unwrap();
    }
}

#[tokio::test]
async fn it_opens_and_goes_on() {
    let mut bench = Bench::new(1);
    restore(&bench);
    let (volume, report) = bench.open().await;
    assert!(report.damage.is_empty(), "{report:?}");
    assert_eq!((report.scanned_records, report.torn_records), (3, 0));
    let old = volume.chunks(None, 10).unwrap();
    let mut lengths: Vec<u64> = old.iter().map(|(_, len)| *len).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [20_000, 20_000, 1_300_000]);
    assert_eq!(volume.mark().sequence(), 0);
    volume.delete(&old[0].0).await.unwrap();
    let new = put(&volume, &pattern(70_000, 1)).await.unwrap().chunk;
    let mark = volume.mark();
    assert!(mark.sequence() > 0);
    drop(volume);
    for _ in 0..2 {
        bench.crash(UnsyncedData::Lost);
        let (volume, report) = bench.open().await;
        assert!(report.damage.is_empty(), "{report:?}");
        assert!(volume.mark() >= mark);
        for (chunk, len) in &old[1..] {
            let read = get(&volume, chunk).await.unwrap();
            assert!(read.len() as u64 == *len && read.iter().all(|byte| *byte == 0));
        }
        let gone = get(&volume, &old[0].0).await;
        assert!(matches!(gone, Err(ReadError::NotFound { .. })));
        assert!(get(&volume, &new).await.unwrap() == pattern(70_000, 1));
        bench.lose_index();
    }
}

#[tokio::test]
async fn damage_in_it_is_found() {
    let bench = Bench::new(2);
    restore(&bench);
    let disk = bench.control.disk();
    disk.flip_bit(Path::new(SEGMENT), LONG + 9, 0).unwrap();
    let (volume, report) = bench.open().await;
    let damaged: Vec<u64> = report.damage.iter().map(|d| d.range.start).collect();
    assert_eq!(damaged, [LONG]);
    assert_eq!(volume.stats().live_chunks, 2);
}
