//! Planted damage in the manifest of a RocksDB store: found before RocksDB reads it.

use floeberg_kv::testing::collect;
use floeberg_kv::{Batch, Kv, KvError, KvMemory, RocksKv, RocksKvConfig};
use std::fs;
use std::path::{Path, PathBuf};

fn config() -> RocksKvConfig {
    RocksKvConfig {
        memory: KvMemory::new(1 << 20, 64 << 20),
        ..Default::default()
    }
}

fn manifest(dir: &Path) -> PathBuf {
    let current = fs::read_to_string(dir.join("CURRENT")).expect("read");
    dir.join(current.trim())
}

/// A closed store whose manifest names some table files.
fn written(dir: &Path) {
    let kv = RocksKv::open(dir, &config()).expect("opened");
    for row in 0..4_u8 {
        let mut batch = Batch::default();
        batch.put(vec![row], vec![row; 100]);
        kv.write(batch).expect("written");
        kv.flush().expect("flushed");
    }
}

#[test]
fn every_flipped_bit_of_a_manifest_is_found() {
    let dir = tempfile::tempdir().expect("directory");
    written(dir.path());
    let path = manifest(dir.path());
    let good = fs::read(&path).expect("read");
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bad).expect("written");
        match RocksKv::open(dir.path(), &config()) {
            Err(KvError::Corrupt(detail)) => {
                assert!(detail.detail.contains("MANIFEST"), "bit {bit}: {detail}");
            }
            other => panic!("bit {bit}: {other:?}"),
        }
    }
    fs::write(&path, good).expect("written");
    let kv = RocksKv::open(dir.path(), &config()).expect("whole again: nothing was changed");
    assert_eq!(collect(&kv, b"", None).expect("scanned").len(), 4);
}

/// The type that makes RocksDB 11.8.1 loop: a full record that becomes a recyclable one.
#[test]
fn a_record_type_that_rocksdb_loops_on_is_refused() {
    let dir = tempfile::tempdir().expect("directory");
    written(dir.path());
    let path = manifest(dir.path());
    let mut bytes = fs::read(&path).expect("read");
    bytes[6] ^= 4;
    fs::write(&path, bytes).expect("written");
    let refused = RocksKv::open(dir.path(), &config()).expect_err("damaged");
    let KvError::Corrupt(detail) = refused else {
        panic!("{refused:?}");
    };
    assert!(detail.detail.ends_with("is damaged at byte 0"), "{detail}");
}

/// What a crash in the middle of a write leaves: RocksDB takes the records before it.
#[test]
fn a_manifest_that_ends_in_a_record_cut_short_still_opens() {
    let dir = tempfile::tempdir().expect("directory");
    written(dir.path());
    let path = manifest(dir.path());
    let mut bytes = fs::read(&path).expect("read");
    // A header that announces more than follows.
    bytes.extend_from_slice(&[1, 2, 3, 4, 50, 0, 1, 9, 9]);
    fs::write(&path, bytes).expect("written");
    let kv = RocksKv::open(dir.path(), &config()).expect("a torn tail is no damage");
    assert_eq!(collect(&kv, b"", None).expect("scanned").len(), 4);
}

#[test]
fn a_checkpoint_is_checked_like_a_store() {
    let dir = tempfile::tempdir().expect("directory");
    let copy = dir.path().join("copy");
    {
        let kv = RocksKv::open(&dir.path().join("store"), &config()).expect("opened");
        let mut batch = Batch::default();
        batch.put("key", vec![7_u8; 100]);
        kv.write(batch).expect("written");
        kv.checkpoint(&copy).expect("copied");
    }
    drop(RocksKv::open(&copy, &config()).expect("opened"));
    let path = manifest(&copy);
    let mut bytes = fs::read(&path).expect("read");
    bytes[10] ^= 1;
    fs::write(&path, bytes).expect("written");
    let refused = RocksKv::open(&copy, &config());
    assert!(matches!(refused, Err(KvError::Corrupt(_))), "{refused:?}");
}
