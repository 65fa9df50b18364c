//! Which bucket a request is about, found with one ReadIndex (decision 0010).
//!
//! The catalog's rows may be a little old here. What shows that a bucket is still the one of its name is
//! a row of the object group: the fence that its deletion leaves. A bucket of tables has none. Whoever
//! changes one, or does not find what it looks for, asks the catalog.

use crate::errors::{NoSuchBucket, Outage};
use crate::keys::{self, ObjectPlace};
use crate::model::ObjectKey;
use crate::ports::{BucketInfo, BucketKind};
use crate::service::{Objects, Target};
use floeberg_metastore::{ReadView, Rows};
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_types::{BucketId, BucketName};

/// Whether a deletion has fenced the bucket, or had when it was given up.
fn is_fenced(view: &ReadView, bucket: BucketId) -> Result<bool, Outage> {
    Ok(view.get::<pb::FenceRow>(&keys::fence(bucket))?.is_some())
}

impl Objects {
    /// The bucket of a name as the catalog knows it now.
    async fn bucket_now<E>(&self, name: &BucketName) -> Result<BucketInfo, E>
    where
        E: From<NoSuchBucket> + From<Outage>,
    {
        let found = self.buckets.find(name).await?;
        let missing = || NoSuchBucket {
            bucket: name.clone(),
        };
        Ok(found.ok_or_else(missing)?)
    }

    /// The bucket of a name, of this moment; with the rows that showed so, if rows of this group did.
    async fn find_bucket<E>(&self, name: &BucketName) -> Result<(BucketInfo, Option<ReadView>), E>
    where
        E: From<NoSuchBucket> + From<Outage>,
    {
        let lately = self.buckets.find_lately(name).await?;
        let lately = lately.filter(|bucket| bucket.kind == BucketKind::General);
        let Some(bucket) = lately.filter(|bucket| bucket.deletion.is_none()) else {
            return Ok((self.bucket_now::<E>(name).await?, None));
        };
        // A deletion that was over before this request has left its fence in these rows.
        let view = self.view().await?;
        match is_fenced(&view, bucket.id)? {
            false => Ok((bucket, Some(view))),
            true => Ok((self.bucket_now::<E>(name).await?, Some(view))),
        }
    }

    /// The bucket of a name, of this moment.
    pub(crate) async fn bucket<E>(&self, name: &BucketName) -> Result<BucketInfo, E>
    where
        E: From<NoSuchBucket> + From<Outage>,
    {
        Ok(self.find_bucket::<E>(name).await?.0)
    }

    /// The bucket of a name, and rows of one moment that have everything acknowledged before the call.
    pub(crate) async fn bucket_and_rows<E>(
        &self,
        name: &BucketName,
    ) -> Result<(BucketInfo, ReadView), E>
    where
        E: From<NoSuchBucket> + From<Outage>,
    {
        match self.find_bucket::<E>(name).await? {
            (bucket, Some(view)) => Ok((bucket, view)),
            (bucket, None) => Ok((bucket, self.view().await?)),
        }
    }

    /// What a request changes.
    pub(crate) async fn target<E>(&self, name: &BucketName, key: &ObjectKey) -> Result<Target, E>
    where
        E: From<NoSuchBucket> + From<Outage>,
    {
        Ok(Target::new(self.bucket::<E>(name).await?, key))
    }

    /// What `look` finds under a key, in rows of one moment that have everything acknowledged before the
    /// call. In a bucket of tables that was deleted a moment ago something may still be found.
    pub(crate) async fn look<T, E>(
        &self,
        name: &BucketName,
        key: &ObjectKey,
        look: impl Fn(&ReadView, &Target) -> Result<Option<T>, Outage> + Send,
    ) -> Result<(Target, Option<T>), E>
    where
        E: From<NoSuchBucket> + From<Outage>,
    {
        let lately = self.buckets.find_lately(name).await?;
        let lately = lately.filter(|bucket| bucket.kind == BucketKind::Table);
        let Some(bucket) = lately else {
            let (bucket, view) = self.bucket_and_rows::<E>(name).await?;
            let target = Target::new(bucket, key);
            let found = look(&view, &target)?;
            return Ok((target, found));
        };
        let view = self.view().await?;
        let target = Target::new(bucket, key);
        if let Some(found) = look(&view, &target)? {
            return Ok((target, Some(found)));
        }
        // Another bucket may have the name by now.
        let target = Target::new(self.bucket_now::<E>(name).await?, key);
        let found = look(&view, &target)?;
        Ok((target, found))
    }
}

impl Target {
    pub(crate) fn new(bucket: BucketInfo, key: &ObjectKey) -> Self {
        let place = ObjectPlace::new(bucket.id, key.as_str());
        Self { bucket, place }
    }
}
