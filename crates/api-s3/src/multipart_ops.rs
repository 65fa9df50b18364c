//! Multipart uploads.

use crate::checksums::{
    algorithm, algorithm_dto, kind, kind_dto, put_checksum, put_stored_checksum, sent_checksum,
    without_parts,
};
use crate::decode::{
    BodyFields, body, byte_range, check_storage, error, etag, read_conditions,
    refuse_unkept_promises, stored_headers, tagging_header, to_timestamp, write_conditions,
};
use crate::errors::IntoS3;
use crate::list_ops::{KeyForm, common_prefixes, delimiter, owner, page, to_i32};
use crate::object_ops::{SourceFields, copy_source};
use crate::state::{Api, bucket_name, object, object_name};
use floeberg_auth::{Resource, action};
use floeberg_objects::{
    CompleteRequest, CompletedPart as WantedPart, CopyPartRequest, CreateUploadRequest,
    ListUploadsRequest, Selection, UploadRef,
};
use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

fn upload_ref(bucket: &str, key: &str, upload: &str) -> S3Result<UploadRef> {
    let (bucket, key) = object_name(bucket, key)?;
    Ok(UploadRef {
        bucket,
        key,
        upload: upload.to_owned(),
    })
}

pub(crate) async fn create(
    api: &Api,
    mut request: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let (bucket, key) = object_name(&request.input.bucket, &request.input.key)?;
    let (authorized, cx) =
        api.authorize_change::<action::CreateMultipartUpload, _>(&request, object(&bucket, &key))?;
    refuse_unkept_promises(&request.headers)?;
    let input = &mut request.input;
    check_storage(input.storage_class.as_ref(), input.acl.as_ref())?;
    let wanted = CreateUploadRequest {
        bucket,
        key,
        headers: stored_headers!(input)?,
        tags: tagging_header(input.tagging.as_deref())?,
        checksum: algorithm(input.checksum_algorithm.as_ref())?,
        checksum_kind: kind(input.checksum_type.as_ref())?,
    };
    let created = api
        .objects()
        .create_upload(&authorized, &cx, wanted)
        .await
        .map_err(IntoS3::into_s3)?;
    let output = CreateMultipartUploadOutput {
        bucket: Some(input.bucket.clone()),
        key: Some(input.key.clone()),
        upload_id: Some(created.upload.to_hex()),
        checksum_algorithm: created
            .checksum
            .map(|(algorithm, _)| algorithm_dto(algorithm)),
        checksum_type: created.checksum.map(|(_, kind)| kind_dto(kind)),
        ..Default::default()
    };
    Ok(S3Response::new(output))
}

pub(crate) async fn upload_part(
    api: &Api,
    mut request: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let input = &request.input;
    let upload = upload_ref(&input.bucket, &input.key, &input.upload_id)?;
    let resource = object(&upload.bucket, &upload.key);
    let (authorized, cx) = api.authorize_change::<action::UploadPart, _>(&request, resource)?;
    refuse_unkept_promises(&request.headers)?;
    let input = &mut request.input;
    let body = body(BodyFields {
        blob: input.body.take(),
        len: input.content_length,
        content_md5: input.content_md5.as_deref(),
        checksum: sent_checksum!(*input)?,
        algorithm: input.checksum_algorithm.as_ref(),
        headers: &request.headers,
        trailers: request.trailing_headers.as_ref(),
    })?;
    let number = i64::from(input.part_number);
    let part = api
        .objects()
        .upload_part(&authorized, &cx, &upload, number, body)
        .await
        .map_err(IntoS3::into_s3)?;
    let mut output = UploadPartOutput {
        e_tag: Some(etag(&part.etag)),
        ..Default::default()
    };
    if let Some(checksum) = &part.checksum {
        put_checksum!(output, checksum);
    }
    Ok(S3Response::new(output))
}

pub(crate) async fn copy_part(
    api: &Api,
    mut request: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let input = &mut request.input;
    let upload = upload_ref(&input.bucket, &input.key, &input.upload_id)?;
    let range = input
        .copy_source_range
        .as_deref()
        .map(Range::parse)
        .transpose();
    let range = range.map_err(|_| {
        error(
            S3ErrorCode::InvalidArgument,
            "the copy range must have the form bytes=first-last",
        )
    })?;
    let fields = SourceFields {
        source: input.copy_source.clone(),
        selection: range.map_or(Selection::Whole, |range| {
            Selection::Range(byte_range(range))
        }),
        conditions: read_conditions(
            input.copy_source_if_match.take(),
            input.copy_source_if_none_match.take(),
            input.copy_source_if_modified_since.take(),
            input.copy_source_if_unmodified_since.take(),
        ),
    };
    let number = i64::from(input.part_number);
    let resource = object(&upload.bucket, &upload.key);
    let (target, cx) = api.authorize_change::<action::UploadPart, _>(&request, resource)?;
    let (readable, source) = copy_source(&request, fields)?;
    let wanted = CopyPartRequest {
        source,
        upload,
        number,
    };
    let part = api
        .objects()
        .copy_part(&readable, &target, &cx, wanted)
        .await
        .map_err(IntoS3::into_s3)?;
    let mut result = CopyPartResult {
        e_tag: Some(etag(&part.etag)),
        last_modified: Some(to_timestamp(part.modified)),
        ..Default::default()
    };
    if let Some(checksum) = &part.checksum {
        put_checksum!(result, checksum);
    }
    let output = UploadPartCopyOutput {
        copy_part_result: Some(result),
        ..Default::default()
    };
    Ok(S3Response::new(output))
}

fn wanted_part(part: &CompletedPart) -> S3Result<WantedPart> {
    let malformed = |why: &str| error(S3ErrorCode::MalformedXML, why);
    let number = part
        .part_number
        .ok_or_else(|| malformed("a part has no number"))?;
    let number = u32::try_from(number).map_err(|_| {
        error(
            S3ErrorCode::InvalidArgument,
            "part numbers go from 1 to 10000",
        )
    })?;
    let etag = part
        .e_tag
        .as_ref()
        .ok_or_else(|| malformed("a part has no entity tag"))?;
    Ok(WantedPart {
        number,
        etag: etag.value().to_owned(),
        checksum: sent_checksum!(*part)?,
    })
}

pub(crate) async fn complete(
    api: &Api,
    mut request: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let input = &mut request.input;
    let upload = upload_ref(&input.bucket, &input.key, &input.upload_id)?;
    for field in [
        &mut input.checksum_crc32,
        &mut input.checksum_crc32c,
        &mut input.checksum_sha1,
        &mut input.checksum_sha256,
    ] {
        *field = without_parts(field.as_deref()).map(str::to_owned);
    }
    let checksum = sent_checksum!(*input)?;
    let parts = input
        .multipart_upload
        .take()
        .and_then(|parts| parts.parts)
        .unwrap_or_default();
    let parts = parts
        .iter()
        .map(wanted_part)
        .collect::<S3Result<Vec<_>>>()?;
    let conditions = write_conditions(input.if_match.take(), input.if_none_match.take());
    let size = input
        .mpu_object_size
        .and_then(|size| u64::try_from(size).ok());
    let resource = object(&upload.bucket, &upload.key);
    let (authorized, cx) =
        api.authorize_change::<action::CompleteMultipartUpload, _>(&request, resource)?;
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    let wanted = CompleteRequest {
        upload,
        parts,
        conditions,
        checksum,
        size,
    };
    let written = api
        .objects()
        .complete_upload(&authorized, &cx, &wanted)
        .await
        .map_err(IntoS3::into_s3)?;
    let input = &request.input;
    let mut output = CompleteMultipartUploadOutput {
        bucket: Some(input.bucket.clone()),
        key: Some(input.key.clone()),
        location: Some(format!(
            "/{}/{}",
            input.bucket,
            KeyForm::Url.text(&input.key)
        )),
        e_tag: Some(etag(&written.etag)),
        ..Default::default()
    };
    put_stored_checksum!(output, &written.checksum, count);
    Ok(S3Response::new(output))
}

pub(crate) async fn abort(
    api: &Api,
    request: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let input = &request.input;
    let upload = upload_ref(&input.bucket, &input.key, &input.upload_id)?;
    let resource = object(&upload.bucket, &upload.key);
    let (authorized, cx) =
        api.authorize_change::<action::AbortMultipartUpload, _>(&request, resource)?;
    api.objects()
        .abort_upload(&authorized, &cx, &upload)
        .await
        .map_err(IntoS3::into_s3)?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

pub(crate) async fn list_parts(
    api: &Api,
    request: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let input = &request.input;
    let upload = upload_ref(&input.bucket, &input.key, &input.upload_id)?;
    let authorized =
        Api::authorize::<action::ListParts, _>(&request, object(&upload.bucket, &upload.key))?;
    let max = page(input.max_parts)?;
    let marker = u32::try_from(input.part_number_marker.unwrap_or(0))
        .map_err(|_| error(S3ErrorCode::InvalidArgument, "the part marker is negative"))?;
    let listing = api
        .objects()
        .list_parts(&authorized, &upload, marker, max)
        .await
        .map_err(IntoS3::into_s3)?;
    let parts = listing.parts.iter().map(|info| {
        let mut part = Part {
            part_number: i32::try_from(info.number).ok(),
            size: i64::try_from(info.size).ok(),
            e_tag: Some(etag(&info.etag)),
            last_modified: Some(to_timestamp(info.modified)),
            ..Default::default()
        };
        if let Some(checksum) = &info.checksum {
            put_checksum!(part, checksum);
        }
        part
    });
    let owner = owner(&request)?;
    let output = ListPartsOutput {
        bucket: Some(input.bucket.clone()),
        key: Some(input.key.clone()),
        upload_id: Some(input.upload_id.clone()),
        max_parts: to_i32(max),
        part_number_marker: Some(input.part_number_marker.unwrap_or(0)),
        is_truncated: Some(listing.next.is_some()),
        next_part_number_marker: listing.next.and_then(|next| i32::try_from(next).ok()),
        parts: Some(parts.collect()),
        checksum_algorithm: listing
            .checksum
            .map(|(algorithm, _)| algorithm_dto(algorithm)),
        checksum_type: listing.checksum.map(|(_, kind)| kind_dto(kind)),
        owner: Some(owner),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        ..Default::default()
    };
    Ok(S3Response::new(output))
}

pub(crate) async fn list_uploads(
    api: &Api,
    request: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let input = &request.input;
    let form = KeyForm::of(input.encoding_type.as_ref())?;
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let bucket = bucket_name(&input.bucket)?;
    let wanted = ListUploadsRequest {
        prefix: Api::listing_prefix(&request, &bucket, input.prefix.as_deref())?,
        bucket,
        delimiter: delimiter(input.delimiter.as_ref()),
        key_marker: filled(&input.key_marker),
        upload_marker: filled(&input.upload_id_marker),
        max_uploads: page(input.max_uploads)?,
    };
    let resource = Resource::Listing {
        bucket: &wanted.bucket,
        prefix: &wanted.prefix,
    };
    let authorized = Api::authorize::<action::ListMultipartUploads, _>(&request, resource)?;
    let listing = api
        .objects()
        .list_uploads(&authorized, &wanted)
        .await
        .map_err(IntoS3::into_s3)?;
    let uploads = listing.uploads.iter().map(|info| MultipartUpload {
        key: Some(form.text(&info.key)),
        upload_id: Some(info.upload.to_hex()),
        initiated: Some(to_timestamp(info.initiated)),
        checksum_algorithm: info.checksum.map(|(algorithm, _)| algorithm_dto(algorithm)),
        checksum_type: info.checksum.map(|(_, kind)| kind_dto(kind)),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        ..Default::default()
    });
    let output = ListMultipartUploadsOutput {
        bucket: Some(input.bucket.clone()),
        prefix: Some(form.text(input.prefix.as_deref().unwrap_or_default())),
        delimiter: form.opt(wanted.delimiter.as_ref()),
        key_marker: Some(form.text(input.key_marker.as_deref().unwrap_or_default())),
        upload_id_marker: Some(input.upload_id_marker.clone().unwrap_or_default()),
        max_uploads: to_i32(wanted.max_uploads),
        is_truncated: Some(listing.next.is_some()),
        next_key_marker: listing.next.as_ref().map(|(key, _)| form.text(key)),
        next_upload_id_marker: listing.next.as_ref().map(|(_, upload)| upload.clone()),
        uploads: Some(uploads.collect()),
        common_prefixes: Some(common_prefixes(&listing.prefixes, form)),
        encoding_type: input.encoding_type.clone(),
        request_charged: None,
    };
    Ok(S3Response::new(output))
}
