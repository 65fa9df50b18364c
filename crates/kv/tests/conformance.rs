//! The conformance suite on both stores, and random operations against a naive model.

use bytes::Bytes;
use floeberg_kv::testing::{Medium, collect, kv_suite};
use floeberg_kv::{Batch, Kv, KvError, KvMemory, MemKv, MemKvStore, RocksKv, RocksKvConfig};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

struct MemMedium(RefCell<MemKvStore>);

impl Medium for MemMedium {
    fn open(&self) -> Box<dyn Kv> {
        Box::new(MemKv::open(&self.0.borrow()))
    }
    fn crash(&self, kv: Box<dyn Kv>) {
        self.0.borrow().crash();
        assert_eq!(
            kv.get(b"a").err(),
            Some(KvError::Stopped),
            "a crashed handle is dead"
        );
    }
    fn checkpoint_dir(&self, name: &str) -> PathBuf {
        Path::new("/checkpoints").join(name)
    }
    fn open_checkpoint(&self, dir: &Path) -> Box<dyn Kv> {
        Box::new(MemKv::open(
            &self.0.borrow().checkpoint(dir).expect("a checkpoint"),
        ))
    }
}

/// A crash is the files as they are while the store is open: RocksDB would flush on close.
struct RocksMedium {
    dir: tempfile::TempDir,
    lives: RefCell<u32>,
    config: RocksKvConfig,
}

impl RocksMedium {
    fn new() -> Self {
        let config = RocksKvConfig {
            memory: KvMemory::new(1 << 20, 64 << 20),
            ..Default::default()
        };
        Self {
            dir: tempfile::tempdir().expect("directory"),
            lives: RefCell::new(0),
            config,
        }
    }
    fn path(&self) -> PathBuf {
        self.dir.path().join(self.lives.borrow().to_string())
    }
}

/// The files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("listed");
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("listed").path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Copies the files of a directory; `None` if some came or went meanwhile.
fn try_copy(from: &Path, to: &Path) -> Option<()> {
    let before = files(from);
    for file in &before {
        let copy = to.join(file.strip_prefix(from).expect("below the directory"));
        fs::create_dir_all(copy.parent().expect("below the directory")).expect("created");
        fs::copy(file, copy).ok()?;
    }
    (before == files(from)).then_some(())
}

impl Medium for RocksMedium {
    fn open(&self) -> Box<dyn Kv> {
        Box::new(RocksKv::open(&self.path(), &self.config).expect("opened"))
    }
    fn crash(&self, kv: Box<dyn Kv>) {
        let from = self.path();
        *self.lives.borrow_mut() += 1;
        // RocksDB deletes obsolete files in the background: copy until none came or went.
        while try_copy(&from, &self.path()).is_none() {
            fs::remove_dir_all(self.path()).expect("removed");
        }
        drop(kv);
    }
    fn checkpoint_dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("checkpoint-{name}"))
    }
    fn open_checkpoint(&self, dir: &Path) -> Box<dyn Kv> {
        Box::new(RocksKv::open(dir, &self.config).expect("opened"))
    }
}

#[test]
fn memory_store_conforms() {
    kv_suite(|| MemMedium(RefCell::new(MemKvStore::new())));
}

#[test]
fn rocksdb_store_conforms() {
    kv_suite(RocksMedium::new);
}

#[test]
fn a_failed_flush_stops_the_memory_store_until_a_crash() {
    let store = MemKvStore::new();
    let kv = MemKv::open(&store);
    store.fail_next_flush();
    assert!(matches!(kv.flush(), Err(KvError::Engine(_))));
    assert_eq!(kv.flush(), Err(KvError::Stopped), "never tried again");
    assert_eq!(kv.write(Batch::default()), Err(KvError::Stopped));
    store.crash();
    MemKv::open(&store).flush().expect("a new life");
}

#[test]
fn a_second_open_is_refused() {
    let medium = RocksMedium::new();
    let _first = medium.open();
    let second = RocksKv::open(&medium.path(), &medium.config);
    assert!(matches!(second, Err(KvError::Engine(_))));
}

#[test]
fn a_flipped_bit_in_a_table_file_is_reported_not_returned() {
    let medium = RocksMedium::new();
    let kv = medium.open();
    let mut batch = Batch::default();
    batch.put("key", vec![7_u8; 4000]);
    kv.write(batch).expect("written");
    kv.flush().expect("flushed");
    drop(kv);
    let table = fs::read_dir(medium.path())
        .expect("listed")
        .map(|entry| entry.expect("listed").path())
        .find(|path| path.extension().is_some_and(|e| e == "sst"))
        .expect("a table file");
    let mut bytes = fs::read(&table).expect("read");
    bytes[2000] ^= 1;
    fs::write(&table, bytes).expect("written");
    let kv = medium.open();
    assert!(matches!(kv.get(b"key"), Err(KvError::Corrupt(_))));
    assert!(matches!(collect(&*kv, b"", None), Err(KvError::Corrupt(_))));
    let damage = &medium.config.damage;
    assert_eq!(damage.met(), 2);
    let moment = kv.snapshot().expect("rows of this moment");
    assert!(moment.get(b"key").is_err());
    assert_eq!(moment.get(b"no key").expect("read"), None);
    assert_eq!(damage.met(), 3);
}

/// The directories of databases in a store that hold a file with rows.
fn generations(store: &Path) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = files(store)
        .into_iter()
        .filter(|file| file.extension().is_some_and(|e| e == "sst"))
        .map(|file| file.parent().expect("in a directory").to_owned())
        .collect();
    dirs.dedup();
    dirs
}

#[test]
fn replaced_files_go_with_their_last_reader_and_never_later_than_the_next_open() {
    let medium = RocksMedium::new();
    let kv = medium.open();
    let mut batch = Batch::default();
    batch.put("key", "value");
    kv.write(batch).expect("written");
    let copies = ["a", "b", "c"].map(|name| medium.checkpoint_dir(name));
    for copy in &copies {
        kv.checkpoint(copy).expect("copied");
    }
    let store = medium.path();
    let first = kv.snapshot().expect("taken");
    let walk = first.scan(b"", None);
    kv.install(&copies[0]).expect("installed");
    let second = kv.snapshot().expect("taken");
    kv.install(&copies[1]).expect("installed");
    assert_eq!(generations(&store).len(), 3, "two are still read");
    drop(second);
    assert_eq!(generations(&store).len(), 2, "the middle one goes alone");
    assert_eq!(walk.count(), 1);
    drop(first);
    assert_eq!(generations(&store).len(), 1);
    kv.install(&copies[2]).expect("installed");
    assert_eq!(generations(&store).len(), 1, "nobody read the one before");
    let left = kv.snapshot().expect("taken");
    let made = medium.checkpoint_dir("d");
    kv.checkpoint(&made).expect("copied");
    kv.install(&made).expect("installed");
    assert_eq!(generations(&store).len(), 2);
    // The process dies while the snapshot is held.
    medium.crash(kv);
    assert_eq!(generations(&medium.path()).len(), 2);
    let kv = medium.open();
    assert_eq!(generations(&medium.path()).len(), 1);
    assert_eq!(collect(&*kv, b"", None).expect("scanned").len(), 1);
    drop(left);
}

#[derive(Clone, Debug)]
enum Action {
    Write(Vec<(u8, Option<u8>)>),
    Flush,
    Crash,
    Reopen,
    Scan(u8, u8),
}

fn action() -> impl Strategy<Value = Action> {
    let op = (0_u8..24, proptest::option::of(any::<u8>()));
    prop_oneof![
        8 => proptest::collection::vec(op, 0..6).prop_map(Action::Write),
        2 => Just(Action::Flush),
        1 => Just(Action::Crash),
        1 => Just(Action::Reopen),
        4 => (0_u8..26, 0_u8..26).prop_map(|(a, b)| Action::Scan(a, b)),
    ]
}

type Model = BTreeMap<Bytes, Bytes>;

fn key(n: u8) -> Bytes {
    // Keys of different lengths, so that order is not just that of one byte.
    Bytes::from(vec![n; usize::from(n % 3) + 1])
}

fn write(kv: &dyn Kv, model: &mut Model, ops: Vec<(u8, Option<u8>)>) {
    let mut batch = Batch::default();
    for (n, value) in ops {
        match value {
            Some(value) => {
                batch.put(key(n), vec![value]);
                model.insert(key(n), vec![value].into());
            }
            None => {
                batch.delete(key(n));
                model.remove(&key(n));
            }
        }
    }
    kv.write(batch).expect("written");
}

fn run(medium: &impl Medium, actions: Vec<Action>) {
    let mut kv = medium.open();
    let (mut model, mut flushed) = (Model::new(), Model::new());
    for action in actions {
        match action {
            Action::Write(ops) => write(&*kv, &mut model, ops),
            Action::Flush => {
                kv.flush().expect("flushed");
                flushed = model.clone();
            }
            Action::Crash => {
                medium.crash(kv);
                kv = medium.open();
                model = flushed.clone();
            }
            Action::Reopen => {
                kv.flush().expect("flushed");
                drop(kv);
                kv = medium.open();
                flushed = model.clone();
            }
            Action::Scan(a, b) => {
                let (start, end) = (key(a.min(b)), key(a.max(b)));
                if start < end {
                    let expected: Vec<_> = model.range(start.clone()..end.clone()).collect();
                    let rows = collect(&*kv, &start, Some(&end)).expect("scanned");
                    assert_eq!(
                        rows.iter().map(|(k, v)| (k, v)).collect::<Vec<_>>(),
                        expected
                    );
                }
            }
        }
        let rows = collect(&*kv, b"", None).expect("scanned");
        assert_eq!(rows.into_iter().collect::<Model>(), model);
        let first = kv
            .scan_reverse(b"", None)
            .next()
            .transpose()
            .expect("scanned");
        assert_eq!(first.as_ref().map(|(k, _)| k), model.keys().next_back());
    }
}

proptest! {
    #[test]
    fn memory_store_behaves_like_a_map(actions in proptest::collection::vec(action(), 0..40)) {
        run(&MemMedium(RefCell::new(MemKvStore::new())), actions);
    }
}

proptest! {
    // Opening RocksDB dominates; the suite above covers each case once more.
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn rocksdb_store_behaves_like_a_map(actions in proptest::collection::vec(action(), 0..40)) {
        run(&RocksMedium::new(), actions);
    }
}
