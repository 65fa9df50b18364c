//! The files of a copy: names, lengths and checksums.

use super::CHUNK_BYTES;
use floeberg_env::{Disk, DiskFile, OpenMode};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// A file of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileInfo {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) blake3: [u8; 32],
}

impl FileInfo {
    /// Under which name the file is staged. Equal content under another name is another file.
    pub(crate) fn staged_name(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.blake3);
        hasher.update(self.name.as_bytes());
        hasher.finalize().to_hex().to_string()
    }
}

/// Names come from another node: one with a path in it would be written anywhere.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let special = name.is_empty() || name == "." || name == "..";
    !special && name.len() <= 255 && !name.contains(['/', '\\', '\0'])
}

/// Whether the names are plain and different.
pub(crate) fn names_are_sound(files: &[FileInfo]) -> bool {
    let names: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    names.len() == files.len() && names.into_iter().all(is_plain_name)
}

/// Reads up to one chunk at `offset`.
pub(crate) fn read_chunk(file: &dyn DiskFile, offset: u64) -> io::Result<Vec<u8>> {
    let mut piece = vec![0; CHUNK_BYTES];
    let read = file.read_at(&mut piece, offset)?;
    piece.truncate(read);
    Ok(piece)
}

/// Length and checksum of a file; blocks on the disk.
pub(crate) fn measure(file: &dyn DiskFile) -> io::Result<(u64, [u8; 32])> {
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    loop {
        let piece = read_chunk(file, offset)?;
        if piece.is_empty() {
            return Ok((offset, hasher.finalize().into()));
        }
        hasher.update(&piece);
        offset += piece.len() as u64;
    }
}

/// Everything in the directory of a copy; blocks on the disk.
pub(crate) fn list(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<FileInfo>> {
    let mut files = Vec::new();
    for name in disk.list(dir)? {
        let file = disk.open(&dir.join(&name), OpenMode::Read)?;
        let (bytes, blake3) = measure(&*file)?;
        files.push(FileInfo {
            name,
            bytes,
            blake3,
        });
    }
    Ok(files)
}
