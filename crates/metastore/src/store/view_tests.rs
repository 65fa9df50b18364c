//! What readers see: rows of one moment, in pages, for a while.

use super::*;
use crate::testing::{Medium, Node, add, cx, key, value};
use crate::{PageLimit, Rows, StoreError, UsageRow, VIEW_LASTS};
use floeberg_env::Env;
use floeberg_kv::MemKvStore;
use floeberg_raftlog::MemLogStore;
use std::time::Duration;

/// Adds one to each of `names` in one command.
async fn add_to(store: &Store, names: &[&str]) {
    let each = |txn: &mut Txn<'_>| {
        names
            .iter()
            .try_for_each(|name| add(txn, name, 1).map(drop))
    };
    store.transact(&cx(), each).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_shows_one_moment_and_holds_up_nobody() {
    for medium in [Medium::mem(), Medium::rocks()] {
        let env = Env::real();
        let node = Node::start(&env, &medium).await;
        let store = &node.store;
        add_to(store, &["a", "b"]).await;
        let view = store.view().await.unwrap();
        // Commits are applied while rows of the view are being read, on this thread and on others.
        for _ in 0..20 {
            let read = |view: &ReadView| {
                let rows = view.scan::<UsageRow>(&key(""), None, 10).unwrap();
                let values = rows.iter().map(|(_, row)| row.bytes);
                values.collect::<Vec<_>>()
            };
            let (here, there) = (read(&view), view.clone());
            add_to(store, &["a", "b", "c"]).await;
            assert_eq!(here, [1, 1]);
            assert_eq!(store.step(move || read(&there)).await.unwrap(), [1, 1]);
        }
        let newer = store.view().await.unwrap();
        assert!(newer.index() > view.index());
        assert_eq!(newer.index(), store.applied().last.unwrap().index);
        assert_eq!(value(&newer, "b").unwrap(), Some(21));
        drop((view, newer));
        store.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn pages_end_at_rows_or_at_bytes_and_say_whether_there_is_more() {
    let node = Node::start(&Env::real(), &Medium::mem()).await;
    let names = ["p/a", "p/b", "p/c", "q"];
    add_to(&node.store, &names).await;
    let view = node.store.view().await.unwrap();
    let page = |after: Option<&str>, rows, bytes| {
        let after = after.map(key);
        let limit = PageLimit { rows, bytes };
        let page = view.page::<UsageRow>(&key("p/"), after.as_deref(), limit);
        let page = page.unwrap();
        let names = page
            .rows
            .iter()
            .map(|(key, _)| key.last().copied().unwrap());
        (String::from_utf8(names.collect()).unwrap(), page.has_more)
    };
    let all = 1 << 20;
    assert_eq!(page(None, 2, all), ("ab".into(), true));
    assert_eq!(page(Some("p/b"), 2, all), ("c".into(), false));
    assert_eq!(page(None, 3, all), ("abc".into(), false));
    assert_eq!(page(Some("p/c"), 3, all), (String::new(), false));
    // A row larger than a page is a page.
    assert_eq!(page(None, 3, 1), ("a".into(), true));
    assert_eq!(page(None, 0, 0), ("a".into(), true));
    assert_eq!(page(Some("p/b"), 3, 1), ("c".into(), false));
}

#[tokio::test(start_paused = true)]
async fn a_view_that_is_too_old_says_so_and_a_new_one_is_had_at_once() {
    let (env, _) = Env::simulated(5);
    let node = Node::start(&env, &Medium::mem()).await;
    add_to(&node.store, &["a"]).await;
    let view = node.store.view().await.unwrap();
    tokio::time::advance(VIEW_LASTS - Duration::from_millis(1)).await;
    assert_eq!(value(&view, "a").unwrap(), Some(1));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(view.is_expired());
    assert!(matches!(value(&view, "a"), Err(StoreError::Expired)));
    let scanned = view.scan_prefix(&key("a"), None, 1);
    assert!(matches!(scanned, Err(StoreError::Expired)));
    // Its moment is still the newest one.
    assert_eq!(value(&node.store.local(), "a").unwrap(), Some(1));
}

#[tokio::test]
#[should_panic(expected = "rows of entry")]
async fn rows_older_than_what_was_waited_for_are_not_answered_from() {
    let kv = MemKvStore::new();
    let medium = Medium::Mem(kv.clone(), MemLogStore::new());
    let node = Node::start(&Env::real(), &medium).await;
    kv.age_snapshots(b"a row that is not there");
    for _ in 0..8 {
        add_to(&node.store, &["a"]).await;
        node.store.view().await.unwrap();
    }
}
