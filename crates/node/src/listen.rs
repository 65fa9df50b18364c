//! Listening sockets and the connection loop of both client ports.

mod opening;
mod places;
mod reception;
mod socket;
mod turns;
mod visit;

#[cfg(test)]
mod tests;

use crate::ClientLimits;
use bytes::Bytes;
use floeberg_env::Tasks;
use floeberg_http::{Network, Peer};
use floeberg_telemetry::Gauge;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use opening::Opening;
use parking_lot::Mutex;
use places::{Entry, Places};
use reception::{Following, Reception};
use socket::Socket;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use visit::{Standpoint, Visit};

pub(crate) use visit::Manners;

/// How long the peer of an HTTP/2 connection may take to answer a ping.
const PING_ANSWER: Duration = Duration::from_secs(20);

/// How long a peer may take nothing of what is sent to it. Engines keep a download open while they work
/// on what they have of it.
const WRITE_PATIENCE: Duration = Duration::from_secs(120);

/// The time for a head, and for a pause, of a connection that has no place yet.
const ANTEROOM_TIME: Duration = Duration::from_secs(10);

/// Bytes of a request's head, and of what is read or written at a time. S3 takes heads of 8 KiB.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Header lines of a request. 2 KB of metadata in short pieces fit; the library's own refusal has no
/// text, ours says what is too much.
const HEADER_LINES_MAX: usize = 256;

/// Requests at a time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;

/// Bytes that an HTTP/2 peer may send before anybody has asked for them.
const HTTP2_WINDOW: u32 = 256 << 10;

/// Connections that the system keeps for us until they are taken in.
const BACKLOG: u32 = 1024;

/// An address that could not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has the port.
    #[error("port {port} is taken: stop the other process or choose another port with `{flag}`", port = address.port())]
    Taken {
        /// The address that was asked for.
        address: SocketAddr,
        /// The flag that changes it.
        flag: &'static str,
    },
    /// Any other refusal.
    #[error("cannot listen on {address}")]
    Refused {
        /// The address that was asked for.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A port that nobody else gets, and that nobody listens on yet: a client that comes before the node is ready is refused,
/// and asks another one, instead of waiting.
pub(crate) struct Reserved {
    socket: TcpSocket,
    address: SocketAddr,
    flag: &'static str,
}

impl Reserved {
    /// Reserves `address`; `flag` is named in the error if the port is taken.
    pub(crate) fn new(address: SocketAddr, flag: &'static str) -> Result<Self, BindError> {
        let reserve = || {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4(),
                SocketAddr::V6(_) => TcpSocket::new_v6(),
            }?;
            // Connections of the process before may be about to end.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok(socket)
        };
        let socket = reserve().map_err(|source| refused(address, flag, source))?;
        Ok(Self {
            socket,
            address,
            flag,
        })
    }

    /// The address, with the port the system chose.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Lets clients come; `tasks` take them in.
    pub(crate) fn listen(self, tasks: &Tasks) -> Result<TcpListener, BindError> {
        let Self {
            socket,
            address,
            flag,
        } = self;
        let listener = tasks.within(|| socket.listen(BACKLOG));
        listener.map_err(|source| refused(address, flag, source))
    }
}

fn refused(address: SocketAddr, flag: &'static str, source: io::Error) -> BindError {
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::Taken { address, flag },
        _ => BindError::Refused { address, source },
    }
}

/// One port: what it is called and how much it takes.
#[derive(Clone)]
pub(crate) struct Port {
    /// In logs and metrics.
    pub(crate) name: &'static str,
    /// Open connections.
    pub(crate) open: Gauge,
    /// Bounds.
    pub(crate) limits: ClientLimits,
    /// What the port proves to clients with, if they speak TLS.
    pub(crate) tls: Option<TlsAcceptor>,
    /// Numbers of connections, shared by the ports.
    pub(crate) numbers: Arc<AtomicU64>,
    /// How the port turns clients away.
    pub(crate) manners: Manners,
    /// What serves requests; whoever serves the port answers its probes.
    pub(crate) requests: Tasks,
    /// Cancelled when the node is about to stop: answers end their connections from then on.
    pub(crate) leaving: CancellationToken,
}

impl Port {
    /// Makes a connection ready for requests. A handshake is short, and keeps a place meanwhile: it
    /// gets less time than a head, and none once the port closes.
    async fn open(&self, stream: Following, stop: &CancellationToken) -> io::Result<Stream> {
        let stream = Socket::new(stream, WRITE_PATIENCE, stop.clone());
        let Some(tls) = &self.tls else {
            return Ok(Either::Left(stream));
        };
        let handshake = tokio::time::timeout(self.limits.handshake_time, tls.accept(stream));
        match stop.run_until_cancelled(handshake).await {
            Some(secured) => Ok(Either::Right(secured??)),
            None => Err(io::Error::other("the port closes")),
        }
    }
}

type Stream = Either<Socket<Following>, TlsStream<Socket<Following>>>;

/// Serves `service` on `listener` until `stop`, then lets open requests finish for a while.
pub(crate) async fn serve<S, B>(
    listener: TcpListener,
    service: S,
    port: Port,
    stop: CancellationToken,
) where
    S: hyper::service::Service<http::Request<hyper::body::Incoming>, Response = http::Response<B>>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    S::Future: Send + 'static,
    B: hyper::body::Body<Data = Bytes> + From<Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let seated = builder(port.limits.head_time);
    let standing = builder(port.limits.head_time.min(ANTEROOM_TIME));
    let graceful = GracefulShutdown::new();
    let mut door = Door::new(&port);
    loop {
        let entered = tokio::select! {
            entered = door.enter(&listener) => entered,
            () = stop.cancelled() => break,
        };
        let Some((stream, peer, standpoint)) = entered else {
            continue;
        };
        let (builder, head_time) = match standpoint.is_standing() {
            true => (standing.clone(), port.limits.head_time.min(ANTEROOM_TIME)),
            false => (seated.clone(), port.limits.head_time),
        };
        let reception = Reception::new(port.requests.clone());
        let visit = Visit {
            service: service.clone(),
            reception: reception.clone(),
            peer,
            places: door.places.clone(),
            standpoint: Arc::new(Mutex::new(standpoint)),
            manners: port.manners,
            leaving: port.leaving.clone(),
            stop: stop.clone(),
        };
        let (port, stop, watcher) = (port.clone(), stop.clone(), graceful.watcher());
        let stream = Following::new(stream, &reception);
        let connection = async move {
            let stream = match port.open(stream, &stop).await {
                Ok(stream) => Opening::new(stream, head_time),
                Err(error) => {
                    tracing::debug!(%error, "a connection was not secured");
                    return;
                }
            };
            let connection = builder.serve_connection(TokioIo::new(stream), visit);
            if let Err(error) = watcher.watch(connection.into_owned()).await {
                tracing::debug!(%error, "connection ended early");
            }
        };
        tokio::spawn(reception.host(connection));
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(port.limits.drain) => tracing::warn!("requests were cut off at shutdown"),
    }
}

fn builder(head_time: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADER_LINES_MAX)
        .keep_alive(true)
        .half_close(false);
    // HTTP/2 connections may idle, as pools have them do, but their peer must be alive.
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_connection_window_size(HTTP2_WINDOW)
        .initial_stream_window_size(HTTP2_WINDOW)
        .keep_alive_interval(head_time)
        .keep_alive_timeout(PING_ANSWER);
    builder
}

/// Lets connections in, as many at a time as the port takes. The next ones wait: a client that finds
/// the port full is slowed down before it is turned away.
struct Door<'a> {
    port: &'a Port,
    places: Places,
    /// Whether the log has been told that the port is full.
    full: bool,
}

impl<'a> Door<'a> {
    fn new(port: &'a Port) -> Self {
        Self {
            port,
            places: Places::new(port.limits.connections, port.open.clone()),
            full: false,
        }
    }

    /// Waits for a connection that there is a place for, if only to wait at. Cancelling it loses
    /// neither.
    async fn enter(&mut self, listener: &TcpListener) -> Option<(TcpStream, Peer, Standpoint)> {
        self.places.opening().await;
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors is the usual cause; a pause lets some close.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                return None;
            }
        };
        let peer = Peer {
            network: Network::of(address.ip()),
            connection: self.port.numbers.fetch_add(1, Ordering::Relaxed),
        };
        let entry = self.places.enter(peer.network);
        self.tell(&entry, address);
        let standpoint = Standpoint::of(entry)?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot switch off Nagle's algorithm");
        }
        Some((stream, peer, standpoint))
    }

    /// Says in the log when the port becomes full; again only after a real relief, not after every
    /// connection that ends.
    fn tell(&mut self, entry: &Entry, address: SocketAddr) {
        match entry {
            Entry::Seat(_) => self.full &= self.places.free() < self.places.total() / 10,
            Entry::Anteroom(_) | Entry::Nowhere if !self.full => {
                self.full = true;
                tracing::warn!(
                    port = self.port.name,
                    connections = self.places.total(),
                    client = %address.ip(),
                    "the port is full for this client: its new connections wait until others end; \
                     find who opens so many, or raise the limit"
                );
            }
            Entry::Anteroom(_) | Entry::Nowhere => {}
        }
    }
}
