//! Pieces of requests: bodies, conditions, headers, tags, times.

use crate::checksums::{algorithm, announced};
use base64::prelude::{BASE64_STANDARD, Engine};
use floeberg_objects::{
    Body, BodyError, BodyStream, ByteRange, Headers, ReadConditions, SentChecksum, TagMatch, Tags,
    WriteConditions,
};
use floeberg_types::{Checksum, TimestampMs};
use futures::StreamExt;
use http::HeaderMap;
use s3s::dto::{
    ChecksumAlgorithm, ETag, ETagCondition, Metadata, ObjectCannedACL, Range, StorageClass,
    StreamingBlob, Timestamp,
};
use s3s::stream::aws_chunked_stream::AwsChunkedStreamError;
use s3s::stream::upload_stream::UploadStreamError;
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders};
use std::collections::BTreeMap;
use std::error::Error;

/// User metadata of one object, in bytes (S3 "User-defined object metadata").
const METADATA_BYTES_MAX: usize = floeberg_types::limits::USER_METADATA_BYTES;
/// Tags of one object (S3 "Categorizing your objects using tags").
const TAGS_MAX: usize = floeberg_types::limits::TAGS;

pub(crate) fn error(code: S3ErrorCode, why: impl Into<String>) -> S3Error {
    S3Error::with_message(code, why.into())
}

/// What went wrong while a body was read, wherever in the layers of s3s it did.
fn body_error(error: &(dyn Error + 'static)) -> BodyError {
    if let Some(error) = error.downcast_ref::<UploadStreamError>() {
        return match error {
            UploadStreamError::Sha256Mismatch => BodyError::Sha256Mismatch,
            UploadStreamError::LengthMismatch | UploadStreamError::Incomplete => BodyError::Length,
            UploadStreamError::Underlying(inner) => body_error(&**inner),
        };
    }
    if let Some(error) = error.downcast_ref::<AwsChunkedStreamError>() {
        return match error {
            AwsChunkedStreamError::SignatureMismatch => BodyError::ChunkSignature,
            AwsChunkedStreamError::Incomplete | AwsChunkedStreamError::LengthMismatch => {
                BodyError::Length
            }
            AwsChunkedStreamError::Underlying(inner) => body_error(&**inner),
            AwsChunkedStreamError::FormatError
            | AwsChunkedStreamError::ChunkMetaTooLarge(..)
            | AwsChunkedStreamError::ChunkDataTooLarge(..)
            | AwsChunkedStreamError::TrailersTooLarge(..)
            | AwsChunkedStreamError::TooManyTrailerHeaders(..) => BodyError::Framing,
        };
    }
    error.source().map_or(BodyError::Disconnected, body_error)
}

/// What a request says about its body.
pub(crate) struct BodyFields<'a> {
    pub(crate) blob: Option<StreamingBlob>,
    pub(crate) len: Option<i64>,
    pub(crate) content_md5: Option<&'a str>,
    pub(crate) checksum: Option<Checksum>,
    pub(crate) algorithm: Option<&'a ChecksumAlgorithm>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) trailers: Option<&'a TrailingHeaders>,
}

pub(crate) fn body(fields: BodyFields<'_>) -> S3Result<Body> {
    let stream: BodyStream = match fields.blob {
        Some(blob) => blob.map(|piece| piece.map_err(|e| body_error(&*e))).boxed(),
        None => futures::stream::empty().boxed(),
    };
    let len = fields
        .len
        .map(|len| {
            u64::try_from(len).map_err(|_| {
                error(
                    S3ErrorCode::InvalidArgument,
                    "the content length is negative",
                )
            })
        })
        .transpose()?;
    let trailer = announced(fields.headers, fields.trailers)?;
    let checksum = match (fields.checksum, trailer) {
        (Some(_), Some(_)) => {
            let why = "a checksum was sent as header and announced as trailer";
            return Err(error(S3ErrorCode::InvalidRequest, why));
        }
        (Some(checksum), None) => SentChecksum::Value(checksum),
        (None, Some((algorithm, read))) => SentChecksum::Trailer(algorithm, read),
        (None, None) => {
            algorithm(fields.algorithm)?.map_or(SentChecksum::None, SentChecksum::Algorithm)
        }
    };
    Ok(Body {
        stream,
        len,
        content_md5: content_md5(fields.content_md5)?,
        checksum,
    })
}

fn content_md5(text: Option<&str>) -> S3Result<Option<[u8; 16]>> {
    let Some(text) = text else { return Ok(None) };
    BASE64_STANDARD
        .decode(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .map(Some)
        .ok_or_else(|| S3ErrorCode::InvalidDigest.into())
}

pub(crate) fn tag_match(condition: ETagCondition) -> TagMatch {
    match condition {
        ETagCondition::Any => TagMatch::Any,
        ETagCondition::ETag(etag) => TagMatch::Etag(etag.into_value()),
    }
}

pub(crate) fn write_conditions(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
) -> WriteConditions {
    WriteConditions {
        if_match: if_match.map(tag_match),
        if_none_match: if_none_match.map(tag_match),
    }
}

pub(crate) fn read_conditions(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
    if_modified_since: Option<Timestamp>,
    if_unmodified_since: Option<Timestamp>,
) -> ReadConditions {
    ReadConditions {
        if_match: if_match.map(tag_match),
        if_none_match: if_none_match.map(tag_match),
        if_modified_since: if_modified_since.map(from_timestamp),
        if_unmodified_since: if_unmodified_since.map(from_timestamp),
    }
}

pub(crate) fn byte_range(range: Range) -> ByteRange {
    match range {
        Range::Int {
            first,
            last: Some(last),
        } => ByteRange::Closed(first, last),
        Range::Int { first, last: None } => ByteRange::From(first),
        Range::Suffix { length } => ByteRange::Last(length),
    }
}

/// Headers to store, from the fields that several inputs share.
macro_rules! stored_headers {
    ($input:expr) => {
        $crate::decode::headers($crate::decode::HeaderFields {
            content_type: $input.content_type.take(),
            content_encoding: $input.content_encoding.take(),
            content_language: $input.content_language.take(),
            content_disposition: $input.content_disposition.take(),
            cache_control: $input.cache_control.take(),
            expires: $input.expires.take(),
            metadata: $input.metadata.take(),
        })
    };
}

pub(crate) use stored_headers;

pub(crate) struct HeaderFields {
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) content_language: Option<String>,
    pub(crate) content_disposition: Option<String>,
    pub(crate) cache_control: Option<String>,
    pub(crate) expires: Option<String>,
    pub(crate) metadata: Option<Metadata>,
}

pub(crate) fn headers(fields: HeaderFields) -> S3Result<Headers> {
    let user_metadata: BTreeMap<String, String> =
        fields.metadata.unwrap_or_default().into_iter().collect();
    let bytes: usize = user_metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > METADATA_BYTES_MAX {
        let why = format!(
            "the names and values of the x-amz-meta- headers have {bytes} bytes, and {METADATA_BYTES_MAX} is the \
             limit: send fewer or shorter ones"
        );
        return Err(S3Error::with_message(S3ErrorCode::MetadataTooLarge, why));
    }
    Ok(Headers {
        content_type: fields.content_type.unwrap_or_default(),
        content_encoding: stored_encoding(fields.content_encoding.as_deref().unwrap_or_default()),
        content_language: fields.content_language.unwrap_or_default(),
        content_disposition: fields.content_disposition.unwrap_or_default(),
        cache_control: fields.cache_control.unwrap_or_default(),
        expires: fields.expires.unwrap_or_default(),
        user_metadata,
    })
}

/// `aws-chunked` describes the transfer, not the object.
fn stored_encoding(encoding: &str) -> String {
    let kept: Vec<&str> = encoding
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    kept.join(",")
}

/// The tags of an `x-amz-tagging` header: a query string.
pub(crate) fn tagging_header(text: Option<&str>) -> S3Result<Tags> {
    let decode = |part: &str| {
        percent_encoding::percent_decode_str(&part.replace('+', " "))
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| S3Error::from(S3ErrorCode::InvalidTag))
    };
    let pairs = text
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name)?, decode(value)?))
    });
    tags(pairs)
}

pub(crate) fn tags(pairs: impl Iterator<Item = S3Result<(String, String)>>) -> S3Result<Tags> {
    let mut tags = Tags::new();
    for pair in pairs {
        let (name, value) = pair?;
        if name.is_empty() || name.chars().count() > 128 || value.chars().count() > 256 {
            let why = "a tag has a name of 1 to 128 and a value of at most 256 characters";
            return Err(error(S3ErrorCode::InvalidTag, why));
        }
        if tags.insert(name, value).is_some() {
            return Err(error(
                S3ErrorCode::InvalidTag,
                "two tags have the same name",
            ));
        }
    }
    if tags.len() > TAGS_MAX {
        return Err(error(
            S3ErrorCode::InvalidTag,
            "an object has at most 10 tags",
        ));
    }
    Ok(tags)
}

/// What clients set out of habit is accepted where it changes nothing; what would promise more than
/// is done is refused.
pub(crate) fn check_storage(
    class: Option<&StorageClass>,
    acl: Option<&ObjectCannedACL>,
) -> S3Result<()> {
    if class.is_some_and(|class| class.as_str() != StorageClass::STANDARD) {
        let why = "the only storage class is STANDARD";
        return Err(error(S3ErrorCode::InvalidStorageClass, why));
    }
    let harmless = [
        ObjectCannedACL::PRIVATE,
        ObjectCannedACL::BUCKET_OWNER_FULL_CONTROL,
    ];
    if acl.is_some_and(|acl| !harmless.contains(&acl.as_str())) {
        let why = "access control lists are not supported: use `private` or none";
        return Err(error(S3ErrorCode::AccessControlListNotSupported, why));
    }
    Ok(())
}

/// Headers that ask for protection which is not implemented. Ignoring them would store data with
/// less protection than its owner was promised.
pub(crate) fn refuse_unkept_promises(headers: &HeaderMap) -> S3Result<()> {
    for (name, what) in [
        ("x-amz-server-side-encryption", "server-side encryption"),
        (
            "x-amz-server-side-encryption-customer-algorithm",
            "encryption with customer keys",
        ),
        ("x-amz-object-lock-mode", "object lock"),
        ("x-amz-object-lock-legal-hold", "object lock"),
        ("x-amz-bucket-object-lock-enabled", "object lock"),
        ("x-amz-write-offset-bytes", "appending to an object"),
        ("x-amz-website-redirect-location", "website redirects"),
    ] {
        if headers
            .get(name)
            .is_some_and(|value| value.as_bytes() != b"false")
        {
            let why = format!("{what} is not implemented ({name})");
            return Err(error(S3ErrorCode::NotImplemented, why));
        }
    }
    Ok(())
}

pub(crate) fn etag(value: &str) -> ETag {
    ETag::Strong(value.to_owned())
}

pub(crate) fn some_text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn date(at: TimestampMs) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000)
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

pub(crate) fn to_timestamp(at: TimestampMs) -> Timestamp {
    Timestamp::from(date(at))
}

fn from_timestamp(at: Timestamp) -> TimestampMs {
    let at: time::OffsetDateTime = at.into();
    let ms = at.unix_timestamp_nanos() / 1_000_000;
    TimestampMs(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// RFC 9110, section 5.6.7.
pub(crate) fn http_date(at: TimestampMs) -> String {
    let mut text = Vec::new();
    let format = s3s::dto::TimestampFormat::HttpDate;
    to_timestamp(at).format(format, &mut text).ok();
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfer_codings_are_not_stored() {
        assert_eq!(stored_encoding("aws-chunked"), "");
        assert_eq!(stored_encoding("gzip, aws-chunked"), "gzip");
        assert_eq!(stored_encoding("AWS-Chunked,gzip"), "gzip");
        assert_eq!(stored_encoding(""), "");
    }

    #[test]
    fn tagging_headers_are_query_strings() {
        let tags = tagging_header(Some("a=b%20c&TrinoCreationId=x+y&e")).unwrap();
        assert_eq!(tags["a"], "b c");
        assert_eq!(tags["TrinoCreationId"], "x y");
        assert_eq!(tags["e"], "");
        assert!(tagging_header(Some("a=1&a=2")).is_err());
        assert!(tagging_header(Some("=1")).is_err());
    }

    #[test]
    fn a_time_survives_both_directions() {
        let at = TimestampMs(1_800_000_000_123);
        assert_eq!(from_timestamp(to_timestamp(at)), at);
        assert_eq!(
            http_date(TimestampMs(784_111_777_000)),
            "Sun, 06 Nov 1994 08:49:37 GMT"
        );
    }

    #[test]
    fn body_errors_are_found_below_their_wrappers() {
        let inner: Box<dyn Error + Send + Sync> =
            Box::new(AwsChunkedStreamError::SignatureMismatch);
        let outer = UploadStreamError::Underlying(inner);
        assert_eq!(body_error(&outer), BodyError::ChunkSignature);
        assert_eq!(
            body_error(&UploadStreamError::Sha256Mismatch),
            BodyError::Sha256Mismatch
        );
        assert_eq!(
            body_error(&std::io::Error::other("reset")),
            BodyError::Disconnected
        );
    }
}
