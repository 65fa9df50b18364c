//! Reading rows: the interface that transactions and read views share.

use crate::error::StoreError;
use crate::moment::Moment;
use bytes::Bytes;
use floeberg_kv::KvRead;
use floeberg_state::keys::{prefix_end, successor};
use floeberg_state::{RawRow, RowMessage};
use floeberg_types::CommitId;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

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

/// How long a view answers. Disk space that is freed meanwhile stays taken until it is dropped.
pub const VIEW_LASTS: Duration = Duration::from_secs(60);

/// How much a page of rows may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    /// Rows.
    pub rows: usize,
    /// Bytes of keys and values; a single row may exceed them.
    pub bytes: usize,
}

impl PageLimit {
    /// What one step reads: a few milliseconds, and memory of no account.
    pub const STEP: Self = Self {
        rows: 1024,
        bytes: 1 << 20,
    };

    /// The same with fewer rows.
    #[must_use]
    pub fn at_most(self, rows: usize) -> Self {
        Self {
            rows: self.rows.min(rows),
            ..self
        }
    }
}

/// Some rows of a range.
#[derive(Debug, Clone, PartialEq)]
pub struct RowPage<R> {
    /// In key order.
    pub rows: Vec<(Key, R)>,
    /// Whether the range has more behind them.
    pub has_more: bool,
}

/// The rows of one moment. It holds up nobody and may be read from any thread, for
/// [`VIEW_LASTS`]; it is not kept while something is sent to a client.
#[derive(Clone)]
pub struct ReadView {
    moment: Arc<Moment>,
    until: Instant,
}

impl ReadView {
    pub(crate) fn new(moment: Arc<Moment>) -> Self {
        Self {
            moment,
            until: Instant::now() + VIEW_LASTS,
        }
    }

    /// Index of the last entry that it shows; 0 in a new group.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.moment.index()
    }

    /// Whether it answers no more.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        Instant::now() >= self.until
    }

    fn rows(&self) -> Result<&dyn KvRead, StoreError> {
        if self.is_expired() {
            return Err(StoreError::Expired);
        }
        Ok(&*self.moment.rows)
    }

    /// A page of the rows whose keys start with `prefix`, in key order, behind `start_after`. Where
    /// `limit` allows none, one is read.
    ///
    /// # Errors
    /// The store failed, a row is damaged, or the view is too old.
    pub fn page<M: RowMessage>(
        &self,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        limit: PageLimit,
    ) -> Result<RowPage<Row<M>>, StoreError> {
        let page = self.page_raw(prefix, start_after, limit)?;
        let rows = page.rows.into_iter();
        let rows = rows.map(|(key, raw)| decode(&key, raw).map(|row| (key, row)));
        Ok(RowPage {
            rows: rows.collect::<Result<_, _>>()?,
            has_more: page.has_more,
        })
    }

    /// [`Self::page`], undecoded.
    ///
    /// # Errors
    /// The store failed, a row's header is unknown, or the view is too old.
    pub fn page_raw(
        &self,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        limit: PageLimit,
    ) -> Result<RowPage<RawRow>, StoreError> {
        let mut page = RowPage {
            rows: Vec::new(),
            has_more: false,
        };
        let (start, end) = scan_range(prefix, start_after);
        let mut bytes = 0;
        for found in self.rows()?.scan(&start, end.as_deref()) {
            let (key, value) = found?;
            if !page.rows.is_empty() && (page.rows.len() >= limit.rows || bytes >= limit.bytes) {
                page.has_more = true;
                break;
            }
            bytes += key.len() + value.len();
            let row = decode_raw(&key, value)?;
            page.rows.push((key, row));
        }
        Ok(page)
    }
}

impl Rows for ReadView {
    fn get_raw(&self, key: &[u8]) -> Result<Option<RawRow>, StoreError> {
        self.rows()?
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
        let mut rows = Vec::new();
        for found in self.rows()?.scan(&start, end.as_deref()).take(limit) {
            let (key, value) = found?;
            let row = decode_raw(&key, value)?;
            rows.push((key, row));
        }
        Ok(rows)
    }
}
