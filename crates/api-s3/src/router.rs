//! Which operation of the S3 API is served by which handler. What is not named here answers
//! `NotImplemented`.

use crate::state::Api;
use crate::{bucket_ops, list_ops, multipart_ops, object_ops, tag_ops};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

macro_rules! route {
    ($($method:ident($input:ty) -> $output:ty = $handler:path;)*) => {

        #[async_trait::async_trait]
        impl S3 for Api {$(
            async fn $method(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                $handler(self, request).await
            }
        )*}
    };
}

route! {
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput = multipart_ops::abort;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput = multipart_ops::complete;
    copy_object(CopyObjectInput) -> CopyObjectOutput = object_ops::copy;
    create_bucket(CreateBucketInput) -> CreateBucketOutput = bucket_ops::create;
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput = multipart_ops::create;
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput = bucket_ops::delete;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput = object_ops::delete;
    delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput = tag_ops::delete;
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput = object_ops::delete_many;
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput = bucket_ops::location;
    get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput = bucket_ops::versioning;
    get_object(GetObjectInput) -> GetObjectOutput = object_ops::get;
    get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput = tag_ops::get;
    head_bucket(HeadBucketInput) -> HeadBucketOutput = bucket_ops::head;
    head_object(HeadObjectInput) -> HeadObjectOutput = object_ops::head;
    list_buckets(ListBucketsInput) -> ListBucketsOutput = bucket_ops::list;
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput = multipart_ops::list_uploads;
    list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput = list_ops::versions;
    list_objects(ListObjectsInput) -> ListObjectsOutput = list_ops::v1;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output = list_ops::v2;
    list_parts(ListPartsInput) -> ListPartsOutput = multipart_ops::list_parts;
    put_object(PutObjectInput) -> PutObjectOutput = object_ops::put;
    put_object_tagging(PutObjectTaggingInput) -> PutObjectTaggingOutput = tag_ops::put;
    upload_part(UploadPartInput) -> UploadPartOutput = multipart_ops::upload_part;
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput = multipart_ops::copy_part;
}
