//! What of a metadata file becomes rows, found outside of the decision: comparing a large document
//! with another one, or writing it ahead, would hold up every other commit.

use super::file::File;
use crate::errors::DamagedRow;
use crate::heads::{ColdHead, Heads, TableHead, VersionToken};
use crate::idempotency::Remembered;
use crate::load::StoredTable;
use crate::location;
use crate::pieces::{self, Pieces, Place};
use crate::publish::Parts;
use crate::rows::stored;
use crate::{Catalog, Decided, Outage, Step, versions};
use floeberg_iceberg::{PartChange, TableMetadata};
use floeberg_metastore::{Cx, Txn};
use floeberg_types::BucketName;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A document up to here is compared sooner than the decision could be interrupted for it.
const COMPARED_IN_PLACE: usize = 256 << 10;

/// A file whose parts are all written ahead.
pub(super) struct Written {
    pieces: Pieces,
    /// Files that snapshots name outside of the document's own location.
    strays: Vec<Arc<str>>,
}

/// What is known of a file's parts before a decision.
pub(super) enum Prepared {
    Nothing,
    /// What turns the document of a table into the file's; `None`: of a table without one.
    Changes {
        base: Option<VersionToken>,
        changes: Vec<PartChange>,
    },
    /// They are all written, whatever the table has.
    Ahead(Box<Written>),
}

/// The result of a decision over a file; it may lack the comparison of the file with this document.
pub(super) type Filed<T> = Decided<T, Option<Arc<TableHead>>>;

/// A file's parts for the table that gets them.
pub(super) enum Ready<'a> {
    Changed(Cow<'a, [PartChange]>),
    Ahead(&'a Written),
}

impl Ready<'_> {
    pub(super) fn parts(&self) -> Parts<'_> {
        match self {
            Self::Changed(changes) => Parts::Changed(changes),
            Self::Ahead(Written { pieces, strays }) => Parts::Ahead { pieces, strays },
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
            Missing::Head(cold) => Self::Lacks(vec![cold]),
            Missing::Comparison(base) => Self::Done(Filed::Lacks(base)),
        }
    }
}

fn compare(base: Option<&TableHead>, file: &File) -> Vec<PartChange> {
    match base {
        Some(head) => versions::replacement(head.metadata(), &file.metadata),
        None => versions::all_parts(&file.metadata),
    }
}

fn strays(bucket: &BucketName, file: &File) -> Result<Vec<Arc<str>>, DamagedRow> {
    let (mut strays, none) = (Vec::new(), BTreeSet::new());
    for snapshot in file.metadata.snapshots() {
        let files = stored("snapshot", snapshot.manifest_files())?;
        let is_stray =
            |named: &Arc<str>| location::check_manifest(bucket, &file.path, &none, named).is_err();
        strays.extend(files.into_iter().filter(is_stray));
    }
    Ok(strays)
}

impl File {
    /// The parts for a table, which may have a document already.
    pub(super) fn ready<'a>(
        &self,
        heads: &Heads<'_>,
        table: Option<&StoredTable>,
        prepared: &'a Prepared,
    ) -> Result<Ready<'a>, Missing> {
        if let Prepared::Ahead(written) = prepared {
            return Ok(Ready::Ahead(written));
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
                Ok(Filed::Lacks(base)) => self.prepare(cx, bucket, file, base).await?,
                Err(error) => {
                    if let Prepared::Ahead(written) = prepared {
                        self.give_up(written.pieces).await;
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
        if self.takes_pieces(pieces::weight(&changes), &file.metadata) {
            let (bucket, shared) = (bucket.clone(), Arc::clone(file));
            let strays = self.step(move || strays(&bucket, &shared)).await??;
            // What the file has become is counted where it was read.
            let mut place = Place::default();
            let pieces = self.write_ahead(cx, &mut place, &file.metadata).await?;
            return Ok(Prepared::Ahead(Box::new(Written { pieces, strays })));
        }
        let base = token;
        Ok(Prepared::Changes { base, changes })
    }
}
