//! Writes an object in one request.

use crate::body::Body;
use crate::digest::plain_etag;
use crate::errors::PutError;
use crate::ingest::Ingested;
use crate::model::{Headers, ObjectKey, StoredChecksum, Tags, WriteConditions, Written};
use crate::publish::{Publication, own, publish};
use crate::rows::{checksum_to_row, headers_to_row};
use crate::service::{Objects, Target};
use floeberg_auth::{Authorized, action};
use floeberg_metastore::Cx;
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_types::{BucketName, ChecksumKind};

/// One PUT.
#[derive(Debug)]
pub struct PutRequest {
    /// The bucket.
    pub bucket: BucketName,
    /// The key.
    pub key: ObjectKey,
    /// Headers to store.
    pub headers: Headers,
    /// Tags to store.
    pub tags: Tags,
    /// Conditions on the object that is there.
    pub conditions: WriteConditions,
    /// The bytes.
    pub body: Body,
}

impl Objects {
    /// Stores an object. It is durable and visible when this returns, and not visible at all on
    /// every error but [`crate::errors::Outage::Indefinite`].
    ///
    /// In a table bucket the key must belong to a live or staged table, and holds its first bytes
    /// for ever: equal bytes succeed again, others are refused.
    ///
    /// # Errors
    /// See [`PutError`].
    pub async fn put(
        &self,
        _authorized: &Authorized<action::PutObject>,
        cx: &Cx,
        request: PutRequest,
    ) -> Result<Written, PutError> {
        let target = self
            .target::<PutError>(&request.bucket, &request.key)
            .await?;
        self.check_writable::<PutError>(&target).await?;
        let ingested = self.ingest(request.body, None).await?;
        self.publish_ingested(
            cx,
            &target,
            &request.conditions,
            request.headers,
            request.tags,
            ingested,
        )
        .await
    }

    /// Publishes a body that has been taken in as the object at `target`.
    pub(crate) async fn publish_ingested(
        &self,
        cx: &Cx,
        target: &Target,
        conditions: &WriteConditions,
        headers: Headers,
        tags: Tags,
        mut ingested: Ingested,
    ) -> Result<Written, PutError> {
        let kind = ChecksumKind::FullObject;
        let checksum = StoredChecksum {
            value: ingested.checksum.clone(),
            kind,
        };
        let row = pb::ObjectRow {
            size: ingested.size,
            etag: plain_etag(&ingested.digests.md5),
            headers: Some(headers_to_row(headers)),
            tags,
            checksum: Some(checksum_to_row(&checksum)),
            crc64: ingested.digests.crc64,
            ..pb::ObjectRow::default()
        };
        let grace = self.grace_ms(target.bucket.kind);
        let stored = &ingested.stored;
        ingested.guard.proposing();
        let outcome = self
            .commit(cx, |txn| {
                let (publication, written) =
                    publish(txn, target, conditions, row.clone(), &stored.extents, grace)?;
                if publication == Publication::New {
                    own(txn, &target.place, stored);
                }
                Ok((publication, written))
            })
            .await;
        match outcome {
            Ok((Publication::New, written)) => Ok(written),
            Ok((Publication::AlreadyThere, written)) => {
                ingested.guard.refused();
                Ok(written)
            }
            Err(failure) => {
                if !failure.may_still_apply() {
                    ingested.guard.refused();
                }
                Err(failure.into_error())
            }
        }
    }
}
