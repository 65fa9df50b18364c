//! Namespaces of a table bucket: nested, with properties.

use crate::buckets::{BucketInfo, table_bucket};
use crate::errors::{
    CreateNamespaceError, DamagedRow, DropNamespaceError, ListNamespacesError, LoadNamespaceError,
    NamespaceContents, NamespaceExists, NamespaceNotEmpty, NoSuchNamespace, PropertyConflict,
    UpdateNamespaceError,
};
use crate::page::{self, ListStep, Listed, Page, PageError, PageRequest};
use crate::rows::{NamespaceRow, id_bytes, namespace_id, stored};
use crate::{Catalog, admit, keys};
use floeberg_auth::{Authorized, action};
use floeberg_metastore::{Cx, RangeState, ReadView, Rows, StoreError, Txn};
use floeberg_state::Event;
use floeberg_types::{BucketId, BucketName, Namespace, NamespaceId, TimestampMs};
use std::collections::{BTreeMap, BTreeSet};

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceInfo {
    /// Never reused.
    pub id: NamespaceId,
    /// Its levels.
    pub namespace: Namespace,
    /// Its properties.
    pub properties: BTreeMap<String, String>,
    /// The principal that created it.
    pub created_by: String,
    /// When it was created.
    pub created_at: TimestampMs,
}

/// What a new namespace is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateNamespace {
    /// The table bucket.
    pub bucket: BucketName,
    /// Its levels; the namespace around it must exist.
    pub namespace: Namespace,
    /// Its properties.
    pub properties: BTreeMap<String, String>,
}

/// Which namespaces are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListNamespaces {
    /// The table bucket.
    pub bucket: BucketName,
    /// Direct children of this namespace; `None` for the outermost ones.
    pub parent: Option<Namespace>,
    /// Only those whose last level begins with this.
    pub prefix: String,
    /// Which page.
    pub page: PageRequest,
}

/// Changes of a namespace's properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateProperties {
    /// The table bucket.
    pub bucket: BucketName,
    /// The namespace.
    pub namespace: Namespace,
    /// Keys to remove.
    pub removals: BTreeSet<String>,
    /// Keys to set.
    pub updates: BTreeMap<String, String>,
}

/// What became of the keys of an [`UpdateProperties`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PropertiesUpdated {
    /// Set.
    pub updated: Vec<String>,
    /// Removed.
    pub removed: Vec<String>,
    /// To be removed, but not there.
    pub missing: Vec<String>,
}

pub(crate) fn of_row(row: NamespaceRow) -> Result<NamespaceInfo, DamagedRow> {
    Ok(NamespaceInfo {
        id: namespace_id(&row.id)?,
        namespace: stored("namespace", Namespace::new(row.levels))?,
        properties: row.properties,
        created_by: row.created_by,
        created_at: TimestampMs(row.created_at_ms),
    })
}

/// The namespace of a name, if it exists.
pub(crate) fn find<E>(
    rows: &impl Rows,
    bucket: BucketId,
    namespace: &Namespace,
) -> Result<Option<NamespaceInfo>, E>
where
    E: From<StoreError> + From<DamagedRow>,
{
    let row = rows.get::<NamespaceRow>(&keys::namespace(bucket, namespace))?;
    Ok(row.map(|row| of_row(row.value)).transpose()?)
}

/// The namespace of a name, which must exist.
pub(crate) fn existing<E>(
    rows: &impl Rows,
    bucket: BucketId,
    namespace: &Namespace,
) -> Result<NamespaceInfo, E>
where
    E: From<StoreError> + From<DamagedRow> + From<NoSuchNamespace>,
{
    find::<E>(rows, bucket, namespace)?.ok_or_else(|| {
        NoSuchNamespace {
            namespace: namespace.clone(),
        }
        .into()
    })
}

fn event(kind: &str, bucket: &BucketName, namespace: &Namespace) -> Event {
    let resource = format!("bucket/{bucket}/namespace/{namespace}");
    Event {
        kind: kind.to_owned(),
        resource,
        ..Event::default()
    }
}

impl Listed for NamespaceInfo {
    fn bytes(&self) -> usize {
        let levels: usize = self.namespace.levels().iter().map(String::len).sum();
        let properties = self.properties.iter();
        let properties: usize = properties.map(|(key, value)| key.len() + value.len()).sum();
        128 + levels + properties
    }
}

fn list(
    view: &ReadView,
    request: &ListNamespaces,
    step: &ListStep,
) -> Result<Page<NamespaceInfo>, ListNamespacesError> {
    let bucket = table_bucket::<ListNamespacesError>(view, &request.bucket)?;
    let parent = request.parent.as_ref();
    if let Some(parent) = parent {
        existing::<ListNamespacesError>(view, bucket.id, parent)?;
    }
    let scope = keys::children(bucket.id, parent, "");
    let prefix = keys::children(bucket.id, parent, &request.prefix);
    let page = page::list::<NamespaceRow>(view, &scope, &prefix, step).map_err(|e| match e {
        PageError::Token(e) => ListNamespacesError::Listing(e),
        PageError::Store(e) => e.into(),
    })?;
    page.try_map(|(_, row)| Ok(of_row(row)?))
}

impl Catalog {
    /// Creates a namespace.
    ///
    /// # Errors
    /// It exists, or the namespace around it does not.
    pub async fn create_namespace(
        &self,
        _: &Authorized<action::CreateNamespace>,
        cx: &Cx,
        request: &CreateNamespace,
    ) -> Result<NamespaceInfo, CreateNamespaceError> {
        admit::namespace_properties(request.properties.iter(), 0)?;
        self.transact_once(cx, |txn| create(txn, cx, request)).await
    }

    /// Describes a namespace.
    ///
    /// # Errors
    /// It or its bucket does not exist.
    pub async fn load_namespace(
        &self,
        _: &Authorized<action::GetNamespace>,
        _cx: &Cx,
        bucket: &BucketName,
        namespace: &Namespace,
    ) -> Result<NamespaceInfo, LoadNamespaceError> {
        self.read(|rows| {
            let bucket = table_bucket::<LoadNamespaceError>(rows, bucket)?;
            existing(rows, bucket.id, namespace)
        })
        .await
    }

    /// Lists the direct children of a namespace, or the outermost namespaces, by name.
    ///
    /// # Errors
    /// The bucket or the parent does not exist, or the page token is of another listing.
    pub async fn list_namespaces(
        &self,
        _: &Authorized<action::ListNamespaces>,
        _cx: &Cx,
        request: &ListNamespaces,
    ) -> Result<Page<NamespaceInfo>, ListNamespacesError> {
        let request = request.clone();
        let wanted = request.page.clone();
        self.gather(&wanted, move |view, step| list(view, &request, step))
            .await
    }

    /// Drops a namespace that holds no table, view or namespace.
    ///
    /// # Errors
    /// It does not exist or is not empty.
    pub async fn drop_namespace(
        &self,
        _: &Authorized<action::DeleteNamespace>,
        cx: &Cx,
        bucket: &BucketName,
        namespace: &Namespace,
    ) -> Result<(), DropNamespaceError> {
        self.transact_once(cx, |txn| {
            let in_bucket = table_bucket::<DropNamespaceError>(txn, bucket)?;
            let found = existing::<DropNamespaceError>(txn, in_bucket.id, namespace)?;
            for (prefix, contents) in [
                (keys::names(found.id, ""), NamespaceContents::Tables),
                (
                    keys::children(in_bucket.id, Some(namespace), ""),
                    NamespaceContents::Namespaces,
                ),
            ] {
                if txn.require_empty(&prefix)? == RangeState::Occupied {
                    return Err(NamespaceNotEmpty {
                        namespace: namespace.clone(),
                        contents,
                    }
                    .into());
                }
            }
            txn.delete(keys::namespace(in_bucket.id, namespace));
            txn.event(event("namespace.drop", bucket, namespace));
            Ok(())
        })
        .await
    }

    /// Sets and removes properties of a namespace.
    ///
    /// # Errors
    /// It does not exist, or one key is both set and removed.
    pub async fn update_namespace(
        &self,
        _: &Authorized<action::UpdateNamespaceProperties>,
        cx: &Cx,
        request: &UpdateProperties,
    ) -> Result<PropertiesUpdated, UpdateNamespaceError> {
        if let Some(key) = request
            .removals
            .iter()
            .find(|k| request.updates.contains_key(*k))
        {
            return Err(PropertyConflict { key: key.clone() }.into());
        }
        admit::namespace_properties(request.updates.iter(), request.removals.len())?;
        self.transact_once(cx, |txn| update(txn, request)).await
    }
}

fn create(
    txn: &mut Txn<'_>,
    cx: &Cx,
    request: &CreateNamespace,
) -> Result<NamespaceInfo, CreateNamespaceError> {
    let bucket: BucketInfo = table_bucket::<CreateNamespaceError>(txn, &request.bucket)?;
    let namespace = &request.namespace;
    if let Some(parent) = namespace.parent() {
        existing::<CreateNamespaceError>(txn, bucket.id, &parent)?;
    }
    if find::<CreateNamespaceError>(txn, bucket.id, namespace)?.is_some() {
        return Err(NamespaceExists {
            namespace: namespace.clone(),
        }
        .into());
    }
    let row = NamespaceRow {
        id: id_bytes(&txn.new_id()),
        levels: namespace.levels().to_vec(),
        properties: request.properties.clone(),
        created_by: cx.principal.to_string(),
        created_at_ms: txn.now().0,
    };
    txn.put(keys::namespace(bucket.id, namespace), &row);
    txn.event(event("namespace.create", &request.bucket, namespace));
    Ok(of_row(row)?)
}

fn update(
    txn: &mut Txn<'_>,
    request: &UpdateProperties,
) -> Result<PropertiesUpdated, UpdateNamespaceError> {
    let bucket = table_bucket::<UpdateNamespaceError>(txn, &request.bucket)?;
    let key = keys::namespace(bucket.id, &request.namespace);
    let missing = || NoSuchNamespace {
        namespace: request.namespace.clone(),
    };
    let old = txn.get::<NamespaceRow>(&key)?.ok_or_else(missing)?.value;
    let mut row = old.clone();
    let mut done = PropertiesUpdated::default();
    for key in &request.removals {
        let list = match row.properties.remove(key) {
            Some(_) => &mut done.removed,
            None => &mut done.missing,
        };
        list.push(key.clone());
    }
    for (key, value) in &request.updates {
        row.properties.insert(key.clone(), value.clone());
        done.updated.push(key.clone());
    }
    if row != old {
        // What is above the limit may only shrink.
        let bytes = |row: &NamespaceRow| -> usize {
            let pairs = row.properties.iter();
            pairs.map(|(name, value)| name.len() + value.len()).sum()
        };
        if bytes(&row) > bytes(&old) || row.properties.len() > old.properties.len() {
            admit::namespace_properties(row.properties.iter(), 0)?;
        }
        txn.put(key, &row);
        txn.event(event(
            "namespace.update",
            &request.bucket,
            &request.namespace,
        ));
    }
    Ok(done)
}
