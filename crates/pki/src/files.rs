//! Files of keys and certificates: readable by their owner alone, durable, never half written.

use crate::PkiError;
use floeberg_env::{Disk, OpenMode, replace_file};
use std::io;
use std::path::Path;

/// Certificates are small; a larger file is some other file.
const MAX_FILE: u64 = 1 << 20;

/// Replaces `path` by `bytes`, mode 0600, creating the directory if it is missing.
pub(crate) fn write_secret(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    replace_file(disk, path, bytes, OpenMode::CreateSecret).map_err(PkiError::io(path))
}

/// The whole text of `path`; `None` if there is no such file.
pub(crate) fn read_if_there(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, PkiError> {
    if !disk.exists(path) {
        return Ok(None);
    }
    read(disk, path).map(Some)
}

/// The whole text of `path`.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, PkiError> {
    let open = || {
        let file = disk.open(path, OpenMode::Read)?;
        let length = file.len()?;
        if length > MAX_FILE {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    };
    open().map_err(PkiError::io(path))
}

/// Removes `path` durably; one that is not there is fine.
pub(crate) fn remove(disk: &dyn Disk, path: &Path) -> Result<(), PkiError> {
    let gone = || {
        if !disk.exists(path) {
            return Ok(());
        }
        disk.remove_file(path)?;
        disk.sync_dir(path.parent().ok_or(io::ErrorKind::InvalidInput)?)
    };
    gone().map_err(PkiError::io(path))
}
