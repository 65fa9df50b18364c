//! A request body that has to keep moving: a client may be slow, but not silent.

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// No byte of a body arrived for as long as the server waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no byte of the request body arrived for {} seconds", patience.as_secs_f32())]
pub struct Stalled {
    /// How long the server waited.
    pub patience: Duration,
}

/// Ends `body` with [`Stalled`] when nothing of it arrives for a while.
///
/// Only time in which a reader waits for the client counts: a server that is busy with what came
/// before does not cut its client off.
pub struct Moving<B> {
    body: B,
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the timer runs; it is kept between waits, because a large body has many.
    waiting: bool,
    stalled: StallWatch,
}

/// Tells whether a body ended by stalling, for callers that cannot see the error itself.
#[derive(Clone, Debug, Default)]
pub struct StallWatch(Arc<AtomicBool>);

impl StallWatch {
    /// Whether the body was cut off.
    #[must_use]
    pub fn stalled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<B> Moving<B> {
    /// Watches over `body`.
    pub fn new(body: B, patience: Duration) -> Self {
        Self {
            body,
            patience,
            timer: None,
            waiting: false,
            stalled: StallWatch::default(),
        }
    }

    /// A view of this body's fate that outlives it.
    pub fn watch(&self) -> StallWatch {
        self.stalled.clone()
    }

    /// Waits for the client, at most until its patience is used up.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<Stalled> {
        let patience = self.patience;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        if !self.waiting {
            timer.as_mut().reset(Instant::now() + patience);
            self.waiting = true;
        }
        ready!(timer.as_mut().poll(cx));
        self.stalled.0.store(true, Ordering::Relaxed);
        Poll::Ready(Stalled { patience })
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
        if this.stalled.stalled() {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                // An empty frame is not progress, or HTTP/2 clients could stall for ever.
                let empty = matches!(&frame, Some(Ok(frame))
                    if frame.data_ref().is_some_and(|data| !data.has_remaining()));
                this.waiting &= empty;
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
            PATIENCE,
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
