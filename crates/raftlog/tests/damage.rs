//! Planted damage in the files of the RocksDB log: none may pass as a shorter log.

use bytes::Bytes;
use floeberg_env::Env;
use floeberg_raftlog::testing::{append, records, save_vote};
use floeberg_raftlog::{Corrupt, Damage, LogError, LogRecord, LogStore, RocksLog};
use floeberg_telemetry::RaftLogMetrics;
use floeberg_types::GroupId;
use std::fs;
use std::path::{Path, PathBuf};

const G: GroupId = GroupId(1);

fn open(path: &Path) -> Result<RocksLog, LogError> {
    RocksLog::open(path, &Env::real(), RaftLogMetrics::default())
}

fn damage(path: &Path) -> Corrupt {
    match open(path) {
        Err(LogError::Corrupt(corrupt)) => corrupt,
        other => panic!("expected corruption, got {other:?}"),
    }
}

fn read_all(log: &RocksLog) -> Vec<LogRecord> {
    log.read(G, 0, u64::MAX, usize::MAX).expect("read")
}

/// Files of the database with this extension, oldest first, that are not empty.
fn files(path: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(path.join("db"))
        .expect("listed")
        .map(|entry| entry.expect("listed").path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .filter(|path| fs::metadata(path).expect("metadata").len() > 0)
        .collect();
    files.sort();
    files
}

fn edit(path: &Path, f: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("read");
    f(&mut bytes);
    fs::write(path, bytes).expect("written");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("db")).expect("created");
    for dir in ["", "db"] {
        for entry in fs::read_dir(from.join(dir)).expect("listed") {
            let path = entry.expect("listed").path();
            if path.is_file() {
                let name = path.file_name().expect("a file has a name");
                fs::copy(&path, to.join(dir).join(name)).expect("copied");
            }
        }
    }
}

/// A log of `count` acknowledged records with a vote before each, closed; all of it lies in the
/// write-ahead log.
async fn written(path: &Path, count: u64, bytes: usize) {
    let log = open(path).expect("opened");
    for index in 1..=count {
        save_vote(&log, G, "vote").await.expect("durable");
        let record = LogRecord {
            index,
            bytes: vec![index as u8; bytes].into(),
        };
        append(&log, G, vec![record]).await.expect("durable");
    }
}

fn wal(path: &Path) -> PathBuf {
    files(path, "log").pop().expect("a write-ahead log")
}

/// Flips that RocksDB itself would drop as a torn tail, skip, or hang on are among them.
#[tokio::test]
async fn no_flipped_bit_in_the_write_ahead_log_passes() {
    let dir = tempfile::tempdir().expect("directory");
    let original = dir.path().join("original");
    written(&original, 6, 20).await;
    let len = fs::metadata(wal(&original)).expect("metadata").len() as usize;
    let mut refused = 0;
    let step = 7;
    for (n, at) in (0..len).step_by(step).enumerate() {
        let copied = dir.path().join(format!("copy-{n}"));
        copy(&original, &copied);
        edit(&wal(&copied), |bytes| bytes[at] ^= 1 << (n % 8));
        match open(&copied) {
            Err(LogError::Corrupt(_)) => refused += 1,
            Err(other) => panic!("byte {at}: {other:?}"),
            Ok(log) => panic!("byte {at}: opened with {} records", read_all(&log).len()),
        }
        fs::remove_dir_all(copied).expect("removed");
    }
    assert_eq!(refused, len.div_ceil(step));
}

/// The flip that RocksDB takes for a torn tail: a record's length that reaches past the file.
#[tokio::test]
async fn a_flipped_length_in_the_middle_is_not_a_torn_tail() {
    let dir = tempfile::tempdir().expect("directory");
    written(dir.path(), 6, 100).await;
    // Each physical record: checksum, 4 bytes; length, 2 bytes, little endian; type; payload.
    edit(&wal(dir.path()), |bytes| {
        let mut at = 0;
        for _ in 0..4 {
            at += 7 + usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
        }
        bytes[at + 5] ^= 0x40;
    });
    let corrupt = damage(dir.path());
    assert!(
        matches!(corrupt.damage, Damage::TailLost { .. }),
        "{corrupt}"
    );
    assert!(
        corrupt.to_string().contains("replace this node"),
        "{corrupt}"
    );
    assert_eq!(damage(dir.path()), corrupt, "a failed open changes nothing");
}

#[tokio::test]
async fn an_acknowledged_tail_that_is_cut_off_is_missed() {
    let dir = tempfile::tempdir().expect("directory");
    written(dir.path(), 6, 100).await;
    edit(&wal(dir.path()), |bytes| bytes.truncate(bytes.len() - 1));
    assert!(matches!(damage(dir.path()).damage, Damage::TailLost { .. }));
}

#[tokio::test]
async fn an_unacknowledged_torn_tail_is_dropped() {
    let dir = tempfile::tempdir().expect("directory");
    let (acked, torn) = (dir.path().join("acked"), dir.path().join("torn"));
    {
        let log = open(&acked).expect("opened");
        append(&log, G, records(1, 5, "acked"))
            .await
            .expect("durable");
        copy(&acked, &torn);
        append(&log, G, records(6, 5, "not acked in the copy"))
            .await
            .expect("durable");
    }
    let long = fs::read(wal(&acked)).expect("read");
    let short = fs::metadata(wal(&torn)).expect("metadata").len() as usize;
    for cut in [short, short + 3, short + 20, long.len() - 1] {
        fs::write(wal(&torn), &long[..cut]).expect("written");
        let copied = dir.path().join(format!("cut-{cut}"));
        copy(&torn, &copied);
        let log = open(&copied).expect("a torn tail is no damage");
        assert_eq!(read_all(&log), records(1, 5, "acked"));
        append(&log, G, records(6, 1, "next"))
            .await
            .expect("durable");
    }
}

/// A page of zeros, as a lost write leaves it: RocksDB skips the block and goes on behind it.
#[tokio::test]
async fn zeroed_pages_in_the_write_ahead_log_leave_no_hole() {
    let dir = tempfile::tempdir().expect("directory");
    let original = dir.path().join("original");
    written(&original, 40, 4000).await;
    let len = fs::metadata(wal(&original)).expect("metadata").len() as usize;
    for page in (0..len / 4096).step_by(5) {
        let copied = dir.path().join(format!("page-{page}"));
        copy(&original, &copied);
        edit(&wal(&copied), |bytes| {
            bytes[page * 4096..(page + 1) * 4096].fill(0)
        });
        damage(&copied);
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_manifest_is_found() {
    let dir = tempfile::tempdir().expect("directory");
    written(dir.path(), 1, 10).await;
    let name = fs::read_to_string(dir.path().join("db/CURRENT")).expect("read");
    // The type of the first record: RocksDB would loop on it for ever.
    edit(&dir.path().join("db").join(name.trim()), |bytes| {
        bytes[6] ^= 4
    });
    assert!(matches!(
        damage(dir.path()).damage,
        Damage::Journal { offset: 0, .. }
    ));
}

/// A log whose records are in table files, closed.
async fn flushed(path: &Path) {
    written(path, 30, 4000).await;
    // RocksDB moves the write-ahead log into a table file when it opens.
    drop(open(path).expect("opened"));
    assert!(!files(path, "sst").is_empty());
}

#[tokio::test]
async fn a_flipped_bit_in_a_table_file_names_the_record() {
    let dir = tempfile::tempdir().expect("directory");
    flushed(dir.path()).await;
    let table = files(dir.path(), "sst").pop().expect("a table file");
    let middle = fs::metadata(&table).expect("metadata").len() as usize / 2;
    edit(&table, |bytes| bytes[middle] ^= 4);
    let corrupt = damage(dir.path());
    assert_eq!(corrupt.group, Some(G));
    assert!(
        corrupt.index.is_some_and(|index| (1..=30).contains(&index)),
        "{corrupt}"
    );
}

#[tokio::test]
async fn missing_files_are_missed() {
    let dir = tempfile::tempdir().expect("directory");
    let original = dir.path().join("original");
    flushed(&original).await;
    let copied = |name: &str| {
        let to = dir.path().join(name);
        copy(&original, &to);
        to
    };
    let path = copied("marker");
    fs::remove_file(path.join("synced")).expect("removed");
    assert!(matches!(damage(&path).damage, Damage::MarkerLost { .. }));
    let path = copied("database");
    fs::remove_dir_all(path.join("db")).expect("removed");
    assert_eq!(damage(&path).damage, Damage::DatabaseLost);
    let path = copied("table");
    fs::remove_file(files(&path, "sst").pop().expect("a table file")).expect("removed");
    assert!(open(&path).is_err());
}

/// Damage that keeps every checksum of RocksDB intact, written through RocksDB itself.
#[tokio::test]
async fn holes_and_foreign_histories_are_found() {
    let dir = tempfile::tempdir().expect("directory");
    let key = |index: u64| {
        let mut key = vec![1, 0, 0, 0, 1];
        key.extend_from_slice(&index.to_be_bytes());
        key
    };
    let vote_key = vec![2, 0, 0, 0, 1, 2];
    let tamper = |name: &str, f: &dyn Fn(&rocksdb::DB)| {
        let path = dir.path().join(name);
        copy(&dir.path().join("original"), &path);
        let db = rocksdb::DB::open_default(path.join("db")).expect("opened");
        f(&db);
        drop(db);
        let corrupt = damage(&path);
        (corrupt.index, corrupt.damage)
    };
    written(&dir.path().join("original"), 6, 10).await;
    let other = dir.path().join("other");
    written(&other, 6, 11).await;
    drop(open(&other).expect("opened"));
    let foreign = {
        let db = rocksdb::DB::open_default(other.join("db")).expect("opened");
        db.get(key(4)).expect("read").expect("a record")
    };

    let hole = tamper("hole", &|db| db.delete(key(3)).expect("deleted"));
    assert_eq!(hole, (Some(3), Damage::Gap { found: 4 }));
    let head = tamper("head", &|db| db.delete(key(1)).expect("deleted"));
    assert_eq!(head, (Some(2), Damage::Gap { found: 2 }));
    let history = tamper("history", &|db| db.put(key(4), &foreign).expect("written"));
    assert_eq!(history, (Some(4), Damage::ChainBroken));
    let flipped = tamper("flipped", &|db| {
        let mut record = db.get(key(5)).expect("read").expect("a record");
        record[35] ^= 1;
        db.put(key(5), record).expect("written");
    });
    assert_eq!(flipped, (Some(5), Damage::Checksum));
    let vote = tamper("vote", &|db| db.delete(&vote_key).expect("deleted"));
    assert_eq!(
        vote,
        (
            Some(1),
            Damage::VoteLost {
                expected: 1,
                found: 0
            }
        )
    );
    let unknown = tamper("unknown", &|db| db.put(b"\x09", b"x").expect("written"));
    assert_eq!(unknown, (None, Damage::Malformed));
}

#[tokio::test]
async fn a_lost_last_vote_is_found_by_the_marker() {
    let dir = tempfile::tempdir().expect("directory");
    {
        let log = open(dir.path()).expect("opened");
        append(&log, G, records(1, 1, "a")).await.expect("durable");
        save_vote(&log, G, "vote").await.expect("durable");
        append(&log, GroupId(2), records(1, 1, "b"))
            .await
            .expect("durable");
    }
    let db = rocksdb::DB::open_default(dir.path().join("db")).expect("opened");
    db.delete([2, 0, 0, 0, 1, 2]).expect("deleted");
    drop(db);
    assert_eq!(
        damage(dir.path()).damage,
        Damage::VoteLost {
            expected: 1,
            found: 0
        }
    );
}

#[tokio::test]
async fn long_logs_are_read_from_disk_and_purged_in_runs() {
    let dir = tempfile::tempdir().expect("directory");
    let log = open(dir.path()).expect("opened");
    // More than the memory ring holds, so that the oldest are on disk only.
    let big = |index| LogRecord {
        index,
        bytes: Bytes::from(vec![index as u8; 32 << 10]),
    };
    for first in (1..3000).step_by(100) {
        append(&log, G, (first..first + 100).map(big).collect())
            .await
            .expect("durable");
    }
    let first = log.read(G, 1, 4, usize::MAX).expect("read");
    assert_eq!(first, [big(1), big(2), big(3)]);
    assert_eq!(log.read(G, 1, 3001, 100 << 10).expect("read").len(), 3);
    log.truncate_after(G, Some(200))
        .expect("truncated below the ring");
    assert_eq!(log.state(G).expect("state").last, Some(big(200)));
    append(&log, G, records(201, 10_000, "small"))
        .await
        .expect("durable");
    log.purge(G, 150, Bytes::from_static(b"id"))
        .expect("purged");
    log.purge(G, 9_000, Bytes::from_static(b"id"))
        .expect("purged");
    append(&log, G, records(10_201, 1, "small"))
        .await
        .expect("durable");
    drop(log);
    let log = open(dir.path()).expect("opened");
    assert_eq!(read_all(&log), records(9_001, 1_201, "small"));
    log.purge(G, 10_200, Bytes::from_static(b"id"))
        .expect("purged");
    append(&log, G, records(10_202, 1, "small"))
        .await
        .expect("durable");
    drop(log);
    assert_eq!(
        read_all(&open(dir.path()).expect("opened")),
        records(10_201, 2, "small")
    );
}

#[tokio::test]
async fn a_second_open_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().expect("directory");
    let log = open(dir.path()).expect("opened");
    append(&log, G, records(1, 1, "a")).await.expect("durable");
    assert!(matches!(open(dir.path()), Err(LogError::Engine(_))));
    append(&log, G, records(2, 1, "a")).await.expect("durable");
}
