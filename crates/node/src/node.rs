//! One node: what it is made of, in which order that starts, and in which it stops.

use crate::backup::{About, Backups};
use crate::comparison::first_standing;
use crate::data;
use crate::group_stores::GroupStores;
use crate::groups::NodeGroups;
use crate::level;
use crate::membership;
use crate::network::{self, Network, Papers};
use crate::ports::ObjectsPort;
use crate::probes::{self, Parts};
use crate::recover;
use crate::room::OwnRoom;
use crate::services::{self, Services};
use crate::stores::{self, Stores};
use crate::tending;
use crate::vigil::{Budgets, Concerns, Expiry, Vigil};
use crate::volume_marks::VolumeMarks;
use crate::{ClusterPart, NodeConfig, StartError};
use floeberg_api_s3::S3Api;
use floeberg_auth::Keyring;
use floeberg_catalog::Catalog;
use floeberg_consensus::{
    Begin, CommandBudget, Footing, GroupConfig, GroupHooks, RaftService, Standing,
};
use floeberg_env::{DiskFile, Env};
use floeberg_http::Room;
use floeberg_kv::Kv;
use floeberg_members::{Identity, Members, gone_members};
use floeberg_metastore::{ProposalService, Store, StoreConfig, StoreParts};
use floeberg_objects::Objects;
use floeberg_placement::PlacementMap;
use floeberg_shards::{FullNodes, Holdings, Shards, ShardsConfig, ShardsParts};
use floeberg_telemetry::{ConsensusMetrics, MetastoreMetrics, NodeMetrics};
use floeberg_types::{GroupId, NodeId};
use floeberg_volume::Volume;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A running node without its client ports: requests enter through [`Node::lakehouse`] and
/// [`Node::s3`], over sockets or straight from a test. The node-to-node port of a member is its own.
pub struct Node {
    base: Base,
    volume: Volume,
    catalog: Catalog,
    keys: Arc<Keyring>,
    env: Env,
    lakehouse: axum::Router,
    s3: S3Api,
    background: Vec<JoinHandle<()>>,
    files: Arc<ObjectsPort>,
    metrics: NodeMetrics,
    concerns: Concerns,
    standing: Standing,
    objects: Arc<Objects>,
    marks: Option<VolumeMarks>,
    /// Keeps other processes away from the data directory.
    _lock: Arc<dyn DiskFile>,
}

/// What is open before the first group starts.
pub(crate) struct Ground<'a> {
    pub(crate) config: &'a NodeConfig,
    pub(crate) env: &'a Env,
    pub(crate) identity: Identity,
    pub(crate) metrics: &'a NodeMetrics,
    pub(crate) opened: &'a stores::Opened,
    pub(crate) volume: &'a Volume,
    /// What others know of the volume, if there are any.
    pub(crate) marks: Option<&'a VolumeMarks>,
    /// Whether this node takes part.
    pub(crate) standing: &'a Standing,
}

/// The replicated part of a node, under its use cases.
struct Base {
    network: Network,
    raft: Arc<RaftService>,
    proposals: Arc<ProposalService>,
    stores: GroupStores,
    groups: NodeGroups,
    shards: Shards,
}

impl Ground<'_> {
    /// Routes come before the transport, the transport before the groups, and the groups before what
    /// works with their rows.
    async fn build(
        &self,
        papers: Option<&Papers>,
        full: &FullNodes,
        map: watch::Receiver<Arc<PlacementMap>>,
    ) -> Result<Base, StartError> {
        if let Some(papers) = papers {
            recover::if_ordered(self, papers).await?;
        }
        let (raft, proposals) = (RaftService::new(), ProposalService::new());
        let network = match (&self.config.cluster, papers) {
            (ClusterPart::Member(member), Some(papers)) => {
                let (standing, around) = (self.standing, (self.env, &self.metrics.rpc));
                let network =
                    Network::open(member, self.identity, papers, standing, around).await?;
                membership::serve(&network, &raft, &proposals);
                membership::serve_shards(&network, self, &map);
                network
            }
            _ => Network::none(),
        };
        let footing = |group| match papers {
            Some(papers) => papers.witnesses.footing(group, self.standing),
            None => Footing::alone(),
        };
        let begin = begin(self.identity.node);
        let stores = self.groups(&network, begin, footing).await?;
        for gone in gone_members(&stores.catalog)? {
            network.peers.remove(gone);
        }
        for (_, store) in stores.each() {
            raft.add(store.group());
            proposals.add(store);
        }
        let (peers, transport) = (network.peers.clone(), network.transport.clone());
        let me = self.identity.node;
        let groups = NodeGroups::new(me, stores.clone(), peers, transport.clone());
        let shards = Shards::new(ShardsParts {
            node: self.identity.node,
            volume: self.volume.clone(),
            holdings: self.holdings(),
            reserve: OwnRoom::new(self.config, self.env).reserve(),
            full: full.clone(),
            placement: map,
            transport,
            env: self.env.clone(),
            config: ShardsConfig::default(),
        });
        Ok(Base {
            network,
            raft,
            proposals,
            stores,
            groups,
            shards,
        })
    }

    /// What is thought of the volume; one without witnesses is trusted.
    pub(crate) fn holdings(&self) -> Holdings {
        self.marks.map(VolumeMarks::holdings).unwrap_or_default()
    }

    /// Whether there is room for changes, here and on the others.
    fn room(&self, stores: &GroupStores) -> Room {
        let own = OwnRoom::new(self.config, self.env);
        match self.marks {
            Some(marks) => own.among(stores, marks.witnesses(), self.env),
            None => own.alone(),
        }
    }

    /// What only a member has: the members' use cases and their tasks.
    fn join_in(
        &self,
        base: &Base,
        papers: Option<Papers>,
        placement: watch::Sender<Arc<PlacementMap>>,
        (concerns, full): (&Concerns, &FullNodes),
    ) -> (Option<Members>, Vec<JoinHandle<()>>) {
        let (ClusterPart::Member(member), Some(papers), Some(marks)) =
            (&self.config.cluster, papers, self.marks)
        else {
            return (None, Vec::new());
        };
        let wiring = membership::Wiring {
            member,
            account: &self.config.account,
            region: &self.config.region,
            root_key: &self.config.root_key,
            identity: self.identity,
            env: self.env,
            network: &base.network,
            groups: &base.groups,
            stores: &base.stores,
            concerns,
            standing: self.standing,
            metrics: self.metrics,
            shards: &base.shards,
            marks,
            room: &OwnRoom::new(self.config, self.env),
            full,
            placement,
        };
        let (members, tasks) = wiring.start(papers);
        (Some(members), tasks)
    }

    pub(crate) async fn groups(
        &self,
        network: &Network,
        begin: Begin,
        footing: impl Fn(GroupId) -> Footing,
    ) -> Result<GroupStores, StartError> {
        let m = self.metrics;
        let budget = CommandBudget::default();
        let room = OwnRoom::new(self.config, self.env).for_the_log();
        let open = |id, kv: &Arc<dyn Kv>, raft: &ConsensusMetrics, rows: &MetastoreMetrics| {
            let parts = StoreParts {
                kv: kv.clone(),
                log: self.opened.log.clone(),
                transport: network.transport.clone(),
                snapshots: self.config.snapshots_dir(id),
                footing: footing(id),
                hooks: GroupHooks {
                    on_fatal: self.opened.on_fatal.clone(),
                    metrics: raft.clone(),
                },
                budget: budget.clone(),
                room: room.clone(),
                metrics: rows.clone(),
            };
            let config = self.store_config(id, begin);
            async move { Store::open(&config, self.env, parts).await }
        };
        let (catalog, objects) = (&self.opened.catalog, &self.opened.objects);
        let catalog = open(
            GroupId::CATALOG,
            catalog,
            &m.catalog_group,
            &m.catalog_store,
        );
        let catalog = catalog.await?;
        let objects = open(
            GroupId::OBJECTS,
            objects,
            &m.objects_group,
            &m.objects_store,
        );
        let objects = objects.await?;
        Ok(GroupStores { catalog, objects })
    }

    fn vigil(&self, base: &Base, room: Room, concerns: &Concerns, budgets: Budgets) -> Vigil {
        Vigil {
            stores: base.stores.clone(),
            shards: base.shards.clone(),
            room,
            standing: self.standing.clone(),
            concerns: concerns.clone(),
            metrics: self.metrics.clone(),
            damage: self.opened.damage.clone(),
            dirs: self.config.kept(),
            budgets,
            env: self.env.clone(),
        }
    }

    fn backups(&self, base: &Base) -> Arc<Backups> {
        let about = About {
            cluster: self.identity.cluster,
            region: self.config.region.to_string(),
            account: self.config.account.to_string(),
        };
        let (stores, shards) = (base.stores.clone(), base.shards.clone());
        Arc::new(Backups::new(about, stores, shards, self.env.clone()))
    }

    fn store_config(&self, id: GroupId, begin: Begin) -> StoreConfig {
        let mut config = StoreConfig::new(self.identity.cluster, id, self.identity.node);
        if let ClusterPart::Member(member) = &self.config.cluster {
            config.begin = begin;
            config.raft = GroupConfig {
                address: member.address.clone(),
                heartbeat: member.elections.heartbeat,
                election_timeout_min: member.elections.min,
                election_timeout_max: member.elections.max,
                snapshot_bytes_per_second: Some(member.snapshot_bytes_per_second),
                ..config.raft
            };
        }
        config
    }
}

/// Only the node that `cluster init` made begins the groups; every other is added to them. Ids are
/// never given out again, so there is one such node in all time.
pub(crate) fn begin(node: NodeId) -> Begin {
    if node == NodeId(1) {
        Begin::Alone
    } else {
        Begin::Join
    }
}

impl Node {
    /// Opens the data directory and starts every part of the node. A member of a cluster may not be
    /// able to work yet when this returns: see [`Node::ready`].
    ///
    /// # Errors
    /// See [`StartError`]: the directory is in use, damaged or not writable.
    pub async fn start(config: NodeConfig, env: Env, stores: Stores) -> Result<Self, StartError> {
        let (metrics, started) = tending::begin(&env);
        let (opened, identity, papers) = stores::open_all(&config, &env, stores, &metrics).await?;
        let volume =
            stores::open_volume(&config, opened.volume_index.clone(), &env, &metrics).await?;
        let (placement, map) = watch::channel(Arc::new(data::first_map(&config, identity)));
        let standing = first_standing(papers.as_ref(), &metrics);
        let full = FullNodes::default();
        let marks = network::volume_marks(papers.as_ref(), identity.node, &volume, &env).await?;
        let ground = Ground {
            config: &config,
            env: &env,
            identity,
            metrics: &metrics,
            opened: &opened,
            volume: &volume,
            marks: marks.as_ref(),
            standing: &standing,
        };
        // Boxed: the compiler gives up on futures that are nested much deeper.
        let base = Box::pin(ground.build(papers.as_ref(), &full, map)).await?;
        let (concerns, room) = (Concerns::new(&metrics), ground.room(&base.stores));
        let (members, mut background) =
            ground.join_in(&base, papers, placement, (&concerns, &full));
        let keys = services::keyring(&config, identity);
        let services = Services {
            config: &config,
            env: &env,
            metrics: &metrics,
            keys: &keys,
            stores: &base.stores,
            shards: &base.shards,
            members,
            backups: ground.backups(&base),
            room: room.clone(),
            door: floeberg_http::Door::new(config.limits.body_bytes),
            probes: probes::new(Parts {
                config: &config,
                identity,
                stores: &base.stores,
                shards: &base.shards,
                started,
                room: &room,
                concerns: &concerns,
                leaving: base.groups.leaving(),
            }),
        };
        let files = Arc::new(ObjectsPort::new(keys.root_principal()));
        let (catalog, objects) = services.use_cases(&files, opened.pieces);
        let (lakehouse, s3) = (services.lakehouse(&catalog), services.s3(&objects));
        let vigil = ground.vigil(&base, room, &concerns, services.budgets(&catalog));
        background.extend(ground.tend(&catalog, &objects, &concerns.alarms, vigil));
        background.extend(level::raise_alone(&config, &base.stores, &env));
        Ok(Self {
            base,
            volume,
            catalog,
            keys,
            env,
            lakehouse,
            s3,
            background,
            files,
            metrics,
            concerns,
            standing: standing.clone(),
            objects,
            marks,
            _lock: opened.lock,
        })
    }

    /// The request service of the lakehouse port: Iceberg REST, S3 Tables, admin.
    pub fn lakehouse(&self) -> axum::Router {
        self.lakehouse.clone()
    }

    /// The request service of the S3 port.
    #[must_use]
    pub fn s3(&self) -> S3Api {
        self.s3.clone()
    }

    /// The catalog, for callers in the same process.
    #[must_use]
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The cluster's keys, for callers in the same process.
    #[must_use]
    pub const fn keys(&self) -> &Arc<Keyring> {
        &self.keys
    }

    /// The rows of each group, for callers in the same process.
    #[must_use]
    pub fn groups(&self) -> [(GroupId, Store); 2] {
        self.base
            .stores
            .each()
            .map(|(id, store)| (id, store.clone()))
    }

    /// The environment the node runs in.
    #[must_use]
    pub const fn env(&self) -> &Env {
        &self.env
    }

    /// What the node counts.
    pub(crate) const fn metrics(&self) -> &NodeMetrics {
        &self.metrics
    }

    /// When the certificate ends that clients see.
    pub(crate) fn port_expiry(&self) -> Expiry {
        self.concerns.port_expiry.clone()
    }

    /// Waits until the cluster has refused this node as it is set up; why. Only a person can mend that.
    pub async fn refused(&self) -> String {
        self.concerns.removal.refused().await
    }

    /// Whether it takes part in its cluster: it has been compared, and lacks nothing.
    #[must_use]
    pub fn takes_part(&self) -> bool {
        self.standing.is_cleared()
    }

    /// Why it takes no part and never will, if so.
    #[must_use]
    pub fn barred(&self) -> Option<String> {
        self.standing.barred().map(|why| why.to_string())
    }

    /// How many chunks are not on this node although rows say that they are; `None` if that cannot be told now.
    pub async fn missing_copies(&self) -> Option<u64> {
        self.objects.missing_here().await.ok()
    }

    /// What others know of this node's volume, if there are any.
    #[must_use]
    pub const fn volume_marks(&self) -> Option<&VolumeMarks> {
        self.marks.as_ref()
    }

    /// Waits until both groups have a leader that answers a read of this node.
    pub async fn ready(&self) {
        self.base.stores.ready().await;
    }

    /// Cancelled once the node is about to stop.
    pub(crate) const fn leaving(&self) -> &CancellationToken {
        self.base.groups.leaving()
    }

    /// Says that it is not ready any more, and lets other members lead what this node leads, so that
    /// nobody waits for an election when it stops. Requests may go on.
    pub async fn hand_over(&self) {
        self.base.groups.hand_over().await;
    }

    /// Stops background work and both groups, and makes applied rows durable, so that the next
    /// start replays nothing. Requests must have ended before.
    pub async fn shutdown(&self) {
        for task in &self.background {
            task.abort();
        }
        for (group, store) in self.base.stores.each().into_iter().rev() {
            // Calls that come now are told that nobody serves them, instead of failing in the group.
            self.base.proposals.remove(group);
            self.base.raft.remove(group);
            if let Err(error) = store.shutdown().await {
                tracing::warn!(%error, "rows were not flushed; the log will be replayed");
            }
        }
        self.base.network.close().await;
        self.volume.close().await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.files.disconnect();
        // The handlers keep services that keep the transport that keeps the handlers.
        self.base.network.routes.clear();
    }
}
