//! Namespaces.

use super::lab::*;
use crate::*;
use floeberg_types::Namespace;
use std::collections::{BTreeMap, BTreeSet};

async fn list(
    lab: &Lab,
    parent: Option<Namespace>,
    prefix: &str,
    page: PageRequest,
) -> Page<String> {
    let request = ListNamespaces {
        bucket: lake(),
        parent,
        prefix: prefix.to_owned(),
        page,
    };
    let page = lab
        .catalog
        .list_namespaces(&allowed(), &cx(), &request)
        .await
        .unwrap();
    let names = page.items.iter().map(|n| n.namespace.to_string());
    Page {
        items: names.collect(),
        next: page.next,
    }
}

#[tokio::test]
async fn namespaces_nest_and_list() {
    let lab = Lab::new().await;
    let early = lab.create_namespace(&["a"]).await.unwrap_err();
    assert!(matches!(early, CreateNamespaceError::NoSuchBucket(_)));
    lab.create_bucket("lake").await.unwrap();
    let orphan = lab.create_namespace(&["a", "b"]).await.unwrap_err();
    assert_eq!(orphan.to_string(), "Namespace does not exist: a");
    for levels in [
        &["a"][..],
        &["ab"],
        &["b"],
        &["a", "b"],
        &["a", "c"],
        &["a", "b", "x"],
    ] {
        lab.create_namespace(levels).await.unwrap();
    }
    let again = lab.create_namespace(&["a"]).await.unwrap_err();
    assert_eq!(again.to_string(), "Namespace already exists: a");

    let all = PageRequest::default();
    assert_eq!(
        list(&lab, None, "", all.clone()).await.items,
        ["a", "ab", "b"]
    );
    assert_eq!(list(&lab, None, "a", all.clone()).await.items, ["a", "ab"]);
    assert_eq!(
        list(&lab, Some(ns(&["a"])), "", all).await.items,
        ["a.b", "a.c"]
    );
    let first = list(
        &lab,
        None,
        "",
        PageRequest {
            token: None,
            size: Some(2),
        },
    )
    .await;
    assert_eq!(first.items, ["a", "ab"]);
    let rest = list(
        &lab,
        None,
        "",
        PageRequest {
            token: first.next,
            size: Some(2),
        },
    )
    .await;
    assert_eq!(
        rest,
        Page {
            items: vec!["b".to_owned()],
            next: None
        }
    );

    let missing = ListNamespaces {
        bucket: lake(),
        parent: Some(ns(&["nope"])),
        prefix: String::new(),
        page: PageRequest::default(),
    };
    let missing = lab
        .catalog
        .list_namespaces(&allowed(), &cx(), &missing)
        .await;
    assert!(matches!(
        missing,
        Err(ListNamespacesError::NoSuchNamespace(_))
    ));
}

#[tokio::test]
async fn only_empty_namespaces_are_dropped() {
    let lab = Lab::with_namespace().await;
    let drop = async |levels: &[&str]| {
        lab.catalog
            .drop_namespace(&allowed(), &cx(), &lake(), &ns(levels))
            .await
    };
    lab.create_namespace(&["ns", "inner"]).await.unwrap();
    let nested = drop(&["ns"]).await.unwrap_err();
    assert!(
        nested
            .to_string()
            .starts_with("Namespace ns is not empty. "),
        "{nested}"
    );
    drop(&["ns", "inner"]).await.unwrap();
    lab.create("t").await.unwrap();
    let full = drop(&["ns"]).await.unwrap_err();
    assert!(
        matches!(full, DropNamespaceError::NotEmpty(e) if e.contents == NamespaceContents::Tables)
    );
    lab.drop("t").await.unwrap();
    drop(&["ns"]).await.unwrap();
    assert!(matches!(
        drop(&["ns"]).await,
        Err(DropNamespaceError::NoSuchNamespace(_))
    ));
    let loaded = lab
        .catalog
        .load_namespace(&allowed(), &cx(), &lake(), &ns(&["ns"]))
        .await;
    assert!(matches!(
        loaded,
        Err(LoadNamespaceError::NoSuchNamespace(_))
    ));
}

#[tokio::test]
async fn properties_are_set_and_removed() {
    let lab = Lab::with_namespace().await;
    let request = |removals: &[&str], updates: &[(&str, &str)]| UpdateProperties {
        bucket: lake(),
        namespace: ns(&["ns"]),
        removals: removals
            .iter()
            .map(|k| (*k).to_owned())
            .collect::<BTreeSet<_>>(),
        updates: updates
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
    };
    let update = async |request| {
        lab.catalog
            .update_namespace(&allowed(), &cx(), &request)
            .await
    };
    let done = update(request(&["gone"], &[("a", "1"), ("b", "2")]))
        .await
        .unwrap();
    assert_eq!(done.updated, ["a", "b"]);
    assert_eq!(done.missing, ["gone"]);
    let done = update(request(&["a"], &[])).await.unwrap();
    assert_eq!(done.removed, ["a"]);
    let loaded = lab
        .catalog
        .load_namespace(&allowed(), &cx(), &lake(), &ns(&["ns"]))
        .await
        .unwrap();
    assert_eq!(
        loaded.properties,
        BTreeMap::from([("b".to_owned(), "2".to_owned())])
    );
    let both = update(request(&["b"], &[("b", "3")])).await;
    assert!(matches!(both, Err(UpdateNamespaceError::Conflict(_))));
}
