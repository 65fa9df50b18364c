//! Filling a replaced node, growing from one node, and what one node costs.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use bytes::Bytes;
use floeberg_placement::{NodeState, NotWritable, Profile, ShardSet};
use floeberg_shards::{
    ChunkRef, CopyError, CopyState, Depth, ReadError, RepairError, ShardsConfig,
};
use floeberg_types::{ChunkId, NodeId};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::{Cluster, map_of, member, pattern, stored};
use tokio::time::Instant;

/// Repairs a node page by page; stops after `pages` of them and returns where to go on.
async fn refill(
    cluster: &Cluster,
    node: u64,
    mut after: Option<ChunkId>,
    pages: usize,
) -> Option<ChunkId> {
    let shards = cluster.shards(1);
    for _ in 0..pages {
        let page = shards.missing_on(NodeId(node), Profile::R3, after, 7).await;
        let page = page.unwrap();
        assert!(page.skipped.is_empty());
        for chunk in page.missing {
            let repaired = shards.repair(chunk, Profile::R3, Depth::Presence).await;
            assert!(repaired.unwrap().copied.contains(&NodeId(node)));
        }
        after = Some(page.next?);
    }
    after
}

async fn fill(cluster: &Cluster, chunks: u64, len: usize) -> Vec<(Bytes, ChunkRef)> {
    let mut all = Vec::new();
    for salt in 0..chunks {
        let bytes = pattern(len, salt);
        let chunk = cluster.put(1 + salt % 2, &bytes).await.unwrap();
        all.push((bytes, chunk));
    }
    all
}

#[tokio::test(start_paused = true)]
async fn a_replaced_node_gets_its_copies_back_at_the_pace_of_repairs() {
    let config = ShardsConfig {
        repair_bytes_per_second: 100_000,
        ..ShardsConfig::default()
    };
    let mut cluster = Cluster::with(3, 1, config).await;
    let chunks = fill(&cluster, 40, 10_000).await;
    cluster.stop(3).await;
    cluster.replace_disk(3, 99);
    cluster.start(3).await;
    assert_eq!(cluster.shards(3).local().stats().live_chunks, 0);
    let begun = Instant::now();
    // Interrupted after two pages and resumed where it stopped.
    let next = refill(&cluster, 3, None, 2).await;
    let some = cluster.shards(3).local().stats().live_chunks;
    assert!(next.is_some() && (1..40).contains(&some), "{some}");
    assert_eq!(refill(&cluster, 3, next, 100).await, None);
    let elapsed = begun.elapsed();
    assert!(
        elapsed >= Duration::from_millis(3900),
        "400 kB at 100 kB/s took {elapsed:?}"
    );
    for (bytes, chunk) in &chunks {
        let copy = cluster.copy(3, chunk.chunk).await;
        assert_eq!(copy, stored(bytes, chunk));
    }
    let page = cluster
        .shards(2)
        .missing_on(NodeId(3), Profile::R3, None, 1000)
        .await;
    let page = page.unwrap();
    assert!(page.missing.is_empty() && page.next.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_what_placement_says_even_if_a_peer_is_away() {
    let mut cluster = Cluster::new(5, 2).await;
    let chunks = fill(&cluster, 60, 100).await;
    let map = map_of(5);
    let belongs: BTreeSet<ChunkId> = chunks
        .iter()
        .map(|(_, chunk)| chunk.chunk)
        .filter(|c| {
            map.targets(map.group_of(c), Profile::R3)
                .contains(&NodeId(4))
        })
        .collect();
    assert!(!belongs.is_empty() && belongs.len() < 60);
    cluster.stop(4).await;
    cluster.replace_disk(4, 98);
    cluster.start(4).await;
    cluster.stop(5).await;
    let (mut found, mut after) = (BTreeSet::new(), None);
    loop {
        let page = cluster
            .shards(1)
            .missing_on(NodeId(4), Profile::R3, after, 9)
            .await;
        let page = page.unwrap();
        assert_eq!(page.skipped.len(), 1, "node 5 does not answer");
        found.extend(page.missing);
        after = match page.next {
            Some(next) => Some(next),
            None => break,
        };
    }
    assert_eq!(found, belongs);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_grows_from_one_node_without_losing_sight_of_a_chunk() {
    let mut cluster = Cluster::new(3, 3).await;
    for id in 1..=3 {
        cluster.place(id, map_of(1));
    }
    let mut old = Vec::new();
    for salt in 0..10 {
        let bytes = pattern(20_000, salt);
        let chunk = cluster.put(1, &bytes).await.unwrap();
        assert_eq!((chunk.profile, chunk.owed.is_empty()), (Profile::R1, true));
        old.push((bytes, chunk));
    }
    assert_eq!([cluster.calls(2), cluster.calls(3)], [0, 0]);
    for id in 1..=3 {
        let two = map_of(1).with(NodeId(2), member(NodeState::Active, None));
        cluster.place(id, two.with(NodeId(3), member(NodeState::Active, None)));
    }
    for (bytes, chunk) in &old {
        assert!(
            cluster.get(3, chunk).await.unwrap() == *bytes,
            "it is only on node 1"
        );
        let shards = cluster.shards(2);
        let repaired = shards
            .repair(chunk.chunk, Profile::R3, Depth::Presence)
            .await;
        assert_eq!(repaired.unwrap().copied.len(), 2);
    }
    cluster.stop(1).await;
    for (bytes, chunk) in &old {
        assert!(cluster.get(2, chunk).await.unwrap() == *bytes);
    }
    let new = cluster.put(2, &pattern(100, 50)).await.unwrap();
    assert_eq!((new.profile, new.owed.len()), (Profile::R3, 1));
}

#[tokio::test(start_paused = true)]
async fn one_node_costs_what_its_volume_costs() {
    let cluster = Cluster::new(1, 4).await;
    let shards = cluster.shards(1);
    let metrics = &cluster.machine(1).metrics;
    for direct in [true, false] {
        let (synced, written) = (metrics.fsyncs.get(), metrics.bytes_written.get());
        for salt in 0..10 {
            let bytes = pattern(30_000, salt);
            let (chunk, crc64) = if direct {
                let mut writer = shards.local().begin_sized(30_000).await.unwrap();
                writer.append(bytes.clone()).await.unwrap();
                let chunk = writer.finish().await.unwrap();
                (chunk.chunk, chunk.crc64)
            } else {
                let chunk = cluster.put(1, &bytes).await.unwrap();
                assert_eq!((chunk.profile, chunk.owed.is_empty()), (Profile::R1, true));
                (chunk.chunk, chunk.crc64)
            };
            assert!(support::get(&shards, chunk, 0..30_000).await.unwrap() == bytes);
            assert_eq!(shards.local().verify(&chunk).await.unwrap().crc64, crc64);
        }
        assert_eq!(metrics.fsyncs.get() - synced, 10, "direct: {direct}");
        assert_eq!(metrics.bytes_written.get() - written, 300_000);
    }
    assert_eq!(cluster.calls(1), 0);
}

#[tokio::test(start_paused = true)]
async fn an_erasure_coded_profile_is_refused_by_name() {
    let cluster = Cluster::new(3, 5).await;
    let chunk = cluster.put(1, &pattern(10, 1)).await.unwrap().chunk;
    let profile = Profile::Ec { k: 4, m: 2 };
    let refused = cluster
        .shards(1)
        .repair(chunk, profile, Depth::Presence)
        .await;
    let expected = NotWritable { profile };
    assert!(matches!(refused, Err(RepairError::Profile(e)) if e == expected));
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_is_doubted_never_says_that_a_chunk_is_absent() {
    let cluster = Cluster::new(3, 21).await;
    let bytes = pattern(1000, 1);
    let chunk = cluster.put(1, &bytes).await.unwrap();
    let delete_everywhere = async || {
        for node in 1..=3 {
            let volume = cluster.shards(node).local().clone();
            volume.delete(&chunk.chunk).await.unwrap();
        }
    };
    delete_everywhere().await;
    cluster.machine(2).holdings.doubt();
    for node in [1, 2] {
        assert_eq!(cluster.copy(2, chunk.chunk).await, CopyState::Damaged);
        let read = cluster.get(node, &chunk).await.unwrap_err();
        assert!(matches!(read, ReadError::Unavailable { .. }), "{read}");
        let repaired = cluster
            .shards(node)
            .repair(chunk.chunk, Profile::R3, Depth::Presence)
            .await;
        assert!(matches!(repaired, Err(RepairError::NoSource { .. })));
    }
    // One healthy copy is enough to fill the place, doubted or not.
    let volume = cluster.shards(3).local().clone();
    let mut writer = volume.begin_as(chunk.chunk, None).await.unwrap();
    writer.append(bytes.clone()).await.unwrap();
    writer.finish().await.unwrap();
    let repaired = cluster
        .shards(1)
        .repair(chunk.chunk, Profile::R3, Depth::Presence)
        .await;
    assert!(repaired.unwrap().copied.contains(&NodeId(2)));
    delete_everywhere().await;
    cluster.machine(2).holdings.trust();
    let read = cluster.get(1, &chunk).await.unwrap_err();
    assert!(matches!(read, ReadError::NotFound { .. }), "{read}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_down_to_its_reserve_is_owed_its_copies() {
    let cluster = Cluster::new(3, 22).await;
    cluster.machine(3).tight.store(true, Ordering::Relaxed);
    let bytes = pattern(1000, 1);
    let refused = cluster.put(1, &bytes).await.unwrap();
    let third = cluster.shard_of(3, refused.chunk);
    assert_eq!(refused.owed, ShardSet::from_bits(1 << third));
    // Who has heard of it does not even ask.
    let before = cluster.machine(3).calls.load(Ordering::Relaxed);
    cluster.machine(1).full.are([NodeId(3)].into());
    let spared = cluster.put(1, &bytes).await.unwrap();
    assert_eq!(
        spared.owed,
        ShardSet::from_bits(1 << cluster.shard_of(3, spared.chunk))
    );
    assert_eq!(cluster.machine(3).calls.load(Ordering::Relaxed), before);
    // Its own repairs keep the reserve, too.
    for node in [1, 3] {
        let shards = cluster.shards(node);
        let repaired = shards.repair(spared.chunk, Profile::R3, Depth::Presence);
        let failed = repaired.await.unwrap().failed;
        assert!(
            matches!(failed[..], [(NodeId(3), CopyError::DiskFull { .. })]),
            "{failed:?}"
        );
    }
    // If the others do not suffice, it is asked: it may have room by now.
    cluster.machine(3).tight.store(false, Ordering::Relaxed);
    cluster.machine(1).full.are([NodeId(2), NodeId(3)].into());
    assert!(cluster.put(1, &bytes).await.unwrap().owed.is_empty());
    cluster.machine(1).full.are([].into());
    let shards = cluster.shards(1);
    let repaired = shards.repair(spared.chunk, Profile::R3, Depth::Presence);
    assert_eq!(repaired.await.unwrap().copied, [NodeId(3)]);
}

#[tokio::test(start_paused = true)]
async fn chunks_are_placed_where_there_is_room() {
    let cluster = Cluster::new(5, 23).await;
    cluster.machine(1).full.are([NodeId(2)].into());
    let mut owed = 0;
    for salt in 0..40 {
        let chunk = cluster.put(1, &pattern(100, salt)).await.unwrap();
        owed += u32::from(!chunk.owed.is_empty());
    }
    assert!(owed <= 2, "{owed} of 40 have a place on the full node");
}
