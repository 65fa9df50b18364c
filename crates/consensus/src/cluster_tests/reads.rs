//! Linearizable reads on any node.

use crate::testing::cluster::{Cluster, until};
use crate::{Begin, GroupConfig, ReadPoint};
use floeberg_env::UnsyncedData;
use floeberg_types::NodeId;
use futures::future::join_all;
use std::cell::Cell;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn every_node_reads_what_was_acknowledged_before() {
    let cluster = Cluster::start(20, 3, GroupConfig::default()).await;
    for i in 0..20 {
        cluster.commit(&format!("command {i}")).await;
        let reads = (1..=3).map(|id| cluster.running(id).group.read_barrier());
        let points = join_all(reads).await;
        for (id, point) in (1..).zip(points) {
            let ReadPoint { leader, term, .. } = point.unwrap();
            assert_eq!(leader, NodeId(1));
            assert_eq!(term, cluster.leader_seen_by(1).unwrap().term);
            assert_eq!(cluster.running(id).commands().len(), i + 1, "node {id}");
        }
    }
    cluster.stop().await;
}

/// Reads on `id` again and again: none may see less than an earlier one, or less than what was
/// acknowledged when it began.
async fn read_on(cluster: &Cluster, id: u64, acknowledged: &Cell<usize>) -> usize {
    let (mut seen, mut reads) = (0, 0);
    for _ in 0..300 {
        let floor = acknowledged.get().max(seen);
        let node = cluster.running(id);
        if node.group.read_barrier().await.is_ok() {
            seen = node.commands().len();
            reads += 1;
            assert!(seen >= floor, "node {id} read {seen} after {floor}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    reads
}

#[tokio::test(start_paused = true)]
async fn reads_never_go_back_while_the_leadership_moves() {
    let cluster = Cluster::start(21, 3, GroupConfig::default()).await;
    let acknowledged = Cell::new(0);
    let writer = async {
        for i in 0..100 {
            cluster.commit(&format!("command {i}")).await;
            acknowledged.set(i + 1);
            if i % 20 == 10 {
                let leader = cluster.leader().await;
                cluster.net.isolate(NodeId(leader));
                let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
                cluster.leader_among(&others).await;
                cluster.net.heal();
            }
        }
    };
    let readers = join_all((1..=3).map(|id| read_on(&cluster, id, &acknowledged)));
    let (reads, ()) = tokio::join!(readers, writer);
    assert!(reads.iter().all(|reads| *reads > 50), "{reads:?}");
    cluster.stop().await;
}

/// A leader that is paused or cut off is replaced with the help of a node that restarted and has
/// forgotten whom it followed. A leader that trusted its lease would now serve old state.
#[tokio::test(start_paused = true)]
async fn a_deposed_leader_does_not_read_although_a_voter_forgot_it() {
    let mut cluster = Cluster::start(22, 3, GroupConfig::default()).await;
    let lease = cluster.config.election_timeout_max / 2;
    cluster.commit("old").await;
    cluster.converge().await;
    // The third node's own lease runs out; the leader keeps its quorum with the second.
    cluster.net.cut(NodeId(1), NodeId(3));
    cluster.net.cut(NodeId(3), NodeId(1));
    tokio::time::sleep(lease * 3).await;
    assert_eq!(cluster.leader().await, 1);
    cluster.running(1).group.read_barrier().await.unwrap();

    cluster.crash(2, UnsyncedData::Lost).await;
    let cut_at = tokio::time::Instant::now();
    cluster.boot(2, Begin::Join).await.unwrap();
    cluster.net.isolate(NodeId(1));
    let third = &cluster.running(3).group;
    third.inner.raft.trigger().elect(false).await.unwrap();
    cluster.leader_among(&[3]).await;
    cluster.submit(3, "new").await.unwrap();
    assert!(
        cut_at.elapsed() < lease,
        "within what was the lease of the old leader"
    );

    let old = cluster.running(1);
    assert!(
        old.group.leadership().borrow().is_leader,
        "it does not know yet"
    );
    let read = old.group.read_barrier().await;
    assert!(
        read.is_err(),
        "{read:?} although a newer write was acknowledged"
    );
    cluster.net.heal();
    until("the old leader follows", || {
        cluster.leader_seen_by(1).is_some_and(|l| l.node.0 == 3)
    })
    .await;
    cluster.running(1).group.read_barrier().await.unwrap();
    assert_eq!(cluster.running(1).commands(), ["old", "new"]);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn readers_on_a_follower_share_calls_to_the_leader() {
    let cluster = Cluster::start(23, 3, GroupConfig::default()).await;
    let group = &cluster.running(2).group;
    let delay = Duration::from_millis(5);
    cluster.net.delay(delay..delay + Duration::from_millis(1));
    let started = tokio::time::Instant::now();
    let reads = join_all((0..1000).map(|_| group.read_index())).await;
    assert!(reads.iter().all(Result::is_ok));
    assert!(
        started.elapsed() < Duration::from_millis(200),
        "one after the other"
    );
    cluster.stop().await;
}
