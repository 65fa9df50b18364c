//! Buckets: table buckets and general purpose buckets share one name space.

use crate::errors::{
    BucketExists, BucketNotEmpty, BucketOwner, CreateBucketError, DamagedRow, DeleteBucketError,
    GetTableBucketError, ListBucketsError, NoSuchBucket, Outage,
};
use crate::page::{self, ListStep, Listed, Page, PageError, PageRequest};
use crate::rows::{self, BucketRow, bucket_id, stored};
use crate::{Catalog, keys};
use floeberg_auth::{Authorized, action};
use floeberg_metastore::{Cx, RangeState, ReadView, Rows, StoreError, Txn};
use floeberg_state::Event;
use floeberg_types::{AccountId, BucketId, BucketName, TimestampMs};
use std::collections::BTreeMap;
use std::time::Duration;

/// How old the rows may be that [`Catalog::find_bucket_lately`] reads. Two elections fit into half of it,
/// after which a proof is renewed.
pub const LATELY: Duration = Duration::from_secs(10);

/// Whose rules a bucket follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketKind {
    /// Holds namespaces and tables; keys belong to tables.
    Table,
    /// An ordinary S3 bucket.
    General,
}

/// Whether a bucket takes part in use cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketState {
    /// It does.
    Live,
    /// A general purpose bucket whose deletion has begun: the object groups are being fenced.
    Deleting {
        /// Which one: the deletions of a bucket are numbered from 1.
        deletion: u64,
    },
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketInfo {
    /// Never reused, also not after deletion and creation under the same name.
    pub id: BucketId,
    /// The name clients use.
    pub name: BucketName,
    /// Whose rules it follows.
    pub kind: BucketKind,
    /// Whether it takes part in use cases.
    pub state: BucketState,
    /// The account that owns it.
    pub account: AccountId,
    /// The principal that created it.
    pub created_by: String,
    /// When it was created.
    pub created_at: TimestampMs,
    /// Settings as key and value.
    pub properties: BTreeMap<String, String>,
}

/// What a new table bucket is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateTableBucket {
    /// Its name; the naming rules of S3 Tables are checked here.
    pub name: String,
    /// Settings as key and value.
    pub properties: BTreeMap<String, String>,
}

/// Which buckets are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListBuckets {
    /// Only names that begin with this.
    pub prefix: String,
    /// Which page.
    pub page: PageRequest,
}

pub(crate) fn info(name: BucketName, row: BucketRow) -> Result<BucketInfo, DamagedRow> {
    let unknown = |what: &str| DamagedRow {
        row: "bucket",
        detail: format!("unknown {what}"),
    };
    let kind = match row.kind() {
        rows::BucketKind::Table => BucketKind::Table,
        rows::BucketKind::General => BucketKind::General,
        rows::BucketKind::Unspecified => return Err(unknown("kind")),
    };
    let state = match row.state() {
        rows::BucketState::Live => BucketState::Live,
        rows::BucketState::Deleting => BucketState::Deleting {
            deletion: row.deletions,
        },
        rows::BucketState::Unspecified => return Err(unknown("state")),
    };
    Ok(BucketInfo {
        id: bucket_id(&row.id)?,
        name,
        kind,
        state,
        account: stored("bucket", row.account.parse())?,
        created_by: row.created_by,
        created_at: TimestampMs(row.created_at_ms),
        properties: row.properties,
    })
}

/// The bucket of a name, of either kind and state.
pub(crate) fn find<E>(rows: &impl Rows, name: &BucketName) -> Result<Option<BucketInfo>, E>
where
    E: From<StoreError> + From<DamagedRow>,
{
    let row = rows.get::<BucketRow>(&keys::bucket(name))?;
    Ok(row.map(|row| info(name.clone(), row.value)).transpose()?)
}

/// The table bucket of a name.
pub(crate) fn table_bucket<E>(rows: &impl Rows, name: &BucketName) -> Result<BucketInfo, E>
where
    E: From<StoreError> + From<DamagedRow> + From<NoSuchBucket>,
{
    match find::<E>(rows, name)? {
        Some(bucket) if bucket.kind == BucketKind::Table => Ok(bucket),
        _ => Err(NoSuchBucket {
            bucket: name.clone(),
        }
        .into()),
    }
}

fn create(
    txn: &mut Txn<'_>,
    cx: &Cx,
    name: &BucketName,
    kind: BucketKind,
    properties: BTreeMap<String, String>,
) -> Result<BucketInfo, CreateBucketError> {
    if let Some(found) = find::<CreateBucketError>(txn, name)? {
        let caller = found.account == cx.account;
        let owner = if caller {
            BucketOwner::Caller
        } else {
            BucketOwner::Another
        };
        return Err(BucketExists {
            bucket: name.clone(),
            owner,
        }
        .into());
    }
    let row = BucketRow {
        id: rows::id_bytes(&txn.new_id()),
        kind: match kind {
            BucketKind::Table => rows::BucketKind::Table,
            BucketKind::General => rows::BucketKind::General,
        }
        .into(),
        state: rows::BucketState::Live.into(),
        account: cx.account.to_string(),
        created_by: cx.principal.to_string(),
        created_at_ms: txn.now().0,
        properties,
        ..BucketRow::default()
    };
    txn.put(keys::bucket(name), &row);
    txn.event(event("bucket.create", name));
    Ok(info(name.clone(), row)?)
}

pub(crate) fn event(kind: &str, bucket: &BucketName) -> Event {
    Event {
        kind: kind.to_owned(),
        resource: format!("bucket/{bucket}"),
        ..Event::default()
    }
}

impl Catalog {
    /// Creates a table bucket.
    ///
    /// # Errors
    /// The name breaks a rule or is taken.
    pub async fn create_table_bucket(
        &self,
        _: &Authorized<action::CreateTableBucket>,
        cx: &Cx,
        request: CreateTableBucket,
    ) -> Result<BucketInfo, CreateBucketError> {
        let name = BucketName::for_tables(&request.name)?;
        let properties = request.properties;
        self.transact(cx, |txn| {
            create(txn, cx, &name, BucketKind::Table, properties.clone())
        })
        .await
    }

    /// Describes a table bucket.
    ///
    /// # Errors
    /// There is no such table bucket.
    pub async fn get_table_bucket(
        &self,
        _: &Authorized<action::GetTableBucket>,
        _cx: &Cx,
        name: &BucketName,
    ) -> Result<BucketInfo, GetTableBucketError> {
        self.read(|rows| table_bucket(rows, name)).await
    }

    /// Lists table buckets by name.
    ///
    /// # Errors
    /// The page token is of another listing.
    pub async fn list_table_buckets(
        &self,
        _: &Authorized<action::ListTableBuckets>,
        _cx: &Cx,
        request: &ListBuckets,
    ) -> Result<Page<BucketInfo>, ListBucketsError> {
        let prefix = request.prefix.clone();
        let list = move |view: &ReadView, step: &ListStep| {
            let mut page = list_all(view, &prefix, step)?;
            page.items.retain(|bucket| bucket.kind == BucketKind::Table);
            Ok::<_, ListBucketsError>(page)
        };
        self.gather(&request.page, list).await
    }

    /// Deletes a table bucket that holds no namespace.
    ///
    /// # Errors
    /// There is no such table bucket, or it is not empty.
    pub async fn delete_table_bucket(
        &self,
        _: &Authorized<action::DeleteTableBucket>,
        cx: &Cx,
        name: &BucketName,
    ) -> Result<(), DeleteBucketError> {
        self.transact(cx, |txn| {
            let bucket: BucketInfo = table_bucket::<DeleteBucketError>(txn, name)?;
            let namespaces = keys::namespaces(bucket.id);
            if txn.require_empty(&namespaces)? == RangeState::Occupied {
                return Err(BucketNotEmpty {
                    bucket: name.clone(),
                }
                .into());
            }
            txn.delete(keys::bucket(name));
            txn.event(event("bucket.delete", name));
            Ok(())
        })
        .await
    }
}

impl Listed for BucketInfo {
    fn bytes(&self) -> usize {
        let properties = self.properties.iter();
        let properties: usize = properties.map(|(key, value)| key.len() + value.len()).sum();
        256 + self.name.as_str().len() + self.created_by.len() + properties
    }
}

fn list_all(
    view: &ReadView,
    prefix: &str,
    step: &ListStep,
) -> Result<Page<BucketInfo>, ListBucketsError> {
    let (scope, prefix) = (keys::buckets(""), keys::buckets(prefix));
    let found = page::list::<BucketRow>(view, &scope, &prefix, step).map_err(|e| match e {
        PageError::Token(e) => ListBucketsError::Listing(e),
        PageError::Store(e) => e.into(),
    })?;
    found.try_map(|(key, row)| {
        let name = stored("bucket", keys::bucket_name(&key))?;
        Ok(info(stored("bucket", BucketName::for_lookup(&name))?, row)?)
    })
}

/// For the object service, which holds the caller's authorization for these.
impl Catalog {
    /// The bucket of a name, of either kind and state.
    ///
    /// # Errors
    /// Only outages.
    pub async fn find_bucket(&self, name: &BucketName) -> Result<Option<BucketInfo>, Outage> {
        self.read(|rows| find(rows, name)).await
    }

    /// As [`Self::find_bucket`], from rows in which everything is seen that was acknowledged longer than
    /// [`LATELY`] ago: what is found may be gone since, and what is not found may be there.
    ///
    /// # Errors
    /// Only outages.
    pub async fn find_bucket_lately(
        &self,
        name: &BucketName,
    ) -> Result<Option<BucketInfo>, Outage> {
        let view = self.inner.store.view_within(LATELY).await;
        find(&view.map_err(|_| Outage::Unavailable)?, name)
    }

    /// Every bucket of either kind, by name.
    ///
    /// # Errors
    /// Only outages.
    pub async fn all_buckets(&self) -> Result<Vec<BucketInfo>, Outage> {
        let list = |view: &ReadView, step: &ListStep| list_all(view, "", step);
        match self.gather(&PageRequest::default(), list).await {
            Ok(page) => Ok(page.items),
            Err(ListBucketsError::Outage(outage)) => Err(outage),
            Err(ListBucketsError::Listing(e)) => Err(Outage::storage(e)),
        }
    }

    /// Creates a general purpose bucket; the naming rules of Amazon S3 are checked here.
    ///
    /// # Errors
    /// The name breaks a rule or is taken.
    pub async fn create_general_bucket(
        &self,
        cx: &Cx,
        name: &str,
    ) -> Result<BucketInfo, CreateBucketError> {
        let name = BucketName::for_objects(name)?;
        self.transact(cx, |txn| {
            create(txn, cx, &name, BucketKind::General, BTreeMap::new())
        })
        .await
    }
}
