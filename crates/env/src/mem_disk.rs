//! A disk in memory that forgets on a crash exactly what a real one may forget.
//!
//! Stricter than common file systems where POSIX leaves room: syncing a file does not sync its
//! name, and after a failed sync the lost writes are never written again.

mod content;
mod tree;

#[cfg(test)]
mod tests;

use crate::{Disk, DiskFile, DiskSpace, OpenMode, Rng};
use parking_lot::Mutex;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tree::{FileNode, Node, Tree};

/// What a crash does to data that was written but not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsyncedData {
    /// All of it is gone.
    Lost,
    /// Any subset of its 512-byte sectors, lengths and names has reached the medium.
    Torn,
}

#[derive(Debug, Default)]
struct Faults {
    failing_syncs: BTreeSet<PathBuf>,
    capacity: Option<u64>,
}

#[derive(Debug, Default)]
struct Shared {
    tree: Mutex<Tree>,
    faults: Mutex<Faults>,
    /// Crashes so far; handles of an earlier life answer an I/O error.
    crashes: AtomicU64,
    handles: AtomicU64,
}

/// The in-memory disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    shared: Arc<Shared>,
}

/// What was durable on a [`MemDisk`] at some time.
#[derive(Clone, Debug)]
pub struct DiskImage(Arc<Tree>);

impl MemDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Power loss: unsynced data meets its `fate` and every open handle stops working.
    pub fn crash(&self, rng: &dyn Rng, fate: UnsyncedData) {
        let tree = self.shared.tree.lock();
        self.shared.crashes.fetch_add(1, Ordering::SeqCst);
        tree.crash(rng, fate);
    }

    /// What a power loss now would leave for certain; it stays as it is.
    #[must_use]
    pub fn image(&self) -> DiskImage {
        DiskImage(Arc::new(self.shared.tree.lock().durable()))
    }

    /// The medium is put back to what it was, as a snapshot of a machine is; every open handle stops working.
    pub fn put_back(&self, image: &DiskImage) {
        let mut tree = self.shared.tree.lock();
        self.shared.crashes.fetch_add(1, Ordering::SeqCst);
        *tree = image.0.durable();
    }

    /// The same for one directory alone, as if it were a disk of its own.
    ///
    /// # Errors
    /// `NotFound` if it is not there, or was not in the image.
    pub fn put_back_below(&self, dir: &Path, image: &DiskImage) -> io::Result<()> {
        let tree = self.shared.tree.lock();
        self.shared.crashes.fetch_add(1, Ordering::SeqCst);
        tree.put_back_below(dir, &image.0)
    }

    /// Lets the next `sync_data` of `path` (or `sync_dir`, for a directory) fail with an I/O
    /// error; the unsynced writes are lost even if a later sync succeeds.
    pub fn fail_next_sync(&self, path: &Path) {
        self.shared.faults.lock().failing_syncs.insert(path.into());
    }

    /// Limits the bytes of all files together; growing beyond answers "no space left".
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.faults.lock().capacity = bytes;
    }

    /// Flips bit `bit` of the byte at `offset`, on the medium and in the cache.
    ///
    /// # Errors
    /// `NotFound` without such a file, `InvalidInput` past its end.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        match self.shared.tree.lock().find(path)? {
            Node::File(file) if file.content.lock().flip_bit(offset, bit) => Ok(()),
            Node::File(_) | Node::Dir(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

impl Shared {
    fn take_sync_fault(&self, path: &Path) -> bool {
        self.faults.lock().failing_syncs.remove(path)
    }
}

impl Disk for MemDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.shared.tree.lock().create_dir_all(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let tree = self.shared.tree.lock();
        let (dir, name) = tree.parent(path)?;
        let mut dir = dir.lock();
        let node = match (dir.live.get(name), mode) {
            (Some(Node::Dir(_)), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(Node::File(_)), OpenMode::CreateNew | OpenMode::CreateSecret) => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            (Some(Node::File(file)), _) => file.clone(),
            (None, OpenMode::Create | OpenMode::CreateNew | OpenMode::CreateSecret) => {
                let file = Arc::new(FileNode::default());
                dir.live.insert(name.into(), Node::File(file.clone()));
                file
            }
            (None, OpenMode::Read | OpenMode::ReadWrite) => {
                return Err(io::ErrorKind::NotFound.into());
            }
        };
        Ok(Arc::new(MemFile {
            node,
            shared: self.shared.clone(),
            path: path.into(),
            mode,
            life: self.shared.crashes.load(Ordering::SeqCst),
            id: self.shared.handles.fetch_add(1, Ordering::SeqCst),
        }))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let dir = self.shared.tree.lock().dir(path)?;
        let names = dir.lock().live.keys().cloned().collect();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.tree.lock().rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let tree = self.shared.tree.lock();
        match tree.find(path)? {
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
            Node::File(_) => {
                let (dir, name) = tree.parent(path)?;
                dir.lock().live.remove(name);
                Ok(())
            }
        }
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let tree = self.shared.tree.lock();
        match tree.find(path)? {
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
            Node::Dir(_) => {
                let (dir, name) = tree.parent(path)?;
                dir.lock().live.remove(name);
                Ok(())
            }
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if self.shared.take_sync_fault(path) {
            return Err(Errno::IO.into());
        }
        self.shared.tree.lock().sync_dir(path)
    }

    fn exists(&self, path: &Path) -> bool {
        self.shared.tree.lock().find(path).is_ok()
    }

    fn space(&self, path: &Path) -> io::Result<DiskSpace> {
        let capacity = self.shared.faults.lock().capacity;
        let tree = self.shared.tree.lock();
        tree.find(path)?;
        // A disk without a limit still has numbers that can be added up.
        let total = capacity.unwrap_or(u64::MAX / 2);
        Ok(DiskSpace {
            total,
            free: total.saturating_sub(tree.used_bytes()),
        })
    }
}

struct MemFile {
    node: Arc<FileNode>,
    shared: Arc<Shared>,
    path: PathBuf,
    mode: OpenMode,
    life: u64,
    id: u64,
}

impl MemFile {
    fn alive(&self) -> io::Result<()> {
        if self.shared.crashes.load(Ordering::SeqCst) == self.life {
            Ok(())
        } else {
            Err(Errno::IO.into())
        }
    }

    fn writable(&self) -> io::Result<()> {
        self.alive()?;
        match self.mode {
            OpenMode::Read => Err(Errno::BADF.into()),
            OpenMode::ReadWrite
            | OpenMode::Create
            | OpenMode::CreateNew
            | OpenMode::CreateSecret => Ok(()),
        }
    }

    /// Refuses growth to `len` bytes if the disk has no room for it.
    fn reserve(&self, len: u64) -> io::Result<()> {
        let capacity = self.shared.faults.lock().capacity;
        let growth = len.saturating_sub(self.node.content.lock().len());
        match capacity {
            Some(capacity)
                if growth > 0 && self.shared.tree.lock().used_bytes() + growth > capacity =>
            {
                Err(Errno::NOSPC.into())
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.alive()?;
        Ok(self.node.content.lock().read(buf, offset))
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.writable()?;
        self.reserve(offset + data.len() as u64)?;
        if !data.is_empty() {
            self.node.content.lock().write(data, offset);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.alive()?;
        if self.shared.take_sync_fault(&self.path) {
            self.node.content.lock().lose_dirty_marks();
            return Err(Errno::IO.into());
        }
        self.node.content.lock().sync();
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        self.reserve(len)?;
        let mut content = self.node.content.lock();
        if len > content.len() {
            content.set_len(len);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.alive()?;
        Ok(self.node.content.lock().len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        self.reserve(len)?;
        self.node.content.lock().set_len(len);
        Ok(())
    }

    fn lock_exclusive(&self) -> io::Result<bool> {
        self.alive()?;
        let mut owner = self.node.locked_by.lock();
        Ok(*owner.get_or_insert(self.id) == self.id)
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        // A crash has already released the locks of an earlier life.
        if self.alive().is_ok() {
            let mut owner = self.node.locked_by.lock();
            if *owner == Some(self.id) {
                *owner = None;
            }
        }
    }
}
