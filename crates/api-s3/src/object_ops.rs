//! PUT, GET, HEAD, DELETE and copies of objects.

use crate::checksums::{algorithm, put_stored_checksum, sent_checksum};
use crate::decode::{
    BodyFields, body, byte_range, check_storage, error, etag, read_conditions,
    refuse_unkept_promises, some_text, stored_headers, tagging_header, to_timestamp,
    write_conditions,
};
use crate::errors::IntoS3;
use crate::state::{Api, bucket_name, object, object_name};
use floeberg_auth::{Authorized, action};
use floeberg_http::peer_of;
use floeberg_objects::{
    CopyRequest, DeleteRequest, Found, Headers, PutRequest, ReadConditions, ReadRequest, Selection,
    Tags, WriteConditions,
};
use futures::StreamExt;
use http_body_util::StreamBody;
use s3s::dto::*;
use s3s::{Body, S3ErrorCode, S3Request, S3Response, S3Result};

/// Deletes of one DeleteObjects that are decided at the same time.
const DELETES_AT_ONCE: usize = 32;
/// Keys of one DeleteObjects (S3 "DeleteObjects").
const DELETES_MAX: usize = floeberg_types::limits::DELETE_OBJECTS;

pub(crate) async fn put(
    api: &Api,
    mut request: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let (bucket, key) = object_name(&request.input.bucket, &request.input.key)?;
    let (authorized, cx) =
        api.authorize_change::<action::PutObject, _>(&request, object(&bucket, &key))?;
    refuse_unkept_promises(&request.headers)?;
    let input = &mut request.input;
    check_storage(input.storage_class.as_ref(), input.acl.as_ref())?;
    let checksum = sent_checksum!(*input)?;
    let headers = stored_headers!(input)?;
    let tags = tagging_header(input.tagging.as_deref())?;
    let conditions = write_conditions(input.if_match.take(), input.if_none_match.take());
    let body = body(BodyFields {
        blob: input.body.take(),
        len: input.content_length,
        content_md5: input.content_md5.as_deref(),
        checksum,
        algorithm: input.checksum_algorithm.as_ref(),
        headers: &request.headers,
        trailers: request.trailing_headers.as_ref(),
    })?;
    let put = PutRequest {
        bucket,
        key,
        headers,
        tags,
        conditions,
        body,
    };
    let written = api
        .objects()
        .put(&authorized, &cx, put)
        .await
        .map_err(IntoS3::into_s3)?;
    let mut output = PutObjectOutput {
        e_tag: Some(etag(&written.etag)),
        ..Default::default()
    };
    put_stored_checksum!(output, &written.checksum, 0);
    Ok(S3Response::new(output))
}

fn selection(range: Option<Range>, part: Option<i32>) -> S3Result<Selection> {
    match (range, part) {
        (None, None) => Ok(Selection::Whole),
        (Some(range), None) => Ok(Selection::Range(byte_range(range))),
        (None, Some(part)) => u32::try_from(part)
            .ok()
            .filter(|part| (1..=floeberg_objects::PART_NUMBER_MAX).contains(part))
            .map(Selection::Part)
            .ok_or_else(|| {
                error(
                    S3ErrorCode::InvalidArgument,
                    "part numbers go from 1 to 10000",
                )
            }),
        (Some(_), Some(_)) => {
            let why = "a range and a part number exclude each other";
            Err(error(S3ErrorCode::InvalidRequest, why))
        }
    }
}

/// Fills the fields that GET and HEAD share.
macro_rules! describe {
    ($output:expr, $found:expr, $selection:expr, $checksum_mode:expr) => {{
        let found: &Found = $found;
        let head = &found.head;
        let headers = head.headers.clone();
        let len = found.range.end - found.range.start;
        $output.accept_ranges = Some("bytes".to_owned());
        $output.content_length = Some(i64::try_from(len).unwrap_or(i64::MAX));
        $output.content_range = content_range(found, $selection);
        $output.e_tag = Some(etag(&head.etag));
        $output.last_modified = Some(to_timestamp(head.modified));
        $output.content_type = Some(content_type(&headers.content_type)?);
        $output.content_encoding = some_text(headers.content_encoding);
        $output.content_language = some_text(headers.content_language);
        $output.content_disposition = some_text(headers.content_disposition);
        $output.cache_control = some_text(headers.cache_control);
        $output.expires = some_text(headers.expires);
        $output.metadata = Some(headers.user_metadata.into_iter().collect());
        $output.tag_count = (head.tag_count > 0).then_some(to_i32(head.tag_count));
        $output.parts_count = (matches!($selection, Selection::Part(_)) && head.parts > 0)
            .then_some(i32::try_from(head.parts).unwrap_or(i32::MAX));
        // The stored checksum is that of the whole object, so it may not stand beside a part of it.
        if let (Some(checksum), true) = (&head.checksum, $checksum_mode && len == head.size) {
            put_stored_checksum!($output, checksum, head.parts);
        }
    }};
}

fn content_type(stored: &str) -> S3Result<ContentType> {
    Ok(if stored.is_empty() {
        "binary/octet-stream"
    } else {
        stored
    }
    .to_owned())
}

fn to_i32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Present exactly if the answer is a partial one (206).
fn content_range(found: &Found, selection: Selection) -> Option<String> {
    let (range, size) = (&found.range, found.head.size);
    match selection {
        Selection::Whole => None,
        Selection::Part(_) if range.is_empty() => None,
        Selection::Range(_) | Selection::Part(_) => {
            Some(format!("bytes {}-{}/{size}", range.start, range.end - 1))
        }
    }
}

fn wants_checksum(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str().eq_ignore_ascii_case(ChecksumMode::ENABLED))
}

pub(crate) async fn get(
    api: &Api,
    mut request: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let (bucket, key) = object_name(&request.input.bucket, &request.input.key)?;
    let authorized = Api::authorize::<action::GetObject, _>(&request, object(&bucket, &key))?;
    let caller = peer_of(&request.extensions);
    let input = &mut request.input;
    let selection = selection(input.range.take(), input.part_number)?;
    let read = ReadRequest {
        caller,
        bucket,
        key,
        version: input.version_id.take(),
        selection,
        conditions: read_conditions(
            input.if_match.take(),
            input.if_none_match.take(),
            input.if_modified_since.take(),
            input.if_unmodified_since.take(),
        ),
    };
    let opened = api
        .objects()
        .get(&authorized, &read)
        .await
        .map_err(IntoS3::into_s3)?;
    let mut output = GetObjectOutput::default();
    describe!(
        output,
        &opened.found,
        selection,
        wants_checksum(input.checksum_mode.as_ref())
    );
    let frames = opened.stream.map(|piece| piece.map(http_body::Frame::data));
    output.body = Some(StreamingBlob::from(Body::http_body_unsync(
        StreamBody::new(frames),
    )));
    Ok(S3Response::new(output))
}

pub(crate) async fn head(
    api: &Api,
    mut request: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let (bucket, key) = object_name(&request.input.bucket, &request.input.key)?;
    let authorized = Api::authorize::<action::HeadObject, _>(&request, object(&bucket, &key))?;
    let caller = peer_of(&request.extensions);
    let input = &mut request.input;
    let selection = selection(input.range.take(), input.part_number)?;
    let read = ReadRequest {
        caller,
        bucket,
        key,
        version: input.version_id.take(),
        selection,
        conditions: read_conditions(
            input.if_match.take(),
            input.if_none_match.take(),
            input.if_modified_since.take(),
            input.if_unmodified_since.take(),
        ),
    };
    let found = api
        .objects()
        .head(&authorized, &read)
        .await
        .map_err(IntoS3::into_s3)?;
    let mut output = HeadObjectOutput::default();
    describe!(
        output,
        &found,
        selection,
        wants_checksum(input.checksum_mode.as_ref())
    );
    Ok(S3Response::new(output))
}

pub(crate) async fn delete(
    api: &Api,
    mut request: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let (bucket, key) = object_name(&request.input.bucket, &request.input.key)?;
    let (authorized, cx) =
        api.authorize_change::<action::DeleteObject, _>(&request, object(&bucket, &key))?;
    let input = &mut request.input;
    if input.if_match_last_modified_time.is_some() || input.if_match_size.is_some() {
        let why = "of the conditions on a delete only If-Match is implemented";
        return Err(error(S3ErrorCode::NotImplemented, why));
    }
    let delete = DeleteRequest {
        bucket,
        key,
        version: input.version_id.take(),
        conditions: write_conditions(input.if_match.take(), None),
    };
    api.objects()
        .delete(&authorized, &cx, &delete)
        .await
        .map_err(IntoS3::into_s3)?;
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

pub(crate) async fn delete_many(
    api: &Api,
    mut request: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    // The bucket must exist even if no key is named.
    let bucket = bucket_name(&request.input.bucket)?;
    let objects = std::mem::take(&mut request.input.delete.objects);
    if objects.is_empty() || objects.len() > DELETES_MAX {
        let why = "a request deletes 1 to 1000 objects";
        return Err(error(S3ErrorCode::MalformedXML, why));
    }
    let quiet = request.input.delete.quiet.unwrap_or(false);
    let request = &request;
    let bucket = &bucket;
    let results: Vec<(ObjectIdentifier, S3Result<()>)> = futures::stream::iter(objects)
        .map(|identifier| async move {
            let result = delete_one(api, request, bucket, &identifier).await;
            (identifier, result)
        })
        .buffered(DELETES_AT_ONCE)
        .collect()
        .await;
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for (identifier, result) in results {
        let (key, version_id) = (Some(identifier.key), identifier.version_id);
        match result {
            Ok(()) if quiet => {}
            Ok(()) => {
                deleted.push(DeletedObject {
                    key,
                    version_id,
                    ..Default::default()
                });
            }
            // One missing bucket is the answer to the whole request.
            Err(failed) if *failed.code() == S3ErrorCode::NoSuchBucket => return Err(failed),
            Err(failed) => errors.push(Error {
                code: Some(failed.code().as_str().to_owned()),
                key,
                message: failed.message().map(str::to_owned),
                version_id,
            }),
        }
    }
    let output = DeleteObjectsOutput {
        deleted: Some(deleted),
        errors: Some(errors),
        request_charged: None,
    };
    Ok(S3Response::new(output))
}

async fn delete_one(
    api: &Api,
    request: &S3Request<DeleteObjectsInput>,
    bucket: &floeberg_types::BucketName,
    identifier: &ObjectIdentifier,
) -> S3Result<()> {
    let (bucket, key) = object_name(bucket.as_str(), &identifier.key)?;
    let resource = object(&bucket, &key);
    let (authorized, cx) = api.authorize_change::<action::DeleteObject, _>(request, resource)?;
    if identifier.last_modified_time.is_some() || identifier.size.is_some() {
        let why = "of the conditions on a delete only the entity tag is implemented";
        return Err(error(S3ErrorCode::NotImplemented, why));
    }
    let delete = DeleteRequest {
        bucket,
        key,
        version: identifier.version_id.clone(),
        conditions: write_conditions(identifier.e_tag.clone().map(ETagCondition::ETag), None),
    };
    api.objects()
        .delete(&authorized, &cx, &delete)
        .await
        .map_err(IntoS3::into_s3)?;
    Ok(())
}

/// A copy source that this principal may read.
pub(crate) struct SourceFields {
    pub(crate) source: CopySource,
    pub(crate) selection: Selection,
    pub(crate) conditions: ReadConditions,
}

pub(crate) fn copy_source<T>(
    request: &S3Request<T>,
    fields: SourceFields,
) -> S3Result<(Authorized<action::GetObject>, ReadRequest)> {
    let CopySource::Bucket {
        bucket,
        key,
        version_id,
    } = fields.source
    else {
        let why = "access points are not implemented: name the source as bucket/key";
        return Err(error(S3ErrorCode::NotImplemented, why));
    };
    let (bucket, key) = object_name(&bucket, &key)?;
    let authorized = Api::authorize::<action::GetObject, _>(request, object(&bucket, &key))?;
    let read = ReadRequest {
        caller: peer_of(&request.extensions),
        bucket,
        key,
        version: version_id.map(String::from),
        selection: fields.selection,
        conditions: fields.conditions,
    };
    Ok((authorized, read))
}

/// What a copy gets instead of the source's headers and tags.
fn replaced(input: &mut CopyObjectInput) -> S3Result<(Option<Headers>, Option<Tags>)> {
    let headers = match input
        .metadata_directive
        .as_ref()
        .map(MetadataDirective::as_str)
    {
        None | Some(MetadataDirective::COPY) => None,
        Some(MetadataDirective::REPLACE) => Some(stored_headers!(input)?),
        Some(_) => {
            return Err(error(
                S3ErrorCode::InvalidArgument,
                "unknown metadata directive",
            ));
        }
    };
    let tags = match input
        .tagging_directive
        .as_ref()
        .map(TaggingDirective::as_str)
    {
        None | Some(TaggingDirective::COPY) => None,
        Some(TaggingDirective::REPLACE) => Some(tagging_header(input.tagging.as_deref())?),
        Some(_) => {
            return Err(error(
                S3ErrorCode::InvalidArgument,
                "unknown tagging directive",
            ));
        }
    };
    Ok((headers, tags))
}

pub(crate) async fn copy(
    api: &Api,
    mut request: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let (bucket, key) = object_name(&request.input.bucket, &request.input.key)?;
    let (target, cx) =
        api.authorize_change::<action::PutObject, _>(&request, object(&bucket, &key))?;
    refuse_unkept_promises(&request.headers)?;
    let input = &mut request.input;
    check_storage(input.storage_class.as_ref(), input.acl.as_ref())?;
    let fields = SourceFields {
        source: input.copy_source.clone(),
        selection: Selection::Whole,
        conditions: read_conditions(
            input.copy_source_if_match.take(),
            input.copy_source_if_none_match.take(),
            input.copy_source_if_modified_since.take(),
            input.copy_source_if_unmodified_since.take(),
        ),
    };
    let (headers, tags) = replaced(input)?;
    let conditions: WriteConditions =
        write_conditions(input.if_match.take(), input.if_none_match.take());
    let checksum = algorithm(input.checksum_algorithm.as_ref())?;
    let (readable, source) = copy_source(&request, fields)?;
    let copy = CopyRequest {
        source,
        bucket,
        key,
        headers,
        tags,
        conditions,
        checksum,
    };
    let written = api
        .objects()
        .copy(&readable, &target, &cx, copy)
        .await
        .map_err(IntoS3::into_s3)?;
    let mut result = CopyObjectResult {
        e_tag: Some(etag(&written.etag)),
        last_modified: Some(to_timestamp(written.modified)),
        ..Default::default()
    };
    put_stored_checksum!(result, &written.checksum, 0);
    let output = CopyObjectOutput {
        copy_object_result: Some(result),
        ..Default::default()
    };
    Ok(S3Response::new(output))
}
