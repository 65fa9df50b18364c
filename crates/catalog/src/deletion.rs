//! Deleting a general purpose bucket in steps, because its objects live in other groups.
//!
//! 1. `deleting` here, under a number that only this deletion has;
//! 2. every object group is fenced if it holds nothing of the bucket, so that nothing can appear;
//! 3. the bucket's row goes, or, if a group held something, the bucket is live again.
//!
//! Any number of workers may carry out one deletion, and any of them may stop at any step: whoever
//! finds the bucket `deleting` goes on from the start. The last step is decided here and only once:
//! a worker that comes late learns that its deletion is over.

use crate::Catalog;
use crate::buckets::{BucketInfo, BucketKind, BucketState, event, info};
use crate::errors::{DeleteBucketError, NoSuchBucket};
use crate::keys;
use crate::rows::{self, BucketRow};
use floeberg_metastore::{Cx, Rows as _, Txn};
use floeberg_types::{BucketId, BucketName};

/// How a deletion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionEnd {
    /// The bucket is gone.
    Removed,
    /// The bucket stays, and this deletion will never remove it.
    Aborted,
}

/// For the object service, which holds the caller's authorization for these.
impl Catalog {
    /// First step: from now on the bucket is `deleting`. Returns the number of the deletion, which
    /// is that of the running one if there is any.
    ///
    /// # Errors
    /// There is no such general purpose bucket.
    pub async fn begin_delete_bucket(
        &self,
        cx: &Cx,
        name: &BucketName,
        id: BucketId,
    ) -> Result<u64, DeleteBucketError> {
        self.transact(cx, |txn| {
            let (row, bucket) = general_bucket(txn, name, id)?;
            if let BucketState::Deleting { deletion } = bucket.state {
                return Ok(deletion);
            }
            let deletions = row.deletions + 1;
            let row = BucketRow {
                state: rows::BucketState::Deleting.into(),
                deletions,
                ..row
            };
            txn.put(keys::bucket(name), &row);
            Ok(deletions)
        })
        .await
    }

    /// Last step of a deletion that met objects: the bucket is live again. Only then may its fences
    /// be lifted.
    ///
    /// # Errors
    /// Another worker has removed the bucket meanwhile.
    pub async fn abort_delete_bucket(
        &self,
        cx: &Cx,
        name: &BucketName,
        id: BucketId,
        deletion: u64,
    ) -> Result<(), DeleteBucketError> {
        self.transact(cx, |txn| {
            let (row, bucket) = general_bucket(txn, name, id)?;
            if bucket.state == (BucketState::Deleting { deletion }) {
                let row = BucketRow {
                    state: rows::BucketState::Live.into(),
                    ..row
                };
                txn.put(keys::bucket(name), &row);
            }
            Ok(())
        })
        .await
    }

    /// Last step, once every object group is fenced and holds nothing: the bucket goes, unless
    /// another worker has given up this deletion meanwhile.
    ///
    /// # Errors
    /// Another worker has removed the bucket meanwhile.
    pub async fn finish_delete_bucket(
        &self,
        cx: &Cx,
        name: &BucketName,
        id: BucketId,
        deletion: u64,
    ) -> Result<DeletionEnd, DeleteBucketError> {
        self.transact(cx, |txn| {
            let (_, bucket) = general_bucket(txn, name, id)?;
            if bucket.state != (BucketState::Deleting { deletion }) {
                return Ok(DeletionEnd::Aborted);
            }
            txn.delete(keys::bucket(name));
            txn.event(event("bucket.delete", name));
            Ok(DeletionEnd::Removed)
        })
        .await
    }
}

/// The general purpose bucket of a name and of exactly this id: a bucket that was deleted and
/// created again in between is another one.
fn general_bucket(
    txn: &mut Txn<'_>,
    name: &BucketName,
    id: BucketId,
) -> Result<(BucketRow, BucketInfo), DeleteBucketError> {
    let missing = || NoSuchBucket {
        bucket: name.clone(),
    };
    let row = txn
        .get::<BucketRow>(&keys::bucket(name))?
        .ok_or_else(missing)?
        .value;
    let bucket = info(name.clone(), row.clone())?;
    if bucket.kind != BucketKind::General || bucket.id != id {
        return Err(missing().into());
    }
    Ok((row, bucket))
}
