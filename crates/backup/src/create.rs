//! Copies a running cluster to a place for backups.

use crate::files::{self, File, Files};
use crate::manifest::{GroupPart, MANIFEST, Manifest};
use crate::page::{ChunkUse, Page};
use crate::source::{Begun, Point, Source, SourceError};
use crate::store::{Store, StoreError};
use floeberg_types::GroupId;
use futures::{StreamExt as _, TryStreamExt as _};
use std::collections::BTreeMap;

/// Chunks copied at a time.
const PARALLEL: usize = 4;

/// Why no backup was made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The place is taken.
    #[error("there is a backup already: use another directory or prefix")]
    Taken,
    /// The cluster.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What it sent.
    #[error("page {number} of group {group} cannot be read: {reason}")]
    Page {
        /// The group.
        group: u32,
        /// The page.
        number: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A chunk is not as its row says.
    #[error("chunk {chunk} has {found} bytes, its row says {expected}")]
    Length {
        /// The chunk.
        chunk: floeberg_types::ChunkId,
        /// By its row.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The place for it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A finished backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// What it consists of.
    pub manifest: Manifest,
    /// How many of its files are chunks.
    pub chunks: u64,
}

struct Copying<'a> {
    source: &'a dyn Source,
    store: &'a dyn Store,
    files: Files,
}

/// Copies the cluster to `store`, where no backup may be yet. It is one once this returns; what a
/// copy that failed leaves is not taken for one, and is written over by the next.
///
/// # Errors
/// See [`CreateError`].
pub async fn create(source: &dyn Source, store: &dyn Store) -> Result<Made, CreateError> {
    if store.get(MANIFEST).await?.is_some() {
        return Err(CreateError::Taken);
    }
    let begun = source.begin().await?;
    let mut copying = Copying {
        source,
        store,
        files: Files::new(),
    };
    let (mut groups, mut chunks) = (Vec::new(), BTreeMap::new());
    for point in &begun.points {
        let part = copying.rows(&begun, *point, &mut chunks).await?;
        groups.push(part);
    }
    let count = chunks.len() as u64;
    copying.chunks(chunks).await?;
    let mut manifest = Manifest::new(begun.origin, groups);
    let list = files::encode(&copying.files);
    manifest.files = copying.files.len() as u64;
    manifest.bytes = copying.files.values().map(|file| file.len).sum();
    manifest.files_blake3 = files::checksum(list.as_bytes());
    store.put(files::LIST, list.into()).await?;
    store.put(MANIFEST, manifest.encode().into()).await?;
    Ok(Made {
        manifest,
        chunks: count,
    })
}

impl Copying<'_> {
    async fn rows(
        &mut self,
        begun: &Begun,
        point: Point,
        chunks: &mut BTreeMap<floeberg_types::ChunkId, u64>,
    ) -> Result<GroupPart, CreateError> {
        let group = GroupId(point.group);
        let (mut number, mut rows) = (0, 0);
        loop {
            let bytes = self
                .source
                .page(&begun.origin.backup, group, number)
                .await?;
            let page = Page::decode(bytes.clone()).map_err(|reason| CreateError::Page {
                group: group.0,
                number,
                reason,
            })?;
            let path = files::page_path(group, number);
            self.files.insert(path.clone(), File::of(&bytes));
            self.store.put(&path, bytes).await?;
            number += 1;
            rows += page.rows.len() as u64;
            let named = page.rows.iter().flat_map(|row| &row.chunks);
            chunks.extend(named.map(|ChunkUse { chunk, len }| (*chunk, *len)));
            if page.last {
                return Ok(GroupPart {
                    point,
                    pages: number,
                    rows,
                });
            }
        }
    }

    async fn chunks(
        &mut self,
        chunks: BTreeMap<floeberg_types::ChunkId, u64>,
    ) -> Result<(), CreateError> {
        let (source, store) = (self.source, self.store);
        let copy = |(chunk, expected): (floeberg_types::ChunkId, u64)| async move {
            let bytes = source.chunk(chunk, expected).await?;
            let found = bytes.len() as u64;
            if found != expected {
                return Err(CreateError::Length {
                    chunk,
                    expected,
                    found,
                });
            }
            let path = files::chunk_path(chunk);
            let file = File::of(&bytes);
            store.put(&path, bytes).await?;
            Ok((path, file))
        };
        let copies = futures::stream::iter(chunks.into_iter().map(copy));
        let mut copies = copies.buffer_unordered(PARALLEL);
        while let Some((path, file)) = copies.try_next().await? {
            self.files.insert(path, file);
        }
        Ok(())
    }
}
