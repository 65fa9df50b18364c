//! What surrounds s3s: request ids, metrics, the access log, stalled bodies, and refusals that
//! deserve a better message.

use crate::access::{Gate, KeyringAuth};
use crate::head;
use crate::hosts::Domains;
use crate::operations::DOCUMENT_MAX;
use crate::seen::Seen;
use crate::state::{Api, S3State};
use crate::xml_tags::{Counting, TagCount};
use bytes::Bytes;
use floeberg_http::{Access, BodyEnd, BodyWatch, Moving, Pace, peer_of, request_span};
use floeberg_telemetry::HttpLabels;
use floeberg_types::RequestId;
use floeberg_types::limits::ANSWER_UNCOUNTED_BYTES;
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, Method, Request, Response, Version, header};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError};
use std::sync::Arc;
use std::task::{Context, Poll};
use tracing::Instrument as _;

/// Signed chunks are buffered whole, so this bounds the memory of a stream. Clients send 64 KiB
/// (C++) to 128 KiB (Java).
const AWS_CHUNK_MAX: usize = floeberg_types::limits::SIGNED_CHUNK_BYTES;
/// The slowest body in bytes per second, once it has taken long. It is stored as it comes and holds a
/// place only; ten parts of an upload at a time over a slow line share what the line has.
const BODY_RATE_MIN: u64 = 1 << 10;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// The S3 port: clone it for every connection.
#[derive(Clone)]
pub struct S3Api {
    inner: S3Service,
    state: Arc<S3State>,
}

/// Builds the S3 port. Nothing of it runs until it is called.
#[must_use]
pub fn service(state: S3State) -> S3Api {
    let state = Arc::new(state);
    let mut config = S3Config::default();
    config.aws_chunked_stream_max_chunk_size = AWS_CHUNK_MAX;
    config.xml_max_body_size = DOCUMENT_MAX;
    // Checked where bodies are stored, by who can say how much is too much.
    config.put_object_max_size = None;
    config.allow_post_signature = false;
    config.sig_v4_allowed_services = vec!["s3".to_owned()];
    if state.settings.enforce_region {
        config.expected_region = state.settings.region.as_str().parse().ok();
    }
    let mut builder = S3ServiceBuilder::new(Api {
        state: state.clone(),
    });
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    // Without these two every request would be anonymous and allowed.
    builder.set_auth(KeyringAuth {
        keyring: state.keyring.clone(),
    });
    builder.set_access(Gate {
        keyring: state.keyring.clone(),
        env: state.env.clone(),
        bodies: state.door.bodies.clone(),
    });
    if !state.settings.domains.is_empty() {
        builder.set_host(Domains::new(&state.settings.domains));
    }
    S3Api {
        inner: builder.build(),
        state,
    }
}

impl S3Api {
    /// Takes one request from its id to its log line.
    async fn serve(self, request: Request<Body>) -> Result<Response<Body>, HttpError> {
        let env = &self.state.env;
        let started = env.clock.monotonic();
        let id = RequestId::from_bytes(env.rng.id128());
        let id_text = id.to_hex();
        let seen = Seen::default();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let answer = self.answer(request, id, &seen);
        let mut response = answer.instrument(request_span(&id_text)).await?;
        stamp(&mut response, &id_text);
        let code = error_code(&response);
        let principal = seen.who();
        if method == Method::HEAD && is_failure(&response) {
            // RFC 9110, section 9.3.2: an answer to HEAD has no content, also when it is an error.
            *response.body_mut() = Body::empty();
        }
        let took = env.clock.monotonic().saturating_sub(started);
        let labels = HttpLabels {
            api: "s3",
            operation: seen.operation_name(),
            status: response.status().as_u16(),
        };
        self.state.metrics.record(labels, took.as_secs_f64());
        let access = Access {
            request_id: &id_text,
            api: "s3",
            operation: seen.operation_name(),
            method: &method,
            path: uri.path(),
            status: response.status(),
            code: code.as_deref(),
            principal: principal.as_deref(),
            took,
        };
        access.log();
        Ok(response)
    }

    /// The answer of s3s. The request's headers reach its signature check as they came, or joined as
    /// the signature joins them.
    async fn answer(
        &self,
        request: Request<Body>,
        id: RequestId,
        seen: &Seen,
    ) -> Result<Response<Body>, HttpError> {
        let closable = request.version() < Version::HTTP_2;
        let is_read = request.method() == Method::GET;
        let peer = peer_of(request.extensions());
        let (mut request, watch, tags) = self.watch(request);
        let mut response = match head::check(&request) {
            Err(refused) => refused.answer(),
            Ok(()) => {
                head::join_lines(request.headers_mut());
                let extensions = request.extensions_mut();
                extensions.insert(id);
                extensions.insert(seen.clone());
                extensions.insert(watch.clone());
                extensions.insert(tags.clone());
                self.call(request).await?
            }
        };
        // Only here: what s3s makes of a body that breaks depends on who was reading it.
        if is_failure(&response) {
            response = match watch.end() {
                Some(BodyEnd::Stalled) => head::STALLED.answer(),
                Some(BodyEnd::Broken) => head::BROKEN.answer(),
                Some(BodyEnd::Complete) | None => response,
            };
        }
        if tags.exceeded() {
            response = head::CROWDED.answer();
        }
        if error_code(&response).as_deref() == Some("KeyTooLongError") {
            response = head::KEY_TOO_LONG.answer();
        }
        if is_wrong_secret(&response) {
            self.state.door.guesses.slow(peer).await;
        }
        let response_body = response.body().bytes();
        if let Some(body) = response_body.filter(|body| body.len() > ANSWER_UNCOUNTED_BYTES) {
            match self.state.door.count(peer, body).await {
                Ok(counted) => *response.body_mut() = Body::from(counted),
                // What was changed is answered all the same.
                Err(exhausted) if is_read => response = head::slow_down(exhausted).answer(),
                Err(_) => {}
            }
        }
        if closable && !watch.complete() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        Ok(response)
    }

    /// Listings become documents of hundreds of KiB, entry by entry, where others would wait for them.
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, HttpError> {
        if !is_listing(&request) {
            return self.inner.call(request).await;
        }
        let inner = self.inner.clone();
        let work = move |_| async move { inner.call(request).await }.in_current_span();
        let behind = self.state.env.tasks.behind();
        match behind.attended("s3.listing", work).await {
            Ok(answer) => answer,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(ended) => Err(HttpError::from_std_error(Box::new(ended))),
            },
        }
    }

    /// Has the body cut off if it stalls, or if it is a document that repeats too much.
    fn watch(&self, request: Request<Body>) -> (Request<Body>, BodyWatch, TagCount) {
        let (parts, body) = request.into_parts();
        if http_body::Body::is_end_stream(&body) {
            let (watch, tags) = (BodyWatch::of_nothing(), TagCount::default());
            return (Request::from_parts(parts, body), watch, tags);
        }
        let pace = Pace::new(self.state.settings.body_stall, BODY_RATE_MIN);
        let body = Moving::new(body, pace);
        let watch = body.watch();
        let body = Counting::new(body);
        let tags = body.count();
        let body = Body::http_body_unsync(body);
        (Request::from_parts(parts, body), watch, tags)
    }
}

/// GET of a bucket; with a host name for each bucket also of keys without a slash, which do no harm there.
fn is_listing(request: &Request<Body>) -> bool {
    let path = request.uri().path().trim_matches('/');
    request.method() == Method::GET && !path.contains('/')
}

fn is_wrong_secret(response: &Response<Body>) -> bool {
    let code = error_code(response);
    code.is_some_and(|code| matches!(&*code, "SignatureDoesNotMatch" | "InvalidAccessKeyId"))
}

fn is_failure(response: &Response<Body>) -> bool {
    response.status().is_client_error() || response.status().is_server_error()
}

/// Puts the request id into the headers, and into the body of an error.
fn stamp(response: &mut Response<Body>, id: &str) {
    const END: &[u8] = b"</Error>";
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    if !is_failure(response) || response.headers().contains_key(header::CONTENT_LENGTH) {
        return;
    }
    let Some(body) = response.body().bytes() else {
        return;
    };
    if let Some(text) = body.strip_suffix(END) {
        let element = format!("<RequestId>{id}</RequestId>");
        let stamped: Vec<u8> = [text, element.as_bytes(), END].concat();
        *response.body_mut() = Body::from(Bytes::from(stamped));
    }
}

/// What the body of an error calls itself.
fn error_code(response: &Response<Body>) -> Option<String> {
    if !is_failure(response) {
        return None;
    }
    let body = response.body().bytes()?;
    let text = std::str::from_utf8(&body).ok()?;
    let (_, rest) = text.split_once("<Code>")?;
    Some(rest.split_once("</Code>")?.0.to_owned())
}

impl<B> tower::Service<Request<B>> for S3Api
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Response = Response<Body>;
    type Error = HttpError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Box::pin(self.clone().serve(request.map(Body::http_body_unsync)))
    }
}

impl hyper::service::Service<Request<hyper::body::Incoming>> for S3Api {
    type Response = Response<Body>;
    type Error = HttpError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Self::Future {
        Box::pin(self.clone().serve(request.map(Body::from)))
    }
}
