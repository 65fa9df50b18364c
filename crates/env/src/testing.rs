//! What every [`Disk`] must do, as a suite that any implementation can run.

use crate::{Disk, OpenMode};
use std::io::ErrorKind;
use std::path::Path;

/// Runs the whole suite below `root`, an existing empty directory.
///
/// # Panics
/// If the disk breaks its contract.
pub fn disk_suite(disk: &dyn Disk, root: &Path) {
    open_modes(disk, &root.join("modes"));
    positioned_io(disk, &root.join("io"));
    lengths(disk, &root.join("lengths"));
    names(disk, &root.join("names"));
    removal(disk, &root.join("removal"));
    locks(disk, &root.join("locks"));
    space(disk, &root.join("space"));
}

fn open_modes(disk: &dyn Disk, dir: &Path) {
    disk.create_dir_all(dir).expect("created");
    disk.create_dir_all(dir).expect("creating again is fine");
    let path = dir.join("a");
    let kind = |mode| disk.open(&path, mode).err().map(|e| e.kind());
    assert_eq!(kind(OpenMode::Read), Some(ErrorKind::NotFound));
    assert_eq!(kind(OpenMode::ReadWrite), Some(ErrorKind::NotFound));
    assert_eq!(kind(OpenMode::CreateNew), None);
    assert_eq!(kind(OpenMode::CreateNew), Some(ErrorKind::AlreadyExists));
    assert_eq!(kind(OpenMode::CreateSecret), Some(ErrorKind::AlreadyExists));
    disk.open(&dir.join("secret"), OpenMode::CreateSecret)
        .expect("created")
        .write_at(b"mine", 0)
        .expect("written");
    disk.open(&path, OpenMode::Create)
        .expect("opened")
        .write_at(b"kept", 0)
        .expect("written");
    let read_only = disk.open(&path, OpenMode::Read).expect("opened");
    assert_eq!(
        read_only.len().expect("length"),
        4,
        "Create must not truncate"
    );
    assert!(
        read_only.write_at(b"x", 0).is_err(),
        "a read-only handle cannot write"
    );
    let below_file = disk
        .open(&path.join("b"), OpenMode::Create)
        .err()
        .map(|e| e.kind());
    assert_eq!(below_file, Some(ErrorKind::NotADirectory));
    let no_parent = disk
        .open(&dir.join("no/b"), OpenMode::Create)
        .err()
        .map(|e| e.kind());
    assert_eq!(no_parent, Some(ErrorKind::NotFound));
}

fn positioned_io(disk: &dyn Disk, dir: &Path) {
    disk.create_dir_all(dir).expect("created");
    let file = disk.open(&dir.join("a"), OpenMode::Create).expect("opened");
    assert!(file.is_empty().expect("length"));
    let mut buf = [7; 16];
    assert_eq!(file.read_at(&mut buf, 0).expect("read"), 0, "empty file");
    file.write_at(b"tail", 10_000)
        .expect("written past the end");
    assert_eq!(file.len().expect("length"), 10_004);
    assert_eq!(
        file.read_at(&mut buf, 9_990).expect("read"),
        14,
        "short only at the end"
    );
    assert_eq!(
        &buf[..14],
        b"\0\0\0\0\0\0\0\0\0\0tail",
        "a hole reads as zeros"
    );
    assert_eq!(
        file.read_at(&mut buf, 20_000).expect("read"),
        0,
        "past the end"
    );
    let block: Vec<u8> = (0..9000_u32).map(|i| (i % 251) as u8).collect();
    file.write_at(&block, 100).expect("written across pages");
    let mut back = vec![0; 9000];
    assert_eq!(file.read_at(&mut back, 100).expect("read"), 9000);
    assert_eq!(back, block);
    let other = disk.open(&dir.join("a"), OpenMode::Read).expect("opened");
    assert_eq!(
        other.read_at(&mut buf[..4], 100).expect("read"),
        4,
        "handles share the bytes"
    );
    assert_eq!(buf[..4], block[..4]);
    file.sync_data().expect("synced");
}

fn lengths(disk: &dyn Disk, dir: &Path) {
    disk.create_dir_all(dir).expect("created");
    let file = disk.open(&dir.join("a"), OpenMode::Create).expect("opened");
    file.allocate(8192).expect("allocated");
    assert_eq!(file.len().expect("length"), 8192);
    file.write_at(&[1; 8192], 0).expect("written");
    file.allocate(100).expect("allocating less changes nothing");
    assert_eq!(file.len().expect("length"), 8192);
    file.set_len(5000).expect("cut");
    file.set_len(6000).expect("extended");
    let mut buf = [9; 1000];
    assert_eq!(file.read_at(&mut buf, 5000).expect("read"), 1000);
    assert_eq!(buf, [0; 1000], "cut bytes do not come back");
    assert_eq!(file.read_at(&mut buf, 4000).expect("read"), 1000);
    assert_eq!(buf, [1; 1000]);
}

fn names(disk: &dyn Disk, dir: &Path) {
    let sub = dir.join("x/y");
    disk.create_dir_all(&sub).expect("created");
    for name in ["b", "a", "c"] {
        let file = disk
            .open(&sub.join(name), OpenMode::CreateNew)
            .expect("created");
        file.write_at(name.as_bytes(), 0).expect("written");
    }
    assert_eq!(disk.list(&sub).expect("listed"), ["a", "b", "c"]);
    assert_eq!(disk.list(dir).expect("listed"), ["x"]);
    disk.rename(&sub.join("a"), &sub.join("b"))
        .expect("a file replaces a file");
    assert_eq!(disk.list(&sub).expect("listed"), ["b", "c"]);
    let mut buf = [0; 1];
    let moved = disk.open(&sub.join("b"), OpenMode::Read).expect("opened");
    assert_eq!(moved.read_at(&mut buf, 0).expect("read"), 1);
    assert_eq!(&buf, b"a");
    disk.rename(&sub, &dir.join("z"))
        .expect("a directory moves with its files");
    assert!(disk.exists(&dir.join("z/c")) && !disk.exists(&sub));
    let gone = disk.rename(&sub, &dir.join("w")).err().map(|e| e.kind());
    assert_eq!(gone, Some(ErrorKind::NotFound));
    disk.sync_dir(dir).expect("synced");
    assert_eq!(
        disk.list(&sub).err().map(|e| e.kind()),
        Some(ErrorKind::NotFound)
    );
}

fn removal(disk: &dyn Disk, dir: &Path) {
    disk.create_dir_all(&dir.join("d/e")).expect("created");
    let path = dir.join("a");
    let file = disk.open(&path, OpenMode::CreateNew).expect("created");
    file.write_at(b"open", 0).expect("written");
    disk.remove_file(&path).expect("removed");
    assert!(!disk.exists(&path));
    let mut buf = [0; 4];
    assert_eq!(
        file.read_at(&mut buf, 0)
            .expect("open handles keep working"),
        4
    );
    assert_eq!(&buf, b"open");
    assert_eq!(
        disk.remove_file(&path).err().map(|e| e.kind()),
        Some(ErrorKind::NotFound)
    );
    assert!(
        disk.remove_file(&dir.join("d")).is_err(),
        "a directory is not a file"
    );
    disk.remove_dir_all(&dir.join("d")).expect("removed");
    assert_eq!(disk.list(dir).expect("listed"), Vec::<String>::new());
}

fn locks(disk: &dyn Disk, dir: &Path) {
    disk.create_dir_all(dir).expect("created");
    let open = || {
        disk.open(&dir.join("lock"), OpenMode::Create)
            .expect("opened")
    };
    let (first, second) = (open(), open());
    assert!(first.lock_exclusive().expect("asked"));
    assert!(first.lock_exclusive().expect("asked"), "the owner keeps it");
    assert!(!second.lock_exclusive().expect("asked"));
    drop(first);
    assert!(
        second.lock_exclusive().expect("asked"),
        "free once the owner is gone"
    );
}

fn space(disk: &dyn Disk, dir: &Path) {
    disk.create_dir_all(dir).expect("created");
    let room = disk.space(dir).expect("asked");
    assert!(room.free > 0 && room.free <= room.total, "{room:?}");
    let absent = disk.space(&dir.join("no")).err().map(|e| e.kind());
    assert_eq!(absent, Some(ErrorKind::NotFound));
}
