//! One life of a node: everything that ends when its process dies.

use floeberg_env::{Disk, DiskFile, DiskSpace, MemDisk, OpenMode, TaskEnd};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A process. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Life {
    pub(crate) tasks: TaskEnd,
    /// Cancelled when the process is gone.
    pub(crate) over: CancellationToken,
}

impl Life {
    /// The process is gone: no task of it goes on, nothing it still holds reaches the disk.
    pub(crate) fn end(&self) {
        self.over.cancel();
        self.tasks.end();
    }

    /// `disk`, for as long as the process lives.
    pub(crate) fn mount(&self, disk: &MemDisk) -> Arc<dyn Disk> {
        Arc::new(LifeDisk {
            disk: disk.clone(),
            over: self.over.clone(),
        })
    }
}

/// The consensus library's own tasks cannot be ended from outside; they must not write into the
/// files of the next life.
struct LifeDisk {
    disk: MemDisk,
    over: CancellationToken,
}

impl LifeDisk {
    fn alive(&self) -> io::Result<&MemDisk> {
        if self.over.is_cancelled() {
            return Err(io::Error::other("the process is gone"));
        }
        Ok(&self.disk)
    }
}

impl Disk for LifeDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.alive()?.create_dir_all(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.alive()?.open(path, mode)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.alive()?.list(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.alive()?.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.alive()?.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.alive()?.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.alive()?.sync_dir(path)
    }

    fn exists(&self, path: &Path) -> bool {
        self.alive().is_ok_and(|disk| disk.exists(path))
    }

    fn space(&self, path: &Path) -> io::Result<DiskSpace> {
        self.alive()?.space(path)
    }
}
