//! Lists multipart uploads and their parts.

use crate::errors::{ListError, Outage, UploadError};
use crate::keys::{self, ObjectPlace};
use crate::list::{PAGE_MAX, SKIP_SCAN_PAGE, common_prefix};
use crate::model::{PartInfo, UploadInfo};
use crate::multipart::UploadRef;
use crate::rows::{checksum_from_row, kind_of};
use crate::service::{Objects, Target};
use bytes::Bytes;
use floeberg_auth::{Authorized, action};
use floeberg_metastore::{PageLimit, ReadView, Rows};
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_state::keys::KeyWriter;
use floeberg_types::{
    BucketId, BucketName, ChecksumAlgorithm, ChecksumKind, TimestampMs, UploadId,
};

/// One ListMultipartUploads.
#[derive(Clone, Debug)]
pub struct ListUploadsRequest {
    /// The bucket.
    pub bucket: BucketName,
    /// Only keys that begin with this.
    pub prefix: String,
    /// Keys that hold this behind the prefix are rolled up; never empty.
    pub delimiter: Option<String>,
    /// Only uploads of keys behind this one, or with `upload_marker` of this key as well.
    pub key_marker: Option<String>,
    /// Of the marked key only uploads behind this one.
    pub upload_marker: Option<String>,
    /// At most this many entries; cut to 1000.
    pub max_uploads: usize,
}

/// One page of multipart uploads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadListing {
    /// Uploads by key, then by id.
    pub uploads: Vec<UploadInfo>,
    /// Common prefixes, sorted.
    pub prefixes: Vec<String>,
    /// If there is more: the last key and upload id, to be given back as markers.
    pub next: Option<(String, String)>,
}

/// One page of an upload's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartListing {
    /// Parts by number.
    pub parts: Vec<PartInfo>,
    /// If there is more: the last number, to be given back as marker.
    pub next: Option<u32>,
    /// The checksum the upload was begun with.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
}

fn upload_checksum(row: &pb::UploadRow) -> Option<(ChecksumAlgorithm, ChecksumKind)> {
    let algorithm = ChecksumAlgorithm::from_id(row.checksum_algorithm)?;
    Some((algorithm, kind_of(row.checksum_composite)))
}

/// The row key behind which a page begins.
fn behind(bucket: BucketId, request: &ListUploadsRequest) -> Option<Bytes> {
    let marker = request.key_marker.as_deref()?;
    if let Some(common) = common_prefix(marker, &request.prefix, request.delimiter.as_deref())
        && common == marker
    {
        return Some(behind_prefix(bucket, common));
    }
    let key = KeyWriter::after(&keys::bucket_uploads(bucket)).text(marker);
    let upload = request
        .upload_marker
        .as_deref()
        .and_then(|id| id.parse::<UploadId>().ok());
    Some(match upload {
        Some(upload) => key.id(upload.as_bytes()).finish(),
        None => key.tail(&[0xff; 17]).finish(),
    })
}

/// Behind every upload whose key begins with `prefix`: no UTF-8 text holds the byte FF.
fn behind_prefix(bucket: BucketId, prefix: &str) -> Bytes {
    KeyWriter::after(&keys::uploads_below(bucket, prefix))
        .u8(0xff)
        .finish()
}

fn collect(
    view: &ReadView,
    bucket: BucketId,
    request: &ListUploadsRequest,
    max: usize,
) -> Result<UploadListing, Outage> {
    let scanned = keys::uploads_below(bucket, &request.prefix);
    let mut behind = behind(bucket, request);
    let mut listing = UploadListing::default();
    let mut last = (String::new(), String::new());
    // A delimiter may skip most of what is read.
    let rows = request
        .delimiter
        .as_ref()
        .map_or(max + 1, |_| SKIP_SCAN_PAGE);
    let limit = PageLimit::STEP.at_most(rows);
    loop {
        let page = view.page::<pb::UploadListingRow>(&scanned, behind.as_deref(), limit)?;
        let mut skipped = None;
        for (row_key, listed) in page.rows {
            let (key, upload) = keys::parse_upload_listing(&row_key)?;
            if listing.uploads.len() + listing.prefixes.len() == max {
                listing.next = Some(last);
                return Ok(listing);
            }
            behind = Some(row_key);
            if let Some(common) = common_prefix(&key, &request.prefix, request.delimiter.as_deref())
            {
                last = (common.to_owned(), String::new());
                skipped = Some(behind_prefix(bucket, common));
                listing.prefixes.push(common.to_owned());
                break;
            }
            last = (key.clone(), upload.to_hex());
            let row = view.get::<pb::UploadRow>(&ObjectPlace::new(bucket, &key).upload(upload))?;
            listing.uploads.push(UploadInfo {
                key,
                upload,
                initiated: TimestampMs(listed.initiated_ms),
                checksum: row.and_then(|row| upload_checksum(&row.value)),
            });
        }
        match skipped {
            Some(next) => behind = Some(next),
            None if !page.has_more => return Ok(listing),
            None => {}
        }
    }
}

impl Objects {
    /// One page of the uploads in progress.
    ///
    /// # Errors
    /// See [`ListError`].
    pub async fn list_uploads(
        &self,
        _authorized: &Authorized<action::ListMultipartUploads>,
        request: &ListUploadsRequest,
    ) -> Result<UploadListing, ListError> {
        let found = self.bucket_and_rows::<ListError>(&request.bucket).await?;
        let (bucket, view) = found;
        let max = request.max_uploads.min(PAGE_MAX);
        if max == 0 {
            return Ok(UploadListing::default());
        }
        let request = request.clone();
        let listed = self.step_behind(move || collect(&view, bucket.id, &request, max));
        Ok(listed.await?)
    }

    /// One page of an upload's parts, behind part `marker`.
    ///
    /// # Errors
    /// See [`UploadError`].
    pub async fn list_parts(
        &self,
        _authorized: &Authorized<action::ListParts>,
        upload: &UploadRef,
        marker: u32,
        max_parts: usize,
    ) -> Result<PartListing, UploadError> {
        let found = self.bucket_and_rows::<UploadError>(&upload.bucket).await?;
        let (target, view) = (Target::new(found.0, &upload.key), found.1);
        let id = upload.id()?;
        let max = max_parts.min(PAGE_MAX);
        let row = view.get::<pb::UploadRow>(&target.place.upload(id));
        let open = row.map_err(Outage::from)?.map(|row| row.value);
        let open = open.filter(|row| {
            row.completed.is_none() && row.aborted_ms == 0 && row.key == target.key()
        });
        let Some(row) = open else {
            return Err(upload.missing().into());
        };
        let behind = target.place.part(id, marker.min(u32::from(u16::MAX)));
        let prefix = target.place.parts(id);
        // Parts of large rows make a shorter page.
        let limit = PageLimit::STEP.at_most(max);
        let page = self
            .step_behind(move || Ok(view.page::<pb::PartRow>(&prefix, Some(&behind), limit)?));
        let mut page = page.await?;
        if max == 0 {
            page.has_more = !page.rows.is_empty();
            page.rows.clear();
        }
        let mut parts = Vec::with_capacity(page.rows.len());
        for (key, part) in page.rows {
            parts.push(PartInfo {
                number: keys::parse_part(&key).map_err(Outage::from)?,
                size: part.size,
                etag: hex::encode(&part.md5),
                modified: TimestampMs(part.modified_ms),
                checksum: checksum_from_row(part.checksum.as_ref()).map(|stored| stored.value),
            });
        }
        let next = if page.has_more {
            Some(parts.last().map_or(marker, |part| part.number))
        } else {
            None
        };
        Ok(PartListing {
            parts,
            next,
            checksum: upload_checksum(&row),
        })
    }
}
