//! Copies objects and parts. Bytes are copied, not shared: a chunk has one owner, so that giving it
//! back needs no count of references.

use crate::body::{Body, BodyError, SentChecksum};
use crate::errors::{
    CopyError, CopyPartError, CopySourceTooLarge, CopyToItself, GetError, PutError,
    RangeNotSatisfiable, UploadPartError,
};
use crate::ingest::REQUEST_BYTES_MAX;
use crate::model::{
    ByteRange, Headers, ObjectKey, PartInfo, Selection, Tags, WriteConditions, Written,
};
use crate::multipart::{UploadRef, part_number};
use crate::read::{Located, ReadRequest};
use crate::service::Objects;
use floeberg_auth::{Authorized, action};
use floeberg_env::Peer;
use floeberg_metastore::Cx;
use floeberg_types::{BucketName, ChecksumAlgorithm};
use futures::StreamExt;

/// One CopyObject.
#[derive(Clone, Debug)]
pub struct CopyRequest {
    /// What to copy; its selection is ignored.
    pub source: ReadRequest,
    /// Where to.
    pub bucket: BucketName,
    /// Under which key.
    pub key: ObjectKey,
    /// New headers instead of the source's (`x-amz-metadata-directive: REPLACE`).
    pub headers: Option<Headers>,
    /// New tags instead of the source's (`x-amz-tagging-directive: REPLACE`).
    pub tags: Option<Tags>,
    /// Conditions on the object at the target.
    pub conditions: WriteConditions,
    /// Another checksum algorithm than the source's.
    pub checksum: Option<ChecksumAlgorithm>,
}

/// One UploadPartCopy.
#[derive(Clone, Debug)]
pub struct CopyPartRequest {
    /// What to copy; the selection is a range or the whole object.
    pub source: ReadRequest,
    /// The upload to copy into.
    pub upload: UploadRef,
    /// The part's number.
    pub number: i64,
}

impl Objects {
    /// Copies an object.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub async fn copy(
        &self,
        _source: &Authorized<action::GetObject>,
        _target: &Authorized<action::PutObject>,
        cx: &Cx,
        mut request: CopyRequest,
    ) -> Result<Written, CopyError> {
        request.source.selection = Selection::Whole;
        let same = request.source.bucket == request.bucket && request.source.key == request.key;
        if same && request.headers.is_none() && request.tags.is_none() {
            return Err(CopyToItself.into());
        }
        let target = self
            .target::<PutError>(&request.bucket, &request.key)
            .await
            .map_err(CopyError::Target)?;
        self.check_writable::<PutError>(&target).await?;
        let located = self.locate(&request.source).await?;
        check_source(located.found.head.size)?;
        let headers = request
            .headers
            .unwrap_or_else(|| located.found.head.headers.clone());
        let tags = request.tags.unwrap_or_else(|| located.tags.clone());
        let stored = located
            .found
            .head
            .checksum
            .as_ref()
            .map(|c| c.value.algorithm());
        let body = self
            .body_of(request.source.caller, located, request.checksum.or(stored))
            .await?;
        let ingested = self.ingest(body, None).await.map_err(PutError::from)?;
        Ok(self
            .publish_ingested(cx, &target, &request.conditions, headers, tags, ingested)
            .await?)
    }

    /// Copies bytes of an object into a part.
    ///
    /// # Errors
    /// See [`CopyPartError`].
    pub async fn copy_part(
        &self,
        _source: &Authorized<action::GetObject>,
        _target: &Authorized<action::UploadPart>,
        cx: &Cx,
        request: CopyPartRequest,
    ) -> Result<PartInfo, CopyPartError> {
        let upload = &request.upload;
        let number = part_number(request.number).map_err(UploadPartError::from)?;
        let opened = self.open_upload(upload).await;
        let (target, row) = opened.map_err(CopyPartError::Target)?;
        let located = self.locate(&request.source).await?;
        check_range(&request.source, located.found.head.size)?;
        check_source(located.found.range.end - located.found.range.start)?;
        let algorithm = ChecksumAlgorithm::from_id(row.checksum_algorithm);
        let body = self
            .body_of(request.source.caller, located, algorithm)
            .await
            .map_err(CopyPartError::Source)?;
        let ingested = self
            .ingest(body, None)
            .await
            .map_err(UploadPartError::from)?;
        Ok(self
            .publish_copied_part(cx, &target, upload, number, ingested, algorithm)
            .await?)
    }

    /// The located bytes as a body to take in.
    async fn body_of(
        &self,
        caller: Peer,
        located: Located,
        algorithm: Option<ChecksumAlgorithm>,
    ) -> Result<Body, GetError> {
        let range = located.found.range.clone();
        let len = range.end - range.start;
        let stream = self.stream(caller, located.source, range).await?;
        let stream = stream.map(|piece| {
            piece.map_err(|error| {
                tracing::error!(%error, "a copy source could not be read");
                BodyError::Source
            })
        });
        Ok(Body {
            stream: stream.boxed(),
            len: Some(len),
            content_md5: None,
            checksum: algorithm.map_or(SentChecksum::None, SentChecksum::Algorithm),
        })
    }
}

/// A copy range must lie inside the source, other than that of a GET.
fn check_range(source: &ReadRequest, size: u64) -> Result<(), GetError> {
    match source.selection {
        Selection::Range(ByteRange::Closed(_, last)) if last >= size => {
            Err(RangeNotSatisfiable { size }.into())
        }
        _ => Ok(()),
    }
}

fn check_source(size: u64) -> Result<(), CopySourceTooLarge> {
    if size > REQUEST_BYTES_MAX {
        return Err(CopySourceTooLarge {
            size,
            maximum: REQUEST_BYTES_MAX,
        });
    }
    Ok(())
}
