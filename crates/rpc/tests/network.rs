//! The real transport: the suite, over TLS and without, and what only a network can get wrong.
#![allow(clippy::unwrap_used)] // a test; the lint spares only code inside `#[test]`

mod support;

use async_trait::async_trait;
use bytes::Bytes;
use floeberg_env::{Env, SimClock};
use floeberg_pki::{Authority, JoinKey, JoinToken, NodeTls, TrustBundle, join_config};
use floeberg_rpc::testing::{LONG, transport_suite};
use floeberg_rpc::{
    Asking, CallError, Doorway, Handler, Method, NetTransport, Refusal, RefusalCode, Request,
    Routes, STRANGER, Security, ServeError, Server, Settings, Station, Transport, knock,
};
use floeberg_types::{ClusterId, GroupId, NodeId};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use support::{A, B, CLUSTER, NetFabric, credentials, listen, serve, station, tls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_over_mutual_tls() {
    transport_suite(&NetFabric::secured()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_on_plain_loopback() {
    transport_suite(&NetFabric::plain()).await;
}

/// Says who called.
struct Whoami;

#[async_trait]
impl Handler for Whoami {
    async fn handle(&self, from: NodeId, _: Request) -> Result<Bytes, Refusal> {
        Ok(from.to_string().into())
    }
}

fn whoami() -> Routes {
    let routes = Routes::new();
    for method in Method::ALL {
        routes.add(method, Arc::new(Whoami));
    }
    routes
}

fn secured(authority: &Authority, node: NodeId, env: &Env) -> Station {
    station(node, Security::MutualTls(tls(authority, node, env)), env)
}

fn vote() -> Request {
    Request {
        method: Method::Vote,
        group: GroupId::CATALOG,
        body: Bytes::new(),
    }
}

/// One call of a fresh transport to whoever listens at `server`, taken for `to`.
async fn ask(station: &Station, to: NodeId, server: &Server) -> Result<Bytes, CallError> {
    station.peers.set(to, server.address().to_string());
    let transport = NetTransport::new(station.clone());
    let answer = transport.call(to, vote(), LONG).await;
    transport.stop().await;
    answer
}

fn code(answer: Result<Bytes, CallError>) -> RefusalCode {
    match answer {
        Err(CallError::Refused(refusal)) => refusal.code,
        other => panic!("refused was expected, not {other:?}"),
    }
}

fn assert_not_sent(answer: Result<Bytes, CallError>) {
    assert!(
        matches!(answer, Err(CallError::NotSent { .. })),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_wrong_address_is_refused_by_name() {
    let env = Env::real();
    let authority = Authority::create(CLUSTER, &env).unwrap();
    let server = serve(&secured(&authority, B, &env), whoami()).await;
    let a = secured(&authority, A, &env);
    assert_eq!(
        code(ask(&a, NodeId(3), &server).await),
        RefusalCode::WrongNode
    );
    assert_eq!(ask(&a, B, &server).await, Ok(Bytes::from("1")));
    server.stop().await;
}

#[tokio::test]
async fn another_cluster_is_refused() {
    let env = Env::real();
    let authority = Authority::create(CLUSTER, &env).unwrap();
    let server = serve(&secured(&authority, B, &env), whoami()).await;
    // Another authority: the TLS handshake itself fails.
    let foreign = Authority::create(CLUSTER, &env).unwrap();
    assert_not_sent(ask(&secured(&foreign, A, &env), B, &server).await);
    // The same authority, but certificates and hello of another cluster.
    let other = ClusterId::from_bytes([0xc2; 16]);
    let trust = TrustBundle::new(authority.certificate()).unwrap();
    let lost = credentials(&authority, other, A, &env);
    let lost = NodeTls::new(&lost, &trust, env.clock.clone()).unwrap();
    let mut stray = station(A, Security::MutualTls(Arc::new(lost)), &env);
    assert_eq!(code(ask(&stray, B, &server).await), RefusalCode::WrongNode);
    stray.local.cluster = other;
    assert_eq!(
        code(ask(&stray, B, &server).await),
        RefusalCode::WrongCluster
    );
    // Without TLS only the hello tells.
    let plain = serve(&station(B, Security::PlainLoopback, &env), whoami()).await;
    let mut stray = station(A, Security::PlainLoopback, &env);
    stray.local.cluster = other;
    assert_eq!(
        code(ask(&stray, B, &plain).await),
        RefusalCode::WrongCluster
    );
    server.stop().await;
    plain.stop().await;
}

#[tokio::test]
async fn a_node_with_the_certificate_of_another_is_refused() {
    let env = Env::real();
    let authority = Authority::create(CLUSTER, &env).unwrap();
    let server = serve(&secured(&authority, B, &env), whoami()).await;
    let borrowed = Security::MutualTls(tls(&authority, NodeId(3), &env));
    let thief = station(A, borrowed, &env);
    assert_eq!(code(ask(&thief, B, &server).await), RefusalCode::WrongNode);
    server.stop().await;
}

#[tokio::test]
async fn tls_and_plain_do_not_meet() {
    let env = Env::real();
    let authority = Authority::create(CLUSTER, &env).unwrap();
    let secure = serve(&secured(&authority, B, &env), whoami()).await;
    let plain = serve(&station(B, Security::PlainLoopback, &env), whoami()).await;
    let naked = station(A, Security::PlainLoopback, &env);
    assert_not_sent(ask(&naked, B, &secure).await);
    assert_not_sent(ask(&secured(&authority, A, &env), B, &plain).await);
    secure.stop().await;
    plain.stop().await;
}

#[tokio::test]
async fn plain_is_for_loopback_only() {
    let env = Env::real();
    let everywhere = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let plain = station(B, Security::PlainLoopback, &env);
    let refused = Server::start(everywhere, plain, Routes::new()).unwrap_err();
    assert!(matches!(refused, ServeError::NotLoopback(_)), "{refused}");
}

#[tokio::test]
async fn an_expired_certificate_opens_nothing() {
    let mut env = Env::real();
    let clock = Arc::new(SimClock::start());
    env.clock = clock.clone();
    let authority = Authority::create(CLUSTER, &env).unwrap();
    let server = serve(&secured(&authority, B, &env), whoami()).await;
    let a = secured(&authority, A, &env);
    assert!(ask(&a, B, &server).await.is_ok());
    clock.jump(91 * 24 * 3600 * 1000);
    assert_not_sent(ask(&a, B, &server).await);
    server.stop().await;
}

#[tokio::test]
async fn authorities_rotate_while_both_sides_serve() {
    let env = Env::real();
    let (old, new) = (
        Authority::create(CLUSTER, &env).unwrap(),
        Authority::create(CLUSTER, &env).unwrap(),
    );
    let (tls_a, tls_b) = (tls(&old, A, &env), tls(&old, B, &env));
    let a = station(A, Security::MutualTls(tls_a.clone()), &env);
    let b = station(B, Security::MutualTls(tls_b.clone()), &env);
    let server = serve(&b, whoami()).await;
    let both = TrustBundle::new(old.certificate()).unwrap();
    let both = both.with(new.certificate()).unwrap();
    let only_new = both.without(old.fingerprint().unwrap()).unwrap();
    for tls in [&tls_a, &tls_b] {
        tls.replace_trust(&both).unwrap();
        assert!(ask(&a, B, &server).await.is_ok());
    }
    for (tls, node) in [(&tls_a, A), (&tls_b, B)] {
        let renewed = credentials(&new, CLUSTER, node, &env);
        tls.replace_credentials(&renewed).unwrap();
        assert!(ask(&a, B, &server).await.is_ok());
    }
    for tls in [&tls_a, &tls_b] {
        tls.replace_trust(&only_new).unwrap();
        assert!(ask(&a, B, &server).await.is_ok());
    }
    let late = secured(&old, A, &env);
    assert_not_sent(ask(&late, B, &server).await);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_comes_back_at_the_same_address() {
    let env = Env::real();
    let authority = Authority::create(CLUSTER, &env).unwrap();
    let b = secured(&authority, B, &env);
    let socket = listen().await.into_std().unwrap();
    let listener = |socket: &std::net::TcpListener| {
        TcpListener::from_std(socket.try_clone().unwrap()).unwrap()
    };
    let a = secured(&authority, A, &env);
    let transport = NetTransport::new(a.clone());
    for _ in 0..3 {
        let server = Server::start(listener(&socket), b.clone(), whoami()).unwrap();
        a.peers.set(B, server.address().to_string());
        floeberg_rpc::testing::until_answered(&transport, B, Method::Vote).await;
        server.stop().await;
    }
    transport.stop().await;
    let stopped = transport.call(B, vote(), LONG).await;
    assert_not_sent(stopped);
}

#[tokio::test]
async fn a_peer_that_has_moved_is_called_where_it_says_it_is() {
    let env = Env::real();
    let a = station(A, Security::PlainLoopback, &env);
    let at_a = serve(&a, whoami()).await;
    let listener = listen().await;
    let mut b = station(B, Security::PlainLoopback, &env);
    b.local.start = 2;
    b.local.address = listener.local_addr().unwrap().to_string();
    let at_b = Server::start(listener, b.clone(), whoami()).unwrap();
    // By its row it is where nobody listens any more.
    let before = listen().await.local_addr().unwrap();
    a.peers.keep(B, before.to_string(), 1);
    assert_eq!(ask(&b, A, &at_a).await, Ok(Bytes::from("2")));
    let transport = NetTransport::new(a);
    floeberg_rpc::testing::until_answered(&transport, B, Method::Vote).await;
    transport.stop().await;
    at_a.stop().await;
    at_b.stop().await;
}

#[tokio::test]
async fn a_start_that_asks_is_told_about_marks_only_and_supersedes_nobody() {
    let env = Env::real();
    let asked = station(A, Security::PlainLoopback, &env);
    let routes = whoami().on(Method::Marks, Arc::new(Known));
    let server = serve(&asked, routes).await;
    let mut running = station(B, Security::PlainLoopback, &env);
    running.local.start = 7;
    assert_eq!(ask(&running, A, &server).await, Ok(Bytes::from("2")));
    // An older copy of its directory, started elsewhere.
    let mut copy = station(B, Security::PlainLoopback, &env);
    (copy.local.start, copy.asking) = (8, Asking::yes());
    copy.peers.set(A, server.address().to_string());
    let transport = NetTransport::new(copy.clone());
    let marks = Request {
        method: Method::Marks,
        group: GroupId::CATALOG,
        body: Bytes::new(),
    };
    let vote = Request {
        method: Method::Vote,
        ..marks.clone()
    };
    assert_eq!(
        transport.call(A, marks, LONG).await,
        Ok(Bytes::from("known"))
    );
    let refused = transport.call(A, vote, LONG).await;
    assert!(
        matches!(&refused, Err(CallError::Refused(r)) if r.code == RefusalCode::NotServing),
        "{refused:?}"
    );
    assert_eq!(
        ask(&running, A, &server).await,
        Ok(Bytes::from("2")),
        "still the one"
    );
    transport.stop().await;
    server.stop().await;
}

/// Answers what is known of marks.
struct Known;

#[async_trait]
impl Handler for Known {
    async fn handle(&self, _: NodeId, _: Request) -> Result<Bytes, Refusal> {
        Ok(Bytes::from("known"))
    }
}

#[tokio::test]
async fn while_a_node_is_held_it_serves_marks_only() {
    let env = Env::real();
    let held = station(A, Security::PlainLoopback, &env);
    let routes = whoami().on(Method::Marks, Arc::new(Known));
    routes.hold(Refusal::new(RefusalCode::Forgot, "lost"));
    let server = serve(&held, routes.clone()).await;
    let b = station(B, Security::PlainLoopback, &env);
    let refused = ask(&b, A, &server).await;
    assert!(
        matches!(&refused, Err(CallError::Refused(r)) if r.code == RefusalCode::Forgot),
        "{refused:?}"
    );
    routes.release();
    assert_eq!(ask(&b, A, &server).await, Ok(Bytes::from("2")));
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_given_up() {
    let env = Env::real();
    let mute = listen().await;
    let mut a = station(A, Security::PlainLoopback, &env);
    a.settings = Settings {
        connect_patience: Duration::from_millis(100),
        ..Settings::default()
    };
    a.peers.set(B, mute.local_addr().unwrap().to_string());
    let transport = NetTransport::new(a);
    assert_not_sent(transport.call(B, vote(), LONG).await);
    transport.stop().await;
}

/// Passes bytes on between a client and `server` until it is told to swallow them.
async fn silenceable(server: SocketAddr, silent: watch::Receiver<bool>) -> SocketAddr {
    let listener = listen().await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let (from_client, to_client) = client.into_split();
            let server = TcpStream::connect(server).await.unwrap();
            let (from_server, to_server) = server.into_split();
            tokio::spawn(pass_on(from_client, to_server, silent.clone()));
            tokio::spawn(pass_on(from_server, to_client, silent.clone()));
        }
    });
    address
}

async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, silent: watch::Receiver<bool>) {
    let mut bytes = vec![0; 4096];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if !*silent.borrow() && to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_peer_that_fell_silent_is_noticed_by_pings() {
    let env = Env::real();
    let server = serve(&station(B, Security::PlainLoopback, &env), whoami()).await;
    let (silence, silent) = watch::channel(false);
    let mut a = station(A, Security::PlainLoopback, &env);
    a.settings.ping_every = Duration::from_millis(100);
    a.settings.ping_patience = Duration::from_millis(500);
    let between = silenceable(server.address(), silent).await;
    a.peers.set(B, between.to_string());
    let transport = NetTransport::new(a);
    assert_eq!(transport.call(B, vote(), LONG).await, Ok(Bytes::from("1")));
    silence.send(true).unwrap();
    // Nobody answers and nothing is closed: without pings this would last as long as patience.
    let begun = tokio::time::Instant::now();
    let lost = transport.call(B, vote(), LONG).await;
    assert!(matches!(lost, Err(CallError::Lost { .. })), "{lost:?}");
    assert!(begun.elapsed() < LONG);
    silence.send(false).unwrap();
    floeberg_rpc::testing::until_answered(&transport, B, Method::Vote).await;
    transport.stop().await;
    server.stop().await;
}

fn token(authority: &Authority, env: &Env) -> JoinToken {
    let trust = TrustBundle::new(authority.certificate()).unwrap();
    let key = JoinKey::draw(env.rng.as_ref());
    key.issue(CLUSTER, &trust, Duration::from_secs(60), env)
        .unwrap()
}

#[tokio::test]
async fn a_stranger_may_knock_where_its_token_is_from() {
    let env = Env::real();
    let authority = Authority::create(CLUSTER, &env).unwrap();
    let server = serve(&secured(&authority, B, &env), whoami()).await;
    let address = server.address().to_string();
    let knock = |token: JoinToken| {
        let doorway = Doorway::Pinned(join_config(&token, env.clock.clone()).unwrap());
        knock(&address, doorway, Bytes::from("let me in"), LONG)
    };
    let let_in = knock(token(&authority, &env)).await;
    assert_eq!(let_in, Ok(Bytes::from(STRANGER.to_string())));
    let foreign = Authority::create(CLUSTER, &env).unwrap();
    assert_not_sent(knock(token(&foreign, &env)).await);
    server.stop().await;
}

#[tokio::test]
async fn a_stranger_knocks_in_plain_on_loopback() {
    let env = Env::real();
    let server = serve(&station(B, Security::PlainLoopback, &env), whoami()).await;
    let address = server.address().to_string();
    let body = Bytes::from("let me in");
    let let_in = knock(&address, Doorway::PlainLoopback, body.clone(), LONG).await;
    assert_eq!(let_in, Ok(Bytes::from("0")));
    let large = Bytes::from(vec![0; 1 << 20]);
    let refused = knock(&address, Doorway::PlainLoopback, large, LONG).await;
    assert!(
        matches!(refused, Err(CallError::Lost { .. })),
        "{refused:?}"
    );
    server.stop().await;
    let down = knock(&address, Doorway::PlainLoopback, body, LONG).await;
    assert_not_sent(down);
}
