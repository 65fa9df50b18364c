//! A socket whose peer has to take what is sent to it, and that is closed so that the peer learns why.
//!
//! A peer that never reads would keep its connection, and what waits to be sent, for ever. And a socket
//! that is closed while its peer still sends is reset, which takes the answer away that explains it: so
//! what still comes is read and thrown away for a moment (RFC 9112, section 9.6).

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How long a closed connection is still read.
const LINGER: Duration = Duration::from_secs(10);
/// How much of it is read and thrown away.
const LINGER_BYTES: usize = 64 << 20;

/// The raw connection, below TLS.
pub(super) struct Socket<I> {
    io: I,
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the peer is waited for; the timer is kept between waits.
    waiting: bool,
    stop: CancellationToken,
    closing: Closing,
}

enum Closing {
    No,
    Lingers {
        until: Pin<Box<Sleep>>,
        stop: Pin<Box<WaitForCancellationFutureOwned>>,
        left: usize,
    },
    Done,
}

impl<I> Socket<I> {
    /// A connection whose peer may take nothing for as long as `patience`; once `stop` is cancelled, it
    /// is closed without ado.
    pub(super) fn new(io: I, patience: Duration, stop: CancellationToken) -> Self {
        Self {
            io,
            patience,
            timer: None,
            waiting: false,
            stop,
            closing: Closing::No,
        }
    }

    /// Passes on what a write came to, unless the peer has taken nothing for too long.
    fn progress<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = false;
            return written;
        }
        let patience = self.patience;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        if !self.waiting {
            timer.as_mut().reset(Instant::now() + patience);
            self.waiting = true;
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> Socket<I> {
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Closing::Lingers { until, stop, left } = &mut self.closing else {
            return Poll::Ready(());
        };
        let mut sink = [0u8; 8 << 10];
        loop {
            let mut buf = ReadBuf::new(&mut sink);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Pending => break,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {
                    let came = buf.filled().len();
                    *left = left.saturating_sub(came);
                    if came == 0 || *left == 0 {
                        return Poll::Ready(());
                    }
                }
            }
        }
        match until.as_mut().poll(cx).is_ready() || stop.as_mut().poll(cx).is_ready() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Socket<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.progress(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.progress(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if matches!(this.closing, Closing::No) {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            this.closing = match this.stop.is_cancelled() {
                true => Closing::Done,
                false => Closing::Lingers {
                    until: Box::pin(tokio::time::sleep(LINGER)),
                    stop: Box::pin(this.stop.clone().cancelled_owned()),
                    left: LINGER_BYTES,
                },
            };
        }
        ready!(this.poll_linger(cx));
        this.closing = Closing::Done;
        Poll::Ready(Ok(()))
    }
}
