//! Reading rows: the interface that transactions and read views share.

use crate::error::StoreError;
use bytes::Bytes;
use floeberg_kv::Kv;
use floeberg_state::keys::{prefix_end, successor};
use floeberg_state::{RawRow, RowMessage};
use floeberg_types::CommitId;
use std::ops::Deref;
use std::sync::Arc;

/// The key of a row, made with [`floeberg_state::keys::KeyWriter`].
pub type Key = Bytes;

/// A decoded row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row<M> {
    /// The command that wrote it last.
    pub commit_id: CommitId,
    /// Its content.
    pub value: M,
}

impl<M> Deref for Row<M> {
    type Target = M;
    fn deref(&self) -> &M {
        &self.value
    }
}

/// Rows of a group, as a transaction or a read view sees them.
pub trait Rows {
    /// The row under `key`, undecoded.
    ///
    /// # Errors
    /// The store failed or the row's header is unknown.
    fn get_raw(&self, key: &[u8]) -> Result<Option<RawRow>, StoreError>;

    /// Up to `limit` rows whose keys start with `prefix`, in key order, behind `start_after`.
    ///
    /// # Errors
    /// The store failed or a row's header is unknown.
    fn scan_prefix(
        &self,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key, RawRow)>, StoreError>;

    /// The row under `key`.
    ///
    /// # Errors
    /// The store failed or the row is damaged.
    fn get<M: RowMessage>(&self, key: &[u8]) -> Result<Option<Row<M>>, StoreError>
    where
        Self: Sized,
    {
        self.get_raw(key)?.map(|raw| decode(key, raw)).transpose()
    }

    /// Whether there is a row under `key`.
    ///
    /// # Errors
    /// The store failed or the row's header is unknown.
    fn exists(&self, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.get_raw(key)?.is_some())
    }

    /// [`Self::scan_prefix`], decoded.
    ///
    /// # Errors
    /// The store failed or a row is damaged.
    fn scan<M: RowMessage>(
        &self,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key, Row<M>)>, StoreError>
    where
        Self: Sized,
    {
        let rows = self.scan_prefix(prefix, start_after, limit)?.into_iter();
        rows.map(|(key, raw)| decode(&key, raw).map(|row| (key, row)))
            .collect()
    }
}

fn decode<M: RowMessage>(key: &[u8], raw: RawRow) -> Result<Row<M>, StoreError> {
    let value = M::decode(raw.payload).map_err(|source| StoreError::Payload {
        key: Bytes::copy_from_slice(key),
        source,
    })?;
    Ok(Row {
        commit_id: raw.commit_id,
        value,
    })
}

/// Splits a stored value; `key` is for the error.
pub(crate) fn decode_raw(key: &[u8], value: Bytes) -> Result<RawRow, StoreError> {
    RawRow::decode(value).map_err(|source| StoreError::Format {
        key: Bytes::copy_from_slice(key),
        source,
    })
}

/// The keys of a prefix scan: `[start, end)`.
pub(crate) fn scan_range(prefix: &[u8], start_after: Option<&[u8]>) -> (Bytes, Option<Bytes>) {
    let start = match start_after {
        Some(key) if key >= prefix => successor(key),
        _ => Bytes::copy_from_slice(prefix),
    };
    (start, prefix_end(prefix))
}

/// Applied rows. Inside [`crate::Store::read`] nothing is applied meanwhile, so all reads belong
/// together; in [`crate::Store::local`] each read stands for itself.
#[derive(Clone)]
pub struct ReadView {
    kv: Arc<dyn Kv>,
}

impl ReadView {
    pub(crate) fn new(kv: Arc<dyn Kv>) -> Self {
        Self { kv }
    }
}

impl Rows for ReadView {
    fn get_raw(&self, key: &[u8]) -> Result<Option<RawRow>, StoreError> {
        self.kv
            .get(key)?
            .map(|value| decode_raw(key, value))
            .transpose()
    }

    fn scan_prefix(
        &self,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key, RawRow)>, StoreError> {
        let (start, end) = scan_range(prefix, start_after);
        if end.as_ref().is_some_and(|end| start >= *end) {
            return Ok(Vec::new());
        }
        let mut rows = Vec::new();
        for found in self.kv.scan(&start, end.as_deref()).take(limit) {
            let (key, value) = found?;
            let row = decode_raw(&key, value)?;
            rows.push((key, row));
        }
        Ok(rows)
    }
}
