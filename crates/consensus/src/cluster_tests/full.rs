//! Nodes without room for more of the log.

use super::small;
use crate::GroupConfig;
use crate::testing::cluster::{Cluster, until};
use floeberg_env::Reserve;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

struct Disk(Arc<AtomicBool>);

impl Disk {
    fn with_room() -> Self {
        Self(Arc::default())
    }

    fn room(&self) -> Reserve {
        let full = self.0.clone();
        Reserve::new(move || match full.load(Ordering::Relaxed) {
            true => Err("the disk is full".to_owned()),
            false => Ok(()),
        })
    }

    fn fill(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn free(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Three nodes, of which one fills while the others go on; afterwards it lacks nothing.
async fn fills_and_comes_back(config: GroupConfig, commands: usize) {
    let (disk, full) = (Disk::with_room(), 3);
    let mut cluster = Cluster::empty(70, config);
    cluster.seat(full).room = disk.room();
    let cluster = cluster.grow(3).await;
    let leader = cluster.leader().await;
    assert_ne!(leader, full);
    let term = cluster.running(leader).group.status().term;
    disk.fill();
    let before = cluster.running(full).group.status().last_index;
    cluster.commit_all(0..commands).await;
    let status = cluster.running(full).group.status();
    assert_eq!(
        status.last_index, before,
        "it stored what it had no room for"
    );
    // Heartbeats went on: it knows its leader, and did not campaign.
    assert_eq!(
        (status.term, status.leader.map(|node| node.0)),
        (term, Some(leader))
    );
    disk.free();
    until("it has caught up", || {
        let (all, own) = (cluster.running(leader), cluster.running(full));
        all.group.status().last_index == own.group.status().last_index
    })
    .await;
    cluster.converge().await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_follower_refuses_entries_keeps_its_leader_and_catches_up() {
    fills_and_comes_back(GroupConfig::default(), 20).await;
}

/// The entries that it lacks are gone meanwhile, so it needs a snapshot, for which there is no room either.
#[tokio::test(start_paused = true)]
async fn a_full_follower_refuses_snapshots_and_catches_up() {
    fills_and_comes_back(small(), 100).await;
}
