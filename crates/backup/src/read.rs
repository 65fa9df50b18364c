//! Reads a backup, trusting nothing that its checksums do not vouch for.

use crate::files::{self, File, Files};
use crate::manifest::{MANIFEST, Manifest};
use crate::page::Page;
use crate::store::{Store, StoreError};
use bytes::Bytes;
use floeberg_types::{ChunkId, GroupId};
use std::sync::Arc;

/// Why a backup cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is none.
    #[error("there is no finished backup here: `{MANIFEST}` is missing")]
    None,
    /// A file is not as it was written.
    #[error("`{path}` of the backup {what}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// The place.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn bad(path: &str, what: impl Into<String>) -> ReadError {
    ReadError::File {
        path: path.to_owned(),
        what: what.into(),
    }
}

/// A backup that has a manifest.
#[derive(Clone)]
pub struct Backup {
    store: Arc<dyn Store>,
    manifest: Manifest,
    files: Files,
}

impl Backup {
    /// Opens a backup; its manifest and list of files are read and compared.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn open(store: Arc<dyn Store>) -> Result<Self, ReadError> {
        let bytes = store.get(MANIFEST).await?.ok_or(ReadError::None)?;
        let manifest = Manifest::decode(&bytes);
        let manifest = manifest.map_err(|why| bad(MANIFEST, format!("cannot be read: {why}")))?;
        let list = store.get(files::LIST).await?;
        let list = list.ok_or_else(|| bad(files::LIST, "is missing"))?;
        if files::checksum(&list) != manifest.files_blake3 {
            return Err(bad(
                files::LIST,
                "has another checksum than the manifest says",
            ));
        }
        let files = files::decode(&String::from_utf8_lossy(&list));
        let files = files.map_err(|why| bad(files::LIST, format!("cannot be read: {why}")))?;
        let bytes: u64 = files.values().map(|file| file.len).sum();
        if (files.len() as u64, bytes) != (manifest.files, manifest.bytes) {
            return Err(bad(files::LIST, "has other files than the manifest says"));
        }
        Ok(Self {
            store,
            manifest,
            files,
        })
    }

    /// What it is.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Every chunk in it, with its length.
    pub fn chunks(&self) -> impl Iterator<Item = (ChunkId, u64)> {
        let chunk = |(path, file): (&String, &File)| Some((files::chunk_of(path)?, file.len));
        self.files.iter().filter_map(chunk)
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// A page of rows.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn page(&self, group: GroupId, number: u64) -> Result<Page, ReadError> {
        let path = files::page_path(group, number);
        let bytes = self.file(&path).await?;
        Page::decode(bytes).map_err(|why| bad(&path, format!("cannot be read: {why}")))
    }

    /// A whole chunk.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn chunk(&self, chunk: ChunkId) -> Result<Bytes, ReadError> {
        self.file(&files::chunk_path(chunk)).await
    }

    /// A file that is as it was written.
    pub(crate) async fn file(&self, path: &str) -> Result<Bytes, ReadError> {
        let listed = self.files.get(path);
        let listed = listed.ok_or_else(|| bad(path, "is not in the list of files"))?;
        let found = self.store.get(path).await?;
        let found = found.ok_or_else(|| bad(path, "is missing"))?;
        let file = File::of(&found);
        if file.len != listed.len {
            let what = format!("has {} bytes instead of {}", file.len, listed.len);
            return Err(bad(path, what));
        }
        if file.blake3 != listed.blake3 {
            return Err(bad(path, "has another checksum than when it was written"));
        }
        Ok(found)
    }
}
