//! Crash semantics and injected faults of the in-memory disk.

use super::*;
use crate::SeededRng;

fn disk_with(path: &Path, data: &[u8]) -> (MemDisk, Arc<dyn DiskFile>) {
    let disk = MemDisk::new();
    let file = disk.open(path, OpenMode::Create).expect("created");
    file.write_at(data, 0).expect("written");
    (disk, file)
}

fn read(disk: &MemDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).expect("opened");
    let mut buf = vec![0; usize::try_from(file.len().expect("length")).expect("small")];
    file.read_at(&mut buf, 0).expect("read");
    buf
}

fn lose(disk: &MemDisk) {
    disk.crash(&SeededRng::new(1), UnsyncedData::Lost);
}

#[test]
fn a_crash_keeps_exactly_what_was_synced() {
    let path = Path::new("/f");
    let (disk, file) = disk_with(path, b"one");
    file.sync_data().expect("synced");
    disk.sync_dir(Path::new("/")).expect("synced");
    file.write_at(b"two and more", 0).expect("written");
    lose(&disk);
    assert_eq!(read(&disk, path), b"one");
    assert!(
        file.read_at(&mut [0], 0).is_err(),
        "a handle from before the crash is dead"
    );
    assert!(file.sync_data().is_err());
}

#[test]
fn a_synced_file_without_a_synced_name_is_gone() {
    let path = Path::new("/f");
    let (disk, file) = disk_with(path, b"one");
    file.sync_data().expect("synced");
    lose(&disk);
    assert!(!disk.exists(path));
}

#[test]
fn an_unsynced_rename_is_undone() {
    let (disk, file) = disk_with(Path::new("/a"), b"a");
    file.sync_data().expect("synced");
    disk.sync_dir(Path::new("/")).expect("synced");
    disk.rename(Path::new("/a"), Path::new("/b"))
        .expect("renamed");
    lose(&disk);
    assert_eq!(disk.list(Path::new("/")).expect("listed"), ["a"]);
    disk.rename(Path::new("/a"), Path::new("/b"))
        .expect("renamed");
    disk.sync_dir(Path::new("/")).expect("synced");
    lose(&disk);
    assert_eq!(disk.list(Path::new("/")).expect("listed"), ["b"]);
}

#[test]
fn an_unsynced_cut_is_undone() {
    let path = Path::new("/f");
    let (disk, file) = disk_with(path, &[5; 9000]);
    file.sync_data().expect("synced");
    disk.sync_dir(Path::new("/")).expect("synced");
    file.set_len(10).expect("cut");
    file.write_at(&[6; 20], 0).expect("written");
    lose(&disk);
    assert_eq!(read(&disk, path), [5; 9000]);
}

#[test]
fn torn_data_is_a_mix_of_sectors_and_never_touches_synced_ones() {
    let path = Path::new("/f");
    let mut seen_old = false;
    let mut seen_new = false;
    for seed in 0..20 {
        let (disk, file) = disk_with(path, &[1; 8192]);
        file.sync_data().expect("synced");
        disk.sync_dir(Path::new("/")).expect("synced");
        file.write_at(&[2; 4096], 0).expect("written");
        disk.crash(&SeededRng::new(seed), UnsyncedData::Torn);
        let data = read(&disk, path);
        for sector in data[..4096].chunks(512) {
            assert!(
                sector == [1; 512] || sector == [2; 512],
                "a sector is never split"
            );
            seen_old |= sector[0] == 1;
            seen_new |= sector[0] == 2;
        }
        assert_eq!(data[4096..], [1; 4096]);
    }
    assert!(seen_old && seen_new);
}

#[test]
fn after_a_failed_sync_the_next_one_does_not_bring_the_writes_back() {
    let path = Path::new("/f");
    let (disk, file) = disk_with(path, b"old");
    file.sync_data().expect("synced");
    disk.sync_dir(Path::new("/")).expect("synced");
    file.write_at(b"new", 0).expect("written");
    disk.fail_next_sync(path);
    assert!(file.sync_data().is_err());
    file.sync_data().expect("the fault fires once");
    assert_eq!(read(&disk, path), b"new", "still in the cache");
    lose(&disk);
    assert_eq!(read(&disk, path), b"old");
}

#[test]
fn growth_beyond_the_capacity_is_refused() {
    let (disk, file) = disk_with(Path::new("/f"), &[0; 100]);
    disk.set_capacity(Some(150));
    let full = |r: io::Result<()>| r.err().map(|e| e.kind()) == Some(io::ErrorKind::StorageFull);
    assert!(full(file.allocate(151)));
    assert!(full(file.write_at(&[1; 51], 100)));
    file.write_at(&[1; 50], 100).expect("fits");
    disk.create_dir_all(Path::new("/d")).expect("created");
    let space = |disk: &MemDisk| disk.space(Path::new("/d")).expect("asked");
    assert_eq!(
        space(&disk),
        DiskSpace {
            total: 150,
            free: 0
        }
    );
    disk.set_capacity(Some(1000));
    assert_eq!(space(&disk).free, 850);
    disk.set_capacity(Some(100));
    assert_eq!(space(&disk).free, 0, "a shrunken disk has no debts");
    disk.set_capacity(Some(150));
    file.write_at(&[2; 150], 0)
        .expect("overwriting needs no room");
    disk.set_capacity(None);
    file.allocate(1 << 40).expect("sparse");
}

#[test]
fn a_flipped_bit_stays_flipped() {
    let path = Path::new("/f");
    let (disk, file) = disk_with(path, b"abc");
    file.sync_data().expect("synced");
    disk.sync_dir(Path::new("/")).expect("synced");
    disk.flip_bit(path, 1, 0).expect("flipped");
    assert_eq!(read(&disk, path), b"acc");
    lose(&disk);
    assert_eq!(read(&disk, path), b"acc");
    assert!(disk.flip_bit(path, 3, 0).is_err());
}

#[test]
fn a_crash_releases_locks() {
    let (disk, file) = disk_with(Path::new("/f"), b"");
    disk.sync_dir(Path::new("/")).expect("synced");
    assert!(file.lock_exclusive().expect("asked"));
    lose(&disk);
    let again = disk
        .open(Path::new("/f"), OpenMode::ReadWrite)
        .expect("opened");
    assert!(again.lock_exclusive().expect("asked"));
    drop(file);
    let third = disk
        .open(Path::new("/f"), OpenMode::ReadWrite)
        .expect("opened");
    assert!(
        !third.lock_exclusive().expect("asked"),
        "a dead handle must not free the new lock"
    );
}
