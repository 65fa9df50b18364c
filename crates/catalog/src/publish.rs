//! Writing what a table has become: its name, head, version and location rows, and the head that
//! the next decision builds on.

use crate::buckets::BucketInfo;
use crate::errors::{
    CommitError, CreateTableError, DamagedRow, InvalidLocation, Outage, RegisterTableError,
    UpdateMetadataLocationError,
};
use crate::heads::{HeadCache, TableHead, TableInfo};
use crate::keys::{self, SeriesId};
use crate::load::StoredTable;
use crate::location::{self, Path};
use crate::namespaces::NamespaceInfo;
use crate::pieces::Pieces;
use crate::rows::{NameKind, NameRow, TableHeadRow, TableState, id_bytes, series_of};
use crate::versions::{self, NewVersion};
use floeberg_iceberg::{PartChange, TableMetadata};
use floeberg_metastore::{Cx, Event, Txn, UsageDelta, UsageKey};
use floeberg_types::{BucketName, TableId, TableIdent, TableName};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A table that comes into being.
pub(crate) struct Birth<'a> {
    pub bucket: &'a BucketInfo,
    pub namespace: &'a NamespaceInfo,
    pub name: &'a TableName,
    pub id: TableId,
    /// Its location, claimed already.
    pub path: &'a Path,
}

/// Metadata that a table gets.
pub(crate) struct Content<'a> {
    pub metadata: &'a TableMetadata,
    pub parts: Parts<'a>,
    /// The key of the metadata file, if the client wrote it.
    pub external_key: Option<&'a str>,
    /// Snapshots recorded as seen in this command.
    pub seen: u64,
}

/// Where the parts of a table's metadata come from.
pub(crate) enum Parts<'a> {
    /// These differ from what the table has.
    Changed(&'a [PartChange]),
    /// All of them are written ahead.
    Ahead {
        pieces: &'a Pieces,
        /// Files that may only be named if the table once had other locations.
        strays: &'a [Arc<str>],
    },
    /// All of them are written ahead.
    Rewritten {
        pieces: &'a Pieces,
        /// These differ from what was written.
        since: &'a [PartChange],
        /// These differ from what the table has.
        changes: &'a [PartChange],
    },
}

fn name_row(id: TableId) -> NameRow {
    NameRow {
        kind: NameKind::Table.into(),
        id: id_bytes(id.as_bytes()),
    }
}

/// Points a name at a table.
pub(crate) fn put_name(
    txn: &mut Txn<'_>,
    namespace: &NamespaceInfo,
    name: &TableName,
    id: TableId,
) {
    txn.put(keys::name(namespace.id, name), &name_row(id));
}

/// Why a table's content was not written.
pub(crate) enum PublishError {
    Location(InvalidLocation),
    Outage(Outage),
}

impl From<InvalidLocation> for PublishError {
    fn from(source: InvalidLocation) -> Self {
        Self::Location(source)
    }
}

impl From<DamagedRow> for PublishError {
    fn from(source: DamagedRow) -> Self {
        Self::Outage(source.into())
    }
}

impl From<Outage> for PublishError {
    fn from(source: Outage) -> Self {
        Self::Outage(source)
    }
}

macro_rules! from_publish_error {
    ($($error:ident),*) => {$(
        impl From<PublishError> for $error {
            fn from(error: PublishError) -> Self {
                match error {
                    PublishError::Location(e) => e.into(),
                    PublishError::Outage(e) => e.into(),
                }
            }
        }
    )*};
}

from_publish_error!(
    CreateTableError,
    CommitError,
    RegisterTableError,
    UpdateMetadataLocationError
);

/// Counts a table as there or gone.
pub(crate) fn count_table(txn: &mut Txn<'_>, bucket: &BucketInfo, tables: i64) {
    txn.usage(
        UsageKey::Bucket(bucket.id),
        UsageDelta {
            tables,
            ..UsageDelta::default()
        },
    );
}

/// Writes a new table without metadata.
pub(crate) fn create_empty(
    txn: &mut Txn<'_>,
    cx: &Cx,
    birth: &Birth<'_>,
) -> Result<TableInfo, DamagedRow> {
    let row = first_row(txn, cx, birth);
    place(txn, birth);
    txn.put(keys::head(birth.id), &row);
    TableInfo::of(birth.id, txn.commit_id(), &row)
}

/// Writes a new table with its first metadata.
pub(crate) fn create(
    txn: &mut Txn<'_>,
    cx: &Cx,
    heads: &HeadCache,
    birth: &Birth<'_>,
    content: &Content<'_>,
) -> Result<Arc<TableHead>, PublishError> {
    let row = first_row(txn, cx, birth);
    place(txn, birth);
    put_content(txn, cx, heads, birth.id, row, birth.path, content)
}

/// Writes the next version of a table. `path` is its location from now on, claimed already.
pub(crate) fn advance(
    txn: &mut Txn<'_>,
    cx: &Cx,
    heads: &HeadCache,
    table: &StoredTable,
    path: &Path,
    content: &Content<'_>,
) -> Result<Arc<TableHead>, PublishError> {
    let mut row = TableHeadRow::clone(&table.row);
    let bucket = crate::rows::stored("table head", BucketName::for_lookup(&row.bucket))?;
    if let Ok(old) = location::parse(&bucket, &row.location) {
        let known = |path: &str| row.former_paths.iter().any(|former| former == path);
        if old != *path && !known(old.as_str()) {
            row.former_paths.push(old.as_str().to_owned());
        }
    }
    put_content(txn, cx, heads, table.id, row, path, content)
}

fn first_row(txn: &Txn<'_>, cx: &Cx, birth: &Birth<'_>) -> TableHeadRow {
    TableHeadRow {
        state: TableState::Empty.into(),
        bucket_id: id_bytes(birth.bucket.id.as_bytes()),
        namespace_id: id_bytes(birth.namespace.id.as_bytes()),
        bucket: birth.bucket.name.to_string(),
        levels: birth.namespace.namespace.levels().to_vec(),
        name: birth.name.to_string(),
        location: location::uri(&birth.bucket.name, birth.path.as_str()),
        created_by: cx.principal.to_string(),
        created_at_ms: txn.now().0,
        modified_by: cx.principal.to_string(),
        modified_at_ms: txn.now().0,
        ..TableHeadRow::default()
    }
}

fn place(txn: &mut Txn<'_>, birth: &Birth<'_>) {
    put_name(txn, birth.namespace, birth.name, birth.id);
    let location = keys::location(birth.bucket.id, birth.path.as_str());
    txn.put(location, &location::live_row(birth.id));
    count_table(txn, birth.bucket, 1);
}

fn put_content(
    txn: &mut Txn<'_>,
    cx: &Cx,
    heads: &HeadCache,
    id: TableId,
    mut row: TableHeadRow,
    path: &Path,
    content: &Content<'_>,
) -> Result<Arc<TableHead>, PublishError> {
    check_manifests(&row, path, content)?;
    let (series, changes) = match content.parts {
        Parts::Ahead { pieces, .. } => (pieces.publish(txn, id)?, &[][..]),
        Parts::Rewritten { pieces, since, .. } => (pieces.publish(txn, id)?, since),
        Parts::Changed(changes) => match &row.current {
            Some(current) => (series_of(id, current)?, changes),
            None => (SeriesId::first_of(id), changes),
        },
    };
    row.state = TableState::Live.into();
    row.version += 1;
    row.seen_next += content.seen;
    row.table_uuid = content.metadata.uuid().unwrap_or_default().to_owned();
    row.location = content.metadata.location().to_owned();
    row.modified_by = cx.principal.to_string();
    row.modified_at_ms = txn.now().0;
    let current = versions::write(
        txn,
        &NewVersion {
            table: id,
            version: row.version,
            metadata: content.metadata,
            series,
            changes,
            location_key: path.as_str(),
            external_key: content.external_key,
        },
    );
    row.current = Some(current.clone());
    txn.put(keys::head(id), &row);
    let info = TableInfo::of(id, txn.commit_id(), &row)?;
    let usage = UsageDelta {
        commits: 1,
        ..UsageDelta::default()
    };
    txn.usage(UsageKey::Bucket(info.bucket_id), usage);
    txn.usage(UsageKey::Table(id), usage);
    let head = Arc::new(TableHead::new(info, &current, content.metadata.clone())?);
    heads.insert(id, txn.commit_id(), head.clone());
    Ok(head)
}

/// Checks where the snapshots that are written list their content: maintenance reads and removes
/// what they name, so it must be the table's own. Paths that the table had before are its own too:
/// a writer may have begun before the table moved.
fn check_manifests(
    row: &TableHeadRow,
    path: &Path,
    content: &Content<'_>,
) -> Result<(), PublishError> {
    let bucket = crate::rows::stored("table head", BucketName::for_lookup(&row.bucket))?;
    let former: BTreeSet<&str> = row.former_paths.iter().map(String::as_str).collect();
    let changes = match content.parts {
        Parts::Changed(changes) | Parts::Rewritten { changes, .. } => changes,
        Parts::Ahead { strays, .. } => {
            for file in strays {
                location::check_manifest(&bucket, path, &former, file)?;
            }
            return Ok(());
        }
    };
    for snapshot in content.metadata.written_snapshots(changes) {
        let files = crate::rows::stored("snapshot", snapshot.manifest_files())?;
        for file in files {
            location::check_manifest(&bucket, path, &former, &file)?;
        }
    }
    Ok(())
}

/// The location that metadata gives its table, inside its bucket.
pub(crate) fn path_of(
    bucket: &BucketName,
    metadata: &TableMetadata,
) -> Result<Path, InvalidLocation> {
    location::parse(bucket, metadata.location())
}

/// The event of a change of one table.
pub(crate) fn event(kind: &str, bucket: &BucketName, id: TableId, ident: &TableIdent) -> Event {
    let mut event = Event {
        kind: kind.to_owned(),
        resource: format!("bucket/{bucket}/table/{id}"),
        ..Event::default()
    };
    event.details.insert("name".to_owned(), ident.to_string());
    event
}
