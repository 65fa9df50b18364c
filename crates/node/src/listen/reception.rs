//! Where a connection is served: at the reception, whose thread does nothing else, until it asks for more
//! than health, and from then on among the requests.
//!
//! Whatever keeps the threads of requests busy, health and readiness are answered. Who has asked for
//! something else once goes on doing so: such a connection stays where requests are, and costs nothing more.

use floeberg_env::Tasks;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Where one connection is; clones are the same.
#[derive(Clone)]
pub(super) struct Reception {
    requests: Tasks,
    /// Cancelled once the connection asks for more than health.
    leave: CancellationToken,
    /// Set before it is served among the requests for the first time.
    left: Arc<AtomicBool>,
}

impl Reception {
    pub(super) fn new(requests: Tasks) -> Self {
        Self {
            requests,
            leave: CancellationToken::new(),
            left: Arc::default(),
        }
    }

    /// Serves a connection on the threads of the caller until it leaves them.
    pub(super) async fn host(self, connection: impl Future<Output = ()> + Send + 'static) {
        let mut connection = Box::pin(connection);
        tokio::select! {
            biased;
            () = &mut connection => {}
            () = self.leave.cancelled() => {
                self.left.store(true, Ordering::Release);
                self.requests.spawn("connection", connection);
            }
        }
    }

    /// Answers a request among the others, whichever threads serve the connection now.
    pub(super) async fn answer<F>(&self, answer: F) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        if self.left.load(Ordering::Acquire) {
            return answer.await;
        }
        let answering = AbortOnDropHandle::new(self.requests.spawn("request", answer));
        self.leave.cancel();
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
