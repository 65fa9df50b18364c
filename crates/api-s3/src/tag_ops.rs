//! Tags of objects.

use crate::decode::{error, tags};
use crate::errors::IntoS3;
use crate::state::{Api, object, object_name};
use floeberg_auth::action;
use floeberg_objects::{TagTarget, Tags};
use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

fn target(bucket: &str, key: &str, version: Option<&String>) -> S3Result<TagTarget> {
    let (bucket, key) = object_name(bucket, key)?;
    Ok(TagTarget {
        bucket,
        key,
        version: version.cloned(),
    })
}

pub(crate) async fn get(
    api: &Api,
    request: S3Request<GetObjectTaggingInput>,
) -> S3Result<S3Response<GetObjectTaggingOutput>> {
    let input = &request.input;
    let of = target(&input.bucket, &input.key, input.version_id.as_ref())?;
    let authorized =
        Api::authorize::<action::GetObjectTagging, _>(&request, object(&of.bucket, &of.key))?;
    let tags = api
        .objects()
        .tags(&authorized, &of)
        .await
        .map_err(IntoS3::into_s3)?;
    let tag_set = tags
        .into_iter()
        .map(|(key, value)| Tag {
            key: Some(key),
            value: Some(value),
        })
        .collect();
    Ok(S3Response::new(GetObjectTaggingOutput {
        tag_set,
        version_id: None,
    }))
}

pub(crate) async fn put(
    api: &Api,
    request: S3Request<PutObjectTaggingInput>,
) -> S3Result<S3Response<PutObjectTaggingOutput>> {
    let input = &request.input;
    let of = target(&input.bucket, &input.key, input.version_id.as_ref())?;
    let resource = object(&of.bucket, &of.key);
    let (authorized, cx) =
        api.authorize_change::<action::PutObjectTagging, _>(&request, resource)?;
    let pairs = input
        .tagging
        .tag_set
        .iter()
        .map(|tag| match (&tag.key, &tag.value) {
            (Some(key), Some(value)) => Ok((key.clone(), value.clone())),
            _ => Err(error(
                S3ErrorCode::MalformedXML,
                "a tag needs a key and a value",
            )),
        });
    let tags = tags(pairs)?;
    api.objects()
        .set_tags(&authorized, &cx, &of, tags)
        .await
        .map_err(IntoS3::into_s3)?;
    Ok(S3Response::new(PutObjectTaggingOutput::default()))
}

pub(crate) async fn delete(
    api: &Api,
    request: S3Request<DeleteObjectTaggingInput>,
) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
    let input = &request.input;
    let of = target(&input.bucket, &input.key, input.version_id.as_ref())?;
    let resource = object(&of.bucket, &of.key);
    let (authorized, cx) =
        api.authorize_change::<action::DeleteObjectTagging, _>(&request, resource)?;
    api.objects()
        .set_tags(&authorized, &cx, &of, Tags::new())
        .await
        .map_err(IntoS3::into_s3)?;
    Ok(S3Response::new(DeleteObjectTaggingOutput::default()))
}
