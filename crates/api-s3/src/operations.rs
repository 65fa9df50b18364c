//! The operations that are served: under which method and target, and how much body each takes.

/// What the body of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// There is none that anybody reads.
    Nothing,
    /// XML of at most so many bytes, which is held in memory.
    Document(usize),
    /// Bytes of an object, which are stored as they come.
    Stream,
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Its name in the service model, in metrics and in logs.
    pub name: &'static str,
    /// Its method.
    pub method: &'static str,
    /// A path and query that name it, with `{bucket}`, `{key}` and `{upload}` in it.
    pub target: &'static str,
    /// What its body is.
    pub body: BodyKind,
}

/// The largest XML of a request is a completion of 10,000 parts.
pub(crate) const DOCUMENT_MAX: usize = floeberg_types::limits::XML_BODY_BYTES;
const DELETIONS_MAX: usize = floeberg_types::limits::DELETIONS_BODY_BYTES;
const SMALL_MAX: usize = floeberg_types::limits::SMALL_BODY_BYTES;

const fn operation(
    name: &'static str,
    method: &'static str,
    target: &'static str,
    body: BodyKind,
) -> Operation {
    Operation {
        name,
        method,
        target,
        body,
    }
}

/// All that are served; `router` has a handler for each.
pub const OPERATIONS: &[Operation] = {
    use BodyKind::{Document, Nothing, Stream};
    &[
        operation(
            "AbortMultipartUpload",
            "DELETE",
            "/{bucket}/{key}?uploadId={upload}",
            Nothing,
        ),
        operation(
            "CompleteMultipartUpload",
            "POST",
            "/{bucket}/{key}?uploadId={upload}",
            Document(DOCUMENT_MAX),
        ),
        operation("CopyObject", "PUT", "/{bucket}/{key}", Nothing),
        operation("CreateBucket", "PUT", "/{bucket}", Document(SMALL_MAX)),
        operation(
            "CreateMultipartUpload",
            "POST",
            "/{bucket}/{key}?uploads",
            Nothing,
        ),
        operation("DeleteBucket", "DELETE", "/{bucket}", Nothing),
        operation("DeleteObject", "DELETE", "/{bucket}/{key}", Nothing),
        operation(
            "DeleteObjectTagging",
            "DELETE",
            "/{bucket}/{key}?tagging",
            Nothing,
        ),
        operation(
            "DeleteObjects",
            "POST",
            "/{bucket}?delete",
            Document(DELETIONS_MAX),
        ),
        operation("GetBucketLocation", "GET", "/{bucket}?location", Nothing),
        operation(
            "GetBucketVersioning",
            "GET",
            "/{bucket}?versioning",
            Nothing,
        ),
        operation("GetObject", "GET", "/{bucket}/{key}", Nothing),
        operation(
            "GetObjectTagging",
            "GET",
            "/{bucket}/{key}?tagging",
            Nothing,
        ),
        operation("HeadBucket", "HEAD", "/{bucket}", Nothing),
        operation("HeadObject", "HEAD", "/{bucket}/{key}", Nothing),
        operation("ListBuckets", "GET", "/", Nothing),
        operation("ListMultipartUploads", "GET", "/{bucket}?uploads", Nothing),
        operation("ListObjectVersions", "GET", "/{bucket}?versions", Nothing),
        operation("ListObjects", "GET", "/{bucket}", Nothing),
        operation("ListObjectsV2", "GET", "/{bucket}?list-type=2", Nothing),
        operation(
            "ListParts",
            "GET",
            "/{bucket}/{key}?uploadId={upload}",
            Nothing,
        ),
        operation("PutObject", "PUT", "/{bucket}/{key}", Stream),
        operation(
            "PutObjectTagging",
            "PUT",
            "/{bucket}/{key}?tagging",
            Document(SMALL_MAX),
        ),
        operation(
            "UploadPart",
            "PUT",
            "/{bucket}/{key}?partNumber=1&uploadId={upload}",
            Stream,
        ),
        operation(
            "UploadPartCopy",
            "PUT",
            "/{bucket}/{key}?partNumber=1&uploadId={upload}",
            Nothing,
        ),
    ]
};

/// The operation with this name, if it is served.
pub(crate) fn find(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.name == name)
}
