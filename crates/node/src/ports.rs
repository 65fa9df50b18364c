//! The ports between the catalog and the objects: two siblings that never see each other.
//!
//! Objects ask which buckets exist and which keys belong to tables; the catalog asks for metadata
//! files that clients wrote as objects.

use async_trait::async_trait;
use bytes::BytesMut;
use floeberg_auth::{Authorizer, Principal, Resource, action};
use floeberg_catalog as catalog;
use floeberg_env::Peer;
use floeberg_metastore::Cx;
use floeberg_objects as objects;
use floeberg_types::{BucketId, BucketName};
use futures::TryStreamExt as _;
use objects::{ObjectKey, Objects, ReadConditions, ReadRequest, Selection};
use parking_lot::RwLock;
use std::sync::Arc;

/// Buckets and table files, answered by the catalog.
pub(crate) struct CatalogPort(pub(crate) catalog::Catalog);

fn outage(outage: catalog::Outage) -> objects::errors::Outage {
    match outage {
        catalog::Outage::Unavailable
        | catalog::Outage::TooManyDocuments(_)
        | catalog::Outage::Exhausted(_) => objects::errors::Outage::Unavailable,
        catalog::Outage::Crowded(crowded) => objects::errors::Outage::Crowded(crowded),
        catalog::Outage::Indefinite => objects::errors::Outage::Indefinite,
        catalog::Outage::TooLarge(large) => objects::errors::Outage::TooLarge(large),
        catalog::Outage::Storage(source) => objects::errors::Outage::Storage(source),
        // Nothing of S3 carries an idempotency key.
        catalog::Outage::KeyUsed(used) => objects::errors::Outage::storage(used),
    }
}

fn bucket(info: catalog::BucketInfo) -> objects::BucketInfo {
    objects::BucketInfo {
        id: info.id,
        name: info.name,
        kind: match info.kind {
            catalog::BucketKind::Table => objects::BucketKind::Table,
            catalog::BucketKind::General => objects::BucketKind::General,
        },
        created_at: info.created_at,
        deletion: match info.state {
            catalog::BucketState::Live => None,
            catalog::BucketState::Deleting { deletion } => Some(deletion),
        },
    }
}

/// How a step that may end a bucket's deletion turned out.
fn ended(
    outcome: Result<catalog::DeletionEnd, catalog::DeleteBucketError>,
) -> Result<objects::DeletionEnd, objects::errors::Outage> {
    match outcome {
        Ok(catalog::DeletionEnd::Aborted) => Ok(objects::DeletionEnd::Aborted),
        // Ids are never used again: a bucket that is not there any more has been removed.
        Ok(catalog::DeletionEnd::Removed) | Err(catalog::DeleteBucketError::NoSuchBucket(_)) => {
            Ok(objects::DeletionEnd::Removed)
        }
        Err(catalog::DeleteBucketError::NotEmpty(error)) => {
            Err(objects::errors::Outage::storage(error))
        }
        Err(catalog::DeleteBucketError::Outage(source)) => Err(outage(source)),
    }
}

fn entry(entry: catalog::MetadataEntry) -> objects::MetadataEntry {
    objects::MetadataEntry {
        key: entry.key,
        etag: entry.etag,
        len: entry.len,
        modified: entry.modified,
    }
}

#[async_trait]
impl objects::Buckets for CatalogPort {
    async fn find(
        &self,
        name: &BucketName,
    ) -> Result<Option<objects::BucketInfo>, objects::errors::Outage> {
        Ok(self.0.find_bucket(name).await.map_err(outage)?.map(bucket))
    }

    async fn find_lately(
        &self,
        name: &BucketName,
    ) -> Result<Option<objects::BucketInfo>, objects::errors::Outage> {
        let found = self.0.find_bucket_lately(name).await.map_err(outage)?;
        Ok(found.map(bucket))
    }

    async fn create(
        &self,
        cx: &Cx,
        name: BucketName,
    ) -> Result<objects::BucketInfo, objects::CreateBucketError> {
        match self.0.create_general_bucket(cx, name.as_str()).await {
            Ok(info) => Ok(bucket(info)),
            Err(catalog::CreateBucketError::Exists(_)) => {
                Err(objects::errors::BucketExists { bucket: name }.into())
            }
            // The caller has checked the name by the same rules.
            Err(catalog::CreateBucketError::InvalidName(error)) => {
                Err(objects::errors::Outage::storage(error).into())
            }
            Err(catalog::CreateBucketError::Outage(source)) => Err(outage(source).into()),
        }
    }

    async fn begin_delete(
        &self,
        cx: &Cx,
        bucket: &objects::BucketInfo,
    ) -> Result<u64, objects::BeginDeleteError> {
        let begun = self.0.begin_delete_bucket(cx, &bucket.name, bucket.id);
        match begun.await {
            Ok(deletion) => Ok(deletion),
            Err(catalog::DeleteBucketError::NoSuchBucket(_)) => {
                Err(objects::errors::NoSuchBucket {
                    bucket: bucket.name.clone(),
                }
                .into())
            }
            Err(catalog::DeleteBucketError::NotEmpty(error)) => {
                Err(objects::errors::Outage::storage(error).into())
            }
            Err(catalog::DeleteBucketError::Outage(source)) => Err(outage(source).into()),
        }
    }

    async fn abort_delete(
        &self,
        cx: &Cx,
        bucket: &objects::BucketInfo,
        deletion: u64,
    ) -> Result<objects::DeletionEnd, objects::errors::Outage> {
        let (name, id) = (&bucket.name, bucket.id);
        let aborted = self.0.abort_delete_bucket(cx, name, id, deletion).await;
        ended(aborted.map(|()| catalog::DeletionEnd::Aborted))
    }

    async fn finish_delete(
        &self,
        cx: &Cx,
        bucket: &objects::BucketInfo,
        deletion: u64,
    ) -> Result<objects::DeletionEnd, objects::errors::Outage> {
        let (name, id) = (&bucket.name, bucket.id);
        ended(self.0.finish_delete_bucket(cx, name, id, deletion).await)
    }

    async fn list(&self) -> Result<Vec<objects::BucketInfo>, objects::errors::Outage> {
        let all = self.0.all_buckets().await.map_err(outage)?;
        Ok(all.into_iter().map(bucket).collect())
    }
}

#[async_trait]
impl objects::TableFiles for CatalogPort {
    async fn locate(
        &self,
        bucket: BucketId,
        key: &str,
    ) -> Result<objects::Location, objects::errors::Outage> {
        Ok(match self.0.locate(bucket, key).await.map_err(outage)? {
            catalog::FileLocation::Live => objects::Location::Live,
            catalog::FileLocation::Staged => objects::Location::Staged,
            catalog::FileLocation::Dropped => objects::Location::Dropped,
            catalog::FileLocation::Outside => objects::Location::Outside,
        })
    }

    async fn metadata_file(
        &self,
        bucket: BucketId,
        key: &str,
    ) -> Result<Option<objects::MetadataFile>, objects::errors::Outage> {
        let Some(file) = self.0.metadata_file(bucket, key).await.map_err(outage)? else {
            return Ok(None);
        };
        let catalog = self.0.clone();
        let described = entry(file.entry.clone());
        let render = move |caller| -> futures::future::BoxFuture<'static, _> {
            Box::pin(async move {
                catalog
                    .render_metadata_file(caller, &file)
                    .await
                    .map_err(outage)
            })
        };
        Ok(Some(objects::MetadataFile {
            entry: described,
            render: Box::new(render),
        }))
    }

    async fn metadata_files(
        &self,
        bucket: BucketId,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<objects::MetadataEntry>, objects::errors::Outage> {
        let found = self
            .0
            .metadata_files(bucket, prefix, after, limit)
            .await
            .map_err(outage)?;
        Ok(found.into_iter().map(entry).collect())
    }
}

/// Metadata files that clients wrote, read through the object service.
pub(crate) struct ObjectsPort {
    /// Set once both services exist: each needs the other. Empty again when the node ends, because
    /// the services would keep each other, and with them the open stores, for ever.
    services: RwLock<Option<(Arc<Objects>, catalog::Catalog)>>,
    principal: Principal,
}

impl ObjectsPort {
    /// Reads as `principal`, which must be allowed to read every bucket.
    pub(crate) fn new(principal: Principal) -> Self {
        Self {
            services: RwLock::new(None),
            principal,
        }
    }

    pub(crate) fn connect(&self, objects: Arc<Objects>, catalog: catalog::Catalog) {
        *self.services.write() = Some((objects, catalog));
    }

    pub(crate) fn disconnect(&self) {
        *self.services.write() = None;
    }

    async fn open(
        &self,
        id: BucketId,
        key: &str,
    ) -> Result<objects::Opened, catalog::ReadMetadataError> {
        let unavailable = || catalog::ReadMetadataError::Outage(catalog::Outage::Unavailable);
        let services = self.services.read().clone();
        let (objects, catalog) = services.ok_or_else(unavailable)?;
        let buckets = catalog.all_buckets().await?;
        let bucket = buckets.into_iter().find(|b| b.id == id);
        let bucket = bucket.ok_or(catalog::ReadMetadataError::NotFound)?.name;
        let key = ObjectKey::new(key).map_err(|_| catalog::ReadMetadataError::NotFound)?;
        let resource = Resource::Object {
            bucket: &bucket,
            key: key.as_str(),
        };
        let allowed = Authorizer
            .authorize::<action::GetObject>(&self.principal, resource)
            .map_err(catalog::Outage::storage)?;
        let request = ReadRequest {
            bucket,
            key,
            version: None,
            selection: Selection::default(),
            conditions: ReadConditions::default(),
            caller: Peer::INSIDE,
        };
        objects
            .get(&allowed, &request)
            .await
            .map_err(|error| match error {
                objects::errors::GetError::NoSuchKey(_)
                | objects::errors::GetError::NoSuchBucket(_) => {
                    catalog::ReadMetadataError::NotFound
                }
                objects::errors::GetError::Outage(objects::errors::Outage::Unavailable) => {
                    unavailable()
                }
                other => catalog::Outage::storage(other).into(),
            })
    }
}

#[async_trait]
impl catalog::MetadataReader for ObjectsPort {
    async fn find(
        &self,
        bucket: BucketId,
        key: &str,
    ) -> Result<catalog::FoundFile, catalog::ReadMetadataError> {
        let opened = self.open(bucket, key).await?;
        let len = opened.found.head.size;
        let bytes = async move {
            // Room that doubles would take more than the reader holds.
            let room = BytesMut::with_capacity(usize::try_from(len).unwrap_or(0));
            let gather = opened.stream.try_fold(room, |mut all, part| async move {
                all.extend_from_slice(&part);
                Ok(all)
            });
            Ok(gather.await.map_err(catalog::Outage::storage)?.freeze())
        };
        Ok(catalog::FoundFile {
            len,
            bytes: Box::pin(bytes),
        })
    }
}
