//! Buckets.

use crate::decode::{error, refuse_unkept_promises, to_timestamp};
use crate::errors::IntoS3;
use crate::list_ops::owner;
use crate::state::{Api, bucket_name};
use floeberg_auth::{Action, Resource, action};
use floeberg_objects::BucketInfo;
use floeberg_types::BucketName;
use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

pub(crate) async fn create(
    api: &Api,
    request: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let input = &request.input;
    let name = BucketName::for_objects(&input.bucket)
        .map_err(|why| error(S3ErrorCode::InvalidBucketName, why.to_string()))?;
    let resource = Resource::Bucket(&name);
    let (authorized, cx) = api.authorize_change::<action::CreateBucket, _>(&request, resource)?;
    refuse_unkept_promises(&request.headers)?;
    if input
        .acl
        .as_ref()
        .is_some_and(|acl| acl.as_str() != BucketCannedACL::PRIVATE)
    {
        let why = "access control lists are not supported: use `private` or none";
        return Err(error(S3ErrorCode::AccessControlListNotSupported, why));
    }
    let bucket = api
        .objects()
        .create_bucket(&authorized, &cx, name)
        .await
        .map_err(IntoS3::into_s3)?;
    let location = Some(format!("/{}", bucket.name));
    Ok(S3Response::new(CreateBucketOutput {
        location,
        ..Default::default()
    }))
}

pub(crate) async fn delete(
    api: &Api,
    request: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let name = bucket_name(&request.input.bucket)?;
    let resource = Resource::Bucket(&name);
    let (authorized, cx) = api.authorize_change::<action::DeleteBucket, _>(&request, resource)?;
    api.objects()
        .delete_bucket(&authorized, &cx, &name)
        .await
        .map_err(IntoS3::into_s3)?;
    Ok(S3Response::new(DeleteBucketOutput::default()))
}

/// The bucket, after `A` and the probe for its existence were allowed.
async fn probe<A: Action, T>(
    api: &Api,
    request: &S3Request<T>,
    bucket: &str,
) -> S3Result<BucketInfo> {
    let name = bucket_name(bucket)?;
    Api::authorize::<A, _>(request, Resource::Bucket(&name))?;
    let authorized = Api::authorize::<action::HeadBucket, _>(request, Resource::Bucket(&name))?;
    api.objects()
        .head_bucket(&authorized, &name)
        .await
        .map_err(IntoS3::into_s3)
}

pub(crate) async fn head(
    api: &Api,
    request: S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    probe::<action::HeadBucket, _>(api, &request, &request.input.bucket).await?;
    let region = api.state.settings.region.to_string();
    Ok(S3Response::new(HeadBucketOutput {
        bucket_region: Some(region),
        ..Default::default()
    }))
}

pub(crate) async fn location(
    api: &Api,
    request: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    probe::<action::GetBucketLocation, _>(api, &request, &request.input.bucket).await?;
    let region = api.state.settings.region.to_string();
    // The first region has no name here (S3 "GetBucketLocation").
    let location_constraint =
        (region != "us-east-1").then(|| BucketLocationConstraint::from(region));
    Ok(S3Response::new(GetBucketLocationOutput {
        location_constraint,
    }))
}

/// Never versioned, which the S3 API expresses by an empty answer.
pub(crate) async fn versioning(
    api: &Api,
    request: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    probe::<action::GetBucketVersioning, _>(api, &request, &request.input.bucket).await?;
    Ok(S3Response::new(GetBucketVersioningOutput::default()))
}

pub(crate) async fn list(
    api: &Api,
    request: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let authorized = Api::authorize::<action::ListBuckets, _>(&request, Resource::Cluster)?;
    let prefix = request.input.prefix.clone().unwrap_or_default();
    let buckets = api
        .objects()
        .list_buckets(&authorized)
        .await
        .map_err(IntoS3::into_s3)?;
    let buckets = buckets
        .into_iter()
        .filter(|bucket| bucket.name.as_str().starts_with(&prefix))
        .map(|bucket| Bucket {
            name: Some(bucket.name.to_string()),
            creation_date: Some(to_timestamp(bucket.created_at)),
            bucket_region: Some(api.state.settings.region.to_string()),
            ..Default::default()
        });
    let output = ListBucketsOutput {
        buckets: Some(buckets.collect()),
        owner: Some(owner(&request)?),
        prefix: request.input.prefix.clone(),
        continuation_token: None,
    };
    Ok(S3Response::new(output))
}
