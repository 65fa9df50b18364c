//! Ends connections with an answer: those of a node that is about to stop, and one whose client may
//! or may not send the body it announced.
//!
//! A request with `Expect: 100-continue` (RFC 9110, 10.1.1) that is refused before its body is read
//! leaves open what comes next on the connection: the body, or another request. Taking the one for
//! the other would answer a request that nobody sent, so such a connection ends with the refusal.

use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::Service;
use std::future::Future;
use std::pin::Pin;
use tokio_util::sync::CancellationToken;

/// A service whose refusals of expecting requests close the connection, as do all its answers once
/// the node leaves.
#[derive(Clone)]
pub(super) struct Closing<S> {
    pub(super) service: S,
    pub(super) leaving: CancellationToken,
}

impl<S, B> Service<Request<Incoming>> for Closing<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // HTTP/2 knows no such header: its connections are told to go when the port closes.
        let closable = request.version() < Version::HTTP_2;
        let expects = request.headers().contains_key(EXPECT);
        let leaving = self.leaving.clone();
        let answer = self.service.call(request);
        Box::pin(async move {
            let mut answer = answer.await?;
            let unclear = expects && !answer.status().is_success();
            if closable && (unclear || leaving.is_cancelled()) {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
            }
            Ok(answer)
        })
    }
}
