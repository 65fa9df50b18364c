//! Table heads: what a table is now, and a bounded cache of their metadata.
//!
//! A cached head is found by the commit id of its row, never by name or version, so an entry cannot
//! be stale: another commit id is another head.

use crate::errors::DamagedRow;
use crate::location;
use crate::rows::{self, TableHeadRow, VersionRow, bucket_id, namespace_id, stored};
use bytes::Bytes;
use floeberg_iceberg::TableMetadata;
use floeberg_types::{
    BucketId, BucketName, CommitId, Namespace, NamespaceId, TableId, TableIdent, TimestampMs,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

/// Heads of one table kept at once: those of proposals in flight and those that readers still see.
const HEADS_PER_TABLE: usize = 64;

/// Memory of a head beside its metadata, roughly.
const HEAD_OVERHEAD: u64 = 4096;

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

    fn supersede(&self) {
        let mut rendered = self.rendered.lock();
        rendered.is_superseded = true;
        rendered.documents = [None, None];
    }
}

/// A table whose metadata is not in memory.
pub(crate) struct ColdHead {
    pub table: TableId,
}

/// The heads that decisions and loads work on. Bounded by bytes; the table used longest ago goes
/// first.
pub(crate) struct HeadCache {
    budget: u64,
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    entries: HashMap<TableId, Entry>,
    by_use: BTreeMap<u64, TableId>,
    uses: u64,
    weight: u64,
}

struct Entry {
    heads: VecDeque<(CommitId, Arc<TableHead>)>,
    used: u64,
    weight: u64,
}

/// The newest document and its rendering, and a little for each head: heads of one table share
/// most of their metadata.
fn weigh(heads: &VecDeque<(CommitId, Arc<TableHead>)>) -> u64 {
    let document = heads
        .iter()
        .map(|(_, head)| head.metadata.rendered_len())
        .max()
        .unwrap_or(0);
    2 * document + HEAD_OVERHEAD * heads.len() as u64
}

impl HeadCache {
    pub(crate) fn new(budget: u64) -> Self {
        Self {
            budget,
            tables: Mutex::default(),
        }
    }

    /// The head of a table as a given commit left it.
    pub(crate) fn get(&self, table: TableId, commit: CommitId) -> Option<Arc<TableHead>> {
        let mut tables = self.tables.lock();
        let entry = tables.entries.get(&table)?;
        let (_, head) = entry.heads.iter().rev().find(|(id, _)| *id == commit)?;
        let head = head.clone();
        tables.touch(table);
        Some(head)
    }

    /// Keeps a head under the commit that made it.
    pub(crate) fn insert(&self, table: TableId, commit: CommitId, head: Arc<TableHead>) {
        let mut tables = self.tables.lock();
        let entry = tables.entries.entry(table).or_insert_with(|| Entry {
            heads: VecDeque::new(),
            used: 0,
            weight: 0,
        });
        if entry.heads.iter().any(|(id, _)| *id == commit) {
            return;
        }
        if let Some((_, older)) = entry.heads.back() {
            older.supersede();
        }
        entry.heads.push_back((commit, head));
        if entry.heads.len() > HEADS_PER_TABLE {
            entry.heads.pop_front();
        }
        let (old, new) = (entry.weight, weigh(&entry.heads));
        entry.weight = new;
        tables.weight = tables.weight - old + new;
        tables.touch(table);
        tables.evict(self.budget);
    }
}

impl Tables {
    fn touch(&mut self, table: TableId) {
        self.uses += 1;
        let Some(entry) = self.entries.get_mut(&table) else {
            return;
        };
        self.by_use.remove(&entry.used);
        entry.used = self.uses;
        self.by_use.insert(self.uses, table);
    }

    /// The table just used stays, even if it alone is over the budget.
    fn evict(&mut self, budget: u64) {
        while self.weight > budget && self.entries.len() > 1 {
            let Some((_, table)) = self.by_use.pop_first() else {
                return;
            };
            if let Some(entry) = self.entries.remove(&table) {
                self.weight -= entry.weight;
            }
        }
    }
}

/// The heads a decision may use: those in the cache, and those read for this request, which must
/// not be lost to the cache's bound before the decision has seen them all.
pub(crate) struct Heads<'a> {
    pub cache: &'a HeadCache,
    pub pinned: &'a HashMap<(TableId, CommitId), Arc<TableHead>>,
}

impl Heads<'_> {
    pub(crate) fn get(&self, table: TableId, commit: CommitId) -> Result<Arc<TableHead>, ColdHead> {
        self.cache
            .get(table, commit)
            .or_else(|| self.pinned.get(&(table, commit)).cloned())
            .ok_or(ColdHead { table })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use floeberg_iceberg::{NewTable, RawJson};

    fn head(n: u8) -> Arc<TableHead> {
        let metadata = TableMetadata::new_table(&NewTable {
            uuid: "6f0c9a1e-3b1a-4a52-9d29-4f0b36d6a001".into(),
            location: "s3://lake/t".into(),
            schema: RawJson::parse(r#"{"type":"struct","fields":[]}"#).unwrap(),
            partition_spec: None,
            sort_order: None,
            properties: Vec::new(),
            now_ms: 1,
        })
        .unwrap();
        let row = TableHeadRow {
            state: rows::TableState::Live.into(),
            bucket_id: rows::id_bytes(&[1; 16]),
            namespace_id: rows::id_bytes(&[2; 16]),
            bucket: "lake".to_owned(),
            levels: vec!["ns".to_owned()],
            name: "t".to_owned(),
            ..TableHeadRow::default()
        };
        let info = TableInfo::of(table(n), commit(n), &row).unwrap();
        let current = VersionRow {
            file_uuid: rows::id_bytes(&[3; 16]),
            ..VersionRow::default()
        };
        Arc::new(TableHead::new(info, &current, metadata).unwrap())
    }

    fn table(n: u8) -> TableId {
        TableId::from_bytes([n; 16])
    }

    fn commit(n: u8) -> CommitId {
        CommitId::from_bytes([n; 16])
    }

    #[test]
    fn the_table_used_longest_ago_is_evicted_first() {
        let weight = 2 * head(0).metadata.rendered_len() + HEAD_OVERHEAD;
        let cache = HeadCache::new(2 * weight);
        cache.insert(table(1), commit(1), head(1));
        cache.insert(table(2), commit(2), head(2));
        assert!(cache.get(table(1), commit(1)).is_some());
        cache.insert(table(3), commit(3), head(3));
        assert!(cache.get(table(2), commit(2)).is_none());
        assert!(cache.get(table(1), commit(1)).is_some());
        assert!(cache.get(table(3), commit(3)).is_some());
    }

    #[test]
    fn a_head_over_the_budget_still_serves_its_reader() {
        let cache = HeadCache::new(0);
        cache.insert(table(1), commit(1), head(1));
        assert!(cache.get(table(1), commit(1)).is_some());
        cache.insert(table(2), commit(2), head(2));
        assert!(cache.get(table(1), commit(1)).is_none());
    }

    #[test]
    fn only_the_newest_head_keeps_its_document() {
        let cache = HeadCache::new(u64::MAX);
        let (old, new) = (head(1), head(1));
        cache.insert(table(1), commit(1), old.clone());
        let document = old.rendered(SnapshotsMode::All);
        assert_eq!(old.rendered(SnapshotsMode::All).as_ptr(), document.as_ptr());
        cache.insert(table(1), commit(2), new);
        assert_eq!(old.rendered(SnapshotsMode::All), document);
        assert!(old.rendered.lock().documents.iter().all(Option::is_none));
    }

    #[test]
    fn a_head_is_found_by_its_commit_only() {
        let cache = HeadCache::new(u64::MAX);
        for n in 0..=u8::try_from(HEADS_PER_TABLE).unwrap() {
            cache.insert(table(1), commit(n), head(1));
        }
        assert!(cache.get(table(1), commit(0)).is_none());
        assert!(cache.get(table(1), commit(1)).is_some());
        assert!(cache.get(table(1), commit(200)).is_none());
    }
}
