//! Completes a multipart upload: one command that links the parts' extents and moves no data.

use crate::digest::{combine_crc64, composite, crc64_checksum, full_object, multipart_etag};
use crate::errors::{
    BadDigest, CompleteError, EntityTooLarge, EntityTooSmall, InvalidPart, InvalidPartOrder,
    NoParts, NoSuchUpload, SizeMismatch,
};
use crate::model::{StoredChecksum, WriteConditions, Written};
use crate::multipart::{UploadRef, open_in, take_parts};
use crate::publish::{Publication, PublishRefused, Reason, discard, publish};
use crate::rows::{checksum_from_row, checksum_to_row, is_composite, kind_of, part_runs};
use crate::service::{Objects, Target};
use crate::store::{CommitFailure, Stop};
use floeberg_auth::{Authorized, action};
use floeberg_metastore::{Cx, Rows, Txn};
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_types::{Checksum, ChecksumAlgorithm, ChecksumKind, TimestampMs, UploadId};

/// The largest object (S3 "Multipart upload limits").
const OBJECT_BYTES_MAX: u64 = floeberg_types::limits::OBJECT_BYTES as u64;

/// A part that the client wants in the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedPart {
    /// From 1 to 10,000.
    pub number: u32,
    /// Entity tag without quotes, as UploadPart returned it.
    pub etag: String,
    /// The part's checksum, if the client kept it.
    pub checksum: Option<Checksum>,
}

/// One CompleteMultipartUpload.
#[derive(Clone, Debug)]
pub struct CompleteRequest {
    /// The upload.
    pub upload: UploadRef,
    /// The parts, ascending.
    pub parts: Vec<CompletedPart>,
    /// Conditions on the object that is there.
    pub conditions: WriteConditions,
    /// The checksum the client expects of the object.
    pub checksum: Option<Checksum>,
    /// The size the client expects (`x-amz-mp-object-size`).
    pub size: Option<u64>,
}

/// Why a completion was refused; definite.
enum CompleteRefused {
    Publish(PublishRefused),
    Own(CompleteError),
}

impl From<PublishRefused> for CompleteRefused {
    fn from(refused: PublishRefused) -> Self {
        Self::Publish(refused)
    }
}

impl From<CompleteRefused> for CompleteError {
    fn from(refused: CompleteRefused) -> Self {
        match refused {
            CompleteRefused::Publish(refused) => refused.into(),
            CompleteRefused::Own(error) => error,
        }
    }
}

/// The parts of the object with their numbers, and the extents of parts left out.
type Chosen = (Vec<(u32, pb::PartRow)>, Vec<pb::Extent>);

fn refuse<E>(error: E) -> Stop<CompleteRefused>
where
    CompleteError: From<E>,
{
    Stop::Refused(CompleteRefused::Own(error.into()))
}

impl Objects {
    /// Publishes the listed parts as one object. A repeat with the same parts answers the same for
    /// [`crate::ObjectsConfig::completed_memory_ms`].
    ///
    /// # Errors
    /// See [`CompleteError`].
    pub async fn complete_upload(
        &self,
        _authorized: &Authorized<action::CompleteMultipartUpload>,
        cx: &Cx,
        request: &CompleteRequest,
    ) -> Result<Written, CompleteError> {
        check_order(&request.parts)?;
        let upload = &request.upload;
        let target = self
            .target::<CompleteError>(&upload.bucket, &upload.key)
            .await?;
        let id = upload.id()?;
        self.check_writable::<CompleteError>(&target).await?;
        self.commit(cx, |txn| self.decide_complete(txn, &target, id, request))
            .await
            .map_err(CommitFailure::into_error::<CompleteError>)
    }

    fn decide_complete(
        &self,
        txn: &mut Txn<'_>,
        target: &Target,
        id: UploadId,
        request: &CompleteRequest,
    ) -> Result<Written, Stop<CompleteRefused>> {
        let Some(mut upload) = open_in(txn, &target.place, id)? else {
            return completed_before(txn, target, id, request);
        };
        let parts = take_parts(txn, &target.place, id)?;
        let (listed, unlisted) = self.choose(&request.parts, parts)?;
        let mut row = assemble(&upload, request, &listed).map_err(Stop::Refused)?;
        row.headers = upload.headers.take();
        row.tags = std::mem::take(&mut upload.tags);
        let extents: Vec<pb::Extent> = listed
            .into_iter()
            .flat_map(|(_, part)| part.extents)
            .collect();
        let grace = self.grace_ms(target.bucket.kind);
        let checksum = row.checksum.clone();
        let etag = row.etag.clone();
        let (publication, written) =
            publish(txn, target, &request.conditions, row, &extents, grace).map_err(widen)?;
        if publication == Publication::AlreadyThere {
            discard(txn, &target.place, &extents, Reason::Abort, grace);
        }
        discard(txn, &target.place, &unlisted, Reason::Part, grace);
        txn.delete(target.place.upload_listing(id));
        upload.completed = Some(pb::CompletedUpload {
            completed_ms: txn.now().0,
            etag,
            checksum,
        });
        txn.put(target.place.upload(id), &upload);
        Ok(written)
    }

    /// Splits the uploaded parts into those the client wants and the rest.
    fn choose(
        &self,
        wanted: &[CompletedPart],
        parts: Vec<(u32, pb::PartRow)>,
    ) -> Result<Chosen, Stop<CompleteRefused>> {
        let mut listed = Vec::with_capacity(wanted.len());
        let mut unlisted = Vec::new();
        let mut next = wanted.iter().peekable();
        for (number, part) in parts {
            if next.peek().is_some_and(|wanted| wanted.number < number) {
                break;
            }
            match next.next_if(|wanted| wanted.number == number) {
                Some(wanted) => {
                    check_part(wanted, &part).map_err(refuse)?;
                    listed.push((number, part));
                }
                None => unlisted.extend(part.extents),
            }
        }
        if let Some(missing) = next.next() {
            return Err(refuse(InvalidPart {
                number: missing.number,
            }));
        }
        let minimum = self.config.part_min;
        for (number, part) in &listed[..listed.len().saturating_sub(1)] {
            if part.size < minimum {
                let small = EntityTooSmall {
                    number: *number,
                    size: part.size,
                    minimum,
                };
                return Err(refuse(small));
            }
        }
        Ok((listed, unlisted))
    }
}

fn widen(stop: Stop<PublishRefused>) -> Stop<CompleteRefused> {
    match stop {
        Stop::Refused(refused) => Stop::Refused(refused.into()),
        Stop::Outage(outage) => Stop::Outage(outage),
    }
}

fn check_order(parts: &[CompletedPart]) -> Result<(), CompleteError> {
    if parts.is_empty() {
        return Err(NoParts.into());
    }
    for pair in parts.windows(2) {
        if pair[0].number >= pair[1].number {
            return Err(InvalidPartOrder {
                number: pair[1].number,
            }
            .into());
        }
    }
    Ok(())
}

fn check_part(wanted: &CompletedPart, part: &pb::PartRow) -> Result<(), InvalidPart> {
    let invalid = InvalidPart {
        number: wanted.number,
    };
    if wanted.etag != hex::encode(&part.md5) {
        return Err(invalid);
    }
    let Some(expected) = &wanted.checksum else {
        return Ok(());
    };
    let stored = if expected.algorithm() == ChecksumAlgorithm::Crc64Nvme {
        Some(crc64_checksum(part.crc64))
    } else {
        checksum_from_row(part.checksum.as_ref()).map(|stored| stored.value)
    };
    match stored {
        // A checksum in an algorithm that the part was not uploaded with proves nothing.
        Some(stored) if stored.algorithm() == expected.algorithm() && stored != *expected => {
            Err(invalid)
        }
        _ => Ok(()),
    }
}

/// The object row of the listed parts, still without headers and extents.
fn assemble(
    upload: &pb::UploadRow,
    request: &CompleteRequest,
    listed: &[(u32, pb::PartRow)],
) -> Result<pb::ObjectRow, CompleteRefused> {
    let own = |error: CompleteError| CompleteRefused::Own(error);
    let size: u64 = listed.iter().map(|(_, part)| part.size).sum();
    if size > OBJECT_BYTES_MAX {
        return Err(own(EntityTooLarge {
            size,
            maximum: OBJECT_BYTES_MAX,
        }
        .into()));
    }
    if let Some(expected) = request.size.filter(|expected| *expected != size) {
        return Err(own(SizeMismatch {
            expected,
            actual: size,
        }
        .into()));
    }
    let crc64 = combine_crc64(listed.iter().map(|(_, part)| (part.crc64, part.size)));
    let checksum = object_checksum(upload, listed, crc64).map_err(|e| own(e.into()))?;
    if let Some(expected) = &request.checksum {
        let whole = crc64_checksum(crc64);
        let actual = if expected.algorithm() == ChecksumAlgorithm::Crc64Nvme {
            &whole
        } else {
            &checksum.value
        };
        if expected != actual {
            return Err(own(BadDigest {
                what: expected.algorithm().as_str(),
            }
            .into()));
        }
    }
    Ok(pb::ObjectRow {
        size,
        etag: multipart_etag(listed.iter().map(|(_, part)| &part.md5[..])),
        checksum: Some(checksum_to_row(&checksum)),
        crc64,
        parts: part_runs(listed.iter().map(|(_, part)| part.size)),
        ..pb::ObjectRow::default()
    })
}

/// The checksum of the object in the upload's algorithm; CRC-64/NVME if none was asked for.
fn object_checksum(
    upload: &pb::UploadRow,
    listed: &[(u32, pb::PartRow)],
    crc64: u64,
) -> Result<StoredChecksum, InvalidPart> {
    let algorithm = ChecksumAlgorithm::from_id(upload.checksum_algorithm)
        .filter(|algorithm| *algorithm != ChecksumAlgorithm::Crc64Nvme);
    let Some(algorithm) = algorithm else {
        let kind = ChecksumKind::FullObject;
        return Ok(StoredChecksum {
            value: crc64_checksum(crc64),
            kind,
        });
    };
    let mut parts = Vec::with_capacity(listed.len());
    for (number, part) in listed {
        let stored = checksum_from_row(part.checksum.as_ref())
            .filter(|stored| stored.value.algorithm() == algorithm)
            .ok_or(InvalidPart { number: *number })?;
        parts.push((stored.value, part.size));
    }
    let kind = kind_of(upload.checksum_composite);
    let combined = if is_composite(kind) {
        Some(composite(algorithm, parts.iter().map(|(value, _)| value)))
    } else {
        full_object(algorithm, parts.iter().map(|(value, size)| (value, *size)))
    };
    let value = combined.expect("an upload only takes a kind that its algorithm supports");
    Ok(StoredChecksum { value, kind })
}

/// Answers a repeat of a completion whose answer was lost.
fn completed_before(
    txn: &mut Txn<'_>,
    target: &Target,
    id: UploadId,
    request: &CompleteRequest,
) -> Result<Written, Stop<CompleteRefused>> {
    let missing = || {
        refuse(NoSuchUpload {
            upload: request.upload.upload.clone(),
        })
    };
    let row = txn
        .get::<pb::UploadRow>(&target.place.upload(id))?
        .map(|row| row.value);
    let Some(completed) = row
        .filter(|row| row.key == target.key())
        .and_then(|row| row.completed)
    else {
        return Err(missing());
    };
    let md5s: Option<Vec<Vec<u8>>> = request
        .parts
        .iter()
        .map(|part| hex::decode(&part.etag).ok())
        .collect();
    let etag = md5s.map(|md5s| multipart_etag(md5s.iter().map(Vec::as_slice)));
    let checksum = checksum_from_row(completed.checksum.as_ref());
    match (etag, checksum) {
        (Some(etag), Some(checksum)) if etag == completed.etag => Ok(Written {
            etag,
            size: request.size.unwrap_or(0),
            checksum,
            modified: TimestampMs(completed.completed_ms),
        }),
        _ => Err(missing()),
    }
}
