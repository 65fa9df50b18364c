//! Ends a connection whose client may or may not send the body it announced.
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

/// A service whose refusals of expecting requests close the connection.
#[derive(Clone)]
pub(super) struct Closing<S>(pub(super) S);

impl<S, B> Service<Request<Incoming>> for Closing<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let expects = request.version() < Version::HTTP_2 && request.headers().contains_key(EXPECT);
        let answer = self.0.call(request);
        Box::pin(async move {
            let mut answer = answer.await?;
            if expects && !answer.status().is_success() {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
            }
            Ok(answer)
        })
    }
}
