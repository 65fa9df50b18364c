//! Every failure as an S3 error code. The matches are exhaustive on purpose: a new outcome of the
//! use cases does not compile until somebody has chosen its status.
//!
//! Unknown outcomes: S3 clients repeat a request after 500 and 503 alike. 503 is given only when
//! nothing was proposed; [`Outage::Indefinite`] is a 500, whose repeat is safe because a PUT of the
//! same bytes is idempotent, and whose conditional repeat may meet its own first attempt (412).

use floeberg_auth::{Denied, LookupError};
use floeberg_http::{Exhausted, NoRoom};
use floeberg_objects::errors::*;
use floeberg_objects::{BodyError, CreateBucketError};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use s3s::{S3Error, S3ErrorCode};
use std::fmt::Display;

fn code(code: S3ErrorCode, why: impl Display) -> S3Error {
    S3Error::with_message(code, why.to_string())
}

fn with_status(name: &'static str, status: StatusCode, why: impl Display) -> S3Error {
    let mut error = code(S3ErrorCode::Custom(name.into()), why);
    error.set_status_code(status);
    error
}

/// Extra headers replace those that s3s sets, so the body's type is among them.
fn with_headers(mut error: S3Error, headers: &[(header::HeaderName, String)]) -> S3Error {
    let mut map = HeaderMap::new();
    map.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/xml"),
    );
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            map.insert(name, value);
        }
    }
    error.set_headers(map);
    error
}

pub(crate) fn denied(denied: Denied) -> S3Error {
    code(S3ErrorCode::AccessDenied, denied)
}

pub(crate) fn lookup_failed(error: LookupError) -> S3Error {
    match error {
        LookupError::UnknownKey => code(S3ErrorCode::InvalidAccessKeyId, error),
        LookupError::InvalidToken => code(S3ErrorCode::InvalidToken, error),
        LookupError::ExpiredToken => code(S3ErrorCode::ExpiredToken, error),
    }
}

/// Turns a use case's error into its S3 error.
pub(crate) trait IntoS3 {
    fn into_s3(self) -> S3Error;
}

macro_rules! plain {
    ($($error:ty => $code:expr),* $(,)?) => {$(
        impl IntoS3 for $error {
            fn into_s3(self) -> S3Error {
                code($code, self)
            }
        }
    )*};
}

plain! {
    NoSuchBucket => S3ErrorCode::NoSuchBucket,
    BucketExists => S3ErrorCode::BucketAlreadyOwnedByYou,
    BucketNotEmpty => S3ErrorCode::BucketNotEmpty,
    TableBucketProtected => S3ErrorCode::AccessDenied,
    BucketFenced => S3ErrorCode::OperationAborted,
    NoSuchKey => S3ErrorCode::NoSuchKey,
    NoSuchVersion => S3ErrorCode::NoSuchVersion,
    PreconditionFailed => S3ErrorCode::PreconditionFailed,
    BadDigest => S3ErrorCode::BadDigest,
    OutsideTables => S3ErrorCode::AccessDenied,
    WrittenOnce => S3ErrorCode::AccessDenied,
    CatalogFile => S3ErrorCode::AccessDenied,
    NoSuchUpload => S3ErrorCode::NoSuchUpload,
    BadPartNumber => S3ErrorCode::InvalidArgument,
    InvalidPart => S3ErrorCode::InvalidPart,
    InvalidPartOrder => S3ErrorCode::InvalidPartOrder,
    NoParts => S3ErrorCode::MalformedXML,
    EntityTooSmall => S3ErrorCode::EntityTooSmall,
    EntityTooLarge => S3ErrorCode::EntityTooLarge,
    SizeMismatch => S3ErrorCode::InvalidRequest,
    ChecksumKindUnsupported => S3ErrorCode::InvalidRequest,
    CopyToItself => S3ErrorCode::InvalidRequest,
    CopySourceTooLarge => S3ErrorCode::InvalidRequest,
    BadToken => S3ErrorCode::InvalidArgument,
}

impl IntoS3 for BadTrailer {
    fn into_s3(self) -> S3Error {
        with_status("MalformedTrailerError", StatusCode::BAD_REQUEST, self)
    }
}

impl IntoS3 for NoSuchPart {
    fn into_s3(self) -> S3Error {
        with_status("InvalidPartNumber", StatusCode::RANGE_NOT_SATISFIABLE, self)
    }
}

impl IntoS3 for RangeNotSatisfiable {
    fn into_s3(self) -> S3Error {
        let range = format!("bytes */{}", self.size);
        with_headers(
            code(S3ErrorCode::InvalidRange, self),
            &[(header::CONTENT_RANGE, range)],
        )
    }
}

impl IntoS3 for NotModified {
    fn into_s3(self) -> S3Error {
        let etag = format!("\"{}\"", self.etag);
        let modified = crate::decode::http_date(self.modified);
        let headers = [(header::ETAG, etag), (header::LAST_MODIFIED, modified)];
        with_headers(code(S3ErrorCode::NotModified, self), &headers)
    }
}

/// The disk is too full for a change. Not 503: a client that tries again at once finds it as full.
pub(crate) fn no_room(full: NoRoom) -> S3Error {
    let status = StatusCode::INSUFFICIENT_STORAGE;
    with_status("InsufficientStorage", status, full)
}

/// Memory for documents is used up; nothing was done.
pub(crate) fn slow_down(exhausted: Exhausted) -> S3Error {
    let error = code(S3ErrorCode::SlowDown, exhausted);
    with_headers(error, &[(header::RETRY_AFTER, "1".to_owned())])
}

impl IntoS3 for Outage {
    fn into_s3(self) -> S3Error {
        match &self {
            Self::Unavailable => with_headers(
                code(S3ErrorCode::ServiceUnavailable, &self),
                &[(header::RETRY_AFTER, "1".to_owned())],
            ),
            Self::Crowded(_) => with_headers(
                code(S3ErrorCode::SlowDown, &self),
                &[(header::RETRY_AFTER, "1".to_owned())],
            ),
            Self::Indefinite => {
                tracing::warn!("the outcome of an object request is unknown");
                code(S3ErrorCode::InternalError, &self)
            }
            Self::TooLarge(_) => code(S3ErrorCode::EntityTooLarge, &self),
            // Not 503: a client that tries again at once finds the disk as full as before.
            Self::DiskFull => with_status(
                "InsufficientStorage",
                StatusCode::INSUFFICIENT_STORAGE,
                &self,
            ),
            Self::Storage(source) => {
                tracing::error!(error = %source, "storage failed");
                code(S3ErrorCode::InternalError, &self)
            }
        }
    }
}

impl IntoS3 for BodyError {
    fn into_s3(self) -> S3Error {
        let bad = StatusCode::BAD_REQUEST;
        match self {
            Self::Length | Self::Disconnected => code(S3ErrorCode::IncompleteBody, self),
            Self::Sha256Mismatch => with_status("XAmzContentSHA256Mismatch", bad, self),
            Self::ChunkSignature => code(S3ErrorCode::SignatureDoesNotMatch, self),
            Self::Framing => code(S3ErrorCode::InvalidRequest, self),
            Self::Source => code(S3ErrorCode::InternalError, self),
        }
    }
}

macro_rules! operations {
    ($($error:ident { $($variant:ident),* })*) => {$(
        impl IntoS3 for $error {
            fn into_s3(self) -> S3Error {
                match self {
                    $(Self::$variant(error) => error.into_s3(),)*
                }
            }
        }
    )*};
}

operations! {
    IngestError { Body, BadDigest, BadTrailer, TooLarge, Outage }
    PutError {
        NoSuchBucket, Fenced, Outside, WrittenOnce, CatalogFile, Precondition, NoSuchKey, Ingest,
        Outage
    }
    GetError {
        NoSuchBucket, NoSuchKey, NoSuchVersion, NoSuchPart, Precondition, NotModified, Range, Outage
    }
    DeleteError { NoSuchBucket, NoSuchKey, NoSuchVersion, Precondition, Outage }
    ListError { NoSuchBucket, BadToken, Outage }
    CreateUploadError { NoSuchBucket, Fenced, Outside, CatalogFile, ChecksumKind, Outage }
    UploadPartError { NoSuchBucket, NoSuchUpload, Fenced, PartNumber, Ingest, Outage }
    CompleteError {
        NoSuchBucket, NoSuchUpload, Fenced, Outside, WrittenOnce, CatalogFile, Precondition,
        NoSuchKey, NoParts, Part, Order, TooSmall, TooLarge, Size, BadDigest, Outage
    }
    UploadError { NoSuchBucket, NoSuchUpload, Outage }
    TagError { NoSuchBucket, NoSuchKey, NoSuchVersion, Outage }
    DeleteBucketError { NoSuchBucket, NotEmpty, Protected, Outage }
    CreateBucketError { Exists, Outage }
}

/// A condition on a copy's source is a condition of the request: nothing is "not modified".
fn source_error(error: GetError) -> S3Error {
    match error {
        GetError::NotModified(_) => code(
            S3ErrorCode::PreconditionFailed,
            "a condition on the copy source does not hold",
        ),
        GetError::Range(range) => code(S3ErrorCode::InvalidArgument, range),
        other => other.into_s3(),
    }
}

impl IntoS3 for CopyError {
    fn into_s3(self) -> S3Error {
        match self {
            Self::Source(error) => source_error(error),
            Self::Target(error) => error.into_s3(),
            Self::ToItself(error) => error.into_s3(),
            Self::TooLarge(error) => error.into_s3(),
        }
    }
}

impl IntoS3 for CopyPartError {
    fn into_s3(self) -> S3Error {
        match self {
            Self::Source(error) => source_error(error),
            Self::Target(error) => error.into_s3(),
            Self::TooLarge(error) => error.into_s3(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use floeberg_metastore::Crowded;

    #[test]
    fn whoever_finds_no_room_is_told_to_slow_down_and_when_to_come_again() {
        let error = Outage::Crowded(Crowded).into_s3();
        assert_eq!(error.code(), &S3ErrorCode::SlowDown);
        let status = error.status_code();
        assert_eq!(status, Some(StatusCode::SERVICE_UNAVAILABLE));
        let headers = error.headers().expect("ours");
        assert_eq!(headers[header::RETRY_AFTER], "1");
    }
}
