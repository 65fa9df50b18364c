//! What of a metadata file becomes rows, found outside of the decision: comparing a large document
//! with another one, or writing it ahead, would hold up every other commit.

use super::file::File;
use crate::heads::{ColdHead, Heads, TableHead, VersionToken};
use crate::idempotency::Remembered;
use crate::load::StoredTable;
use crate::pieces::{self, Pieces};
use crate::publish::Parts;
use crate::rows::answer_row::Answer;
use crate::{Catalog, Outage, Step, versions};
use floeberg_iceberg::{PartChange, TableMetadata};
use floeberg_metastore::{Cx, Txn};
use floeberg_types::BucketName;
use std::borrow::Cow;
use std::sync::Arc;

/// A document up to here is compared sooner than the decision could be interrupted for it.
const COMPARED_IN_PLACE: usize = 256 << 10;

/// What is known of a file's parts before a decision.
pub(super) enum Prepared {
    Nothing,
    /// What turns the document of a table into the file's; `None`: of a table without one.
    Changes {
        base: Option<VersionToken>,
        changes: Vec<PartChange>,
    },
    /// They are all written, whatever the table has.
    Ahead(Box<Pieces>),
}

/// The result of a decision over a file.
pub(super) enum Filed<T> {
    Done(T),
    /// The file has to be compared with this document first.
    Unprepared(Option<Arc<TableHead>>),
}

impl<T: Remembered> Remembered for Filed<T> {
    fn answer(&self) -> Option<Answer> {
        match self {
            Self::Done(value) => value.answer(),
            Self::Unprepared(_) => None,
        }
    }

    fn again(answer: Answer, tables: Vec<Arc<TableHead>>) -> Result<Self, Outage> {
        T::again(answer, tables).map(Self::Done)
    }
}

/// A file's parts for the table that gets them.
pub(super) enum Ready<'a> {
    Changed(Cow<'a, [PartChange]>),
    Ahead(&'a Pieces),
}

impl Ready<'_> {
    pub(super) fn parts(&self) -> Parts<'_> {
        match self {
            Self::Changed(changes) => Parts::Changed(changes),
            Self::Ahead(pieces) => Parts::Ahead(pieces),
        }
    }
}

/// What has to be done before a decision can be made.
pub(super) enum Missing {
    Head(ColdHead),
    Comparison(Option<Arc<TableHead>>),
}

impl<T> From<Missing> for Step<Filed<T>> {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Head(cold) => Self::Cold(vec![cold]),
            Missing::Comparison(base) => Self::Done(Filed::Unprepared(base)),
        }
    }
}

fn compare(base: Option<&TableHead>, file: &File) -> Vec<PartChange> {
    match base {
        Some(head) => versions::replacement(head.metadata(), &file.metadata),
        None => versions::all_parts(&file.metadata),
    }
}

impl File {
    /// The parts for a table, which may have a document already.
    pub(super) fn ready<'a>(
        &self,
        heads: &Heads<'_>,
        table: Option<&StoredTable>,
        prepared: &'a Prepared,
    ) -> Result<Ready<'a>, Missing> {
        if let Prepared::Ahead(pieces) = prepared {
            return Ok(Ready::Ahead(pieces));
        }
        let base = match table.filter(|table| table.row.current.is_some()) {
            Some(table) => Some(heads.get(table.id, table.commit).map_err(Missing::Head)?),
            None => None,
        };
        let now = base.as_ref().map(|head| head.info().version_token);
        match prepared {
            Prepared::Changes { base, changes } if *base == now => {
                Ok(Ready::Changed(Cow::Borrowed(changes)))
            }
            _ if self.is_small => {
                let changes = compare(base.as_deref(), self);
                Ok(Ready::Changed(Cow::Owned(changes)))
            }
            _ => Err(Missing::Comparison(base)),
        }
    }
}

impl Catalog {
    /// Whether a document may be compared while others wait.
    pub(super) fn is_small(&self, metadata: &TableMetadata) -> bool {
        let longest = COMPARED_IN_PLACE.min(self.inner.pieces.above);
        metadata.rendered_len() <= longest as u64
    }

    /// Runs a decision over a file until what it needs of the file is at hand.
    pub(super) async fn file<T, E>(
        &self,
        cx: &Cx,
        bucket: &BucketName,
        file: &Arc<File>,
        mut decide: impl FnMut(&mut Txn<'_>, &Heads<'_>, &Prepared) -> Result<Step<Filed<T>>, E> + Send,
    ) -> Result<T, E>
    where
        T: Remembered + Send,
        E: From<Outage> + Send,
    {
        let mut prepared = Prepared::Nothing;
        loop {
            if cx.is_over() {
                return Err(Outage::Unavailable.into());
            }
            let decided = self
                .transact_heads(cx, |txn, heads| decide(txn, heads, &prepared))
                .await;
            prepared = match decided {
                Ok(Filed::Done(value)) => return Ok(value),
                Ok(Filed::Unprepared(base)) => self.prepare(cx, bucket, file, base).await?,
                Err(error) => {
                    if let Prepared::Ahead(pieces) = prepared {
                        self.give_up(*pieces).await;
                    }
                    return Err(error);
                }
            };
        }
    }

    async fn prepare(
        &self,
        cx: &Cx,
        bucket: &BucketName,
        file: &Arc<File>,
        base: Option<Arc<TableHead>>,
    ) -> Result<Prepared, Outage> {
        let token = base.as_ref().map(|head| head.info().version_token);
        let shared = Arc::clone(file);
        let changes = self.step(move || compare(base.as_deref(), &shared)).await?;
        let level = self.inner.store.feature_level();
        let document = file.metadata.rendered_len();
        if (self.inner.pieces).suits(level, pieces::weight(&changes), document) {
            let written = self.write_ahead(cx, bucket, &file.path, &file.metadata);
            return Ok(Prepared::Ahead(Box::new(written.await?)));
        }
        let base = token;
        Ok(Prepared::Changes { base, changes })
    }
}
