//! Metadata documents that no single command takes: their fragments are written ahead, piece by piece,
//! under the id of a series that no version has yet, so that no reader and no decision sees them. One
//! last command compares everything that was read and gives the series to the table; it copies
//! nothing. What nobody publishes expires.

use crate::errors::{DamagedRow, Outage, TooManyDocuments};
use crate::keys::{self, FragmentKey, SeriesId};
use crate::location::{self, Path};
use crate::rows::{FragmentRow, PiecesRow, SeriesRow, stored};
use crate::{Catalog, PieceSizes};
use bytes::Bytes;
use floeberg_iceberg::{Part, PartChange, TableMetadata};
use floeberg_metastore::{Cx, Rows, Txn};
use floeberg_state::FEATURE_LEVEL_PIECES;
use floeberg_types::limits;
use floeberg_types::{BucketName, TableId, TimestampMs};
use prost::Message as _;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// After this time nobody publishes a series any more: many times what a request may take.
pub(crate) const PIECES_LAST_MS: i64 = 10 * 60_000;

/// Series written ahead at once in a cluster, those that expire included: what bounds their rows.
pub(crate) const SERIES_AHEAD_MAX: usize = 16;

/// Series that one node writes ahead at once; each has one piece under way.
pub(crate) const WRITERS: usize = 2;

/// Bytes that a row takes in a command beside its payload.
const AROUND_A_ROW: usize = 64;

/// How long to try to give up a series; it expires anyway.
const GIVING_UP: Duration = Duration::from_secs(1);

/// A series that is complete and that no version has yet.
pub(crate) struct Pieces {
    series: SeriesId,
    expires: TimestampMs,
    /// Files that snapshots name outside of the document's own location.
    strays: Vec<Arc<str>>,
}

impl Pieces {
    fn key(&self) -> Bytes {
        keys::pieces(self.expires, self.series)
    }

    /// Files that may only be named if the table once had other locations.
    pub(crate) fn strays(&self) -> &[Arc<str>] {
        &self.strays
    }

    /// Gives the series to a table, in the command that writes the version which has it.
    pub(crate) fn publish(&self, txn: &mut Txn<'_>, table: TableId) -> Result<SeriesId, Outage> {
        let row = txn.get::<PiecesRow>(&self.key())?;
        if row.is_none_or(|row| row.value.condemned) {
            return Err(Outage::Unavailable);
        }
        txn.delete(self.key());
        txn.put(keys::series(table, self.series), &SeriesRow {});
        Ok(self.series)
    }
}

/// Bytes of a command that these changes take.
pub(crate) fn weight(changes: &[PartChange]) -> usize {
    let weigh = |change: &PartChange| match change {
        PartChange::Put { json, .. } => AROUND_A_ROW + json.len(),
        PartChange::Remove { .. } => AROUND_A_ROW,
    };
    changes.iter().map(weigh).sum()
}

/// Makes sure that no version takes a series any more. Its rows are removed later.
pub(crate) fn condemn(txn: &mut Txn<'_>, key: &Bytes) -> Result<(), Outage> {
    if let Some(row) = txn.get::<PiecesRow>(key)?
        && !row.value.condemned
    {
        let condemned = true;
        txn.put(
            key.clone(),
            &PiecesRow {
                condemned,
                ..row.value
            },
        );
    }
    Ok(())
}

/// The rows of a part, of at most `longest` bytes each.
fn cut(
    series: SeriesId,
    part: &Part,
    longest: usize,
) -> impl Iterator<Item = (Bytes, FragmentRow)> + use<> {
    let at = FragmentKey {
        section: part.section,
        ordinal: part.ordinal,
        from: 0,
    };
    let json = Bytes::copy_from_slice(part.json.as_bytes());
    let count = u32::try_from(json.len().div_ceil(longest).max(1)).expect("documents are bounded");
    (0..count).map(move |number| {
        let start = number as usize * longest;
        let json = json.slice(start..json.len().min(start + longest));
        match number {
            0 => {
                let more = count - 1;
                let removed = false;
                (
                    keys::fragment(series, at),
                    FragmentRow {
                        json,
                        removed,
                        more,
                    },
                )
            }
            _ => {
                let key = keys::fragment_more(series, at, number);
                (
                    key,
                    FragmentRow {
                        json,
                        ..FragmentRow::default()
                    },
                )
            }
        }
    })
}

fn strays(
    bucket: &BucketName,
    path: &Path,
    metadata: &TableMetadata,
) -> Result<Vec<Arc<str>>, DamagedRow> {
    let (mut strays, none) = (Vec::new(), BTreeSet::new());
    for snapshot in metadata.snapshots() {
        let files = stored("snapshot", snapshot.manifest_files())?;
        let is_stray =
            |file: &Arc<str>| location::check_manifest(bucket, path, &none, file).is_err();
        strays.extend(files.into_iter().filter(is_stray));
    }
    Ok(strays)
}

impl Catalog {
    /// Whether changes of this weight are to be written ahead.
    pub(crate) fn takes_pieces(&self, weight: usize) -> bool {
        weight > self.inner.pieces.above && self.inner.store.feature_level() >= FEATURE_LEVEL_PIECES
    }

    /// Writes all parts of a document ahead.
    ///
    /// # Errors
    /// Nothing of the document is or will be seen by anybody.
    pub(crate) async fn write_ahead(
        &self,
        cx: &Cx,
        bucket: &BucketName,
        path: &Path,
        metadata: &TableMetadata,
    ) -> Result<Pieces, Outage> {
        let acquired = self.inner.writers.acquire();
        let deadline = cx.deadline.unwrap_or_else(|| Instant::now() + GIVING_UP);
        let Ok(Ok(_writer)) = timeout_at(deadline, acquired).await else {
            return Err(TooManyDocuments { limit: WRITERS }.into());
        };
        let (bucket, path, document) = (bucket.clone(), path.clone(), metadata.clone());
        let look = move || {
            let parts: Vec<Part> = document.parts().collect();
            strays(&bucket, &path, &document).map(|strays| (parts, strays))
        };
        let (parts, strays) = self.step(look).await??;
        // The answer under the request's key belongs to the last command.
        let own = Cx {
            idempotency: None,
            ..cx.clone()
        };
        let bytes = metadata.rendered_len();
        let (series, expires) = self.transact(&own, |txn| open(txn, bytes)).await?;
        let pieces = Pieces {
            series,
            expires,
            strays,
        };
        match self.write_pieces(&own, &pieces, &parts).await {
            Ok(()) => Ok(pieces),
            Err(error) => {
                self.give_up(&own, &pieces).await;
                Err(match error {
                    // A piece that may still be written is seen by nobody.
                    Outage::Indefinite => Outage::Unavailable,
                    error => error,
                })
            }
        }
    }

    async fn write_pieces(&self, cx: &Cx, pieces: &Pieces, parts: &[Part]) -> Result<(), Outage> {
        let PieceSizes { bytes: longest, .. } = self.inner.pieces;
        let (mut rows, mut weight) = (Vec::new(), 0);
        for part in parts {
            for (key, row) in cut(pieces.series, part, longest) {
                weight += AROUND_A_ROW + row.json.len();
                rows.push((key, Bytes::from(row.encode_to_vec())));
                if weight >= longest {
                    self.write_piece(cx, pieces, &rows).await?;
                    (rows, weight) = (Vec::new(), 0);
                }
            }
        }
        match rows.is_empty() {
            true => Ok(()),
            false => self.write_piece(cx, pieces, &rows).await,
        }
    }

    async fn write_piece(
        &self,
        cx: &Cx,
        pieces: &Pieces,
        rows: &[(Bytes, Bytes)],
    ) -> Result<(), Outage> {
        self.transact(cx, |txn| {
            let row = txn.get::<PiecesRow>(&pieces.key())?;
            if row.is_none_or(|row| row.value.condemned) {
                return Err(Outage::Unavailable);
            }
            for (key, payload) in rows {
                txn.put_raw(key.clone(), payload.clone());
            }
            Ok(())
        })
        .await
    }

    /// Lets a series go that will not be published, so that it does not have to expire first.
    pub(crate) async fn give_up(&self, cx: &Cx, pieces: &Pieces) {
        let own = Cx {
            idempotency: None,
            deadline: Some(Instant::now() + GIVING_UP),
            ..cx.clone()
        };
        let key = pieces.key();
        if let Err(error) = self.transact(&own, |txn| condemn(txn, &key)).await {
            tracing::debug!(%error, "pieces of a metadata document are left to expire");
        }
    }
}

/// Begins a series.
fn open(txn: &mut Txn<'_>, bytes: u64) -> Result<(SeriesId, TimestampMs), Outage> {
    let ahead = txn.scan_prefix(&keys::all_pieces(), None, SERIES_AHEAD_MAX)?;
    if ahead.len() >= SERIES_AHEAD_MAX {
        let limit = SERIES_AHEAD_MAX;
        return Err(TooManyDocuments { limit }.into());
    }
    let series = SeriesId::from_bytes(txn.new_id());
    let expires = txn.now().plus_ms(PIECES_LAST_MS);
    let row = PiecesRow {
        bytes,
        ..PiecesRow::default()
    };
    txn.put(keys::pieces(expires, series), &row);
    Ok((series, expires))
}

impl Default for PieceSizes {
    fn default() -> Self {
        Self {
            above: limits::COMMAND_BYTES / 2,
            bytes: limits::PIECE_BYTES,
        }
    }
}
