//! Three nodes and their faults: what is acknowledged stays readable, what is owed arrives.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use bytes::Bytes;
use floeberg_placement::{NodeState, Profile, ShardSet};
use floeberg_shards::{
    BadCopy, CopyError, CopyState, Depth, Flaw, ReadError, RepairError, ShardsConfig, WriteError,
};
use floeberg_types::NodeId;
use std::time::Duration;
use support::{Cluster, MIB, get, member, pattern, stored};
use tokio::time::Instant;

const LENGTHS: [usize; 7] = [0, 1, 65_535, MIB - 1, MIB, MIB + 1, 3 * MIB + 12_345];

#[tokio::test(start_paused = true)]
async fn a_chunk_is_readable_whichever_node_is_down() {
    let mut cluster = Cluster::new(3, 1).await;
    let mut chunks = Vec::new();
    for (salt, len) in (0..).zip(LENGTHS) {
        for front in 1..=3 {
            let bytes = pattern(len, salt * 10 + front);
            let chunk = cluster.put(front, &bytes).await.unwrap();
            assert_eq!((chunk.len, chunk.profile), (len as u64, Profile::R3));
            assert!(chunk.owed.is_empty(), "{chunk:?}");
            for node in 1..=3 {
                assert_eq!(
                    cluster.copy(node, chunk.chunk).await,
                    stored(&bytes, &chunk)
                );
            }
            chunks.push((bytes, chunk));
        }
    }
    for down in 1..=3 {
        cluster.stop(down).await;
        for front in (1..=3).filter(|front| *front != down) {
            for (bytes, chunk) in &chunks {
                assert!(cluster.get(front, chunk).await.unwrap() == *bytes);
            }
        }
        cluster.start(down).await;
    }
}

#[tokio::test(start_paused = true)]
async fn ranges_come_from_any_node() {
    let mut cluster = Cluster::new(3, 2).await;
    let bytes = pattern(3 * MIB + 500, 1);
    let chunk = cluster.put(1, &bytes).await.unwrap();
    cluster.stop(1).await;
    cluster.replace_disk(1, 77);
    cluster.start(1).await;
    let (mib, len) = (MIB as u64, chunk.len);
    for range in [
        0..1,
        0..len,
        1..mib,
        mib - 1..mib + 1,
        5..2 * mib,
        len - 1..len,
        7..7,
    ] {
        let expected = &bytes[range.start as usize..range.end as usize];
        let read = get(&cluster.shards(1), chunk.chunk, range.clone()).await;
        assert!(read.unwrap() == expected, "{range:?}");
    }
    for range in [0..len + 1, len + 1..len + 1] {
        let read = get(&cluster.shards(1), chunk.chunk, range).await;
        let refused = read.unwrap_err();
        assert!(matches!(refused, ReadError::OutOfRange { len: l, .. } if l == len));
    }
}

#[tokio::test(start_paused = true)]
async fn an_owed_copy_is_filled() {
    let mut cluster = Cluster::new(3, 3).await;
    cluster.stop(3).await;
    let bytes = pattern(2 * MIB + 7, 1);
    let chunk = cluster.put(1, &bytes).await.unwrap();
    let third = cluster.shard_of(3, chunk.chunk);
    assert_eq!(chunk.owed, ShardSet::from_bits(1 << third));
    let shards = cluster.shards(1);
    let without = shards
        .repair(chunk.chunk, Profile::R3, Depth::Presence)
        .await;
    let without = without.unwrap();
    assert!(!without.is_complete() && without.failed[0].0 == NodeId(3));
    cluster.start(3).await;
    let report = shards
        .repair(chunk.chunk, Profile::R3, Depth::Presence)
        .await;
    let report = report.unwrap();
    assert!(
        report.is_complete() && report.copied == [NodeId(3)],
        "{report:?}"
    );
    assert_eq!(cluster.copy(3, chunk.chunk).await, stored(&bytes, &chunk));
    let again = shards
        .repair(chunk.chunk, Profile::R3, Depth::Content)
        .await;
    let again = again.unwrap();
    assert!(again.is_complete() && again.copied.is_empty() && again.present.len() == 3);
    // The copy alone is enough now.
    cluster.stop(1).await;
    cluster.stop(2).await;
    assert!(cluster.get(3, &chunk).await.unwrap() == bytes);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_copy_is_passed_over_and_healed() {
    let mut cluster = Cluster::new(3, 4).await;
    cluster.expect_log("damaged record");
    let bytes = pattern(2 * MIB + 7, 1);
    let chunk = cluster.put(1, &bytes).await.unwrap();
    cluster.corrupt(2, &bytes);
    assert!(cluster.get(2, &chunk).await.unwrap() == bytes);
    let bad = BadCopy {
        chunk: chunk.chunk,
        node: NodeId(2),
        flaw: Flaw::Damaged,
    };
    assert_eq!(cluster.shards(2).take_bad_copies(), [bad]);
    assert_eq!(cluster.copy(2, chunk.chunk).await, CopyState::Damaged);
    // Another node heals it.
    let repaired = cluster
        .shards(1)
        .repair(chunk.chunk, Profile::R3, Depth::Content)
        .await;
    assert_eq!(repaired.unwrap().copied, [NodeId(2)]);
    assert_eq!(cluster.copy(2, chunk.chunk).await, stored(&bytes, &chunk));
    // The healed copy is the one that a rebuilt index finds.
    cluster.crash(2).await;
    cluster.nodes.get_mut(&2).unwrap().store = floeberg_kv::MemKvStore::new();
    cluster.start(2).await;
    assert_eq!(cluster.copy(2, chunk.chunk).await, stored(&bytes, &chunk));
    cluster.stop(1).await;
    cluster.stop(3).await;
    assert!(cluster.get(2, &chunk).await.unwrap() == bytes);
    assert!(cluster.shards(2).take_bad_copies().is_empty());
}

#[tokio::test(start_paused = true)]
async fn damage_in_the_middle_of_a_read_is_bridged() {
    let mut cluster = Cluster::new(3, 5).await;
    cluster.expect_log("damaged record");
    let bytes = pattern(4 * MIB, 1);
    let chunk = cluster.put(3, &bytes).await.unwrap();
    cluster.corrupt(3, &bytes[2 * MIB + 100..]);
    cluster.corrupt(1, &bytes[MIB + 100..]);
    assert!(cluster.get(3, &chunk).await.unwrap() == bytes);
    let healed = cluster
        .shards(3)
        .repair(chunk.chunk, Profile::R3, Depth::Content)
        .await;
    let mut copied = healed.unwrap().copied;
    copied.sort_unstable();
    assert_eq!(copied, [NodeId(1), NodeId(3)]);
    for node in 1..=3 {
        assert_eq!(
            cluster.copy(node, chunk.chunk).await,
            stored(&bytes, &chunk)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_node_does_not_hold_up_a_write() {
    let cluster = Cluster::new(3, 6).await;
    cluster.slow(3, Duration::from_millis(700));
    let begun = Instant::now();
    let mut chunks = Vec::new();
    for salt in 0..20 {
        let bytes = pattern(MIB + 5, salt);
        let chunk = cluster.put(1, &bytes).await.unwrap();
        chunks.push((bytes, chunk));
    }
    // The first write lingers for the slow node, the others know better.
    assert!(
        begun.elapsed() < Duration::from_millis(50),
        "{:?}",
        begun.elapsed()
    );
    for (_, chunk) in &chunks {
        let third = cluster.shard_of(3, chunk.chunk);
        assert_eq!(chunk.owed, ShardSet::from_bits(1 << third));
    }
    // What was still under way arrives; two pieces took 700 ms each.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for (bytes, chunk) in &chunks {
        assert_eq!(cluster.copy(3, chunk.chunk).await, stored(bytes, chunk));
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_lags_too_far_is_given_up() {
    let config = ShardsConfig {
        window: 2,
        ..ShardsConfig::default()
    };
    let cluster = Cluster::with(3, 7, config).await;
    cluster.slow(2, Duration::from_secs(2));
    let bytes = pattern(10 * MIB, 1);
    let chunk = cluster.put(1, &bytes).await.unwrap();
    assert_eq!(
        chunk.owed,
        ShardSet::from_bits(1 << cluster.shard_of(2, chunk.chunk))
    );
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(cluster.copy(2, chunk.chunk).await, CopyState::Absent);
    assert_eq!(
        cluster.running(2).server.open_writes(),
        0,
        "it was told to drop the copy"
    );
}

#[tokio::test(start_paused = true)]
async fn late_copies_are_bounded() {
    let config = ShardsConfig {
        late_copies: 3,
        ..ShardsConfig::default()
    };
    let cluster = Cluster::with(3, 8, config).await;
    cluster.slow(2, Duration::from_secs(2));
    let mut late = 0;
    for salt in 0..8 {
        cluster.put(1, &pattern(100, salt)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    for listed in cluster
        .shards(1)
        .list_on(NodeId(1), None, 100)
        .await
        .unwrap()
    {
        late += usize::from(cluster.copy(2, listed.chunk).await != CopyState::Absent);
    }
    // Copies that were given up may have reached the node before; those waited for all did.
    assert!(late >= 3, "{late}");
    assert_eq!(cluster.running(2).server.open_writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn too_few_nodes_are_an_error_that_names_them() {
    let mut cluster = Cluster::new(3, 9).await;
    cluster.stop(2).await;
    cluster.stop(3).await;
    let begun = Instant::now();
    let refused = cluster.put(1, &pattern(3 * MIB, 1)).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(20));
    let WriteError::NotEnough {
        acked,
        needed,
        failures,
    } = &refused
    else {
        panic!("{refused}");
    };
    assert!(*acked <= 1 && *needed == 2);
    let named: Vec<u64> = failures.iter().map(|(node, _)| node.0).collect();
    assert!(named.contains(&2) && named.contains(&3), "{refused}");
    assert!(
        refused
            .to_string()
            .contains("write again once enough nodes are up")
    );
    // Nothing is left behind of it once its open copies were dropped.
    cluster.settle().await;
    let left = cluster.shards(1).local().stats().live_chunks;
    assert!(left <= 1);
}

#[tokio::test(start_paused = true)]
async fn full_disks_are_told_apart() {
    let mut cluster = Cluster::new(3, 10).await;
    for id in [2, 3] {
        cluster.stop(id).await;
        cluster.nodes.get_mut(&id).unwrap().capacity = Some(65 << 20);
        cluster.replace_disk(id, 500 + id);
        cluster.start(id).await;
    }
    // So small a disk takes short chunks only, and the map says so.
    let limit = cluster.shards(2).local().max_chunk_bytes();
    assert!(limit < cluster.shards(1).max_chunk_bytes());
    let small = member(NodeState::Active, Some(limit));
    let map = support::map_of(3)
        .with(NodeId(2), small.clone())
        .with(NodeId(3), small);
    cluster.place(1, map);
    let (shards, mut written) = (cluster.shards(1), 0);
    assert_eq!(shards.max_chunk_bytes(), limit);
    assert!(shards.begin_sized(limit + 1).await.is_err());
    let refused = loop {
        let bytes = pattern(usize::try_from(limit).unwrap(), written);
        match cluster.put(1, &bytes).await {
            Ok(chunk) => assert!(chunk.owed.is_empty()),
            Err(error) => break error,
        }
        written += 1;
        assert!(written < 40, "the disks never filled");
    };
    assert!(
        written > 2 && refused.is_disk_full(),
        "{written}: {refused}"
    );
}

#[tokio::test(start_paused = true)]
async fn concurrent_use_over_a_lossy_network_loses_nothing() {
    let config = ShardsConfig {
        patience: Duration::from_millis(200),
        suspicion: Duration::from_millis(50),
        ..ShardsConfig::default()
    };
    let cluster = Cluster::with(3, 11, config).await;
    cluster
        .net
        .delay(Duration::from_micros(100)..Duration::from_millis(2));
    cluster.net.loss(200);
    let one = |n: u64| {
        let cluster = &cluster;
        async move {
            let bytes = pattern((n as usize * 77_777) % (2 * MIB + 1), n);
            let chunk = match cluster.put(1 + n % 3, &bytes).await {
                Ok(chunk) => chunk,
                Err(refused) => return Err(refused.to_string()),
            };
            let read = cluster.get(1 + (n + 1) % 3, &chunk).await;
            match read {
                Ok(read) => assert!(read == bytes),
                Err(ReadError::Unavailable { .. }) => {}
                Err(other) => panic!("{other}"),
            }
            Ok((bytes, chunk))
        }
    };
    let all = futures::future::join_all((0..60).map(one)).await;
    let (acked, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    // A piece is sent three times before its copy is given up, so few writes fail.
    assert!(refused.len() <= 2, "{refused:#?}");
    let acked: Vec<_> = acked.into_iter().flatten().collect();
    cluster.net.loss(0);
    tokio::time::sleep(Duration::from_secs(60)).await;
    for (bytes, chunk) in &acked {
        let copies = [1, 2, 3].map(|id| cluster.copy(id, chunk.chunk));
        let copies = futures::future::join_all(copies).await;
        let there = copies
            .iter()
            .filter(|c| **c == stored(bytes, chunk))
            .count();
        assert!(there >= 2, "{copies:?}");
        for (number, copy) in copies.iter().enumerate() {
            let shard = cluster.shard_of(number as u64 + 1, chunk.chunk);
            let promised = !chunk.owed.contains(shard);
            assert!(!promised || *copy != CopyState::Absent, "{chunk:?}");
        }
        let shards = cluster.shards(2);
        let repaired = shards
            .repair(chunk.chunk, Profile::R3, Depth::Content)
            .await;
        assert!(repaired.unwrap().is_complete());
        for id in 1..=3 {
            assert!(cluster.get(id, chunk).await.unwrap() == *bytes);
            assert_eq!(cluster.copy(id, chunk.chunk).await, stored(bytes, chunk));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_the_acknowledgement_and_the_third_copy_owes_it() {
    let mut cluster = Cluster::new(3, 12).await;
    cluster.slow(3, Duration::from_secs(3));
    let bytes = pattern(MIB + 99, 1);
    let chunk = cluster.put(1, &bytes).await.unwrap();
    let third = cluster.shard_of(3, chunk.chunk);
    assert_eq!(chunk.owed, ShardSet::from_bits(1 << third));
    cluster.crash(1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    cluster.slow(3, Duration::ZERO);
    assert_eq!(cluster.copy(3, chunk.chunk).await, CopyState::Absent);
    assert_eq!(
        cluster.running(3).server.open_writes(),
        0,
        "silence ended the write"
    );
    // With the writer still away, the second copy is the source.
    let repaired = cluster
        .shards(2)
        .repair(chunk.chunk, Profile::R3, Depth::Presence)
        .await;
    assert_eq!(repaired.unwrap().copied, [NodeId(3)]);
    cluster.start(1).await;
    for id in 1..=3 {
        assert_eq!(cluster.copy(id, chunk.chunk).await, stored(&bytes, &chunk));
    }
    let whole = cluster
        .shards(1)
        .repair(chunk.chunk, Profile::R3, Depth::Content)
        .await;
    assert!(whole.unwrap().is_complete());
}

#[tokio::test(start_paused = true)]
async fn writes_of_a_broken_connection_are_dropped() {
    let mut cluster = Cluster::new(3, 13).await;
    let mut writer = cluster.shards(1).begin().await.unwrap();
    writer.append(pattern(3 * MIB, 1)).await.unwrap();
    cluster.settle().await;
    let chunk = writer.chunk();
    assert_eq!(cluster.running(2).server.open_writes(), 1);
    let seen = cluster
        .shards(3)
        .state_on(NodeId(2), chunk, Depth::Presence)
        .await;
    assert_eq!(seen.unwrap(), CopyState::Writing);
    cluster.net.down(NodeId(1));
    drop(writer);
    cluster.settle().await;
    assert_eq!(cluster.running(2).server.open_writes(), 1, "nobody told it");
    tokio::time::sleep(Duration::from_secs(60)).await;
    for id in [2, 3] {
        assert_eq!(cluster.running(id).server.open_writes(), 0);
        assert_eq!(cluster.shards(id).local().stats().live_chunks, 0);
    }
    cluster.crash(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_writer_leaves_nothing() {
    let cluster = Cluster::new(3, 14).await;
    let mut writer = cluster.shards(1).begin().await.unwrap();
    writer.append(pattern(3 * MIB, 1)).await.unwrap();
    cluster.settle().await;
    drop(writer);
    cluster.settle().await;
    for id in 1..=3 {
        assert_eq!(cluster.running(id).server.open_writes(), 0);
        assert_eq!(cluster.shards(id).local().stats().live_chunks, 0);
    }
    let mut short = cluster.shards(1).begin_sized(10).await.unwrap();
    short.append(Bytes::from_static(b"12345")).await.unwrap();
    let refused = short.finish().await.unwrap_err();
    assert!(matches!(
        refused,
        WriteError::TooShort {
            announced: 10,
            received: 5
        }
    ));
    let mut long = cluster.shards(1).begin_sized(4).await.unwrap();
    let refused = long.append(Bytes::from_static(b"12345")).await.unwrap_err();
    assert!(matches!(refused, WriteError::TooLong { limit: 4 }));
}

#[tokio::test(start_paused = true)]
async fn a_slow_copy_is_hedged() {
    // Four nodes, so that some chunks are not on the node that reads them.
    let cluster = Cluster::new(4, 15).await;
    let shards = cluster.shards(1);
    let (bytes, chunk) = loop {
        let bytes = pattern(2 * MIB, 1);
        let chunk = cluster.put(1, &bytes).await.unwrap();
        if cluster.copy(1, chunk.chunk).await == CopyState::Absent {
            break (bytes, chunk);
        }
    };
    let map = shards.map();
    let first = map.candidates(map.group_of(&chunk.chunk))[0];
    cluster.slow(first.0, Duration::from_secs(4));
    let begun = Instant::now();
    assert!(cluster.get(1, &chunk).await.unwrap() == bytes);
    assert!(
        begun.elapsed() < Duration::from_millis(100),
        "{:?}",
        begun.elapsed()
    );
    assert!(shards.take_bad_copies().is_empty(), "slow is not bad");
}

#[tokio::test(start_paused = true)]
async fn chunks_are_deleted_everywhere_and_again() {
    let mut cluster = Cluster::new(3, 16).await;
    let mut ids = Vec::new();
    for salt in 0..5 {
        ids.push(cluster.put(1, &pattern(5000, salt)).await.unwrap().chunk);
    }
    let shards = cluster.shards(2);
    for _ in 0..2 {
        assert!(
            shards
                .delete_all(&ids[..3])
                .await
                .unwrap()
                .unconfirmed
                .is_empty()
        );
        for id in 1..=3 {
            assert_eq!(cluster.shards(id).local().stats().live_chunks, 2);
        }
    }
    let gone = get(&shards, ids[0], 0..1).await.unwrap_err();
    assert!(matches!(gone, ReadError::NotFound { .. }));
    assert!(
        shards.take_bad_copies().is_empty(),
        "a deleted chunk needs no repair"
    );
    let gone = shards.repair(ids[0], Profile::R3, Depth::Content).await;
    assert!(matches!(gone, Err(RepairError::NotFound { .. })));
    cluster.stop(3).await;
    let deleted = shards.delete(&ids[3]).await.unwrap();
    assert!(matches!(
        &deleted.unconfirmed[..],
        [(NodeId(3), CopyError::Unreachable { .. })]
    ));
    let unsure = get(&shards, ids[3], 0..1).await.unwrap_err();
    assert!(
        matches!(unsure, ReadError::Unavailable { .. }),
        "node 3 may have it: {unsure}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_emptied_takes_nothing_from_writers_with_an_old_map() {
    let cluster = Cluster::new(4, 17).await;
    let old = support::map_of(4);
    let draining = old.with_state(NodeId(4), NodeState::Draining).unwrap();
    let before = cluster.put(1, &pattern(100, 99)).await.unwrap();
    for id in 2..=4 {
        cluster.place(id, draining.clone());
    }
    let held = cluster.shards(4).local().stats().live_chunks;
    let mut refused = 0;
    for salt in 0..20 {
        let bytes = pattern(1000, salt);
        // It may be too few if the others are not where the chunk belongs either.
        let Ok(chunk) = cluster.put(1, &bytes).await else {
            continue;
        };
        let targets = old.targets(old.group_of(&chunk.chunk), Profile::R3);
        let at = targets.iter().position(|node| *node == NodeId(4));
        refused += usize::from(at.is_some_and(|at| chunk.owed.contains(at)));
    }
    assert!(refused > 0, "no chunk belonged on node 4");
    assert_eq!(cluster.shards(4).local().stats().live_chunks, held);
    cluster.place(1, draining);
    for id in 1..=4 {
        assert!(
            cluster.get(id, &before).await.is_ok(),
            "what it has is still served"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn many_writers_wait_for_a_busy_node_instead_of_failing() {
    let config = ShardsConfig {
        staged_writes: 4,
        calls_per_peer: 20,
        ..ShardsConfig::default()
    };
    let cluster = Cluster::with(3, 18, config).await;
    for id in 1..=3 {
        cluster.slow(id, Duration::from_millis(1));
    }
    let put = |n: u64| {
        let cluster = &cluster;
        async move { cluster.put(1, &pattern(MIB + 100, n)).await }
    };
    let all = futures::future::join_all((0..40).map(put)).await;
    for chunk in all {
        let chunk = chunk.unwrap();
        assert!(cluster.get(2, &chunk).await.is_ok());
    }
}
