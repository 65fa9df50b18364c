//! Where a connection is served: at the reception, whose thread does nothing else, until it asks for more
//! than health, and from then on among the requests; behind all else while it sends an answer that is large.
//!
//! Whatever keeps the threads of requests busy, health and readiness are answered. Who has asked for
//! something else once goes on doing so: such a connection stays where requests are, and costs nothing more.
//! Sending takes as long as the client reads on, and the kernel's part of it is most of what a large answer
//! costs: on the threads of requests, commits would wait for it.

use floeberg_env::Tasks;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where one connection is; clones are the same.
#[derive(Clone)]
pub(super) struct Reception {
    requests: Tasks,
    /// Cancelled once the connection asks for more than health.
    leave: CancellationToken,
    /// Set before it is served among the requests for the first time.
    left: Arc<AtomicBool>,
    /// Large answers that it is sending.
    large: watch::Sender<usize>,
}

/// A large answer is being sent until this is dropped.
pub(super) struct Sending {
    large: watch::Sender<usize>,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.large.send_modify(|count| *count -= 1);
    }
}

impl Reception {
    pub(super) fn new(requests: Tasks) -> Self {
        Self {
            requests,
            leave: CancellationToken::new(),
            left: Arc::default(),
            large: watch::Sender::new(0),
        }
    }

    /// Serves a connection on the threads of the caller until it leaves them.
    pub(super) async fn host(self, connection: impl Future<Output = ()> + Send + 'static) {
        let mut connection: Connection = Box::pin(connection);
        tokio::select! {
            biased;
            () = &mut connection => {}
            () = self.leave.cancelled() => {
                self.left.store(true, Ordering::Release);
                self.go_on(connection, Place::Requests);
            }
        }
    }

    /// Serves a connection that has left where it belongs at the moment.
    fn go_on(self, mut connection: Connection, place: Place) {
        let (tasks, elsewhere) = match place {
            Place::Requests => (self.requests.clone(), Place::Behind),
            Place::Behind => (self.requests.behind(), Place::Requests),
        };
        let serving = async move {
            let mut large = self.large.subscribe();
            tokio::select! {
                biased;
                () = &mut connection => return,
                _ = large.wait_for(|count| Place::of(*count) != place) => {}
            }
            self.go_on(connection, elsewhere);
        };
        // Or every move would be inside of the one before.
        tasks.spawn_apart("connection", serving);
    }

    /// What moves the connection behind all else for as long as it is kept.
    pub(super) fn sends(&self) -> Sending {
        self.large.send_modify(|count| *count += 1);
        Sending {
            large: self.large.clone(),
        }
    }

    /// Answers a request among the others, whichever threads serve the connection now: a stream of HTTP/2 is a
    /// task of its own, which stays where it came in.
    pub(super) async fn answer<F>(&self, answer: F) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        if !self.left.load(Ordering::Acquire) {
            self.leave.cancel();
        }
        if self.requests.are_here() {
            return answer.await;
        }
        let answering = AbortOnDropHandle::new(self.requests.spawn("request", answer));
        match answering.await {
            Ok(answer) => answer,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The process is ending, and the connection with it.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

/// Where a connection is that has left the reception.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Requests,
    Behind,
}

impl Place {
    /// By how many large answers it is sending.
    fn of(large: usize) -> Self {
        match large {
            0 => Self::Requests,
            _ => Self::Behind,
        }
    }
}

/// A socket that follows its connection: once that has left, the threads that serve it are told of what
/// comes without asking the reception's.
pub(super) struct Following {
    tcp: Option<TcpStream>,
    left: Option<Arc<AtomicBool>>,
}

impl Following {
    pub(super) fn new(tcp: TcpStream, reception: &Reception) -> Self {
        Self {
            tcp: Some(tcp),
            left: Some(reception.left.clone()),
        }
    }

    fn tcp(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        let left = |left: &mut Arc<AtomicBool>| left.load(Ordering::Acquire);
        if self.left.take_if(left).is_some()
            && let Some(tcp) = self.tcp.take()
        {
            self.tcp = Some(TcpStream::from_std(tcp.into_std()?)?);
        }
        let tcp = self.tcp.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        Ok(Pin::new(tcp))
    }
}

impl AsyncRead for Following {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.tcp()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Following {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.tcp()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.tcp()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_shutdown(cx)
    }
}
