//! Three catalogs over one group, in one process: what a client is told that asks another node.

use super::lab::*;
use crate::rows::TableHeadRow;
use crate::*;
use floeberg_consensus::{Begin, CommandBudget, Footing, GroupHooks, RaftService};
use floeberg_env::{Reserve, SimControl, UnsyncedData};
use floeberg_kv::{MemKv, MemKvStore};
use floeberg_metastore::{Cx, ProposalService, Rows, StoreConfig, StoreParts};
use floeberg_raftlog::{MemLog, MemLogStore};
use floeberg_rpc::Routes;
use floeberg_rpc::memory::MemNetwork;
use floeberg_telemetry::{CatalogMetrics, ConsensusMetrics, MetastoreMetrics};
use floeberg_types::{ClusterId, CommitId, GroupId, NodeId, TableId};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

struct Medium {
    env: Env,
    control: SimControl,
    rows: MemKvStore,
    log: MemLogStore,
}

struct Running {
    store: Store,
    catalog: Catalog,
    routes: Routes,
    // The routes hold services, and services do not hold stores.
    _services: (Arc<RaftService>, Arc<ProposalService>),
}

pub(super) struct Cluster {
    network: MemNetwork,
    pub(super) objects: Arc<Objects>,
    config: CatalogConfig,
    media: BTreeMap<NodeId, Medium>,
    nodes: BTreeMap<NodeId, Running>,
}

fn address(node: NodeId) -> String {
    format!("node-{}:7000", node.0)
}

impl Cluster {
    /// Three voters with the bucket `lake` and the namespace `ns`.
    pub(super) async fn start(seed: u64) -> Self {
        Self::start_with(seed, CatalogConfig::default()).await
    }

    pub(super) async fn start_with(seed: u64, config: CatalogConfig) -> Self {
        let media: BTreeMap<_, _> = NODES
            .into_iter()
            .map(|node| {
                let (env, control) = Env::simulated(seed ^ (node.0 << 32));
                let sync = Duration::ZERO..=Duration::from_millis(2);
                let rows = MemKvStore::with_copies_on(Arc::clone(&env.disk));
                let log = MemLogStore::with_sync_time(sync);
                let medium = Medium {
                    env,
                    control,
                    rows,
                    log,
                };
                (node, medium)
            })
            .collect();
        let network = MemNetwork::new(&media[&NODES[0]].env, seed);
        network.delay(Duration::from_micros(100)..Duration::from_millis(3));
        let mut cluster = Self {
            network,
            objects: Arc::default(),
            config,
            media,
            nodes: BTreeMap::new(),
        };
        for node in NODES {
            cluster.boot(node).await;
        }
        let group = cluster.nodes[&NODES[0]].store.group().clone();
        group.leadership().wait_for(|l| l.ready).await.unwrap();
        for node in &NODES[1..] {
            let mut joining = group.add_learner(*node, &address(*node)).await.unwrap();
            joining.done().await.unwrap();
            group.promote(*node).await.unwrap();
        }
        let bucket = CreateTableBucket {
            name: "lake".to_owned(),
            properties: BTreeMap::new(),
        };
        let first = cluster.catalog(NODES[0]);
        first
            .create_table_bucket(&allowed(), &cx(), bucket)
            .await
            .unwrap();
        let namespace = CreateNamespace {
            bucket: lake(),
            namespace: ns(&["ns"]),
            properties: BTreeMap::new(),
        };
        first
            .create_namespace(&allowed(), &cx(), &namespace)
            .await
            .unwrap();
        cluster
    }

    pub(super) async fn boot(&mut self, node: NodeId) {
        let medium = &self.media[&node];
        let services = (RaftService::new(), ProposalService::new());
        let routes = Routes::new();
        for method in RaftService::METHODS {
            routes.add(method, services.0.clone());
        }
        for method in ProposalService::METHODS {
            routes.add(method, services.1.clone());
        }
        let hooks = GroupHooks {
            on_fatal: Arc::new(|_, cause| panic!("{cause}")),
            metrics: ConsensusMetrics::default(),
        };
        let parts = StoreParts {
            budget: CommandBudget::default(),
            room: Reserve::default(),
            kv: Arc::new(MemKv::open(&medium.rows)),
            log: Arc::new(MemLog::open(&medium.log, &medium.env)),
            transport: self.network.node(node, routes.clone()),
            snapshots: "/snapshots".into(),
            footing: Footing::alone(),
            hooks,
            metrics: MetastoreMetrics::default(),
        };
        let cluster = ClusterId::from_bytes([0xc1; 16]);
        let mut config = StoreConfig::new(cluster, GroupId::CATALOG, node);
        config.begin = if node == NODES[0] {
            Begin::Alone
        } else {
            Begin::Join
        };
        config.raft.address = address(node);
        let store = Store::open(&config, &medium.env, parts).await.unwrap();
        services.0.add(store.group());
        services.1.add(&store);
        let catalog = catalog_over(
            &store,
            &medium.env,
            &self.objects,
            &CatalogMetrics::default(),
            &self.config,
        );
        let running = Running {
            store,
            catalog,
            routes,
            _services: services,
        };
        self.nodes.insert(node, running);
    }

    pub(super) fn catalog(&self, node: NodeId) -> Catalog {
        self.nodes[&node].catalog.clone()
    }

    /// The node's power is cut, and with it every request it is working on.
    pub(super) fn kill(&mut self, node: NodeId) {
        self.network.down(node);
        let medium = &self.media[&node];
        medium.rows.crash();
        let faults = &**medium.control.faults();
        medium.log.crash(faults, UnsyncedData::Lost);
        medium.control.crash_disk(UnsyncedData::Lost);
        if let Some(dead) = self.nodes.remove(&node) {
            dead.routes.clear();
        }
    }

    /// Waits for a leader that can decide.
    pub(super) async fn leader(&self) -> NodeId {
        loop {
            let leads = |node: &&Running| node.store.leadership().borrow().ready;
            let found = self.nodes.iter().find(|(_, node)| leads(node));
            if let Some((node, _)) = found {
                return *node;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until another node than `without` has applied that the table exists.
    async fn applied_beside(&self, without: NodeId, table: &str) {
        let others = || self.nodes.iter().filter(|(node, _)| **node != without);
        let has = |node: &Running| {
            let rows = node.store.local();
            let heads = rows
                .scan::<TableHeadRow>(&keys::heads(), None, 100)
                .unwrap();
            heads.iter().any(|(_, row)| row.value.name == table)
        };
        while !others().any(|(_, node)| has(node)) {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// A node's rows.
    pub(super) fn store(&self, node: NodeId) -> Store {
        self.nodes[&node].store.clone()
    }

    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    pub(super) fn another(&self, without: NodeId) -> NodeId {
        let mut nodes = self.nodes.keys().copied();
        nodes.find(|node| *node != without).unwrap()
    }
}

/// A request under a key that its client gives half a minute.
pub(super) fn patient(id: u8) -> Cx {
    Cx {
        deadline: Some(Instant::now() + Duration::from_secs(30)),
        ..once(id, id)
    }
}

async fn create(catalog: &Catalog, cx: &Cx, name: &str) -> Result<TableId, CreateTableError> {
    let request = new_table(name);
    let created = catalog.create_table(&allowed(), cx, &request).await;
    created.map(|head| head.info().id)
}

async fn load(catalog: &Catalog, name: &str) -> Result<Arc<TableHead>, LoadTableError> {
    catalog
        .load_table(&allowed(), &cx(), &lake(), &ident(name))
        .await
}

/// The leader commits a request and dies before it answers: another node answers the repeat, and
/// nothing is done twice.
#[tokio::test(start_paused = true)]
async fn another_node_tells_what_a_dead_leader_did() {
    for seed in 0..5 {
        let mut cluster = Cluster::start(seed).await;
        let leader = cluster.leader().await;
        let catalog = cluster.catalog(leader);
        let request = tokio::spawn(async move { create(&catalog, &patient(1), "t").await });
        cluster.applied_beside(leader, "t").await;
        // Whether the leader had its answer ready or not: its client never hears it.
        request.abort();
        cluster.kill(leader);
        let catalog = cluster.catalog(cluster.another(leader));
        let id = create(&catalog, &patient(1), "t").await.unwrap();
        let table = load(&catalog, "t").await.unwrap();
        assert_eq!(table.info().id, id);
        assert_eq!(table.info().version, 1);
        // Without the key it is another request.
        let other = create(&catalog, &patient(2), "t").await;
        assert!(matches!(other, Err(CreateTableError::Exists(_))));
    }
}

async fn rename(catalog: &Catalog, cx: &Cx) -> Result<TableInfo, RenameTableError> {
    let request = RenameTable {
        bucket: lake(),
        from: ident("t"),
        to: ident("u"),
        version_token: None,
    };
    catalog.rename_table(&allowed(), cx, &request).await
}

/// The same at any moment: whatever became of the first attempt, the repeat is a success, and the
/// table is there once.
#[tokio::test(start_paused = true)]
async fn a_repeat_elsewhere_ends_in_one_success() {
    for seed in 0..12 {
        let mut cluster = Cluster::start(100 + seed).await;
        let leader = cluster.leader().await;
        let front = cluster.catalog(cluster.another(leader));
        let id = create(&front, &patient(9), "t").await.unwrap();
        let catalog = cluster.catalog(leader);
        let request = tokio::spawn(async move { rename(&catalog, &patient(1)).await });
        sleep(Duration::from_micros(700 * seed)).await;
        request.abort();
        cluster.kill(leader);
        let catalog = cluster.catalog(cluster.another(leader));
        for _ in 0..2 {
            let info = rename(&catalog, &patient(1)).await.unwrap();
            assert_eq!((info.id, info.ident), (id, ident("u")));
        }
        let other = rename(&catalog, &patient(2)).await;
        assert!(matches!(other, Err(RenameTableError::NoSuchTable(_))));
        assert_eq!(load(&catalog, "u").await.unwrap().info().id, id);
    }
}

/// A snapshot that is already in the table is recognised by every node, also without a key.
#[tokio::test(start_paused = true)]
async fn another_node_recognises_a_snapshot() {
    let mut cluster = Cluster::start(200).await;
    let leader = cluster.leader().await;
    let catalog = cluster.catalog(leader);
    create(&catalog, &cx(), "t").await.unwrap();
    let base = load(&catalog, "t").await.unwrap();
    let change = append("t", base.metadata(), 1);
    catalog
        .commit_table(&allowed(), &cx(), &lake(), change.clone())
        .await
        .unwrap();
    cluster.kill(leader);
    let catalog = cluster.catalog(cluster.another(leader));
    let again = catalog
        .commit_table(&allowed(), &patient(1), &lake(), change.clone())
        .await
        .unwrap();
    assert_eq!(again.outcome, CommitOutcome::Replayed);
    assert_eq!(again.head.info().version, 2);
}

/// Commits `numbers` of `t` through a node, each onto what that node sees.
async fn append_all(catalog: &Catalog, numbers: std::ops::Range<i64>) -> Vec<Arc<TableHead>> {
    let mut heads = Vec::new();
    for number in numbers {
        let base = load(catalog, "t").await.unwrap();
        let change = append("t", base.metadata(), number);
        let (allowed, cx, lake) = (allowed(), cx(), lake());
        let done = catalog.commit_table(&allowed, &cx, &lake, change).await;
        heads.push(done.unwrap().head);
    }
    heads
}

fn commit_of(store: &Store, table: TableId) -> CommitId {
    let row = store.local().get::<TableHeadRow>(&keys::head(table));
    row.unwrap().expect("the table").commit_id
}

/// What other nodes commit leaves the leader's heads warm, also if it began before the leader had
/// read the table; and they are what its rows say.
#[tokio::test(start_paused = true)]
async fn the_leader_has_the_heads_that_other_nodes_leave() {
    let cluster = Cluster::start(300).await;
    let leader = cluster.leader().await;
    let (own, store) = (cluster.catalog(leader), cluster.store(leader));
    let front = cluster.catalog(cluster.another(leader));
    let id = create(&front, &cx(), "t").await.unwrap();
    let first = load(&front, "t").await.unwrap();
    let made = commit_of(&store, id);
    append_all(&front, 1..4).await;
    let newest = commit_of(&store, id);
    assert!(
        own.inner.heads.get(id, newest).is_none(),
        "nothing was known to build on"
    );

    own.inner.heads.insert(id, made, first);
    let seen = own
        .inner
        .heads
        .get(id, newest)
        .expect("it was told of all three");
    let rows = load(&front, "t").await.unwrap();
    assert_eq!(
        (seen.info(), seen.metadata()),
        (rows.info(), rows.metadata())
    );

    let heads = append_all(&front, 4..9).await;
    let renamed = rename(&front, &patient(1)).await.unwrap();
    let seen = own
        .inner
        .heads
        .get(id, commit_of(&store, id))
        .expect("warm");
    assert_eq!(seen.info(), &renamed);
    let last = heads.last().expect("five commits");
    assert_eq!(seen.metadata(), last.metadata());
    assert_eq!(seen.etag(SnapshotsMode::All), last.etag(SnapshotsMode::All));
    assert_eq!(
        seen.rendered(SnapshotsMode::All),
        last.rendered(SnapshotsMode::All)
    );
}
