//! What the serving side takes and refuses, message by message.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use floeberg_proto::floeberg::rpc::v1 as pb;
use floeberg_rpc::{Handler, Method, Refusal, RefusalCode, Request};
use floeberg_shards::{CopyState, ShardsConfig};
use floeberg_types::{ChunkId, GroupId, NodeId};
use prost::Message;
use support::{Cluster, pattern};

const CONFLICT: u32 = 6;
const NO_SUCH_WRITE: u32 = 7;
const FAILED: u32 = 8;

fn crc(bytes: &[u8]) -> u64 {
    checksum(CrcAlgorithm::Crc64Nvme, bytes)
}

/// A piece of the write `write` of chunk 1.
fn piece(write: u8, sequence: u64, data: &Bytes, whole: Option<&[u8]>) -> pb::ShardWrite {
    pb::ShardWrite {
        format: 1,
        shard: Some(pb::ShardId {
            chunk: vec![1; 16].into(),
            number: 0,
        }),
        write: vec![write; 16].into(),
        epoch: 1,
        profile: 3,
        sequence,
        data: data.clone(),
        data_crc64: crc(data),
        announced: None,
        end: whole.map(|whole| pb::ShardEnd {
            length: whole.len() as u64,
            crc64: crc(whole),
        }),
        abandon: false,
    }
}

async fn send(cluster: &Cluster, write: &pb::ShardWrite) -> Result<pb::ShardWriteAnswer, Refusal> {
    let request = Request {
        method: Method::ShardWrite,
        group: GroupId::CATALOG,
        body: write.encode_to_vec().into(),
    };
    let answer = cluster.running(1).server.handle(NodeId(2), request).await?;
    Ok(pb::ShardWriteAnswer::decode(answer).unwrap())
}

async fn durable(cluster: &Cluster, write: &pb::ShardWrite) -> bool {
    let answer = send(cluster, write).await.unwrap();
    assert_eq!(answer.fault, None);
    answer.durable
}

async fn fault(cluster: &Cluster, write: &pb::ShardWrite) -> u32 {
    let answer = send(cluster, write).await.unwrap();
    assert!(!answer.durable);
    answer.fault.unwrap().code
}

async fn refusal(cluster: &Cluster, write: &pb::ShardWrite) -> RefusalCode {
    send(cluster, write).await.unwrap_err().code
}

#[tokio::test(start_paused = true)]
async fn pieces_are_stored_once_and_in_order() {
    let cluster = Cluster::new(3, 1).await;
    let (a, b) = (pattern(700, 1), pattern(900, 2));
    let whole = [&a[..], &b[..]].concat();
    let (first, last) = (piece(1, 0, &a, None), piece(1, 1, &b, Some(&whole)));
    assert!(!durable(&cluster, &first).await);
    assert!(!durable(&cluster, &first).await, "it came again");
    let gap = piece(1, 2, &b, None);
    assert_eq!(refusal(&cluster, &gap).await, RefusalCode::Malformed);
    let other = piece(1, 0, &b, None);
    assert_eq!(refusal(&cluster, &other).await, RefusalCode::Malformed);
    assert_eq!(fault(&cluster, &piece(2, 1, &b, None)).await, NO_SUCH_WRITE);
    assert!(durable(&cluster, &last).await);
    assert!(durable(&cluster, &last).await, "its answer was lost");
    let stats = cluster.shards(1).local().stats();
    assert_eq!((stats.live_chunks, stats.live_bytes), (1, 1600));
    assert_eq!(stats.dead_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_not_what_was_meant_are_never_stored() {
    let cluster = Cluster::new(3, 2).await;
    let (a, b) = (pattern(700, 1), pattern(700, 2));
    assert_eq!(fault(&cluster, &piece(1, 0, &a, Some(&b))).await, FAILED);
    assert_eq!(
        fault(&cluster, &piece(2, 0, &a, Some(&a[1..]))).await,
        FAILED
    );
    let chunk = ChunkId::from_bytes([1; 16]);
    assert_eq!(cluster.copy(1, chunk).await, CopyState::Absent);
    assert!(durable(&cluster, &piece(3, 0, &a, Some(&a))).await);
    assert!(
        durable(&cluster, &piece(4, 0, &a, Some(&a))).await,
        "the same again"
    );
    assert_eq!(fault(&cluster, &piece(5, 0, &b, Some(&b))).await, CONFLICT);
    let there = cluster.copy(1, chunk).await;
    let (len, crc64) = (700, Some(crc(&a)));
    assert_eq!(there, CopyState::Stored { len, crc64 });
    assert_eq!(cluster.shards(1).local().stats().dead_bytes, 0);
    assert_eq!(cluster.running(1).server.open_writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn open_writes_are_bounded_and_can_be_abandoned() {
    let config = ShardsConfig {
        staged_writes: 2,
        ..ShardsConfig::default()
    };
    let cluster = Cluster::with(3, 3, config).await;
    let a = pattern(700, 1);
    assert!(!durable(&cluster, &piece(1, 0, &a, None)).await);
    assert!(!durable(&cluster, &piece(2, 0, &a, None)).await);
    let third = piece(3, 0, &a, None);
    assert_eq!(refusal(&cluster, &third).await, RefusalCode::Busy);
    let mut abandoned = piece(1, 0, &Bytes::new(), None);
    abandoned.abandon = true;
    assert!(!durable(&cluster, &abandoned).await);
    assert!(!durable(&cluster, &third).await);
    let mut coded = piece(4, 0, &a, None);
    coded.profile = 0x0402;
    assert_eq!(refusal(&cluster, &coded).await, RefusalCode::Malformed);
}
