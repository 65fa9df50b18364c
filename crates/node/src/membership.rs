//! A member's part in the cluster: it announces itself, keeps addresses and the placement map, and
//! does what the members' rows say while it leads.

use crate::comparison::Comparison;
use crate::data::{self, Mover};
use crate::divergence::Watch;
use crate::give_way::GiveWay;
use crate::group_stores::GroupStores;
use crate::groups::{NodeGroups, StatusDesk};
use crate::network::{Network, Papers};
use crate::node::Ground;
use crate::removal::{self, Removal};
use crate::room::OwnRoom;
use crate::vigil::Concerns;
use crate::volume_marks::VolumeMarks;
use crate::{Elections, MemberConfig, RootKey};
use floeberg_consensus::{RaftService, Standing};
use floeberg_env::Env;
use floeberg_members::plan::Rules;
use floeberg_members::{
    AddressDesk, Announcement, AuthorityDesk, ChangeError, Disagreement, Identity, JoinDesk,
    Keeper, KeeperConfig, Members, MembersParts, Placing, Rotator,
};
use floeberg_metastore::{ProposalService, Store};
use floeberg_placement::PlacementMap;
use floeberg_rpc::{Method, Peers};
use floeberg_shards::{FullNodes, ServerParts, ShardServer, Shards, ShardsConfig};
use floeberg_telemetry::NodeMetrics;
use floeberg_types::{AccountId, Region};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Pause before a member that could not announce itself tries again.
const AGAIN: Duration = Duration::from_millis(500);

/// Puts the handlers of the data and of consensus into the routes: before any group starts, so that
/// none of its first calls is missed.
pub(crate) fn serve(network: &Network, raft: &Arc<RaftService>, proposals: &Arc<ProposalService>) {
    for method in RaftService::METHODS {
        network.routes.add(method, raft.clone());
    }
    for method in ProposalService::METHODS {
        network.routes.add(method, proposals.clone());
    }
}

/// Serves the chunks on this node's volume to the others.
pub(crate) fn serve_shards(
    network: &Network,
    ground: &Ground<'_>,
    placement: &watch::Receiver<Arc<PlacementMap>>,
) {
    let server = ShardServer::new(ServerParts {
        node: ground.identity.node,
        volume: ground.volume.clone(),
        holdings: ground.holdings(),
        reserve: OwnRoom::new(ground.config, ground.env).reserve(),
        placement: placement.clone(),
        env: ground.env.clone(),
        config: ShardsConfig::default(),
    });
    let server = Arc::new(server);
    for method in ShardServer::METHODS {
        network.routes.add(method, server.clone());
    }
}

/// What the membership of a node is made of.
pub(crate) struct Wiring<'a> {
    pub(crate) member: &'a MemberConfig,
    pub(crate) account: &'a AccountId,
    pub(crate) region: &'a Region,
    pub(crate) root_key: &'a RootKey,
    pub(crate) identity: Identity,
    pub(crate) env: &'a Env,
    pub(crate) network: &'a Network,
    pub(crate) groups: &'a NodeGroups,
    pub(crate) stores: &'a GroupStores,
    pub(crate) concerns: &'a Concerns,
    pub(crate) standing: &'a Standing,
    pub(crate) metrics: &'a NodeMetrics,
    pub(crate) shards: &'a Shards,
    pub(crate) marks: &'a VolumeMarks,
    pub(crate) room: &'a OwnRoom,
    pub(crate) full: &'a FullNodes,
    pub(crate) placement: watch::Sender<Arc<PlacementMap>>,
}

impl Wiring<'_> {
    /// Wires the membership and starts its tasks.
    pub(crate) fn start(self, papers: Papers) -> (Members, Vec<JoinHandle<()>>) {
        let (env, tasks) = (self.env, &self.env.tasks);
        let (store, account) = (self.stores.catalog.clone(), self.account.clone());
        let placing = Placing::new(store.clone(), account.clone(), env.clone());
        let (data, mover) = data::new(placing.clone(), store.clone(), self.shards.clone());
        let members = Members::new(MembersParts {
            cluster: self.identity.cluster,
            me: self.identity.node,
            account,
            region: self.region.clone(),
            store: store.clone(),
            groups: Arc::new(self.groups.clone()),
            data: Arc::new(data),
            authority: papers.authority.clone(),
            env: env.clone(),
            witnesses: papers.witnesses.clone(),
            standing: self.standing.clone(),
            alarms: self.concerns.alarms.clone(),
            rules: Rules::default(),
        });
        self.open_desks(&members);
        let authority = papers.authority.clone();
        let desk = AuthorityDesk {
            members: members.clone(),
            authority: authority.clone(),
        };
        self.network.routes.add(Method::Authority, Arc::new(desk));
        let rotator = Rotator {
            members: members.clone(),
            me: self.identity.node,
            address: self.member.address.clone(),
            home: papers.home.clone(),
            authority,
            transport: self.network.transport.clone(),
            peers: self.network.peers.clone(),
            shown: self.network.shown(),
        };
        let me = self.announcement(papers.start.number);
        let peers = self.network.peers.clone();
        let config = KeeperConfig::default();
        let keeper = Keeper::new(members.clone(), me.node, peers.clone(), config);
        let (watch, removal) = (self.watch(&papers), self.removal_watch(&papers));
        let comparison = self.comparison(&papers);
        let give_way = self.give_way(&papers);
        let mut running = vec![
            tasks.spawn("placement", placing.follow(self.placement)),
            tasks.spawn("addresses", follow_addresses(store, me.clone(), peers)),
            tasks.spawn(
                "announce",
                announce(members.clone(), me, self.concerns.removal.clone()),
            ),
            tasks.spawn("keeper", keeper.run()),
            tasks.spawn("mover", Mover::run(mover)),
            tasks.spawn("digests", watch.run()),
            tasks.spawn("authority", rotator.run()),
            tasks.spawn("removal", removal.run()),
            env.consensus.spawn("marks", comparison.run()),
            env.consensus.spawn("give-way", give_way.run()),
        ];
        let (address, expiry) = (self.member.address.clone(), self.concerns.expiry.clone());
        expiry.set(papers.expires());
        if let Some(renewal) = self.network.renewal(papers, address, expiry, env) {
            running.push(tasks.spawn("certificate", renewal.run()));
        }
        (members, running)
    }

    fn give_way(&self, papers: &Papers) -> GiveWay {
        GiveWay {
            groups: self.groups.clone(),
            room: self.room.clone(),
            witnesses: papers.witnesses.clone(),
            standing: self.standing.clone(),
            env: self.env.clone(),
        }
    }

    fn watch(&self, papers: &Papers) -> Watch {
        Watch {
            me: self.identity.node,
            stores: self.stores.clone(),
            peers: self.network.peers.clone(),
            transport: self.network.transport.clone(),
            divergences: self.concerns.divergences.clone(),
            metrics: self.metrics.clone(),
            home: papers.home.clone(),
            env: self.env.clone(),
        }
    }

    fn comparison(&self, papers: &Papers) -> Comparison {
        Comparison {
            me: self.identity.node,
            start: papers.start,
            stores: self.stores.clone(),
            peers: self.network.peers.clone(),
            asker: self.network.asker.clone(),
            asking: self.network.asking.clone(),
            routes: self.network.routes.clone(),
            witnesses: papers.witnesses.clone(),
            volume: self.marks.clone(),
            chunks: self.shards.local().clone(),
            room: self.room.clone(),
            full: self.full.clone(),
            standing: self.standing.clone(),
            removal: self.concerns.removal.clone(),
            alarms: self.concerns.alarms.clone(),
            home: papers.home.clone(),
            env: self.env.clone(),
            metrics: self.metrics.clone(),
        }
    }

    fn removal_watch(&self, papers: &Papers) -> removal::Watch {
        removal::Watch {
            me: self.identity.node,
            catalog: self.stores.catalog.clone(),
            peers: self.network.peers.clone(),
            transport: self.network.transport.clone(),
            removal: self.concerns.removal.clone(),
            standing: self.standing.clone(),
            home: papers.home.clone(),
            env: self.env.clone(),
        }
    }

    fn open_desks(&self, members: &Members) {
        let routes = &self.network.routes;
        routes.add(Method::Join, Arc::new(JoinDesk(members.clone())));
        routes.add(Method::Members, Arc::new(AddressDesk(members.clone())));
        let status = StatusDesk {
            groups: self.groups.clone(),
        };
        routes.add(Method::Status, Arc::new(status));
    }

    fn announcement(&self, start: u64) -> Announcement {
        Announcement {
            node: self.identity.node,
            address: self.member.address.clone(),
            labels: self.member.labels.clone(),
            features: self.member.features,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            start,
            settings: self.settings(),
        }
    }

    fn settings(&self) -> BTreeMap<String, String> {
        let Elections {
            heartbeat,
            min,
            max,
        } = self.member.elections;
        let times = format!("heartbeat {heartbeat:?}, election {min:?} to {max:?}");
        let settings = [
            ("root keys", self.root_key.fingerprint()),
            ("consensus", times),
        ];
        settings
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }
}

/// Learns where members are of whom no row is here yet: a node that joins finds its leader so.
async fn follow_addresses(store: Store, me: Announcement, peers: Arc<Peers>) {
    let mut addresses = store.group().addresses();
    loop {
        let known = addresses.borrow_and_update().clone();
        for (node, address) in known.iter().filter(|(node, _)| **node != me.node) {
            // The rows are newer than what the node was added with.
            if peers.get(*node).is_none() && !address.is_empty() {
                peers.set(*node, address.clone());
            }
        }
        if addresses.changed().await.is_err() {
            return;
        }
    }
}

/// Tells the cluster where this node is and what it can do, once that can be told.
async fn announce(members: Members, me: Announcement, removal: Removal) {
    loop {
        match members.announce(&me).await {
            Ok(member) => {
                tracing::info!(node = %member.id, state = member.state.word(), "a member again");
                return compare(&members).await;
            }
            Err(error @ (ChangeError::Refused(_) | ChangeError::Damaged(_))) => {
                tracing::error!(%error, "the cluster does not take this node: stop it");
                removal.refuse(&error);
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "announcing this node again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Says what this node and others do not have alike; `floeberg cluster status` does so, too, at any time.
async fn compare(members: &Members) {
    match members.disagreements().await {
        Ok(found) => {
            for Disagreement { setting, values } in found {
                tracing::warn!(setting, ?values, "not every node is configured alike");
            }
        }
        Err(error) => tracing::debug!(%error, "the settings of members are not compared"),
    }
}
