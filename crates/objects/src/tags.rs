//! Tags of an object.

use crate::delete::check_version;
use crate::errors::{NoSuchKey, TagError};
use crate::model::{ObjectKey, Tags};
use crate::publish::object_event;
use crate::service::{Objects, Target};
use crate::store::{CommitFailure, Stop};
use floeberg_auth::{Action, Authorized, action};
use floeberg_metastore::{Cx, ReadView, Rows};
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_types::BucketName;

/// The object whose tags are meant.
#[derive(Clone, Debug)]
pub struct TagTarget {
    /// The bucket.
    pub bucket: BucketName,
    /// The key.
    pub key: ObjectKey,
    /// `null`, or nothing.
    pub version: Option<String>,
}

impl Objects {
    async fn tag_target(&self, of: &TagTarget) -> Result<Target, TagError> {
        let target = self.target::<TagError>(&of.bucket, &of.key).await?;
        check_version::<TagError>(of.version.as_deref())?;
        Ok(target)
    }

    /// The tags of an object.
    ///
    /// # Errors
    /// See [`TagError`].
    pub async fn tags(
        &self,
        _authorized: &Authorized<action::GetObjectTagging>,
        of: &TagTarget,
    ) -> Result<Tags, TagError> {
        check_version::<TagError>(of.version.as_deref())?;
        let look = |view: &ReadView, target: &Target| {
            Ok(view.get::<pb::ObjectRow>(&target.place.current())?)
        };
        let (target, row) = self.look::<_, TagError>(&of.bucket, &of.key, look).await?;
        match row {
            Some(row) => Ok(row.value.tags),
            None => Err(NoSuchKey {
                key: target.key().to_owned(),
            }
            .into()),
        }
    }

    /// Replaces the tags of an object; an empty set removes them.
    ///
    /// # Errors
    /// See [`TagError`].
    pub async fn set_tags<A: ChangesTags>(
        &self,
        _authorized: &Authorized<A>,
        cx: &Cx,
        of: &TagTarget,
        tags: Tags,
    ) -> Result<(), TagError> {
        let target = self.tag_target(of).await?;
        self.commit::<(), NoSuchKey>(cx, |txn| {
            let key = target.place.current();
            let Some(row) = txn.get::<pb::ObjectRow>(&key)? else {
                return Err(Stop::Refused(NoSuchKey {
                    key: target.key().to_owned(),
                }));
            };
            let mut row = row.value;
            row.tags.clone_from(&tags);
            txn.put(key, &row);
            txn.event(object_event("object.tag", &target, &[]));
            Ok(())
        })
        .await
        .map_err(CommitFailure::into_error)
    }
}

/// The two actions that change tags.
pub trait ChangesTags: Action {}
impl ChangesTags for action::PutObjectTagging {}
impl ChangesTags for action::DeleteObjectTagging {}
