//! Tables as the object service sees them: which keys belong to a table, and the metadata files
//! that the catalog renders from its rows.

use crate::errors::{DamagedRow, Outage};
use crate::heads::metadata_key;
use crate::load::StoredTable;
use crate::location;
use crate::rows::{LocationRow, LocationState, VersionRow, stored, table_id};
use crate::{Catalog, keys};
use floeberg_metastore::{Rows, StoreError};
use floeberg_types::{BucketId, TableId, TimestampMs};
use prost::Message as _;

/// Locations looked at in one go while metadata files are listed.
const LOCATIONS_AT_ONCE: usize = 256;

/// Where a key of a table bucket lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileLocation {
    /// Below the location of a live table.
    Live,
    /// Below the location of a table whose creation is not committed yet.
    Staged,
    /// Below the location of a dropped table.
    Dropped,
    /// Below no table's location.
    Outside,
}

/// What a listing says of a metadata file that the catalog serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataEntry {
    /// The key, relative to the bucket.
    pub key: String,
    /// Opaque entity tag without quotes; the same for ever for the same key.
    pub etag: String,
    /// Length in bytes.
    pub len: u64,
    /// When the version was committed.
    pub modified: TimestampMs,
}

/// A metadata file that the catalog serves; [`Catalog::render_metadata_file`] gives its bytes.
#[derive(Clone, Debug)]
pub struct MetadataFile {
    /// What a listing says of it.
    pub entry: MetadataEntry,
    pub(crate) table: TableId,
    pub(crate) version: u64,
    pub(crate) row: VersionRow,
}

/// What S3 calls the tag of an object in one part would look like the MD5 of its bytes; the suffix
/// says that it is not.
fn etag(row: &VersionRow) -> String {
    format!("{}-1", hex::encode(&row.etag))
}

fn entry(key: String, row: &VersionRow) -> MetadataEntry {
    MetadataEntry {
        key,
        etag: etag(row),
        len: row.length,
        modified: TimestampMs(row.timestamp_ms),
    }
}

/// The location that a key lies below, with its path.
fn owner<'k>(
    rows: &impl Rows,
    bucket: BucketId,
    key: &'k str,
) -> Result<Option<(&'k str, LocationRow)>, StoreError> {
    for (at, _) in key.match_indices('/') {
        let path = &key[..at];
        if let Some(row) = rows.get::<LocationRow>(&keys::location(bucket, path))? {
            return Ok(Some((path, row.value)));
        }
    }
    Ok(None)
}

/// The version whose metadata file has this key, if the catalog renders it.
fn find(rows: &impl Rows, bucket: BucketId, key: &str) -> Result<Option<MetadataFile>, Outage> {
    let Some((path, location)) = owner(rows, bucket, key)? else {
        return Ok(None);
    };
    let name = key
        .strip_prefix(path)
        .and_then(|rest| rest.strip_prefix("/metadata/"));
    let Some((version, _)) = name.and_then(location::parse_metadata_name) else {
        return Ok(None);
    };
    let table = stored("location", table_id(&location.table_id))?;
    let Some(row) = rows.get::<VersionRow>(&keys::version(table, version))? else {
        return Ok(None);
    };
    let row = row.value;
    if !row.external_key.is_empty() || metadata_key(version, &row)? != key {
        return Ok(None);
    }
    Ok(Some(MetadataFile {
        entry: entry(key.to_owned(), &row),
        table,
        version,
        row,
    }))
}

impl Catalog {
    /// Which table's location a key lies below. What is acknowledged is seen.
    ///
    /// # Errors
    /// Only outages.
    pub async fn locate(&self, bucket: BucketId, key: &str) -> Result<FileLocation, Outage> {
        // A location once taken is never free again before its table is gone, so a row found here
        // is good enough; only an absent one may be news that this node has not applied yet.
        if let Some((_, row)) = owner(&self.inner.store.local(), bucket, key)? {
            return Ok(kind(&row)?);
        }
        let found = self
            .read(|rows| owner(rows, bucket, key).map_err(Outage::from))
            .await?;
        match found {
            Some((_, row)) => Ok(kind(&row)?),
            None => Ok(FileLocation::Outside),
        }
    }

    /// The metadata file with this key, if the catalog serves it. Files that clients wrote are
    /// ordinary objects.
    ///
    /// # Errors
    /// Only outages.
    pub async fn metadata_file(
        &self,
        bucket: BucketId,
        key: &str,
    ) -> Result<Option<MetadataFile>, Outage> {
        if !key.ends_with(".metadata.json") {
            return Ok(None);
        }
        if let Some(found) = find(&self.inner.store.local(), bucket, key)? {
            return Ok(Some(found));
        }
        self.read(|rows| find(rows, bucket, key)).await
    }

    /// The metadata files that the catalog serves whose keys begin with `prefix` and come after
    /// `after`, in key order, at most `limit`; fewer mean that there are no more.
    ///
    /// # Errors
    /// Only outages.
    pub async fn metadata_files(
        &self,
        bucket: BucketId,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<MetadataEntry>, Outage> {
        let wanted = Wanted {
            bucket,
            prefix: prefix.to_owned(),
            after: after.map(ToOwned::to_owned),
            limit,
        };
        let view = self.view().await?;
        self.step_behind(move || list(&view, &wanted)).await?
    }
}

fn kind(row: &LocationRow) -> Result<FileLocation, DamagedRow> {
    match row.state() {
        LocationState::Live => Ok(FileLocation::Live),
        LocationState::Staged => Ok(FileLocation::Staged),
        LocationState::Dropped => Ok(FileLocation::Dropped),
        LocationState::Unspecified => Err(DamagedRow {
            row: "location",
            detail: "unknown state".to_owned(),
        }),
    }
}

struct Wanted {
    bucket: BucketId,
    prefix: String,
    after: Option<String>,
    limit: usize,
}

/// Locations never contain each other, so the order of their paths is the order of their files.
fn list(rows: &impl Rows, wanted: &Wanted) -> Result<Vec<MetadataEntry>, Outage> {
    let mut out = Vec::new();
    // The prefix may end inside a location: then only that one can hold matching keys.
    if let Some((path, row)) = owner(rows, wanted.bucket, &wanted.prefix)? {
        of_location(rows, wanted, path, &row, &mut out)?;
        out.truncate(wanted.limit);
        return Ok(out);
    }
    let all = keys::locations(wanted.bucket, "");
    let below = keys::locations(wanted.bucket, &wanted.prefix);
    let mut start = None;
    if let Some(after) = wanted.after.as_deref() {
        if let Some((path, row)) = owner(rows, wanted.bucket, after)? {
            of_location(rows, wanted, path, &row, &mut out)?;
        }
        start = Some([&all[..], after.as_bytes()].concat());
    }
    while out.len() < wanted.limit {
        let page = rows.scan_prefix(&below, start.as_deref(), LOCATIONS_AT_ONCE)?;
        let Some((last, _)) = page.last() else { break };
        start = Some(last.to_vec());
        for (key, row) in page {
            let path = stored("location key", keys::location_path(&key))?;
            let row = stored("location", LocationRow::decode(row.payload))?;
            of_location(rows, wanted, &path, &row, &mut out)?;
            if out.len() >= wanted.limit {
                break;
            }
        }
    }
    out.truncate(wanted.limit);
    Ok(out)
}

/// Appends the matching metadata files below one location, in key order.
fn of_location(
    rows: &impl Rows,
    wanted: &Wanted,
    path: &str,
    row: &LocationRow,
    out: &mut Vec<MetadataEntry>,
) -> Result<(), Outage> {
    let directory = format!("{path}/metadata/");
    let prefix = wanted.prefix.as_str();
    let disjoint = !directory.starts_with(prefix) && !prefix.starts_with(&directory);
    if disjoint || row.state() == LocationState::Staged {
        return Ok(());
    }
    let table = stored("location", table_id(&row.table_id))?;
    let mut found = Vec::new();
    for (key, row) in rows.scan::<VersionRow>(&keys::versions(table), None, usize::MAX)? {
        let row = row.value;
        if !row.external_key.is_empty() || row.location_key != path {
            continue;
        }
        let version = stored("version key", keys::version_number(&key))?;
        let key = metadata_key(version, &row)?;
        let after = wanted.after.as_ref().is_none_or(|after| key > *after);
        if after && key.starts_with(prefix) {
            found.push(entry(key, &row));
        }
    }
    // Version numbers of more than five digits do not sort as text.
    found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    out.extend(found);
    Ok(())
}

/// Whether a key is that of a metadata file which the catalog renders for this table.
pub(crate) fn own_version(table: &StoredTable, bucket: &str, file: &str) -> Option<u64> {
    let key = file
        .strip_prefix("s3://")?
        .strip_prefix(bucket)?
        .strip_prefix('/')?;
    let (path, name) = key.rsplit_once("/metadata/")?;
    let current = table
        .row
        .location
        .strip_prefix("s3://")
        .or_else(|| table.row.location.strip_prefix("s3a://"));
    let current = current?.strip_prefix(bucket)?.trim_matches('/');
    let mut known = table
        .row
        .former_paths
        .iter()
        .map(String::as_str)
        .chain([current]);
    known
        .any(|known| known == path)
        .then(|| location::parse_metadata_name(name))?
        .map(|(v, _)| v)
}
