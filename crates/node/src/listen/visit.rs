//! One connection's requests: where they come from, whether there is a place for them, and when their
//! answer is the last one.
//!
//! A request with `Expect: 100-continue` (RFC 9110, 10.1.1) that is refused before its body is read
//! leaves open what comes next on the connection: the body, or another request. Taking the one for
//! the other would answer a request that nobody sent, so such a connection ends with the refusal.

use super::places::{Entry, Places, Seat, Standing};
use super::reception::Reception;
use super::turns::Turns;
use bytes::Bytes;
use floeberg_http::Peer;
use http::header::{CONNECTION, CONTENT_TYPE, EXPECT, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::Service;
use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a request waits for a place before it is told to come again.
const PLACE_PATIENCE: Duration = Duration::from_secs(30);

/// What a port says of itself when it has no place, in its protocol's form.
#[derive(Clone, Copy)]
pub(crate) struct Manners {
    /// Paths that are answered without a place: health, readiness, metrics.
    pub(crate) probes: &'static [&'static str],
    /// The type of the refusal's body.
    pub(crate) content_type: &'static str,
    /// The refusal's body.
    pub(crate) full: &'static str,
}

/// Whether a connection has a place.
pub(super) enum Standpoint {
    Seated { _seat: Seat },
    Standing { _standing: Standing },
}

impl Standpoint {
    pub(super) fn of(entry: Entry) -> Option<Self> {
        match entry {
            Entry::Seat(seat) => Some(Self::Seated { _seat: seat }),
            Entry::Anteroom(standing) => Some(Self::Standing {
                _standing: standing,
            }),
            Entry::Nowhere => None,
        }
    }

    pub(super) const fn is_standing(&self) -> bool {
        matches!(self, Self::Standing { .. })
    }
}

/// A connection and the service that answers on it.
#[derive(Clone)]
pub(super) struct Visit<S> {
    pub(super) service: S,
    pub(super) reception: Reception,
    pub(super) peer: Peer,
    pub(super) places: Places,
    pub(super) standpoint: Arc<Mutex<Standpoint>>,
    pub(super) manners: Manners,
    pub(super) leaving: CancellationToken,
    pub(super) stop: CancellationToken,
}

impl<S> Visit<S> {
    /// Whether the request may be answered: at once if the connection has a place or asks for little,
    /// else as soon as there is one.
    async fn admitted(&self, path: &str) -> bool {
        if !self.standpoint.lock().is_standing() || self.manners.probes.contains(&path) {
            return true;
        }
        let sit = self.places.sit(self.peer.network, PLACE_PATIENCE);
        let Some(Some(seat)) = self.stop.run_until_cancelled(sit).await else {
            return false;
        };
        // The place in the anteroom is given back after the lock is.
        let before = std::mem::replace(
            &mut *self.standpoint.lock(),
            Standpoint::Seated { _seat: seat },
        );
        drop(before);
        true
    }

    fn full<B: From<Bytes>>(&self) -> Response<B> {
        let body = Bytes::from_static(self.manners.full.as_bytes());
        let mut answer = Response::new(B::from(body));
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        let headers = answer.headers_mut();
        let kind = HeaderValue::from_static(self.manners.content_type);
        headers.insert(CONTENT_TYPE, kind);
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        answer
    }
}

impl<S, B> Service<Request<Incoming>> for Visit<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: From<Bytes> + Send + 'static,
{
    type Response = Response<Turns<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        // HTTP/2 knows no such header: its connections are told to go when the port closes.
        let closable = request.version() < Version::HTTP_2;
        let expects = request.headers().contains_key(EXPECT);
        request.extensions_mut().insert(self.peer);
        let visit = self.clone();
        Box::pin(async move {
            let stood = visit.standpoint.lock().is_standing();
            let path = request.uri().path();
            let is_probe = visit.manners.probes.contains(&path);
            let mut answer = match (visit.admitted(path).await, is_probe) {
                (true, true) => visit.service.call(request).await?,
                (true, false) => {
                    let answer = visit.service.call(request);
                    visit.reception.answer(answer).await?
                }
                (false, _) => visit.full(),
            };
            let unclear = expects && !answer.status().is_success();
            // Whoever waited for a place keeps none in a pool.
            if closable && (unclear || stood || visit.leaving.is_cancelled()) {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
            }
            Ok(answer.map(|body| Turns::new(body, visit.reception)))
        })
    }
}
