//! Bodies of answers that let others go first: one that is large is sent in turns, behind all else.

use super::reception::{Reception, Sending};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Bytes that are sent in one turn: a fraction of a millisecond over loopback. Most answers have less.
const TURN_BYTES: usize = 256 << 10;

/// After so many turns the connection is sent behind all else. Moving it there and back costs an object of 1 MiB a
/// seventh of its time.
const NEAR_TURNS: u32 = 4;

/// A body that gives way after each turn, and moves its connection behind all else after the first few.
pub(super) struct Turns<B> {
    body: B,
    reception: Reception,
    /// What came of the body in one piece and is more than a turn.
    rest: Bytes,
    /// Bytes of this turn.
    sent: usize,
    /// Turns that are over.
    turns: u32,
    large: Option<Sending>,
}

impl<B> Turns<B> {
    pub(super) fn new(body: B, reception: Reception) -> Self {
        Self {
            body,
            reception,
            rest: Bytes::new(),
            sent: 0,
            turns: 0,
            large: None,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Turns<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if this.sent >= TURN_BYTES {
            this.sent = 0;
            this.turns = this.turns.saturating_add(1);
            if this.turns >= NEAR_TURNS {
                this.large.get_or_insert_with(|| this.reception.sends());
            }
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut data = std::mem::take(&mut this.rest);
        if data.is_empty() {
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            data = match frame.into_data() {
                Ok(data) => data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            };
        }
        this.rest = data.split_off(data.len().min(TURN_BYTES));
        this.sent += data.len();
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, hint) = (self.rest.len() as u64, self.body.size_hint());
        let mut all = SizeHint::new();
        all.set_lower(hint.lower() + rest);
        if let Some(upper) = hint.upper() {
            all.set_upper(upper + rest);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use floeberg_env::Tasks;
    use futures::{FutureExt as _, StreamExt as _};
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use std::convert::Infallible;

    async fn frames(
        mut body: impl Body<Data = Bytes, Error = Infallible> + Unpin,
    ) -> Vec<(Bytes, bool)> {
        let mut frames = Vec::new();
        loop {
            let at_once = body.frame().now_or_never();
            let waited = at_once.is_none();
            let frame = match at_once {
                Some(frame) => frame,
                None => body.frame().await,
            };
            match frame {
                Some(Ok(frame)) => frames.push((frame.into_data().unwrap(), waited)),
                Some(Err(never)) => match never {},
                None => return frames,
            }
        }
    }

    #[tokio::test]
    async fn a_large_body_waits_after_each_turn_and_is_whole() {
        let bytes: Bytes = (0..5 * TURN_BYTES / 2).map(|n| (n % 251) as u8).collect();
        let body = Turns::new(Full::new(bytes.clone()), Reception::new(Tasks::simulated()));
        assert_eq!(body.size_hint().exact(), Some(bytes.len() as u64));
        let sent = frames(body).await;
        let waits: Vec<_> = sent
            .iter()
            .map(|(data, waited)| (data.len(), *waited))
            .collect();
        let turn = TURN_BYTES;
        assert_eq!(waits, [(turn, false), (turn, true), (turn / 2, true)]);
        let sent: Vec<u8> = sent.into_iter().flat_map(|(data, _)| data).collect();
        assert_eq!(sent, bytes);
    }

    #[tokio::test]
    async fn small_pieces_add_up_to_a_turn() {
        let piece = Bytes::from(vec![7; TURN_BYTES / 4]);
        let pieces = futures::stream::iter(vec![piece; 9]);
        let pieces = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        let sent = frames(Turns::new(
            StreamBody::new(pieces),
            Reception::new(Tasks::simulated()),
        ))
        .await;
        let waits: Vec<_> = sent.iter().map(|(_, waited)| *waited).collect();
        let (on, wait) = (false, true);
        assert_eq!(waits, [on, on, on, on, wait, on, on, on, wait]);
    }
}
