//! State is never ahead of the node's own log.

use super::small;
use crate::testing::cluster::{Cluster, commands, until};
use crate::testing::{Durable, Flush};
use crate::{Begin, GroupConfig, GroupStartError};
use floeberg_env::UnsyncedData;
use floeberg_raftlog::MemLogStore;
use std::time::Duration;

/// A node whose log syncs slowly must not apply what a quorum of the others has made sure of.
#[tokio::test(start_paused = true)]
async fn a_slow_disk_applies_only_what_it_has_synced() {
    for slow in [1, 3] {
        let mut cluster = Cluster::empty(60, GroupConfig::default());
        for id in 1..=3 {
            let seat = cluster.seat(id);
            seat.flush = Flush::Always;
            if id == slow {
                let takes = Duration::from_millis(80);
                seat.store = MemLogStore::with_sync_time(takes..=takes);
            }
        }
        let mut cluster = cluster.grow(3).await;
        cluster.commit_all(0..5).await;
        for wave in 1..6 {
            let leader = cluster.leader().await;
            let pending = (0..5).map(|i| {
                let command = format!("command {}", wave * 5 + i);
                let cluster = &cluster;
                async move { cluster.submit(leader, &command).await }
            });
            let waits = cluster.running(slow).group.applied();
            let before = waits.borrow().unwrap().index;
            // The node dies after some of it was committed elsewhere, before its own sync ended.
            let _ = tokio::time::timeout(
                Duration::from_millis(50),
                futures::future::join_all(pending),
            )
            .await;
            assert!(waits.borrow().unwrap().index >= before);
            cluster.crash(slow, UnsyncedData::Lost).await;
            let started = cluster.boot(slow, Begin::Join).await;
            started.unwrap_or_else(|e| panic!("wave {wave}, node {slow}: {e}"));
        }
        cluster.commit("the end").await;
        cluster.converge().await;
        cluster.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn log_and_state_of_different_nodes_do_not_start() {
    let mut cluster = Cluster::start(61, 3, small()).await;
    cluster.commit_all(0..60).await;
    cluster.converge().await;
    until("the log is purged", || {
        let status = cluster.running(2).group.status();
        status.purged.is_some()
    })
    .await;
    cluster.crash(2, UnsyncedData::Lost).await;
    let durable = std::mem::take(&mut cluster.seat(2).durable);
    let refused = cluster.boot(2, Begin::Join).await.unwrap_err();
    let expected = matches!(
        refused,
        GroupStartError::StateBehindLog { applied: None, .. }
    );
    assert!(expected, "{refused}");

    cluster.seat(2).durable = Durable(durable.0.clone());
    let store = std::mem::take(&mut cluster.seat(2).store);
    let refused = cluster.boot(2, Begin::Join).await.unwrap_err();
    let expected = matches!(
        refused,
        GroupStartError::StateAheadOfLog { log_end: None, .. }
    );
    assert!(expected, "{refused}");

    cluster.seat(2).store = store;
    cluster.boot(2, Begin::Join).await.unwrap();
    assert_eq!(cluster.converge().await, commands(0..60));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn large_entries_purge_the_log_before_there_are_many() {
    let config = GroupConfig {
        log_entries_kept: 1_000_000,
        log_bytes_kept: 100 << 10,
        ..GroupConfig::default()
    };
    let cluster = Cluster::start(62, 3, config).await;
    let large = "x".repeat(10 << 10);
    for _ in 0..600 {
        cluster.commit(&large).await;
    }
    cluster.converge().await;
    for id in 1..=3 {
        let status = cluster.running(id).group.status();
        let purged = status.purged.map(|id| id.index);
        assert!(purged > Some(200), "node {id}: {status:?}");
    }
    cluster.stop().await;
}
