//! What becomes known of a request only inside s3s: for metrics and the access log.

use floeberg_auth::Principal;
use parking_lot::Mutex;
use std::sync::Arc;

/// Travels with a request through s3s; clones see the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    operation: Option<&'static str>,
    principal: Option<Arc<str>>,
}

/// Names that metrics are kept under; others count as `other`, so that labels stay few.
const OPERATIONS: [&str; 25] = [
    "AbortMultipartUpload",
    "CompleteMultipartUpload",
    "CopyObject",
    "CreateBucket",
    "CreateMultipartUpload",
    "DeleteBucket",
    "DeleteObject",
    "DeleteObjectTagging",
    "DeleteObjects",
    "GetBucketLocation",
    "GetBucketVersioning",
    "GetObject",
    "GetObjectTagging",
    "HeadBucket",
    "HeadObject",
    "ListBuckets",
    "ListMultipartUploads",
    "ListObjectVersions",
    "ListObjects",
    "ListObjectsV2",
    "ListParts",
    "PutObject",
    "PutObjectTagging",
    "UploadPart",
    "UploadPartCopy",
];

impl Seen {
    pub(crate) fn operation(&self, name: &str) {
        let mut known = OPERATIONS.into_iter();
        self.0.lock().operation = known.find(|known| *known == name).or(Some("other"));
    }

    pub(crate) fn principal(&self, principal: &Principal) {
        self.0.lock().principal = Some(principal.id.clone());
    }

    pub(crate) fn operation_name(&self) -> &'static str {
        self.0.lock().operation.unwrap_or("unknown")
    }

    pub(crate) fn who(&self) -> Option<Arc<str>> {
        self.0.lock().principal.clone()
    }
}
