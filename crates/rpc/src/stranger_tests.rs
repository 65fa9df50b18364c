//! What a caller without a certificate can reach.

use crate::codec::FrameCodec;
use crate::door::JOIN;
use crate::line::Line;
use crate::link::Link;
use crate::server::GUESTS;
use crate::testing::{Echo, LONG, request};
use crate::wire::{self, Frame, Kind};
use crate::{
    Asking, Features, Lane, LocalNode, Method, Peers, RefusalCode, Routes, Security, Server,
    Settings, Station, dial,
};
use floeberg_env::Env;
use floeberg_pki::{
    Authority, Credentials, JoinKey, NODE_LIFETIME, NodeKey, NodeTls, Subject, TrustBundle,
    join_config,
};
use floeberg_types::{ClusterId, NodeId};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

const CLUSTER: ClusterId = ClusterId::from_bytes([0xc1; 16]);

fn station(node: NodeId, env: &Env) -> (Station, Arc<ClientConfig>) {
    let authority = Authority::create(CLUSTER, env).unwrap();
    let trust = TrustBundle::new(authority.certificate()).unwrap();
    let key = NodeKey::generate().unwrap();
    let subject = Subject {
        cluster: CLUSTER,
        node,
        names: Vec::new(),
    };
    let signed = authority.sign(&key.request().unwrap(), &subject, NODE_LIFETIME, env);
    let credentials = Credentials::new(key, signed.unwrap()).unwrap();
    let tls = NodeTls::new(&credentials, &trust, env.clock.clone()).unwrap();
    let station = Station {
        local: LocalNode {
            cluster: CLUSTER,
            node,
            start: 0,
            address: String::new(),
            features: Features { low: 1, high: 1 },
        },
        security: Security::MutualTls(Arc::new(tls)),
        peers: Arc::new(Peers::new()),
        settings: Settings::default(),
        asking: Asking::default(),
        env: env.clone(),
    };
    let token = JoinKey::draw(env.rng.as_ref()).issue(CLUSTER, &trust, LONG, env);
    let pinned = join_config(&token.unwrap(), env.clock.clone()).unwrap();
    (station, pinned)
}

async fn guest(server: &Server, pinned: &Arc<ClientConfig>) -> Link {
    let address = server.address().to_string();
    let dialled = dial::secured(&address, pinned.clone(), Settings::default()).await;
    dialled.unwrap().0
}

/// Whether the other end closes a connection on which nothing was said.
async fn is_closed(link: &mut Link) -> bool {
    !matches!(link.read(&mut [0]).await, Ok(1..))
}

async fn serve(settings: Settings) -> (Server, Arc<ClientConfig>) {
    let env = Env::real();
    let (station, pinned) = station(NodeId(2), &env);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let station = Station {
        settings,
        ..station
    };
    let server = Server::start(listener, station, Routes::new()).unwrap();
    (server, pinned)
}

#[tokio::test]
async fn a_silent_connection_without_a_certificate_ends() {
    let settings = Settings {
        guest_time: Duration::from_millis(20),
        ..Settings::default()
    };
    let (server, pinned) = serve(settings).await;
    let mut link = guest(&server, &pinned).await;
    while !is_closed(&mut link).await {}
    server.stop().await;
}

#[tokio::test]
async fn connections_without_a_certificate_are_bounded() {
    let (server, pinned) = serve(Settings::default()).await;
    let mut held = Vec::new();
    for _ in 0..GUESTS {
        held.push(guest(&server, &pinned).await);
    }
    // The handshakes of TLS 1.3 end for the client first: wait until the server has counted them.
    loop {
        let mut one_more = guest(&server, &pinned).await;
        if timeout(Duration::from_millis(50), is_closed(&mut one_more)).await == Ok(true) {
            break;
        }
    }
    drop(held);
    server.stop().await;
}

async fn channel(server: &Server, pinned: &Arc<ClientConfig>) -> Channel {
    let address = server.address().to_string();
    let (link, _) = dial::secured(&address, pinned.clone(), Settings::default())
        .await
        .unwrap();
    dial::channel(link, Lane::Votes, Settings::default())
        .await
        .unwrap()
}

#[tokio::test]
async fn only_the_door_opens_without_a_certificate() {
    let env = Env::real();
    let (station, pinned) = station(NodeId(2), &env);
    let routes = Routes::new();
    for method in Method::ALL {
        routes.add(method, Arc::new(Echo));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::start(listener, station.clone(), routes).unwrap();

    // As a member that it is not, with the right words.
    let claimed = LocalNode {
        node: NodeId(1),
        start: 0,
        ..station.local.clone()
    };
    let line = Arc::new(Line::new(Settings::default()));
    let outbox = line.begin(wire::hello(&claimed, NodeId(2), Lane::Votes));
    let mut answers = dial::exchange(channel(&server, &pinned).await, outbox)
        .await
        .unwrap();
    let Some(Kind::Goodbye(refusal)) = answers.message().await.unwrap().unwrap().kind else {
        panic!("the stream was not refused");
    };
    let refusal = wire::refusal_from_wire(refusal);
    assert_eq!(refusal.code, RefusalCode::Unauthorised, "{refusal}");

    // At the door, but for something else than joining.
    let mut grpc = Grpc::new(channel(&server, &pinned).await);
    for method in Method::ALL {
        grpc.ready().await.unwrap();
        let call = tonic::Request::new(wire::call(0, request(method, "x")));
        let path = PathAndQuery::from_static(JOIN);
        let response = grpc.unary(call, path, FrameCodec).await.unwrap();
        let answer: Frame = response.into_inner();
        let Some(Kind::Answer(answer)) = answer.kind else {
            panic!("no answer");
        };
        let result = wire::read_answer(answer).1;
        if method == Method::Join {
            assert_eq!(result.unwrap(), "0/0/x");
        } else {
            let refused = crate::testing::code_of(result);
            assert_eq!(refused, Some(RefusalCode::Unauthorised), "{method:?}");
        }
    }
    server.stop().await;
}
