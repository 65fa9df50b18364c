//! Nodes that need more than the log still has.

use super::small;
use crate::testing::cluster::{Cluster, address, commands, until};
use crate::testing::{GROUP, append_command};
use crate::{Begin, CatchUp, EntryId, GroupConfig, SnapshotProgress};
use floeberg_env::{Disk, UnsyncedData};
use floeberg_raftlog::{LogStore, MemLog};
use floeberg_types::NodeId;
use futures::future::join_all;
use std::path::Path;
use std::time::Duration;

const MIB: usize = 1 << 20;

/// A single voter whose log is purged, with `count` commands of `bytes` each.
async fn purged(seed: u64, config: GroupConfig, count: usize, bytes: usize) -> Cluster {
    let cluster = Cluster::start(seed, 1, config).await;
    for i in 0..count {
        cluster.commit(&format!("{i} {}", "x".repeat(bytes))).await;
    }
    let wait = cluster.running(1).group.clone();
    until("the log is purged", || wait.status().purged.is_some()).await;
    cluster
}

fn purged_to(cluster: &Cluster) -> Option<u64> {
    let status = cluster.running(1).group.status();
    status.purged.map(|id| id.index)
}

async fn add(cluster: &mut Cluster, id: u64) -> CatchUp {
    cluster.boot(id, Begin::Join).await.unwrap();
    let leader = &cluster.running(1).group;
    leader.add_learner(NodeId(id), &address(id)).await.unwrap()
}

/// Waits until a transfer has begun, and returns what it says.
async fn under_way(catch_up: &mut CatchUp, sent: u64) -> SnapshotProgress {
    loop {
        let snapshot = catch_up.progress().snapshot;
        match snapshot.filter(|snapshot| snapshot.sent >= sent) {
            Some(snapshot) => return snapshot,
            None => catch_up.changed().await.unwrap(),
        };
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_without_the_purged_entries_gets_a_snapshot_and_then_the_log() {
    let mut cluster = Cluster::start(80, 1, small()).await;
    cluster.commit_all(0..100).await;
    let leader = cluster.running(1).group.clone();
    until("the log is purged", || leader.status().purged.is_some()).await;
    let mut catch_up = add(&mut cluster, 2).await;
    catch_up.done().await.unwrap();
    leader.promote(NodeId(2)).await.unwrap();
    cluster.commit_all(100..110).await;
    assert_eq!(cluster.converge().await, commands(0..110));
    let batches: usize = cluster.running(2).live.lock().batches.iter().sum();
    assert!(
        batches < 100,
        "it applied {batches} entries, so the log was not purged"
    );
    // Nothing of the transfer is left on either side.
    for id in [1, 2] {
        let names = cluster.seats[&id]
            .env
            .disk
            .list(Path::new("/data/snapshots"));
        let left: Vec<_> = names
            .unwrap()
            .into_iter()
            .filter(|n| n != "installed")
            .collect();
        assert_eq!(left, Vec::<String>::new(), "on node {id}");
    }
    // The node recovers on its own from here.
    cluster.crash(2, UnsyncedData::Torn).await;
    cluster.boot(2, Begin::Join).await.unwrap();
    cluster.commit_all(110..120).await;
    assert_eq!(cluster.converge().await, commands(0..120));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_slept_too_long_gets_a_snapshot() {
    let mut cluster = Cluster::start(81, 3, small()).await;
    cluster.commit_all(0..10).await;
    cluster.crash(3, UnsyncedData::Lost).await;
    cluster.commit_all(10..100).await;
    until("the log is purged", || purged_to(&cluster) > Some(50)).await;
    cluster.boot(3, Begin::Join).await.unwrap();
    cluster.commit_all(100..110).await;
    assert_eq!(cluster.converge().await, commands(0..110));
    let disk = &cluster.seats[&3].env.disk;
    assert!(disk.exists(Path::new("/data/snapshots/installed")));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn commits_go_on_during_a_transfer_that_keeps_to_its_rate() {
    let config = GroupConfig {
        snapshot_bytes_per_second: Some(MIB as u64),
        ..small()
    };
    let mut cluster = purged(82, config, 60, MIB / 8).await;
    let started = tokio::time::Instant::now();
    let mut catch_up = add(&mut cluster, 2).await;
    let snapshot = under_way(&mut catch_up, 1).await;
    assert!(snapshot.total > 7 * MIB as u64, "{snapshot:?}");
    let before = tokio::time::Instant::now();
    cluster.commit_all(0..5).await;
    assert!(before.elapsed() < Duration::from_secs(1));
    assert!(
        catch_up.progress().snapshot.is_some(),
        "the transfer is still going on"
    );
    catch_up.done().await.unwrap();
    let seconds = started.elapsed().as_secs();
    assert!(
        (6..12).contains(&seconds),
        "7.5 MiB at 1 MiB/s took {seconds} s"
    );
    assert_eq!(cluster.converge().await.len(), 65);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_transfer_continues_where_it_was() {
    let config = GroupConfig {
        snapshot_bytes_per_second: Some(MIB as u64),
        ..small()
    };
    let mut cluster = purged(83, config, 60, MIB / 8).await;
    let mut catch_up = add(&mut cluster, 2).await;
    let sent = under_way(&mut catch_up, 3 * MIB as u64).await.sent;
    cluster.net.isolate(NodeId(2));
    while catch_up.progress().snapshot.is_some() {
        catch_up.changed().await.unwrap();
    }
    cluster.commit_all(0..3).await;
    cluster.net.heal();
    let resumed = under_way(&mut catch_up, 0).await;
    assert!(resumed.sent >= sent, "{resumed:?} after {sent} bytes");
    catch_up.done().await.unwrap();
    assert_eq!(cluster.converge().await.len(), 63);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_receiver_begins_anew_and_a_restarted_sender_too() {
    for victim in [1, 2] {
        let config = GroupConfig {
            snapshot_bytes_per_second: Some(MIB as u64),
            ..small()
        };
        let mut cluster = purged(84, config, 60, MIB / 8).await;
        let mut catch_up = add(&mut cluster, 2).await;
        under_way(&mut catch_up, 3 * MIB as u64).await;
        cluster.crash(victim, UnsyncedData::Torn).await;
        cluster.boot(victim, Begin::Join).await.unwrap();
        let names = cluster.seats[&victim]
            .env
            .disk
            .list(Path::new("/data/snapshots"));
        assert_eq!(
            names.unwrap(),
            Vec::<String>::new(),
            "left over on node {victim}"
        );
        cluster.commit_all(0..3).await;
        assert_eq!(cluster.converge().await.len(), 63);
        cluster.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_piece_is_noticed_and_sent_again() {
    let config = GroupConfig {
        snapshot_bytes_per_second: Some(MIB as u64),
        ..small()
    };
    let mut cluster = purged(85, config, 60, MIB / 8).await;
    let mut catch_up = add(&mut cluster, 2).await;
    under_way(&mut catch_up, 2 * MIB as u64).await;
    let control = &cluster.seats[&2].control;
    let dir = Path::new("/data/snapshots/in");
    for name in control.disk().list(dir).unwrap() {
        // The files that nothing was sent of yet have no byte to flip.
        let _ = control.disk().flip_bit(&dir.join(name), 1000, 3);
    }
    catch_up.done().await.unwrap();
    assert_eq!(cluster.converge().await.len(), 60);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn several_nodes_are_sent_one_copy_at_once() {
    let mut cluster = purged(86, small(), 60, MIB / 8).await;
    let mut all = Vec::new();
    for id in 2..=4 {
        all.push(add(&mut cluster, id).await);
    }
    for done in join_all(all.iter_mut().map(CatchUp::done)).await {
        done.unwrap();
    }
    assert_eq!(cluster.converge().await.len(), 60);
    cluster.stop().await;
}

/// The purge of the log that follows an installed snapshot is not synced by itself.
#[tokio::test(start_paused = true)]
async fn a_crash_right_after_the_swap_leaves_a_node_that_starts() {
    let mut cluster = Cluster::start(87, 3, small()).await;
    cluster.commit_all(0..10).await;
    cluster.converge().await;
    cluster.crash(3, UnsyncedData::Lost).await;
    cluster.commit_all(10..100).await;
    until("the log is purged", || purged_to(&cluster) > Some(50)).await;
    // Its log syncs so slowly that the purge is still on its way when the node dies.
    let takes = Duration::from_millis(200);
    cluster.seat(3).store = cluster.seat(3).store.clone().slowed(takes..=takes);
    cluster.boot(3, Begin::Join).await.unwrap();
    let durable = cluster.seats[&3].durable.clone();
    until("the state was swapped", || {
        durable.0.lock().commands.len() > 10
    })
    .await;
    cluster.crash(3, UnsyncedData::Lost).await;
    let log = MemLog::open(&cluster.seats[&3].store, &cluster.seats[&3].env);
    let ends = log.state(GROUP).unwrap().last.map(|record| record.index);
    let applied = durable.0.lock().applied.last.map(|id| id.index);
    assert!(
        ends < applied,
        "the log ends at {ends:?}, the state at {applied:?}"
    );
    drop(log);
    cluster.boot(3, Begin::Join).await.unwrap();
    cluster.commit_all(100..110).await;
    assert_eq!(cluster.converge().await, commands(0..110));
    cluster.stop().await;
}

/// Entries that wait to be applied, because the log syncs slowly, and a snapshot that covers them.
#[tokio::test(start_paused = true)]
async fn a_snapshot_that_overtakes_queued_entries_harms_nobody() {
    for seed in 900..920 {
        let mut cluster = Cluster::start(seed, 3, small()).await;
        cluster.commit_all(0..5).await;
        cluster.converge().await;
        cluster.crash(3, UnsyncedData::Lost).await;
        let takes = Duration::from_millis(seed - 890);
        cluster.seat(3).store = cluster.seat(3).store.clone().slowed(takes..=takes * 4);
        cluster.boot(3, Begin::Join).await.unwrap();
        for round in 0..4 {
            let leader = cluster.leader().await;
            let follower = NodeId(3);
            // It accepts entries and falls behind the purge in turns.
            cluster.commit_all(0..3).await;
            cluster.net.cut(NodeId(leader), follower);
            cluster.commit_all(0..60).await;
            cluster.net.heal();
            if round % 2 == 0 && leader != 3 {
                let next = if leader == 1 { 2 } else { 1 };
                let moved = cluster.running(leader).group.transfer_leader(NodeId(next));
                moved.await.unwrap();
            }
            cluster.commit_all(0..3).await;
        }
        cluster.converge().await;
        let disk = &cluster.seats[&3].env.disk;
        assert!(
            disk.exists(Path::new("/data/snapshots/installed")),
            "seed {seed}"
        );
        cluster.stop().await;
    }
}

/// What a single node of an earlier version took is more than any message carries.
#[tokio::test(start_paused = true)]
async fn an_entry_that_no_message_carries_reaches_a_new_node_inside_a_snapshot() {
    let mut cluster = Cluster::start(87, 1, GroupConfig::default()).await;
    cluster.commit_all(0..3).await;
    let status = cluster.running(1).group.status();
    cluster.crash(1, UnsyncedData::Lost).await;
    let id = EntryId {
        term: status.term,
        node: NodeId(1),
        index: status.last_index.unwrap() + 1,
    };
    let large = "x".repeat(17 * MIB);
    let seat = cluster.seat(1);
    let log = MemLog::open(&seat.store, &seat.env);
    append_command(&log, id, large.clone().into()).await;
    drop(log);
    cluster.boot(1, Begin::Join).await.unwrap();
    cluster.leader().await;
    let mut catch_up = add(&mut cluster, 2).await;
    catch_up.done().await.unwrap();
    cluster.commit_all(3..6).await;
    let mut expected = commands(0..3);
    expected.push(large.into());
    expected.extend(commands(3..6));
    assert!(
        cluster.converge().await == expected,
        "node 2 has other commands"
    );
    cluster.stop().await;
}
