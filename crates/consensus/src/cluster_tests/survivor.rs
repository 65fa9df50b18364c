//! Going on alone after a majority is lost.

use super::small;
use crate::testing::cluster::{Cluster, address, commands};
use crate::{Begin, GroupConfig, GroupStartError};
use floeberg_env::UnsyncedData;
use floeberg_types::NodeId;

async fn lose_two_of_three(seed: u64, config: GroupConfig, written: usize) -> Cluster {
    let mut cluster = Cluster::start(seed, 3, config).await;
    cluster.commit_all(0..written).await;
    cluster.converge().await;
    for id in [1, 2] {
        cluster.wipe(id).await;
    }
    cluster
}

async fn grow(cluster: &mut Cluster, id: u64) {
    cluster.boot(id, Begin::Join).await.unwrap();
    let leader = cluster.running(3).group.clone();
    let mut catch_up = leader.add_learner(NodeId(id), &address(id)).await.unwrap();
    catch_up.done().await.unwrap();
    leader.promote(NodeId(id)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_survivor_keeps_what_it_has_and_new_nodes_join_it() {
    for (seed, config) in [(60, GroupConfig::default()), (61, small())] {
        let mut cluster = lose_two_of_three(seed, config, 60).await;
        cluster.crash(3, UnsyncedData::Lost).await;
        cluster.boot(3, Begin::Survivor).await.unwrap();
        assert_eq!(cluster.leader().await, 3);
        let members = cluster.running(3).group.members();
        let members: Vec<_> = members.members.iter().map(|m| m.node.0).collect();
        assert_eq!(members, [3]);
        cluster.commit_all(60..80).await;
        for id in [4, 5] {
            grow(&mut cluster, id).await;
        }
        cluster.commit_all(80..90).await;
        assert_eq!(cluster.converge().await, commands(0..90));
        // From now on it starts like any other.
        cluster.crash(3, UnsyncedData::Lost).await;
        cluster.boot(3, Begin::Join).await.unwrap();
        cluster.commit_all(90..95).await;
        assert_eq!(cluster.converge().await, commands(0..95));
        cluster.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_only_the_survivor_had_is_kept_and_doing_it_again_is_harmless() {
    let mut cluster = lose_two_of_three(62, GroupConfig::default(), 10).await;
    for fate in [UnsyncedData::Lost, UnsyncedData::Torn, UnsyncedData::Lost] {
        cluster.crash(3, fate).await;
        cluster.boot(3, Begin::Survivor).await.unwrap();
        assert_eq!(cluster.leader().await, 3);
    }
    assert_eq!(cluster.converge().await, commands(0..10));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_never_received_anything_is_no_survivor() {
    let mut cluster = Cluster::empty(63, GroupConfig::default());
    let refused = cluster.boot(1, Begin::Survivor).await.unwrap_err();
    assert!(matches!(refused, GroupStartError::NothingToGoOnFrom { .. }));
}
