//! Reading a request body inside limits.

use crate::limits::{BODY_PATIENCE, BODY_RATE_MIN};
use crate::{ByteBudget, Held, Moving, Pace, Peer, Refusal, Stalled};
use axum::body::Body;
use bytes::Bytes;
use floeberg_types::limits::{BODY_COPIES, BODY_VALUES, SMALL_BODY_BYTES, VALUE_BYTES};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body::Body as _;
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use std::time::Duration;

/// How a body is read.
pub(crate) struct Reading<'a> {
    /// The largest body.
    pub(crate) limit: usize,
    /// The longest time in which nothing arrives.
    pub(crate) stall: Duration,
    /// What it counts against.
    pub(crate) budget: &'a ByteBudget,
    /// Whose share it counts against.
    pub(crate) peer: Peer,
}

/// A whole body. Its share of the budget is given back when this is dropped.
pub(crate) struct Gathered {
    pub(crate) bytes: Bytes,
    pub(crate) sha256: Option<[u8; 32]>,
    _held: Option<Held>,
}

/// Whether somebody will ask for the hash of a body. It is made while the body arrives, so that a large
/// one does not keep a thread for long at its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hashing {
    Sha256,
    Nothing,
}

fn declared(headers: &HeaderMap) -> Option<u64> {
    let declared = headers.get(CONTENT_LENGTH);
    declared.and_then(|v| v.to_str().ok()?.parse().ok())
}

/// Refuses what the headers already rule out, before a byte is read.
pub(crate) fn check_headers(headers: &HeaderMap, limit: usize) -> Result<(), Refusal> {
    if let Some(encoding) = headers.get(CONTENT_ENCODING) {
        let encoding = String::from_utf8_lossy(encoding.as_bytes()).into_owned();
        if !encoding.eq_ignore_ascii_case("identity") {
            return Err(Refusal::ContentEncoding { encoding });
        }
    }
    if declared(headers).is_some_and(|length| length > limit as u64) {
        return Err(Refusal::BodyTooLarge { limit });
    }
    Ok(())
}

impl Reading<'_> {
    /// Reads the whole body, at most the limit, for as long as it keeps coming.
    pub(crate) async fn gather(
        &self,
        headers: &HeaderMap,
        body: Body,
        hashing: Hashing,
    ) -> Result<Gathered, Refusal> {
        let mut hash = (hashing == Hashing::Sha256).then(Sha256::new);
        let done = |bytes, hash: Option<Sha256>, held| Gathered {
            bytes,
            sha256: hash.map(|hash| hash.finalize().into()),
            _held: held,
        };
        if body.is_end_stream() {
            return Ok(done(Bytes::new(), hash, None));
        }
        let limit = self.limit as u64;
        // The share of a body that says how large it is stands before its first byte does: bodies that
        // began all at once would else wait for each other in the middle.
        let declared = declared(headers).map(|declared| declared.min(limit));
        let mut promised = declared.unwrap_or(limit.min(SMALL_BODY_BYTES as u64));
        let held = self
            .budget
            .hold(self.peer, weight(promised), BODY_PATIENCE)
            .await;
        let mut held = held.map_err(Refusal::Busy)?;
        let mut values = Values::default();
        let mut body = Moving::new(body, Pace::new(self.stall, BODY_RATE_MIN));
        let mut buffer = Buffer::Empty;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(broken)?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let with = (buffer.len() + data.len()) as u64;
            if with > limit {
                return Err(Refusal::BodyTooLarge { limit: self.limit });
            }
            let mut more = values.came(&data)?;
            if with > promised {
                let doubled = with.max(promised * 2).min(limit);
                more += weight(doubled - promised);
                promised = doubled;
            }
            if more > 0 {
                let grown = held.grow(more, BODY_PATIENCE).await;
                grown.map_err(Refusal::Busy)?;
            }
            if let Some(hash) = &mut hash {
                hash.update(&data);
            }
            buffer.push(data, usize::try_from(promised).unwrap_or(usize::MAX));
        }
        Ok(done(buffer.into_bytes(), hash, Some(held)))
    }
}

/// What so many bytes of a body become.
fn weight(bytes: u64) -> u64 {
    bytes * BODY_COPIES as u64
}

/// Counts what a body consists of while it comes: a few bytes of JSON can become many in memory, and
/// whoever parses them is too late to ask for room.
#[derive(Default)]
struct Values(usize);

impl Values {
    /// How many bytes more the body has to hold for what came.
    fn came(&mut self, data: &[u8]) -> Result<u64, Refusal> {
        let more = data.iter().filter(|byte| **byte == b',').count();
        self.0 += more;
        if self.0 > BODY_VALUES {
            return Err(Refusal::TooManyValues { limit: BODY_VALUES });
        }
        Ok((more * VALUE_BYTES) as u64)
    }
}

fn broken(error: Box<dyn std::error::Error + Send + Sync>) -> Refusal {
    match error.downcast_ref::<Stalled>() {
        Some(stalled) => Refusal::BodyStalled(*stalled),
        None => Refusal::BodyIncomplete,
    }
}

/// What arrived so far. It grows with that, never with what a client says will come.
enum Buffer {
    Empty,
    /// Most bodies are one frame, which need not be copied.
    One(Bytes),
    Many(Vec<u8>),
}

impl Buffer {
    fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(bytes) => bytes.len(),
            Self::Many(bytes) => bytes.len(),
        }
    }

    /// Appends `data`; `most` is how long the whole can become.
    fn push(&mut self, data: Bytes, most: usize) {
        if data.is_empty() {
            return;
        }
        *self = match std::mem::replace(self, Self::Empty) {
            Self::Empty => Self::One(data),
            Self::One(first) => {
                let mut all = Vec::new();
                append(&mut all, &first, most);
                append(&mut all, &data, most);
                Self::Many(all)
            }
            Self::Many(mut all) => {
                append(&mut all, &data, most);
                Self::Many(all)
            }
        };
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Empty => Bytes::new(),
            Self::One(bytes) => bytes,
            Self::Many(bytes) => bytes.into(),
        }
    }
}

/// Doubles the room when it is used up, so that copying stays linear, but not beyond `most`.
fn append(all: &mut Vec<u8>, data: &[u8], most: usize) {
    let with = all.len() + data.len();
    if with > all.capacity() {
        let room = (2 * with).min(most).max(with);
        all.reserve_exact(room - all.len());
    }
    all.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_grows_with_what_arrived() {
        let most = 64 << 20;
        let mut buffer = Buffer::Empty;
        for _ in 0..100 {
            buffer.push(Bytes::from_static(&[7; 1_000]), most);
            if let Buffer::Many(bytes) = &buffer {
                assert!(bytes.capacity() <= 2 * bytes.len());
            }
        }
        assert_eq!(buffer.into_bytes(), vec![7; 100_000]);
        let mut exact = Buffer::Empty;
        for _ in 0..10 {
            exact.push(Bytes::from_static(b"ab"), 20);
        }
        let Buffer::Many(bytes) = exact else {
            panic!("one frame");
        };
        assert_eq!(bytes.capacity(), 20);
    }
}
