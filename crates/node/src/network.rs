//! The way to the other members: certificates, the transport, the node-to-node port.

use crate::comparison::NOT_COMPARED;
use crate::listen::Reserved;
use crate::metered::{Gated, Metered};
use crate::status_wire::Ask;
use crate::vigil::Expiry;
use crate::volume_marks::VolumeMarks;
use crate::{ClusterPart, MemberConfig, PeerNetwork, StartError};
use floeberg_consensus::{NoPeers, Standing};
use floeberg_env::Env;
use floeberg_members::{
    ClusterAuthority, Diverged, Home, Identity, MarksDesk, RecoveryOrder, Shown, Start, Witnesses,
};
use floeberg_pki::{Credentials, NodeTls, TrustBundle};
use floeberg_rpc::{
    Asking, CallError, Features, LocalNode, Method, NetTransport, Peers, Refusal, RefusalCode,
    Routes, Security, Server, Settings, Station, Transport,
};
use floeberg_telemetry::RpcMetrics;
use floeberg_types::{ClusterId, GroupId, NodeId, TimestampMs};
use floeberg_volume::Volume;
use futures::future::join_all;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// How often a member looks whether its certificate has to be renewed.
const RENEWAL: Duration = Duration::from_secs(3600);

/// The groups of every node.
const GROUPS: [GroupId; 2] = [GroupId::CATALOG, GroupId::OBJECTS];

/// How long a member may take to show that it is there.
const KNOCK: Duration = Duration::from_secs(3);

/// What a member keeps in its data directory to prove who it is.
pub(crate) struct Papers {
    pub(crate) home: Home,
    pub(crate) authority: Arc<ClusterAuthority>,
    credentials: Credentials,
    /// Which start of the node this is; it counts once the node takes part.
    pub(crate) start: Start,
    /// What it knows of the others' acknowledgements.
    pub(crate) witnesses: Arc<Witnesses>,
    /// The order to go on alone, if one waits to be carried out.
    pub(crate) recovery: Option<RecoveryOrder>,
}

/// Who the data directory belongs to, and the papers of a member. Blocks.
pub(crate) fn identify(
    cluster: &ClusterPart,
    dir: &std::path::Path,
    env: &Env,
) -> Result<(Identity, Option<Papers>), StartError> {
    let home = Home::new(dir, env.disk.clone());
    let ClusterPart::Member(member) = cluster else {
        if let Some(identity) = home.single()? {
            return Ok((identity, None));
        }
        let identity = Identity {
            cluster: ClusterId::from_bytes(env.rng.id128()),
            node: NodeId(1),
        };
        home.take(identity)?;
        return Ok((identity, None));
    };
    let identity = home.member()?;
    if let Some(found) = Diverged::read(&home)? {
        return Err(StartError::Diverged {
            found,
            node: identity.node,
        });
    }
    let recovery = RecoveryOrder::read(&home)?;
    let authority = Arc::new(ClusterAuthority::load(&home, env)?);
    let credentials = authority.renewed(&home, &member.address)?;
    let papers = Papers {
        start: home.next_start(env.rng.as_ref())?,
        witnesses: Arc::new(Witnesses::load(&home, GROUPS.into_iter())?),
        home,
        authority,
        credentials,
        recovery,
    };
    Ok((identity, Some(papers)))
}

impl Papers {
    /// When the node's certificate runs out.
    pub(crate) const fn expires(&self) -> TimestampMs {
        self.credentials.expires()
    }

    fn tls(&self, env: &Env) -> Result<Arc<NodeTls>, StartError> {
        let trust = self.authority.trust();
        let tls = NodeTls::new(&self.credentials, &trust, env.clock.clone())?;
        Ok(Arc::new(tls))
    }
}

fn station(
    member: &MemberConfig,
    identity: Identity,
    papers: &Papers,
    (tls, peers): (&Arc<NodeTls>, &Arc<Peers>),
    env: &Env,
) -> Station {
    let features = member.features;
    Station {
        local: LocalNode {
            cluster: identity.cluster,
            node: identity.node,
            start: papers.start.number,
            address: member.address.clone(),
            features: Features {
                low: features.low,
                high: features.high,
            },
        },
        security: Security::MutualTls(tls.clone()),
        peers: peers.clone(),
        settings: Settings::default(),
        asking: Asking::yes(),
        env: env.clone(),
    }
}

/// The comparison of the volume of a node that has witnesses.
pub(crate) async fn volume_marks(
    papers: Option<&Papers>,
    node: NodeId,
    volume: &Volume,
    env: &Env,
) -> Result<Option<VolumeMarks>, StartError> {
    let Some(papers) = papers else {
        return Ok(None);
    };
    let kept = (&papers.home, &papers.witnesses);
    VolumeMarks::open((node, volume), kept, env).await.map(Some)
}

/// Which of `others` answer this node, be it that they refuse it. A network in memory is not asked.
pub(crate) async fn who_answers(
    member: &MemberConfig,
    identity: Identity,
    papers: &Papers,
    env: &Env,
    others: impl Iterator<Item = (NodeId, String)>,
) -> Result<Vec<NodeId>, StartError> {
    if matches!(member.network, PeerNetwork::Memory(_)) {
        return Ok(Vec::new());
    }
    let (tls, peers) = (papers.tls(env)?, Arc::new(Peers::new()));
    let others: Vec<_> = others.collect();
    for (node, address) in &others {
        peers.set(*node, address.clone());
    }
    let transport = NetTransport::new(station(member, identity, papers, (&tls, &peers), env));
    let asked = others.iter().map(async |(node, _)| {
        let request = Ask::Alive.request(GroupId::CATALOG);
        let answer = transport.call(*node, request, KNOCK).await;
        matches!(answer, Ok(_) | Err(CallError::Refused(_))).then_some(*node)
    });
    let answered = join_all(asked).await.into_iter().flatten().collect();
    transport.stop().await;
    Ok(answered)
}

/// A node's connections to the others.
pub(crate) struct Network {
    pub(crate) peers: Arc<Peers>,
    pub(crate) routes: Routes,
    /// Open while the node takes part.
    pub(crate) transport: Arc<dyn Transport>,
    /// The way for marks, open always.
    pub(crate) asker: Arc<dyn Transport>,
    /// Whether the node says in handshakes that it does not take part yet.
    pub(crate) asking: Asking,
    /// Open sockets, if there are any.
    sockets: Mutex<Option<SocketsInUse>>,
    tls: Option<Arc<NodeTls>>,
}

struct SocketsInUse {
    server: Server,
    transports: [Arc<NetTransport>; 2],
}

impl Network {
    /// A node without peers.
    pub(crate) fn none() -> Self {
        Self {
            peers: Arc::new(Peers::new()),
            routes: Routes::new(),
            transport: Arc::new(NoPeers),
            asker: Arc::new(NoPeers),
            asking: Asking::default(),
            sockets: Mutex::new(None),
            tls: None,
        }
    }

    /// Reaches the other members and is reached by them; what they ask is refused as not served
    /// until handlers are in the routes, and all but marks until the node takes part.
    pub(crate) async fn open(
        member: &MemberConfig,
        identity: Identity,
        papers: &Papers,
        standing: &Standing,
        (env, metrics): (&Env, &RpcMetrics),
    ) -> Result<Self, StartError> {
        let metered = |way: Arc<dyn Transport>| -> Arc<dyn Transport> {
            let metrics = metrics.clone();
            Arc::new(Metered { way, metrics })
        };
        let gated = |way: Arc<dyn Transport>| -> Arc<dyn Transport> {
            let standing = standing.clone();
            Arc::new(Gated { way, standing })
        };
        let (peers, routes) = (Arc::new(Peers::new()), Routes::new());
        routes.hold(Refusal::new(RefusalCode::NotServing, NOT_COMPARED));
        let desk = MarksDesk {
            witnesses: papers.witnesses.clone(),
            standing: standing.clone(),
            clock: env.clock.clone(),
        };
        routes.add(Method::Marks, Arc::new(desk));
        let listen = match &member.network {
            PeerNetwork::Memory(network) => {
                let way = network.member(identity.node, routes.clone(), peers.clone());
                let asker = metered(way);
                return Ok(Self {
                    peers,
                    routes,
                    transport: gated(asker.clone()),
                    asker,
                    asking: Asking::default(),
                    sockets: Mutex::new(None),
                    tls: None,
                });
            }
            PeerNetwork::Tls { listen } => *listen,
        };
        let tls = papers.tls(env)?;
        let station = station(member, identity, papers, (&tls, &peers), env);
        let listener = Reserved::new(listen, "peer.listen")?.listen(&env.consensus)?;
        let transport = Arc::new(NetTransport::new(station.clone()));
        // What it says in handshakes never changes: marks may be asked for by whoever takes no part.
        let asker = Arc::new(NetTransport::new(Station {
            asking: Asking::yes(),
            ..station.clone()
        }));
        let asking = station.asking.clone();
        let server = Server::start(listener, station, routes.clone())?;
        let transports = [transport.clone(), asker.clone()];
        Ok(Self {
            peers,
            routes,
            transport: gated(metered(transport)),
            asker: metered(asker),
            asking,
            sockets: Mutex::new(Some(SocketsInUse { server, transports })),
            tls: Some(tls),
        })
    }

    /// Closes every connection and lets the handlers go.
    pub(crate) async fn close(&self) {
        let sockets = self.sockets.lock().take();
        if let Some(sockets) = sockets {
            sockets.server.stop().await;
            for transport in sockets.transports {
                transport.stop().await;
            }
        }
        self.routes.clear();
    }

    /// Takes over what a change of the authority gives this node to show and to trust.
    pub(crate) fn shown(&self) -> Arc<dyn Shown> {
        Arc::new(TlsShown(self.tls.clone()))
    }

    /// Renews this node's certificate in time, until it is dropped.
    pub(crate) fn renewal(
        &self,
        papers: Papers,
        address: String,
        expiry: Expiry,
        env: &Env,
    ) -> Option<Renewal> {
        Some(Renewal {
            tls: self.tls.clone()?,
            papers,
            address,
            expiry,
            env: env.clone(),
        })
    }
}

/// The certificates of the node-to-node port; a network in memory has none.
struct TlsShown(Option<Arc<NodeTls>>);

impl Shown for TlsShown {
    fn show(&self, credentials: &Credentials, trust: &TrustBundle) -> Result<(), String> {
        let Some(tls) = &self.0 else { return Ok(()) };
        let replaced = tls.replace_trust(trust);
        let replaced = replaced.and_then(|()| tls.replace_credentials(credentials));
        replaced.map_err(|e| e.to_string())
    }
}

/// Keeps the certificate of a running member fresh.
pub(crate) struct Renewal {
    tls: Arc<NodeTls>,
    papers: Papers,
    address: String,
    expiry: Expiry,
    env: Env,
}

impl Renewal {
    pub(crate) async fn run(self) {
        let mut shown = self.papers.credentials.expires();
        loop {
            tokio::time::sleep(RENEWAL).await;
            let (authority, home) = (self.papers.authority.clone(), self.papers.home.clone());
            let address = self.address.clone();
            let renew = move || authority.renewed(&home, &address);
            let renewed = self.env.tasks.spawn_blocking("renew-certificate", renew);
            match renewed.await {
                Ok(Ok(credentials)) if credentials.expires() != shown => {
                    if let Err(error) = self.tls.replace_credentials(&credentials) {
                        tracing::error!(%error, "the renewed certificate cannot be used");
                        continue;
                    }
                    shown = credentials.expires();
                    self.expiry.set(shown);
                    tracing::info!(expires_ms = shown.0, "the node's certificate was renewed");
                }
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(error)) => tracing::error!(%error, "the certificate was not renewed"),
            }
        }
    }
}
