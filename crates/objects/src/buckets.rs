//! General purpose buckets: the catalog keeps them, the object group fences them.

use crate::errors::{
    BucketNotEmpty, DeleteBucketError, NoSuchBucket, Outage, TableBucketProtected,
};
use crate::keys;
use crate::ports::{BucketInfo, BucketKind, CreateBucketError, RemoveBucketError};
use crate::service::Objects;
use crate::store::{CommitFailure, Stop};
use floeberg_auth::{Authorized, action};
use floeberg_metastore::{Cx, RangeState, Rows};
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_types::BucketName;

/// A bucket with objects in it.
struct Occupied;

impl Objects {
    /// Creates a general purpose bucket.
    ///
    /// # Errors
    /// See [`CreateBucketError`].
    pub async fn create_bucket(
        &self,
        _authorized: &Authorized<action::CreateBucket>,
        cx: &Cx,
        name: BucketName,
    ) -> Result<BucketInfo, CreateBucketError> {
        self.buckets.create(cx, name).await
    }

    /// A bucket of either kind.
    ///
    /// # Errors
    /// If there is none, or storage failed.
    pub async fn head_bucket(
        &self,
        _authorized: &Authorized<action::HeadBucket>,
        name: &BucketName,
    ) -> Result<BucketInfo, crate::errors::ListError> {
        self.bucket(name).await
    }

    /// Every bucket of either kind, by name.
    ///
    /// # Errors
    /// If storage failed.
    pub async fn list_buckets(
        &self,
        _authorized: &Authorized<action::ListBuckets>,
    ) -> Result<Vec<BucketInfo>, Outage> {
        self.buckets.list().await
    }

    /// Deletes an empty general purpose bucket.
    ///
    /// The fence and the proof of emptiness are one command, so no object can appear between them;
    /// a write that was decided before is applied before or misses. The fence outlives the bucket,
    /// whose id is never used again, because a slow upload may still try to publish. After a crash
    /// between the two steps a repeat goes on, and [`Self::lift_stale_fences`] undoes the fence of a
    /// bucket that is still there.
    ///
    /// # Errors
    /// See [`DeleteBucketError`].
    pub async fn delete_bucket(
        &self,
        _authorized: &Authorized<action::DeleteBucket>,
        cx: &Cx,
        name: &BucketName,
    ) -> Result<(), DeleteBucketError> {
        let bucket = match self.buckets.find(name).await? {
            Some(bucket) => bucket,
            None => {
                return Err(NoSuchBucket {
                    bucket: name.clone(),
                }
                .into());
            }
        };
        if bucket.kind == BucketKind::Table {
            return Err(TableBucketProtected {
                bucket: name.clone(),
            }
            .into());
        }
        match self.fence(cx, &bucket).await {
            Ok(()) => {}
            Err(CommitFailure::Refused(Occupied)) => {
                return Err(BucketNotEmpty {
                    bucket: name.clone(),
                }
                .into());
            }
            Err(CommitFailure::Outage(outage)) => return Err(outage.into()),
        }
        let removed = self.buckets.delete(cx, &bucket).await;
        if let Err(RemoveBucketError::NotEmpty(_)) = &removed {
            self.unfence(cx, &bucket).await?;
        }
        Ok(removed?)
    }

    async fn fence(&self, cx: &Cx, bucket: &BucketInfo) -> Result<(), CommitFailure<Occupied>> {
        let rows = keys::bucket_listing(bucket.id);
        self.commit(cx, |txn| {
            if txn.require_empty(&rows)? == RangeState::Occupied {
                return Err(Stop::Refused(Occupied));
            }
            let row = pb::FenceRow {
                bucket_name: bucket.name.to_string(),
                fenced_ms: txn.now().0,
            };
            txn.put(keys::fence(bucket.id), &row);
            Ok(())
        })
        .await
    }

    /// Lets a bucket take objects again.
    pub(crate) async fn unfence(&self, cx: &Cx, bucket: &BucketInfo) -> Result<(), Outage> {
        self.commit::<(), Outage>(cx, |txn| {
            let key = keys::fence(bucket.id);
            if txn.get::<pb::FenceRow>(&key)?.is_some() {
                txn.delete(key);
            }
            Ok(())
        })
        .await
        .map_err(CommitFailure::into_error)
    }
}
