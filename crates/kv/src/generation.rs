//! Where the files of a store are: in its directory, or in the copy that replaced them.
//!
//! The file `ACTIVE` names the directory of the copy that was installed last; without it, the
//! database lies in the store's directory itself. A replaced database is removed by whoever reads it
//! last; what a crash leaves of one is removed when the store opens.

use floeberg_env::{Disk, OpenMode};
use std::io;
use std::path::{Path, PathBuf};

const ACTIVE: &str = "ACTIVE";
const ACTIVE_NEW: &str = "ACTIVE.new";
const PREFIX: &str = "installed-";

/// Counts the copies installed; 0 is the store's own directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Generation(u64);

impl Generation {
    fn name(self) -> String {
        format!("{PREFIX}{:06}", self.0)
    }

    fn parse(name: &str) -> Option<Self> {
        let number = name.strip_prefix(PREFIX)?.parse().ok()?;
        Some(Self(number)).filter(|found| found.name() == name)
    }

    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The directory of its database.
    pub(crate) fn dir(self, store: &Path) -> PathBuf {
        match self.0 {
            0 => store.to_owned(),
            _ => store.join(self.name()),
        }
    }
}

fn damaged(store: &Path) -> io::Error {
    let file = store.join(ACTIVE);
    let text = format!("`{}` does not name a generation", file.display());
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The generation that is current on disk.
pub(crate) fn active(disk: &dyn Disk, store: &Path) -> io::Result<Generation> {
    let path = store.join(ACTIVE);
    if !disk.exists(&path) {
        return Ok(Generation(0));
    }
    let file = disk.open(&path, OpenMode::Read)?;
    let mut text = [0; 64];
    let len = file.read_at(&mut text, 0)?;
    let text = std::str::from_utf8(&text[..len]).map_err(|_| damaged(store))?;
    let name = text.strip_suffix('\n').ok_or_else(|| damaged(store))?;
    Generation::parse(name).ok_or_else(|| damaged(store))
}

/// Moves a copy to where `generation` belongs, not yet current; an attempt before may have left
/// something there.
pub(crate) fn stage(
    disk: &dyn Disk,
    store: &Path,
    generation: Generation,
    copy: &Path,
) -> io::Result<()> {
    let to = generation.dir(store);
    if disk.exists(&to) {
        disk.remove_dir_all(&to)?;
    }
    disk.rename(copy, &to)?;
    disk.sync_dir(store)?;
    copy.parent().map_or(Ok(()), |from| disk.sync_dir(from))
}

/// Makes `generation` current, durably: the one moment at which an install happens.
pub(crate) fn activate(disk: &dyn Disk, store: &Path, generation: Generation) -> io::Result<()> {
    let new = store.join(ACTIVE_NEW);
    if disk.exists(&new) {
        disk.remove_file(&new)?;
    }
    let file = disk.open(&new, OpenMode::CreateNew)?;
    file.write_at(format!("{}\n", generation.name()).as_bytes(), 0)?;
    file.sync_data()?;
    disk.rename(&new, &store.join(ACTIVE))?;
    disk.sync_dir(store)
}

fn remove(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let is_dir = disk.list(path).is_ok();
    if is_dir {
        disk.remove_dir_all(path)
    } else {
        disk.remove_file(path)
    }
}

/// Removes the files of every generation but `current`; nobody has them open.
pub(crate) fn clean(disk: &dyn Disk, store: &Path, current: Generation) -> io::Result<()> {
    for name in disk.list(store)? {
        let goes = match owner(&name) {
            Some(generation) => generation != current,
            None => name == ACTIVE_NEW,
        };
        if goes {
            remove(disk, &store.join(&name))?;
        }
    }
    disk.sync_dir(store)
}

/// Removes the files of `replaced` alone: others may still be read.
pub(crate) fn discard(disk: &dyn Disk, store: &Path, replaced: Generation) -> io::Result<()> {
    for name in disk.list(store)? {
        if owner(&name) == Some(replaced) {
            remove(disk, &store.join(&name))?;
        }
    }
    disk.sync_dir(store)
}

/// The generation that an entry of the store's directory belongs to, if it is not the pointer.
fn owner(name: &str) -> Option<Generation> {
    match Generation::parse(name) {
        Some(generation) => Some(generation),
        None if name == ACTIVE || name == ACTIVE_NEW => None,
        // What else lies here is the database of generation 0.
        None => Some(Generation(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use floeberg_env::{MemDisk, SeededRng, UnsyncedData};

    const STORE: &str = "/store";

    fn put(disk: &MemDisk, dir: &Path, name: &str) {
        disk.create_dir_all(dir).unwrap();
        let file = disk.open(&dir.join(name), OpenMode::Create).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(dir).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
    }

    /// Both generations in turn: whatever a crash leaves, what is active has its files.
    #[test]
    fn a_crash_at_any_step_leaves_one_whole_generation() {
        for steps in 0..=3 {
            for seed in 0..20 {
                let disk = MemDisk::new();
                let (store, copy) = (Path::new(STORE), Path::new("/copy"));
                put(&disk, store, "OLD");
                put(&disk, copy, "NEW");
                let next = Generation(0).next();
                if steps >= 1 {
                    stage(&disk, store, next, copy).unwrap();
                }
                if steps >= 2 {
                    activate(&disk, store, next).unwrap();
                }
                if steps >= 3 {
                    clean(&disk, store, next).unwrap();
                }
                disk.crash(&SeededRng::new(seed), UnsyncedData::Torn);
                let now = active(&disk, store).unwrap();
                assert_eq!(now, if steps >= 2 { next } else { Generation(0) });
                clean(&disk, store, now).unwrap();
                let file = if steps >= 2 { "NEW" } else { "OLD" };
                assert!(disk.exists(&now.dir(store).join(file)), "{steps} steps");
                assert_eq!(disk.exists(&store.join("OLD")), steps < 2);
                assert_eq!(disk.exists(&next.dir(store)), steps >= 2);
            }
        }
    }

    #[test]
    fn a_replaced_generation_goes_alone() {
        let (disk, store) = (MemDisk::new(), Path::new(STORE));
        put(&disk, store, "FIRST");
        for n in [1, 2] {
            put(&disk, &Generation(n).dir(store), "ROWS");
        }
        activate(&disk, store, Generation(2)).unwrap();
        discard(&disk, store, Generation(1)).unwrap();
        assert!(!disk.exists(&Generation(1).dir(store)));
        assert!(disk.exists(&store.join("FIRST")), "a reader may be left");
        discard(&disk, store, Generation(0)).unwrap();
        assert!(!disk.exists(&store.join("FIRST")));
        assert!(disk.exists(&Generation(2).dir(store).join("ROWS")));
        assert_eq!(active(&disk, store).unwrap(), Generation(2));
        // Whoever reads last may come after the store was cleaned.
        discard(&disk, store, Generation(0)).unwrap();
    }

    #[test]
    fn a_damaged_pointer_is_an_error_and_not_an_empty_store() {
        let disk = MemDisk::new();
        put(&disk, Path::new(STORE), ACTIVE);
        let error = active(&disk, Path::new(STORE)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
