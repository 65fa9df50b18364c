//! Building blocks of answers.

use crate::{Answer, ErrorCode};
use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body::{Frame, SizeHint};
use serde::Serialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// `application/json`.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer without a body.
#[must_use]
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer
}

/// An answer whose body is JSON text that already exists.
#[must_use]
pub fn json_bytes(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Body::from(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}

/// An answer whose body is JSON text in several pieces, which are not copied together. Whoever has made them has
/// counted their bytes.
#[must_use]
pub fn json_pieces(status: StatusCode, pieces: impl IntoIterator<Item = Bytes>) -> Answer {
    let mut answer = Response::new(Body::new(Pieces::of(pieces)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer.extensions_mut().insert(Counted);
    answer
}

/// The bytes of an answer are counted already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted;

/// A body of pieces that are all there.
struct Pieces {
    pieces: VecDeque<Bytes>,
    left: u64,
}

impl Pieces {
    fn of(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let pieces: VecDeque<Bytes> = pieces.into_iter().collect();
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { pieces, left }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.pop_front();
        if let Some(piece) = &piece {
            self.left -= piece.len() as u64;
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// An answer whose body is `value` as JSON.
#[must_use]
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Answer {
    let body =
        serde_json::to_vec(value).expect("answers have text keys and no failing serializers");
    json_bytes(status, body)
}

/// Adds a header; a value that cannot stand in a header is left out.
#[must_use]
pub fn with_header(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// Notes the protocol's name of a failure for the access log.
#[must_use]
pub fn with_code(mut answer: Answer, code: &'static str) -> Answer {
    answer.extensions_mut().insert(ErrorCode(code));
    answer
}

/// Tells the client to try again in a second. Iceberg clients repeat a POST after 503 only then.
#[must_use]
pub fn with_retry_after(mut answer: Answer) -> Answer {
    let second = HeaderValue::from_static("1");
    answer.headers_mut().insert(RETRY_AFTER, second);
    answer
}
