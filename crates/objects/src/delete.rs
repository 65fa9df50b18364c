//! Deletes objects, or in a table bucket records that somebody asked for it.

use crate::errors::{DeleteError, NoSuchKey, NoSuchVersion, PreconditionFailed};
use crate::model::{ObjectKey, WriteConditions};
use crate::ports::BucketKind;
use crate::publish::{Reason, count, object_event, retire};
use crate::service::{Objects, Target};
use crate::store::Stop;
use bytes::Bytes;
use floeberg_auth::{Authorized, action};
use floeberg_metastore::{Cx, Rows, Txn};
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_types::BucketName;

/// The only version an object has.
pub const NULL_VERSION: &str = "null";

/// One DELETE.
#[derive(Clone, Debug)]
pub struct DeleteRequest {
    /// The bucket.
    pub bucket: BucketName,
    /// The key.
    pub key: ObjectKey,
    /// `null`, or nothing.
    pub version: Option<String>,
    /// `If-Match`; without it a missing key counts as deleted.
    pub conditions: WriteConditions,
}

enum DeleteRefused {
    NoSuchKey(NoSuchKey),
    Precondition(PreconditionFailed),
}

impl From<DeleteRefused> for DeleteError {
    fn from(refused: DeleteRefused) -> Self {
        match refused {
            DeleteRefused::NoSuchKey(e) => Self::NoSuchKey(e),
            DeleteRefused::Precondition(e) => Self::Precondition(e),
        }
    }
}

/// What a DELETE did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// The object is gone, or was not there.
    Gone,
    /// The object left LIST; GET and HEAD still serve it until garbage collection has proved that
    /// no snapshot refers to it.
    Requested,
}

impl Objects {
    /// Deletes an object. Below a table's location this is a request: the object leaves LIST while
    /// GET and HEAD keep working.
    ///
    /// # Errors
    /// See [`DeleteError`].
    pub async fn delete(
        &self,
        _authorized: &Authorized<action::DeleteObject>,
        cx: &Cx,
        request: &DeleteRequest,
    ) -> Result<Deleted, DeleteError> {
        let target = self
            .target::<DeleteError>(&request.bucket, &request.key)
            .await?;
        check_version::<DeleteError>(request.version.as_deref())?;
        let grace = self.grace_ms(target.bucket.kind);
        let deleted = self
            .commit(cx, |txn| {
                decide(txn, &target, &request.conditions, cx, grace)
            })
            .await
            .map_err(crate::store::CommitFailure::into_error::<DeleteError>)?;
        if deleted == Deleted::Requested {
            self.metrics.delete_requests.inc();
        }
        Ok(deleted)
    }
}

/// Buckets are not versioned, so the only version is `null`.
pub(crate) fn check_version<E: From<NoSuchVersion>>(version: Option<&str>) -> Result<(), E> {
    match version {
        None | Some(NULL_VERSION) => Ok(()),
        Some(other) => Err(NoSuchVersion {
            version: other.to_owned(),
        }
        .into()),
    }
}

fn decide(
    txn: &mut Txn<'_>,
    target: &Target,
    conditions: &WriteConditions,
    cx: &Cx,
    grace_ms: i64,
) -> Result<Deleted, Stop<DeleteRefused>> {
    let current = txn
        .get::<pb::ObjectRow>(&target.place.current())?
        .map(|row| row.value);
    let current = current.filter(|row| row.delete_requested_ms == 0);
    conditions
        .check(current.as_ref().map(|row| row.etag.as_str()))
        .map_err(|failed| {
            Stop::Refused(match failed {
                Some(failed) => DeleteRefused::Precondition(failed),
                None => DeleteRefused::NoSuchKey(NoSuchKey {
                    key: target.key().to_owned(),
                }),
            })
        })?;
    let Some(mut row) = current else {
        return Ok(Deleted::Gone);
    };
    txn.delete(target.place.listing());
    match target.bucket.kind {
        BucketKind::General => {
            retire(txn, &target.place, &row, Reason::Delete, grace_ms)?;
            txn.delete(target.place.current());
            count(txn, target, -1, row.size);
            txn.event(object_event("object.delete", target, &[]));
            Ok(Deleted::Gone)
        }
        BucketKind::Table => {
            row.delete_requested_ms = txn.now().0;
            let request = pb::DeleteRequestRow {
                requested_ms: row.delete_requested_ms,
                principal: cx.principal.to_string(),
                request_id: Bytes::copy_from_slice(cx.request_id.as_bytes()),
            };
            txn.put(target.place.delete_request(), &request);
            txn.put(target.place.current(), &row);
            txn.event(object_event("object.delete-request", target, &[]));
            Ok(Deleted::Requested)
        }
    }
}
