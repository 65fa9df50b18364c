//! Room for commands in flight: who finds none waits a moment and is told so, and whoever leaves takes
//! nothing along.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use crate::error::TransactError;
use crate::testing::cluster::{Cluster, NODES, counters, cx_within};
use crate::testing::{add, cx, key};
use crate::{Store, Txn};
use floeberg_consensus::{Held, Permit};
use floeberg_env::{Rng, SeededRng};
use floeberg_types::limits;
use futures::FutureExt as _;
use futures::future::join_all;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Takes all room that there is for commands of the store's group.
fn fill(store: &Store) -> Vec<Permit> {
    let one = || store.group().reserve(limits::COMMAND_BYTES).now_or_never();
    std::iter::from_fn(one).collect()
}

async fn drained(store: &Store) {
    while store.group().held() != Held::default() {
        sleep(Duration::from_millis(10)).await;
    }
}

fn small(txn: &mut Txn<'_>) -> Result<(), ()> {
    add(txn, "small", 1).map(drop).map_err(drop)
}

fn write(txn: &mut Txn<'_>, name: &str, bytes: usize) -> Result<(), ()> {
    txn.put_raw(key(name), vec![7; bytes].into());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_room_here_or_on_the_leader_is_told_so_after_a_moment() {
    let cluster = Cluster::start(31).await;
    let leader = cluster.store(cluster.leader().await);
    for full in NODES.map(|node| cluster.store(node)) {
        let permits = fill(full);
        assert!(!permits.is_empty());
        let asked = [full, cluster.store(cluster.follower().await)];
        let through_leader = full.leadership().borrow().is_leader;
        for store in &asked[..if through_leader { 2 } else { 1 }] {
            let begun = Instant::now();
            let told = store.transact(&cx(), small).await;
            let Err(TransactError::Crowded(crowded)) = told else {
                panic!("{told:?}");
            };
            let text = crowded.to_string();
            assert!(
                text.contains("50331648") && text.contains("again"),
                "{text}"
            );
            assert!(begun.elapsed() >= cluster.config.leader_wait);
            assert!(begun.elapsed() < cluster.config.leader_wait * 2);
        }
        drop(permits);
        full.transact(&cx(), small).await.unwrap();
        drained(full).await;
        assert_eq!((full.in_flight_rows(), full.outcomes_awaited()), (0, 0));
    }
    // Nothing of what was turned down came into being.
    let sums = leader.read(|view| counters(view, "small")).await.unwrap();
    assert_eq!(sums.into_values().collect::<Vec<_>>(), [3]);
}

#[tokio::test(start_paused = true)]
async fn the_largest_commands_wait_for_each_other() {
    let cluster = Cluster::start(32).await;
    let together = limits::GROUP_COMMANDS_HELD_BYTES / limits::COMMAND_BYTES + 2;
    for node in [cluster.leader().await, cluster.follower().await] {
        let store = cluster.store(node);
        let one = async |number: usize| {
            let name = format!("large/{number}");
            let largest = |txn: &mut Txn<'_>| write(txn, &name, limits::COMMAND_BYTES - 1024);
            store.transact(&cx(), largest).await.unwrap();
        };
        join_all((0..together).map(one)).await;
    }
    cluster.converge().await;
    for store in cluster.stores() {
        drained(&store).await;
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_up_takes_no_room_along() {
    let cluster = Cluster::start(33).await;
    let rng: &dyn Rng = &SeededRng::new(33);
    for round in 0..60 {
        let node = NODES[round % NODES.len()];
        let bytes = usize::try_from(rng.below(2 << 20)).unwrap();
        let patience = Duration::from_micros(rng.below(8_000));
        let give_up = |number: usize| {
            let (store, name) = (cluster.store(node), format!("given-up/{number}"));
            async move {
                let decide = |txn: &mut Txn<'_>| write(txn, &name, bytes);
                drop(timeout(patience, store.transact(&cx(), decide)).await);
            }
        };
        join_all((0..3).map(give_up)).await;
        let late = cx_within(patience);
        drop(cluster.store(node).transact(&late, small).await);
    }
    for store in cluster.stores() {
        drained(&store).await;
    }
    cluster.converge().await;
}
