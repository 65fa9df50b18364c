//! Listening sockets and the connection loop of both client ports.

mod closing;
mod opening;

#[cfg(test)]
mod tests;

use crate::ClientLimits;
use closing::Closing;
use floeberg_telemetry::Gauge;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use opening::Opening;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

/// How long the peer of an HTTP/2 connection may take to answer a ping.
const PING_ANSWER: Duration = Duration::from_secs(20);

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

/// Binds `address`; `flag` is named in the error if the port is taken.
///
/// # Errors
/// If the port is taken or the system refuses.
pub async fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            BindError::Taken { address, flag }
        } else {
            BindError::Refused { address, source }
        }
    })
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
    /// Cancelled when the node is about to stop: answers end their connections from then on.
    pub(crate) leaving: CancellationToken,
}

impl Port {
    /// Makes a connection ready for requests. A handshake is short, and keeps a place meanwhile: it
    /// gets less time than a head, and none once the port closes.
    async fn open(&self, stream: TcpStream, stop: &CancellationToken) -> io::Result<Stream> {
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

type Stream = Either<TcpStream, TlsStream<TcpStream>>;

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
        + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let builder = builder(&port.limits);
    let service = Closing {
        service,
        leaving: port.leaving.clone(),
    };
    let graceful = GracefulShutdown::new();
    let mut door = Door::new(&port);
    loop {
        let entered = tokio::select! {
            entered = door.enter(&listener) => entered,
            () = stop.cancelled() => break,
        };
        let Some((stream, guest)) = entered else {
            continue;
        };
        let (builder, service, port) = (builder.clone(), service.clone(), port.clone());
        let stop = stop.clone();
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            let _guest = guest;
            let stream = match port.open(stream, &stop).await {
                Ok(stream) => Opening::new(stream, port.limits.head_time),
                Err(error) => {
                    tracing::debug!(%error, "a connection was not secured");
                    return;
                }
            };
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            if let Err(error) = watcher.watch(connection.into_owned()).await {
                tracing::debug!(%error, "connection ended early");
            }
        });
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(port.limits.drain) => tracing::warn!("requests were cut off at shutdown"),
    }
}

fn builder(limits: &ClientLimits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .keep_alive(true)
        .half_close(false);
    // HTTP/2 connections may idle, as pools have them do, but their peer must be alive.
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.head_time)
        .keep_alive_timeout(PING_ANSWER);
    builder
}

/// Lets connections in, as many at a time as the port takes. The next ones wait in the system's
/// queue: a client that finds the port full is slowed down and not turned away.
struct Door<'a> {
    port: &'a Port,
    places: Arc<Semaphore>,
    /// Whether the log has been told that the port is full.
    full: bool,
}

/// A connection's place; dropping it gives the place back.
struct Guest {
    open: Gauge,
    _place: OwnedSemaphorePermit,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl<'a> Door<'a> {
    fn new(port: &'a Port) -> Self {
        let places = port.limits.connections.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            port,
            places: Arc::new(Semaphore::new(places)),
            full: false,
        }
    }

    /// Waits for a free place and for a connection to take it. Cancelling it loses neither.
    async fn enter(&mut self, listener: &TcpListener) -> Option<(TcpStream, Guest)> {
        let place = self.place().await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors is the usual cause; a pause lets some close.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                return None;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot switch off Nagle's algorithm");
        }
        self.port.open.inc();
        let open = self.port.open.clone();
        let guest = Guest {
            open,
            _place: place,
        };
        Some((stream, guest))
    }

    async fn place(&mut self) -> OwnedSemaphorePermit {
        const OPEN: &str = "the places of a port are never closed";
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            // Said again only after a real relief, not after every connection that ends.
            self.full &= self.places.available_permits() < self.port.limits.connections / 10;
            return place;
        }
        if !self.full {
            self.full = true;
            tracing::warn!(
                port = self.port.name,
                connections = self.port.limits.connections,
                "the port is full: new connections wait until others end; find the client that \
                 opens so many, or raise the limit"
            );
        }
        self.places.clone().acquire_owned().await.expect(OPEN)
    }
}
