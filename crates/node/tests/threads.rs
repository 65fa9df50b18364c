//! Whatever keeps the threads of requests busy: groups keep their leader and commit, and health is answered.
//!
//! With one runtime for everything, nothing below would be answered: no thread is left that could.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use axum::body::Body;
use bytes::Bytes;
use floeberg_env::{Env, NodeThreads};
use floeberg_members::{Applicant, FeatureLevels, Home, found};
use floeberg_metastore::{Cx, Store, Txn};
use floeberg_node::{
    ClientLimits, ClusterPart, Elections, ListenConfig, MemberConfig, NodeConfig, PeerNetwork,
    RootKey, Server,
};
use floeberg_types::NodeId;
use http::Request;
use http_body_util::BodyExt as _;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::Path;
use std::sync::mpsc;
use std::thread::available_parallelism;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;

const ACCOUNT: &str = "000000000000";
const REGION: &str = "us-east-1";
/// Threads of requests.
const WORKERS: usize = 2;
const COMMITS: u64 = 200;
/// Whoever waits for longer would wait for ever.
const HANGS: Duration = Duration::from_secs(60);
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn config(dir: &Path, peer: SocketAddr) -> NodeConfig {
    let member = MemberConfig {
        address: peer.to_string(),
        labels: BTreeMap::new(),
        log_dir: dir.join("raft"),
        volume_dir: dir.join("volume"),
        volume_bytes: None,
        snapshot_bytes_per_second: 100 << 20,
        elections: Elections {
            heartbeat: Duration::from_millis(100),
            min: Duration::from_millis(500),
            max: Duration::from_secs(1),
        },
        features: FeatureLevels::OF_THIS_BINARY,
        network: PeerNetwork::Tls { listen: peer },
    };
    NodeConfig {
        data_dir: dir.to_owned(),
        account: ACCOUNT.parse().unwrap(),
        region: REGION.parse().unwrap(),
        root_key: RootKey::new("AKIAFLOEBERGTEST0001", "a secret that is long enough").unwrap(),
        s3_endpoint: "http://127.0.0.1:9000".to_owned(),
        lakehouse_endpoint: "http://127.0.0.1:8181".to_owned(),
        s3_domain: None,
        segment_bytes: 1 << 20,
        limits: ClientLimits {
            notice: Duration::ZERO,
            ..ClientLimits::default()
        },
        cluster: ClusterPart::Member(Box::new(member)),
    }
}

struct Running {
    dir: TempDir,
    peer: SocketAddr,
    lakehouse: SocketAddr,
    server: Server,
}

/// An address for a node, which has to know it before it listens there.
async fn unused() -> SocketAddr {
    let listener = TcpListener::bind(ANY).await.unwrap();
    listener.local_addr().unwrap()
}

async fn start(dir: TempDir, peer: SocketAddr, env: &Env) -> Running {
    let listen = ListenConfig {
        lakehouse: ANY,
        s3: ANY,
    };
    let sockets = listen.bind("lakehouse", "s3").unwrap();
    let lakehouse = sockets.lakehouse_address().unwrap();
    let config = config(dir.path(), peer);
    let server = Server::start(config, env.clone(), sockets).await.unwrap();
    Running {
        dir,
        peer,
        lakehouse,
        server,
    }
}

impl Running {
    fn home(&self) -> &Path {
        self.dir.path()
    }

    fn catalog(&self) -> Store {
        self.server.node().groups()[0].1.clone()
    }

    async fn token(&self) -> String {
        let node = self.server.node();
        let bearer = node.keys().issue_bearer(node.env().clock.now()).token;
        let request = Request::post("/admin/v1/cluster/token")
            .header("host", "127.0.0.1:8181")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {bearer}"))
            .body(Body::from(r#"{"ttl-seconds":600}"#))
            .unwrap();
        let answer = node.lakehouse().oneshot(request).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        let token = body.split_once(r#""token":""#).expect(&body).1;
        token.split_once('"').unwrap().0.to_owned()
    }

    async fn ask(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.lakehouse).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }
}

/// Three nodes that vote in both groups.
async fn cluster(env: &Env) -> Vec<Running> {
    let (dir, peer) = (tempfile::tempdir().unwrap(), unused().await);
    let home = Home::new(dir.path(), env.disk.clone());
    found(&home, &peer.to_string(), env).unwrap();
    let mut nodes = vec![start(dir, peer, env).await];
    nodes[0].server.node().ready().await;
    for number in 2..=3 {
        let (dir, peer) = (tempfile::tempdir().unwrap(), unused().await);
        let applicant = Applicant {
            home: &Home::new(dir.path(), env.disk.clone()),
            token: &nodes[0].token().await,
            members: &[nodes[0].peer.to_string()],
            address: &peer.to_string(),
            labels: BTreeMap::new(),
            features: FeatureLevels::OF_THIS_BINARY,
            version: "test",
            account: ACCOUNT,
            region: REGION,
        };
        let identity = applicant.join(env).await.unwrap();
        assert_eq!(identity.node, NodeId(number));
        nodes.push(start(dir, peer, env).await);
        for (_, store) in nodes[0].server.node().groups() {
            let voters = || {
                let members = store.group().members();
                let voting = |role| matches!(role, floeberg_consensus::Role::Voter);
                members.members.iter().filter(|m| voting(m.role)).count()
            };
            while voters() < nodes.len() || store.group().members().changing {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    for node in &nodes {
        node.server.node().ready().await;
        assert!(node.home().exists());
    }
    nodes
}

/// Occupies every thread of requests and every place for steps, until what it returns is dropped.
fn stand_still(requests: &Runtime, env: &Env) -> Vec<mpsc::Sender<()>> {
    let (held, seen) = mpsc::channel();
    let mut releases = Vec::new();
    let mut work = || {
        let (release, released) = mpsc::channel::<()>();
        releases.push(release);
        let held = held.clone();
        move || {
            held.send(()).unwrap();
            // It ends when the sender is dropped.
            let _ = released.recv();
        }
    };
    let cores = available_parallelism().map_or(1, NonZero::get);
    let places = cores.saturating_sub(1).max(1);
    for _ in 0..places {
        let (tasks, work) = (env.tasks.clone(), work());
        requests.spawn(async move { tasks.step("stands", work).await });
    }
    (0..places).for_each(|_| seen.recv().unwrap());
    for _ in 0..WORKERS {
        let work = work();
        requests.spawn(async move { work() });
    }
    (0..WORKERS).for_each(|_| seen.recv().unwrap());
    releases
}

async fn goes_on(nodes: &[Running], env: &Env) {
    let led = |node: &&Running| node.catalog().leadership().borrow().ready;
    let leader = nodes.iter().find(led).expect("somebody leads").catalog();
    let term = leader.leadership().borrow().term;
    let cx = Cx::own(ACCOUNT.parse().unwrap(), env);
    for number in 0..COMMITS {
        let write = |txn: &mut Txn<'_>| {
            txn.put_raw(
                Bytes::from_static(b"\xf0stands"),
                number.to_be_bytes().to_vec().into(),
            );
            Ok::<_, ()>(())
        };
        leader.transact(&cx, write).await.unwrap();
        let node = &nodes[usize::try_from(number).unwrap() % nodes.len()];
        for path in ["/healthz", "/readyz/reads", "/metrics"] {
            let answer = node.ask(path).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        }
    }
    let now = *leader.leadership().borrow();
    assert!(now.ready && now.term == term, "{now:?} after term {term}");
}

/// Requests of a connection that has left the reception need its thread no more.
async fn serves_without_reception(node: &Running, env: &Env) {
    let mut stream = TcpStream::connect(node.lakehouse).await.unwrap();
    config_of(&mut stream).await;
    let ((release, released), (held, seen)) = (mpsc::channel::<()>(), mpsc::channel());
    let stands = env.reception.spawn("stands", async move {
        held.send(()).unwrap();
        // It ends when the sender is dropped.
        let _ = released.recv();
    });
    seen.recv().unwrap();
    for _ in 0..10 {
        config_of(&mut stream).await;
    }
    drop(release);
    stands.await.unwrap();
}

/// Asks for more than health on a connection that stays open.
async fn config_of(stream: &mut TcpStream) {
    let head = "GET /iceberg/v1/config HTTP/1.1\r\nhost: h\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[test]
fn a_leader_stays_commits_and_is_healthy_while_all_requests_stand_still() {
    let requests = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .unwrap();
    let threads = NodeThreads::start(requests.handle()).unwrap();
    let env = Env::real().with_threads(&threads);
    let nodes = requests.block_on(cluster(&env));
    let releases = stand_still(&requests, &env);
    let looking = Builder::new_current_thread().enable_all().build().unwrap();
    let looked = looking.block_on(async {
        let looking = goes_on(&nodes, &env);
        tokio::time::timeout(HANGS, looking).await
    });
    drop(releases);
    let served = looking.block_on(async {
        let serving = serves_without_reception(&nodes[0], &env);
        tokio::time::timeout(HANGS, serving).await
    });
    requests.block_on(async {
        for node in nodes {
            node.server.stop().await;
        }
    });
    looked.expect("something waits for threads that stand still");
    served.expect("requests wait for the reception");
}
