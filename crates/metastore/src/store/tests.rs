//! Transactions over a running group: order, refusals, misses, abandoned and late outcomes.

use super::*;
use crate::testing::{
    GROUP, Medium, Node, add, config, counter, create, cx, key, stored, try_start, value,
};
use crate::{Event, FlushPolicy, Rows, UsageDelta, UsageKey};
use bytes::Bytes;
use floeberg_consensus::GroupStartError;
use floeberg_env::Env;
use floeberg_kv::MemKvStore;
use floeberg_raftlog::{LogStore as _, MemLog, MemLogStore};
use floeberg_types::{BucketId, ClusterId};
use futures::future::join_all;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Polls a future once, so that it has submitted its command but does not know the outcome.
async fn poll_once<F: Future + Unpin>(future: &mut F) {
    poll_fn(|cx| {
        assert!(std::pin::Pin::new(&mut *future).poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_increments_add_up_and_share_syncs() {
    for medium in [Medium::mem(), Medium::rocks()] {
        let env = Env::real();
        let node = Node::start(&env, &medium).await;
        let worker = |n: usize| {
            let store = node.store.clone();
            let own = format!("own-{n}");
            tokio::spawn(async move {
                for _ in 0..25 {
                    let both = |txn: &mut Txn<'_>| {
                        add(txn, "shared", 1)?;
                        add(txn, &own, 1)
                    };
                    store.transact(&cx(), both).await.unwrap();
                }
            })
        };
        for worker in (0..40).map(worker).collect::<Vec<_>>() {
            worker.await.unwrap();
        }
        assert_eq!(node.applied("shared"), Some(1000));
        assert!((0..40).all(|n| node.applied(&format!("own-{n}")) == Some(25)));
        assert_eq!(node.metrics.commits.get(), 1000);
        // Every decision saw what was in flight, so none was built on an old row.
        assert_eq!(node.metrics.misses.get(), 0);
        assert_eq!(node.store.in_flight_rows(), 0);
        assert_eq!(node.store.outcomes_awaited(), 0);
        if matches!(medium, Medium::Rocks(..)) {
            let syncs = node.log_metrics.fsyncs.get();
            assert!(syncs < 500, "{syncs} syncs for 1000 commits of 40 writers");
        }
        node.store.shutdown().await.unwrap();
        assert!(node.is_healthy());
    }
}

#[tokio::test]
async fn a_refusal_waits_for_the_proposal_it_rests_on() {
    let (env, _) = Env::simulated(1);
    let node = Node::gated(&env).await;
    let store = &node.store;
    let cx = cx();
    let mut first = pin!(store.transact(&cx, |txn| create(txn, "a", 1)));
    poll_once(&mut first).await;
    let mut second = pin!(store.transact(&cx, |txn| create(txn, "a", 2)));
    poll_once(&mut second).await;
    assert_eq!(node.applied("a"), None);
    assert_eq!(store.in_flight_rows(), 1);

    node.gate.open();
    let (created, refused) = tokio::join!(first, async {
        let refused = second.await;
        assert_eq!(
            node.applied("a"),
            Some(1),
            "refused before its reason was applied"
        );
        refused
    });
    assert!(created.unwrap().index.is_some());
    assert!(matches!(refused, Err(TransactError::Refused(Some(1)))));
    assert_eq!(node.metrics.commits.get(), 1);
}

#[tokio::test]
async fn a_refusal_that_rests_on_a_lost_proposal_is_evaluated_again() {
    let (env, _) = Env::simulated(2);
    let node = Node::gated(&env).await;
    let store = &node.store;
    let injected = node.inject("a", 77).await;
    let cx = cx();
    // Decided without the injected row, hence bound to miss.
    let mut first = pin!(store.transact(&cx, |txn| create(txn, "a", 1)));
    poll_once(&mut first).await;
    let mut second = pin!(store.transact(&cx, |txn| create(txn, "a", 2)));
    poll_once(&mut second).await;

    node.gate.open();
    let (_, first, second) = tokio::join!(injected, first, second);
    assert!(matches!(first, Err(TransactError::Refused(Some(77)))));
    assert!(
        matches!(second, Err(TransactError::Refused(Some(77)))),
        "refused for a lost row"
    );
    assert_eq!(node.metrics.misses.get(), 1);
    assert_eq!(store.in_flight_rows(), 0);
}

#[tokio::test]
async fn a_miss_and_everything_built_on_it_is_decided_again() {
    let (env, _) = Env::simulated(3);
    let node = Node::gated(&env).await;
    let store = &node.store;
    let injected = node.inject("a", 100).await;
    let ids = Mutex::new(Vec::new());
    let cx = cx();
    let increment = || {
        store.transact(&cx, |txn| {
            ids.lock().push((txn.commit_id(), txn.new_id()));
            add(txn, "a", 1)
        })
    };
    let mut all = join_all((0..5).map(|_| increment()));
    poll_once(&mut all).await;
    node.gate.open();
    let (_, all) = tokio::join!(injected, all);
    let mut sums: Vec<i64> = all.into_iter().map(|done| done.unwrap().value).collect();
    sums.sort_unstable();
    assert_eq!(sums, vec![101, 102, 103, 104, 105]);
    assert_eq!(node.applied("a"), Some(105));
    let mut ids = ids.into_inner();
    let evaluations = ids.len();
    assert_eq!(evaluations, 10, "five missed once");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), evaluations, "an id was given twice");
}

#[tokio::test]
async fn an_empty_range_that_fills_up_is_noticed() {
    let (env, _) = Env::simulated(4);
    let node = Node::gated(&env).await;
    let injected = node.inject("n/child", 1).await;
    let cx = cx();
    let mut dropped = pin!(
        node.store
            .transact(&cx, |txn| match txn.require_empty(&key("n/")) {
                Ok(crate::RangeState::Empty) => {
                    txn.delete(key("n"));
                    Ok(())
                }
                Ok(crate::RangeState::Occupied) => Err("not empty"),
                Err(_) => Err("storage"),
            })
    );
    poll_once(&mut dropped).await;
    node.gate.open();
    let (_, dropped) = tokio::join!(injected, dropped);
    assert!(matches!(dropped, Err(TransactError::Refused("not empty"))));
}

#[tokio::test]
async fn an_abandoned_transaction_still_ends_its_speculation() {
    let (env, _) = Env::simulated(5);
    let node = Node::gated(&env).await;
    let store = &node.store;
    let cx = cx();
    {
        let mut abandoned = Box::pin(store.transact(&cx, |txn| add(txn, "a", 1)));
        poll_once(&mut abandoned).await;
    }
    assert_eq!(store.in_flight_rows(), 1);
    node.gate.open();
    let next = store.transact(&cx, |txn| add(txn, "a", 1)).await.unwrap();
    assert_eq!(next.value, 2, "the abandoned command stands");
    assert_eq!(store.in_flight_rows(), 0);
}

#[tokio::test]
async fn a_commit_that_outlives_its_deadline_is_indefinite() {
    let (env, _) = Env::simulated(6);
    let node = Node::gated(&env).await;
    let store = &node.store;
    let hasty = Cx {
        deadline: Some(Instant::now() + Duration::from_millis(20)),
        ..cx()
    };
    let late = store.transact(&hasty, |txn| add(txn, "a", 1)).await;
    assert!(matches!(late, Err(TransactError::Indefinite)));
    assert_eq!(node.metrics.indefinite.get(), 1);
    // Nothing may be proposed after the deadline.
    let refused = store.transact(&hasty, |txn| add(txn, "a", 1)).await;
    assert!(matches!(refused, Err(TransactError::Unavailable)));
    node.gate.open();
    let next = store.transact(&cx(), |txn| add(txn, "a", 1)).await.unwrap();
    assert_eq!(next.value, 2);
}

#[tokio::test]
async fn an_answer_without_writes_makes_no_log_entry() {
    let (env, medium) = (Env::real(), Medium::mem());
    let node = Node::start(&env, &medium).await;
    let done = node
        .store
        .transact(&cx(), |txn| add(txn, "a", 3))
        .await
        .unwrap();
    let before = node.store.applied();
    assert_eq!(before.last.map(|last| last.index), done.index);
    let seen = node
        .store
        .transact(&cx(), |txn| value(txn, "a"))
        .await
        .unwrap();
    assert_eq!(
        (seen.value, seen.index, seen.commit_id),
        (Some(3), None, None)
    );
    let read = node
        .store
        .read(|view| view.get::<crate::UsageRow>(&key("a")))
        .await
        .unwrap();
    let row = read.unwrap().unwrap();
    assert_eq!((row.bytes, Some(row.commit_id)), (3, done.commit_id));
    assert_eq!(node.store.applied(), before);
}

#[tokio::test]
async fn usage_and_events_come_with_the_commit() {
    let (env, medium) = (Env::real(), Medium::mem());
    let node = Node::start(&env, &medium).await;
    let bucket = UsageKey::Bucket(BucketId::from_bytes([5; 16]));
    let mut index = None;
    for _ in 0..3 {
        let cx = cx();
        let done = node.store.transact(&cx, |txn| {
            txn.usage(
                bucket,
                UsageDelta {
                    objects: 2,
                    ..UsageDelta::default()
                },
            );
            txn.event(Event {
                kind: "object.put".to_owned(),
                ..Event::default()
            });
            add(txn, "a", 1)
        });
        index = done.await.unwrap().index;
    }
    let view = node.store.local();
    let usage = view.get::<crate::UsageRow>(&bucket.key()).unwrap().unwrap();
    assert_eq!(usage.objects, 6);
    let key = crate::keys::event(GROUP, index.unwrap());
    let event = view.get::<floeberg_state::EventRow>(&key).unwrap().unwrap();
    assert_eq!(
        (event.kind.as_str(), event.principal.as_str()),
        ("object.put", "root")
    );
}

#[tokio::test]
async fn log_time_does_not_follow_a_clock_that_steps_back() {
    let (env, control) = Env::simulated(7);
    let node = Node::start(&env, &Medium::mem()).await;
    let mut last = TimestampMs(0);
    for _ in 0..4 {
        let done = node
            .store
            .transact(&cx(), |txn| add(txn, "a", 1))
            .await
            .unwrap();
        assert!(done.log_time >= last);
        last = done.log_time;
        control.jump_clock(-3_600_000);
    }
    assert!(env.clock.now() < last);
    assert_eq!(node.store.applied().log_time, last);
}

#[tokio::test]
async fn a_stopped_store_is_unavailable() {
    let node = Node::start(&Env::real(), &Medium::mem()).await;
    node.store
        .transact(&cx(), |txn| add(txn, "a", 1))
        .await
        .unwrap();
    node.store.shutdown().await.unwrap();
    let refused = node.store.transact(&cx(), |txn| add(txn, "a", 1)).await;
    assert!(matches!(refused, Err(TransactError::Unavailable)));
    assert_eq!(node.store.read(|_| ()).await, Err(Unavailable));
}

#[tokio::test]
async fn a_state_of_another_cluster_is_refused() {
    let (env, medium) = (Env::real(), Medium::mem());
    let node = Node::start(&env, &medium).await;
    node.store
        .transact(&cx(), |txn| add(txn, "a", 1))
        .await
        .unwrap();
    node.store.shutdown().await.unwrap();
    let other = StoreConfig {
        cluster: ClusterId::from_bytes([2; 16]),
        ..config()
    };
    let refused = try_start(&other, &env, &medium).await.err().unwrap();
    assert!(matches!(refused, OpenError::State { .. }), "{refused}");
}

#[tokio::test]
async fn state_and_log_that_do_not_belong_together_are_refused() {
    let env = Env::real();
    let (kv, log) = (MemKvStore::new(), MemLogStore::new());
    let medium = Medium::Mem(kv.clone(), log.clone());
    let node = Node::start(&env, &medium).await;
    let done = node
        .store
        .transact(&cx(), |txn| add(txn, "a", 1))
        .await
        .unwrap();
    node.store.shutdown().await.unwrap();
    drop(node);

    let lost_log = Medium::Mem(kv, MemLogStore::new());
    let refused = try_start(&config(), &env, &lost_log).await.err().unwrap();
    let applied_index = done.index.unwrap();
    assert!(matches!(
        refused,
        OpenError::Consensus(GroupStartError::StateAheadOfLog { applied, log_end: None, .. })
            if applied == applied_index
    ));

    MemLog::open(&log, &env)
        .purge(GROUP, applied_index, Bytes::from_static(b"id"))
        .unwrap();
    let lost_state = Medium::Mem(MemKvStore::new(), log);
    let refused = try_start(&config(), &env, &lost_state).await.err().unwrap();
    assert!(matches!(
        refused,
        OpenError::Consensus(GroupStartError::StateBehindLog { applied: None, purged, .. })
            if purged == applied_index
    ));
}

#[tokio::test]
async fn rows_become_durable_by_size_and_by_time() {
    let by_size = FlushPolicy {
        bytes: 1,
        interval: Duration::from_secs(1 << 30),
    };
    let by_time = FlushPolicy {
        bytes: u64::MAX,
        interval: Duration::from_millis(1),
    };
    for flush in [by_size, by_time] {
        let env = Env::real();
        let (kv, log) = (MemKvStore::new(), MemLogStore::new());
        let medium = Medium::Mem(kv.clone(), log);
        let node = try_start(&StoreConfig { flush, ..config() }, &env, &medium)
            .await
            .unwrap();
        node.store
            .transact(&cx(), |txn| add(txn, "a", 1))
            .await
            .unwrap();
        while node.store.unflushed_bytes() > 0 {
            tokio::task::yield_now().await;
        }
        kv.crash();
        let survived = stored(Arc::new(floeberg_kv::MemKv::open(&kv)));
        assert_eq!(value(&survived, "a").unwrap(), Some(1));
    }
}

#[tokio::test]
async fn a_failed_flush_is_fatal() {
    let (kv, log) = (MemKvStore::new(), MemLogStore::new());
    let flush = FlushPolicy {
        bytes: 1,
        ..FlushPolicy::default()
    };
    kv.fail_next_flush();
    let medium = Medium::Mem(kv, log);
    let mut node = try_start(&StoreConfig { flush, ..config() }, &Env::real(), &medium)
        .await
        .unwrap();
    let causes = node
        .fatal
        .wait_for(|causes| !causes.is_empty())
        .await
        .unwrap()
        .clone();
    assert!(
        causes.iter().any(|cause| cause.contains("flush")),
        "{causes:?}"
    );
}

#[test]
fn a_transaction_can_run_as_a_task() {
    fn is_send<T: Send>(_: &T) {}
    fn check(store: &Store, cx: &Cx) {
        is_send(&store.transact(cx, |txn| add(txn, "a", 1)));
        is_send(&store.read(|_| ()));
    }
    let _ = check;
    let _ = counter(1);
}

#[tokio::test]
async fn a_raised_feature_level_is_carried_by_every_later_command() {
    let (env, medium) = (Env::real(), Medium::mem());
    let node = Node::start(&env, &medium).await;
    assert_eq!(node.store.feature_level(), 1);
    let unknown = FEATURE_LEVEL + 1;
    let refused = node.store.raise_feature_level(&cx(), unknown).await;
    assert!(matches!(
        refused,
        Err(TransactError::Refused(FeatureLevelUnknown { level })) if level == unknown
    ));
    for _ in 0..2 {
        node.store.raise_feature_level(&cx(), 2).await.unwrap();
    }
    let level = |txn: &mut Txn<'_>| {
        txn.put(key("a"), &counter(1));
        Ok::<_, ()>(txn.feature_level())
    };
    let done = node.store.transact(&cx(), level).await.unwrap();
    assert_eq!(done.value, 2);
    assert_eq!(
        node.metrics.commits.get(),
        2,
        "the second raise was a no-op"
    );
    node.store.shutdown().await.unwrap();
    drop(node);
    let node = Node::start(&env, &medium).await;
    assert_eq!(node.store.feature_level(), 2);
    assert!(node.is_healthy());
}
