//! General purpose buckets: the catalog keeps them, the object group fences them.

use crate::errors::{BucketNotEmpty, DeleteBucketError, Outage, TableBucketProtected};
use crate::ports::{BucketInfo, BucketKind, CreateBucketError, DeletionEnd};
use crate::service::Objects;
use floeberg_auth::{Authorized, action};
use floeberg_metastore::Cx;
use floeberg_types::BucketName;

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
    /// # Errors
    /// See [`DeleteBucketError`].
    pub async fn delete_bucket(
        &self,
        _authorized: &Authorized<action::DeleteBucket>,
        cx: &Cx,
        name: &BucketName,
    ) -> Result<(), DeleteBucketError> {
        let bucket = self.bucket::<DeleteBucketError>(name).await?;
        if bucket.kind == BucketKind::Table {
            return Err(TableBucketProtected {
                bucket: name.clone(),
            }
            .into());
        }
        let deletion = self.buckets.begin_delete(cx, &bucket).await?;
        match self.carry_out_deletion(cx, &bucket, deletion).await? {
            DeletionEnd::Removed => Ok(()),
            DeletionEnd::Aborted => Err(BucketNotEmpty {
                bucket: name.clone(),
            }
            .into()),
        }
    }
}
