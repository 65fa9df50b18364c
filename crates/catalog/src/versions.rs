//! Versions of a table's metadata as rows: writing the fragments that changed, and putting any
//! version together again.
//!
//! A fragment row holds from its version until the next row of the same part, so a commit writes
//! only what it changed, whatever the size of the table, and never touches older rows.

use crate::errors::DamagedRow;
use crate::heads::{ColdHead, TableHead, TableInfo};
use crate::keys::{self, FragmentKey};
use crate::load::StoredTable;
use crate::rows::{FragmentRow, TableHeadRow, VersionRow, id_bytes, stored};
use crate::{Catalog, Outage};
use bytes::Bytes;
use floeberg_iceberg::{Document, PartChange, Section, TableMetadata};
use floeberg_metastore::{RawRow, Rows, StoreError, Txn};
use floeberg_types::{CommitId, TableId};
use prost::Message as _;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How fragments are joined to a document; stored with every version.
const LAYOUT: u32 = 1;

/// Rows read at once while a version is put together.
const SCAN_ROWS: usize = 4096;

/// A version about to be written.
pub(crate) struct NewVersion<'a> {
    pub table: TableId,
    pub version: u64,
    pub metadata: &'a TableMetadata,
    pub changes: &'a [PartChange],
    /// The table's location, relative to its bucket.
    pub location_key: &'a str,
    /// The key of a metadata file that the client wrote.
    pub external_key: Option<&'a str>,
}

/// Writes the fragments and the row of a version and returns the row for the head.
pub(crate) fn write(txn: &mut Txn<'_>, new: &NewVersion<'_>) -> VersionRow {
    for change in new.changes {
        let (section, ordinal, row) = match change {
            PartChange::Put {
                section,
                ordinal,
                json,
            } => {
                let json = Bytes::copy_from_slice(json.as_bytes());
                (
                    *section,
                    *ordinal,
                    FragmentRow {
                        json,
                        removed: false,
                    },
                )
            }
            PartChange::Remove { section, ordinal } => (
                *section,
                *ordinal,
                FragmentRow {
                    json: Bytes::new(),
                    removed: true,
                },
            ),
        };
        let part = FragmentKey {
            section,
            ordinal,
            from: new.version,
        };
        txn.put(keys::fragment(new.table, part), &row);
    }
    let file = uuid::Builder::from_random_bytes(txn.new_id()).into_uuid();
    let row = VersionRow {
        layout: LAYOUT,
        length: new.metadata.rendered_len(),
        etag: id_bytes(txn.commit_id().as_bytes()),
        file_uuid: id_bytes(file.as_bytes()),
        timestamp_ms: txn.now().0,
        location_key: new.location_key.to_owned(),
        external_key: new.external_key.unwrap_or_default().to_owned(),
    };
    txn.put(keys::version(new.table, new.version), &row);
    row
}

/// Every part of a document that has no base.
pub(crate) fn all_parts(metadata: &TableMetadata) -> Vec<PartChange> {
    let put = |part: floeberg_iceberg::Part| PartChange::Put {
        section: part.section,
        ordinal: part.ordinal,
        json: part.json,
    };
    metadata.parts().map(put).collect()
}

/// What turns the parts of `base` into those of a document that was not made from it.
pub(crate) fn replacement(base: &TableMetadata, new: &TableMetadata) -> Vec<PartChange> {
    let mut gone: BTreeSet<(Section, u64)> = base
        .parts()
        .map(|part| (part.section, part.ordinal))
        .collect();
    let mut changes = Vec::new();
    for part in new.parts() {
        gone.remove(&(part.section, part.ordinal));
        if base.part(part.section, part.ordinal).as_ref() != Some(&part.json) {
            let (section, ordinal, json) = (part.section, part.ordinal, part.json);
            changes.push(PartChange::Put {
                section,
                ordinal,
                json,
            });
        }
    }
    let removed = |(section, ordinal)| PartChange::Remove { section, ordinal };
    changes.extend(gone.into_iter().map(removed));
    changes
}

/// One part of a stored version.
pub(crate) type StoredPart = (Section, u64, Bytes);

/// The parts of a version in document order.
pub(crate) fn parts<E>(rows: &impl Rows, table: TableId, version: u64) -> Result<Vec<StoredPart>, E>
where
    E: From<StoreError> + From<DamagedRow>,
{
    parts_below(rows, &keys::fragments(table), version)
}

/// The parts of a version whose keys begin with `prefix`.
pub(crate) fn parts_below<E>(
    rows: &impl Rows,
    prefix: &[u8],
    version: u64,
) -> Result<Vec<StoredPart>, E>
where
    E: From<StoreError> + From<DamagedRow>,
{
    let mut out: Vec<StoredPart> = Vec::new();
    let mut open: Option<(FragmentKey, Bytes)> = None;
    for_each_row::<E>(rows, prefix, |key, row| {
        let key = stored("fragment key", keys::fragment_key(&key))?;
        if key.from <= version {
            let before = open.replace((key, row.payload));
            let done = before.filter(|(b, _)| (b.section, b.ordinal) != (key.section, key.ordinal));
            done.map_or(Ok(()), |(before, payload)| close(before, payload, &mut out))?;
        }
        Ok(())
    })?;
    if let Some((key, payload)) = open {
        close(key, payload, &mut out)?;
    }
    Ok(out)
}

/// Visits the rows below a prefix without holding all of them.
pub(crate) fn for_each_row<E>(
    rows: &impl Rows,
    prefix: &[u8],
    mut visit: impl FnMut(Bytes, RawRow) -> Result<(), DamagedRow>,
) -> Result<(), E>
where
    E: From<StoreError> + From<DamagedRow>,
{
    let mut after: Option<Bytes> = None;
    loop {
        let page = rows.scan_prefix(prefix, after.as_deref(), SCAN_ROWS)?;
        let full = page.len() == SCAN_ROWS;
        after = page.last().map(|(key, _)| key.clone());
        for (key, row) in page {
            visit(key, row)?;
        }
        if !full {
            return Ok(());
        }
    }
}

/// Takes the newest row of a part, unless it says that the part is gone.
fn close(key: FragmentKey, payload: Bytes, out: &mut Vec<StoredPart>) -> Result<(), DamagedRow> {
    let row = stored("fragment", FragmentRow::decode(payload))?;
    if !row.removed {
        out.push((key.section, key.ordinal, row.json));
    }
    Ok(())
}

/// The document of a stored version, byte for byte as it was when the version was made.
pub(crate) fn render<E>(
    rows: &impl Rows,
    table: TableId,
    version: u64,
    row: &VersionRow,
) -> Result<Bytes, E>
where
    E: From<StoreError> + From<DamagedRow>,
{
    let damaged = |detail: String| DamagedRow {
        row: "table version",
        detail,
    };
    if row.layout != LAYOUT {
        return Err(damaged(format!("layout {} is unknown", row.layout)).into());
    }
    let document = Document::render(parts::<E>(rows, table, version)?);
    let document = document.map_err(|e| damaged(e.to_string()))?;
    if document.len() as u64 != row.length {
        let detail = format!(
            "{} bytes of document, {} expected",
            document.len(),
            row.length
        );
        return Err(damaged(detail).into());
    }
    Ok(document.into())
}

/// A head put together from its rows.
pub(crate) fn assemble(
    table: &StoredTable,
    parts: Vec<StoredPart>,
) -> Result<TableHead, DamagedRow> {
    let damaged = |detail: String| DamagedRow {
        row: "table head",
        detail,
    };
    let StoredTable { id, commit, row } = table;
    let current = row
        .current
        .as_ref()
        .ok_or_else(|| damaged("no current version".to_owned()))?;
    let mut texts = Vec::with_capacity(parts.len());
    for (section, ordinal, json) in parts {
        let text = std::str::from_utf8(&json).map_err(|e| damaged(e.to_string()))?;
        texts.push((section, ordinal, Arc::<str>::from(text)));
    }
    let metadata = TableMetadata::from_parts(texts).map_err(|e| damaged(e.to_string()))?;
    let length = metadata.rendered_len();
    if length != current.length {
        let detail = format!("{length} bytes, {} expected", current.length);
        return Err(damaged(detail));
    }
    TableHead::new(TableInfo::of(*id, *commit, row)?, current, metadata)
}

/// What a read found of a table: its head, or what to make it from once the read is over.
pub(crate) enum Found {
    Warm(Arc<TableHead>),
    Cold(StoredTable, Vec<StoredPart>),
}

impl Catalog {
    /// Collects what a head is made of. Nothing is applied while a read runs, so it does not parse.
    pub(crate) fn find_head<E>(&self, rows: &impl Rows, table: StoredTable) -> Result<Found, E>
    where
        E: From<StoreError> + From<DamagedRow>,
    {
        if let Some(head) = self.inner.heads.get(table.id, table.commit) {
            return Ok(Found::Warm(head));
        }
        let parts = parts::<E>(rows, table.id, table.row.version)?;
        Ok(Found::Cold(table, parts))
    }

    /// The head that a read found, kept for the next one.
    pub(crate) fn make_head(&self, found: Found) -> Result<Arc<TableHead>, DamagedRow> {
        match found {
            Found::Warm(head) => Ok(head),
            Found::Cold(table, parts) => {
                let head = Arc::new(assemble(&table, parts)?);
                let cache = &self.inner.heads;
                cache.insert(table.id, table.commit, head.clone());
                Ok(head)
            }
        }
    }

    /// Reads a table's metadata into memory for a decision that found it missing there. By then
    /// every row the decision saw is applied.
    pub(crate) fn warm(
        &self,
        cold: &ColdHead,
    ) -> Result<Option<(TableId, CommitId, Arc<TableHead>)>, Outage> {
        let rows = self.inner.store.local();
        let Some(row) = rows.get::<TableHeadRow>(&keys::head(cold.table))? else {
            return Ok(None);
        };
        let (id, commit) = (cold.table, row.commit_id);
        let table = StoredTable {
            id,
            commit,
            row: Box::new(row.value),
        };
        let found = self.find_head::<Outage>(&rows, table)?;
        Ok(Some((id, commit, self.make_head(found)?)))
    }
}
