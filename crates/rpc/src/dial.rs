//! Opens one stream to a peer: connection, identity, handshake. Every stream has a connection of
//! its own, so that a lane full of files cannot hold up another.

use crate::codec::FrameCodec;
use crate::line::{Line, Outbox};
use crate::link::{About, Io, Link};
use crate::peers::Unwanted;
use crate::station::windows;
use crate::wire::{self, Frame, Kind, Proof};
use crate::{CallError, Lane, Refusal, RefusalCode, Security, Settings, Station};
use floeberg_pki::peer_identity;
use floeberg_types::NodeId;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Streaming;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

pub(crate) const EXCHANGE: &str = "/floeberg.rpc.v1.Transport/Exchange";

/// A stream whose handshake is over.
pub(crate) struct Opened {
    pub(crate) answers: Streaming<Frame>,
    /// Closes the connection when the stream is no longer wanted.
    _cut: DropGuard,
}

/// Opens a stream for the calls of `line`; the caller bounds how long that may take.
pub(crate) async fn open(
    station: &Station,
    to: NodeId,
    address: &str,
    lane: Lane,
    line: &Arc<Line>,
) -> Result<Opened, CallError> {
    let link = connect(station, address).await?;
    let proof = link.about().proof;
    check_identity(station, to, address, proof)?;
    let cut = link.about().cut.clone().drop_guard();
    let outbox = line.begin(station.hello(to, lane));
    let channel = channel(link, lane, station.settings).await?;
    let mut answers = exchange(channel, outbox).await?;
    let first = answers.message().await.map_err(|status| {
        CallError::not_sent(format!("{address} closed the stream: {}", status.message()))
    })?;
    match first.and_then(|frame| frame.kind) {
        Some(Kind::Hello(hello)) => {
            let (from, _) = wire::check_hello(&hello, &station.local, proof)?;
            if from != to {
                return Err(not_the_one(to, from, address).into());
            }
            let (start, address) = (hello.start, &hello.address);
            let admitted = match hello.asking {
                true => station.peers.admit_asking(from),
                false => station.peers.admit(from, start, address),
            };
            admitted.map_err(|unwanted| outdated(unwanted, from, start))?;
        }
        Some(Kind::Goodbye(refusal)) => return Err(wire::refusal_from_wire(refusal).into()),
        _ => return Err(CallError::not_sent(format!("{address} did not say hello"))),
    }
    Ok(Opened { answers, _cut: cut })
}

fn not_the_one(to: NodeId, from: NodeId, address: &str) -> Refusal {
    let message = format!("{address} is node {from}, not node {to}: correct the address of {to}");
    Refusal::new(RefusalCode::WrongNode, message)
}

/// The peer is to blame, not this node: it must not take the refusal for its own.
fn outdated(unwanted: Unwanted, node: NodeId, start: u64) -> CallError {
    CallError::not_sent(unwanted.refusal(node, start).message)
}

/// The certificate must be the peer's before a byte of ours is sent.
fn check_identity(
    station: &Station,
    to: NodeId,
    address: &str,
    proof: Proof,
) -> Result<(), Refusal> {
    let Proof::Certificate(cluster, node) = proof else {
        return Ok(());
    };
    if cluster != station.local.cluster {
        let message =
            format!("{address} belongs to cluster {cluster}: correct the address of {to}");
        return Err(Refusal::new(RefusalCode::WrongCluster, message));
    }
    if node != to {
        return Err(not_the_one(to, node, address));
    }
    Ok(())
}

async fn connect(station: &Station, address: &str) -> Result<Link, CallError> {
    match &station.security {
        Security::PlainLoopback => plain(address, station.settings).await,
        Security::MutualTls(tls) => {
            let (link, proof) = secured(address, tls.client_config(), station.settings).await?;
            let Proof::Certificate(..) = proof else {
                return Err(CallError::not_sent(format!(
                    "{address} has no certificate of a node"
                )));
            };
            Ok(link)
        }
    }
}

/// A connection without TLS, which never leaves the machine.
pub(crate) async fn plain(address: &str, settings: Settings) -> Result<Link, CallError> {
    let tcp = dial(address, settings).await?;
    let remote = tcp.peer_addr().map_err(|e| unreachable(address, &e))?;
    if !remote.ip().is_loopback() {
        let reason = format!("{remote} is not a loopback address and connections are not secured");
        return Err(CallError::not_sent(reason));
    }
    let about = About {
        proof: Proof::NotAsked,
        remote,
        cut: CancellationToken::new(),
    };
    Ok(Link::new(Io::Plain(tcp), about))
}

/// A connection by TLS, with what the server has proven.
pub(crate) async fn secured(
    address: &str,
    config: Arc<ClientConfig>,
    settings: Settings,
) -> Result<(Link, Proof), CallError> {
    let tcp = dial(address, settings).await?;
    let remote = tcp.peer_addr().map_err(|e| unreachable(address, &e))?;
    // Nodes are known by their ids: the name is not looked at by the verifier, nor sent.
    let name = ServerName::try_from("node.floeberg.internal").expect("a valid DNS name");
    let tls = TlsConnector::from(config)
        .connect(name, tcp)
        .await
        .map_err(|e| CallError::not_sent(format!("{address} failed the TLS handshake: {e}")))?;
    let leaf = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let proof = match leaf.map(|leaf| peer_identity(leaf)) {
        Some(Ok((cluster, node))) => Proof::Certificate(cluster, node),
        Some(Err(e)) => return Err(CallError::not_sent(format!("{address}: {e}"))),
        None => Proof::Nothing,
    };
    let about = About {
        proof,
        remote,
        cut: CancellationToken::new(),
    };
    Ok((Link::new(Io::Tls(Box::new(tls.into())), about), proof))
}

fn unreachable(address: &str, error: &io::Error) -> CallError {
    CallError::not_sent(format!("{address} cannot be reached: {error}"))
}

async fn dial(address: &str, settings: Settings) -> Result<TcpStream, CallError> {
    let tcp = TcpStream::connect(address)
        .await
        .map_err(|e| unreachable(address, &e))?;
    tune(&tcp, settings).map_err(|e| unreachable(address, &e))?;
    Ok(tcp)
}

/// Small frames leave at once, and a peer that is gone is noticed by the kernel too.
pub(crate) fn tune(tcp: &TcpStream, settings: Settings) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(settings.ping_every.max(std::time::Duration::from_secs(1)))
        .with_interval(std::time::Duration::from_secs(1))
        .with_retries(3);
    let socket = SockRef::from(tcp);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(settings.ping_every + settings.ping_patience))
}

/// HTTP/2 over `link`; there is no second connection, so a broken channel stays broken.
pub(crate) async fn channel(
    link: Link,
    lane: Lane,
    settings: Settings,
) -> Result<Channel, CallError> {
    let (stream_window, connection_window) = windows(lane);
    let mut link = Some(TokioIo::new(link));
    let once = tower::service_fn(move |_| {
        let taken = link.take().ok_or(io::ErrorKind::NotConnected);
        std::future::ready(taken.map_err(io::Error::from))
    });
    Endpoint::from_static("http://node.floeberg.internal")
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        .http2_keep_alive_interval(settings.ping_every)
        .keep_alive_timeout(settings.ping_patience)
        .keep_alive_while_idle(true)
        .connect_with_connector(once)
        .await
        .map_err(|e| CallError::not_sent(format!("HTTP/2 failed: {e}")))
}

pub(crate) async fn exchange(
    channel: Channel,
    outbox: Outbox,
) -> Result<Streaming<Frame>, CallError> {
    let failed = |reason: String| CallError::not_sent(format!("the stream failed: {reason}"));
    let mut grpc = Grpc::new(channel)
        .max_decoding_message_size(wire::MAX_FRAME)
        .max_encoding_message_size(wire::MAX_FRAME);
    grpc.ready().await.map_err(|e| failed(e.to_string()))?;
    let request = tonic::Request::new(outbox);
    let path = PathAndQuery::from_static(EXCHANGE);
    let response = grpc.streaming(request, path, FrameCodec).await;
    Ok(response
        .map_err(|status| failed(status.message().to_owned()))?
        .into_inner())
}
