//! A cluster of real transports on loopback.
#![allow(clippy::unwrap_used, dead_code)] // a test; and each test file uses a part of it

use async_trait::async_trait;
use floeberg_env::Env;
use floeberg_pki::{Authority, Credentials, NODE_LIFETIME, NodeKey, NodeTls, Subject, TrustBundle};
use floeberg_rpc::testing::Fabric;
use floeberg_rpc::{
    Asking, Features, LocalNode, NetTransport, Peers, Routes, Security, Server, Settings, Station,
    Transport,
};
use floeberg_types::{ClusterId, NodeId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

pub const CLUSTER: ClusterId = ClusterId::from_bytes([0xc1; 16]);
pub const A: NodeId = NodeId(1);
pub const B: NodeId = NodeId(2);

/// Generous with time, because the machine of a test may be busy.
pub fn settings() -> Settings {
    Settings {
        connect_patience: Duration::from_secs(10),
        ping_patience: Duration::from_secs(10),
        ..Settings::default()
    }
}

pub fn credentials(
    authority: &Authority,
    cluster: ClusterId,
    node: NodeId,
    env: &Env,
) -> Credentials {
    let key = NodeKey::generate().unwrap();
    let subject = Subject {
        cluster,
        node,
        names: vec!["127.0.0.1".into()],
    };
    let request = key.request().unwrap();
    let chain = authority
        .sign(&request, &subject, NODE_LIFETIME, env)
        .unwrap();
    Credentials::new(key, chain).unwrap()
}

pub fn tls(authority: &Authority, node: NodeId, env: &Env) -> Arc<NodeTls> {
    let trust = TrustBundle::new(authority.certificate()).unwrap();
    let credentials = credentials(authority, CLUSTER, node, env);
    Arc::new(NodeTls::new(&credentials, &trust, env.clock.clone()).unwrap())
}

pub fn station(node: NodeId, security: Security, env: &Env) -> Station {
    Station {
        local: LocalNode {
            cluster: CLUSTER,
            node,
            start: 0,
            address: String::new(),
            features: Features { low: 1, high: 1 },
        },
        security,
        peers: Arc::new(Peers::new()),
        settings: settings(),
        asking: Asking::default(),
        env: env.clone(),
    }
}

pub async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

pub async fn serve(station: &Station, routes: Routes) -> Server {
    Server::start(listen().await, station.clone(), routes).unwrap()
}

struct Running {
    server: Server,
    transport: Arc<NetTransport>,
    peers: Arc<Peers>,
}

/// Nodes that know each other's addresses.
pub struct NetFabric {
    env: Env,
    authority: Option<Authority>,
    nodes: Mutex<BTreeMap<NodeId, Running>>,
}

impl NetFabric {
    pub fn secured() -> Self {
        let env = Env::real();
        Self {
            authority: Some(Authority::create(CLUSTER, &env).unwrap()),
            env,
            nodes: Mutex::default(),
        }
    }

    pub fn plain() -> Self {
        Self {
            env: Env::real(),
            authority: None,
            nodes: Mutex::default(),
        }
    }
}

#[async_trait]
impl Fabric for NetFabric {
    async fn start(&self, node: NodeId, routes: Routes) -> Arc<dyn Transport> {
        self.stop(node).await;
        let security = match &self.authority {
            Some(authority) => Security::MutualTls(tls(authority, node, &self.env)),
            None => Security::PlainLoopback,
        };
        let station = station(node, security, &self.env);
        let server = serve(&station, routes).await;
        let transport = Arc::new(NetTransport::new(station.clone()));
        let mut nodes = self.nodes.lock();
        for (other, running) in nodes.iter() {
            station
                .peers
                .set(*other, running.server.address().to_string());
            running.peers.set(node, server.address().to_string());
        }
        let running = Running {
            server,
            transport: transport.clone(),
            peers: station.peers,
        };
        nodes.insert(node, running);
        transport
    }

    async fn stop(&self, node: NodeId) {
        let stopped = self.nodes.lock().remove(&node);
        if let Some(running) = stopped {
            running.transport.stop().await;
            running.server.stop().await;
        }
    }

    async fn remove(&self, at: NodeId, gone: NodeId) {
        self.nodes.lock()[&at].peers.remove(gone);
    }
}
