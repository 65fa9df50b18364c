//! Listings of many rows: of one moment, in bounded steps, and bounded as a whole.

use super::lab::*;
use crate::namespaces;
use crate::page::{ListStep, Listed};
use crate::rows::{NameKind, NameRow, id_bytes};
use crate::*;
use floeberg_metastore::{PageLimit, VIEW_LASTS};
use floeberg_types::{NamespaceId, TableName};
use std::time::Duration;
use tokio::sync::Notify;

async fn namespace_id(lab: &Lab) -> NamespaceId {
    let view = lab.store.local();
    let found =
        namespaces::existing::<LoadNamespaceError>(&view, lab.bucket_id().await, &ns(&["ns"]));
    found.unwrap().id
}

/// Puts names of tables into the namespace, or takes them out, in one command.
async fn names(lab: &Lab, put: bool, names: impl Iterator<Item = String> + Clone + Send + Sync) {
    let namespace = namespace_id(lab).await;
    let row = NameRow {
        kind: NameKind::Table.into(),
        id: id_bytes(&[7; 16]),
    };
    let change = |txn: &mut Txn<'_>| {
        for name in names.clone() {
            let key = keys::name(namespace, &name.parse::<TableName>().unwrap());
            if put {
                txn.put(key, &row);
            } else {
                txn.delete(key);
            }
        }
        Ok::<_, Outage>(())
    };
    lab.catalog.transact(&cx(), change).await.unwrap();
}

async fn list(lab: &Lab, page: PageRequest) -> Result<Page<TableName>, ListTablesError> {
    let (bucket, namespace) = (lake(), ns(&["ns"]));
    let catalog = &lab.catalog;
    let (proof, cx) = (allowed(), cx());
    let listed = catalog.list_table_names(&proof, &cx, &bucket, &namespace, &page);
    listed.await
}

#[tokio::test]
async fn a_listing_of_many_steps_is_of_one_moment() {
    let lab = Lab::with_namespace().await;
    let many = PageLimit::STEP.rows * 3;
    names(&lab, true, (0..many).map(|n| format!("m{n:06}"))).await;
    names(&lab, true, (0..50).map(|n| format!("z{n:03}"))).await;
    let writing = async {
        for n in 0..50 {
            names(&lab, true, std::iter::once(format!("a{n:03}"))).await;
            names(&lab, false, std::iter::once(format!("z{n:03}"))).await;
        }
    };
    let reading = async {
        let mut seen = Vec::new();
        for _ in 0..5 {
            let page = list(&lab, PageRequest::default()).await.unwrap();
            assert_eq!(page.next, None);
            assert!(page.items.is_sorted());
            let begins = |with: char| {
                let names = page.items.iter();
                names.filter(|name| name.as_str().starts_with(with)).count()
            };
            assert_eq!(begins('m'), many);
            // Each `a` was made before its `z` went.
            let (made, gone) = (begins('a'), 50 - begins('z'));
            assert!(made == gone || made == gone + 1, "{made} made, {gone} gone");
            seen.push(made);
        }
        seen
    };
    let ((), seen) = tokio::join!(writing, reading);
    assert!(seen.is_sorted());
    assert!(seen.last() > seen.first(), "nothing was written meanwhile");
}

#[tokio::test]
async fn pages_of_any_size_show_each_name_once() {
    let lab = Lab::with_namespace().await;
    let many = PageLimit::STEP.rows * 2 + 1;
    names(&lab, true, (0..many).map(|n| format!("t{n:06}"))).await;
    for size in [
        700,
        PageLimit::STEP.rows,
        PageLimit::STEP.rows + 1,
        many,
        many + 1,
    ] {
        let (mut seen, mut token) = (0, None);
        loop {
            let page = PageRequest {
                token,
                size: Some(size),
            };
            let page = list(&lab, page).await.unwrap();
            for name in &page.items {
                assert_eq!(name.as_str(), format!("t{seen:06}"));
                seen += 1;
            }
            if page.next.is_none() {
                break;
            }
            assert_eq!(page.items.len(), size, "only the last page is shorter");
            token = page.next;
        }
        assert_eq!(seen, many, "pages of {size}");
    }
}

#[tokio::test]
async fn what_is_too_much_for_one_answer_is_refused_or_comes_in_shorter_pages() {
    let lab = Lab::new().await;
    lab.create_bucket("lake").await.unwrap();
    let large = "x".repeat(64 << 10);
    let count = LISTING_BYTES_MAX / large.len() + 20;
    for n in 0..count {
        let request = CreateNamespace {
            bucket: lake(),
            namespace: ns(&[&format!("n{n:04}")]),
            properties: [("p".to_owned(), large.clone())].into(),
        };
        lab.catalog
            .create_namespace(&allowed(), &cx(), &request)
            .await
            .unwrap();
    }
    let list = async |page: PageRequest| {
        let request = ListNamespaces {
            bucket: lake(),
            parent: None,
            prefix: String::new(),
            page,
        };
        lab.catalog
            .list_namespaces(&allowed(), &cx(), &request)
            .await
    };
    let refused = list(PageRequest::default()).await.unwrap_err();
    assert!(matches!(
        refused,
        ListNamespacesError::Listing(ListingRefused::TooLarge)
    ));
    assert!(refused.to_string().contains("32 MiB"), "{refused}");
    let first = list(PageRequest {
        token: None,
        size: Some(1000),
    });
    let first = first.await.unwrap();
    assert!(first.items.len() < count);
    let rest = list(PageRequest {
        token: first.next,
        size: Some(1000),
    });
    let rest = rest.await.unwrap();
    assert_eq!(first.items.len() + rest.items.len(), count);
    assert_eq!(rest.next, None);
}

/// An item that weighs nothing.
struct Nothing;

impl Listed for Nothing {
    fn bytes(&self) -> usize {
        0
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_takes_longer_than_its_view_lasts_is_refused() {
    let lab = Lab::new().await;
    let begun = Arc::new(Notify::new());
    let begins = Arc::clone(&begun);
    let endless = move |_: &ReadView, _: &ListStep| {
        begins.notify_one();
        Ok::<_, ListTablesError>(Page {
            items: vec![Nothing],
            next: Some(String::new()),
        })
    };
    let wanted = PageRequest::default();
    let listing = lab.catalog.gather(&wanted, endless);
    let time = async {
        begun.notified().await;
        tokio::time::advance(VIEW_LASTS + Duration::from_millis(1)).await;
    };
    let (listed, ()) = tokio::join!(listing, time);
    let refused = listed.map(|page| page.items.len()).unwrap_err();
    assert!(matches!(
        refused,
        ListTablesError::Listing(ListingRefused::TooSlow)
    ));
}
