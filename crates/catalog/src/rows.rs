//! Stored messages and the ids inside them.

use crate::errors::DamagedRow;
use crate::keys::SeriesId;
use bytes::Bytes;
use floeberg_types::{BucketId, NamespaceId, TableId};

pub(crate) use floeberg_proto::floeberg::catalog::v1::{
    AnswerExpiryRow, AnswerRow, BucketKind, BucketRow, BucketState, CollectedRow, DoneNothing,
    DoneProperties, DoneStaged, DoneTables, FragmentRow, LocationRow, LocationState, NameKind,
    NameRow, NamespaceRow, PiecesRow, Refusal as RefusalRow, SeenOrderRow, SeenRow, SeriesRow,
    StagedRow, TableHeadRow, TableState, VersionRow, answer_row,
};

/// An id as a row field.
pub(crate) fn id_bytes(id: &[u8; 16]) -> Bytes {
    Bytes::copy_from_slice(id)
}

fn id(row: &'static str, bytes: &[u8]) -> Result<[u8; 16], DamagedRow> {
    bytes.try_into().map_err(|_| DamagedRow {
        row,
        detail: format!("an id of {} bytes", bytes.len()),
    })
}

pub(crate) fn bucket_id(bytes: &[u8]) -> Result<BucketId, DamagedRow> {
    id("bucket id", bytes).map(BucketId::from_bytes)
}

pub(crate) fn namespace_id(bytes: &[u8]) -> Result<NamespaceId, DamagedRow> {
    id("namespace id", bytes).map(NamespaceId::from_bytes)
}

pub(crate) fn table_id(bytes: &[u8]) -> Result<TableId, DamagedRow> {
    id("table id", bytes).map(TableId::from_bytes)
}

/// Whose fragments a version of a table has.
pub(crate) fn series_of(table: TableId, row: &VersionRow) -> Result<SeriesId, DamagedRow> {
    if row.series.is_empty() {
        return Ok(SeriesId::first_of(table));
    }
    id("series id", &row.series).map(SeriesId::from_bytes)
}

/// A row field that must parse, because it was checked before it was stored.
pub(crate) fn stored<T, E: std::fmt::Display>(
    row: &'static str,
    parsed: Result<T, E>,
) -> Result<T, DamagedRow> {
    parsed.map_err(|e| DamagedRow {
        row,
        detail: e.to_string(),
    })
}
