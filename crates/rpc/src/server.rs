//! Accepts connections of peers and hands their streams to the handlers.

use crate::callee::Callee;
use crate::codec::FrameCodec;
use crate::dial::{EXCHANGE, tune};
use crate::door::{JOIN, MAX_KNOCK};
use crate::exchange::{Host, OUTGOING};
use crate::link::{About, Io, Link};
use crate::station::windows;
use crate::wire::{self, Frame, Proof};
use crate::{Lane, Routes, Security, Station};
use floeberg_pki::peer_identity;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::Grpc;
use tonic::{Request, Response, Status, Streaming};

/// TLS handshakes at a time; they cost much and anybody can begin one.
const HANDSHAKES: usize = 128;

/// Connections without a certificate at a time. Anybody can open one, and only who wants to join needs
/// one; members must always get through.
pub(crate) const GUESTS: usize = 64;

/// How long to wait before accepting again when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Streams on one connection: ours have one, a stranger's knock is another.
const STREAMS_PER_CONNECTION: u32 = 4;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Without TLS others could read and forge everything.
    #[error("{0} is not a loopback address: connections between machines need certificates")]
    NotLoopback(SocketAddr),
    /// The listener is broken.
    #[error("the listener of the node port cannot be used: {0}")]
    Listener(#[from] io::Error),
}

/// Serves peers on one listener until it is stopped or dropped.
pub struct Server {
    address: SocketAddr,
    routes: Routes,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Server {
    /// Serves `routes` to peers that connect to `listener`.
    ///
    /// # Errors
    /// If the listener cannot be used with the security that is wanted.
    pub fn start(
        listener: TcpListener,
        station: Station,
        routes: Routes,
    ) -> Result<Self, ServeError> {
        let address = listener.local_addr()?;
        let plain = matches!(station.security, Security::PlainLoopback);
        if plain && !address.ip().is_loopback() {
            return Err(ServeError::NotLoopback(address));
        }
        let stop = CancellationToken::new();
        let tracker = TaskTracker::new();
        let tasks = station.env.consensus.clone();
        let listener = listener.into_std()?;
        let listener = tasks.within(|| TcpListener::from_std(listener))?;
        let settings = station.settings;
        let host = Arc::new(Host {
            station,
            callee: Callee::new(routes.clone(), stop.clone()),
            stop: stop.clone(),
            tracker: tracker.clone(),
            complaints: Mutex::new(BTreeSet::new()),
        });
        let (accepted, links) = mpsc::channel(16);
        let accepting = accept(listener, host.clone(), accepted);
        tasks.spawn("rpc.accept", tracker.track_future(accepting));
        let (stream_window, connection_window) = windows(Lane::Bulk);
        let serving = tonic::transport::Server::builder()
            .initial_stream_window_size(stream_window)
            .initial_connection_window_size(connection_window)
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .http2_keepalive_interval(Some(settings.ping_every))
            .http2_keepalive_timeout(Some(settings.ping_patience))
            .serve_with_incoming(Doors { host }, ReceiverStream::new(links));
        tasks.spawn(
            "rpc.serve",
            tracker.track_future(async move {
                if let Err(error) = serving.await {
                    tracing::error!(%error, "the node port is served no more");
                }
            }),
        );
        Ok(Self {
            address,
            routes,
            stop,
            tracker,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection, drops the handlers that run, and waits until that is done. Handlers
    /// are let go of.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        self.routes.clear();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

type Accepted = mpsc::Sender<Result<Link, io::Error>>;

async fn accept(listener: TcpListener, host: Arc<Host>, accepted: Accepted) {
    let room = Arc::new(Semaphore::new(HANDSHAKES));
    let guests = Arc::new(Semaphore::new(GUESTS));
    loop {
        let next = tokio::select! {
            biased;
            () = host.stop.cancelled() => return,
            next = listener.accept() => next,
        };
        let (tcp, remote) = match next {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = room.clone().try_acquire_owned() else {
            tracing::debug!(%remote, "too many connections are being opened");
            continue;
        };
        let (secured, accepted, guests) = (host.clone(), accepted.clone(), guests.clone());
        let handshake = host.tracker.track_future(async move {
            let _permit = permit;
            let opened = tokio::select! {
                biased;
                () = secured.stop.cancelled() => return,
                opened = secure(&secured, tcp, remote) => opened,
            };
            match opened {
                Ok(link) => {
                    let Some(link) = bound(&secured, link, guests) else {
                        tracing::debug!(%remote, "too many connections without a certificate");
                        return;
                    };
                    // Closed only once the server stops.
                    drop(accepted.send(Ok(link)).await);
                }
                Err(error) => tracing::debug!(%remote, %error, "a connection failed"),
            }
        });
        host.station.env.consensus.spawn("rpc.handshake", handshake);
    }
}

/// Lets a connection without a certificate last for a while, if there are not too many of them.
fn bound(host: &Host, link: Link, guests: Arc<Semaphore>) -> Option<Link> {
    if !matches!(link.about().proof, Proof::Nothing) {
        return Some(link);
    }
    let link = link.with_place(guests.try_acquire_owned().ok()?);
    let (cut, patience) = (link.about().cut.clone(), host.station.settings.guest_time);
    let end = host.tracker.track_future(async move {
        // Cut from elsewhere, or in time; the server's stop cancels it, too.
        if tokio::time::timeout(patience, cut.cancelled())
            .await
            .is_err()
        {
            cut.cancel();
        }
    });
    host.station.env.consensus.spawn("rpc.guest", end);
    Some(link)
}

async fn secure(host: &Host, tcp: TcpStream, remote: SocketAddr) -> io::Result<Link> {
    let settings = host.station.settings;
    tune(&tcp, settings)?;
    let (io, proof) = match &host.station.security {
        Security::PlainLoopback => (Io::Plain(tcp), Proof::NotAsked),
        Security::MutualTls(tls) => {
            let handshake = TlsAcceptor::from(tls.server_config()).accept(tcp);
            let tls = tokio::time::timeout(settings.connect_patience, handshake).await??;
            let leaf = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let proof = match leaf.map(|leaf| peer_identity(leaf)) {
                Some(Ok((cluster, node))) => Proof::Certificate(cluster, node),
                Some(Err(e)) => return Err(io::Error::other(e)),
                None => Proof::Nothing,
            };
            (Io::Tls(Box::new(tls.into())), proof)
        }
    };
    let about = About {
        proof,
        remote,
        cut: host.stop.child_token(),
    };
    Ok(Link::new(io, about))
}

/// The two gRPC services by path.
#[derive(Clone)]
struct Doors {
    host: Arc<Host>,
}

impl Service<http::Request<Body>> for Doors {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let host = self.host.clone();
        match request.uri().path() {
            EXCHANGE => Box::pin(async move {
                let mut grpc = Grpc::new(FrameCodec)
                    .max_decoding_message_size(wire::MAX_FRAME)
                    .max_encoding_message_size(wire::MAX_FRAME);
                Ok(grpc.streaming(Exchange(host), request).await)
            }),
            JOIN => Box::pin(async move {
                let mut grpc = Grpc::new(FrameCodec).max_decoding_message_size(MAX_KNOCK);
                Ok(grpc.unary(Door(host), request).await)
            }),
            _ => {
                let response = Status::unimplemented("no such method").into_http();
                Box::pin(std::future::ready(Ok(response)))
            }
        }
    }
}

struct Exchange(Arc<Host>);

impl Service<Request<Streaming<Frame>>> for Exchange {
    type Response = Response<ReceiverStream<Result<Frame, Status>>>;
    type Error = Status;
    type Future = std::future::Ready<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<Frame>>) -> Self::Future {
        let Some(about) = request.extensions().get::<About>().cloned() else {
            let unknown = Status::internal("a stream without a connection");
            return std::future::ready(Err(unknown));
        };
        let (out, frames) = mpsc::channel(OUTGOING);
        let host = self.0.clone();
        let serve = host.clone().serve(about, request.into_inner(), out);
        let serve = host.tracker.track_future(serve);
        host.station.env.consensus.spawn("rpc.stream", serve);
        std::future::ready(Ok(Response::new(ReceiverStream::new(frames))))
    }
}

struct Door(Arc<Host>);

impl Service<Request<Frame>> for Door {
    type Response = Response<Frame>;
    type Error = Status;
    type Future = BoxFuture<Response<Frame>, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Frame>) -> Self::Future {
        let host = self.0.clone();
        Box::pin(async move {
            host.open_door(request.into_inner())
                .await
                .map(Response::new)
        })
    }
}
