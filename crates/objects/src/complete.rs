//! Completes a multipart upload: one command that links the parts' extents and moves no data.

use crate::digest::{combine_crc64, composite, crc64_checksum, full_object, multipart_etag};
use crate::errors::{
    BadDigest, CompleteError, EntityTooLarge, EntityTooSmall, InvalidPart, InvalidPartOrder,
    NoParts, NoSuchUpload, Outage, SizeMismatch,
};
use crate::keys;
use crate::model::{StoredChecksum, WriteConditions, Written};
use crate::multipart::{UploadRef, is_open, open_in};
use crate::publish::{Publication, PublishRefused, Reason, discard, publish};
use crate::rows::{checksum_from_row, checksum_to_row, is_composite, kind_of, part_runs};
use crate::service::{Objects, Target};
use crate::store::{CommitFailure, Stop};
use bytes::Bytes;
use floeberg_auth::{Authorized, action};
use floeberg_metastore::{Cx, ReadView, Row, Rows, Txn};
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_types::{Checksum, ChecksumAlgorithm, ChecksumKind, CommitId, TimestampMs, UploadId};
use std::sync::Arc;

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

/// An object put together from the parts of an upload as a view showed them: whatever needs to look at
/// thousands of rows is done before the decision, which others wait for.
struct Assembled {
    row: pb::ObjectRow,
    extents: Vec<pb::Extent>,
    /// Those of parts that the client left out.
    unlisted: Vec<pb::Extent>,
    /// Every part row, with the command that wrote it.
    rows: Vec<(Bytes, CommitId)>,
}

/// A part row as a view shows it.
struct Part {
    number: u32,
    key: Bytes,
    commit: CommitId,
    row: pb::PartRow,
}

/// How often an object is put together anew because a part of it has changed meanwhile.
const ROUNDS: usize = 8;

/// Part rows read in one go.
const PARTS_AT_ONCE: usize = 1000;

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
        let shared = Arc::new(request.clone());
        for _ in 0..ROUNDS {
            let mut assembled = self.assemble(&target, id, &shared).await?;
            let mut is_first = true;
            let decide = |txn: &mut Txn<'_>| {
                // A part may have changed: then it is put together again.
                if !std::mem::take(&mut is_first) {
                    return Ok(None);
                }
                self.decide_complete(txn, &target, id, request, assembled.take())
            };
            let decided = self.commit(cx, decide).await;
            if let Some(written) = decided.map_err(CommitFailure::into_error::<CompleteError>)? {
                return Ok(written);
            }
        }
        Err(Outage::Unavailable.into())
    }

    /// Puts the object together, unless the upload has ended.
    async fn assemble(
        &self,
        target: &Target,
        id: UploadId,
        request: &Arc<CompleteRequest>,
    ) -> Result<Option<Assembled>, CompleteError> {
        let view = self.view().await?;
        let upload = view.get::<pb::UploadRow>(&target.place.upload(id));
        let upload = upload.map_err(Outage::from)?.map(|row| row.value);
        let Some(upload) = upload.filter(|row| is_open(row, &target.place)) else {
            return Ok(None);
        };
        let (mut parts, mut after) = (Vec::new(), None);
        loop {
            let (view, prefix) = (view.clone(), target.place.parts(id));
            let page = self.step(move || part_rows(&view, &prefix, after.as_deref()));
            let page = page.await?;
            let is_last = page.len() < PARTS_AT_ONCE;
            after = page.last().map(|part| part.key.clone());
            parts.extend(page);
            if is_last {
                break;
            }
        }
        let (request, minimum) = (Arc::clone(request), self.config.part_min);
        let put_together = self.step(move || Ok(put_together(&upload, &request, parts, minimum)));
        put_together.await?.map(Some).map_err(CompleteError::from)
    }

    fn decide_complete(
        &self,
        txn: &mut Txn<'_>,
        target: &Target,
        id: UploadId,
        request: &CompleteRequest,
        assembled: Option<Assembled>,
    ) -> Result<Option<Written>, Stop<CompleteRefused>> {
        let Some(mut upload) = open_in(txn, &target.place, id)? else {
            return completed_before(txn, target, id, request).map(Some);
        };
        let Some(assembled) = assembled else {
            return Ok(None);
        };
        let Assembled {
            mut row,
            extents,
            unlisted,
            rows,
        } = assembled;
        // A part that comes after these were read is collected with the row of the upload.
        for (key, commit) in rows {
            txn.expect(key.clone(), commit);
            txn.delete(key);
        }
        row.headers = upload.headers.take();
        row.tags = std::mem::take(&mut upload.tags);
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
        Ok(Some(written))
    }
}

fn part_rows(view: &ReadView, prefix: &[u8], after: Option<&[u8]>) -> Result<Vec<Part>, Outage> {
    let rows = view.scan::<pb::PartRow>(prefix, after, PARTS_AT_ONCE)?;
    let part = |(key, row): (Bytes, Row<pb::PartRow>)| {
        Ok(Part {
            number: keys::parse_part(&key)?,
            key,
            commit: row.commit_id,
            row: row.value,
        })
    };
    rows.into_iter().map(part).collect()
}

fn put_together(
    upload: &pb::UploadRow,
    request: &CompleteRequest,
    parts: Vec<Part>,
    minimum: u64,
) -> Result<Assembled, CompleteRefused> {
    let rows = parts.iter().map(|part| (part.key.clone(), part.commit));
    let rows = rows.collect();
    let own = CompleteRefused::Own;
    let (listed, unlisted) = choose(&request.parts, parts, minimum).map_err(own)?;
    let row = assemble(upload, request, &listed)?;
    let extents = listed.into_iter().flat_map(|(_, part)| part.extents);
    Ok(Assembled {
        row,
        extents: extents.collect(),
        unlisted,
        rows,
    })
}

/// The parts of the object with their numbers, and the extents of parts left out.
type Chosen = (Vec<(u32, pb::PartRow)>, Vec<pb::Extent>);

/// Splits the uploaded parts into those the client wants and the rest.
fn choose(
    wanted: &[CompletedPart],
    parts: Vec<Part>,
    minimum: u64,
) -> Result<Chosen, CompleteError> {
    let mut listed = Vec::with_capacity(wanted.len());
    let mut unlisted = Vec::new();
    let mut next = wanted.iter().peekable();
    for Part { number, row, .. } in parts {
        if next.peek().is_some_and(|wanted| wanted.number < number) {
            break;
        }
        match next.next_if(|wanted| wanted.number == number) {
            Some(wanted) => {
                check_part(wanted, &row)?;
                listed.push((number, row));
            }
            None => unlisted.extend(row.extents),
        }
    }
    if let Some(missing) = next.next() {
        let number = missing.number;
        return Err(InvalidPart { number }.into());
    }
    for (number, part) in &listed[..listed.len().saturating_sub(1)] {
        if part.size < minimum {
            let (number, size) = (*number, part.size);
            return Err(EntityTooSmall {
                number,
                size,
                minimum,
            }
            .into());
        }
    }
    Ok((listed, unlisted))
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
