//! Requests that carry an idempotency key: done once, and answered from the record when they come
//! again.
//!
//! The answer is a row that the same command writes as the effects it tells of, so neither exists
//! without the other, and any node answers a request that comes again. A decision under a key reads
//! that row first: of two requests in flight at once, the second is decided again and finds the
//! answer of the first. A refusal has no effects; its row is a command of its own, which is written
//! only if the key has no answer by then.

use crate::commit::{CommitOutcome, CommittedTable};
use crate::create::StagedTable;
use crate::errors::{DamagedRow, Outage};
use crate::heads::{ColdHead, TableHead, TableInfo};
use crate::namespaces::{self, NamespaceInfo, PropertiesUpdated};
use crate::rows::{
    AnswerExpiryRow, AnswerRow, DoneNothing, DoneProperties, DoneStaged, DoneTables, NamespaceRow,
    RefusalRow, answer_row::Answer, id_bytes, stored, table_id,
};
use crate::{Catalog, Decided, keys};
use bytes::Bytes;
use floeberg_env::Peer;
use floeberg_iceberg::TableMetadata;
use floeberg_metastore::{Cx, Idempotency, Rows, StoreError, Txn};
use floeberg_types::{TableId, TimestampMs};
use std::sync::Arc;

/// For how long a client may send a request again under its key, counted from the first time.
pub const IDEMPOTENCY_LIFETIME_MS: i64 = 30 * 60_000;

/// Clients measure the lifetime with their own clocks.
const GRACE_MS: i64 = 5 * 60_000;

/// A refusal in the words of the protocol that gave it; the catalog only keeps it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Its code.
    pub code: u16,
    /// Its kind.
    pub kind: String,
    /// Its text.
    pub message: String,
}

/// Why a request with an idempotency key is not decided: the key has an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyUsed {
    /// The same request was refused.
    #[error(transparent)]
    Refused(Refusal),
    /// Another request was answered under this key.
    #[error("the idempotency key was used for another request")]
    OtherRequest,
}

impl From<KeyUsed> for Outage {
    fn from(used: KeyUsed) -> Self {
        Self::KeyUsed(Box::new(used))
    }
}

/// What a request found under its key.
enum Found<T> {
    Nothing(T),
    Answer(Box<AnswerRow>),
}

/// A result that can be told again to whoever asks for it a second time.
pub(crate) trait Remembered: Sized {
    /// What is put on record; `None` while this is not the result yet.
    fn answer(&self) -> Option<Answer>;

    /// The result again, from the record and from how the tables that it names are now.
    ///
    /// # Errors
    /// The record is another kind of result's.
    fn again(answer: Answer, tables: Vec<Arc<TableHead>>) -> Result<Self, Outage>;
}

fn foreign<T>() -> Result<T, Outage> {
    Err(DamagedRow {
        row: "answer",
        detail: "it is of another operation".to_owned(),
    }
    .into())
}

impl Remembered for () {
    fn answer(&self) -> Option<Answer> {
        Some(Answer::Nothing(DoneNothing {}))
    }

    fn again(answer: Answer, _: Vec<Arc<TableHead>>) -> Result<Self, Outage> {
        match answer {
            Answer::Nothing(DoneNothing {}) => Ok(()),
            _ => foreign(),
        }
    }
}

impl Remembered for NamespaceInfo {
    fn answer(&self) -> Option<Answer> {
        Some(Answer::Namespace(NamespaceRow {
            id: id_bytes(self.id.as_bytes()),
            levels: self.namespace.levels().to_vec(),
            properties: self.properties.clone(),
            created_by: self.created_by.clone(),
            created_at_ms: self.created_at.0,
        }))
    }

    fn again(answer: Answer, _: Vec<Arc<TableHead>>) -> Result<Self, Outage> {
        match answer {
            Answer::Namespace(row) => Ok(namespaces::of_row(row)?),
            _ => foreign(),
        }
    }
}

impl Remembered for PropertiesUpdated {
    fn answer(&self) -> Option<Answer> {
        let Self {
            updated,
            removed,
            missing,
        } = self.clone();
        Some(Answer::Properties(DoneProperties {
            updated,
            removed,
            missing,
        }))
    }

    fn again(answer: Answer, _: Vec<Arc<TableHead>>) -> Result<Self, Outage> {
        match answer {
            Answer::Properties(DoneProperties {
                updated,
                removed,
                missing,
            }) => Ok(Self {
                updated,
                removed,
                missing,
            }),
            _ => foreign(),
        }
    }
}

fn tables(ids: impl IntoIterator<Item = TableId>) -> Option<Answer> {
    let ids = ids.into_iter().map(|id| id_bytes(id.as_bytes())).collect();
    Some(Answer::Tables(DoneTables { ids }))
}

fn one(answer: &Answer, tables: Vec<Arc<TableHead>>) -> Result<Arc<TableHead>, Outage> {
    match (answer, <[_; 1]>::try_from(tables)) {
        (Answer::Tables(_), Ok([head])) => Ok(head),
        _ => foreign(),
    }
}

impl Remembered for Arc<TableHead> {
    fn answer(&self) -> Option<Answer> {
        tables([self.info().id])
    }

    fn again(answer: Answer, tables: Vec<Arc<TableHead>>) -> Result<Self, Outage> {
        one(&answer, tables)
    }
}

impl Remembered for TableInfo {
    fn answer(&self) -> Option<Answer> {
        tables([self.id])
    }

    fn again(answer: Answer, tables: Vec<Arc<TableHead>>) -> Result<Self, Outage> {
        Ok(one(&answer, tables)?.info().clone())
    }
}

impl Remembered for Vec<CommittedTable> {
    fn answer(&self) -> Option<Answer> {
        tables(self.iter().map(|table| table.head.info().id))
    }

    fn again(answer: Answer, tables: Vec<Arc<TableHead>>) -> Result<Self, Outage> {
        let Answer::Tables(_) = answer else {
            return foreign();
        };
        let replayed = tables.into_iter().map(|head| CommittedTable {
            head,
            outcome: CommitOutcome::Replayed,
        });
        Ok(replayed.collect())
    }
}

impl Remembered for StagedTable {
    fn answer(&self) -> Option<Answer> {
        Some(Answer::Staged(DoneStaged {
            table_id: id_bytes(self.id.as_bytes()),
            metadata: self.metadata.render().into(),
            expires_at_ms: self.expires_at.0,
        }))
    }

    fn again(answer: Answer, _: Vec<Arc<TableHead>>) -> Result<Self, Outage> {
        let Answer::Staged(row) = answer else {
            return foreign();
        };
        Ok(Self {
            id: table_id(&row.table_id)?,
            metadata: stored("staged answer", TableMetadata::parse(&row.metadata))?,
            expires_at: TimestampMs(row.expires_at_ms),
        })
    }
}

impl<T: Remembered, M> Remembered for Decided<T, M> {
    fn answer(&self) -> Option<Answer> {
        match self {
            Self::Done(value) => value.answer(),
            Self::Lacks(_) => None,
        }
    }

    fn again(answer: Answer, tables: Vec<Arc<TableHead>>) -> Result<Self, Outage> {
        T::again(answer, tables).map(Self::Done)
    }
}

/// The answer on record for a key, unless it has expired at `present`.
fn on_record(
    rows: &impl Rows,
    key: &Idempotency,
    present: TimestampMs,
) -> Result<Option<Box<AnswerRow>>, StoreError> {
    let row = rows.get::<AnswerRow>(&keys::answer(&key.id))?;
    let row = row.map(|row| row.value);
    Ok(row
        .filter(|row| row.expires_at_ms > present.0)
        .map(Box::new))
}

/// Puts an answer on record, in place of one that has expired.
fn record(
    txn: &mut Txn<'_>,
    key: &Idempotency,
    answer: Answer,
    present: TimestampMs,
) -> Result<(), StoreError> {
    let at = keys::answer(&key.id);
    if let Some(expired) = txn.get::<AnswerRow>(&at)? {
        let expired = TimestampMs(expired.value.expires_at_ms);
        txn.delete(keys::answer_expiry(expired, &key.id));
    }
    let expires = present.plus_ms(IDEMPOTENCY_LIFETIME_MS + GRACE_MS);
    let row = AnswerRow {
        fingerprint: Bytes::copy_from_slice(&key.fingerprint),
        expires_at_ms: expires.0,
        answer: Some(answer),
    };
    txn.put(at, &row);
    txn.put(keys::answer_expiry(expires, &key.id), &AnswerExpiryRow {});
    Ok(())
}

impl Catalog {
    /// Runs a decision that needs no table metadata, once for each idempotency key.
    pub(crate) async fn transact_once<T, E>(
        &self,
        cx: &Cx,
        mut decide: impl FnMut(&mut Txn<'_>) -> Result<T, E> + Send,
    ) -> Result<T, E>
    where
        T: Remembered + Send,
        E: From<Outage> + Send,
    {
        let Some(key) = &cx.idempotency else {
            return self.transact(cx, decide).await;
        };
        let found = self.transact(cx, |txn| {
            let present = self.present();
            if let Some(row) = on_record(txn, key, present).map_err(Outage::from)? {
                return Ok(Found::Answer(row));
            }
            let value = decide(txn)?;
            if let Some(answer) = value.answer() {
                record(txn, key, answer, present).map_err(Outage::from)?;
            }
            Ok::<_, E>(Found::Nothing(value))
        });
        match found.await? {
            Found::Nothing(value) => Ok(value),
            Found::Answer(row) => Ok(self.replay(cx.caller, key, *row).await?),
        }
    }

    /// The result of a request that was answered before: for use cases that look at more than rows
    /// before they decide, and might refuse for what has changed since.
    pub(crate) async fn recall<T, E>(&self, cx: &Cx) -> Result<Option<T>, E>
    where
        T: Remembered,
        E: From<Outage> + Send,
    {
        let Some(key) = &cx.idempotency else {
            return Ok(None);
        };
        let present = self.present();
        let found = self.read(|rows| Ok::<_, Outage>(on_record(rows, key, present)?));
        let found = found.await?;
        Ok(match found {
            Some(row) => Some(self.replay(cx.caller, key, *row).await?),
            None => None,
        })
    }

    /// Makes a refusal the answer of a request's key, so that no copy of the request that is still
    /// under way is ever done. Returns whether it is: otherwise the request was done by then, and
    /// its use case tells so.
    ///
    /// # Errors
    /// The request carries no key of its own, or an outage.
    pub async fn refuse(&self, cx: &Cx, refusal: &Refusal) -> Result<bool, Outage> {
        let Some(key) = &cx.idempotency else {
            return Ok(true);
        };
        let found = self.transact(cx, |txn| {
            let present = self.present();
            if let Some(row) = on_record(txn, key, present)? {
                return Ok(Found::Answer(row));
            }
            let row = RefusalRow {
                code: refusal.code.into(),
                kind: refusal.kind.clone(),
                message: refusal.message.clone(),
            };
            record(txn, key, Answer::Refusal(row), present)?;
            Ok::<_, Outage>(Found::Nothing(()))
        });
        match found.await? {
            Found::Nothing(()) => Ok(true),
            Found::Answer(row) => check(key, &row).map(|()| false),
        }
    }

    async fn replay<T: Remembered>(
        &self,
        caller: Peer,
        key: &Idempotency,
        row: AnswerRow,
    ) -> Result<T, Outage> {
        check(key, &row)?;
        let empty = || DamagedRow {
            row: "answer",
            detail: "it says nothing".to_owned(),
        };
        let answer = row.answer.ok_or_else(empty)?;
        let tables = match &answer {
            Answer::Tables(DoneTables { ids }) => self.named(caller, ids).await?,
            _ => Vec::new(),
        };
        T::again(answer, tables)
    }

    /// The tables of an answer as they are now, also under another name or dropped.
    async fn named(&self, caller: Peer, ids: &[Bytes]) -> Result<Vec<Arc<TableHead>>, Outage> {
        let mut tables = Vec::with_capacity(ids.len());
        for id in ids {
            let table = table_id(id)?;
            let gone = || DamagedRow {
                row: "answer",
                detail: format!("table {table} has no head"),
            };
            let found = self.warm(caller, &ColdHead { table }).await?;
            tables.push(found.ok_or_else(gone)?.2);
        }
        Ok(tables)
    }
}

/// That a request may be told what is on record as its success.
fn check(key: &Idempotency, row: &AnswerRow) -> Result<(), Outage> {
    if row.fingerprint[..] != key.fingerprint[..] {
        return Err(KeyUsed::OtherRequest.into());
    }
    match &row.answer {
        Some(Answer::Refusal(refusal)) => Err(KeyUsed::Refused(Refusal {
            code: stored("refusal", refusal.code.try_into())?,
            kind: refusal.kind.clone(),
            message: refusal.message.clone(),
        })
        .into()),
        _ => Ok(()),
    }
}
