//! Carrying out the deletion of a bucket: fence the object groups, then tell the catalog how it ended.
//!
//! The bucket is `deleting` in the catalog already, under a number. Any number of workers may carry
//! out one deletion, and each may stop anywhere: a request that finds the bucket `deleting`, or the
//! reclaimer, does it all again. The catalog decides the end, once; a fence of a deletion that the
//! catalog no longer names as running is lifted, never that of a later one.

use crate::errors::Outage;
use crate::keys::{self, tag};
use crate::ports::{BucketInfo, DeletionEnd};
use crate::service::Objects;
use crate::store::{CommitFailure, Stop};
use bytes::Bytes;
use floeberg_metastore::{Cx, PageLimit, RangeState, Rows};
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_types::{BucketId, BucketName};
use std::collections::HashSet;

/// Fences looked at between two reads of their range.
const BATCH: usize = 256;

/// A bucket with objects in it.
struct Occupied;

impl Objects {
    /// Removes a bucket that is `deleting`, or makes it live again because it holds objects.
    pub(crate) async fn carry_out_deletion(
        &self,
        cx: &Cx,
        bucket: &BucketInfo,
        deletion: u64,
    ) -> Result<DeletionEnd, Outage> {
        let end = match self.fence(cx, bucket, deletion).await {
            Ok(()) => self.buckets.finish_delete(cx, bucket, deletion).await?,
            Err(CommitFailure::Refused(Occupied)) => {
                self.buckets.abort_delete(cx, bucket, deletion).await?
            }
            Err(CommitFailure::Outage(outage)) => return Err(outage),
        };
        if end == DeletionEnd::Aborted {
            self.unfence(cx, bucket, deletion).await?;
        }
        Ok(end)
    }

    /// Keeps objects from appearing in an empty bucket.
    ///
    /// The fence and the proof of emptiness are one command, so that a bucket with objects never
    /// stops taking more, and no object can appear between the two: a write that was decided before
    /// is applied before, or misses. The fence outlives the bucket, whose id is never used again,
    /// because a slow upload may still try to publish.
    async fn fence(
        &self,
        cx: &Cx,
        bucket: &BucketInfo,
        deletion: u64,
    ) -> Result<(), CommitFailure<Occupied>> {
        let rows = keys::bucket_listing(bucket.id);
        self.commit(cx, |txn| {
            if txn.require_empty(&rows)? == RangeState::Occupied {
                return Err(Stop::Refused(Occupied));
            }
            let key = keys::fence(bucket.id);
            let old = txn.get::<pb::FenceRow>(&key)?;
            // That of a later deletion must stay: this one is over.
            if old.is_some_and(|old| old.value.deletion >= deletion) {
                return Ok(());
            }
            let row = pb::FenceRow {
                bucket_name: bucket.name.to_string(),
                fenced_ms: txn.now().0,
                deletion,
            };
            txn.put(key, &row);
            Ok(())
        })
        .await
    }

    /// Lets a bucket take objects again after a deletion that is over.
    async fn unfence(&self, cx: &Cx, bucket: &BucketInfo, deletion: u64) -> Result<(), Outage> {
        self.commit::<(), Outage>(cx, |txn| {
            let key = keys::fence(bucket.id);
            let row = txn.get::<pb::FenceRow>(&key)?;
            if row.is_some_and(|row| row.value.deletion == deletion) {
                txn.delete(key);
            }
            Ok(())
        })
        .await
        .map_err(CommitFailure::into_error)
    }

    /// Ends deletions whose worker stopped. Returns how many.
    pub(crate) async fn resume_deletions(&self, cx: &Cx) -> Result<usize, Outage> {
        let mut ended = 0;
        for bucket in self.buckets.list().await? {
            if let Some(deletion) = bucket.deletion {
                let end = self.carry_out_deletion(cx, &bucket, deletion).await?;
                tracing::info!(bucket = %bucket.name, ?end, "ended a deletion that had stopped");
                ended += 1;
            }
        }
        Ok(ended)
    }

    /// Lifts fences that a worker of an aborted deletion left. Returns how many.
    pub(crate) async fn lift_stale_fences(&self, cx: &Cx) -> Result<usize, Outage> {
        self.view().await?;
        let mut lifted = 0;
        let mut after: Option<Bytes> = None;
        // Fences of deleted buckets stay, so there may be many more of them than buckets.
        let mut present: Option<HashSet<BucketId>> = None;
        loop {
            let view = self.store.local();
            let page = self.step_behind(move || {
                let limit = PageLimit::STEP.at_most(BATCH);
                Ok(view.page::<pb::FenceRow>(&[tag::FENCE], after.as_deref(), limit)?)
            });
            let rows = page.await?.rows;
            let Some((last, _)) = rows.last() else {
                return Ok(lifted);
            };
            after = Some(last.clone());
            if present.is_none() {
                let buckets = self.buckets.list().await?;
                present = Some(buckets.iter().map(|bucket| bucket.id).collect());
            }
            for (key, raw) in rows {
                let id = keys::parse_fence(&key)?;
                let known = present.as_ref().is_some_and(|known| known.contains(&id));
                if known && self.lift_if_stale(cx, id, &raw.value).await? {
                    lifted += 1;
                }
            }
        }
    }

    /// A fence comes after its deletion has begun, so a later look at the catalog that does not find
    /// this deletion running finds it over.
    async fn lift_if_stale(
        &self,
        cx: &Cx,
        id: BucketId,
        fence: &pb::FenceRow,
    ) -> Result<bool, Outage> {
        let Ok(name) = BucketName::for_lookup(&fence.bucket_name) else {
            return Ok(false);
        };
        match self.buckets.find(&name).await? {
            Some(bucket) if bucket.id == id && bucket.deletion != Some(fence.deletion) => {
                self.unfence(cx, &bucket, fence.deletion).await?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}
