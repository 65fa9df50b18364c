//! The three listings of objects.

use crate::checksums::{algorithm_dto, kind_dto};
use crate::decode::{error, etag, to_timestamp};
use crate::errors::IntoS3;
use crate::state::{Api, bucket_name};
use floeberg_auth::{Resource, action};
use floeberg_objects::{ListFrom, ListRequest, ListedObject, Listing, NULL_VERSION, PAGE_MAX};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

/// What stays readable in a URL-encoded key: unreserved characters and the slash.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');

/// How keys are written into an answer (`encoding-type`).
#[derive(Clone, Copy)]
pub(crate) enum KeyForm {
    Plain,
    Url,
}

impl KeyForm {
    pub(crate) fn of(encoding: Option<&EncodingType>) -> S3Result<Self> {
        match encoding.map(EncodingType::as_str) {
            None => Ok(Self::Plain),
            Some(EncodingType::URL) => Ok(Self::Url),
            Some(_) => Err(error(
                S3ErrorCode::InvalidArgument,
                "the only encoding type is `url`",
            )),
        }
    }

    pub(crate) fn text(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Url => utf8_percent_encode(text, KEPT).to_string(),
        }
    }

    pub(crate) fn opt(self, text: Option<&String>) -> Option<String> {
        text.map(|text| self.text(text))
    }
}

/// An empty delimiter is none: s3fs sends it so.
pub(crate) fn delimiter(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).cloned()
}

pub(crate) fn page(max: Option<i32>) -> S3Result<usize> {
    match max {
        None => Ok(PAGE_MAX),
        Some(max) => usize::try_from(max)
            .map(|max| max.min(PAGE_MAX))
            .map_err(|_| error(S3ErrorCode::InvalidArgument, "the page size is negative")),
    }
}

pub(crate) fn to_i32(count: usize) -> Option<i32> {
    Some(i32::try_from(count).unwrap_or(i32::MAX))
}

pub(crate) fn common_prefixes(prefixes: &[String], form: KeyForm) -> Vec<CommonPrefix> {
    prefixes
        .iter()
        .map(|prefix| CommonPrefix {
            prefix: Some(form.text(prefix)),
        })
        .collect()
}

async fn list<T>(api: &Api, request: &S3Request<T>, list: &ListRequest) -> S3Result<Listing> {
    let resource = Resource::Listing {
        bucket: &list.bucket,
        prefix: &list.prefix,
    };
    let authorized = Api::authorize::<action::ListObjects, _>(request, resource)?;
    api.objects()
        .list(&authorized, list)
        .await
        .map_err(IntoS3::into_s3)
}

fn size(listed: &ListedObject) -> Option<i64> {
    Some(i64::try_from(listed.size).unwrap_or(i64::MAX))
}

fn object(listed: &ListedObject, form: KeyForm, owner: Option<&Owner>) -> Object {
    Object {
        key: Some(form.text(&listed.key)),
        size: size(listed),
        e_tag: Some(etag(&listed.etag)),
        last_modified: Some(to_timestamp(listed.modified)),
        storage_class: Some(ObjectStorageClass::from_static(
            ObjectStorageClass::STANDARD,
        )),
        checksum_algorithm: listed
            .checksum
            .map(|(algorithm, _)| vec![algorithm_dto(algorithm)]),
        checksum_type: listed.checksum.map(|(_, kind)| kind_dto(kind)),
        owner: owner.cloned(),
        restore_status: None,
    }
}

pub(crate) fn owner<T>(request: &S3Request<T>) -> S3Result<Owner> {
    let account = Api::principal(request)?.account.to_string();
    Ok(Owner {
        display_name: Some(account.clone()),
        id: Some(account),
    })
}

pub(crate) async fn v2(
    api: &Api,
    request: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let input = &request.input;
    let form = KeyForm::of(input.encoding_type.as_ref())?;
    let max_keys = page(input.max_keys)?;
    let from = match (&input.continuation_token, &input.start_after) {
        (Some(token), _) => ListFrom::Token(token.clone()),
        (None, Some(after)) if !after.is_empty() => ListFrom::After(after.clone()),
        _ => ListFrom::Start,
    };
    let bucket = bucket_name(&input.bucket)?;
    let wanted = ListRequest {
        prefix: Api::listing_prefix(&request, &bucket, input.prefix.as_deref())?,
        bucket,
        delimiter: delimiter(input.delimiter.as_ref()),
        from,
        max_keys,
    };
    let listing = list(api, &request, &wanted).await?;
    let owner = if input.fetch_owner.unwrap_or(false) {
        Some(owner(&request)?)
    } else {
        None
    };
    let output = ListObjectsV2Output {
        name: Some(input.bucket.clone()),
        prefix: Some(form.text(input.prefix.as_deref().unwrap_or_default())),
        max_keys: to_i32(max_keys),
        key_count: to_i32(listing.objects.len() + listing.prefixes.len()),
        continuation_token: input.continuation_token.clone(),
        is_truncated: Some(listing.next.is_some()),
        next_continuation_token: listing.next.map(|next| next.token),
        contents: Some(
            listing
                .objects
                .iter()
                .map(|o| object(o, form, owner.as_ref()))
                .collect(),
        ),
        common_prefixes: Some(common_prefixes(&listing.prefixes, form)),
        delimiter: form.opt(wanted.delimiter.as_ref()),
        encoding_type: input.encoding_type.clone(),
        start_after: form.opt(input.start_after.as_ref()),
        request_charged: None,
    };
    Ok(S3Response::new(output))
}

pub(crate) async fn v1(
    api: &Api,
    request: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let input = &request.input;
    let form = KeyForm::of(input.encoding_type.as_ref())?;
    let max_keys = page(input.max_keys)?;
    let bucket = bucket_name(&input.bucket)?;
    let wanted = ListRequest {
        prefix: Api::listing_prefix(&request, &bucket, input.prefix.as_deref())?,
        bucket,
        delimiter: delimiter(input.delimiter.as_ref()),
        from: behind(input.marker.as_ref()),
        max_keys,
    };
    let listing = list(api, &request, &wanted).await?;
    let owner = owner(&request)?;
    let output = ListObjectsOutput {
        name: Some(input.bucket.clone()),
        prefix: Some(form.text(input.prefix.as_deref().unwrap_or_default())),
        marker: Some(form.text(input.marker.as_deref().unwrap_or_default())),
        max_keys: to_i32(max_keys),
        is_truncated: Some(listing.next.is_some()),
        next_marker: listing.next.map(|next| form.text(&next.last)),
        contents: Some(
            listing
                .objects
                .iter()
                .map(|o| object(o, form, Some(&owner)))
                .collect(),
        ),
        common_prefixes: Some(common_prefixes(&listing.prefixes, form)),
        delimiter: form.opt(wanted.delimiter.as_ref()),
        encoding_type: input.encoding_type.clone(),
        request_charged: None,
    };
    Ok(S3Response::new(output))
}

fn behind(marker: Option<&String>) -> ListFrom {
    match marker {
        Some(marker) if !marker.is_empty() => ListFrom::After(marker.clone()),
        _ => ListFrom::Start,
    }
}

/// Buckets keep no versions: every object has the one version `null`.
pub(crate) async fn versions(
    api: &Api,
    request: S3Request<ListObjectVersionsInput>,
) -> S3Result<S3Response<ListObjectVersionsOutput>> {
    let input = &request.input;
    let form = KeyForm::of(input.encoding_type.as_ref())?;
    let max_keys = page(input.max_keys)?;
    let bucket = bucket_name(&input.bucket)?;
    let wanted = ListRequest {
        prefix: Api::listing_prefix(&request, &bucket, input.prefix.as_deref())?,
        bucket,
        delimiter: delimiter(input.delimiter.as_ref()),
        from: behind(input.key_marker.as_ref()),
        max_keys,
    };
    let listing = list(api, &request, &wanted).await?;
    let owner = owner(&request)?;
    let null = || Some(NULL_VERSION.to_owned());
    let version = |listed: &ListedObject| ObjectVersion {
        key: Some(form.text(&listed.key)),
        version_id: null(),
        is_latest: Some(true),
        size: size(listed),
        e_tag: Some(etag(&listed.etag)),
        last_modified: Some(to_timestamp(listed.modified)),
        storage_class: Some(ObjectVersionStorageClass::from_static(
            ObjectVersionStorageClass::STANDARD,
        )),
        checksum_algorithm: listed
            .checksum
            .map(|(algorithm, _)| vec![algorithm_dto(algorithm)]),
        checksum_type: listed.checksum.map(|(_, kind)| kind_dto(kind)),
        owner: Some(owner.clone()),
        restore_status: None,
    };
    let output = ListObjectVersionsOutput {
        name: Some(input.bucket.clone()),
        prefix: Some(form.text(input.prefix.as_deref().unwrap_or_default())),
        key_marker: Some(form.text(input.key_marker.as_deref().unwrap_or_default())),
        version_id_marker: input.version_id_marker.clone(),
        max_keys: to_i32(max_keys),
        is_truncated: Some(listing.next.is_some()),
        next_key_marker: listing.next.as_ref().map(|next| form.text(&next.last)),
        next_version_id_marker: listing.next.as_ref().and_then(|_| null()),
        versions: Some(listing.objects.iter().map(version).collect()),
        common_prefixes: Some(common_prefixes(&listing.prefixes, form)),
        delimiter: form.opt(wanted.delimiter.as_ref()),
        encoding_type: input.encoding_type.clone(),
        delete_markers: None,
        request_charged: None,
    };
    Ok(S3Response::new(output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_keys_decode_with_every_decoder() {
        assert_eq!(KeyForm::Url.text("a b+ü%/c~"), "a%20b%2B%C3%BC%25/c~");
        assert_eq!(KeyForm::Plain.text("a b"), "a b");
    }

    #[test]
    fn page_sizes() {
        assert_eq!(page(None).unwrap(), 1000);
        assert_eq!(page(Some(5000)).unwrap(), 1000);
        assert_eq!(page(Some(0)).unwrap(), 0);
        assert!(page(Some(-1)).is_err());
    }
}
