//! Table heads: what a table is now.

mod ahead;
mod cache;

pub(crate) use cache::{ColdHead, HeadCache, Heads, Pinned};

use crate::errors::DamagedRow;
use crate::keys::SeriesId;
use crate::location;
use crate::rows::{self, TableHeadRow, VersionRow, bucket_id, namespace_id, series_of, stored};
use bytes::Bytes;
use floeberg_iceberg::TableMetadata;
use floeberg_types::{
    BucketId, BucketName, CommitId, Namespace, NamespaceId, TableId, TableIdent, TimestampMs,
};
use parking_lot::Mutex;
use std::fmt;

/// What a table's rows say it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableState {
    /// Created without a schema: it has no metadata yet.
    Empty,
    /// It has metadata.
    Live,
    /// Dropped; its name is free.
    Dropped,
}

/// Which snapshots a load returns (`snapshots` of `loadTable`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotsMode {
    /// All of them.
    #[default]
    All,
    /// Those that branches and tags point at.
    Refs,
}

impl SnapshotsMode {
    const fn slot(self) -> usize {
        match self {
            Self::All => 0,
            Self::Refs => 1,
        }
    }
}

/// Stands for the exact state of a table; any change of it gives another token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionToken(CommitId);

impl VersionToken {
    pub(crate) const fn new(commit: CommitId) -> Self {
        Self(commit)
    }

    /// Whether a client's text is this token.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.0.to_hex() == text
    }
}

impl fmt::Display for VersionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

/// A table without its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Ours, never reused; in ARNs and locations.
    pub id: TableId,
    /// The bucket it is in.
    pub bucket_id: BucketId,
    /// The bucket's name.
    pub bucket: BucketName,
    /// The namespace it is in.
    pub namespace_id: NamespaceId,
    /// Its name.
    pub ident: TableIdent,
    /// Whether it has metadata.
    pub state: TableState,
    /// Changes with every change of the table.
    pub version_token: VersionToken,
    /// Number of its current metadata version; 0 without metadata.
    pub version: u64,
    /// Its location, without a trailing slash.
    pub location: String,
    /// Its current metadata file, if it has metadata.
    pub metadata_location: Option<String>,
    /// The principal that created it.
    pub created_by: String,
    /// When it was created.
    pub created_at: TimestampMs,
    /// The principal that changed it last.
    pub modified_by: String,
    /// When it was changed last.
    pub modified_at: TimestampMs,
}

impl TableInfo {
    pub(crate) fn of(
        id: TableId,
        commit: CommitId,
        row: &TableHeadRow,
    ) -> Result<Self, DamagedRow> {
        let bucket = stored("table head", BucketName::for_lookup(&row.bucket))?;
        let metadata_location = match &row.current {
            Some(current) => Some(location::uri(&bucket, &metadata_key(row.version, current)?)),
            None => None,
        };
        Ok(Self {
            id,
            bucket_id: bucket_id(&row.bucket_id)?,
            namespace_id: namespace_id(&row.namespace_id)?,
            ident: TableIdent {
                namespace: stored("table head", Namespace::new(row.levels.clone()))?,
                name: stored("table head", row.name.parse())?,
            },
            state: match row.state() {
                rows::TableState::Empty => TableState::Empty,
                rows::TableState::Live => TableState::Live,
                rows::TableState::Dropped => TableState::Dropped,
                rows::TableState::Unspecified => {
                    return Err(DamagedRow {
                        row: "table head",
                        detail: "unknown state".into(),
                    });
                }
            },
            version_token: VersionToken::new(commit),
            version: row.version,
            location: row.location.clone(),
            metadata_location,
            bucket,
            created_by: row.created_by.clone(),
            created_at: TimestampMs(row.created_at_ms),
            modified_by: row.modified_by.clone(),
            modified_at: TimestampMs(row.modified_at_ms),
        })
    }
}

/// The key of a version's metadata file.
pub(crate) fn metadata_key(version: u64, row: &VersionRow) -> Result<String, DamagedRow> {
    if !row.external_key.is_empty() {
        return Ok(row.external_key.clone());
    }
    let file = stored("version", uuid::Uuid::from_slice(&row.file_uuid))?;
    Ok(location::metadata_key(&row.location_key, version, file))
}

/// Documents kept with a head, by mode.
#[derive(Clone, Debug, Default)]
struct Rendered {
    /// A newer head exists: whoever still asks is one of few, and keeping every version of a busy
    /// table would fill the memory.
    is_superseded: bool,
    documents: [Option<Bytes>; 2],
}

/// A table with its current metadata.
#[derive(Debug)]
pub struct TableHead {
    info: TableInfo,
    metadata_location: String,
    metadata: TableMetadata,
    etag: String,
    /// Where its fragments are.
    series: SeriesId,
    rendered: Mutex<Rendered>,
    rendering: tokio::sync::Mutex<()>,
}

impl TableHead {
    pub(crate) fn new(
        info: TableInfo,
        current: &VersionRow,
        metadata: TableMetadata,
    ) -> Result<Self, DamagedRow> {
        let key = metadata_key(info.version, current)?;
        Ok(Self {
            metadata_location: location::uri(&info.bucket, &key),
            etag: hex::encode(&current.etag),
            series: series_of(info.id, current)?,
            info,
            metadata,
            rendered: Mutex::default(),
            rendering: tokio::sync::Mutex::default(),
        })
    }

    /// The same metadata under what the table has become by a change of its row alone.
    pub(crate) fn with_info(&self, info: TableInfo) -> Self {
        Self {
            metadata_location: self.metadata_location.clone(),
            etag: self.etag.clone(),
            series: self.series,
            info,
            metadata: self.metadata.clone(),
            rendered: Mutex::new(self.rendered.lock().clone()),
            rendering: tokio::sync::Mutex::default(),
        }
    }

    /// The table.
    #[must_use]
    pub const fn info(&self) -> &TableInfo {
        &self.info
    }

    /// The current metadata.
    #[must_use]
    pub const fn metadata(&self) -> &TableMetadata {
        &self.metadata
    }

    /// The current metadata file.
    #[must_use]
    pub fn metadata_location(&self) -> &str {
        &self.metadata_location
    }

    /// Entity tag of the document in a mode, without quotes. Opaque; equal tags mean equal bytes.
    #[must_use]
    pub fn etag(&self, mode: SnapshotsMode) -> String {
        match mode {
            SnapshotsMode::All => format!("{}-all", self.etag),
            SnapshotsMode::Refs => format!("{}-refs", self.etag),
        }
    }

    /// The document in a mode. It is rendered here if it is not at hand, which takes as long as the
    /// document is large, and kept as long as this head is the newest.
    pub fn rendered(&self, mode: SnapshotsMode) -> Bytes {
        if let Some(document) = self.at_hand(mode) {
            return document;
        }
        let document: Bytes = match mode {
            SnapshotsMode::All => self.metadata.render().into(),
            SnapshotsMode::Refs => self.metadata.render_refs_only().into(),
        };
        let mut rendered = self.rendered.lock();
        if rendered.is_superseded {
            return document;
        }
        // Of several who rendered it at once, all give out the first.
        let kept = &mut rendered.documents[mode.slot()];
        kept.get_or_insert(document).clone()
    }

    /// The document, if somebody has rendered it.
    pub(crate) fn at_hand(&self, mode: SnapshotsMode) -> Option<Bytes> {
        self.rendered.lock().documents[mode.slot()].clone()
    }

    /// Held by who renders a large document, so that others who want it wait instead of rendering it,
    /// too.
    pub(crate) async fn rendering(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.rendering.lock().await
    }

    /// Where its fragments are.
    pub(crate) const fn series(&self) -> SeriesId {
        self.series
    }

    fn supersede(&self) {
        let mut rendered = self.rendered.lock();
        rendered.is_superseded = true;
        rendered.documents = [None, None];
    }
}
