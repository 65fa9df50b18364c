//! A request body that has to keep moving: a client may be slow, but not silent.

use crate::limits::BODY_STALLS_MAX;
use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use std::future::Future as _;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How fast a body has to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The longest time in which nothing arrives.
    pub stall: Duration,
    /// How long the whole body may take, however small it is.
    pub grace: Duration,
    /// Bytes for which it may take a second more.
    pub bytes_per_second: u64,
}

impl Pace {
    /// A pace with a grace of a few permitted stalls.
    #[must_use]
    pub fn new(stall: Duration, bytes_per_second: u64) -> Self {
        Self {
            stall,
            grace: stall * BODY_STALLS_MAX,
            bytes_per_second,
        }
    }

    /// How long may be waited for a body of which `bytes` have come.
    fn allowance(&self, bytes: u64) -> Duration {
        let earned = bytes / self.bytes_per_second.max(1);
        self.grace.saturating_add(Duration::from_secs(earned))
    }
}

/// A body did not come as fast as it has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stalled {
    /// Nothing arrived for as long as the server waits.
    #[error("no byte of the request body arrived for {} seconds", patience.as_secs_f32())]
    Silent {
        /// How long the server waited.
        patience: Duration,
    },
    /// It trickles.
    #[error("the request body arrived at less than {bytes_per_second} bytes per second")]
    Slow {
        /// The slowest that is taken.
        bytes_per_second: u64,
    },
}

/// Ends `body` with [`Stalled`] when nothing of it arrives for a while, or too little for long.
///
/// Only time in which a reader waits for the client counts: a server that is busy with what came
/// before does not cut its client off.
pub struct Moving<B> {
    body: B,
    pace: Pace,
    timer: Option<Pin<Box<Sleep>>>,
    /// Since when the client is waited for. The timer is kept between waits, because a large body has
    /// many.
    since: Option<Instant>,
    /// How long it was waited for before.
    waited: Duration,
    /// Bytes that came.
    bytes: u64,
    end: Arc<OnceLock<BodyEnd>>,
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// All of it was read.
    Complete,
    /// It was cut off: see [`Stalled`].
    Stalled,
    /// The client has gone, or sent what no body is.
    Broken,
}

/// Tells how a body ended, for callers that do not read it themselves.
#[derive(Clone, Debug)]
pub struct BodyWatch(Arc<OnceLock<BodyEnd>>);

impl BodyWatch {
    /// What there is to say of a request without a body.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self(Arc::new(BodyEnd::Complete.into()))
    }

    /// How it ended; `None` if not all of it was read. Then the client may still be sending.
    #[must_use]
    pub fn end(&self) -> Option<BodyEnd> {
        self.0.get().copied()
    }

    /// Whether all of it was read.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.end() == Some(BodyEnd::Complete)
    }
}

impl<B> Moving<B> {
    /// Watches over `body`.
    pub fn new(body: B, pace: Pace) -> Self {
        Self {
            body,
            pace,
            timer: None,
            since: None,
            waited: Duration::ZERO,
            bytes: 0,
            end: Arc::default(),
        }
    }

    /// A view of this body's end that outlives it.
    pub fn watch(&self) -> BodyWatch {
        BodyWatch(self.end.clone())
    }

    /// Waits for the client, at most until its patience is used up.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<Stalled> {
        let left = self.pace.allowance(self.bytes).saturating_sub(self.waited);
        let patience = self.pace.stall.min(left);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        if self.since.is_none() {
            let now = Instant::now();
            timer.as_mut().reset(now + patience);
            self.since = Some(now);
        }
        ready!(timer.as_mut().poll(cx));
        self.ended(BodyEnd::Stalled);
        Poll::Ready(match left < self.pace.stall {
            true => Stalled::Slow {
                bytes_per_second: self.pace.bytes_per_second,
            },
            false => Stalled::Silent { patience },
        })
    }

    /// Notes how the body ended; what comes after the first end changes nothing.
    fn ended(&self, end: BodyEnd) {
        let _ = self.end.set(end);
    }

    /// Notes that `bytes` came, so that the wait for them is over.
    fn came(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
    }
}

impl<B> Body for Moving<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        if this.end.get() == Some(&BodyEnd::Stalled) {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                // An empty frame is not progress, or HTTP/2 clients could stall for ever.
                match &frame {
                    Some(Ok(frame)) => match frame.data_ref().map(Buf::remaining) {
                        Some(0) => {}
                        bytes => this.came(bytes.unwrap_or(0)),
                    },
                    Some(Err(_)) => this.ended(BodyEnd::Broken),
                    None => this.ended(BodyEnd::Complete),
                }
                if this.body.is_end_stream() {
                    this.ended(BodyEnd::Complete);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => this.poll_stall(cx).map(|stalled| Some(Err(stalled.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::StreamExt as _;
    use http_body_util::{BodyExt as _, StreamBody};
    use std::convert::Infallible;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A body whose frames come after the given pauses; it never ends.
    fn paced(frames: Vec<(u64, &'static [u8])>) -> impl Body<Data = Bytes, Error = BoxError> {
        let frames = futures::stream::iter(frames).then(|(pause, bytes)| async move {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(bytes)))
        });
        Moving::new(
            StreamBody::new(Box::pin(frames.chain(futures::stream::pending()))),
            Pace::new(PATIENCE, 1_000),
        )
    }

    async fn arrived(mut body: impl Body<Data = Bytes, Error = BoxError> + Unpin) -> (usize, u64) {
        let began = Instant::now();
        let mut bytes = 0;
        loop {
            match body.frame().await {
                Some(Ok(frame)) => bytes += frame.into_data().unwrap().len(),
                Some(Err(error)) => {
                    assert!(error.is::<Stalled>(), "{error}");
                    assert!(body.frame().await.is_none(), "an error ends the body");
                    return (bytes, began.elapsed().as_secs());
                }
                None => panic!("the body ended without an error"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_is_read_and_a_silent_one_is_cut_off() {
        let slow = paced(vec![(59, b"a"), (59, b"b"), (59, b"c")]);
        assert_eq!(arrived(slow).await, (3, 3 * 59 + 60));
        assert_eq!(arrived(paced(vec![])).await, (0, 60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_for_long_is_cut_off() {
        let frames = vec![(30, &b"a"[..]); 100];
        assert_eq!(arrived(paced(frames)).await, (10, 300));
        static MUCH: &[u8] = &[b'x'; 31_000];
        let frames = vec![(30, MUCH); 100];
        let (bytes, _) = arrived(paced(frames)).await;
        assert_eq!(bytes, 100 * MUCH.len());
    }

    #[tokio::test(start_paused = true)]
    async fn empty_frames_are_no_progress() {
        let pings = paced(vec![(0, b"a"), (25, b""), (25, b""), (25, b""), (25, b"")]);
        assert_eq!(arrived(pings).await, (1, 60));
    }

    #[tokio::test(start_paused = true)]
    async fn only_waiting_for_the_client_counts() {
        let frames = vec![(0, &b"a"[..]), (50, b"b"), (50, b"c")];
        let mut body = paced(frames);
        for _ in 0..3 {
            body.frame().await.unwrap().unwrap();
            tokio::time::sleep(2 * PATIENCE).await;
        }
    }
}
