//! Objects whose chunks lie on three nodes: what a write owes is paid, what a read misses is healed,
//! what nobody owns is given back by the node that has it.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use bytes::Bytes;
use floeberg_env::{Env, Reserve, SimControl};
use floeberg_kv::MemKvStore;
use floeberg_metastore::Rows;
use floeberg_objects::errors::{GetError, IngestError, Outage, PutError};
use floeberg_objects::{Body, DeleteRequest, OrphanSweep, Repaired, Repairs, WriteConditions};
use floeberg_rpc::memory::MemNetwork;
use floeberg_rpc::{Routes, Transport};
use floeberg_shards::{Holdings, ServerParts, ShardServer, ShardsConfig};
use floeberg_telemetry::testing::CapturedLog;
use floeberg_types::{ChunkId, NodeId};
use floeberg_volume::Volume;
use futures::StreamExt;
use std::error::Error;
use std::sync::Arc;
use support::*;
use tokio::sync::watch;

/// Key tags of the rows of chunks (docs/formats/object-rows.md).
const OWNER: u8 = 0x46;
const REPAIR: u8 = 0x4a;

/// A node that keeps chunks and no index.
struct Peer {
    id: NodeId,
    volume: Volume,
    server: Arc<ShardServer>,
    _control: SimControl,
}

/// Node 1 with the index and nodes 2 and 3 beside it.
struct Trio {
    world: World,
    net: MemNetwork,
    node: Node,
    peers: Vec<Peer>,
    log: CapturedLog,
}

impl Peer {
    async fn new(id: u64) -> Self {
        let (env, control) = Env::simulated(900 + id);
        let volume = open_volume(&env, &MemKvStore::new()).await;
        let server = ShardServer::new(ServerParts {
            node: NodeId(id),
            volume: volume.clone(),
            holdings: Holdings::default(),
            reserve: Reserve::default(),
            placement: watch::channel(map_of(3)).1,
            env,
            config: ShardsConfig::default(),
        });
        Self {
            id: NodeId(id),
            volume,
            server: Arc::new(server),
            _control: control,
        }
    }

    fn join(&self, net: &MemNetwork) -> Arc<dyn Transport> {
        let routes = Routes::new();
        for method in ShardServer::METHODS {
            routes.add(method, self.server.clone());
        }
        net.node(self.id, routes)
    }

    fn chunks(&self) -> Vec<ChunkId> {
        chunks_on(&self.volume)
    }
}

fn chunks_on(volume: &Volume) -> Vec<ChunkId> {
    let all = volume.chunks(None, 100).unwrap();
    all.into_iter().map(|(chunk, _)| chunk).collect()
}

impl Trio {
    async fn new(seed: u64) -> Self {
        let log = CapturedLog::start("warn");
        let world = World::new(seed);
        let net = MemNetwork::new(&world.env, seed);
        let peers = vec![Peer::new(2).await, Peer::new(3).await];
        for peer in &peers {
            peer.join(&net);
        }
        let transport = net.node(NodeId(1), Routes::new());
        let node = world.start_among(3, transport).await;
        Self {
            world,
            net,
            node,
            peers,
            log,
        }
    }

    fn peer(&self, id: u64) -> &Peer {
        let found = self.peers.iter().find(|peer| peer.id == NodeId(id));
        found.unwrap()
    }

    fn down(&self, id: u64) {
        self.net.down(NodeId(id));
    }

    /// Back, and no longer under suspicion. What was on its way to it has been given up before.
    async fn up(&self, id: u64) {
        while self.node.shards.late_copies() > 0 {
            self.world.pass(100).await;
        }
        self.peer(id).join(&self.net);
        self.world.pass(5_000).await;
    }

    async fn put(&self, key: &str, bytes: &Bytes) -> Result<(), PutError> {
        let put = self.node.put(&self.world, "files", key, bytes).await;
        put.map(|_| ())
    }

    async fn get(&self, key: &str) -> Result<Vec<u8>, GetError> {
        self.node.get(&self.world, "files", key).await
    }

    async fn delete(&self, object: &str) {
        let request = DeleteRequest {
            bucket: bucket("files"),
            key: key(object),
            version: None,
            conditions: WriteConditions::default(),
        };
        let objects = &self.node.objects;
        let deleted = objects.delete(&self.world.may(), &cx(), &request).await;
        deleted.unwrap();
    }

    fn rows(&self, tag: u8) -> usize {
        let view = self.node.store.local();
        view.scan_prefix(&[tag], None, 100).unwrap().len()
    }

    async fn repair(&self, repairs: &mut Repairs) -> (usize, usize) {
        let Repaired { complete, open } = self.node.objects.repair(repairs).await.unwrap();
        (complete, open)
    }

    /// No warning was logged.
    fn end(self) {
        assert_eq!(self.log.lines(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_a_write_owes_is_paid_once_the_node_is_back() {
    let trio = Trio::new(50).await;
    let bytes = pattern(600, 1);
    trio.put("whole", &bytes).await.unwrap();
    assert_eq!((trio.rows(OWNER), trio.rows(REPAIR)), (3, 0));
    for peer in &trio.peers {
        assert_eq!(peer.chunks(), chunks_on(&trio.node.volume));
    }
    trio.down(3);
    trio.put("owing", &bytes).await.unwrap();
    assert_eq!((trio.rows(OWNER), trio.rows(REPAIR)), (6, 3));
    let mut repairs = Repairs::default();
    assert_eq!(trio.repair(&mut repairs).await, (0, 3));
    assert_eq!(trio.rows(REPAIR), 3);
    trio.up(3).await;
    assert_eq!(trio.repair(&mut repairs).await, (3, 0));
    assert_eq!(trio.rows(REPAIR), 0);
    assert_eq!(trio.peer(3).chunks(), chunks_on(&trio.node.volume));
    assert_eq!(trio.repair(&mut repairs).await, (0, 0));
    // The copies that were brought are good on their own.
    trio.down(2);
    for chunk in chunks_on(&trio.node.volume) {
        trio.node.volume.delete(&chunk).await.unwrap();
    }
    assert_eq!(trio.get("owing").await.unwrap(), bytes);
    trio.end();
}

#[tokio::test]
async fn a_part_owes_like_an_object() {
    let trio = Trio::new(51).await;
    trio.down(2);
    let request = floeberg_objects::CreateUploadRequest {
        bucket: bucket("files"),
        key: key("k"),
        headers: floeberg_objects::Headers::default(),
        tags: floeberg_objects::Tags::new(),
        checksum: None,
        checksum_kind: None,
    };
    let objects = &trio.node.objects;
    let (may, cx) = (trio.world.may(), cx());
    let created = objects.create_upload(&may, &cx, request).await.unwrap();
    let upload = floeberg_objects::UploadRef {
        bucket: bucket("files"),
        key: key("k"),
        upload: created.upload.to_string(),
    };
    let body = Body::from_bytes(pattern(100, 1));
    let may = trio.world.may();
    let part = objects.upload_part(&may, &cx, &upload, 1, body).await;
    part.unwrap();
    assert_eq!((trio.rows(OWNER), trio.rows(REPAIR)), (1, 1));
    trio.up(2).await;
    assert_eq!(trio.repair(&mut Repairs::default()).await, (1, 0));
    assert_eq!(trio.peer(2).chunks(), chunks_on(&trio.node.volume));
    trio.end();
}

#[tokio::test]
async fn a_deleted_object_owes_nothing() {
    let trio = Trio::new(52).await;
    trio.down(3);
    trio.put("k", &pattern(600, 1)).await.unwrap();
    assert_eq!(trio.rows(REPAIR), 3);
    trio.delete("k").await;
    trio.world.pass(2_000).await;
    let done = trio.node.objects.reclaim().await.unwrap();
    assert_eq!((done.due, trio.rows(OWNER)), (3, 0));
    assert!(chunks_on(&trio.node.volume).is_empty() && trio.peer(2).chunks().is_empty());
    trio.up(3).await;
    assert_eq!(trio.repair(&mut Repairs::default()).await, (0, 0));
    assert_eq!(trio.rows(REPAIR), 0);
    assert!(trio.peer(3).chunks().is_empty(), "nothing was copied");
    trio.end();
}

#[tokio::test]
async fn a_copy_that_a_read_missed_is_healed() {
    let trio = Trio::new(53).await;
    let bytes = pattern(200, 1);
    trio.put("k", &bytes).await.unwrap();
    let chunk = chunks_on(&trio.node.volume)[0];
    trio.node.volume.delete(&chunk).await.unwrap();
    assert_eq!(trio.get("k").await.unwrap(), bytes);
    // While both others are away there is no source; it is not forgotten.
    let mut repairs = Repairs::default();
    trio.down(2);
    trio.down(3);
    assert_eq!(trio.repair(&mut repairs).await, (0, 1));
    trio.up(2).await;
    trio.up(3).await;
    assert_eq!(trio.repair(&mut repairs).await, (1, 0));
    assert_eq!(chunks_on(&trio.node.volume), [chunk]);
    assert_eq!(trio.repair(&mut repairs).await, (0, 0));
    trio.end();
}

#[tokio::test]
async fn what_a_volume_has_lost_comes_back_from_the_others() {
    let trio = Trio::new(57).await;
    let objects = &trio.node.objects;
    for number in 0..20 {
        trio.put(&format!("k{number}"), &pattern(200, number))
            .await
            .unwrap();
    }
    // A request that is still open has published nothing yet.
    let open = ChunkId::from_bytes([9; 16]);
    let mut writer = trio.peer(2).volume.begin_as(open, None).await.unwrap();
    writer.append(pattern(10, 1)).await.unwrap();
    writer.finish().await.unwrap();
    let all = trio.peer(2).chunks();
    let kept = &chunks_on(&trio.node.volume)[..7];
    let mut lost = chunks_on(&trio.node.volume);
    lost.retain(|chunk| !kept.contains(chunk));
    trio.node.volume.delete_all(&lost).await.unwrap();
    trio.world.holdings.doubt();

    // Nobody takes what is lost for deleted, and nobody pretends that it is back.
    trio.down(2);
    trio.down(3);
    let mut repairs = Repairs::default();
    let found = objects.refill(|_| ()).await.unwrap();
    assert_eq!((found.copied, found.left, found.nowhere), (0, 13, 0));
    assert_eq!(found.silent, [2, 3].map(NodeId).into());
    assert!(!found.is_complete());
    assert_eq!(trio.repair(&mut repairs).await, (0, 0));
    trio.up(2).await;
    trio.up(3).await;
    let mut told = 0;
    let found = objects.refill(|_| told += 1).await.unwrap();
    assert_eq!((found.copied, found.left, found.compared), (14, 0, 20));
    assert!(found.is_complete() && told >= 2);
    assert_eq!(chunks_on(&trio.node.volume), all);
    trio.world.holdings.trust();
    let again = objects.refill(|_| ()).await.unwrap();
    assert_eq!((again.copied, again.left), (0, 0));
    trio.end();
}

#[tokio::test]
async fn a_chunk_that_nobody_has_is_never_taken_for_deleted() {
    let trio = Trio::new(58).await;
    trio.put("k", &pattern(200, 1)).await.unwrap();
    let chunk = chunks_on(&trio.node.volume)[0];
    for volume in [
        &trio.node.volume,
        &trio.peer(2).volume,
        &trio.peer(3).volume,
    ] {
        volume.delete(&chunk).await.unwrap();
    }
    trio.world.holdings.doubt();
    let found = trio.node.objects.refill(|_| ()).await.unwrap();
    assert_eq!((found.left, found.nowhere), (1, 1));
    assert!(!found.is_complete());
    let read = trio.get("k").await.unwrap_err();
    let causes = std::iter::successors(Some(&read as &dyn Error), |cause| Error::source(*cause));
    let read: Vec<String> = causes.map(ToString::to_string).collect();
    assert!(read.iter().any(|c| c.contains("older copy")), "{read:?}");
    trio.delete("k").await;
    trio.world.pass(400_000).await;
    trio.node.objects.reclaim().await.unwrap();
    assert!(
        trio.node
            .objects
            .refill(|_| ())
            .await
            .unwrap()
            .is_complete()
    );
    trio.end();
}

#[tokio::test]
async fn without_enough_nodes_clients_are_told_to_come_back() {
    let trio = Trio::new(54).await;
    let bytes = pattern(200, 1);
    trio.put("k", &bytes).await.unwrap();
    trio.down(2);
    trio.down(3);
    let refused = trio.put("l", &bytes).await.unwrap_err();
    let unavailable = |error: &PutError| {
        matches!(
            error,
            PutError::Ingest(IngestError::Outage(Outage::Unavailable))
        )
    };
    assert!(unavailable(&refused), "{refused:?}");
    assert_eq!(trio.get("k").await.unwrap(), bytes);
    let chunk = trio.peer(2).chunks()[0];
    trio.node.volume.delete(&chunk).await.unwrap();
    let away = trio.get("k").await.unwrap_err();
    assert!(
        matches!(away, GetError::Outage(Outage::Unavailable)),
        "{away:?}"
    );
    trio.up(2).await;
    assert_eq!(trio.get("k").await.unwrap(), bytes);
    trio.put("l", &bytes).await.unwrap();
    // What the refused write left is given back.
    assert_eq!(trio.node.objects.reclaim().await.unwrap().discarded, 1);
    assert_eq!(trio.peer(2).chunks().len(), 2);
    trio.end();
}

/// A chunk without an owner may belong to a request of another node as long as that may take.
#[tokio::test]
async fn an_orphan_is_older_than_any_request() {
    let trio = Trio::new(55).await;
    trio.put("k", &pattern(200, 1)).await.unwrap();
    let kept = chunks_on(&trio.node.volume);
    let orphan = ChunkId::from_bytes([7; 16]);
    let mut writer = trio.node.volume.begin_as(orphan, None).await.unwrap();
    writer.append(pattern(100, 1)).await.unwrap();
    writer.finish().await.unwrap();
    let (mut sweep, objects) = (OrphanSweep::default(), &trio.node.objects);
    let config = &trio.world.config;
    let grace = u64::try_from(config.request_max_ms + config.orphan_grace_ms).unwrap();
    assert_eq!(objects.sweep_orphans(&mut sweep).await.unwrap(), 0);
    trio.world.pass(grace - 1_000).await;
    assert_eq!(objects.sweep_orphans(&mut sweep).await.unwrap(), 0);
    trio.world.pass(1_000).await;
    assert_eq!(objects.sweep_orphans(&mut sweep).await.unwrap(), 1);
    assert_eq!(chunks_on(&trio.node.volume), kept);
    trio.end();
}

/// The other side of the same bound: older requests publish nothing.
#[tokio::test]
async fn a_body_that_takes_too_long_is_given_up() {
    let trio = Trio::new(56).await;
    let max = u64::try_from(trio.world.config.request_max_ms).unwrap();
    for (late, published) in [(max - 1_000, true), (max, false)] {
        let (first, second) = (pattern(300, 1), pattern(300, 2));
        let second = async move {
            tokio::time::pause();
            tokio::time::advance(std::time::Duration::from_millis(late)).await;
            tokio::time::resume();
            Ok(second)
        };
        let first = futures::stream::iter([Ok(first)]);
        let mut request = put_request("files", "slow", &Bytes::new());
        request.body.stream = first.chain(futures::stream::once(second)).boxed();
        request.body.len = None;
        let (objects, may) = (&trio.node.objects, trio.world.may());
        let outcome = objects.put(&may, &cx(), request).await;
        let refused = matches!(
            outcome,
            Err(PutError::Ingest(IngestError::Outage(Outage::Unavailable)))
        );
        assert_eq!((outcome.is_ok(), refused), (published, !published));
    }
    assert_eq!(trio.rows(OWNER), 3, "those of the first body");
    trio.end();
}
