//! Multipart uploads up to their completion: begin, upload parts, give up.

use crate::body::Body;
use crate::digest::{default_kind, plain_etag, supports};
use crate::errors::{
    BadPartNumber, BucketFenced, ChecksumKindUnsupported, CreateUploadError, NoSuchUpload,
    UploadError, UploadPartError,
};
use crate::ingest::Ingested;
use crate::keys::{self, ObjectPlace};
use crate::model::{Headers, ObjectKey, PartInfo, Tags};
use crate::publish::{Reason, check_fence, discard, own};
use crate::rows::{checksum_to_row, headers_to_row, is_composite};
use crate::service::{Objects, Target};
use crate::store::{CommitFailure, Stop};
use bytes::Bytes;
use floeberg_auth::{Authorized, action};
use floeberg_metastore::{Cx, ReadView, Rows, Txn};
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_types::{
    BucketName, Checksum, ChecksumAlgorithm, ChecksumKind, TimestampMs, UploadId,
};

/// The highest part number.
pub const PART_NUMBER_MAX: u32 = floeberg_types::limits::PARTS as u32;

/// The beginning of a multipart upload.
#[derive(Clone, Debug)]
pub struct CreateUploadRequest {
    /// The bucket.
    pub bucket: BucketName,
    /// The key to write.
    pub key: ObjectKey,
    /// Headers of the object.
    pub headers: Headers,
    /// Tags of the object.
    pub tags: Tags,
    /// The checksum of parts and object.
    pub checksum: Option<ChecksumAlgorithm>,
    /// Over what the object's checksum is computed; each algorithm has a default.
    pub checksum_kind: Option<ChecksumKind>,
}

/// A multipart upload that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedUpload {
    /// Its id.
    pub upload: UploadId,
    /// The checksum it uses, if one was asked for.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
}

/// Names a multipart upload.
#[derive(Clone, Debug)]
pub struct UploadRef {
    /// The bucket.
    pub bucket: BucketName,
    /// The key it writes.
    pub key: ObjectKey,
    /// The id as the client sent it.
    pub upload: String,
}

impl UploadRef {
    pub(crate) fn missing(&self) -> NoSuchUpload {
        NoSuchUpload {
            upload: self.upload.clone(),
        }
    }

    pub(crate) fn id(&self) -> Result<UploadId, NoSuchUpload> {
        self.upload.parse().map_err(|_| self.missing())
    }
}

enum PartRefused {
    Fenced(BucketFenced),
    NoSuchUpload(NoSuchUpload),
}

impl From<BucketFenced> for PartRefused {
    fn from(fenced: BucketFenced) -> Self {
        Self::Fenced(fenced)
    }
}

impl From<PartRefused> for UploadPartError {
    fn from(refused: PartRefused) -> Self {
        match refused {
            PartRefused::Fenced(e) => Self::Fenced(e),
            PartRefused::NoSuchUpload(e) => Self::NoSuchUpload(e),
        }
    }
}

impl Objects {
    /// Begins a multipart upload.
    ///
    /// # Errors
    /// See [`CreateUploadError`].
    pub async fn create_upload(
        &self,
        _authorized: &Authorized<action::CreateMultipartUpload>,
        cx: &Cx,
        request: CreateUploadRequest,
    ) -> Result<CreatedUpload, CreateUploadError> {
        let target = self
            .target::<CreateUploadError>(&request.bucket, &request.key)
            .await?;
        self.check_writable::<CreateUploadError>(&target).await?;
        let checksum = checksum_of(request.checksum, request.checksum_kind)?;
        let mut row = pb::UploadRow {
            key: target.key().to_owned(),
            headers: Some(headers_to_row(request.headers)),
            tags: request.tags,
            checksum_algorithm: checksum.map_or(0, |(algorithm, _)| algorithm.id()),
            checksum_composite: checksum.is_some_and(|(_, kind)| is_composite(kind)),
            principal: cx.principal.to_string(),
            ..pb::UploadRow::default()
        };
        let upload = self
            .commit::<UploadId, BucketFenced>(cx, |txn| {
                check_fence::<BucketFenced>(txn, &target)?;
                let upload = UploadId::from_bytes(txn.new_id());
                row.initiated_ms = txn.now().0;
                txn.put(target.place.upload(upload), &row);
                let listing = pb::UploadListingRow {
                    initiated_ms: row.initiated_ms,
                };
                txn.put(target.place.upload_listing(upload), &listing);
                Ok(upload)
            })
            .await
            .map_err(CommitFailure::into_error::<CreateUploadError>)?;
        Ok(CreatedUpload { upload, checksum })
    }

    /// Takes one part in; a part of the same number replaces the one before.
    ///
    /// # Errors
    /// See [`UploadPartError`].
    pub async fn upload_part(
        &self,
        _authorized: &Authorized<action::UploadPart>,
        cx: &Cx,
        upload: &UploadRef,
        number: i64,
        body: Body,
    ) -> Result<PartInfo, UploadPartError> {
        let number = part_number(number)?;
        let (target, row) = self.open_upload(upload).await?;
        let sent = body.checksum.algorithm();
        let wanted = ChecksumAlgorithm::from_id(row.checksum_algorithm);
        let ingested = self.ingest(body, wanted).await?;
        // What Complete combines must be in the upload's algorithm.
        let checksum = match (wanted, sent) {
            (Some(algorithm), _) | (None, Some(algorithm)) => ingested.digests.checksum(algorithm),
            (None, None) => None,
        };
        self.publish_part(cx, &target, upload, number, ingested, checksum)
            .await
    }

    /// The target and the row of an upload that takes parts.
    pub(crate) async fn open_upload(
        &self,
        upload: &UploadRef,
    ) -> Result<(Target, pb::UploadRow), UploadPartError> {
        let id = upload.id()?;
        let look = |view: &ReadView, target: &Target| {
            let row = view.get::<pb::UploadRow>(&target.place.upload(id))?;
            let row = row.map(|row| row.value);
            Ok(row.filter(|row| is_open(row, &target.place)))
        };
        let (bucket, key) = (&upload.bucket, &upload.key);
        let (target, row) = self.look::<_, UploadPartError>(bucket, key, look).await?;
        Ok((target, row.ok_or_else(|| upload.missing())?))
    }

    async fn publish_part(
        &self,
        cx: &Cx,
        target: &Target,
        upload: &UploadRef,
        number: u32,
        mut ingested: Ingested,
        checksum: Option<Checksum>,
    ) -> Result<PartInfo, UploadPartError> {
        let id = upload.id()?;
        let mut row = pb::PartRow {
            size: ingested.size,
            md5: Bytes::copy_from_slice(&ingested.digests.md5),
            crc64: ingested.digests.crc64,
            checksum: checksum.as_ref().map(part_checksum),
            modified_ms: 0,
            extents: ingested.stored.extents.clone(),
        };
        let grace = self.grace_ms(target.bucket.kind);
        let stored = &ingested.stored;
        ingested.guard.proposing();
        let outcome = self
            .commit::<(), PartRefused>(cx, |txn| {
                check_fence::<PartRefused>(txn, target)?;
                open_in(txn, &target.place, id)?
                    .ok_or_else(|| Stop::Refused(PartRefused::NoSuchUpload(upload.missing())))?;
                let key = target.place.part(id, number);
                if let Some(before) = txn.get::<pb::PartRow>(&key)? {
                    discard(
                        txn,
                        &target.place,
                        &before.value.extents,
                        Reason::Part,
                        grace,
                    );
                }
                row.modified_ms = txn.now().0;
                txn.put(key, &row);
                own(txn, &target.place, stored);
                Ok(())
            })
            .await;
        match outcome {
            Ok(()) => Ok(PartInfo {
                number,
                size: row.size,
                etag: plain_etag(&ingested.digests.md5),
                modified: TimestampMs(row.modified_ms),
                checksum,
            }),
            Err(failure) => {
                if !failure.may_still_apply() {
                    ingested.guard.refused();
                }
                Err(failure.into_error())
            }
        }
    }

    /// Publishes a part whose bytes were copied from an object.
    pub(crate) async fn publish_copied_part(
        &self,
        cx: &Cx,
        target: &Target,
        upload: &UploadRef,
        number: u32,
        ingested: Ingested,
        algorithm: Option<ChecksumAlgorithm>,
    ) -> Result<PartInfo, UploadPartError> {
        let checksum = algorithm.and_then(|algorithm| ingested.digests.checksum(algorithm));
        self.publish_part(cx, target, upload, number, ingested, checksum)
            .await
    }

    /// Gives an upload up; its parts go to garbage collection.
    ///
    /// # Errors
    /// See [`UploadError`].
    pub async fn abort_upload(
        &self,
        _authorized: &Authorized<action::AbortMultipartUpload>,
        cx: &Cx,
        upload: &UploadRef,
    ) -> Result<(), UploadError> {
        let target = self
            .target::<UploadError>(&upload.bucket, &upload.key)
            .await?;
        let id = upload.id()?;
        let grace = self.grace_ms(target.bucket.kind);
        self.commit::<(), NoSuchUpload>(cx, |txn| {
            let row =
                open_in(txn, &target.place, id)?.ok_or_else(|| Stop::Refused(upload.missing()))?;
            abort(txn, &target.place, id, row, grace)
        })
        .await
        .map_err(CommitFailure::into_error)
    }
}

/// The open upload as the transaction sees it.
pub(crate) fn open_in<E>(
    txn: &mut Txn<'_>,
    place: &ObjectPlace,
    upload: UploadId,
) -> Result<Option<pb::UploadRow>, Stop<E>> {
    let row = txn.get::<pb::UploadRow>(&place.upload(upload))?;
    Ok(row.map(|row| row.value).filter(|row| is_open(row, place)))
}

pub(crate) fn is_open(row: &pb::UploadRow, place: &ObjectPlace) -> bool {
    row.completed.is_none() && row.aborted_ms == 0 && row.key == place.key
}

/// Ends an upload. The row stays for a while: a part that was decided before the abort can still be
/// applied after it, and is collected together with the row.
pub(crate) fn abort<E>(
    txn: &mut Txn<'_>,
    place: &ObjectPlace,
    upload: UploadId,
    mut row: pb::UploadRow,
    grace_ms: i64,
) -> Result<(), Stop<E>> {
    row.aborted_ms = txn.now().0;
    txn.put(place.upload(upload), &row);
    txn.delete(place.upload_listing(upload));
    for (_, part) in take_parts(txn, place, upload)? {
        discard(txn, place, &part.extents, Reason::Abort, grace_ms);
    }
    Ok(())
}

/// Reads and deletes every part row of an upload, in part order.
pub(crate) fn take_parts<E>(
    txn: &mut Txn<'_>,
    place: &ObjectPlace,
    upload: UploadId,
) -> Result<Vec<(u32, pb::PartRow)>, Stop<E>> {
    let limit = usize::try_from(PART_NUMBER_MAX).expect("10,000 fits memory");
    let rows = txn.scan::<pb::PartRow>(&place.parts(upload), None, limit)?;
    let mut parts = Vec::with_capacity(rows.len());
    for (key, part) in rows {
        parts.push((keys::parse_part(&key)?, part.value));
        txn.delete(key);
    }
    Ok(parts)
}

pub(crate) fn part_number(number: i64) -> Result<u32, BadPartNumber> {
    u32::try_from(number)
        .ok()
        .filter(|number| (1..=PART_NUMBER_MAX).contains(number))
        .ok_or(BadPartNumber { number })
}

fn part_checksum(value: &Checksum) -> pb::Checksum {
    let kind = ChecksumKind::FullObject;
    checksum_to_row(&crate::model::StoredChecksum {
        value: value.clone(),
        kind,
    })
}

/// The algorithm and kind of an upload; naming a kind alone means CRC-64/NVME or nothing.
fn checksum_of(
    algorithm: Option<ChecksumAlgorithm>,
    kind: Option<ChecksumKind>,
) -> Result<Option<(ChecksumAlgorithm, ChecksumKind)>, ChecksumKindUnsupported> {
    let algorithm = match (algorithm, kind) {
        (None, None) => return Ok(None),
        (Some(algorithm), _) => algorithm,
        (None, Some(_)) => ChecksumAlgorithm::Crc64Nvme,
    };
    let kind = kind.unwrap_or(default_kind(algorithm));
    if supports(algorithm, kind) {
        return Ok(Some((algorithm, kind)));
    }
    let kind = if is_composite(kind) {
        "COMPOSITE"
    } else {
        "FULL_OBJECT"
    };
    Err(ChecksumKindUnsupported { algorithm, kind })
}
