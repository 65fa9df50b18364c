//! What every [`Kv`] must do, as a suite that any implementation can run.

use crate::{Batch, Kv, KvError, KvRead, prefix_end};
use bytes::Bytes;
use std::path::{Path, PathBuf};

/// A medium that stores are opened on, crashed and copied.
pub trait Medium {
    /// Opens the store; a handle opened earlier has been dropped or crashed.
    fn open(&self) -> Box<dyn Kv>;
    /// The process dies while `kv` is open: what was not flushed may be lost.
    fn crash(&self, kv: Box<dyn Kv>);
    /// A directory for checkpoints that does not exist yet.
    fn checkpoint_dir(&self, name: &str) -> PathBuf;
    /// Opens the copy in `dir`.
    fn open_checkpoint(&self, dir: &Path) -> Box<dyn Kv>;
}

/// Runs the whole suite; `fresh` makes an empty medium for each case.
///
/// # Panics
/// If the store breaks its contract.
pub fn kv_suite<M: Medium>(fresh: impl Fn() -> M) {
    points(&fresh());
    batches(&fresh());
    ranges(&fresh());
    scans_are_consistent(&fresh());
    crash_keeps_the_flushed_state(&fresh());
    checkpoints(&fresh());
    installs(&fresh());
    snapshots(&fresh());
    snapshots_survive_installs(&fresh());
}

type Row = (Bytes, Bytes);

/// Rows of `[start, end)`.
///
/// # Errors
/// The first error of the scan.
pub fn collect(
    rows: &(impl KvRead + ?Sized),
    start: &[u8],
    end: Option<&[u8]>,
) -> Result<Vec<Row>, KvError> {
    rows.scan(start, end).collect()
}

fn keys(rows: &[Row]) -> Vec<&[u8]> {
    rows.iter().map(|(key, _)| key.as_ref()).collect()
}

fn put(kv: &dyn Kv, key: &'static str, value: &'static str) {
    let mut batch = Batch::default();
    batch.put(key, value);
    kv.write(batch).expect("written");
}

fn value(kv: &dyn Kv, key: &str) -> Option<Bytes> {
    kv.get(key.as_bytes()).expect("read")
}

fn points(medium: &impl Medium) {
    let kv = medium.open();
    assert_eq!(value(&*kv, "a"), None);
    put(&*kv, "a", "1");
    put(&*kv, "a", "2");
    put(&*kv, "empty", "");
    assert_eq!(value(&*kv, "a").as_deref(), Some(&b"2"[..]));
    assert_eq!(value(&*kv, "empty").as_deref(), Some(&b""[..]));
    assert_eq!(value(&*kv, ""), None);
}

fn batches(medium: &impl Medium) {
    let kv = medium.open();
    put(&*kv, "gone", "x");
    let mut batch = Batch::default();
    batch.put("a", "1");
    batch.put("a", "2");
    batch.delete("gone");
    batch.delete("never");
    batch.delete("b");
    batch.put("b", "after its delete");
    batch.put("c", "x");
    batch.delete("c");
    assert_eq!(batch.len(), 8);
    kv.write(batch).expect("written");
    kv.write(Batch::default()).expect("an empty batch is fine");
    let rows = collect(&*kv, b"", None).expect("scanned");
    assert_eq!(keys(&rows), [b"a", b"b"], "the last write of a key wins");
    assert_eq!(rows[0].1, "2");
}

fn ranges(medium: &impl Medium) {
    let kv = medium.open();
    for key in ["a", "b", "b\0", "ba", "c", "\u{7f}"] {
        put(&*kv, key, "v");
    }
    let mut high = Batch::default();
    high.put(vec![0xff, 0xff], "v");
    kv.write(high).expect("written");
    let count = |start: &[u8], end: Option<&[u8]>| {
        let forward = collect(&*kv, start, end).expect("scanned");
        let mut backward: Vec<Row> = kv
            .scan_reverse(start, end)
            .collect::<Result<_, _>>()
            .expect("scanned");
        backward.reverse();
        assert_eq!(forward, backward, "both directions give the same rows");
        assert!(forward.is_sorted());
        forward.len()
    };
    assert_eq!(count(b"", None), 7);
    assert_eq!(count(b"b", prefix_end(b"b").as_deref()), 3);
    assert_eq!(
        count(b"b", Some(b"b\0")),
        1,
        "the end is exclusive, the start inclusive"
    );
    assert_eq!(count(b"b", Some(b"b")), 0);
    assert_eq!(count(b"c", Some(b"a")), 0, "an inverted range is empty");
    assert_eq!(count(&[0xff], None), 1);
    assert_eq!(count(b"bb", Some(b"bz")), 0);
}

fn scans_are_consistent(medium: &impl Medium) {
    let kv = medium.open();
    for key in ["a", "b", "c"] {
        put(&*kv, key, "old");
    }
    let mut forward = kv.scan(b"", None);
    let backward = kv.scan_reverse(b"", None);
    assert_eq!(forward.next().expect("a row").expect("scanned").0, "a");
    let mut batch = Batch::default();
    batch.put("b", "new");
    batch.put("bb", "new");
    batch.delete("c");
    kv.write(batch).expect("written");
    kv.flush().expect("flushed");
    for rows in [forward.collect::<Vec<_>>(), backward.take(2).collect()] {
        let rows: Vec<Row> = rows.into_iter().collect::<Result<_, _>>().expect("scanned");
        assert_eq!(rows.len(), 2, "rows as of the call");
        assert!(rows.iter().all(|(_, value)| value == "old"));
    }
    assert_eq!(
        keys(&collect(&*kv, b"", None).expect("scanned")),
        [&b"a"[..], b"b", b"bb"]
    );
}

fn crash_keeps_the_flushed_state(medium: &impl Medium) {
    let kv = medium.open();
    put(&*kv, "a", "flushed");
    put(&*kv, "b", "flushed");
    kv.flush().expect("flushed");
    let mut batch = Batch::default();
    batch.put("a", "lost");
    batch.delete("b");
    batch.put("c", "lost");
    kv.write(batch).expect("written");
    medium.crash(kv);
    let kv = medium.open();
    let rows = collect(&*kv, b"", None).expect("scanned");
    assert_eq!(keys(&rows), [b"a", b"b"]);
    assert!(rows.iter().all(|(_, value)| value == "flushed"));
    put(&*kv, "c", "kept");
    kv.flush().expect("flushed");
    drop(kv);
    assert_eq!(value(&*medium.open(), "c").as_deref(), Some(&b"kept"[..]));
}

fn checkpoints(medium: &impl Medium) {
    let kv = medium.open();
    put(&*kv, "a", "1");
    let dir = medium.checkpoint_dir("first");
    kv.checkpoint(&dir).expect("copied");
    let again = kv.checkpoint(&dir).err();
    assert!(
        matches!(again, Some(KvError::CheckpointRefused { .. })),
        "never overwritten"
    );
    put(&*kv, "a", "2");
    put(&*kv, "b", "2");
    let copy = medium.open_checkpoint(&dir);
    assert_eq!(collect(&*copy, b"", None).expect("scanned").len(), 1);
    assert_eq!(
        value(&*copy, "a").as_deref(),
        Some(&b"1"[..]),
        "the copy does not change"
    );
    medium.crash(kv);
    let kv = medium.open();
    assert_eq!(
        value(&*kv, "a").as_deref(),
        Some(&b"1"[..]),
        "a checkpoint flushes"
    );
}

/// What a copy replaces is gone, what follows it stays, and both survive a crash.
fn installs(medium: &impl Medium) {
    let kv = medium.open();
    put(&*kv, "a", "copied");
    put(&*kv, "b", "copied");
    let (first, second) = (
        medium.checkpoint_dir("first"),
        medium.checkpoint_dir("second"),
    );
    kv.checkpoint(&first).expect("copied");
    assert_eq!(
        kv.get_in_copy(&first, b"a").expect("read").as_deref(),
        Some(&b"copied"[..])
    );
    assert_eq!(kv.get_in_copy(&first, b"c").expect("read"), None);
    assert!(kv.get_in_copy(&second, b"a").is_err(), "there is no copy");
    put(&*kv, "a", "later");
    put(&*kv, "c", "later");
    let mut old = kv.scan(b"", None);
    assert_eq!(old.next().expect("a row").expect("scanned").0, "a");
    kv.install(&first).expect("installed");
    let rows: Vec<Row> = old.collect::<Result<_, _>>().expect("scanned");
    assert_eq!(
        keys(&rows),
        [b"b", b"c"],
        "a scan goes on over the old rows"
    );
    let rows = collect(&*kv, b"", None).expect("scanned");
    assert_eq!(keys(&rows), [b"a", b"b"]);
    assert!(rows.iter().all(|(_, value)| value == "copied"));

    put(&*kv, "d", "new");
    kv.flush().expect("flushed");
    kv.checkpoint(&second).expect("copied");
    put(&*kv, "e", "lost");
    medium.crash(kv);
    let kv = medium.open();
    let rows = collect(&*kv, b"", None).expect("scanned");
    assert_eq!(keys(&rows), [b"a", b"b", b"d"], "an install is durable");

    put(&*kv, "a", "newer");
    kv.install(&second).expect("installed again");
    put(&*kv, "f", "kept");
    kv.flush().expect("flushed");
    drop(kv);
    let rows = collect(&*medium.open(), b"", None).expect("scanned");
    assert_eq!(keys(&rows), [b"a", b"b", b"d", b"f"]);
    assert_eq!(rows[0].1, "copied");
}

/// What a snapshot shows: all rows, by both directions and each by its key.
fn shown(snapshot: &dyn KvRead) -> Vec<Row> {
    let rows = collect(snapshot, b"", None).expect("scanned");
    let mut backward: Vec<Row> = snapshot
        .scan_reverse(b"", None)
        .collect::<Result<_, _>>()
        .expect("scanned");
    backward.reverse();
    assert_eq!(rows, backward, "both directions give the same rows");
    for (key, value) in &rows {
        assert_eq!(snapshot.get(key).expect("read").as_ref(), Some(value));
    }
    rows
}

/// Each shows its own moment, whatever is written, flushed or deleted later, and hinders none of it.
fn snapshots(medium: &impl Medium) {
    let kv = medium.open();
    let empty = kv.snapshot().expect("taken");
    put(&*kv, "a", "1");
    put(&*kv, "b", "1");
    let first = kv.snapshot().expect("taken");
    let again = kv.snapshot().expect("taken");
    let mut walking = first.scan(b"a", Some(b"c"));
    assert_eq!(walking.next().expect("a row").expect("scanned").0, "a");
    let mut batch = Batch::default();
    batch.put("a", "2");
    batch.delete("b");
    batch.put("c", "2");
    kv.write(batch).expect("written");
    kv.flush().expect("flushed");
    let second = kv.snapshot().expect("taken");
    put(&*kv, "d", "3");
    kv.flush().expect("flushed");
    assert_eq!(walking.next().expect("a row").expect("scanned").0, "b");
    drop(walking);
    assert_eq!(shown(&*empty), []);
    for snapshot in [&first, &again] {
        let rows = shown(&**snapshot);
        assert_eq!(keys(&rows), [b"a", b"b"]);
        assert!(rows.iter().all(|(_, value)| value == "1"));
        assert_eq!(snapshot.get(b"c").expect("read"), None);
    }
    assert_eq!(keys(&shown(&*second)), [b"a", b"c"]);
    assert_eq!(
        collect(&*second, b"b", Some(b"d")).expect("scanned").len(),
        1
    );
    assert_eq!(collect(&*second, b"d", Some(b"b")).expect("scanned"), []);
    drop((empty, first));
    assert_eq!(shown(&*again).len(), 2, "another one ended");
    assert_eq!(
        keys(&collect(&*kv, b"", None).expect("scanned")),
        [b"a", b"c", b"d"]
    );
}

/// A snapshot of each of three generations, of which two are replaced.
fn snapshots_survive_installs(medium: &impl Medium) {
    let kv = medium.open();
    put(&*kv, "a", "copied");
    let copies = [
        medium.checkpoint_dir("first"),
        medium.checkpoint_dir("second"),
    ];
    for copy in &copies {
        kv.checkpoint(copy).expect("copied");
    }
    let mut taken = Vec::new();
    for (copy, name) in copies.iter().zip(["x", "y"]) {
        put(&*kv, name, "later");
        taken.push(kv.snapshot().expect("taken"));
        kv.install(copy).expect("installed");
        let rows = shown(&*kv.snapshot().expect("taken"));
        assert_eq!(keys(&rows), [b"a"], "an install is seen at once");
    }
    put(&*kv, "z", "newest");
    kv.flush().expect("flushed");
    taken.push(kv.snapshot().expect("taken"));
    for (snapshot, name) in taken.iter().zip(["x", "y", "z"]) {
        assert_eq!(keys(&shown(&**snapshot)), [b"a", name.as_bytes()]);
    }
    let kept = taken.pop();
    drop(taken);
    assert_eq!(shown(&*kept.expect("the newest")).len(), 2);
    medium.crash(kv);
    let rows = collect(&*medium.open(), b"", None).expect("scanned");
    assert_eq!(keys(&rows), [b"a", b"z"]);
}
