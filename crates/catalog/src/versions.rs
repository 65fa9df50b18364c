//! Versions of a table's metadata as rows: writing the fragments that changed, and putting any
//! version together again.
//!
//! A fragment row holds from its version until the next row of the same part, so a commit writes
//! only what it changed, whatever the size of the table, and never touches older rows.

use crate::errors::DamagedRow;
use crate::heads::{TableHead, TableInfo};
use crate::keys::{self, FragmentKey, FragmentRole, SeriesId};
use crate::load::StoredTable;
use crate::rows::{FragmentRow, VersionRow, id_bytes, stored};
use bytes::{Bytes, BytesMut};
use floeberg_iceberg::{Document, PartChange, Section, TableMetadata};
use floeberg_metastore::{RawRow, Rows, StoreError, Txn};
use floeberg_types::TableId;
use prost::Message as _;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How fragments are joined to a document; stored with every version.
const LAYOUT: u32 = 1;

/// Rows read at once while a version is put together.
const SCAN_ROWS: usize = 1024;

/// A version about to be written.
pub(crate) struct NewVersion<'a> {
    pub table: TableId,
    pub version: u64,
    pub metadata: &'a TableMetadata,
    /// Where its fragments are.
    pub series: SeriesId,
    /// Those that are still to be written there.
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
                        ..FragmentRow::default()
                    },
                )
            }
            PartChange::Remove { section, ordinal } => (
                *section,
                *ordinal,
                FragmentRow {
                    removed: true,
                    ..FragmentRow::default()
                },
            ),
        };
        let part = FragmentKey {
            section,
            ordinal,
            from: new.version,
        };
        txn.put(keys::fragment(new.series, part), &row);
    }
    let file = uuid::Builder::from_random_bytes(txn.new_id()).into_uuid();
    let is_first = new.series == SeriesId::first_of(new.table);
    let row = VersionRow {
        layout: LAYOUT,
        length: new.metadata.rendered_len(),
        etag: id_bytes(txn.commit_id().as_bytes()),
        file_uuid: id_bytes(file.as_bytes()),
        timestamp_ms: txn.now().0,
        location_key: new.location_key.to_owned(),
        external_key: new.external_key.unwrap_or_default().to_owned(),
        // Written by every version, this row would grow for nothing.
        series: match is_first {
            true => Bytes::new(),
            false => id_bytes(new.series.as_bytes()),
        },
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

/// Collects the parts of a version in document order, some rows at a time.
pub(crate) struct PartsWalk {
    prefix: Bytes,
    version: u64,
    after: Option<Bytes>,
    /// The part whose newest row may still come.
    open: Option<OpenPart>,
    parts: Vec<StoredPart>,
}

/// The newest row of a part so far, and the rows that go on with it.
struct OpenPart {
    key: FragmentKey,
    payload: Bytes,
    more: Vec<Bytes>,
}

impl PartsWalk {
    /// Over all parts of a version.
    pub(crate) fn new(series: SeriesId, version: u64) -> Self {
        Self::below(keys::fragments(series), version)
    }

    /// Over those whose keys begin with `prefix`.
    fn below(prefix: Bytes, version: u64) -> Self {
        Self {
            prefix,
            version,
            after: None,
            open: None,
            parts: Vec::new(),
        }
    }

    /// Reads on; whether that was the last of it.
    pub(crate) fn advance<E>(&mut self, rows: &impl Rows) -> Result<bool, E>
    where
        E: From<StoreError> + From<DamagedRow>,
    {
        let page = rows.scan_prefix(&self.prefix, self.after.as_deref(), SCAN_ROWS)?;
        let is_last = page.len() < SCAN_ROWS;
        self.after = page.last().map(|(key, _)| key.clone());
        for (key, row) in page {
            let (key, role) = stored("fragment key", keys::fragment_key(&key))?;
            if key.from <= self.version {
                self.take(key, role, row.payload)?;
            }
        }
        if is_last && let Some(open) = self.open.take() {
            close(open, &mut self.parts)?;
        }
        Ok(is_last)
    }

    fn take(
        &mut self,
        key: FragmentKey,
        role: FragmentRole,
        payload: Bytes,
    ) -> Result<(), DamagedRow> {
        if role == FragmentRole::GoesOn {
            // Without the row that begins it, it is being removed.
            if let Some(open) = self.open.as_mut().filter(|open| open.key == key) {
                open.more.push(payload);
            }
            return Ok(());
        }
        let more = Vec::new();
        let before = self.open.replace(OpenPart { key, payload, more });
        let same = |b: &OpenPart| (b.key.section, b.key.ordinal) == (key.section, key.ordinal);
        match before.filter(|before| !same(before)) {
            Some(before) => close(before, &mut self.parts),
            None => Ok(()),
        }
    }

    /// What was read.
    pub(crate) fn into_parts(self) -> Vec<StoredPart> {
        self.parts
    }
}

/// The parts of a version in document order, in one go.
#[cfg(test)]
pub(crate) fn parts<E>(
    rows: &impl Rows,
    series: SeriesId,
    version: u64,
) -> Result<Vec<StoredPart>, E>
where
    E: From<StoreError> + From<DamagedRow>,
{
    parts_below(rows, &keys::fragments(series), version)
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
    let mut walk = PartsWalk::below(Bytes::copy_from_slice(prefix), version);
    while !walk.advance::<E>(rows)? {}
    Ok(walk.into_parts())
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
fn close(open: OpenPart, out: &mut Vec<StoredPart>) -> Result<(), DamagedRow> {
    let OpenPart { key, payload, more } = open;
    let row = stored("fragment", FragmentRow::decode(payload))?;
    if row.removed {
        return Ok(());
    }
    if row.more as usize != more.len() {
        let detail = format!("{} rows go on with it instead of {}", more.len(), row.more);
        let row = "fragment";
        return Err(DamagedRow { row, detail });
    }
    let json = match more.is_empty() {
        true => row.json,
        false => {
            let mut json = BytesMut::from(row.json);
            for payload in more {
                let more = stored("fragment", FragmentRow::decode(payload))?;
                json.extend_from_slice(&more.json);
            }
            json.freeze()
        }
    };
    out.push((key.section, key.ordinal, json));
    Ok(())
}

/// The document of a stored version, byte for byte as it was when the version was made.
pub(crate) fn render(parts: Vec<StoredPart>, row: &VersionRow) -> Result<Bytes, DamagedRow> {
    let damaged = |detail: String| DamagedRow {
        row: "table version",
        detail,
    };
    if row.layout != LAYOUT {
        return Err(damaged(format!("layout {} is unknown", row.layout)));
    }
    let document = Document::render(parts);
    let document = document.map_err(|e| damaged(e.to_string()))?;
    if document.len() as u64 != row.length {
        let detail = format!(
            "{} bytes of document, {} expected",
            document.len(),
            row.length
        );
        return Err(damaged(detail));
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
