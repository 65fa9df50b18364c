//! Who leads, and what survives a change of leader.

use crate::testing::cluster::{Cluster, commands, until};
use crate::{Begin, ChangeError, GroupConfig, ProposeError};
use floeberg_env::{Rng, SeededRng, UnsyncedData};
use floeberg_rpc::Method;
use floeberg_types::NodeId;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn three_nodes_apply_the_same_commands_in_the_same_order() {
    let cluster = Cluster::start(1, 3, GroupConfig::default()).await;
    cluster.commit_all(0..50).await;
    assert_eq!(cluster.converge().await, commands(0..50));
    for id in 1..=3 {
        let leader = cluster.leader_seen_by(id).unwrap();
        assert_eq!(leader.node, NodeId(1), "as node {id} sees it");
    }
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn when_the_leader_dies_another_takes_over_and_the_old_one_comes_back_as_a_follower() {
    let mut cluster = Cluster::start(2, 3, GroupConfig::default()).await;
    cluster.commit_all(0..20).await;
    let before = cluster.leader_seen_by(1).unwrap();
    cluster.crash(1, UnsyncedData::Torn).await;
    let next = cluster.leader_among(&[2, 3]).await;
    assert!(cluster.leader_seen_by(next).unwrap().term > before.term);
    cluster.commit_all(20..40).await;
    cluster.boot(1, Begin::Join).await.unwrap();
    assert_eq!(cluster.converge().await, commands(0..40));
    assert_eq!(cluster.leader().await, next, "a restart takes no lead");
    cluster.stop().await;
}

/// Nodes of an earlier version take heartbeats as any other append.
#[tokio::test(start_paused = true)]
async fn nodes_that_do_not_know_heartbeats_follow_all_the_same() {
    let mut cluster = Cluster::empty(29, GroupConfig::default());
    for earlier in [2, 3] {
        cluster.seat(earlier).unknown = Some(Method::Heartbeat);
    }
    let cluster = cluster.grow(3).await;
    let before = cluster.leader_seen_by(2).unwrap();
    cluster.commit_all(0..10).await;
    tokio::time::sleep(cluster.config.election_timeout_max * 10).await;
    assert_eq!(cluster.leader_seen_by(2), Some(before));
    assert_eq!(cluster.converge().await, commands(0..10));
    cluster.stop().await;
}

/// What the setting promises; the library counts from the end of a lease.
#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_replaced_within_the_election_timeout() {
    for seed in 30..36 {
        let mut cluster = Cluster::start(seed, 3, GroupConfig::default()).await;
        let config = cluster.config.clone();
        cluster.commit_all(0..10).await;
        let at = tokio::time::Instant::now();
        cluster.crash(1, UnsyncedData::Lost).await;
        cluster.leader_among(&[2, 3]).await;
        let took = at.elapsed();
        assert!(
            took > config.election_timeout_min - config.heartbeat * 2,
            "{took:?}"
        );
        assert!(took < config.election_timeout_max * 6 / 5, "{took:?}");
        cluster.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_in_the_minority_neither_commits_nor_reads() {
    let cluster = Cluster::start(3, 3, GroupConfig::default()).await;
    cluster.commit_all(0..10).await;
    cluster.net.isolate(NodeId(1));
    // It still believes that it leads.
    let lonely = cluster.submit(1, "lonely");
    let read = cluster.running(1).group.read_barrier();
    let majority = async {
        cluster.leader_among(&[2, 3]).await;
        cluster.commit_all(10..20).await;
        cluster.net.heal();
    };
    let (lonely, read, ()) = tokio::join!(lonely, read, majority);
    assert_eq!(lonely, Err(ProposeError::Indefinite));
    assert!(read.is_err(), "{read:?}");
    assert_eq!(cluster.converge().await, commands(0..20));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_way_cuts_do_not_stop_the_group() {
    // Followers do not hear the leader, and the leader does not hear the followers.
    for mute in [true, false] {
        let cluster = Cluster::start(4, 3, GroupConfig::default()).await;
        cluster.commit_all(0..5).await;
        for follower in [2, 3] {
            match mute {
                true => cluster.net.cut(NodeId(1), NodeId(follower)),
                false => cluster.net.cut(NodeId(follower), NodeId(1)),
            }
        }
        cluster.leader_among(&[2, 3]).await;
        cluster.commit_all(5..10).await;
        cluster.net.heal();
        assert_eq!(cluster.converge().await, commands(0..10), "mute: {mute}");
        cluster.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_cut_off_does_not_unseat_the_leader_when_it_returns() {
    let cluster = Cluster::start(5, 3, GroupConfig::default()).await;
    let before = cluster.leader_seen_by(1).unwrap();
    cluster.net.isolate(NodeId(3));
    tokio::time::sleep(Duration::from_secs(30)).await;
    cluster.net.heal();
    cluster.commit_all(0..10).await;
    assert_eq!(cluster.converge().await, commands(0..10));
    assert_eq!(cluster.leader_seen_by(1), Some(before));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn leadership_moves_where_it_is_sent() {
    let cluster = Cluster::start(6, 3, GroupConfig::default()).await;
    cluster.commit_all(0..10).await;
    let leader = &cluster.running(1).group;
    let started = tokio::time::Instant::now();
    leader.transfer_leader(NodeId(3)).await.unwrap();
    assert!(started.elapsed() < GroupConfig::default().election_timeout_min);
    assert_eq!(cluster.leader().await, 3);
    cluster.commit_all(10..20).await;
    assert_eq!(cluster.converge().await, commands(0..20));
    let refused = leader.transfer_leader(NodeId(2)).await.unwrap_err();
    let leader = Some(NodeId(3));
    assert!(matches!(refused, ChangeError::NotLeader { leader: l, .. } if l == leader));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_transfer_leaves_a_group_that_elects_a_leader() {
    let cluster = Cluster::start(7, 3, GroupConfig::default()).await;
    cluster.net.isolate(NodeId(3));
    let leader = &cluster.running(1).group;
    let refused = leader.transfer_leader(NodeId(3)).await.unwrap_err();
    assert_eq!(refused, ChangeError::NotTaken { to: NodeId(3) });
    cluster.commit_all(0..5).await;
    cluster.net.heal();
    assert_eq!(cluster.converge().await, commands(0..5));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_clock_is_off_hands_over() {
    let mut cluster = Cluster::start(8, 3, GroupConfig::default()).await;
    cluster.commit_all(0..3).await;
    cluster.seat(1).control.jump_clock(5_000);
    let next = cluster.leader_among(&[2, 3]).await;
    let complaints = cluster.complaints();
    assert!(
        complaints.len() == 1 && complaints[0].contains("clock"),
        "{complaints:?}"
    );
    // Another one being off is no reason to change again.
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(cluster.leader().await, next);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_was_stopped_for_a_while_has_a_good_clock() {
    let mut cluster = Cluster::start(9, 3, GroupConfig::default()).await;
    cluster.commit_all(0..3).await;
    let delay = Duration::from_millis(1_500);
    // Answers that come late say little about clocks.
    cluster.net.delay(delay..delay * 2);
    tokio::time::sleep(Duration::from_secs(20)).await;
    cluster.net.delay(Duration::ZERO..Duration::ZERO);
    cluster.leader().await;
    let complaints = cluster.complaints();
    assert!(
        complaints.iter().all(|line| !line.contains("clock")),
        "{complaints:?}"
    );
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_nobody_reaches_hands_over() {
    let mut cluster = Cluster::start(10, 3, GroupConfig::default()).await;
    cluster.commit_all(0..3).await;
    let leader = cluster.leader().await;
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    for other in &others {
        cluster.net.refuse(NodeId(*other), NodeId(leader));
    }
    let next = cluster.leader_among(&others).await;
    let complaints = cluster.complaints();
    assert!(
        complaints.len() == 1 && complaints[0].contains("cannot reach it"),
        "{complaints:?}"
    );
    assert!(cluster.running(next).group.read_barrier().await.is_ok());
    cluster.net.heal();
    cluster.commit_all(3..6).await;
    cluster.converge().await;
    cluster.stop().await;
}

/// Faults at random while commands are proposed one after the other; every acknowledged command
/// is there in the end, once and in order.
async fn storm(seed: u64) -> usize {
    let rng = SeededRng::new(seed);
    let rng: &dyn Rng = &rng;
    let mut cluster = Cluster::start(seed, 3, super::small()).await;
    let mut acknowledged = Vec::new();
    for round in 0..30 {
        let victim = 1 + rng.below(3);
        match rng.below(5) {
            0 => cluster.net.isolate(NodeId(victim)),
            1 => cluster.net.cut(NodeId(victim), NodeId(1 + rng.below(3))),
            2 => cluster.net.heal(),
            3 => {
                cluster.crash(victim, UnsyncedData::Torn).await;
                cluster.boot(victim, Begin::Join).await.unwrap();
            }
            _ => {}
        }
        for i in 0..5 {
            let command = format!("command {round}-{i}");
            let asked = 1 + rng.below(3);
            let through = cluster.leader_seen_by(asked).map_or(asked, |l| l.node.0);
            let submitted = cluster.submit(through, &command);
            let patience = Duration::from_millis(rng.below(700));
            if let Ok(Ok(_)) = tokio::time::timeout(patience, submitted).await {
                acknowledged.push(command);
            }
        }
    }
    cluster.net.heal();
    cluster.commit("the end").await;
    let applied = cluster.converge().await;
    let mut rest = applied.iter();
    for command in &acknowledged {
        let found = rest.any(|applied| applied == command.as_bytes());
        assert!(found, "seed {seed}: {command} is lost or out of order");
    }
    let mut once = applied.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), applied.len(), "seed {seed}: applied twice");
    cluster.stop().await;
    acknowledged.len()
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_survives_any_faults() {
    let mut acknowledged = 0;
    for seed in 100..110 {
        acknowledged += storm(seed).await;
    }
    assert!(
        acknowledged > 100,
        "only {acknowledged} commands got through"
    );
}

#[tokio::test(start_paused = true)]
async fn a_seed_replays_exactly() {
    async fn run(seed: u64) -> (u64, u64, Vec<bytes::Bytes>) {
        let mut cluster = Cluster::start(seed, 3, super::small()).await;
        cluster.commit_all(0..30).await;
        cluster.crash(1, UnsyncedData::Torn).await;
        let leader = cluster.leader().await;
        let term = cluster.leader_seen_by(leader).unwrap().term;
        cluster.commit_all(30..60).await;
        cluster.boot(1, Begin::Join).await.unwrap();
        until("node 1 has a leader", || {
            cluster.leader_seen_by(1).is_some()
        })
        .await;
        let applied = cluster.converge().await;
        cluster.stop().await;
        (leader, term, applied)
    }
    assert_eq!(run(11).await, run(11).await);
}
