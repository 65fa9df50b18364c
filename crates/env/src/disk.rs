//! The disk as durable stores see it: positioned I/O and explicit syncs.

use std::io;
use std::path::Path;
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing file, reading only.
    Read,
    /// Existing file, reading and writing.
    ReadWrite,
    /// Reading and writing; created empty if absent.
    Create,
    /// Reading and writing; fails if the file exists.
    CreateNew,
    /// As [`OpenMode::CreateNew`], and only the owner may read the file (mode 0600).
    CreateSecret,
}

/// Room of a file system, as a process without privileges may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that are taken or free; what the system keeps for itself is not among them.
    pub total: u64,
    /// Bytes that are free.
    pub free: u64,
}

/// Files and directories.
///
/// What survives a crash: file contents up to the last [`DiskFile::sync_data`], and names
/// (creates, renames, removals, subdirectories) up to the last [`Disk::sync_dir`] of the
/// directory that holds them. Syncing a file does not make its name durable.
pub trait Disk: Send + Sync {
    /// Creates `path` and its missing parents; an existing directory is fine.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Names in a directory, ascending.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Moves a file or directory atomically, replacing a file at `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name; open handles keep working.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and everything below it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Whether a file or directory of that name exists.
    fn exists(&self, path: &Path) -> bool;
    /// Room of the file system that holds the existing `path`.
    fn space(&self, path: &Path) -> io::Result<DiskSpace>;
}

/// An open file. Concurrent calls are allowed; overlapping writes are the caller's to order.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buf.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `data`, growing the file if needed. Not durable.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the contents and the length durable.
    ///
    /// # Errors
    /// After an error the unsynced writes may be lost although a later call succeeds: the caller
    /// gives the file up and never calls again to find out.
    fn sync_data(&self) -> io::Result<()>;
    /// Reserves blocks so that the file is at least `len` bytes long, new bytes reading as zero.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file holds no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends the file with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Takes the exclusive lock of the file if nobody holds it; released when the handle drops.
    fn lock_exclusive(&self) -> io::Result<bool>;
}
