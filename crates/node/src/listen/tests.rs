//! What clients meet that are silent, slow, or too many. Time is paused: a test waits for as long as
//! a client would, in no time.

mod hostile;
mod threads;

use super::*;
use bytes::Bytes;
use floeberg_pki::{Authority, Credentials, NODE_LIFETIME, NodeKey, PortTls, Subject};
use floeberg_types::{ClusterId, NodeId};
use hyper::body::Incoming;
use hyper::service::service_fn;
use std::convert::Infallible;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";

struct Served {
    address: SocketAddr,
    open: Gauge,
    leaving: CancellationToken,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

/// Answers every request with `ok` after `work`.
async fn served(connections: usize, work: Duration) -> Served {
    served_by(connections, work, None).await
}

async fn served_by(connections: usize, work: Duration, tls: Option<TlsAcceptor>) -> Served {
    let (listener, port) = port(connections, tls).await;
    let service = service_fn(move |_: http::Request<Incoming>| async move {
        tokio::time::sleep(work).await;
        let body = http_body_util::Full::new(Bytes::from_static(b"ok"));
        Ok::<_, Infallible>(http::Response::new(body))
    });
    start(listener, port, service)
}

async fn port(connections: usize, tls: Option<TlsAcceptor>) -> (TcpListener, Port) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = Port {
        name: "test",
        open: Gauge::default(),
        limits: ClientLimits {
            connections,
            ..ClientLimits::default()
        },
        tls,
        numbers: Arc::default(),
        manners: Manners {
            probes: &["/healthz"],
            content_type: "text/plain",
            full: "full",
        },
        requests: floeberg_env::Env::real().tasks,
        leaving: CancellationToken::new(),
    };
    (listener, port)
}

fn start<S>(listener: TcpListener, port: Port, service: S) -> Served
where
    S: hyper::service::Service<
            http::Request<Incoming>,
            Response = http::Response<http_body_util::Full<Bytes>>,
            Error = Infallible,
            Future: Send,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    let address = listener.local_addr().unwrap();
    let (open, stop) = (port.open.clone(), CancellationToken::new());
    let leaving = port.leaving.clone();
    let serving = tokio::spawn(serve(listener, service, port, stop.clone()));
    Served {
        address,
        open,
        leaving,
        stop,
        serving,
    }
}

impl Served {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request and reads its answer, which must come.
    async fn ask(&self, stream: &mut TcpStream) {
        stream.write_all(GET).await.unwrap();
        answer(stream).await;
    }
}

async fn answer(stream: &mut TcpStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok") {
        let read = stream.read_buf(&mut answer).await.unwrap();
        assert_ne!(
            read,
            0,
            "closed after {:?}",
            String::from_utf8_lossy(&answer)
        );
    }
}

#[tokio::test]
async fn a_reserved_port_is_taken_and_refuses_whoever_comes_too_early() {
    let any = "127.0.0.1:0".parse().unwrap();
    let reserved = Reserved::new(any, "--port").unwrap();
    let address = reserved.local_addr().unwrap();
    let early = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(early.kind(), io::ErrorKind::ConnectionRefused);
    let tasks = floeberg_env::Env::real().tasks;
    let listener = reserved.listen(&tasks).unwrap();
    let taken = Reserved::new(address, "--port").map(drop).unwrap_err();
    assert!(matches!(taken, BindError::Taken { flag: "--port", .. }));
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    client.unwrap();
    accepted.unwrap();
}

/// Waits until the server ends the connection; how long that took.
async fn closed(stream: &mut TcpStream) -> u64 {
    let began = Instant::now();
    let mut rest = Vec::new();
    // A reset is an end too.
    let ended = stream.read_to_end(&mut rest);
    let day = Duration::from_secs(86_400);
    let _ = tokio::time::timeout(day, ended).await;
    began.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_send_a_head_is_cut_off() {
    let served = served(10, Duration::ZERO).await;
    for sent in [
        &b""[..],
        b"P",
        b"PRI * HT",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nhost: h\r\n",
    ] {
        let mut stream = served.connect().await;
        stream.write_all(sent).await.unwrap();
        let after = closed(&mut stream).await;
        let sent = String::from_utf8_lossy(sent);
        assert!((90..=91).contains(&after), "{sent:?}: {after} seconds");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_only_trickles_is_cut_off() {
    let served = served(10, Duration::ZERO).await;
    let mut stream = served.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let (mut read, mut write) = stream.split();
    let trickle = async {
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            if write.write_all(b"a: b\r\n").await.is_err() {
                break;
            }
        }
    };
    let began = Instant::now();
    let mut rest = Vec::new();
    tokio::select! {
        _ = read.read_to_end(&mut rest) => {}
        () = trickle => panic!("never cut off"),
    }
    let after = began.elapsed().as_secs();
    assert!((80..=100).contains(&after), "{after} seconds");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_for_a_while_and_slow_work_is_not_cut_off() {
    let served = served(10, Duration::from_secs(200)).await;
    let mut stream = served.connect().await;
    served.ask(&mut stream).await;
    tokio::time::sleep(Duration::from_secs(80)).await;
    served.ask(&mut stream).await;
    let after = closed(&mut stream).await;
    assert!((90..=91).contains(&after), "{after} seconds");
}

#[tokio::test(start_paused = true)]
async fn a_full_port_lets_the_next_client_wait() {
    let served = served(2, Duration::ZERO).await;
    let (mut first, mut second) = (served.connect().await, served.connect().await);
    served.ask(&mut first).await;
    served.ask(&mut second).await;
    assert_eq!(served.open.get(), 2);
    let mut third = served.connect().await;
    third.write_all(GET).await.unwrap();
    let early = tokio::time::timeout(Duration::from_secs(20), answer(&mut third)).await;
    assert!(early.is_err(), "a third connection was served");
    assert_eq!(served.open.get(), 2);
    drop(first);
    answer(&mut third).await;
    served.ask(&mut second).await;
    assert_eq!(served.open.get(), 2);
    drop((second, third));
    // The listener stops although nobody connects, and every place is given back.
    served.stop.cancel();
    served.serving.await.unwrap();
    assert_eq!(served.open.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_port_still_stops() {
    let served = served(1, Duration::ZERO).await;
    let mut only = served.connect().await;
    served.ask(&mut only).await;
    let _waiting = served.connect().await;
    served.stop.cancel();
    served.serving.await.unwrap();
}

/// What a port proves itself with.
fn secured() -> TlsAcceptor {
    let env = floeberg_env::Env::real();
    let cluster = ClusterId::from_bytes([1; 16]);
    let authority = Authority::create(cluster, &env).unwrap();
    let key = NodeKey::generate().unwrap();
    let subject = Subject {
        cluster,
        node: NodeId(1),
        names: vec!["127.0.0.1".to_owned()],
    };
    let chain = authority.sign(&key.request().unwrap(), &subject, NODE_LIFETIME, &env);
    let dir = tempfile::tempdir().unwrap();
    let credentials = Credentials::new(key, chain.unwrap()).unwrap();
    credentials.save(env.disk.as_ref(), dir.path()).unwrap();
    // Key and chain are in one file; each reader takes what is its own.
    let file = dir.path().join("node.pem");
    let tls = PortTls::load(file.clone(), file, env.disk.clone(), env.clock.clone());
    TlsAcceptor::from(tls.unwrap().server_config())
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_go_on_is_cut_off_and_keeps_nobody_waiting() {
    let tls = secured();
    let served = served_by(2, Duration::ZERO, Some(tls)).await;
    // A silent client, and one that stops in the middle of its first record.
    let (mut silent, mut slow) = (served.connect().await, served.connect().await);
    slow.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    let began = Instant::now();
    for stream in [&mut silent, &mut slow] {
        closed(stream).await;
    }
    let after = began.elapsed().as_secs();
    assert!((10..=11).contains(&after), "{after} seconds");
    assert_eq!(served.open.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_does_not_hold_up_a_stop() {
    let tls = secured();
    let served = served_by(10, Duration::ZERO, Some(tls)).await;
    let _silent = served.connect().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let began = Instant::now();
    served.stop.cancel();
    served.serving.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_ends_connections_with_their_next_answer() {
    let served = served(10, Duration::ZERO).await;
    let (mut active, mut idle) = (served.connect().await, served.connect().await);
    served.ask(&mut active).await;
    served.ask(&mut idle).await;
    let mut unused = served.connect().await;
    served.leaving.cancel();
    active.write_all(GET).await.unwrap();
    let mut last = Vec::new();
    active.read_to_end(&mut last).await.unwrap();
    let last = String::from_utf8(last).unwrap();
    assert!(last.contains("connection: close"), "{last}");
    // Until the port closes, new connections are served once.
    let mut late = served.connect().await;
    served.ask(&mut late).await;
    let began = Instant::now();
    served.stop.cancel();
    served.serving.await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "idle connections held up the stop"
    );
    for stream in [&mut idle, &mut unused] {
        assert_eq!(closed(stream).await, 0);
    }
}
