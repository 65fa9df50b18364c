//! Metadata documents that no single command should hold: their fragments are written ahead, piece by piece,
//! under the id of a series that no version has yet, so that no reader and no decision sees them. One
//! last command compares everything that was read and gives the series to the table; it copies
//! nothing. What its request does not publish is condemned as soon as the request has ended, and
//! expires if its node has died.

use crate::errors::{Outage, TooManyDocuments};
use crate::keys::{self, FragmentKey, SeriesId};
use crate::rows::{FragmentRow, PiecesRow, SeriesRow};
use crate::{Catalog, Inner, PieceSizes};
use bytes::Bytes;
use floeberg_env::{Attendance, ByteBudget, Held, SHARE_WAITERS_MAX, Shares};
use floeberg_iceberg::{Part, PartChange, TableMetadata};
use floeberg_metastore::{Cx, Rows, Txn};
use floeberg_state::FEATURE_LEVEL_PIECES;
use floeberg_types::limits;
use floeberg_types::{TableId, TimestampMs};
use prost::Message as _;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// After this time nobody publishes a series any more: four times what a request may take, unless
/// `limits.operation_time` is raised; then a slower one is refused. A series of a node that has died takes a place until then.
pub(crate) const PIECES_LAST_MS: i64 = 2 * 60_000;

/// Series written ahead at once in a cluster, those included that are left to expire.
pub(crate) const SERIES_AHEAD_MAX: usize = 16;

/// The same of one caller, those included that are condemned and not removed yet.
pub(crate) const SERIES_OF_CALLER_MAX: usize = SERIES_AHEAD_MAX / 2;

/// The same of all callers: what bounds their rows.
pub(crate) const SERIES_KEPT_MAX: usize = 2 * SERIES_AHEAD_MAX;

/// Requests of one node that write documents ahead at once, each of another network; each has one piece under way.
const WRITERS: u64 = 2;

/// Bytes that a row takes in a command beside its payload.
const AROUND_A_ROW: usize = 64;

/// How long a request tries to give up its series.
const GIVING_UP: Duration = Duration::from_secs(1);

/// How long it is tried when nobody waits for it any more; the series expires anyway.
const GIVING_UP_ALONE: Duration = Duration::from_secs(10);

/// All places of a node to write documents ahead.
pub(crate) fn writers() -> ByteBudget {
    ByteBudget::new(Shares {
        total: WRITERS,
        reserve: 0,
        network: 1,
        connection: 1,
        waiters: SHARE_WAITERS_MAX,
    })
}

/// A place of this node to write documents ahead, or none yet. Who will need one takes it before it makes the
/// document, and keeps it until that is of no more use: what waits for a place is no larger than its request.
#[derive(Default)]
pub(crate) struct Place {
    held: Option<Held>,
}

/// A series that was begun. Whoever drops it, because it was published, refused or the client left,
/// has it condemned: a series that a version has is not there to be condemned any more, and a command
/// that would publish a condemned one misses.
struct Begun {
    catalog: Weak<Inner>,
    cx: Cx,
    series: SeriesId,
    expires: TimestampMs,
    is_settled: bool,
}

impl Begun {
    fn key(&self) -> Bytes {
        keys::pieces(self.expires, self.series)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // Without a runtime the process is ending.
        let (Some(inner), Ok(_)) = (self.catalog.upgrade(), Handle::try_current()) else {
            return;
        };
        if self.is_settled {
            return;
        }
        let catalog = Catalog { inner };
        let (cx, key) = (self.cx.clone(), self.key());
        let tasks = catalog.inner.env.tasks.clone();
        tasks.spawn("condemn pieces", async move {
            catalog.condemn(&cx, &key, GIVING_UP_ALONE).await;
        });
    }
}

/// A series that is complete and that no version has yet.
pub(crate) struct Pieces {
    begun: Begun,
}

impl Pieces {
    /// Gives the series to a table, in the command that writes the version which has it.
    pub(crate) fn publish(&self, txn: &mut Txn<'_>, table: TableId) -> Result<SeriesId, Outage> {
        let row = txn.get::<PiecesRow>(&self.begun.key())?;
        if row.is_none_or(|row| row.value.condemned) {
            return Err(Outage::Unavailable);
        }
        txn.delete(self.begun.key());
        txn.put(keys::series(table, self.begun.series), &SeriesRow {});
        Ok(self.begun.series)
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

impl Catalog {
    /// Whether a document is written ahead whose changes have this weight.
    pub(crate) fn takes_pieces(&self, weight: usize, metadata: &TableMetadata) -> bool {
        let level = self.inner.store.feature_level();
        let document = metadata.rendered_len();
        self.inner.pieces.suits(level, weight, document)
    }

    /// Waits for a place if there is none yet: its network has only one.
    async fn take(&self, cx: &Cx, place: &mut Place) -> Result<(), TooManyDocuments> {
        if place.held.is_none() {
            let deadline = cx.deadline.unwrap_or_else(|| Instant::now() + GIVING_UP);
            let patience = deadline.saturating_duration_since(Instant::now());
            let held = self.inner.writers.hold(cx.caller, 1, patience).await;
            let limit = WRITERS as usize;
            place.held = Some(held.map_err(|_| TooManyDocuments { limit })?);
        }
        Ok(())
    }

    /// A place for a request whose document is written ahead if it is as large as its text.
    pub(crate) async fn place_for(&self, cx: &Cx, text_bytes: usize) -> Result<Place, Outage> {
        let mut place = Place::default();
        if text_bytes > self.inner.pieces.above {
            self.take(cx, &mut place).await?;
        }
        Ok(place)
    }

    /// Writes all parts of a document ahead.
    ///
    /// # Errors
    /// Nothing of the document is or will be seen by anybody.
    pub(crate) async fn write_ahead(
        &self,
        cx: &Cx,
        place: &mut Place,
        metadata: &TableMetadata,
    ) -> Result<Pieces, Outage> {
        self.take(cx, place).await?;
        let document = metadata.clone();
        let parts = self.step(move || document.parts().collect::<Vec<Part>>());
        let parts = parts.await?;
        // The answer under the request's key belongs to the last command.
        let own = Cx {
            idempotency: None,
            ..cx.clone()
        };
        let begun = self.begin(&own, metadata.rendered_len()).await?;
        let pieces = Pieces { begun };
        match self.write_pieces(&own, &pieces, &parts).await {
            Ok(()) => Ok(pieces),
            Err(error) => {
                self.give_up(pieces).await;
                Err(match error {
                    // A piece that may still be written is seen by nobody.
                    Outage::Indefinite => Outage::Unavailable,
                    error => error,
                })
            }
        }
    }

    /// Begins a series in a task of its own: whoever leaves meanwhile leaves nothing that nobody knows of.
    async fn begin(&self, cx: &Cx, bytes: u64) -> Result<Begun, Outage> {
        let (catalog, cx) = (self.clone(), cx.clone());
        let begin = async move {
            let caller = caller(&cx);
            let opened = catalog.transact(&cx, |txn| open(txn, bytes, &caller));
            let (series, expires) = opened.await?;
            Ok(Begun {
                catalog: Arc::downgrade(&catalog.inner),
                // The client has gone by the time somebody needs it.
                cx: Cx {
                    attendance: Attendance::default(),
                    ..cx
                },
                series,
                expires,
                is_settled: false,
            })
        };
        let begun = self.inner.env.tasks.spawn("begin pieces", begin);
        begun.await.map_err(|_| Outage::Unavailable)?
    }

    async fn write_pieces(&self, cx: &Cx, pieces: &Pieces, parts: &[Part]) -> Result<(), Outage> {
        let PieceSizes { bytes: longest, .. } = self.inner.pieces;
        let (mut rows, mut weight) = (Vec::new(), 0);
        for part in parts {
            for (key, row) in cut(pieces.begun.series, part, longest) {
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
            let row = txn.get::<PiecesRow>(&pieces.begun.key())?;
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
    pub(crate) async fn give_up(&self, mut pieces: Pieces) {
        let begun = &mut pieces.begun;
        begun.is_settled = self.condemn(&begun.cx, &begun.key(), GIVING_UP).await;
    }

    /// Whether a series was condemned in time.
    async fn condemn(&self, cx: &Cx, key: &Bytes, patience: Duration) -> bool {
        let own = Cx {
            deadline: Some(Instant::now() + patience),
            ..cx.clone()
        };
        let condemned = self.transact(&own, |txn| condemn(txn, key)).await;
        if let Err(error) = &condemned {
            tracing::debug!(%error, "pieces of a metadata document are left to expire");
        }
        condemned.is_ok()
    }
}

/// Whose share a series counts against, on whatever node.
fn caller(cx: &Cx) -> Bytes {
    let mut hash = blake3::Hasher::new();
    hash.update(cx.principal.as_bytes());
    hash.update(&[0]);
    hash.update(cx.caller.network.to_string().as_bytes());
    Bytes::copy_from_slice(&hash.finalize().as_bytes()[..16])
}

/// Begins a series.
fn open(txn: &mut Txn<'_>, bytes: u64, caller: &Bytes) -> Result<(SeriesId, TimestampMs), Outage> {
    let kept = txn.scan::<PiecesRow>(&keys::all_pieces(), None, SERIES_KEPT_MAX)?;
    let count = |holds: &dyn Fn(&PiecesRow) -> bool| {
        kept.iter().filter(|(_, row)| holds(&row.value)).count()
    };
    for (found, limit) in [
        (kept.len(), SERIES_KEPT_MAX),
        (count(&|row| !row.condemned), SERIES_AHEAD_MAX),
        (count(&|row| row.caller == caller), SERIES_OF_CALLER_MAX),
    ] {
        if found >= limit {
            return Err(TooManyDocuments { limit }.into());
        }
    }
    let series = SeriesId::from_bytes(txn.new_id());
    let expires = txn.now().plus_ms(PIECES_LAST_MS);
    let row = PiecesRow {
        bytes,
        caller: caller.clone(),
        ..PiecesRow::default()
    };
    txn.put(keys::pieces(expires, series), &row);
    Ok((series, expires))
}

/// Bytes of rows above which a document is written ahead if most of it is new: what comes behind an entry waits until
/// all nodes have it.
const ABOVE: usize = limits::COMMAND_BYTES / 8;

/// A document that is larger than its changes by more is only written ahead if a command could hardly take these.
const LARGER: u64 = 8;

impl PieceSizes {
    /// Whether a document is written ahead whose changes have this weight, and itself this length.
    pub(crate) fn suits(self, feature_level: u32, weight: usize, document: u64) -> bool {
        let is_new = document <= LARGER * weight as u64;
        feature_level >= FEATURE_LEVEL_PIECES
            && weight > self.above
            && (is_new || weight > limits::COMMAND_BYTES / 2)
    }
}

impl Default for PieceSizes {
    fn default() -> Self {
        Self {
            above: ABOVE,
            bytes: limits::PIECE_BYTES,
        }
    }
}
